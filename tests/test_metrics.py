"""Scores against hand-worked values, scikit-learn and scipy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from finelib import metrics
from finelib.paper import significance
from finelib.paper.significance import Interval


def test_mosi_by_hand():
    label = np.array([-2.6, -1.0, 0.0, 0.4, 1.5, 3.0])
    prediction = np.array([-3.4, 0.2, -0.1, 0.6, 2.5, 2.2])
    found = metrics.score("mosi", prediction, label)
    assert found["acc2_nonzero"] == pytest.approx(4 / 5)  # 0.0 is dropped, -1.0 is wrong
    assert found["acc2_has_zero"] == pytest.approx(4 / 6)  # 0.0 counts as non-negative, so -0.1 is wrong too
    # rounded: labels -3 -1 0 0 2 3, predictions -3 0 0 1 2 2 (halves to even)
    assert found["acc7"] == pytest.approx(3 / 6)
    # clipped at 2: labels -2 -1 0 0 2 2, predictions -2 0 0 1 2 2
    assert found["acc5"] == pytest.approx(4 / 6)
    assert found["mae"] == pytest.approx((0.8 + 1.2 + 0.1 + 0.2 + 1.0 + 0.8) / 6)


def test_prediction_of_exactly_zero_is_non_negative_but_not_positive():
    found = metrics.score("mosi", np.array([0.0, 0.0]), np.array([1.0, -1.0]))
    assert found["acc2_has_zero"] == 0.5 and found["acc2_nonzero"] == 0.5
    assert metrics.score("mosi", np.array([0.0]), np.array([1.0]))["acc2_has_zero"] == 1
    assert metrics.score("mosi", np.array([0.0]), np.array([1.0]))["acc2_nonzero"] == 0


def test_mosi_against_other_libraries():
    rng = np.random.default_rng(0)
    label = rng.uniform(-3, 3, 300).round(1)
    label[:30] = 0
    prediction = label + rng.normal(0, 1, 300)
    found, kept = metrics.score("mosi", prediction, label), label != 0
    assert found["f1_nonzero"] == pytest.approx(f1_score(label[kept] > 0, prediction[kept] > 0, average="weighted"))
    assert found["f1_has_zero"] == pytest.approx(f1_score(label >= 0, prediction >= 0, average="weighted"))
    assert found["acc2_nonzero"] == accuracy_score(label[kept] > 0, prediction[kept] > 0)
    assert found["corr"] == pytest.approx(stats.pearsonr(prediction, label).statistic)


def test_sims_by_hand():
    label = np.array([-1.0, -0.6, 0.0, 0.0, 0.2, 0.8])
    prediction = np.array([-1.7, -0.8, 0.05, -0.05, 0.1, 2.0])
    found = metrics.score("sims", prediction, label)
    assert found["acc2"] == pytest.approx(5 / 6)  # 0.0 is negative: 0.05 is wrong, -0.05 right
    # acc3 bins (.. -.1] (-.1 .1] (.1 ..]: 0.1 is neutral, its label 0.2 positive
    assert found["acc3"] == pytest.approx(5 / 6)
    assert found["acc5"] == pytest.approx(4 / 6)  # also -0.8 against -0.6
    assert found["mae"] == pytest.approx((0 + 0.2 + 0.05 + 0.05 + 0.1 + 0.2) / 6)  # clipped to [-1, 1] first


def test_sims_two_classes_by_hand_and_no_other_scores():
    """Labels beyond the range, a prediction of exactly 0: after clipping right are the second and the fourth."""
    found = metrics.score("sims", np.array([0.3, -0.2, 0.0, 0.6]), np.array([-1.6, 0.0, 0.2, 1.4]))
    # either class: one right, one said in vain, one missed
    assert found["acc2"] == 0.5 and found["f1"] == pytest.approx(0.5)
    assert found["mae"] == pytest.approx((1.3 + 0.2 + 0.2 + 0.4) / 4)
    assert set(found) == {"acc2", "f1", "acc3", "acc5", "mae", "corr"}


def test_sims_edges_in_float32_belong_to_the_class_below():
    edge = np.float32([-0.7, -0.1, 0.1, 0.7])
    below = np.array([-0.9, -0.3, 0.0, 0.5])
    assert metrics.score("sims", below, edge)["acc5"] == 1


def test_humor_by_hand():
    found = metrics.score("humor", np.array([0.5, 0.51, 0.2, 0.9]), np.array([0, 1, 1, 1.0]))
    assert found["acc2"] == 0.75
    # class 0: precision 1/2, recall 1, F1 2/3, support 1; class 1: precision 1, recall 2/3, F1 4/5, support 3
    assert found["f1"] == pytest.approx((2 / 3 + 3 * 4 / 5) / 4)
    assert found["mae"] == pytest.approx((0.5 + 0.49 + 0.8 + 0.1) / 4)
    assert found["error_rate"] == 0.25


def test_the_dev_error_of_two_classes_does_not_see_how_sure_a_model_is():
    """The same classes, surer: the mean absolute error is another one, the dev error is not."""
    label, hesitant = np.array([0, 0, 1, 1.0]), np.array([0.4, 0.6, 0.6, 0.7])
    found = [metrics.score("humor", p, label) for p in (hesitant, 0.5 + 4 * (hesitant - 0.5))]
    assert found[0]["mae"] > found[1]["mae"]
    assert [scores[metrics.DEV_ERROR["humor"]] for scores in found] == [0.25, 0.25]


def test_constant_prediction_has_no_correlation():
    assert metrics.score("mosi", np.full(4, 0.3), np.array([-1, 0, 1, 2.0]))["corr"] == 0


@pytest.mark.parametrize(
    ("metric", "prediction", "label", "sentence"),
    [
        ("mosei", [0.0], [1.0], "unknown, expected one of mosi"),
        ("mosi", [0.0, np.nan], [1.0, 2.0], "1 of 2 predictions are not finite"),
        ("mosi", [0.0], [np.inf], "1 of 1 labels are not finite"),
        ("mosi", [0.0, 1.0], [1.0], "expected two equal"),
        ("sims", [], [], "expected two equal"),
    ],
)
def test_what_cannot_be_scored_is_said(metric, prediction, label, sentence):
    with pytest.raises(ValueError, match=sentence):
        metrics.score(metric, np.array(prediction), np.array(label))


def test_interval_by_hand_and_by_scipy():
    found = significance.interval([0.80, 0.82, 0.84])
    assert (found.mean, found.sd, found.n) == (pytest.approx(0.82), pytest.approx(0.02), 3)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.02 / 3**0.5, abs=1e-6)  # t(.975, 2)
    assert significance.interval([0.5]) == Interval(0.5, None, None, None, 1)


def test_interval_covers_the_mean_at_its_level():
    rng = np.random.default_rng(0)
    draws = [significance.interval(rng.normal(1, 2, 4)) for _ in range(2000)]
    assert np.mean([i.low <= 1 <= i.high for i in draws]) == pytest.approx(0.95, abs=0.015)


def test_paired_difference():
    difference, p = significance.paired([0.9, 0.8, 0.85], [0.88, 0.79, 0.8])
    assert difference.mean == pytest.approx(0.08 / 3)
    test = stats.ttest_1samp([0.02, 0.01, 0.05], 0)
    assert p == pytest.approx(test.pvalue)
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    with pytest.raises(ValueError, match="found 2 and 1 values"):
        significance.paired([1.0, 2.0], [1.0])


def test_paired_difference_of_constant_differences_and_of_one_run():
    same, p = significance.paired([0.5, 0.7], [0.5, 0.7])
    assert (same.mean, same.sd, p) == (0, 0, 1.0)
    shifted, p = significance.paired([2.0, 3.0], [1.0, 2.0])
    assert (shifted.mean, shifted.sd, p) == (1, 0, 0.0)
    assert significance.paired([0.5], [0.25])[1] is None
    wide, narrow = (significance.paired([0.5, 0.9, 0.1], [0.2, 0.3, 0.3], level)[0] for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high
    with pytest.raises(ValueError, match="found 2 and 1 values"):
        significance.paired([1.0, 2.0], [1.0])


def test_two_values_have_an_interval_and_a_label_without_spread_no_correlation():
    two = significance.interval([1.0, 2.0])
    assert two.high - two.mean == pytest.approx(12.706 * 0.7071 / 2**0.5, rel=1e-3)  # t table, one degree of freedom
    assert metrics.correlation([1, 2, 3], [0.0, 1.0, 0.5]) == pytest.approx(0.5)  # spread 1 on one side
