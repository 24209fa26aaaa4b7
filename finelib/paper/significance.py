"""Is one row better than another? Differences between systems that were scored on the same test utterances.

Two things vary: the seed of a run, and which utterances the test split happens to hold. An interval over seeds alone
speaks of this one test split. ``differences`` counts both as random effects: seeds are nested in systems and crossed
with utterances, and a sum of mean squares has Satterthwaite's (1946) degrees of freedom.

Three seeds hardly tell the variance between seeds, so each row's mean square is moderated with its family's (Smyth
2004, Stat. Appl. Genet. Mol. Biol. 3(1):3): (d0 s0^2 + d s^2) / (d0 + d) with d0 + d degrees of freedom, where s^2 is
the row's own with d = S - 1. Three choices are ours. The prior's s0^2 is the mean over the rows. Its d0 is fixed at 2:
estimated from rows of three seeds, it is infinite in half of all families, and a row whose seeds vary much is then
called different too often. FINE, or whichever system all rows are compared with, keeps its own mean square, because an
error in it would move all rows at once. ``simulate`` counts false positives and coverage.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests


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
LEVEL = 0.05
PRIOR_DF = 2.0  # d0: what the family's mean square weighs, in degrees of freedom


@dataclass(frozen=True)
class Difference:
    """A system minus another, in one metric.

    Attributes:
        mean, low, high: the difference and its 95 % interval over seeds and utterances.
        p: two-sided, of the same moderated t statistic.
        df: its degrees of freedom (Satterthwaite); None where nothing varies and the difference is certain.
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
        return contributions("acc2", prediction[label != 0], label[label != 0])
    if metric == "acc2":
        return ((prediction > 0) == (label > 0)).astype(float)
    if metric == "acc7":
        return (np.round(prediction.clip(-3, 3)) == np.round(label.clip(-3, 3))).astype(float)
    if metric == "mae":
        return np.abs(prediction - label).astype(float)
    if metric == "corr":
        columns = (prediction.astype(float), label.astype(float))
        z_p, z_y = (np.zeros(len(x)) if np.ptp(x) == 0 else (x - x.mean()) / x.std() for x in columns)
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
    scored = {name: _stack(metric, runs, label) for name, runs in systems.items()}
    by_seed = {name: (x - base).mean(1) for name, x in scored.items()}
    exact = {name: _mcnemar(x, base) if metric.startswith("acc") else None for name, x in scored.items()}
    sizes = n_seeds, _ = base.shape
    if n_seeds < 2:
        none = (None,) * 4  # no interval, p or df without a second seed
        return {
            name: Difference(float(d.mean()), *none, *sizes, None, None, exact[name]) for name, d in by_seed.items()
        }
    found = family_intervals(np.stack(list(scored.values())), base)
    p_holm = holm(found.p)
    out = {}
    for row, (name, d) in enumerate(by_seed.items()):
        p_seeds = _seeds_alone(d, lambda v: stats.ttest_1samp(v, 0))
        wilcoxon = _seeds_alone(d, stats.wilcoxon) if n_seeds >= WILCOXON_SEEDS else None
        *moderated_test, df = (float(values[row]) for values in found)
        df = df if isfinite(df) else None
        out[name] = Difference(*moderated_test, df, *sizes, p_seeds, wilcoxon, exact[name], float(p_holm[row]))
    return out


def _stack(metric: str, predictions: list[np.ndarray], label: np.ndarray) -> Float[np.ndarray, "S N"]:
    return np.stack([contributions(metric, x, label) for x in predictions])


def _seeds_alone(by_seed: np.ndarray, test: Callable) -> float:
    """p of a test of one difference per seed; equal differences leave no doubt."""
    return float(by_seed[0] == 0) if np.ptp(by_seed) == 0 else float(test(by_seed).pvalue)


class Intervals(NamedTuple):
    """Of each row of a family: the difference, its interval, its two-sided p (difference 0), degrees of freedom."""

    mean: Float[np.ndarray, "K"]
    low: Float[np.ndarray, "K"]
    high: Float[np.ndarray, "K"]
    p: Float[np.ndarray, "K"]
    df: Float[np.ndarray, "K"]


def family_intervals(
    systems: Float[np.ndarray, "K S N"], other: Float[np.ndarray, "S N"], level: float = 1 - LEVEL
) -> Intervals:
    """Each system minus the one ``other``, with seeds nested in systems and crossed with utterances.

    The variance of a difference is (MS_seed + MS_seed' + MS_utterance - MS_rest - MS_rest') / (S N), where ' marks the
    other system and MS_utterance is that of the difference; it is never less than seeds or utterances give alone.
    """
    n_seeds, n_utterances = other.shape
    difference = systems.mean(1) - other.mean(0)  # (K, N)
    mean = difference.mean(1)
    utterance = n_seeds * difference.var(1, ddof=1)
    own_seed, _, own_rest = mean_squares(systems)
    other_seed, _, other_rest = mean_squares(other)
    seed, df_seed = moderated(own_seed, n_seeds - 1)

    total = seed + other_seed + np.maximum(utterance - own_rest - other_rest, 0)
    total = np.maximum(total, utterance)
    spread = seed**2 / df_seed + other_seed**2 / (n_seeds - 1) + utterance**2 / (n_utterances - 1)
    spread += (own_rest**2 + other_rest**2) / ((n_seeds - 1) * (n_utterances - 1))
    with np.errstate(divide="ignore", invalid="ignore"):  # without any variance a difference is certain
        df = np.where(total > 0, total**2 / spread, np.inf)
        error = np.sqrt(total / (n_seeds * n_utterances))
        p = np.where(total > 0, 2 * stats.t.sf(np.abs(mean) / error, df), mean == 0)
    half = stats.t.ppf(0.5 + level / 2, df) * error
    return Intervals(mean, mean - half, mean + half, p, df)


def moderated(mean_square: Float[np.ndarray, "K"], df: float) -> tuple[Float[np.ndarray, "K"], float]:
    """Smyth's posterior mean squares of a family with the prior ``PRIOR_DF`` and the family's mean, and their df.

    A family cannot know more than all its rows together: like limma's, the df are at most K ``df``. One row alone
    keeps its own.
    """
    prior = mean_square.mean()
    return (PRIOR_DF * prior + df * mean_square) / (PRIOR_DF + df), min(PRIOR_DF + df, len(mean_square) * df)


def mean_squares(x: Float[np.ndarray, "*K S N"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MS of seeds, of utterances and of the rest in the two-way layout with one value per cell."""
    by_seed, by_utterance = x.mean(-1, keepdims=True), x.mean(-2, keepdims=True)
    n_seeds, n_utterances = x.shape[-2:]
    left = x - by_seed - by_utterance + x.mean((-2, -1), keepdims=True)
    rest = (left**2).sum((-2, -1)) / ((n_seeds - 1) * (n_utterances - 1))
    seed = n_utterances * by_seed[..., 0].var(-1, ddof=1)
    utterance = n_seeds * by_utterance[..., 0, :].var(-1, ddof=1)
    return seed, utterance, rest


def holm(p: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
    """Holm's correction by statsmodels, which looks for garbage at every call: not in what is there already."""
    gc.freeze()
    try:
        return multipletests(p, method="holm")[1]
    finally:
        gc.unfreeze()


def _mcnemar(a: Float[np.ndarray, "S N"], b: Float[np.ndarray, "S N"]) -> tuple[float, ...]:
    """Exact McNemar p of each seed's pair of runs; a and b are 1 where right."""
    tables = [[[int(((x == i) & (y == j)).sum()) for j in (1, 0)] for i in (1, 0)] for x, y in zip(a, b, strict=True)]
    return tuple(float(mcnemar(table, exact=True).pvalue) for table in tables)


# ---------------------------------------------------------------------------------------------- simulation


def holm_rejections(p: Float[np.ndarray, "R"]) -> int:
    """How many of the p values Holm's procedure rejects: from the smallest up, until one is over LEVEL / (those left).

    For ``simulate`` alone: statsmodels' ``multipletests``, which corrects the tables' p values, is too slow for it.
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
    first_row: float = 1.0,
) -> dict[str, float]:
    """The whole procedure on made-up right-or-wrong answers with a known truth.

    Every system answers an utterance right if its difficulty (shared by all), the system's own trouble with it, the
    seed's luck and the run's luck with it add up to more than 0; on average 80 to 85 % of answers are right. In
    each repeat ``rows`` systems are compared with one more, once all equally good, once all worse by ``gap``. The
    seeds of the first row vary ``first_row`` times as much as the others'.

    Returns:
        "false positives": share of repeats in which any of the equally good rows is called different after Holm;
        "coverage": share of 95 % intervals that hold the true difference; "power": share of worse rows that are
        found, one comparison at a time, and "power (Holm)" after correction.
    """
    seed_sds = np.full((rows + 1, 1, 1), seed_sd, dtype=np.float32)  # the last system is the one compared with
    seed_sds[0] *= first_row
    noise = np.sqrt(item_sd**2 + seed_sds**2 + item_sd**2 + 1)
    right_at, worse_at = (noise * np.float32(stats.norm.ppf(share)) for share in (0.83, 0.83 - gap))
    count = {"false positives": 0, "coverage": 0, "power": 0, "power (Holm)": 0}
    for _ in range(repeats):
        shared, own, luck, chance = (
            rng.standard_normal(shape, dtype=np.float32)
            for shape in ((utterances,), (rows + 1, 1, utterances), (rows + 1, seeds, 1), (rows + 1, seeds, utterances))
        )
        latent = shared + item_sd * own + seed_sds * luck + item_sd * chance
        other = (latent[-1] + right_at[-1] > 0).astype(float)
        for level, truth in ((right_at, 0.0), (worse_at, -gap)):
            found = family_intervals((latent[:-1] + level[:-1] > 0).astype(float), other)
            count["coverage"] += np.mean((found.low <= truth) & (truth <= found.high)) / 2
            if level is right_at:
                count["false positives"] += found.p.min() <= LEVEL / rows  # Holm's first step
            else:
                count["power"] += np.mean(found.p < LEVEL)
                count["power (Holm)"] += holm_rejections(found.p) / rows
    return {name: float(value / repeats) for name, value in count.items()}
