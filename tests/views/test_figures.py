"""Figures against counts made by another library; that they draw without error."""

import matplotlib
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from finelib import metrics
from finelib.study.terms import RAISES
from finelib.views import figures

matplotlib.use("Agg")


ACCURACIES = [("mosi", 3, "acc7"), ("sims", 1, "acc5"), ("humor", 1, "acc2")]


@pytest.mark.parametrize(("metric", "bound", "accuracy"), ACCURACIES)
def test_diagonal_of_the_confusion_is_the_accuracy(metric, bound, accuracy):
    rng = np.random.default_rng(0)
    label = rng.uniform(-bound, bound, 200).round(1)
    if metric == "humor":
        label = (label > 0).astype(float)
    prediction = label + rng.normal(0, 0.4, 200)
    figure = figures.confusion(metric, prediction, label)
    shown = np.array([int(t.get_text()) for t in figure.axes[0].texts])
    size = int(len(shown) ** 0.5)
    shown = shown.reshape(size, size)
    assert shown.sum() == 200
    assert np.trace(shown) / 200 == pytest.approx(metrics.score(metric, prediction, label)[accuracy])
    if metric == "mosi":
        expected = confusion_matrix(np.round(label).astype(int), np.round(prediction.clip(-3, 3)).astype(int))
        np.testing.assert_array_equal(shown, expected)


def test_control_effects_has_a_panel_for_each_term():
    figure = figures.control_effects({term: [(1.0, 0.5), (0.2, 0.4)] for term in RAISES})
    assert [axis.get_title()[:-2] for axis in figure.axes] == list(RAISES)


def test_target_angle_marks_the_minimum():
    axis = figures.target_angles().axes[0]
    curves = [line for line in axis.lines if len(line.get_xdata()) > 2]
    for curve, share in zip(curves, (0.1, 0.3, 0.6, 1.0), strict=True):
        assert curve.get_xdata()[np.argmin(curve.get_ydata())] == pytest.approx(share, abs=0.01)
