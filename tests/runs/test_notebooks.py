"""A notebook is executed when something that decides its outcome has changed, and only then."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import copied_code
import nbformat
import papermill
import psutil
import pytest

from finelib import __main__ as main
from finelib.data.corpora import CORPORA
from finelib.runs import notebooks
from finelib.runs.notebooks import Notebook
from finelib.runs.options import ROOT, Options

RESULTS = {name: result for name, result in main.results(Options()).items() if result.notebook}
EVERY, TABLES = set(RESULTS), "05_tables_1_to_4"
OWN_DATA = "15_your_own_data"  # no paper's number
CORPUS = {f"03_corpus_{name}" for name in CORPORA}
SEEDS = CORPUS | {"04_terms", TABLES, "06_real_mosi", "07_table_5_modalities", "08_table_6_ablations"}
SEEDS |= {"09_figure_5", "11_identifiability", "13_compare", "14_missing_data", "16_home_worlds"}
# a file, and the notebooks that a changed line of it makes stale
STALE = {
    "finelib/data/corpora.py": EVERY,
    "finelib/fine.py": EVERY,
    "finelib/views/estimators.py": {"10_mutual_information"},
    "finelib/views/identifiability.py": {"11_identifiability"},
    "finelib/views/figure5.py": {"09_figure_5"},
    "finelib/views/audit.py": {"12_audit"},
    "finelib/views/explorer.py": {"00_start_here", OWN_DATA},
    "finelib/views/report.py": set(),
    "finelib/views/forest.py": {"07_table_5_modalities", "08_table_6_ablations", "13_compare"},
    "finelib/views/compare.py": {"00_start_here", "02_data", "06_real_mosi", "13_compare"},
    "finelib/paper/power.py": {"07_table_5_modalities", "08_table_6_ablations"},
    "finelib/views/missing.py": {"14_missing_data"},
    "finelib/data/worlds.py": {"16_home_worlds"},
    "finelib/study/leak.py": {"06_real_mosi"},
    "finelib/study/estimators.py": {"10_mutual_information"},
    "finelib/plain.py": {"01_method_walkthrough"},
    "finelib/data/doctor.py": {"02_data"},
    "notebooks/02_data.ipynb": {"02_data"},
    "notebooks/03_corpus.ipynb": CORPUS,
}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the library and the notebooks, which is read in place of the real ones."""
    for folder in ("finelib", "notebooks"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    copied_code.read_from(tmp_path, monkeypatch)
    monkeypatch.setattr(main, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    return tmp_path


def keys(options=Options()):  # noqa: B008
    """Of every notebook, from the files as they are now; the records of runs are taken as they were."""
    found = {name: replace(result, runs=tuple) for name, result in main.results(options).items() if result.notebook}
    return {name: main.as_notebook(name, result, {}).key(options) for name, result in found.items()}


def stale(before, after):
    return {name for name in before if before[name] != after[name]}


def test_a_changed_line_makes_stale_the_notebooks_that_depend_on_it(copy):
    before = keys()
    assert keys() == before and before.keys() == EVERY
    for file, expected in STALE.items():
        text = (copy / file).read_text()
        if file.endswith(".py"):
            changed = text + "\nCHANGED = 1\n"
        else:
            changed = text.replace('"cells": [', '"cells":  [')
        (copy / file).write_text(changed)
        assert stale(before, keys()) == expected, file
        (copy / file).write_text(text)
    assert keys() == before


def test_comments_make_nothing_stale_but_where_they_are_shown(copy):
    before = keys()
    for file in ("finelib/fine.py", "finelib/views/forest.py"):
        (copy / file).write_text((copy / file).read_text() + "\n# a comment\n")
    assert keys() == before
    (copy / "finelib/plain.py").write_text((copy / "finelib/plain.py").read_text() + "\n# a comment\n")
    assert stale(before, keys()) == {"01_method_walkthrough"}


def test_printed_numbers_and_templates_count_for_whoever_imports_from_their_room(copy):
    before = keys()
    printed, drawn = EVERY - {OWN_DATA}, EVERY - {TABLES}
    for file, expected in (("paper/data/claims.csv", printed), ("views/templates/report.html", drawn)):
        text = (copy / "finelib" / file).read_text()
        (copy / "finelib" / file).write_text(text + "\n")
        assert stale(before, keys()) == expected
        (copy / "finelib" / file).write_text(text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"n_seeds": 7}, SEEDS),
        ({"preset": "smoke"}, EVERY - {"01_method_walkthrough"}),
        ({"tune": 2}, {TABLES, "13_compare", "14_missing_data"}),
    ],
)
def test_an_option_makes_stale_the_notebooks_that_take_it(change, expected):
    assert stale(keys(), keys(Options(**change))) == expected


def test_another_version_of_a_package_makes_stale(monkeypatch):
    before = keys()
    other = notebooks.packages() | {"matplotlib": "0.0"}
    monkeypatch.setattr(notebooks, "version", other.get)
    notebooks.packages.cache_clear()
    try:
        assert stale(before, keys()) == EVERY
    finally:
        notebooks.packages.cache_clear()


# ------------------------------------------------------------------------------------------- execution


def small(folder, *cells):
    """A notebook with a parameter and these cells of code."""
    new = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
    new.cells = [nbformat.v4.new_code_cell("# Parameters\nout = None", metadata={"tags": ["parameters"]})]
    new.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(new, folder / "small.ipynb")
    return Notebook("small", folder / "small.ipynb", writes=("drawn",))


DRAW = (
    "from pathlib import Path\n(Path(out) / 'figures').mkdir()\n(Path(out) / 'figures' / 'drawn.txt').write_text('x')"
)


def test_an_executed_notebook_is_kept_with_what_it_wrote(tmp_path):
    notebook, options = small(tmp_path, DRAW), Options(out=tmp_path / "out")
    assert notebooks.changed([notebook], options) == [notebook]
    notebooks.execute_all([notebook], options)
    assert nbformat.read(notebook.target(options), 4).cells[-1].outputs[0].data["text/plain"] == "1"
    assert notebooks.changed([notebook], options) == []
    left = json.loads(notebook.note(options).read_text())["files"]
    assert list(left) == [str(notebook.target(options)), str(tmp_path / "out" / "figures" / "drawn.txt")]
    assert not list((tmp_path / "out/runs/notebooks/partial").iterdir())


def test_a_notebook_that_fails_can_be_looked_at_and_is_executed_again(tmp_path):
    notebook, options = small(tmp_path, "1 / 0"), Options(out=tmp_path / "out")
    with pytest.raises(papermill.PapermillExecutionError, match="division by zero"):
        notebooks.execute_all([notebook], options)
    assert "ZeroDivisionError" in notebook.target(options).read_text()
    assert notebooks.changed([notebook], options) == [notebook]


def test_of_a_kernel_that_died_it_is_said_which_notebook_and_where_to_look(tmp_path):
    notebook, options = small(tmp_path, "import os; os.kill(os.getpid(), 11)"), Options(out=tmp_path / "out")
    with pytest.raises(RuntimeError, match=r"notebook small: Kernel died; .*kernels\.log.*partial/small\.ipynb"):
        notebooks.execute_all([notebook], options)


EXECUTE = """
import sys
from pathlib import Path
from finelib.runs import notebooks
from finelib.runs.options import Options
notebooks.execute_all([notebooks.Notebook("small", Path(sys.argv[1]), writes=("drawn",))], Options(out=sys.argv[2]))
"""


def test_a_killed_execution_leaves_the_copy_that_was_there_and_is_made_again(tmp_path):
    options = Options(out=tmp_path / "out")
    notebooks.execute_all([small(tmp_path, DRAW)], options)
    slow = small(tmp_path, "(__import__('pathlib').Path(out) / 'begun').touch()", "__import__('time').sleep(600)")
    before = slow.target(options).read_bytes()
    command = [sys.executable, "-c", EXECUTE, str(slow.path), str(options.out)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True)
    end = time.monotonic() + 300
    while not (options.out / "begun").exists() or not list(options.out.glob("runs/notebooks/partial/*")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        child.kill()
    process.wait()
    assert slow.target(options).read_bytes() == before and notebooks.changed([slow], options) == [slow]
    again = small(tmp_path, DRAW.replace("mkdir()", "mkdir(exist_ok=True)"))
    notebooks.execute_all([again], options)
    assert notebooks.changed([again], options) == [] and not list(options.out.glob("runs/notebooks/partial/*"))


# ------------------------------------------------------------------------------------------ parameters


def test_a_notebook_gets_the_parameters_it_declares(tmp_path):
    options = Options(preset="smoke", out=tmp_path, tune=3)
    found = {
        name: main.as_notebook(name, replace(RESULTS[name], runs=tuple), {}).parameters(options)
        for name in ("02_data", "03_corpus_ch_sims", "13_compare")
    }
    assert found["02_data"] == {"preset": "smoke", "source": "planted"}
    assert found["03_corpus_ch_sims"]["corpus"] == "ch_sims" and "tune" not in found["03_corpus_ch_sims"]
    assert found["13_compare"] == {**vars(options), "out": str(tmp_path)}


@pytest.mark.parametrize("name", RESULTS)
def test_the_parameters_are_those_that_papermill_sees(name):
    notebook = main.as_notebook(name, replace(RESULTS[name], runs=tuple), {})
    assert list(notebook.parameters(Options())) == list(papermill.inspect_notebook(notebook.path))


def test_a_notebooks_unknown_parameter_is_refused_before_a_kernel_starts(monkeypatch, tmp_path):
    stored = (ROOT / "notebooks" / "02_data.ipynb").read_text()
    (tmp_path / "02_data.ipynb").write_text(stored.replace('"preset = ', '"pressets = '))
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(ValueError, match="'pressets': unknown, .*did you mean 'preset'"):
        notebooks.execute(Notebook("02_data", tmp_path / "02_data.ipynb"), Options(out=tmp_path))
