"""The command behind run_all.sh: wrong requests end in one sentence, right ones name the runs they need."""

import json
import sys
from dataclasses import fields

import pytest

from finelib import __main__ as main
from finelib.baselines import SYSTEMS
from finelib.runs import presets
from finelib.runs.options import PRESETS, ROOT, Options, notebook_options
from finelib.study import identifiability


def said(capsys, *arguments):
    """Exit status and the only line on standard error."""
    try:
        status = main.main(list(arguments))
    except SystemExit as end:
        status = end.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("run_all.sh: ")
    return status, lines[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "dmo"], "invalid choice: 'dmo'"),
        (["--sedes", "2"], "did you mean '--seeds'?"),
        (["--seeds", "0"], "found '0', expected a whole number of at least 1"),
        (["--only", "tabel1"], "did you mean 'table1'?"),
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


def test_cluster_without_its_package_or_address(capsys, monkeypatch, tmp_path):
    assert "found no address after it" in said(capsys, "--ray=")[1]
    monkeypatch.setitem(sys.modules, "ray", None)
    status, line = said(capsys, "--ray", "--out", str(tmp_path / "out"))
    assert status == 2 and 'pip install "finelib[cluster]"' in line and not (tmp_path / "out").exists()


def misspelt(name):
    """The last letter twice, as a hurried hand types it."""
    return name + name[-1]


@pytest.mark.parametrize(
    "option",
    [
        "--preset",
        "--source",
        "--only",
        "--seeds",
        "--out",
        "--jobs",
        "--ray",
        "--text-encoder",
        "--finetune-text",
        "--tune",
    ],
)
def test_every_misspelt_option_is_refused_and_the_right_one_named(capsys, option):
    status, line = said(capsys, misspelt(option), "1")
    assert status == 2 and f"did you mean '{option}'?" in line


def test_every_misspelt_preset_result_and_notebook_parameter_is_refused_and_the_right_one_named(capsys):
    for name in main.NAMES:
        assert f"did you mean '{name}'?" in said(capsys, "--only", misspelt(name))[1]
    for name in PRESETS:
        assert f"invalid choice: '{misspelt(name)}'" in said(capsys, "--preset", misspelt(name))[1]
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            Options(preset=misspelt(name))
    for name in [field.name for field in fields(Options)]:
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            notebook_options({misspelt(name): "1"})


def test_source_that_is_not_there(capsys, tmp_path):
    status, line = said(capsys, "--source", str(tmp_path / "none"), "--out", str(tmp_path))
    assert status == 2 and "found no such file or folder" in line


def test_output_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, line = said(capsys, "--preset", "smoke", "--out", str(tmp_path / "file"))
    assert status == 2 and "cannot be written" in line


def test_public_data_are_one_corpus(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(main.data, "available", lambda corpus, source: None)
    chosen = main.select(Options(source="public"), None)
    assert chosen[0] == ["table1", "table5"] and "04_mosei" not in chosen[1] and "08_real_mosi" in chosen[1]
    assert main.select(Options(source="public"), "table6")[0] == ["table6"]  # long, so only when it is asked for
    with pytest.raises(main.Usage, match="table2: its data cannot be had from public"):
        main.select(Options(source="public"), "table2")


def test_every_notebook_is_listed_and_every_listed_one_exists():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(main.NOTEBOOKS)


def test_plan_names_each_run_once_and_the_controls(monkeypatch):
    monkeypatch.setattr(main.tables.data, "available", lambda corpus, source: None if source == "planted" else "no")
    options = Options(preset="smoke")
    plan = main.planned_runs(options, list(main.TABLES), list(main.NOTEBOOKS))
    assert len(set(plan)) == len(plan)
    whole, controls = presets.term_study(options)
    assert set(whole) | {spec for runs in controls.values() for spec in runs} <= set(plan)
    of_tables = {spec for number in (5, 6) for spec in main.ablations.table_specs(number, options)}
    assert of_tables <= set(plan)
    sweeps = (len(identifiability.BETA) + len(identifiability.BATCH)) * identifiability.SWEEP_SEEDS
    assert len(plan) == 4 * 2 * (1 + len(SYSTEMS)) + (1 + len(presets.CONTROLS)) * 2 + len(of_tables) + sweeps


def test_interruption_says_how_to_go_on(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "make", interrupt)
    status, line = main.main([]), capsys.readouterr().err
    assert status == 130 and "goes on from here" in line


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, made in main.MADE_IN.items() for n in made])
def test_a_table_that_is_not_built_again_is_built_by_its_notebook(name, number):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    code = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert f"build({number}, options)" in code
