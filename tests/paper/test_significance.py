"""The comparison of rows against hand-worked cases, scipy, statsmodels and simulation."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower, ttest_power

from finelib import metrics
from finelib.paper import significance
from finelib.paper.significance import Components, contributions, crossed_interval, differences, mean_squares


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("metric", ["acc2_nonzero", "acc7", "mae", "corr"])
def test_contributions_average_to_the_metric(metric, rng):
    label = np.round(rng.normal(size=300)) * 1.0
    prediction = label + rng.normal(size=300)
    assert contributions(metric, prediction, label).mean() == pytest.approx(
        metrics.score("mosi", prediction, label)[metric]
    )


def test_influence_of_an_utterance_on_corr_is_what_leaving_it_out_changes(rng):
    y = rng.normal(size=400)
    x = y + rng.normal(size=400)
    r, share = metrics.correlation(x, y), contributions("corr", x, y)
    left_out = np.array([metrics.correlation(np.delete(x, i), np.delete(y, i)) for i in range(400)])
    np.testing.assert_allclose(399 * (r - left_out), share - r, rtol=0.05, atol=0.02)


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="acc2_nonzero"):
        contributions("f1", np.ones(2), np.ones(2))


def test_mean_squares_by_hand():
    d = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])
    # means: rows 2, 5; columns 2, 3, 5.5; all 3.5. Rest: residuals +-.5, +-.5, -+1
    expected = (3 * 2 * 1.5**2, 2 * (1.5**2 + 0.5**2 + 2**2) / 2, 2 * (0.25 + 0.25 + 1) / 2)
    assert mean_squares(d) == pytest.approx(expected)


def test_mean_squares_as_statsmodels_finds_them(rng):
    d = rng.normal(size=(4, 12)) + rng.normal(size=(4, 1)) + rng.normal(size=(1, 12))
    seed, item = (a.ravel() for a in np.indices(d.shape))
    cells = pd.DataFrame({"d": d.ravel(), "seed": seed, "item": item})
    table = sm.stats.anova_lm(ols("d ~ C(seed) + C(item)", cells).fit())
    assert mean_squares(d) == pytest.approx(tuple(table["sum_sq"] / table["df"]))


def test_without_variance_between_utterances_it_is_the_t_interval_over_seeds(rng):
    by_seed = rng.normal(0.3, 1, size=5)
    mean, low, high, p, df = crossed_interval(np.repeat(by_seed[:, None], 40, 1))
    test = stats.ttest_1samp(by_seed, 0)
    interval = test.confidence_interval()
    assert (mean, low, high, p, df) == pytest.approx((by_seed.mean(), interval.low, interval.high, test.pvalue, 4))


def test_without_variance_between_seeds_it_is_the_t_interval_over_utterances(rng):
    by_item = rng.normal(0.3, 1, size=60)
    _, low, high, p, df = crossed_interval(np.repeat(by_item[None], 3, 0))
    test = stats.ttest_1samp(by_item, 0)
    interval = test.confidence_interval()
    assert (low, high, p, df) == pytest.approx((interval.low, interval.high, test.pvalue, 59))


@pytest.mark.parametrize(("family", "rows", "seed"), [(0.0, 1, 13.5), (3.7, 3, 13.5), (4.0, 3, 4.0)])
def test_crossed_interval_by_hand(family, rows, seed):
    """Three rows know the variance between two seeds with 1 * 3 / (1 + 2 / 4) = 2 degrees of freedom, and the own 13.5
    counts above 3.556 times the family's: the 0.8 quantile of F(1, 2) is the square of t(2)'s 0.9 quantile, 1.8856."""
    d = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])  # mean squares 13.5, 6.5 and 1.5, as above
    df_seed = {1: 1, 3: 2}[rows]
    total = seed + 6.5 - 1.5
    df = total**2 / (seed**2 / df_seed + 6.5**2 / 2 + 1.5**2 / 2)
    error = (total / 6) ** 0.5
    half = stats.t.ppf(0.975, df) * error
    expected = (3.5, 3.5 - half, 3.5 + half, 2 * stats.t.cdf(-3.5 / error, df), df)
    assert crossed_interval(d, family, rows) == pytest.approx(expected)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_variance_of_the_mean_is_never_less_than_what_one_effect_gives(transposed):
    d = np.array([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]])  # means: rows 2, 5; columns all 3.5. MS 13.5, 0 and 2
    mean, low, high, *_, df = crossed_interval(d.T if transposed else d)
    assert df == pytest.approx(13.5**2 / (13.5**2 / 1 + 2**2 / 2))
    assert high - mean == mean - low == pytest.approx(stats.t.ppf(0.975, df) * (13.5 / 6) ** 0.5)


def test_a_family_lends_its_variance_between_seeds_to_rows_that_look_too_calm(rng):
    calm, wild = rng.normal(size=(1, 50)) + np.zeros((3, 1)), rng.normal(size=(1, 50)) + 3 * rng.normal(size=(3, 1))
    alone = crossed_interval(calm)
    (_, low, high, *_), _ = significance.family_intervals(np.stack([calm, wild]))
    assert high - low > 2 * (alone[2] - alone[1])


def predictions(rng, seeds, shift=0.0, size=200):
    label = np.round(2 * rng.normal(size=size)).clip(-3, 3)
    runs = [label + rng.normal(size=size) for _ in range(seeds)]
    worse = [label + (1 + shift) * rng.normal(size=size) for _ in range(seeds)]
    return worse, runs, label


def test_paired_tests_agree_with_scipy(rng):
    worse, runs, label = predictions(rng, 10, 0.5)
    found = differences("mae", {"worse": worse}, runs, label)["worse"]
    a, b = ([np.abs(x - label).mean() for x in side] for side in (worse, runs))
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b)) and found.seeds == 10 and found.utterances == 200
    assert found.p_seeds == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(np.subtract(a, b)).pvalue)
    assert found.low < found.mean < found.high and found.mcnemar is None


def test_mcnemar_is_the_binomial_test_of_the_disagreements_of_each_seed(rng):
    worse, runs, label = predictions(rng, 3, 1.0)
    found = differences("acc2_nonzero", {"worse": worse}, runs, label)["worse"]
    kept = label != 0
    for p, a, b in zip(found.mcnemar, worse, runs, strict=True):
        right_a, right_b = ((x[kept] > 0) == (label[kept] > 0) for x in (a, b))
        only_a, only_b = (right_a & ~right_b).sum(), (right_b & ~right_a).sum()
        assert p == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
    assert found.wilcoxon is None  # three seeds cannot make it small


def test_holm_by_hand(rng):
    _, runs, label = predictions(rng, 4)
    rows = {f"row {i}": [x + s * rng.normal(size=len(x)) for x in runs] for i, s in enumerate((0.4, 0.9, 0.1))}
    found = differences("mae", rows, runs, label)
    ordered = sorted(found.values(), key=lambda d: d.p)
    expected, highest = [], 0.0
    for place, d in enumerate(ordered):
        highest = max(highest, min(1.0, (3 - place) * d.p))
        expected.append(highest)
    assert [d.p_holm for d in ordered] == pytest.approx(expected)


def test_one_seed_has_a_difference_but_no_interval(rng):
    worse, runs, label = predictions(rng, 1)
    found = differences("corr", {"worse": worse}, runs, label)["worse"]
    assert found.low is None and found.p is None and found.p_holm is None

    assert found.mean == pytest.approx(np.subtract(*(metrics.correlation(x[0], label) for x in (worse, runs))))
    assert (found.seeds, found.utterances, found.mcnemar) == (1, 200, None)
    accuracy = differences("acc7", {"worse": worse}, runs, label)["worse"]
    right_a, right_b = (np.round(x[0].clip(-3, 3)) == label for x in (worse, runs))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    assert accuracy.mcnemar == (pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue),)
    assert differences("mae", {"worse": worse * 2}, runs * 2, label)["worse"].low is not None  # two seeds have one


def test_differences_that_every_seed_shares_leave_no_doubt():
    label, runs = np.zeros(4), [np.array([0.25, 0.5, 1.0, 2.0]), np.array([0.5, 0.5, 1.0, 1.0])]
    found = differences("mae", {"same": runs, "one off": [x + 1 for x in runs]}, runs, label)
    assert (found["same"].mean, found["same"].p_seeds, found["same"].p) == (0, 1, 1)
    assert (found["one off"].mean, found["one off"].p_seeds, found["one off"].p) == (1, 0, 0)


def test_contributions_to_corr_of_a_constant_and_of_a_spread_of_1():
    label = np.array([0.0, 1.0, -2.0, 3.0])
    assert contributions("corr", np.full(4, 0.3), label).tolist() == [0, 0, 0, 0]
    prediction = np.array([0.0, 1.0, 0.5, 0.5])
    assert contributions("corr", prediction, label).mean() == pytest.approx(stats.pearsonr(prediction, label).statistic)


def test_rows_without_the_same_seeds_are_refused(rng):
    worse, runs, label = predictions(rng, 3)
    with pytest.raises(ValueError, match="found 2 and 3 runs"):
        differences("mae", {"worse": worse[:2]}, runs, label)


def test_power_is_the_t_test_s_where_only_seeds_vary():
    variance = Components(seed=0.04, utterance=0.0, rest=0.0)
    for seeds in (3, 5, 10):
        expected = TTestPower().power(0.3 / 0.2, seeds, 0.05)
        assert significance.power(0.3, variance, seeds, 1000) == pytest.approx(expected, abs=1e-6)
    needed = significance.seeds_needed(0.3, variance, 1000)
    assert significance.power(0.3, variance, needed, 1000) >= 0.8 > significance.power(0.3, variance, needed - 1, 1000)


def test_power_where_only_utterances_vary_where_only_the_rest_does_and_where_nothing_does():
    for utterances in (3, 10, 60):
        expected = TTestPower().power(0.3 / 0.2, utterances, 0.05)
        found = significance.power(0.3, Components(seed=0.0, utterance=0.04, rest=0.0), 7, utterances)
        assert found == pytest.approx(expected, abs=1e-6)
    # the rest alone: total = rest, Satterthwaite's degrees of freedom 1 / (1 / 2 + 1 / 2) = 1, twelve cells
    rest = Components(0.0, 0.0, 4.0)
    expected = ttest_power(1.5 / 2, 9, 0.05, df=1)
    assert significance.power(1.5, rest, 3, 3) == pytest.approx(expected, abs=1e-6)
    nothing = Components(0.0, 0.0, 0.0)
    assert [significance.power(gap, nothing, 3, 10) for gap in (0.0, 0.1, 1.0)] == [0, 1, 1]
    assert all(significance.power(10.0**e, Components(1e-4, 0, 0), 3, 9) == pytest.approx(1) for e in range(0, 12))


def test_fewest_seeds_at_the_ends_of_what_is_tried(monkeypatch):
    for least, expected in ((2, 2), (200, 200), (201, None)):
        monkeypatch.setattr(significance, "power", lambda gap, variance, s, n, least=least: 0.8 if s >= least else 0.79)
        assert significance.seeds_needed(0.1, Components(0, 0, 0), 100) == expected


def test_no_number_of_seeds_makes_up_for_a_small_test_split():
    assert significance.seeds_needed(0.003, Components(1e-6, 0.05, 0.1), 3634) is None
    assert significance.seeds_needed(0.003, Components(1e-6, 0.05, 0.1), 363400) is not None


def test_components_by_hand():
    d = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])  # mean squares 13.5, 6.5 and 1.5, as above
    found = significance.components(d)
    assert (found.seed, found.utterance, found.rest) == pytest.approx(((13.5 - 1.5) / 3, (6.5 - 1.5) / 2, 1.5))


def test_components_are_found_again(rng):
    d = 0.3 * rng.normal(size=(200, 1)) + 0.5 * rng.normal(size=(1, 300)) + 0.7 * rng.normal(size=(200, 300))
    found = significance.components(d)
    assert (found.seed, found.utterance, found.rest) == pytest.approx((0.09, 0.25, 0.49), rel=0.2)


@pytest.mark.parametrize("seeds", [3, 5])
def test_whole_procedure_keeps_its_promises(seeds):
    found = significance.simulate(seeds, 600, 18, 0.03, 100, np.random.default_rng(1))
    assert found["false positives"] <= 0.05
    assert 0.93 <= found["coverage"] <= 0.97
    assert found["power (Holm)"] <= found["power"]


def test_simulation_of_no_gap_and_of_a_wide_one():
    """One row without a gap: false positives and power are the same count. A gap of 0.4 is always seen."""
    none = significance.simulate(3, 200, 1, 0.0, 60, np.random.default_rng(0))
    assert none["false positives"] == none["power"] == none["power (Holm)"] < 0.1
    wide = significance.simulate(3, 5000, 2, 0.4, 30, np.random.default_rng(0))
    assert wide["power"] == wide["power (Holm)"] == 1 and 0.85 <= wide["coverage"] <= 1


def test_holm_rejects_what_statsmodels_rejects():
    rng = np.random.default_rng(0)
    for size in (1, 2, 18):
        for power in (0.3, 1, 4, 12):
            p = rng.uniform(size=size) ** power
            assert significance.holm_rejections(p) == multipletests(p, method="holm")[0].sum()
    assert significance.holm_rejections(np.zeros(5)) == 5 and significance.holm_rejections(np.ones(5)) == 0


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("acc2_nonzero", [1, 0, 0, 1, 1]),
        ("acc2", [1, 0, 1, 1, 1]),
        ("acc7", [1, 0, 0, 1, 1]),
        ("mae", [0.1, 0.6, 0.5, 2.0, 1.5]),
    ],
)
def test_contributions_by_hand(metric, expected):
    """Beyond the range, on either side of 0.5, a prediction of exactly 0 for a label of 0."""
    prediction, label = np.array([0.3, -0.2, 0.0, -5.0, 4.5]), np.array([0.4, 0.4, -0.5, -3.0, 3.0])
    if metric == "acc2":
        label[2], expected = 0.0, expected
    elif metric == "acc7":
        prediction, label = np.array([0.3, -0.2, 0.6, -5.0, 4.5]), np.array([0.4, 0.6, 0.4, -4.0, 3.6])
    elif metric == "acc2_nonzero":
        prediction, label = np.append(prediction, 0.1)[[0, 1, 5, 2, 3, 4]], np.array([0.4, 0.4, 0.0, 0.4, -3.0, 3.0])
    assert significance.contributions(metric, prediction, label).tolist() == pytest.approx(expected)
