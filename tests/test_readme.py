"""README shows exactly what was published, and what was published can be traced."""

import json
import re

import pytest

from finelib import publish
from finelib.presets import ROOT

README = (ROOT / "README.md").read_text()
TABLES = sorted(publish.PUBLISHED.glob("*.json"))


def test_tables_in_readme_are_the_published_ones():
    assert len(re.findall(r"<!-- table\w+ -->", README)) >= 4
    assert publish.with_tables(README) == README


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_published_cells_are_shown_and_traced(path):
    content = json.loads(path.read_text())
    shown = path.with_suffix(".md").read_text()
    assert content["provenance"]["git_revision"] and content["provenance"]["versions"]["torch"]
    for row in content["rows"]:
        if row["kind"] == "system" and row["measured"]:
            assert row["runs"]
            cell = row["measured"].get("acc2_nonzero") or row["measured"]["acc2"]
            assert cell["n"] == len(row["runs"]) and f"{100 * cell['mean']:.2f}" in shown


def test_files_that_readme_names_exist():
    for target in re.findall(r"\]\(((?!http|#)[^)]+)\)", README):
        assert (ROOT / target).exists(), target
