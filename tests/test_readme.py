"""README shows exactly what was published, and what was published can be traced."""

import importlib.util
import json
import re
import shutil

import nbformat
import pytest

from finelib.runs.options import ROOT

spec = importlib.util.spec_from_file_location("publish", ROOT / ".ci" / "publish.py")
publish = importlib.util.module_from_spec(spec)
spec.loader.exec_module(publish)
README = (ROOT / "README.md").read_text()
TABLES = [path for path in sorted(publish.PUBLISHED.glob("*.json")) if path.with_suffix(".tex").is_file()]


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


def test_badges_and_the_address_in_the_notebooks(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "figures" / "published").mkdir(parents=True)
    publish.set_repository("someone/fine", tmp_path)
    publish.set_repository("someone-else/fine.companion", tmp_path)  # and it can be changed again
    badges = (tmp_path / "figures" / "published" / "badges.md").read_text()
    for path in sorted((tmp_path / "notebooks").glob("*.ipynb")):
        first = next(c for c in nbformat.read(path, 4).cells if c.cell_type == "code")
        assert 'environ.get("FINE_REPOSITORY", "https://github.com/someone-else/fine.companion")' in first.source
        assert f"github/someone-else/fine.companion/blob/main/notebooks/{path.name}" in badges
        assert f"gh/someone-else/fine.companion/main?urlpath=lab/tree/notebooks/{path.name}" in badges
    with pytest.raises(ValueError, match="expected OWNER/NAME"):
        publish.set_repository("https://github.com/someone/fine", tmp_path)


def test_files_that_readme_names_exist():
    for target in re.findall(r"\]\(((?!http|#)[^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_tests_that_the_readme_of_the_tests_names_exist():
    text = (ROOT / "tests" / "README.md").read_text()
    named = re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)(?:::(\w+))?`", text.partition("## How the tests")[0])
    assert len(named) > 25
    for path, test in named:
        assert not test or f"def {test}" in (ROOT / "tests" / path).read_text(), f"{path}::{test}"
        assert (ROOT / "tests" / path).is_file(), path
