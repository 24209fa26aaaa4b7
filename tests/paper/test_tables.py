"""Tables from made-up rows and from a small run."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from finelib import metrics
from finelib.data.corpora import CORPORA
from finelib.paper import printed, tables
from finelib.paper.notes import BELOW, SAME, budget, notes
from finelib.paper.table import Row, Table, _marks, in_millions, read, render, write
from finelib.runs import experiment, presets
from finelib.runs.options import Options


def measured(value, sd=0.01, n=3):
    return {"mean": value, "sd": sd, "low": value - sd, "high": value + sd, "n": n}


def row(name, acc, mae=None, kind="system", block="b"):
    scores = {"acc2_nonzero": measured(acc), "f1_nonzero": measured(acc), "acc7": measured(acc)}
    if mae is not None:
        scores |= {"mae": measured(mae), "corr": measured(acc)}
    return Row(name, kind, "planted", "planted", "T", block, None, scores, ("run",))


def test_best_and_second_within_each_block_ties_shared_and_oracle_left_out():
    rows = [row("oracle (true factors)", 0.99, 0.1), row("a", 0.8, 0.5), row("b", 0.9, 0.4), row("c", 0.9, 0.7)]
    assert _marks(rows, "acc2_nonzero") == {1: "second", 2: "best", 3: "best"}
    assert _marks(rows, "mae") == {1: "second", 2: "best"}


def test_systems_that_are_not_above_ridge_are_named():
    ridges = [row(f"ridge ({m})", acc, 1.0, "reference") for m, acc in (("T", 0.3), ("T + A", 0.5))]
    systems = [row("TFN", 0.4, 1.0), row("LMF", 0.5, 1.0), row("FINE", 0.6, 1.0), row("MISA", 0.1, 1.0, block="c")]
    assert BELOW.format("TFN, LMF") in notes(1, ridges + systems)
    assert not any(said.startswith("Not above ridge") for said in notes(1, ridges + systems[2:]))
    real = [replace(each, data="public") for each in ridges + systems]
    assert not any(said.startswith("Not above ridge") for said in notes(1, real))


def test_a_small_count_of_parameters_is_no_zero():
    assert [in_millions(n) for n in (385, 4999, 5000, 1_762_345, 192.5)] == ["385", "4999", "0.01 M", "1.76 M", "192"]


def test_two_rows_of_one_model_are_told():
    pair = [row(name, 0.8) for name in ("MFN", "C-MFN")]
    with_context = replace(pair[1], context=True)
    assert SAME in notes(1, pair)
    assert SAME not in notes(1, pair[1:]) and SAME not in notes(3, [pair[0], with_context])
    assert SAME not in notes(1, [pair[0], replace(pair[1], block="another")])


def test_printed_rows_are_the_papers():
    rows = {number: tables.printed_rows(number) for number in printed.COLUMNS}
    by_name = {row.name: row for row in rows[1]}
    assert by_name["FINE"].printed == {"acc2_nonzero": 0.8695, "f1_nonzero": 0.8694, "acc7": 0.485}
    assert [(r.context, r.target) for r in rows[3] if r.name == "MuLOT"] == [(False, True), (True, True)]
    assert [len(found) for found in rows.values()] == [13, 13, 8, 9, 7, 18]
    for number in (1, 2):  # the paper's bold and underlined cells
        marks = _marks(rows[number], "acc2_nonzero")
        assert {rows[number][i].name for i, mark in marks.items() if mark == "best"} == {"FINE"}


def test_systems_that_the_paper_does_not_print_for_a_corpus_come_last_and_are_named():
    """Table 2 prints TFN and MISA, Table 4 TFN and Self-MM."""
    options = Options(systems="TFN,MISA,Self-MM,MFN", n_seeds=1, preset="smoke")
    rows = {number: list(tables.by_name(tables.own_specs(number, options))) for number in (2, 4)}
    assert rows == {2: ["FINE", "TFN", "MISA", "MFN", "Self-MM"], 4: ["FINE", "TFN", "MFN", "Self-MM", "MISA"]}
    of_mosei = [replace(row(name, 0.8), corpus="mosei") for name in rows[2]]
    assert "Not printed in this table: MFN, Self-MM." in notes(2, of_mosei)
    assert not any(said.startswith("Not printed") for said in notes(2, of_mosei[:3]))


def test_printed_digits_are_kept_and_the_last_row_is_fine_s():
    assert printed.rows(2)[-1].text == {"acc2_nonzero": "87.70", "f1_nonzero": "87.68", "acc7": "55.59"}
    assert {n: printed.rows(n)[-1].name for n in printed.COLUMNS} == {
        **dict.fromkeys((1, 2, 3, 4, 6), "FINE"),
        5: "V + A + T",
    }
    assert printed.rows(5)[-1].text == printed.rows(6)[-1].text == printed.rows(2)[-1].text
    assert [row.name for row in printed.rows(5)][:4] == ["V", "A", "T", "V + A"]


def test_sizes_of_the_test_splits_stand_beside_the_printed_tables():
    sizes = [min(printed.splits(info.table, printed.first_metric(info.table))) for info in CORPORA.values()]
    assert sizes == [printed.utterances(info.table) for info in CORPORA.values()] == [656, 3634, 994, 457]
    assert set(printed.splits(3, "acc2")) == {994, 3290}, "UR-FUNNY has two versions"
    assert set(printed.splits(2, "acc7")) == {CORPORA["mosei"].sizes[2]}


@pytest.mark.parametrize("number", [0, 7])
def test_another_table_is_refused_before_anything_is_trained(number, tmp_path):
    options = Options(preset="smoke", out=tmp_path)
    for ask in (tables.build_table, tables.table_specs, lambda number, _: printed.rows(number)):
        with pytest.raises(ValueError, match=f"table {number}: unknown, expected one of 1, 2, 3, 4, 5, 6"):
            ask(number, options)
    assert not list(tmp_path.iterdir())


def test_blocks_of_a_table_in_their_order():
    first, second = [row("a", 0.5, block="one"), row("b", 0.4, block="one")], [row("a", 0.6, block="two")]
    table = Table(1, (*tables.printed_rows(1), *first, *second), ())
    assert list(table.blocks) == ["printed in the paper", "one", "two"]
    assert table.printed == tables.printed_rows(1) and table.measured == [first, second]
    assert Table(1, tuple(tables.printed_rows(1)), ()).measured == []


@pytest.mark.parametrize("number", printed.COLUMNS)
def test_a_table_s_runs_are_those_of_its_blocks_each_once(number, monkeypatch):
    monkeypatch.setattr(tables.sources, "available", lambda corpus, source: None if source == "planted" else "none")
    options = Options(preset="smoke")
    specs, blocks = tables.table_specs(number, options), tables.measured_blocks(number, options)
    assert len(set(specs)) == len(specs) == sum(len(runs) for block in blocks for runs in block.runs.values())
    assert all([spec.seed for spec in runs] == [0, 1] for block in blocks for runs in block.runs.values())
    for block in blocks:  # a row that changes nothing of FINE's settings has FINE's own runs
        assert all(spec.name in (name, "FINE") for name, runs in block.runs.items() for spec in runs)
    assert [block.about != "" for block in blocks] == [number > 4] * len(blocks)


def test_every_row_is_compared_with_fine_and_in_table_5_with_all_modalities():
    options = Options(preset="smoke")
    for number in (4, 5, 6):
        for block in tables.measured_blocks(number, options):
            every = max(block.runs, key=lambda name: name.count("+"))  # real blocks may have two modalities
            assert tables._compared_with(number, list(block.runs)) == (every if number == 5 else "FINE")
    assert tables._compared_with(1, ["FINE (fine-tuned)", "text encoder alone (fine-tuned)"]) == "FINE (fine-tuned)"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    options = Options(preset="smoke", n_seeds=2, out=tmp_path_factory.mktemp("out"), jobs=1)
    # as when the public files cannot be had
    patch = pytest.MonkeyPatch()
    patch.setattr(tables.sources, "available", lambda corpus, source: None if source == "planted" else "no network")
    yield options, tables.build_table(3, options)
    patch.undo()


def test_exactly_one_of_printed_and_measured_and_runs_exist(built):
    options, _ = built
    content = json.loads((options.figures / "table3.json").read_text())
    kinds = {r["kind"] for r in content["rows"]}
    assert kinds == {"system", "reference"}
    for r in content["rows"]:
        assert (r["printed"] is None) != (r["measured"] is None)
        assert (r["data"] == "printed") == (r["printed"] is not None)
        assert all((options.out / "runs" / run / "record.json").exists() for run in r["runs"])
        values = r["printed"] or {k: v["mean"] for k, v in r["measured"].items() if k.startswith("acc")}
        assert all(0 <= v <= 1 for v in values.values())
    fine = [r for r in content["rows"] if r["name"] == "FINE" and r["measured"]]
    assert [r["measured"]["acc2"]["n"] for r in fine] == [2] and len(fine[0]["runs"]) == 2


def test_mean_is_that_of_the_records(built):
    options, table = built
    fine = next(r for r in table.rows if r.name == "FINE" and r.measured)
    scores = []
    for run in fine.runs:
        with np.load(options.out / "runs" / run / "predictions.npz") as arrays:
            scores.append(metrics.score("humor", arrays["test"], arrays["test_label"])["acc2"])
    assert fine.measured["acc2"]["mean"] == pytest.approx(sum(scores) / 2)


def test_all_forms_hold_all_rows(built):
    options, table = built
    rows = list(csv.DictReader((options.figures / "table3.csv").open()))
    assert [r["name"] for r in rows] == [r.name for r in table.rows]
    for form in ("md", "tex", "html"):
        text = (options.figures / f"table3.{form}").read_text()
        assert text.count("FINE") >= 2 and "planted data" in text and "95.0" not in text
    tex = (options.figures / "table3.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
    assert len({line.count("&") for line in tex.splitlines() if "&" in line}) == 1
    md = [line for line in (options.figures / "table3.md").read_text().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in md}) == 1


def test_csv_has_every_number_and_nothing_where_there_is_none(tmp_path):
    with_extra = replace(row("a", 0.8, 0.5), extra={"parameters": "1 M"})
    write(Table(1, (tables.printed_rows(1)[0], with_extra), ()), tmp_path)
    quoted, own = csv.DictReader((tmp_path / "table1.csv").open())
    assert (quoted["acc7"], quoted["acc7_sd"], quoted["mae"], quoted["n"], quoted["parameters"]) == (
        "0.349",
        "",
        "",
        "",
        "",
    )
    assert [own[c] for c in ("n", "mae", "mae_sd", "mae_low", "mae_high")] == ["3", "0.5", "0.01", "0.49", "0.51"]
    assert own["parameters"] == "1 M" and list(own)[:7] == "name kind data encoder modalities block n".split()


def test_names_are_text_in_html():
    table = Table(1, (replace(row("<script>alert(1)</script>", 0.5)),), ())
    assert "<script>" not in render(table, "html")


def test_missing_source_leaves_only_the_printed_rows(tmp_path):
    options = Options(source=str(tmp_path / "nothing"), out=tmp_path)
    table = tables.build_table(2, options)
    assert {r.data for r in table.rows} == {"printed"} and "Nothing measured" in table.notes[-1]


def test_presets_name_runs_once():
    base = presets.specs("mosi", Options(preset="demo", n_seeds=3))
    assert [s.seed for s in base] == [0, 1, 2] and len(set(base)) == 3


# -------------------------------------------------------------------------------------------------- budgets


def run_of(done, kept, size, epochs=10, patience=3):
    train = {"epochs": epochs, "patience": patience}
    told = {"config": {"train": train}, "curves": [{}] * done, "dev_error": "error_rate"}
    return SimpleNamespace(**told, selected_epoch=kept - 1, parameters=size)


def test_a_budget_by_hand():
    """Of FINE's runs one ends by patience, one at its limit, one by both at once; the other systems' median is 3 M."""
    runs = {"FINE": [run_of(6, 3, 1_500_000), run_of(10, 8, 1_500_000), run_of(10, 7, 1_500_000)]}
    others = {"MISA": [run_of(5, 2, 2_000_000)], "TFN": [run_of(4, 1, 4_000_000)]}
    said = budget(runs | others, 1)
    assert said.startswith("every system at most 10 epochs, ended by 3 without a better dev error rate; 1 of 5 runs ")
    assert "; one setting of each; " in said
    assert said.endswith("trained parameters: FINE 1.50 M, median of the others 3.00 M")
    other = budget(runs | {"MISA": [run_of(20, 20, 2_000_000, epochs=20, patience=5)]}, 4)
    assert other.startswith("FINE at most 10 epochs, ended by 3 ") and "MISA at most 20 epochs, ended by 5 " in other
    assert "; 2 of 4 runs ended at their limit instead; up to 4 settings tried of each on dev; " in other


def test_the_budget_of_a_table_is_that_of_its_runs(results):
    (said,) = [note for note in read(results.figures / "table2.json").notes if note.startswith("Budget, ")]
    specs = tables.own_specs(2, results)
    records = experiment.run(specs, results.out, progress=False)
    (train,) = {(spec.train.epochs, spec.train.patience) for spec in specs}
    assert said.startswith(
        "Budget, CMU-MOSEI, planted data: every system at most {} epochs, ended by {} ".format(*train)
    )
    fine, *others = {record.name: record.parameters / 1e6 for record in records}.values()
    assert f"FINE {fine:.2f} M, median of the others {np.median(others):.2f} M" in said
    assert f" of {len(specs)} runs ended at" in said


@pytest.mark.parametrize(("tune", "tried"), [(None, 1), (7, 7)])
def test_a_block_says_how_many_settings_were_tried(tune, tried, monkeypatch):
    """A real block beside planted data is not tuned."""
    monkeypatch.setattr(tables.tuning, "tuned", lambda specs, options: specs)
    own, *real = tables.measured_blocks(4, Options(preset="smoke", tune=tune))
    assert own.tried == tried and all(block.tried == 1 for block in real)
