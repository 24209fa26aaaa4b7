"""The pictures of the estimators: straight where the truth is straight."""

import numpy as np
import pandas as pd

from finelib.views import estimators


def lines():
    found = []
    for d in (5, 20, 50):
        for truth in (0.0, 0.5, 2.0, 10.0):
            for estimator, mean in (("InfoNCE", min(truth, 4.0)), ("NCE-CLUB", truth - 1)):
                line = {"toy": "Gaussian", "d": d, "truth": truth, "N": 64, "steps": np.nan, "critic": "optimal"}
                found.append(line | {"estimator": estimator, "mean": mean})
    return pd.DataFrame(found)


def test_the_line_called_truth_is_straight_on_the_page():
    figure = estimators.against_truth(lines())
    figure.draw_without_rendering()
    for axis in figure.axes:
        truth = next(line for line in axis.lines if line.get_label() == "truth")
        x, y = axis.transData.transform(truth.get_xydata()).T
        slope = np.diff(y) / np.diff(x)
        assert slope.max() - slope.min() < 1e-6 * slope.max()


def test_an_estimate_below_the_axis_is_drawn_on_its_edge():
    axis = estimators.against_truth(lines()).axes[0]
    points = next(line for line in axis.lines if line.get_label() == "NCE-CLUB, optimal critic")
    np.testing.assert_allclose(points.get_xydata(), [[0.5, estimators.LOWEST], [2, 1], [10, 9]])
