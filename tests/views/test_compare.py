"""Notebook 15: what is collected of the systems, and that it is drawn."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_runs import write_run
from matplotlib.transforms import Bbox

from finelib import metrics
from finelib.baselines import SYSTEMS, references
from finelib.paper import comparisons, printed, significance, tables
from finelib.runs import experiment, presets
from finelib.runs.options import Options
from finelib.runs.records import read_record
from finelib.views import compare


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    options = Options(preset="smoke", out=tmp_path_factory.mktemp("systems"), jobs=1)
    specs = [s for s in tables.own_specs(4, options) if s.name in ("FINE", "LF-DNN", "Self-MM")]
    return options, specs, experiment.run(specs, options.out, options.jobs, progress=False)


def test_table_has_a_row_for_every_system():
    options = Options(preset="smoke")
    for number in (1, 2, 3, 4):
        names = {spec.name for spec in tables.own_specs(number, options)}
        elsewhere = {name for name, corpora in presets.WHERE_PRINTED.items() if tables.CORPUS_OF[number] not in corpora}
        assert names == {"FINE", *SYSTEMS} - elsewhere


def test_printed_rows_have_a_measured_one():
    """Names differ where the paper spells a system in its own way."""
    spelt = {"MuT": "MulT", "MuT(A)": "MulT", "MFN(A)": "MFN", "MAGBERT(XLNet)": "MAG-BERT"}
    options = Options(preset="smoke")
    for number in (1, 2, 3, 4):
        names = {spelt.get(row.name, row.name) for row in printed.rows(number)}
        assert names <= {spec.name for spec in tables.own_specs(number, options)}


def compared(corpus, options):
    return presets.compared_specs(presets.data_config(corpus, options), options)


def test_public_data_have_published_settings_and_two_modalities():
    for spec in compared("mosi", Options(source="public")):
        system = SYSTEMS[spec.name]
        assert spec.model_config.modalities == ("T", "A") and spec.train.lr == system.TRAIN["lr"]
        assert (
            spec.model_config.frames == system.Config().frames and spec.train.batch_size == system.TRAIN["batch_size"]
        )


def test_a_fine_tuned_encoder_is_for_those_who_train_one():
    public = {s.name: s for s in compared("mosi", Options(source="public", finetune_text=True))}
    trained = {"MISA", "Self-MM", "BBFN", "ConFEDE", "C-MIB", "EUAR", "CubeMLP", "DMD", "MAG-BERT", "MSG"}
    assert set(public) == trained and all(s.data.finetune_text for s in public.values())
    files = {s.name: s for s in compared("mosi", Options(source="somewhere", finetune_text=True))}
    assert set(files) == set(SYSTEMS)
    assert files["MISA"].data.finetune_text and files["TFN"].data.text_encoder == "files"


def test_frame_holds_every_run(results):
    _, specs, records = results
    runs = compare.frame(records)
    assert list(runs["system"]) == [spec.name for spec in specs] and list(runs["seed"]) == [s.seed for s in specs]
    table = compare.summary(runs, "mae")
    assert list(table["mae"]) == sorted(table["mae"]) and (table["seeds"] == 2).all()
    own = [r.test["mae"] for r in records if r.name == "FINE"]
    assert table.loc["FINE", "mae"] == pytest.approx(np.mean(own))
    assert table.loc["FINE", "sd"] == pytest.approx(np.std(own, ddof=1))


def test_pictures_show_every_system(results):
    _, specs, records = results
    runs, corpus = compare.frame(records), experiment.load_corpus(specs[0].data)
    figure = compare.against_cost(runs, corpus)
    for axis in figure.axes:
        assert {"FINE", "LF-DNN", "Self-MM"} <= {text.get_text() for text in axis.texts}
    figure = compare.over_seeds(runs, corpus)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == len(records) + 3
    plt.close("all")


def test_names_stand_on_no_point_error_bar_or_other_name(corpus):
    """Twelve systems in a crowd, as on real CMU-MOSI: what LMF and MulT looked like before."""
    rng = np.random.default_rng(0)
    names = [f"system {i}" for i in range(12)]
    runs = pd.DataFrame(
        {
            "system": np.repeat(names, 3),
            "corr": np.repeat(rng.uniform(0.67, 0.72, 12), 3) + np.tile([-0.01, 0, 0.01], 12),
            "parameters": np.repeat(rng.choice([3e5, 3.2e5, 9e5, 1e6, 3e6, 8e4], 12), 3),
            "seconds": np.repeat(rng.uniform(5, 90, 12), 3),
            "samples per second": 1.0,
        }
    )
    figure = compare.against_cost(runs, corpus)
    figure.draw_without_rendering()
    table = compare.summary(runs)
    for axis, cost in zip(figure.axes, compare.COSTS, strict=True):
        boxes = {text.get_text(): text.get_window_extent() for text in axis.texts if text.get_text() in names}
        assert len(boxes) == 12 and all(box.count_overlaps(list(boxes.values())) == 1 for box in boxes.values())
        for name in names:
            ends = [[table.loc[name, cost], table.loc[name, "corr"] + side * 0.01] for side in (-1, 1)]
            bar = Bbox(axis.transData.transform(ends))
            assert bar.count_overlaps(list(boxes.values())) == 0, name


def test_the_budget_curve_draws_what_the_records_hold(tmp_path):
    """Two runs by hand: four epochs in 8 s of which the third is kept, two epochs in 10 s."""
    long = {"curves": [{"dev_corr": v} for v in (0.1, 0.3, 0.6, 0.5)], "selected_epoch": 2, "timing": {"seconds": 8.0}}
    short = {"curves": [{"dev_corr": v} for v in (0.2, 0.4)], "selected_epoch": 1, "timing": {"seconds": 10.0}}
    folders = [write_run(tmp_path, "MISA", parameters=1_234_000, **long), write_run(tmp_path, "FINE", **short)]
    records = [read_record(folder) for folder in folders]
    for against, xs in (("epochs", ([1, 2, 3, 4], [1, 2])), ("seconds", ([2, 4, 6, 8], [5, 10]))):
        fine, misa, *others = compare.budget(records, against).axes
        assert (fine.get_title(), misa.get_title()) == ("FINE, 0.00 M", "MISA, 1.23 M")
        assert not any(axis.get_visible() for axis in others)
        beside, curve, kept, test = (line.get_xydata() for line in misa.lines)
        np.testing.assert_allclose(curve, np.stack([xs[0], [0.1, 0.3, 0.6, 0.5]], 1))
        np.testing.assert_allclose(beside, np.stack([xs[1], [0.2, 0.4]], 1))
        np.testing.assert_allclose([kept[0], test[0]], [(xs[0][2], 0.6), (xs[0][2], records[0].test["corr"])])
        assert len(fine.lines) == 3  # no other run beside its own


def test_minus_references_is_the_difference_of_scores(results):
    _, specs, records = results
    fine, corpus = [r for r in records if r.name == "FINE"], experiment.load_corpus(specs[0].data)
    table = compare.minus_references(fine, corpus, ("mae",)).set_index("reference")
    label = corpus.splits["test"].label
    for name, prediction in references.references(corpus).items():
        gap = np.mean([r.test["mae"] for r in fine]) - metrics.score("sims", prediction, label)["mae"]
        assert (
            table.loc[name, "mean"] == pytest.approx(gap) and table.loc[name, "low"] <= gap <= table.loc[name, "high"]
        )
    assert compare.reference_table([corpus], "mae")["CH-SIMS"].loc["floor (constant)"] == pytest.approx(
        np.abs(label - corpus.splits["train"].label.mean()).mean(), abs=1e-6
    )


def test_tuning_log_has_every_setting_best_first(tmp_path):
    options = Options("smoke", out=tmp_path, tune=2)
    log = {"FINE": [{"chosen": False, "dev_mae": 2.0, "run": "a"}, {"chosen": True, "dev_mae": 1.0, "run": "b"}]}
    log["TFN"] = [{"chosen": True, "dev_mae": 3.0, "rank": 4, "run": "c"}]
    options.figures.mkdir()
    (options.figures / "tuning.json").write_text(json.dumps({"mosi, planted": log}))
    table = compare.tuning_log(options)
    assert list(table["system"]) == ["FINE", "FINE", "TFN"] and list(table["dev_mae"]) == [1.0, 2.0, 3.0]
    assert compare.tuning_log(Options("smoke", out=tmp_path)) is None
    tried = [{"chosen": chosen, "dev_error_rate": 0.3 - chosen / 10, "run": "d"} for chosen in (False, True)]
    (options.figures / "tuning.json").write_text(json.dumps({"ur_funny, planted": {"TFN": tried}}))
    assert list(compare.tuning_log(options, "ur_funny")["chosen"]) == [True, False]


def test_rows_are_compared_by_the_corpus_own_metrics(results):
    _, specs, records = results
    runs = tables.by_name(records)
    found = comparisons.compare(runs, "FINE", "sims")["LF-DNN"]
    for metric in ("acc2", "mae", "corr"):
        gap = np.mean([a.test[metric] - b.test[metric] for a, b in zip(runs["LF-DNN"], runs["FINE"], strict=True)])
        assert found[metric]["mean"] == pytest.approx(gap, abs=1e-6), metric


@pytest.mark.parametrize(("kind", "low", "high"), [("sims", -1.4, 1.4), ("humor", -0.2, 1.2)])
def test_contributions_average_to_the_corpus_own_metric(kind, low, high):
    rng = np.random.default_rng(0)
    prediction = rng.uniform(low, high, 200).astype(np.float32)
    label = rng.integers(0, 2, 200) if kind == "humor" else rng.integers(-5, 6, 200) / 5
    scores = metrics.score(kind, prediction, label.astype(np.float32))
    for metric in ("acc2", "mae", "corr"):
        parts = significance.contributions(
            metric, comparisons.as_scored(prediction, kind), comparisons.as_scored(label.astype(np.float32), kind)
        )
        assert parts.mean() == pytest.approx(scores[metric], abs=1e-6), metric
