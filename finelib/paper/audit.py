"""What the printed numbers and the sizes of the test splits say by themselves: arithmetic, nothing is trained.

An accuracy of one run on n utterances is k/n for a whole number k, so a percentage that no k gives within half a unit
of its last printed digit (it is *off the lattice* of n) is not that. A mean over runs, another test file, truncation in
place of rounding, or a typing error explain it as well as anything else; and a number may be on the lattice by chance.
"""

import math

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from finelib.paper import printed
from finelib.paper.printed import COLUMNS, splits

AGREE = 0.9  # share of utterances on which two methods are right or wrong together, in the middle of what is possible
TELLS = 0.9  # chance level above which the lattice test says nothing
ON, OFF, SILENT = "on the lattice", "off the lattice", "cannot tell"


def printed_accuracies(table: int) -> list[tuple[str, dict[str, str]]]:
    """(row, metric -> percentage as printed, with its digits) for the accuracies of a table."""
    return [(row.name, {m: t for m, t in row.text.items() if m.startswith("acc")}) for row in printed.rows(table)]


# ------------------------------------------------------------------------------------------------- lattice


def lattice_count(text: str, n: int) -> int | None:
    """The whole number k with 100 k / n = ``text`` to its printed digits, ties admitted both ways; None without one.

    In whole numbers: with V the printed digits and M = 100 x 10^decimals, |k M - V n| <= n / 2.
    """
    digits, scale = _digits(text)
    k = round(digits * n / scale)
    return k if 2 * abs(k * scale - digits * n) <= n else None


def chance(decimals: int, n: int) -> float:
    """Share of all percentages with so many decimals that are on the lattice of n."""
    scale = 100 * 10**decimals
    rest = np.arange(scale + 1) * n % scale
    return float((2 * np.minimum(rest, scale - rest) <= n).mean())


def lattice() -> pd.DataFrame:
    """Every printed accuracy against the lattice of its test split."""
    lines = [
        _lattice_line(table, row, metric, text, n, split)
        for table in COLUMNS
        for row, accuracies in printed_accuracies(table)
        for metric, text in accuracies.items()
        for n, split in splits(table, metric).items()
    ]
    return pd.DataFrame(lines)


def _lattice_line(table: int, row: str, metric: str, text: str, n: int, split: str) -> dict:
    k, by_chance = lattice_count(text, n), chance(_decimals(text), n)
    digits, scale = _digits(text)
    nearest = round(digits * n / scale)
    verdict = SILENT if by_chance > TELLS else OFF if k is None else ON
    where = {"table": table, "row": row, "metric": COLUMNS[table][metric], "printed": text, "n": n, "split": split}
    found = {"k": k, "nearest": f"{nearest}/{n} = {100 * nearest / n:.3f}", "chance": by_chance, "verdict": verdict}
    return where | found | {f"mean of {r}": lattice_count(text, r * n) is not None for r in (3, 5)}


def lattice_summary(cells: pd.DataFrame) -> pd.DataFrame:
    """By table, column and split: cells that can tell, how many of them are on the lattice, and the probability of as
    many or more if the digits were any."""
    told = cells[cells.verdict != SILENT]
    by_column, lines = ["table", "metric", "split"], []
    for where, group in told.groupby(by_column, sort=False):
        hits, by_chance = int((group.verdict == ON).sum()), group.chance.mean()
        line = {"cells": len(group), "on the lattice": hits, "by chance": round(by_chance, 3)}
        line["p of as many by chance"] = float(stats.binom.sf(hits - 1, len(group), by_chance))
        lines.append(dict(zip(by_column, where, strict=True)) | line)
    return pd.DataFrame(lines)


def false_alarms(draws: int, seed: int = 0) -> pd.DataFrame:
    """How often the test says "off" of simulated two-decimal percentages, with 95 % Wilson intervals.

    Of one honest run; of the mean over 3 or 5; of one run on 3 utterances fewer than thought; and of digits made up at
    random, where "off" is what the test should say.
    """
    rng, lines = np.random.default_rng(seed), []
    sizes = {n for table in COLUMNS for m in COLUMNS[table] if m.startswith("acc") for n in splits(table, m)}
    for n in sorted(sizes):
        p = rng.uniform(0.4, 0.9, draws)
        kinds = {"one run": rng.binomial(n, p) / n}
        kinds |= {f"mean of {r} runs": rng.binomial(n, p[:, None], (draws, r)).mean(1) / n for r in (3, 5)}
        kinds |= {"3 utterances fewer": rng.binomial(n - 3, p) / (n - 3), "digits at random": p}
        for kind, values in kinds.items():
            off = sum(lattice_count(f"{100 * value:.2f}", n) is None for value in values)
            low, high = proportion_confint(off, draws, method="wilson")
            lines.append({"n": n, "what": kind, "off": off / draws, "low": low, "high": high})
    return pd.DataFrame(lines)


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _digits(text: str) -> tuple[int, int]:
    """Printed digits as a whole number, and 100 % in the same unit."""
    return int(text.replace(".", "")), 100 * 10 ** _decimals(text)


# ----------------------------------------------------------------------------------------- sampling error


def standard_error(p: float, n: int) -> float:
    """Of one accuracy: sqrt(p (1 - p) / n)."""
    return math.sqrt(p * (1 - p) / n)


def gap_errors(p: float, q: float, n: int) -> tuple[float, float]:
    """Standard error of p - q on the same n utterances: at the least disagreement that the gap allows, and for
    independent errors.

    With b and c the shares that only one of the two gets right, b - c = p - q and the variance is
    (b + c - (b - c)^2) / n. How often the two disagree, b + c, is not printed; it is at least |p - q|.
    """
    gap = abs(p - q)
    return math.sqrt((gap - gap**2) / n), math.hypot(standard_error(p, n), standard_error(q, n))


def middle_error(p: float, q: float, n: int) -> float:
    """The same if the two agree on ``AGREE`` of the utterances, or as close to that as the gap allows."""
    disagree = max(1 - AGREE, abs(p - q))
    return math.sqrt((disagree - (p - q) ** 2) / n)


def gaps() -> pd.DataFrame:
    """Each row's gap to FINE (the last row) in points, utterances and standard errors, and the power to find it.

    Power: of a two-sided paired test at 5 % with one run each, by the normal approximation; the variance between seeds
    was not printed and is left out, so the true power is lower.
    """
    lines = []
    for table in COLUMNS:
        *others, (_, fine) = printed_accuracies(table)
        for metric, text in fine.items():
            q, n = float(text) / 100, min(splits(table, metric))
            lines += [_gap_line(table, row, metric, q, float(values[metric]) / 100, n) for row, values in others]
    return pd.DataFrame(lines)


def _gap_line(table: int, row: str, metric: str, fine: float, other: float, n: int) -> dict:
    gap = fine - other
    (least, most), middle = gap_errors(fine, other, n), middle_error(fine, other, n)
    line = {"table": table, "row": row, "metric": COLUMNS[table][metric], "gap": 100 * gap, "utterances": gap * n}
    line |= {"s.e. least": 100 * least, "s.e. middle": 100 * middle, "s.e. most": 100 * most, "in s.e.": gap / middle}
    line |= {"power": power(gap, middle), "power if independent": power(gap, most)}
    return line | {"found with 80 %": 100 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * middle}


def power(gap: float, error: float) -> float:
    """Probability that a two-sided test at 5 % finds a true gap whose estimate has this standard error."""
    bound, shift = stats.norm.ppf(0.975), abs(gap) / error
    return float(stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift))
