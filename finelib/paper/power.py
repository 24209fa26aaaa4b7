"""How large a difference our seeds and test utterances can show, and what that says of the paper's gaps."""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from finelib.paper import ablations, printed
from finelib.paper.significance import LEVEL, contributions, mean_squares
from finelib.paper.table import Row
from finelib.runs import experiment
from finelib.runs.options import Options

POWER, MOST_SEEDS = 0.8, 200


class Components(NamedTuple):
    """Variances of one cell of the difference: between seeds, between utterances, and what is left."""

    seed: float
    utterance: float
    rest: float


def components(d: Float[np.ndarray, "S N"]) -> Components:
    """Variance components by the method of moments, none below 0."""
    seed, utterance, rest = (float(square) for square in mean_squares(d))
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


def paper_gaps(options: Options, utterances: int = 3634) -> pd.DataFrame:
    """How many seeds the paper's gaps in ACC-2 ask for, given the variances measured on our first Table 6 block.

    The variance between seeds, between utterances and the rest are medians over the rows of that block; a gap is
    found with 80 % power at 5 %, two-sided, without correction for the number of rows.

    Args:
        utterances: of the test split; 3,634 is CMU-MOSEI's without labels 0.
    """
    typical = _typical_components(options)
    accuracy = {name: percent["acc2_nonzero"] / 100 for name, percent in printed.by_name(6).items()}
    whole = accuracy.pop(ablations.FINE_ROW.name)
    lines = []
    for name, value in sorted(accuracy.items(), key=lambda item: item[1]):
        gap = whole - value
        needed = seeds_needed(gap, typical, utterances)
        line = {"row": name, "printed gap (points)": round(100 * gap, 2), "in samples": round(gap * utterances)}
        line |= {f"power, {seeds} seeds": round(power(gap, typical, seeds, utterances), 2) for seeds in (3, 5, 10)}
        line["seeds for 80 %"] = f"more than {MOST_SEEDS}" if needed is None else str(needed)
        lines.append(line)
    return pd.DataFrame(lines)


def _typical_components(options: Options) -> Components:
    """Medians over the rows of Table 6's first block of the variances of their ACC-2 minus FINE's."""
    specs = ablations.blocks(6, options)[0].specs(options.seed_list)
    right = {}
    for name, records in experiment.run_groups(specs, options.out, options.jobs, progress=False).items():
        arrays = [record.predictions() for record in records]
        right[name] = np.stack([contributions("acc2_nonzero", a["test"], a["test_label"]) for a in arrays])
    fine = right.pop(ablations.FINE_ROW.name)
    return Components(*np.median([components(x - fine) for x in right.values()], axis=0).tolist())


def order_of_subsets(rows: list[Row]) -> pd.DataFrame:
    """Every pair of Table 5's planted rows: which has the better oracle, and whether the measured intervals agree.

    "right" or "wrong" where the 95 % intervals of the two mean Corr do not overlap, else "open".
    """
    rows = [row for row in rows if "oracle Corr" in row.extra and row.measured["corr"]["low"] is not None]
    lines = []
    for a, b in combinations(sorted(rows, key=lambda row: float(row.extra["oracle Corr"])), 2):
        worse, better = a.measured["corr"], b.measured["corr"]
        verdict = "right" if worse["high"] < better["low"] else "wrong" if better["high"] < worse["low"] else "open"
        oracle = f"{b.extra['oracle Corr']}, {a.extra['oracle Corr']}"
        lines.append((b.name, a.name, oracle, f"{better['mean']:.3f}, {worse['mean']:.3f}", verdict))
    return pd.DataFrame(lines, columns=["better", "worse", "oracle Corr", "measured Corr", "verdict"])
