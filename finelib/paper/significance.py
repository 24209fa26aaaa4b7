"""Is one row better than another? Differences of systems that share seeds and test utterances.

Two things vary: the seed, and which utterances the test split happens to hold. An interval over seeds alone speaks
of this one test split; ``differences`` counts both, as crossed random effects.

With three seeds the variance between seeds is hardly known, and now and then its estimate is far too small. A family
of rows compared with one system shares what it knows: each row takes the family's mean, or its own estimate where
that is clearly larger. ``simulate`` shows what that does to false positives and to coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

# ---------------------------------------------------------------------------------------------- over seeds


@dataclass(frozen=True)
class Interval:
    """mean, sd (n - 1) and a confidence interval for the mean; sd, low and high are None for one value."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


def interval(values: list[float], level: float = 0.95) -> Interval:
    """Student's t interval over seeds: it speaks of the training recipe on this test set, seeds being what varies."""
    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, None, None, None, n)
    sd = float(values.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / np.sqrt(n)
    return Interval(mean, sd, mean - half, mean + half, n)


def paired(a: list[float], b: list[float], level: float = 0.95) -> tuple[Interval, float | None]:
    """Difference a - b of runs that share seeds: its t interval and the two-sided p of the paired t test.

    Raises:
        ValueError: if the two have not the same number of values.
    """
    if len(a) != len(b):
        raise ValueError(f"paired difference: found {len(a)} and {len(b)} values, expected the same seeds")
    difference = interval([x - y for x, y in zip(a, b, strict=True)], level)
    if difference.sd is None:
        return difference, None
    if difference.sd == 0:
        return difference, 1.0 if difference.mean == 0 else 0.0
    return difference, float(stats.ttest_rel(a, b).pvalue)


WILCOXON_SEEDS = 10
POWER, LEVEL, MOST_SEEDS = 0.8, 0.05, 200
OWN_COUNTS = 0.8  # quantile of the F distribution above which a row's own variance between seeds counts


@dataclass(frozen=True)
class Difference:
    """A system minus another, in one metric.

    Attributes:
        mean, low, high: the difference and its 95 % interval over seeds and utterances.
        p: two-sided, of the same t statistic.
        df: its degrees of freedom (Satterthwaite).
        seeds, utterances: how many of each.
        p_seeds: of the paired t test over seeds alone, which speaks of this test split only.
        wilcoxon: of the signed-rank test over seeds; None below ten seeds, where it cannot reach small p.
        mcnemar: accuracies only: the exact test of each seed, never pooled.
        p_holm: p after Holm's correction over the family of rows.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    df: float | None
    seeds: int
    utterances: int
    p_seeds: float | None
    wilcoxon: float | None
    mcnemar: tuple[float, ...] | None
    p_holm: float | None = None


def contributions(metric: str, prediction: Float[np.ndarray, "N"], label: Float[np.ndarray, "N"]) -> np.ndarray:
    """What each utterance adds to a metric, so that the mean over utterances is the metric.

    ACC-2 ("acc2_nonzero" without labels of 0, "acc2" with all, cut above 0), ACC-7 and MAE are means already. For
    Corr: r plus the influence of the utterance, z_p z_y - r (z_p^2 + z_y^2) / 2, whose mean is 0.

    Raises:
        ValueError: for another metric.
    """
    if metric == "acc2_nonzero":
        kept = label != 0
        return ((prediction[kept] > 0) == (label[kept] > 0)).astype(float)
    if metric == "acc2":
        return ((prediction > 0) == (label > 0)).astype(float)
    if metric == "acc7":
        return (np.round(prediction.clip(-3, 3)) == np.round(label.clip(-3, 3))).astype(float)
    if metric == "mae":
        return np.abs(prediction - label).astype(float)
    if metric == "corr":
        z_p, z_y = (
            np.zeros(len(x)) if np.ptp(x) == 0 else (x - x.mean()) / x.std()
            for x in (prediction.astype(float), label.astype(float))
        )
        r = (z_p * z_y).mean()
        return r + z_p * z_y - r / 2 * (z_p**2 + z_y**2)
    raise ValueError(f"metric {metric!r}: found no contributions, expected acc2_nonzero, acc2, acc7, mae or corr")


def differences(
    metric: str, systems: dict[str, list[np.ndarray]], other: list[np.ndarray], label: np.ndarray
) -> dict[str, Difference]:
    """Each system of a family minus the one ``other``; the i-th predictions of all come from the same seed.

    Args:
        systems: name -> test predictions (N,), one per seed; ``other``: the same of the one they are compared with.

    Raises:
        ValueError: if they have not the same number of seeds.
    """
    for name, runs in systems.items():
        if len(runs) != len(other) or not runs:
            raise ValueError(f"{name}: found {len(runs)} and {len(other)} runs, expected the same seeds for both")
    if not systems:
        return {}
    base = _stack(metric, other, label)
    of = {name: _stack(metric, runs, label) for name, runs in systems.items()}
    d = np.stack([of[name] - base for name in systems])
    pairwise = {
        name: [_mcnemar(x, y) for x, y in zip(of[name], base, strict=True)] if metric.startswith("acc") else None
        for name in systems
    }
    if len(other) < 2:
        nothing = dict.fromkeys(("low", "high", "p", "df", "p_seeds", "wilcoxon"))
        return {
            name: Difference(
                float(x.mean()),
                **nothing,
                seeds=1,
                utterances=x.shape[1],
                mcnemar=tuple(pairwise[name]) if pairwise[name] else None,
            )
            for name, x in zip(systems, d, strict=True)
        }
    found = family_intervals(d)
    p_holm = multipletests([p for *_, p, _ in found], method="holm")[1]
    return {
        name: Difference(
            *interval,
            *x.shape,
            p_seeds=_seeds_alone(x.mean(1), lambda v: stats.ttest_1samp(v, 0)),
            wilcoxon=_seeds_alone(x.mean(1), stats.wilcoxon) if len(x) >= WILCOXON_SEEDS else None,
            mcnemar=tuple(pairwise[name]) if pairwise[name] else None,
            p_holm=float(corrected),
        )
        for name, x, interval, corrected in zip(systems, d, found, p_holm, strict=True)
    }


def _stack(metric: str, predictions: list[np.ndarray], label: np.ndarray) -> Float[np.ndarray, "S N"]:
    return np.stack([contributions(metric, x, label) for x in predictions])


def _seeds_alone(by_seed: np.ndarray, test: Callable) -> float:
    """p of a test of one difference per seed; equal differences leave no doubt."""
    return float(by_seed[0] == 0) if np.ptp(by_seed) == 0 else float(test(by_seed).pvalue)


def family_intervals(d: Float[np.ndarray, "K S N"]) -> list[tuple[float, float, float, float, float]]:
    """``crossed_interval`` of every row of a family, which share what is known of the variance between seeds."""
    pooled = float(np.mean([mean_squares(x)[0] for x in d]))
    return [crossed_interval(x, pooled, len(d)) for x in d]


def crossed_interval(
    d: Float[np.ndarray, "S N"], family_seed: float = 0.0, rows: int = 1, level: float = 1 - LEVEL
) -> tuple[float, float, float, float, float]:
    """Mean, interval, two-sided p (mean 0) and degrees of freedom, with seeds and utterances as crossed random effects.

    The variance of the grand mean is (MS_seed + MS_utterance - MS_rest) / (S N), but never less than what either
    effect gives alone; degrees of freedom by Satterthwaite.

    Args:
        family_seed, rows: mean MS_seed of a family of rows, and their number; the own MS_seed counts only where it
            is above the OWN_COUNTS quantile of what it would be in a family of equals. Two rows share the runs of
            the system they are compared with, so that their MS correlate by 1/4 and ``rows`` of them have
            (S - 1) rows / (1 + (rows - 1) / 4) degrees of freedom.
    """
    seed, utterance, rest = mean_squares(d)
    (n_seeds, n_utterances), mean = d.shape, float(d.mean())
    df_seed = (n_seeds - 1) * rows / (1 + (rows - 1) / 4)
    seed = seed if seed > stats.f.ppf(OWN_COUNTS, n_seeds - 1, df_seed) * family_seed else family_seed
    total = max(seed + utterance - rest, seed, utterance)
    if total == 0:
        return mean, mean, mean, float(mean == 0), float("inf")
    spread = seed**2 / df_seed + utterance**2 / (n_utterances - 1)
    spread += rest**2 / ((n_seeds - 1) * (n_utterances - 1))
    df, error = total**2 / spread, np.sqrt(total / d.size)
    half = stats.t.ppf(0.5 + level / 2, df) * error
    p = 2 * stats.t.sf(abs(mean) / error, df)
    return mean, float(mean - half), float(mean + half), float(p), float(df)


def mean_squares(d: Float[np.ndarray, "S N"]) -> tuple[float, float, float]:
    """MS of seeds, of utterances and of the rest in the two-way layout with one value per cell."""
    rows, columns, mean = d.mean(1, keepdims=True), d.mean(0, keepdims=True), d.mean()
    n_seeds, n_utterances = d.shape
    rest = ((d - rows - columns + mean) ** 2).sum() / ((n_seeds - 1) * (n_utterances - 1))
    return float(n_utterances * rows.var(ddof=1)), float(n_seeds * columns.var(ddof=1)), float(rest)


def _mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact McNemar p of one pair of runs; a and b are 1 where right."""
    table = [[int(((a == i) & (b == j)).sum()) for j in (1, 0)] for i in (1, 0)]
    return float(mcnemar(table, exact=True).pvalue)


# --------------------------------------------------------------------------------------------------- power


@dataclass(frozen=True)
class Components:
    """Variances of one cell of the difference: between seeds, between utterances, and what is left."""

    seed: float
    utterance: float
    rest: float


def components(d: Float[np.ndarray, "S N"]) -> Components:
    """Variance components by the method of moments, none below 0."""
    seed, utterance, rest = mean_squares(d)
    n_seeds, n_utterances = d.shape
    return Components(max(0.0, (seed - rest) / n_utterances), max(0.0, (utterance - rest) / n_seeds), rest)


def power(gap: float, variance: Components, seeds: int, utterances: int) -> float:
    """Probability that a true difference ``gap`` is called significant at 5 %, two-sided, one comparison."""
    seed = variance.rest + utterances * variance.seed
    utterance = variance.rest + seeds * variance.utterance
    total = seed + utterance - variance.rest
    if total == 0:
        return float(gap != 0)
    df = total**2 / (seed**2 / (seeds - 1) + utterance**2 / (utterances - 1))
    shift, edge = gap / np.sqrt(total / (seeds * utterances)), stats.t.ppf(1 - LEVEL / 2, df)
    above, below = stats.nct.sf(edge, df, shift), stats.nct.cdf(-edge, df, shift)
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below))  # scipy gives NaN where the tail is all there is


def seeds_needed(gap: float, variance: Components, utterances: int) -> int | None:
    """Fewest seeds that see a gap with 80 % power; None if 200 do not: then the test split is too small for it."""
    return next((s for s in range(2, MOST_SEEDS + 1) if power(gap, variance, s, utterances) >= POWER), None)


def holm_rejections(p: Float[np.ndarray, "R"]) -> int:
    """How many of the p values Holm's procedure rejects: from the smallest up, until one is over LEVEL / (those left).

    statsmodels, which corrects the tables' p values, runs Python's garbage collection at every call: too slow here.
    """
    over = np.sort(p) > LEVEL / (len(p) - np.arange(len(p)))
    return int(over.argmax()) if over.any() else len(p)


def simulate(
    seeds: int,
    utterances: int,
    rows: int,
    gap: float,
    repeats: int,
    rng: np.random.Generator,
    seed_sd: float = 0.08,
    item_sd: float = 0.35,
) -> dict[str, float]:
    """The whole procedure on made-up right-or-wrong answers with a known truth.

    Every system answers an utterance right if its difficulty (shared by all), the system's own trouble with it, the
    seed's luck and the run's luck with it add up to more than 0; on average 80 to 85 % of answers are right. In
    each repeat ``rows`` systems are compared with one more, once all equally good, once all worse by ``gap``.

    Returns:
        "false positives": share of repeats in which any of the equally good rows is called different after Holm;
        "coverage": share of 95 % intervals that hold the true difference; "power": share of worse rows that are
        found, one comparison at a time, and "power (Holm)" after correction.
    """
    noise = np.sqrt(item_sd**2 + seed_sd**2 + item_sd**2 + 1)
    centre = noise * stats.norm.ppf(0.83)
    worse = noise * stats.norm.ppf(0.83 - gap)
    count = {"false positives": 0, "coverage": 0, "power": 0, "power (Holm)": 0}
    for _ in range(repeats):
        shared, own, luck, chance = (
            rng.standard_normal(shape, dtype=np.float32)
            for shape in ((utterances,), (rows + 1, 1, utterances), (rows + 1, seeds, 1), (rows + 1, seeds, utterances))
        )
        latent = shared + item_sd * own + seed_sd * luck + item_sd * chance
        for name, level in (("equal", centre), ("worse", worse)):
            right = latent + level > 0
            found = family_intervals(right[1:].astype(float) - (latent[0] + centre > 0))
            truth = 0.0 if name == "equal" else -gap
            p = np.array([x[3] for x in found])
            count["coverage"] += np.mean([low <= truth <= high for _, low, high, *_ in found]) / 2
            if name == "equal":
                count["false positives"] += p.min() <= LEVEL / rows  # Holm's first step decides whether any is rejected
            else:
                count["power"] += np.mean(p < LEVEL)
                count["power (Holm)"] += holm_rejections(p) / rows
    return {name: float(value / repeats) for name, value in count.items()}
