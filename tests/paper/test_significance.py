"""The comparison of rows against hand-worked cases, scipy, statsmodels and simulation."""

import gc
import weakref

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from finelib import metrics
from finelib.paper import significance
from finelib.paper.significance import contributions, differences, family_intervals, mean_squares, moderated


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


CELLS = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])
# means: rows 2, 5; columns 2, 3, 5.5; all 3.5. Rest: residuals +-.5, +-.5, -+1
SQUARES = (3 * 2 * 1.5**2, 2 * (1.5**2 + 0.5**2 + 2**2) / 2, 2 * (0.25 + 0.25 + 1) / 2)  # 13.5, 6.5, 1.5


def test_mean_squares_by_hand():
    assert mean_squares(CELLS) == pytest.approx(SQUARES)
    of_two = mean_squares(np.stack([CELLS, 2 * CELLS]))
    assert np.stack(of_two, 1) == pytest.approx(np.outer([1, 4], SQUARES))


def test_mean_squares_as_statsmodels_finds_them(rng):
    d = rng.normal(size=(4, 12)) + rng.normal(size=(4, 1)) + rng.normal(size=(1, 12))
    seed, item = (a.ravel() for a in np.indices(d.shape))
    cells = pd.DataFrame({"d": d.ravel(), "seed": seed, "item": item})
    table = sm.stats.anova_lm(ols("d ~ C(seed) + C(item)", cells).fit())
    assert mean_squares(d) == pytest.approx(tuple(table["sum_sq"] / table["df"]))


def one(a, b):
    """mean, low, high, p and df of one system minus another, a family of one row."""
    return [float(values[0]) for values in family_intervals(a[None], b)]


def test_without_variance_between_utterances_it_is_welch_s_t_test_over_seeds(rng):
    a, b = rng.normal(0.3, 1, size=5), rng.normal(0, 3, size=5)
    test = stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval()
    expected = (a.mean() - b.mean(), interval.low, interval.high, test.pvalue, test.df)
    assert one(np.repeat(a[:, None], 40, 1), np.repeat(b[:, None], 40, 1)) == pytest.approx(expected)


def test_without_variance_between_seeds_it_is_the_paired_t_test_over_utterances(rng):
    a, b = rng.normal(0.3, 1, size=60), rng.normal(0, 1, size=60)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval()
    _, *found = one(np.repeat(a[None], 3, 0), np.repeat(b[None], 3, 0))
    assert found == pytest.approx((interval.low, interval.high, test.pvalue, 59))


def test_a_difference_by_hand():
    """The other system has the cells 0, 0, 0 and 2, 0, 1: mean squares 1.5 of seeds and .5 of the rest, mean .5.

    The difference of the means over seeds is 1, 3, 5, so that MS_utterance is 2 * 4 = 8.
    """
    other = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 1.0]])
    seed, other_seed, utterance, rest, other_rest = 13.5, 1.5, 8.0, 1.5, 0.5
    total = seed + other_seed + utterance - rest - other_rest
    df = total**2 / (seed**2 / 1 + other_seed**2 / 1 + utterance**2 / 2 + (rest**2 + other_rest**2) / 2)
    error = (total / 6) ** 0.5
    half = stats.t.ppf(0.975, df) * error
    assert one(CELLS, other) == pytest.approx((3, 3 - half, 3 + half, 2 * stats.t.cdf(-3 / error, df), df))


@pytest.mark.parametrize("transposed", [False, True])
def test_the_variance_of_the_mean_is_never_less_than_what_one_effect_gives(transposed):
    d = np.array([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]])  # means: rows 2, 5; columns all 3.5. MS 13.5, 0 and 2
    d = d.T if transposed else d
    mean, low, high, *_, df = one(d, np.zeros(d.shape))
    assert df == pytest.approx(13.5**2 / (13.5**2 / 1 + 2**2 / 2))
    assert high - mean == mean - low == pytest.approx(stats.t.ppf(0.975, df) * (13.5 / 6) ** 0.5)


# ------------------------------------------------------------------------- the variance between seeds, moderated


def test_moderated_mean_squares_by_smyth_s_formula():
    """(d0 s0^2 + d s^2) / (d0 + d) with d0 = 2 and s0^2 = (1 + 2 + 9) / 3 = 4: of three seeds, d = 2, the middle."""
    found, df = moderated(np.array([1.0, 2.0, 9.0]), 2)
    assert found == pytest.approx([2.5, 3, 6.5]) and df == 4
    found, df = moderated(np.array([1.0, 2.0, 9.0]), 8)  # of nine seeds, four fifths are the row's own
    assert found == pytest.approx([1.6, 2.4, 8]) and df == 10


def test_a_family_with_equal_variances_keeps_them_and_is_surer_of_them():
    found, df = moderated(np.full(5, 3.0), 2)
    assert found == pytest.approx(3.0) and df == 4


@pytest.mark.parametrize(("rows", "df"), [(1, 2), (2, 4), (3, 4)])
def test_a_family_knows_no_more_than_all_its_rows(rows, df):
    found, known = moderated(np.arange(1.0, rows + 1), 2)
    assert known == df and found.mean() == pytest.approx((rows + 1) / 2)


def test_moderated_t_is_calibrated_where_its_prior_is_true(rng):
    """Variances drawn from the prior s0^2 d0 / chi^2(d0), known means of 0: p of the moderated t is uniform."""
    d0, d, rows = significance.PRIOR_DF, 2, 200_000
    variance = d0 / rng.chisquare(d0, rows)
    square = variance * rng.chisquare(d, rows) / d
    posterior = (d0 * 1.0 + d * square) / (d0 + d)
    t = rng.normal(size=rows) * np.sqrt(variance / posterior)
    p = 2 * stats.t.sf(np.abs(t), d0 + d)
    for level in (0.001, 0.05, 0.5):
        assert np.mean(p < level) == pytest.approx(level, rel=0.12)
    mixed, df = moderated(square, d)  # the same formula, with the family's mean in the place of the true s0^2
    assert df == d0 + d and mixed == pytest.approx(posterior + d0 * (square.mean() - 1) / (d0 + d))


def test_a_family_lends_its_variance_between_seeds_to_rows_that_look_too_calm(rng):
    calm, wild = rng.normal(size=(1, 50)) + np.zeros((3, 1)), rng.normal(size=(1, 50)) + 3 * rng.normal(size=(3, 1))
    other = rng.normal(size=(3, 50))
    _, low, high, *_ = one(calm, other)
    family = family_intervals(np.stack([calm, wild]), other)
    assert family.high[0] - family.low[0] > 2 * (high - low)


def test_a_family_gives_degrees_of_freedom_to_its_rows_and_none_to_the_system_compared_with(rng):
    """Seeds alone vary: Satterthwaite's df of a moderated square with 4 df plus an own one with 2."""
    rows, other = rng.normal(size=(5, 3)), rng.normal(size=3)
    found = family_intervals(np.repeat(rows[..., None], 10, 2), np.repeat(other[:, None], 10, 1))
    own, base = rows.var(1, ddof=1), other.var(ddof=1)
    seed = (own + own.mean()) / 2
    assert found.df == pytest.approx((seed + base) ** 2 / (seed**2 / 4 + base**2 / 2))
    half = stats.t.ppf(0.975, found.df) * np.sqrt((seed + base) / 3)
    assert found.high - found.mean == pytest.approx(half)


def test_the_system_compared_with_keeps_its_own_variance_between_seeds(rng):
    """It enters every row alike: a wild one widens all intervals by the whole of its mean square."""
    systems, calm = rng.normal(size=(4, 3, 50)), rng.normal(size=(3, 50))
    wild = calm + np.array([[-5.0], [0.0], [5.0]])
    added = (mean_squares(wild)[0] - mean_squares(calm)[0]) / 150
    widths = []
    for other in (calm, wild):
        found = family_intervals(systems, other)
        widths.append(((found.high - found.mean) / stats.t.ppf(0.975, found.df)) ** 2)
    assert widths[1] - widths[0] == pytest.approx(added, abs=0.02)


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


def test_differences_without_any_variance_leave_no_doubt():
    label, runs = np.zeros(4), [np.array([0.25, 0.5, 1.0, 2.0])] * 2
    found = differences("mae", {"same": runs, "one off": [x + 1 for x in runs]}, runs, label)
    assert (found["same"].mean, found["same"].p_seeds, found["same"].p) == (0, 1, 1)
    assert (found["one off"].mean, found["one off"].p_seeds, found["one off"].p) == (1, 0, 0)
    assert found["same"].df is None  # infinity is no JSON


def test_of_the_tests_only_the_one_over_seeds_pairs_them():
    """Each seed lifts both systems alike: no doubt over seeds alone, where ``p`` takes other seeds to be others."""
    label, runs = np.zeros(4), [np.array([0.25, 0.5, 1.0, 2.0]), np.array([0.5, 0.5, 1.0, 1.0])]
    found = differences("mae", {"one off": [x + 1 for x in runs]}, runs, label)["one off"]
    assert found.mean == 1 and found.p_seeds == 0 < found.p


def test_contributions_to_corr_of_a_constant_and_of_a_spread_of_1():
    label = np.array([0.0, 1.0, -2.0, 3.0])
    assert contributions("corr", np.full(4, 0.3), label).tolist() == [0, 0, 0, 0]
    prediction = np.array([0.0, 1.0, 0.5, 0.5])
    assert contributions("corr", prediction, label).mean() == pytest.approx(stats.pearsonr(prediction, label).statistic)


def test_rows_without_the_same_seeds_are_refused(rng):
    worse, runs, label = predictions(rng, 3)
    with pytest.raises(ValueError, match="found 2 and 3 runs"):
        differences("mae", {"worse": worse[:2]}, runs, label)


@pytest.mark.parametrize("first_row", [1.0, 3.0])
@pytest.mark.parametrize("seeds", [3, 5])
def test_whole_procedure_keeps_its_promises(seeds, first_row):
    """Also where the seeds of one row vary three times as much. Of 100 families 5 may be wrong, give or take 2."""
    found = significance.simulate(seeds, 600, 9, 0.03, 100, np.random.default_rng(1), first_row=first_row)
    assert found["false positives"] <= 0.09
    assert 0.93 <= found["coverage"] <= 0.98
    assert 0 < found["power (Holm)"] < found["power"]


def test_one_row_alone_keeps_its_promises_too():
    found = significance.simulate(3, 300, 1, 0.03, 800, np.random.default_rng(1))
    assert found["false positives"] <= 0.066 and 0.935 <= found["coverage"] <= 0.965


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


def test_holm_is_statsmodels_and_does_not_look_for_garbage_in_what_is_there():
    class Circle:
        pass

    circle = Circle()
    circle.itself, seen = circle, weakref.ref(circle)
    gc.disable()
    try:
        del circle
        p = np.array([0.01, 0.04, 0.03])
        assert significance.holm(p).tolist() == pytest.approx([0.03, 0.06, 0.06]) and seen() is not None
        gc.collect()  # everything is looked at again
        assert seen() is None
    finally:
        gc.enable()


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
