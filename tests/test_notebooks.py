"""Notebooks as they are stored: parameters, prose first, no outputs, short cells."""

import nbformat
import pytest

from finelib.presets import ROOT

PARAMETERS = ["preset", "source", "seeds", "out", "jobs", "text_encoder", "finetune_text"]
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


def test_valid(notebook):
    assert nbformat.validate(notebook) is None
