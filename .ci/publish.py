"""Put finished results where a reader on the web sees them: figures/published, README's findings, RESULTS.md.

    python .ci/publish.py OUT [NAME ...] [NAME=PUBLISHED_NAME ...]
    python .ci/publish.py --repository=OWNER/NAME

OUT is the --out of a finished ``run_all.sh``; names default to all that is found in OUT/figures, "notebooks", the
executed notebooks (``executed_copies.py``), and "weights", of one small model (``weights.py``). Tables that were made
by --source public lie beside the demo's under names of their own: table2=public_table2. The published claims are judged
again by all that is published, of several runs. The second form gives docs/hosted.md a Colab and a Binder badge for
each notebook, the notebooks the address that they install from on Colab, and CITATION.cff the address and today's date.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import executed_copies
import weights

from finelib.paper import claims
from finelib.runs.options import Options
from finelib.views import pages

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "figures" / "published"
MADE = {"notebooks": executed_copies.publish, "weights": weights.publish}  # of a run, beside its figures
LARGEST = 1_000_000  # bytes; interactive figures carry their own plotly.js and are made by run_all.sh


def publish(figures: Path, names: list[str]) -> None:
    """Copy every form of the named tables and figures, NAME=OTHER under another name, then refresh the pages."""
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    for name, _, published_name in (entry.partition("=") for entry in names):
        for file in sorted(figures.glob(f"{name}.*")):
            if name == "claims":  # judged below, by more than this run
                continue
            if file.stat().st_size > LARGEST:
                print(f"{file.name}: left out, {file.stat().st_size / 1e6:.1f} MB")
                continue
            shutil.copy(file, PUBLISHED / f"{published_name or name}{file.suffix}")
    if names:
        judge_again(PUBLISHED, figures.parent / "runs")
    pages.write(ROOT)


def judge_again(published: Path, runs: Path) -> None:
    """Judge the published claims by what lies beside them and by the records of these runs.

    What only the records of other runs tell keeps its verdict.
    """
    with tempfile.TemporaryDirectory() as out:
        options = Options(out=Path(out))
        options.figures.mkdir()
        (options.out / "runs").symlink_to(runs.resolve())
        for file in published.glob("*.json"):
            shutil.copy(file, options.figures)
        claims.write_claims(options)
        for file in options.figures.glob("claims.*"):
            shutil.copy(file, published)


def set_repository(repository: str, root: Path = ROOT) -> None:
    """Write badges for a GitHub repository OWNER/NAME; its address into CITATION.cff and each notebook's first cell.

    Raises:
        ValueError: not of the form OWNER/NAME.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"repository {repository!r}: expected OWNER/NAME")
    lines = ["| notebook | Colab | Binder |", "|---|---|---|"]
    address = rf"\g<1>https://github.com/{repository}"
    sources, copies = (sorted(folder.glob("*.ipynb")) for folder in (root / "notebooks", root / executed_copies.PLACE))
    for path in sources + copies:
        text, changed = re.subn(r'(FINE_REPOSITORY\\", \\")[^\\]*', address, path.read_text())
        if changed != 1:
            raise ValueError(f"{path.name}: found {changed} places for the repository's address, expected 1")
        path.write_text(text)
    for path in sources:
        place = f"notebooks/{path.name}"
        colab = f"https://colab.research.google.com/github/{repository}/blob/main/{place}"
        binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{place}"
        lines.append(
            f"| `{path.stem}` | [![Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
            f"| [![Binder](https://mybinder.org/badge_logo.svg)]({binder}) |"
        )
    (root / "figures" / "published" / "badges.md").write_text("\n".join(lines) + "\n")
    citation, today = root / "CITATION.cff", f"{datetime.now(UTC):%Y-%m-%d}"
    citation.write_text(cite(citation.read_text(), f"https://github.com/{repository}", today))


def cite(citation: str, address: str, date: str) -> str:
    """CITATION.cff with the address and the date (YYYY-MM-DD) of what is published."""
    fields = {"repository-code": address, "url": address, "date-released": date}
    kept = [line for line in citation.splitlines() if line.partition(":")[0] not in fields]
    at = kept.index("preferred-citation:")
    return "\n".join([*kept[:at], *(f'{name}: "{value}"' for name, value in fields.items()), *kept[at:]]) + "\n"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1].startswith("--repository="):
        set_repository(sys.argv[1].partition("=")[2])
        publish(ROOT, [])
        sys.exit()
    source = Path(sys.argv[1]) / "figures"
    names = sys.argv[2:] or [*MADE, *sorted({file.stem for file in source.iterdir() if file.is_file()})]
    for name, make in MADE.items():
        if name in names:
            make(Path(sys.argv[1]))
    publish(source, [name for name in names if name not in MADE])
