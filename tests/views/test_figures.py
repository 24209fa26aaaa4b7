"""Figures against counts made by another library; that they draw without error."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from finelib import metrics
from finelib.data import planted
from finelib.data.corpora import CORPORA
from finelib.data.features import Corpus
from finelib.study.terms import RAISES
from finelib.views import figures

matplotlib.use("Agg")


ACCURACIES = [("mosi", 3, "acc7"), ("sims", 1, "acc5"), ("humor", 1, "acc2")]


@pytest.mark.parametrize(("metric", "bound", "accuracy"), ACCURACIES)
def test_diagonal_of_the_confusion_is_the_accuracy(metric, bound, accuracy):
    info = next(info for info in CORPORA.values() if info.metrics == metric)
    rng = np.random.default_rng(0)
    label = rng.uniform(-bound, bound, 200).round(1)
    if metric == "humor":
        label = (label > 0).astype(float)
    prediction = label + rng.normal(0, 0.4, 200)
    figure = figures.confusion(info, prediction, label)
    shown = np.array([int(t.get_text()) for t in figure.axes[0].texts])
    size = int(len(shown) ** 0.5)
    shown = shown.reshape(size, size)
    assert shown.sum() == 200
    assert np.trace(shown) / 200 == pytest.approx(metrics.score(metric, prediction, label)[accuracy])
    if metric == "mosi":
        expected = confusion_matrix(np.round(label).astype(int), np.round(prediction.clip(-3, 3)).astype(int))
        np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize(
    ("modalities", "averaged", "summands"),
    [("TAV", False, (3, 3)), ("TA", False, (1, 2)), ("V", False, (0, 1)), ("TAV", True, (1, 1))],
)
def test_the_bound_of_infonce_counts_what_the_term_sums_over(modalities, averaged, summands):
    config = {"train": {"batch_size": 32}, "model": {"average_terms": averaged}}
    curves = [dict.fromkeys(figures.ESTIMATES, 0.5)] * 2
    record = SimpleNamespace(curves=curves, selected_epoch=1, config=config, modalities=list(modalities))
    axes = dict(zip(figures.ESTIMATES, figures.mi_estimates([record]).axes, strict=True))
    for name, count in zip(("I_sha", "I_utr"), summands, strict=True):
        assert axes[name].lines[-1].get_ydata()[0] == pytest.approx(count * np.log(32))
        assert axes[name].texts[0].get_text() == ("log N" if count == 1 else f"{count} log N")
    assert not axes["I_uni"].texts and not axes["I_str"].texts


def test_control_effects_has_a_panel_for_each_term():
    figure = figures.control_effects({term: [(1.0, 0.5), (0.2, 0.4)] for term in RAISES})
    assert [axis.get_title()[:-2] for axis in figure.axes] == list(RAISES)


def test_effects_table_counts_the_seeds_that_move_as_asked():
    effects = {"I_sha": [(1.0, 0.5), (0.2, 0.4)], "I_uni": [(1.0, 0.5), (0.2, 0.4)]}
    table = figures.effects_table(effects)
    assert list(table["seeds that move as asked"]) == ["1 of 2", "1 of 2"]  # I_sha the first seed, I_uni the second
    assert table.loc["I_sha", "with"] == pytest.approx(0.6) and table.loc["I_sha", "without"] == pytest.approx(0.45)
    assert list(figures.effects_table({"I_uni": effects["I_uni"][:1]})["seeds that move as asked"]) == ["0 of 1"]


def test_factor_bars_are_correlations_with_the_label(corpus):
    axis = figures.factor_bars(corpus).axes[0]
    shown = dict(
        zip((t.get_text() for t in axis.get_xticklabels()), (b.get_height() for b in axis.patches), strict=True)
    )
    train = corpus.splits["train"]
    assert list(shown) == list(planted.FACTORS)
    assert shown["s"] == pytest.approx(abs(np.corrcoef(train.factors["s"], train.label)[0, 1]), abs=1e-6)
    real = Corpus(corpus.info, "public", {"train": replace(train, factors=None)}, "", "")
    with pytest.raises(ValueError, match="found CMU-MOSI, public data, expected planted data"):
        figures.factor_bars(real)


def test_score_matrix_shows_the_scores_as_they_are():
    scores = torch.arange(9.0, requires_grad=True).view(3, 3)
    axis = figures.score_matrix(scores, "text", "video").axes[0]
    np.testing.assert_array_equal(axis.images[0].get_array(), scores.detach())
    assert axis.get_xlabel() == "video of utterance" and axis.get_ylabel() == "text of utterance"


def test_findings_table_says_whether_and_why():
    table = figures.findings_table(
        {"a": {"holds": None, "says": "because", "value": 1}, "b": {"holds": True, "says": ""}}
    )
    assert (
        table.loc["a", "holds"] is None and table.loc["b", "holds"] is True and table.loc["a", "because"] == "because"
    )


def test_target_angle_marks_the_minimum():
    axis = figures.target_angles().axes[0]
    curves = [line for line in axis.lines if len(line.get_xdata()) > 2]
    for curve, share in zip(curves, (0.1, 0.3, 0.6, 1.0), strict=True):
        assert curve.get_xdata()[np.argmin(curve.get_ydata())] == pytest.approx(share, abs=0.01)
