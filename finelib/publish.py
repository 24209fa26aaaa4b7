"""Put finished results where a reader on the web sees them: figures/published and the tables in README.

    python -m finelib.publish OUT [NAME ...] [NAME=PUBLISHED_NAME ...]

OUT is the --out of a finished ``run_all.sh``; names default to all that is found in OUT/figures.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from finelib.presets import ROOT

PUBLISHED = ROOT / "figures" / "published"
LARGEST = 1_000_000  # bytes; interactive figures carry their own plotly.js and are made by run_all.sh


def publish(figures: Path, names: list[str]) -> None:
    """Copy every form of the named tables and figures, NAME=OTHER under another name, then refresh README."""
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    for name, _, published_name in (entry.partition("=") for entry in names):
        for file in sorted(figures.glob(f"{name}.*")):
            if file.stat().st_size > LARGEST:
                print(f"{file.name}: left out, {file.stat().st_size / 1e6:.1f} MB")
                continue
            shutil.copy(file, PUBLISHED / f"{published_name or name}{file.suffix}")
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text()))


def with_tables(readme: str) -> str:
    """README with each ``<!-- NAME -->`` ... ``<!-- end -->`` block replaced by the published NAME.md."""

    def block(match: re.Match) -> str:
        return f"<!-- {match[1]} -->\n{(PUBLISHED / f'{match[1]}.md').read_text().strip()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", block, readme, flags=re.DOTALL)


if __name__ == "__main__":
    source = Path(sys.argv[1]) / "figures"
    publish(source, sys.argv[2:] or sorted({file.stem for file in source.iterdir() if file.is_file()}))
