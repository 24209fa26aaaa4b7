"""Notebooks as they are stored: set-up and parameters, prose first, no outputs, short cells."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import nbformat
import papermill
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from make_files import write_mmsa

from finelib.runs import experiment
from finelib.runs.options import PARAMETERS, ROOT, Options, assigned, check_parameter, notebook_options

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BENCHMARK = ROOT / "benchmarks" / "performance.ipynb"
OWN = {"03_corpus": ["corpus"]}  # parameters beside the options


@pytest.fixture(params=[*NOTEBOOKS, BENCHMARK], ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook, tag):
    (cell,) = [cell for cell in code(notebook) if tag in cell.metadata.get("tags", [])]
    return cell


def set_up(notebook, **names):
    """Run the set-up cell as IPython would, magics included."""
    exec(TransformerManager().transform_cell(tagged(notebook, "setup").source), names)
    return names


# ------------------------------------------------------------------------------------------- what is stored


def test_valid(notebook):
    assert nbformat.validate(notebook) is None


def test_stored_without_outputs(notebook):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))


def test_prose_first_and_short_cells(notebook):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert all(len(cell.source.splitlines()) <= 25 for cell in code(notebook))
    assert sum(cell.cell_type == "markdown" for cell in notebook.cells) >= 3


def test_first_screen_says_what_it_needs_and_how_long_it_takes(notebook):
    assert re.search(r"\*\*Needs\*\* .*\*\*Takes\*\* ", notebook.cells[0].source, re.DOTALL)


def test_the_preamble_is_a_folded_cell_and_the_parameters(notebook):
    """A short set-up, folded; then parameters; then the work begins."""
    first, second, *_ = code(notebook)
    assert first == tagged(notebook, "setup") and second == tagged(notebook, "parameters")
    assert first.metadata["jupyter"] == {"source_hidden": True} and "hide-input" in first.metadata["tags"]
    assert len(first.source.splitlines()) <= 11


def test_the_set_up_cell_is_the_same_everywhere():
    assert len({tagged(nbformat.read(path, 4), "setup").source for path in NOTEBOOKS}) == 1


def test_tables_with_texts_of_utterances_escape_them(notebook):
    """pandas escapes a plain table; a styled one only when it is told to."""
    for cell in code(notebook):
        assert "worst.style" not in cell.source or 'escape="html"' in cell.source


# ---------------------------------------------------------------------------------------------- parameters


def test_parameters_are_options_with_the_options_defaults(path, notebook):
    """papermill must see them: it replaces what the cell of parameters assigns."""
    declared, own = papermill.inspect_notebook(path), OWN.get(path.stem, [])
    assert sorted(declared) == sorted(assigned(tagged(notebook, "parameters").source)) != []
    for name in declared:
        check_parameter(name, *own)
    defaults = {option.name: option.default for option in fields(Options)}
    found = {}
    exec(tagged(notebook, "parameters").source, found)
    assert {name: found[name] for name in declared if name not in own} == {
        name: defaults[name] for name in declared if name not in own
    }


def test_options_are_read_once_with_the_notebooks_own_parameters(path, notebook):
    own = "".join(f', "{name}"' for name in OWN.get(path.stem, []))
    assert "\n".join(cell.source for cell in code(notebook)).count(f"notebook_options(globals(){own})") == 1


def named(cells, **variables):
    return {"In": ["", *cells], **variables}


@pytest.mark.parametrize("own", [[], ["corpus"]])
def test_a_misspelt_parameter_is_refused_and_the_right_one_named(own):
    """papermill sets it without a word, in a cell of its own after the notebook's."""
    stored = 'corpus = "mosi"\npreset = "demo"' if own else 'preset = "demo"'
    names = named([PARAMETERS + stored, PARAMETERS + 'pressets = "smoke"\n'], preset="demo", pressets="smoke")
    with pytest.raises(ValueError, match="notebook parameter 'pressets': unknown, .*did you mean 'preset'"):
        notebook_options(names, *own)


def test_a_parameter_that_was_mended_and_run_again_is_accepted():
    names = named([PARAMETERS + "seeds = 2", "options = ...", PARAMETERS + "n_seeds = 2", "x = 1"], n_seeds=2, seeds=2)
    assert notebook_options(names).n_seeds == 2


def test_options_that_a_notebook_does_not_declare_are_read_too():
    given = named([PARAMETERS + 'preset = "demo"', PARAMETERS + "tune = 3\n"], preset="demo", tune=3)
    assert notebook_options(given).tune == 3 and notebook_options(given).source == "planted"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"preset": "smok"}, "preset 'smok': unknown, expected one of smoke, demo, paper; did you mean 'smoke'?"),
        ({"n_seeds": 0}, "n_seeds: found 0, expected a whole number of at least 1"),
        ({"n_seeds": "3"}, "n_seeds: found '3'"),
        ({"jobs": 1.5}, "jobs: found 1.5"),
        ({"tune": True}, "tune: found True"),
        ({"source": ""}, "source: found ''"),
        ({"source": None}, "source: found None"),
        ({"out": ""}, "out: found ''"),
        ({"finetune_text": "no"}, "finetune_text: found 'no', expected True or False"),
        ({"text_encoder": 3}, "found 3"),
    ],
)
def test_values_that_do_not_fit_are_refused(change, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Options(**change)


def test_results_go_to_the_checkout_or_without_one_to_the_working_directory(monkeypatch, tmp_path):
    assert Options().out == ROOT
    monkeypatch.setattr("finelib.runs.options.ROOT", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert Options().out == tmp_path


# ------------------------------------------------------------------------------------- set-up, and alone


@pytest.mark.parametrize("place", ["notebooks", ".", "runs/notebooks", "runs/of/my own/thesis"])
def test_set_up_finds_the_checkout_from_its_folders(place, monkeypatch, tmp_path):
    (tmp_path / "finelib").mkdir()
    (tmp_path / "finelib" / "fine.py").touch()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    set_up(nbformat.read(NOTEBOOKS[0], 4))
    assert sys.path[0] == str(tmp_path)


def test_set_up_finds_the_checkout_that_an_opened_notebook_lies_in(monkeypatch, tmp_path):
    """JupyterLab names the notebook to its kernel, whatever folder that was started in."""
    (tmp_path / "checkout" / "finelib").mkdir(parents=True)
    (tmp_path / "checkout" / "finelib" / "fine.py").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "checkout" / "notebooks" / "02_data.ipynb"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    set_up(nbformat.read(NOTEBOOKS[0], 4))
    assert sys.path[0] == str(tmp_path / "checkout")


def test_set_up_takes_what_is_installed(monkeypatch, tmp_path):
    """From a folder that knows nothing of the checkout: ``import finelib`` is enough, and no address is asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(sys, "path", [str(ROOT), *(p for p in sys.path if p not in ("", str(ROOT)))])
    before = sys.path.copy()
    set_up(nbformat.read(NOTEBOOKS[0], 4))
    assert sys.path == before


def test_the_benchmark_finds_the_checkout_from_its_folders(monkeypatch):
    for place in (ROOT, ROOT / "benchmarks"):
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(ROOT), str(ROOT / "benchmarks"))])
        set_up(nbformat.read(BENCHMARK, 4))
        assert {str(ROOT), str(ROOT / "benchmarks")} <= set(sys.path)


def test_set_up_installs_what_is_missing(monkeypatch, tmp_path):
    """Alone in an empty folder, as on Colab: without an address one sentence, with it an installation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    calls = []
    shell = SimpleNamespace(run_line_magic=lambda name, line: calls.append((name, line)))
    notebook = nbformat.read(NOTEBOOKS[0], 4)
    monkeypatch.delenv("FINE_REPOSITORY", raising=False)
    with pytest.raises(AssertionError, match="set REPOSITORY"):
        set_up(notebook, get_ipython=lambda: shell)
    monkeypatch.setenv("FINE_REPOSITORY", "https://example.org/fine")
    names = set_up(notebook, get_ipython=lambda: shell)
    assert names["REPOSITORY"] == "https://example.org/fine"
    assert calls == [("pip", 'install -q "finelib[text,colab] @ git+{REPOSITORY}"')]


def run_papermill(path, target, cwd, *parameters, **environment):
    command = [sys.executable, "-m", "papermill", str(path), str(target), "-k", "python3", "--no-progress-bar"]
    for name, value in zip(parameters[::2], parameters[1::2], strict=True):
        command += ["-p", name, value]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **environment)


def test_runs_alone_with_papermill(tmp_path):
    """One notebook through papermill's own command, from the root, parameters given by hand."""
    path, target = ROOT / "notebooks" / "00_start_here.ipynb", tmp_path / "out.ipynb"
    run = run_papermill(path, target, ROOT, "preset", "smoke", "out", str(tmp_path))
    assert run.returncode == 0, run.stderr[-2000:]
    assert len(list(tmp_path.glob("runs/*/record.json"))) == 1
    shown = [output.get("data", {}) for cell in nbformat.read(target, 4).cells for output in cell.get("outputs", ())]
    assert any(len(data.get("image/png", "")) > 10_000 for data in shown)
    assert any("acc2_nonzero" in data.get("text/html", "") for data in shown)
    assert "application/vnd.jupyter.widget-view+json" in shown[-1]


def test_the_data_notebook_reads_the_source_that_it_is_given(tmp_path):
    """From a folder with the files of two corpora, one of them broken, in a working folder outside the checkout.

    Public files cannot be had, which is said of each.
    """
    write_mmsa(tmp_path / "files", "mosi", n=(40, 12, 9))
    (write_mmsa(tmp_path / "files", "ch_sims")).write_bytes(b"<html>Sign in")
    path, target, environment = ROOT / "notebooks" / "02_data.ipynb", tmp_path / "out.ipynb", dict(os.environ)
    environment |= {"FINE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    environment |= {"FINE_DATA_MIRROR": str(tmp_path / "nothing")}
    given = ("preset", "smoke", "source", str(tmp_path / "files"), "out", str(tmp_path))
    run = run_papermill(path, target, tmp_path, *given, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    *_, public, last = [cell for cell in nbformat.read(target, 4).cells if cell.cell_type == "code"]
    assert json.dumps(public.outputs).count("found no such file, expected ") >= 4
    said = json.dumps(last.outputs)
    assert "CMU-MOSI, counted on reading" in said and "train.A.inf" in said and "image/png" in said
    assert "found a web page" in said and "CMU-MOSEI: looked for" in said and "UR-FUNNY: looked in" in said
    assert "your file, read as CMU-MOSI" in said and "TO DECIDE" in said


def test_the_corpus_notebook_says_what_must_be_known_of_the_data(monkeypatch):
    """Its first result, of runs whose records carry notes."""
    record = SimpleNamespace(notes=("labels span [0, 1]", "raw_text missing (test)"))
    loaded = SimpleNamespace(called="your file, read as CMU-MOSI", splits={"train": range(1200), "test": range(5)})
    monkeypatch.setattr(experiment, "run", lambda *_: [record] * 2)
    monkeypatch.setattr(experiment, "load_corpus", lambda _: loaded)
    notebook, names = nbformat.read(ROOT / "notebooks" / "03_corpus.ipynb", 4), {}
    exec(tagged(notebook, "parameters").source, names)
    exec(code(notebook)[2].source.replace("\nMarkdown(", "\nshown = Markdown("), names)
    assert names["shown"].data == (
        "### your file, read as CMU-MOSI: 1,200 train, 5 test utterances, 2 runs\n"
        "\n- labels span [0, 1]\n- raw_text missing (test)"
    )


def test_papermill_stops_at_a_misspelt_parameter(tmp_path):
    """From the notebook's folder: it has found the checkout from there when it stops."""
    path = ROOT / "notebooks" / "12_audit.ipynb"
    run = run_papermill(path, tmp_path / "out.ipynb", path.parent, "pressets", "smoke", "out", str(tmp_path))
    assert run.returncode != 0 and "did you mean 'preset'" in run.stderr
    assert not (tmp_path / "figures").exists()


def test_the_address_is_in_one_place_of_a_notebook():
    """``.ci/publish.py --repository`` writes it there."""
    for path in NOTEBOOKS:
        assert len(re.findall(r'FINE_REPOSITORY\\", \\"', path.read_text())) == 1
        assert 'FINE_REPOSITORY", "' in "".join(json.loads(path.read_text())["cells"][1]["source"])
