"""The executed notebooks on the web: the cells of their sources, numbers and pictures, no sentence of a real corpus."""

import base64
import io
import json
import re

import executed_copies
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from executed_copies import PLACE, TOTAL, copy, publish, source_of
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from finelib import __main__ as main
from finelib.runs.options import ROOT, Options

COPIES = sorted((ROOT / PLACE).glob("*.ipynb"))


# ------------------------------------------------------------------------------------- what is published


def test_every_notebook_has_its_copy():
    results = {name for name, result in main.results(Options()).items() if result.notebook}
    assert {path.stem for path in COPIES} == results


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.stem)
def test_a_copy_has_the_cells_of_its_notebook(path):
    """Whoever changes a notebook publishes it again."""
    made, source = nbformat.read(path, 4), nbformat.read(source_of(path), 4)
    nbformat.validate(made)
    cells = [cell for cell in made.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    expected = [
        (c.cell_type, executed_copies.relinked(c.source) if c.cell_type != "code" else c.source) for c in source.cells
    ]
    assert [(cell.cell_type, cell.source) for cell in cells] == expected
    assert any(cell.outputs for cell in cells if cell.cell_type == "code")
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")


def test_copies_are_small_and_have_no_sentence_and_no_path():
    texts = {path.stem: path.read_text(encoding="utf-8") for path in COPIES}
    assert sum(len(text.encode()) for text in texts.values()) <= TOTAL
    known = executed_copies.real_sentences()
    assert not [name for name, text in texts.items() if executed_copies.sentences_in(text, known)]
    assert not [name for name, text in texts.items() if "papermill" in json.loads(text)["metadata"]]
    folders = re.compile(r"(?<![\w.:/~-])/(?:home|root|work|tmp|mnt|opt|srv|var|Users)/")
    shown = {name: re.sub(r'"image/png": "[^"]*"', "", text) for name, text in texts.items()}
    assert {name: folders.findall(text) for name, text in shown.items() if folders.search(text)} == {}


def test_folders_that_variables_name_are_shown_as_the_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("FINE_DATA_MIRROR", f"{tmp_path}/mirror/")
    monkeypatch.setenv("FINE_CACHE", "cache")  # not absolute: it may be any word
    said = f"{tmp_path}/mirror/mosi/x.h5: found no cache file below FINE_DATA_MIRROR={tmp_path}/mirror"
    expected = "$FINE_DATA_MIRROR/mosi/x.h5: found no cache file below FINE_DATA_MIRROR=$FINE_DATA_MIRROR"
    assert executed_copies.without_folders(said) == expected


# ------------------------------------------------------------------------------------ how a copy is made


def picture() -> str:
    figure, axis = plt.subplots()
    axis.imshow([[0, 1], [2, 3]])
    out = io.BytesIO()
    figure.savefig(out, format="png")
    plt.close(figure)
    return base64.b64encode(out.getvalue()).decode()


WIDGET = {executed_copies.WIDGET: {"model_id": "1"}, "text/plain": "VBox()"}
SHOWN = {
    "number": new_output("execute_result", data={"text/plain": "0.75"}, execution_count=3),
    "picture": new_output("display_data", data={"image/png": picture(), "text/plain": "<Figure size 640x480>"}),
    "page": new_output("display_data", data={"text/html": "<p>" * 100_000, "text/plain": "a page"}),
    "widget": new_output("display_data", data=WIDGET),
    "printed": new_output("stream", name="stdout", text="three runs\n"),
    "progress": new_output("stream", name="stderr", text="100%|####| /home/someone\n"),
}


def notebook(**more):
    """A notebook with one cell for each kind of output, and the same executed with options."""
    source = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    source.metadata["language_info"] = {"name": "python"}
    source.cells = [new_markdown_cell("# Title\n\nSee [the code](../finelib/fine.py), [PyTorch](https://pytorch.org).")]
    source.cells += [new_code_cell("# Parameters\npreset = 'demo'\nout = None", metadata={"tags": ["parameters"]})]
    source.cells += [new_code_cell(f"show({name!r})") for name in SHOWN]
    executed = nbformat.from_dict(source)
    executed.cells.insert(2, new_code_cell("# Parameters\nout = '/a/b'", metadata={"tags": ["injected-parameters"]}))
    for cell, output in zip(executed.cells[3:], SHOWN.values(), strict=True):
        cell.outputs = [output]
    executed.metadata["papermill"] = {"parameters": {"preset": "demo", "out": "/a/b", "jobs": 3}, "exception": None}
    executed.metadata["papermill"].update(more)
    executed.metadata["widgets"] = {"state": "x" * 1000}
    return executed, source


def shown(made) -> dict[str, list]:
    return dict(zip(SHOWN, [cell.outputs for cell in made.cells[2:]], strict=True))


def test_numbers_and_pictures_stay_and_what_is_interactive_or_large_goes():
    made = shown(copy(*notebook(), "00_start_here"))
    assert made["number"][0].data == {"text/plain": "0.75"} and made["printed"][0].text == "three runs\n"
    assert set(made["picture"][0].data) == {"image/png"}
    for name in ("page", "widget"):
        assert made[name][0].text == executed_copies.INTERACTIVE + "\n"
    assert made["progress"] == []


def test_a_picture_looks_the_same_and_is_smaller():
    before, after = picture(), executed_copies.smaller(picture())
    old, new = (Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB") for each in (before, after))
    assert len(after) < len(before) and old.size == new.size
    assert np.abs(np.asarray(old, int) - np.asarray(new, int)).max() <= 16


def test_the_cells_stay_and_links_lead_to_the_same_files():
    executed, source = notebook()
    made = copy(executed, source, "00_start_here")
    assert [cell.source for cell in made.cells[1:]] == [cell.source for cell in source.cells[1:]]
    assert "(../../../finelib/fine.py)" in made.cells[0].source and "(https://pytorch.org)" in made.cells[0].source
    text = nbformat.writes(made)
    assert "/a/b" not in text and "papermill" not in text and "widgets" not in made.metadata


def test_a_notebook_of_one_corpus_says_which():
    executed, source = notebook()
    executed.metadata.papermill["parameters"]["corpus"] = "mosei"
    assert copy(executed, source, "03_corpus_mosei").cells[2].source == "corpus = 'mosei'"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"exception": True}, "found a cell that failed"),
        ({"parameters": {"preset": "smoke"}}, "found another value of preset"),
    ],
)
def test_other_options_and_failures_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        copy(*notebook(**change), "00_start_here")


def test_cells_of_an_earlier_notebook_are_refused():
    executed, source = notebook()
    source.cells[3].source += "  # a later word"
    with pytest.raises(ValueError, match="found other cells than its notebook has"):
        copy(executed, source, "00_start_here")


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The output folder of a run with one executed notebook, and the folder of its copy, which has an older one."""
    executed, source = notebook()
    (tmp_path / "out/runs/notebooks").mkdir(parents=True)
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "old.ipynb").touch()
    nbformat.write(executed, tmp_path / "out/runs/notebooks/small.ipynb")
    nbformat.write(source, tmp_path / "small.ipynb")
    monkeypatch.setattr(executed_copies, "source_of", lambda path: tmp_path / path.name)
    monkeypatch.setattr(executed_copies, "real_sentences", lambda: {"nobody would have said this in public"})
    return tmp_path / "out", tmp_path / "copies"


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_copies_are_replaced_together(finished):
    publish(*finished)
    assert names(finished[1]) == ["small.ipynb"]


@pytest.mark.parametrize(
    "text", ["Nobody would have said this, in public!", "<td>nobody would <b>have</b> said\nthis in public</td>"]
)
def test_a_sentence_of_a_real_corpus_stops_everything(finished, monkeypatch, text):
    monkeypatch.setitem(SHOWN, "printed", new_output("execute_result", data={"text/html": text}, execution_count=1))
    nbformat.write(notebook()[0], finished[0] / "runs/notebooks/small.ipynb")
    nbformat.write(notebook()[1], finished[0].parent / "small.ipynb")
    with pytest.raises(ValueError, match="small.ipynb: found 1 sentences of CMU-MOSI"):
        publish(*finished)
    assert names(finished[1]) == ["old.ipynb"]


def test_too_much_stops_everything(finished, monkeypatch):
    monkeypatch.setattr(executed_copies, "TOTAL", 1000)
    with pytest.raises(ValueError, match="notebooks: found 0.0 MB, expected at most"):
        publish(*finished)
    assert names(finished[1]) == ["old.ipynb"]


def test_nothing_executed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found no executed notebooks"):
        publish(tmp_path, tmp_path / "copies")
