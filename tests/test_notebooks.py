"""Notebooks as they are stored: parameters, prose first, no outputs, short cells."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from finelib.runs.options import ROOT, Options

PARAMETERS = ["preset", "source", "seeds", "out", "jobs", "text_encoder", "finetune_text", "tune"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_parameters_are_the_same_everywhere(notebook):
    (cell,) = [c for c in code(notebook) if "parameters" in c.metadata.get("tags", [])]
    assert [line.split(" = ")[0] for line in cell.source.splitlines()] == PARAMETERS


def test_stored_without_outputs(notebook):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))


def test_prose_first_and_short_cells(notebook):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert all(len(cell.source.splitlines()) <= 25 for cell in code(notebook))
    assert sum(cell.cell_type == "markdown" for cell in notebook.cells) >= 3


def test_first_screen_says_what_it_needs_and_how_long_it_takes(notebook):
    assert re.search(r"\*\*Needs\*\* .*\*\*Takes\*\* ", notebook.cells[0].source)


@pytest.mark.parametrize("place", ["notebooks", "."])
def test_setup_cell_finds_the_library_from_anywhere(notebook, place, monkeypatch):
    monkeypatch.chdir(ROOT / place)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", "..", str(ROOT))])
    exec(code(notebook)[0].source, {})
    assert Path.cwd() == ROOT / "notebooks" and sys.path[0] == str(ROOT)


def test_setup_cell_fetches_what_is_missing(notebook, monkeypatch, tmp_path):
    """Alone in an empty folder, as on Colab: without an address one sentence, with it clone and install."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    calls = []

    def system(command):
        calls.append(command)
        (tmp_path / "fine" / "notebooks").mkdir(parents=True)

    names = {"get_ipython": lambda: SimpleNamespace(system=system)}
    monkeypatch.delenv("FINE_REPOSITORY", raising=False)
    with pytest.raises(AssertionError, match="set REPOSITORY"):
        exec(code(notebook)[0].source, names.copy())
    monkeypatch.setenv("FINE_REPOSITORY", "https://example.org/fine")
    exec(code(notebook)[0].source, names.copy())
    (command,) = calls
    assert "git clone --depth 1 https://example.org/fine fine" in command and "pip install" in command
    assert Path.cwd() == tmp_path / "fine" / "notebooks"


@pytest.mark.parametrize("cwd", [ROOT, ROOT / "notebooks"])
def test_runs_alone_with_papermill(cwd, tmp_path):
    """One notebook through papermill's own command, from the root and from its folder, parameters given by hand."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / "notebooks" / "01_method_walkthrough.ipynb"),
        str(tmp_path / "out.ipynb"),
        "-p",
        "preset",
        "smoke",
        "-p",
        "out",
        str(tmp_path),
        "-k",
        "python3",
        "--no-progress-bar",
    ]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "figures" / "figure2.png").stat().st_size > 10_000


def test_tables_with_texts_of_utterances_escape_them(notebook):
    """pandas escapes a plain table; a styled one only when it is told to."""
    for cell in code(notebook):
        assert "worst.style" not in cell.source or 'escape="html"' in cell.source


def test_unknown_parameter_is_refused_before_anything_runs(notebook, tmp_path, monkeypatch):
    """papermill sets it without a word; the cell after the parameters says what was meant."""
    cells = [c.source for c in code(notebook)]
    at = next(i for i, c in enumerate(code(notebook)) if "parameters" in c.metadata.get("tags", []))
    monkeypatch.chdir(ROOT / "notebooks")
    names = {"In": [], "Out": {}, "get_ipython": object()}
    for source in (cells[0], cells[at], 'pressets = "smoke"'):
        exec(source, names)
    with pytest.raises(ValueError, match="notebook parameter 'pressets': unknown, .*did you mean 'preset'"):
        exec(cells[at + 1], names)
    del names["pressets"]
    exec(cells[at + 1], names)
    names["later"] = "a variable of the reader's own"  # the cell may be run again
    exec(cells[at + 1], names)
    assert names["options"].preset == "demo"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"preset": "smok"}, "preset 'smok': unknown, expected one of smoke, demo, paper; did you mean 'smoke'?"),
        ({"seeds": 0}, "seeds: found 0, expected a whole number of at least 1"),
        ({"seeds": "3"}, "seeds: found '3'"),
        ({"jobs": 1.5}, "jobs: found 1.5"),
        ({"tune": True}, "tune: found True"),
        ({"source": ""}, "source: found ''"),
        ({"finetune_text": "no"}, "finetune_text: found 'no', expected True or False"),
        ({"text_encoder": 3}, "found 3"),
    ],
)
def test_values_that_do_not_fit_are_refused(change, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Options(**change)


def test_valid(notebook):
    assert nbformat.validate(notebook) is None
