"""Which public sources each corpus has, and how one is loaded."""

from importlib import import_module
from pathlib import Path

from finelib.data import licences, outliers, raw_text, sentence_encoders, store
from finelib.data.card import describe
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicSource, obtain
from finelib.data.encoders import MINILM
from finelib.data.features import Corpus

_SIMS = ("public", "public-chinese", *(f"public-by-video-{fold}" for fold in range(1, 6)))
# corpus -> source -> its module, imported when used: pandas and h5py take longer to load than a converted corpus
_MODULES = {
    "mosi": {"public": "public", "public-mfn": "public_mfn"},
    "mosei": dict.fromkeys(("public", "public-full"), "public_mosei"),
    "ur_funny": {"public": "public_ur_funny"},
    "ch_sims": dict.fromkeys(_SIMS, "public_sims"),
    "ch_sims_v2": dict.fromkeys((*_SIMS, "public-predictions"), "public_sims"),
    "ict_mmmo": dict.fromkeys(("public", "public-text"), "public_mmmo"),
}
EVERY = {name for known in _MODULES.values() for name in known}


def names(info: CorpusInfo) -> tuple[str, ...]:
    """The public sources of a corpus."""
    return tuple(_MODULES[info.name])


def module(info: CorpusInfo, source: str) -> str:
    """The module that reads a source."""
    return f"finelib.data.{_MODULES[info.name][source]}"


def find(info: CorpusInfo, source: str) -> PublicSource:
    """The files and the reader of a source."""
    return import_module(module(info, source)).SOURCES[info.name][source]


def default_encoder(info: CorpusInfo, source: str) -> str:
    """The text encoder that is run where none is named; "files" where the source has features of its text or none.

    For CH-SIMS it is the best by dev that can be had without a hub, where its package is installed (extra "chinese").
    """
    if find(info, source).encoder:
        return "files"
    if source == "public-chinese":
        return info.bert
    return sentence_encoders.E5 if info.metrics == "sims" and sentence_encoders.installed() else MINILM


def paths(info: CorpusInfo, source: str, cache: Path | None = None) -> dict[str, Path]:
    """All files of a source, name -> path, downloaded if necessary (``download.obtain``).

    Raises:
        DataError: one cannot be had, or has another checksum than the pinned one.
        OSError: the cache cannot be written.
    """
    files = find(info, source).files
    found = {name: obtain(file, cache) for name, file in files.items()}
    licences.tell(files.values(), cache)
    return found


def load(info: CorpusInfo, source: str, context: bool = False, cache: Path | None = None) -> Corpus:
    """The corpus as a source has it, its text not encoded.

    Raises:
        As ``paths``, and DataError where a file is not what it should be.
    """
    public, path = find(info, source), paths(info, source, cache)
    sha256 = {name: store.file_sha256(file, cache) for name, file in path.items()}
    splits, notes = public.read(path, info, context=True) if context else public.read(path, info)
    splits = raw_text.mend(splits, notes)
    outliers.clip(splits, notes)
    files = []
    for name, file in public.files.items():
        of = licences.repository(file)
        told = {"repository": of, "licence": licences.LICENCES[of]}
        files.append({"name": name, "sha256": sha256[name], "compared": "pinned", **told})
    options = {"context": True} if context else {}
    card = {**describe(info, splits, files, notes), "text": public.text}
    return Corpus(info, "public", splits, store.key(f"{info.name} {source}", sha256, **options), public.encoder, card)
