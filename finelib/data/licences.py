"""What each repository that public files come from says of its licence, and said once."""

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from finelib.data.download import PublicFile
from finelib.data.store import cache_folder

LICENCES = {  # in its own words; data/README.md has the same table
    "jiangbing22/MMCPanda": "states none",
    "declare-lab/multimodal-deep-learning": "MIT License",
    "pliang279/MFN": "MIT License",
    "zeroQiaoba/MERTools": (
        '"released under the Apache 2.0 License. The service is a research preview intended for non-commercial use '
        'ONLY"'
    ),
    "ailiwood/mme_0621": '"for academic research purposes. See individual component licenses for third-party code"',
    "lwaekfjlk/mmodel-soup": "states none",
    "thuiar/MMLA": "states none",
    "akon1te/UrFunny-humor-detection": "Apache License 2.0",
    "spp72kimo/chsims_v2": "states none",
}
_REPOSITORY = re.compile(r"https://raw\.githubusercontent\.com/([^/]+/[^/]+)/")
log = logging.getLogger(__name__)


def repository(file: PublicFile) -> str:
    """OWNER/NAME of the repository that a file comes from."""
    return _REPOSITORY.match(file.url)[1]


def tell(files: Iterable[PublicFile], cache: Path | None = None) -> None:
    """Say what each repository states, the first time that its files are used with this cache."""
    told = (cache or cache_folder()) / "licences"
    for name in sorted({repository(file) for file in files}):
        mark = told / name.replace("/", "+")
        if mark.exists():
            continue
        log.warning("files of https://github.com/%s: licence %s; the recordings belong to others", name, LICENCES[name])
        with suppress(OSError):  # a cache that cannot be written: it is said again
            told.mkdir(parents=True, exist_ok=True)
            mark.touch()
