"""README and RESULTS.md show exactly what was published, and what was published can be traced."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import nbformat
import publish
import pytest
import yaml
from PIL import Image

from finelib.baselines import SYSTEMS
from finelib.data import doctor
from finelib.runs.options import ROOT
from finelib.views import pages

DOCS = ROOT / "docs"
SYSTEMS_PAGE = (DOCS / "systems.md").read_text()

README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in DOCS.glob("*.md"))]
TABLES = [path for path in sorted(publish.PUBLISHED.glob("*.json")) if path.with_suffix(".tex").is_file()]


@pytest.mark.parametrize("path", sorted(publish.PUBLISHED.glob("*.json")), ids=lambda path: path.name)
def test_published_numbers_are_numbers(path):
    """NaN and infinity are no JSON: other readers than Python's fail on them."""
    found = []
    json.loads(path.read_text(), parse_constant=found.append)
    assert not found


def test_readme_is_short():
    assert README.count("\n") <= 150


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_of_results_is_made_from_what_is_published(name):
    text = (ROOT / name).read_text()
    assert (pages.results(ROOT) if name == "RESULTS.md" else pages.filled(text, ROOT)) == text


def test_every_number_that_readme_writes_itself_is_no_result():
    """Results stand in the blocks that are made. What is left counts things of the repository, or names something."""
    written = pages.BLOCK.sub("", README).partition("```bibtex")[0]
    written = re.sub(r"\]\([^)]*\)|`[^`\n]+`|srcset=\S+|src=\S+", "", written)  # addresses, file names
    known = {"AAAI 2026", "95 %", "15 to 19 minutes", "Python 3.11", "3 GB", "Tables 1-6", "Figure 5", "Tables 1 to 4"}
    known |= {"A new row of Table 6", "max-width: 600px", "scale=0.2", "--only table6", "--only table1"}
    known |= {"or figure5, claims, 11_identifiability"}
    for phrase in sorted(known, key=len, reverse=True):
        assert phrase in written, phrase
        written = written.replace(phrase, "")
    assert re.findall(r"\S*\d\S*", written) == []
    assert "nineteen" in written and len(SYSTEMS) == 19


def test_first_lines_have_five_findings_with_numbers_and_intervals():
    lines = re.search(r"<!-- findings -->\n(.*?)\n<!-- end -->", README, re.DOTALL)[1].split("\n")
    assert [line[:3] for line in lines] == [f"{i}. " for i in range(1, 6)]
    assert all(re.search(r"\d\.\d+ \[[-+]?\d\.\d+, [-+]?\d\.\d+\]", line) for line in lines)
    assert all(re.search(r"\((?:figures/published/)?notebooks/\w+\.ipynb\)", line) for line in lines)


@pytest.mark.parametrize("name", ["banner", "banner_narrow"])
def test_the_picture_is_made_of_the_published_probes(name):
    with Image.open(publish.PUBLISHED / f"{name}.png") as picture:
        probes = (publish.PUBLISHED / "identifiability.json").read_bytes()
        assert picture.text["Source"] == hashlib.sha256(probes).hexdigest()
        assert f"{name}.png" in README


def test_readme_lists_every_notebook():
    listed = re.findall(r"^\| (?:`|\[`)([\w/]+)`", README, re.MULTILINE)
    assert listed == [p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb"))] + ["benchmarks/performance"]


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
    (tmp_path / "figures" / "published" / "notebooks").mkdir(parents=True)
    copy = Path(shutil.copy(ROOT / "notebooks" / "02_data.ipynb", tmp_path / "figures/published/notebooks"))
    shutil.copy(ROOT / "CITATION.cff", tmp_path)
    publish.set_repository("someone/fine", tmp_path)
    publish.set_repository("someone-else/fine.companion", tmp_path)  # and it can be changed again
    badges = (tmp_path / "figures" / "published" / "badges.md").read_text()
    for path in sorted((tmp_path / "notebooks").glob("*.ipynb")):
        first = next(c for c in nbformat.read(path, 4).cells if c.cell_type == "code")
        assert 'environ.get("FINE_REPOSITORY", "https://github.com/someone-else/fine.companion")' in first.source
        assert f"github/someone-else/fine.companion/blob/main/notebooks/{path.name}" in badges
        assert f"gh/someone-else/fine.companion/main?urlpath=lab/tree/notebooks/{path.name}" in badges
    assert copy.read_text() == (tmp_path / "notebooks" / "02_data.ipynb").read_text()  # an executed copy keeps step
    text = (tmp_path / "CITATION.cff").read_text()
    citation = yaml.safe_load(text)
    assert all(text.count(f"\n{field}:") == 1 for field in citation if field != "cff-version")
    assert citation["repository-code"] == citation["url"] == "https://github.com/someone-else/fine.companion"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", citation["date-released"])
    before = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    new = {"repository-code", "url", "date-released"}
    kept = [{name: value for name, value in each.items() if name not in new} for each in (citation, before)]
    assert kept[0] == kept[1]
    with pytest.raises(ValueError, match="expected OWNER/NAME"):
        publish.set_repository("https://github.com/someone/fine", tmp_path)


def headings(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("name", PAGES)
def test_files_and_headings_that_a_page_names_exist(name):
    text, folder = (ROOT / name).read_text(), (ROOT / name).parent
    targets = re.findall(r"\]\(((?!http)[^)\s]+)\)|(?:srcset|src)=\"([^\"]+)\"", text)
    for path, _, anchor in ((link or picture).partition("#") for link, picture in targets):
        target = folder / path if path else ROOT / name
        assert target.exists(), path
        assert not anchor or anchor in headings(target.read_text()), anchor
    for path in re.findall(r"`((?:finelib|tests|notebooks|benchmarks|docs|data|\.ci)/[\w./]+)`", text):
        found = [ROOT / path, *(ROOT / f"{path}{ending}" for ending in (".ipynb", ".py"))]
        assert any(file.exists() for file in found) or "mean_pool" in path, path


def test_speeds_beside_mmsa_are_the_measured_ones():
    measured = json.loads((ROOT / "benchmarks" / "mmsa.json").read_text())
    sides = ("peer_samples", "peer_with_our_allocator", "ours_samples")
    rows = re.findall(r"^\| ([\w-]+),([^|]*)\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", SYSTEMS_PAGE, re.MULTILINE)
    assert len(rows) == 6
    for name, lengths, *shown in rows:
        found = measured[name.lower().replace("-", "_") + ("_mosi" if "uneven" in lengths else "")]
        for side, text in zip(sides, shown, strict=True):
            (value,) = (v for k, v in found.items() if k.startswith(side) and k.endswith("samples_per_s"))
            assert abs(value - float(text)) <= 0.5 * 10 ** -len(text.partition(".")[2])


def test_the_file_that_your_files_shows_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(import pickle.*?)```", (DOCS / "your_files.md").read_text(), re.DOTALL)[1]
    exec(example, {})
    said, doubts = doctor.examine(Path("mine.pkl"), cache=tmp_path)
    text = "\n".join(said)
    assert "your file, read as CMU-MOSI" in text and "train 60, valid 20, test 20" in text and doubts == []


def test_tests_that_the_readme_of_the_tests_names_exist():
    text = (ROOT / "tests" / "README.md").read_text()
    named = re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)(?:::(\w+))?`", text.partition("## How the tests")[0])
    assert len(named) > 25
    for path, test in named:
        assert not test or f"def {test}" in (ROOT / "tests" / path).read_text(), f"{path}::{test}"
        assert (ROOT / "tests" / path).is_file(), path
