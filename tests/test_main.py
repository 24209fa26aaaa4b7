"""The command behind run_all.sh: wrong requests end in one sentence, right ones name the runs they need."""

import json
import re
import shutil
import sys
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import papermill
import pytest

from finelib import __main__ as main
from finelib.baselines import SYSTEMS
from finelib.data.corpora import CORPORA
from finelib.paper import objective
from finelib.runs import presets
from finelib.runs.options import PRESETS, ROOT, Options, check_parameter
from finelib.study import identifiability, missing_trained, starts
from finelib.views import closing, report

RESULTS = main.results(Options())


def said(capsys, *arguments):
    """Exit status and the only line on standard error."""
    try:
        status = main.main(list(arguments))
    except SystemExit as end:
        status = end.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("run_all.sh: ")
    return status, lines[0]


# --------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "dmo"], "invalid choice: 'dmo'"),
        (["--sedes", "2"], "did you mean '--seeds'?"),
        (["--seeds", "0"], "found '0', expected a whole number of at least 1"),
        (["--only", "tabel1"], "did you mean 'table1'?"),
        (["--setup"], "unrecognized arguments: --setup"),  # run_all.sh's own work
    ],
)
def test_wrong_options(capsys, arguments, sentence):
    status, line = said(capsys, *arguments)
    assert status == 2 and sentence in line


@pytest.mark.parametrize(
    ("arguments", "ray"),
    [("", None), ("--ray", "local"), ("--ray auto", "auto"), ("--ray=h:1", "h:1"), ("--ray --seeds 2", "local")],
)
def test_the_cluster_may_have_an_address(arguments, ray):
    options, only, found = main.parse(arguments.split())
    assert found == ray and only is None and options.n_seeds == (2 if "seeds" in arguments else None)


def test_every_option_can_be_said_on_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    words = "--preset smoke --source data --seeds 2 --out o --jobs 3 --text-encoder files --finetune-text --tune 4 "
    options, only, ray = main.parse((words + "--systems MulT,TFN").split())
    assert vars(options) == {
        "preset": "smoke",
        "source": str(tmp_path / "data"),  # notebooks run in a folder of their own
        "n_seeds": 2,
        "out": tmp_path / "o",
        "jobs": 3,
        "text_encoder": "files",
        "finetune_text": True,
        "tune": 4,
        "systems": "MulT,TFN",
    }
    assert only is None and ray is None and main.parse([])[0] == Options()


@pytest.mark.parametrize(("systems", "rows"), [("MulT, TFN", ["TFN", "MulT"]), ("none", [])])
def test_of_the_compared_systems_only_those_asked_for_are_run_and_the_others_said(monkeypatch, tmp_path, systems, rows):
    options = Options(preset="smoke", out=tmp_path, systems=systems)
    assert list(main.tables.by_name(main.tables.table_specs(1, options)))[: len(rows) + 1] == ["FINE", *rows]
    monkeypatch.setattr(main.tables, "measure", lambda *_: [])
    monkeypatch.setattr(main.tables, "notes", lambda *_: ())
    monkeypatch.setattr(main.tables, "budget_note", lambda *_: "")  # nothing is trained
    (told,) = [note for note in main.tables.build_table(1, options).notes if "--systems" in note]
    assert "LF-DNN, " in told and not [name for name in rows if name in told]


def test_an_unknown_compared_system_is_named_with_the_most_similar_one(capsys, tmp_path):
    status, line = said(capsys, "--systems", "MulT,MuIT", "--out", str(tmp_path))
    assert status == 2 and "found 'MuIT'" in line and "did you mean 'MulT'?" in line


def test_cluster_without_its_package_or_address(capsys, monkeypatch, tmp_path):
    assert "found no address after it" in said(capsys, "--ray=")[1]
    monkeypatch.setitem(sys.modules, "ray", None)
    status, line = said(capsys, "--ray", "--out", str(tmp_path / "out"))
    assert status == 2 and 'pip install "finelib[cluster]"' in line and not (tmp_path / "out").exists()


def misspelt(name):
    """The last letter twice, as a hurried hand types it."""
    return name + name[-1]


FLAGS = ["seeds" if field.name == "n_seeds" else field.name.replace("_", "-") for field in fields(Options)]


@pytest.mark.parametrize("option", [*FLAGS, "only", "ray"])
def test_every_misspelt_option_is_refused_and_the_right_one_named(capsys, option):
    status, line = said(capsys, misspelt(f"--{option}"), "1")
    assert status == 2 and f"did you mean '--{option}'?" in line


@pytest.mark.parametrize("name", [*RESULTS, "figure5", "claims", "03_corpus"])
def test_every_misspelt_result_is_refused_and_the_right_one_named(name):
    assert main.asked_for(name, RESULTS) == ([] if name == "claims" else main.asked_for(name, RESULTS))
    with pytest.raises(main.Usage, match=f"did you mean '{name}'"):
        main.asked_for(misspelt(name), RESULTS)


def test_every_misspelt_preset_and_notebook_parameter_is_refused_and_the_right_one_named(capsys):
    for name in PRESETS:
        assert f"invalid choice: '{misspelt(name)}'" in said(capsys, "--preset", misspelt(name))[1]
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            Options(preset=misspelt(name))
    for name in [field.name for field in fields(Options)]:
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            check_parameter(misspelt(name))


def test_source_that_is_not_there(capsys, tmp_path):
    status, line = said(capsys, "--source", str(tmp_path / "none"), "--out", str(tmp_path))
    assert status == 2 and "found no such file or folder" in line


def test_output_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, line = said(capsys, "--preset", "smoke", "--out", str(tmp_path / "file"))
    assert status == 2 and "cannot be written" in line


def test_interruption_says_how_to_go_on(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "make", interrupt)
    status, line = main.main([]), capsys.readouterr().err
    assert status == 130 and "goes on from here" in line


# ----------------------------------------------------------------------------------------- what is chosen


def test_every_notebook_is_a_result_and_every_result_has_its_notebook():
    stored = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {result.notebook for result in RESULTS.values()} == stored | {""}
    assert all(name.startswith(result.notebook) for name, result in RESULTS.items())


def test_one_notebook_is_executed_for_each_corpus():
    names = [f"03_corpus_{corpus}" for corpus in CORPORA]
    assert main.asked_for("03_corpus", RESULTS) == names
    assert main.asked_for("03_corpus_mosi", RESULTS) == ["03_corpus_mosi"]
    assert main.asked_for("figure5", RESULTS) == ["09_figure_5"]
    assert [RESULTS[name].parameters["corpus"] for name in names] == list(CORPORA)


def test_public_tables_are_made_of_the_corpora_that_can_be_had(capsys, monkeypatch):
    monkeypatch.setattr(main.sources, "available", lambda corpus, source: None if corpus == "mosi" else "MOSI alone")
    chosen = main.select(Options(source="public"), None)
    assert {"table1", "05_tables_1_to_4", "table5", "03_corpus_mosi", "04_terms", "09_figure_5"} < chosen.keys()
    assert not {"table2", "table6", "03_corpus_mosei", "08_table_6_ablations"} & chosen.keys()
    assert capsys.readouterr().err == "run_all.sh: left out: MOSI alone\n"
    assert list(main.select(Options(source="public"), "table6")) == ["table6"]  # long, so only when it is asked for
    with pytest.raises(main.Usage, match="table2: its data cannot be had from public: MOSI alone"):
        main.select(Options(source="public"), "table2")


def test_a_folder_with_one_corpus_gives_its_results_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(main.sources, "available", lambda corpus, source: None if corpus == "mosei" else "not there")
    chosen = main.select(Options(source=str(tmp_path)), None)
    assert {"table2", "table5", "table6", "03_corpus_mosei", "04_terms", "09_figure_5", "00_start_here"} < chosen.keys()
    assert not {"table1", "03_corpus_mosi", "05_tables_1_to_4", "13_compare", "14_missing_data"} & chosen.keys()


def test_claims_need_no_runs(monkeypatch):
    assert main.select(Options(), "claims") == {}


def test_plan_names_each_run_once_and_the_controls(monkeypatch):
    monkeypatch.setattr(main.tables.sources, "available", lambda corpus, source: None if source == "planted" else "no")
    options = Options(preset="smoke")
    plan = main.planned_runs(main.select(options, None))
    assert len(set(plan)) == len(plan)
    of_tables = {spec for number in (5, 6) for spec in main.tables.table_specs(number, options)}
    assert of_tables <= set(plan)
    sweeps = (len(identifiability.BETA) + len(identifiability.BATCH)) * identifiability.SWEEP_SEEDS
    variant = 2 * starts.STARTS
    elsewhere = sum(4 - len(corpora) for corpora in presets.WHERE_PRINTED.values())  # left out of a corpus each
    assert len(plan) == 2 * (4 * (1 + len(SYSTEMS)) - elsewhere) + len(of_tables) + sweeps + variant


def test_the_study_of_the_objective_is_made_when_asked_for_alone(monkeypatch):
    monkeypatch.setattr(objective, "build", lambda options: options)
    assert "objective" not in main.select(Options(), None)
    chosen = main.select(Options(), "objective")
    assert main.planned_runs(chosen) == objective.specs(Options())
    assert chosen["objective"].build() == Options()


def test_losses_in_training_are_made_when_asked_for_alone(monkeypatch):
    monkeypatch.setattr(missing_trained, "measure_missing_trained", lambda options: options)
    assert "missing_trained" not in main.select(Options(), None)
    chosen = main.select(Options(), "missing_trained")
    assert set(main.planned_runs(chosen)) == {s for n in (1, 2, 3, 4) for s in main.tables.own_specs(n, Options())}
    assert chosen["missing_trained"].build() == Options()


# -------------------------------------------------------------------------------------- what is executed


@pytest.mark.parametrize(("name", "number"), [(n, t) for n, r in RESULTS.items() if r.notebook for t in r.tables])
def test_a_table_that_is_not_built_again_is_built_by_its_notebook(name, number):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    code = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert f"build_table({number}, options)" in code


def test_a_notebooks_pictures_are_those_that_it_saves():
    """What it writes by ``style.save`` stands in its code; tables, forests, Figure 5 and the audit have modules."""
    by_module = {"table5_forest", "table6_forest", "table6_components", "figure5", "figure5a", "figure5b", "audit"}
    for name, result in RESULTS.items():
        if result.notebook:
            text = (ROOT / "notebooks" / f"{result.notebook}.ipynb").read_text()
            saved = set(re.findall(r'style\.save\([^\n]*?\\"(\w+)\\", options\.figures', text))
            assert saved == set(result.pictures) - by_module, name


# ------------------------------------------------------------------------------------- what is made again


@pytest.fixture
def executions(monkeypatch):
    """Notebooks that were executed, in order; papermill is stood in for, and pictures by one empty file each."""
    names = []

    def run(path, target, parameters, **_):
        name = Path(target).stem
        for picture in RESULTS[name].pictures:
            (Path(parameters["out"]) / "figures").mkdir(exist_ok=True)
            (Path(parameters["out"]) / "figures" / f"{picture}.png").touch()
        shutil.copy(path, target)
        names.append(name)

    monkeypatch.setattr(papermill, "execute_notebook", run)
    monkeypatch.setattr(report, "write_report", lambda options: (options.figures / "report.html").write_text("x"))
    return names


def run_all(out, only, *more):
    return main.main(["--preset", "smoke", "--out", str(out), "--jobs", "1", "--only", only, *more])


def test_a_second_call_executes_nothing_and_says_so(tmp_path, executions, capsys):
    assert run_all(tmp_path, "01_method_walkthrough") == 0 and executions.pop() == "01_method_walkthrough"
    assert "not made again" not in capsys.readouterr().out
    assert run_all(tmp_path, "01_method_walkthrough") == 0 and executions == []
    said = "run_all.sh: there and unchanged, so not made again: 1 of 1 notebooks, claims and report\n"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["figures/figure2.png", "runs/notebooks/01_method_walkthrough.ipynb"])
def test_what_was_written_is_made_again_when_it_is_gone_or_changed(tmp_path, executions, lost):
    run_all(tmp_path, "01_method_walkthrough")
    (tmp_path / lost).unlink()
    run_all(tmp_path, "01_method_walkthrough")
    assert (tmp_path / lost).exists() and len(executions) == 2
    (tmp_path / lost).write_text("something else")
    run_all(tmp_path, "01_method_walkthrough")
    assert len(executions) == 3


def test_a_changed_seed_executes_again_what_reads_it(tmp_path, executions):
    for name in ("12_audit", "10_mutual_information"):
        run_all(tmp_path, name)
        run_all(tmp_path, name, "--seeds", "1")  # read by neither
    assert executions == ["12_audit", "10_mutual_information"]
    fine = main.as_notebook("09_figure_5", RESULTS["09_figure_5"], defaultdict(lambda: SimpleNamespace(**RUN)))
    keys = {fine.key(Options(out=tmp_path, n_seeds=n)) for n in (1, 2)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("path", "content", "written"),
    [
        ("figures/table1.md", "a table", True),
        ("figures/report.html", "another page", True),
        ("runs/mosi-FINE-s0-a/record.json", "{}", True),
        ("runs/notebooks/kernels.log", "a warning", False),
    ],
)
def test_claims_and_report_are_written_again_when_what_they_show_has_changed(
    tmp_path, executions, path, content, written
):
    options = Options(preset="smoke", out=tmp_path)
    options.figures.mkdir()
    assert closing.write_pages(options) and not closing.write_pages(options)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(content)
    assert closing.write_pages(options) == written and not closing.write_pages(options)


RUN = {"id": "a", "files": {"weights.safetensors": [1, 2]}, "timing": {"seconds": 1.0}}


@pytest.mark.parametrize("change", [{"id": "b"}, {"files": {"weights.safetensors": [1, 3]}}, {"timing": {}}])
def test_another_record_executes_again_what_reads_it(tmp_path, change):
    keys = [
        main.as_notebook("13_compare", RESULTS["13_compare"], defaultdict(lambda run=run: SimpleNamespace(**run))).key(
            Options(out=tmp_path)
        )
        for run in (RUN, dict(RUN), RUN | change)
    ]
    assert keys[0] == keys[1] != keys[2]
