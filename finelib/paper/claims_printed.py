"""What the paper's printed tables say about its claims: rules that give a verdict from the printed numbers alone.

Printed numbers have no spread: a rule compares them as they stand, or counts the accident of the test utterances as far
as it can be known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from finelib.paper import ablations, audit, tables
from finelib.paper.table import COLUMNS
from finelib.paper.tables import printed_rows as read_printed

HOLDS, DOES_NOT, OPEN, NOT_RUN = VERDICTS = ("holds", "does not hold", "cannot be told", "not run")
SUBSETS = [row.name for row in ablations.MODALITY_ROWS]


@dataclass(frozen=True)
class Verdict:
    """What a rule found: one of ``VERDICTS``, a sentence with the numbers, and the runs behind it.

    Attributes:
        value, low, high: the number that decided and its 95 % interval, where there is one.
    """

    verdict: str
    says: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    runs: tuple[str, ...] = ()


def best(tables: list[int], metrics: list[str] | None = None) -> Verdict:
    """FINE is strictly first in every column."""
    leads = [
        (gap := _lead(number, metric), f"Table {number} {COLUMNS[number][metric]} {gap:+.2f}")
        for number in tables
        for metric in metrics or COLUMNS[number]
    ]
    first = sum(gap > 0 for gap, _ in leads)
    least = min(leads)
    return Verdict(
        HOLDS if first == len(leads) else DOES_NOT,
        f"first in {first} of {len(leads)} columns; smallest lead: {least[1]}",
        least[0],
    )


def rank(table: int, metric: str, place: int) -> Verdict:
    """FINE's place in a column."""
    ordered = sorted(printed_rows(table), key=lambda pair: -pair[1][metric])
    found = [name for name, _ in ordered].index("FINE") + 1
    listed = ", ".join(f"{name} {values[metric]:.2f}" for name, values in ordered[:3])
    return Verdict(HOLDS if found == place else DOES_NOT, f"place {found}: {listed}", found)


def margin(table: int, metrics: list[str], points: float, decimals: int) -> Verdict:
    """FINE's lead over the best other row, rounded, is what the text says."""
    leads = [_lead(table, metric) for metric in metrics]
    said = ", ".join(f"{COLUMNS[table][m]} {gap:+.2f}" for m, gap in zip(metrics, leads, strict=True))
    said = f"over the best other row: {said}; the text says {points:g}"
    same = all(abs(gap - points) <= 0.5 * 10**-decimals for gap in leads)
    return Verdict(HOLDS if same else DOES_NOT, said, min(leads))


def above(table: int, row: str, than: list[str] | str) -> Verdict:
    """A row is above others in every column."""
    printed = dict(printed_rows(table))
    others = [name for name in printed if name != row] if than == "all" else than
    return _in_order(printed, [(row, other) for other in others])


def added_modality() -> Verdict:
    """Every subset of modalities is below each that has one more, in every column."""
    return _in_order(dict(printed_rows(5)), one_more())


def lowest(table: int, rows: list[str]) -> Verdict:
    """Rows are below all others in every column."""
    printed = dict(printed_rows(table))
    return _in_order(printed, [(other, row) for row in rows for other in printed if other not in rows])


def above_existing(table: int, row: str, metrics: list[str], expected: bool = True) -> Verdict:
    """A row of Table 5 or 6 is above every other method of Table 2 in the columns named; or, not expected, in none."""
    own = dict(printed_rows(table))[row]
    gaps = {m: round(own[m] - max(values[m] for name, values in printed_rows(2) if name != "FINE"), 2) for m in metrics}
    said = ", ".join(f"{COLUMNS[2][m]} {gap:+.2f}" for m, gap in gaps.items())
    agrees = all((gap > 0) == expected for gap in gaps.values())
    return Verdict(HOLDS if agrees else DOES_NOT, f"against the best other row of Table 2: {said}", min(gaps.values()))


def drop(table: int, rows: list[str]) -> Verdict:
    """Rows are below FINE in ACC-2 by more than two standard errors."""
    printed = dict(printed_rows(table))
    return together([_beyond_sampling(table, name, printed["FINE"], printed[name]) for name in rows])


def lead(tables: list[int]) -> Verdict:
    """FINE is above the second best in ACC-2 by more than two standard errors."""
    parts = []
    for number in tables:
        metric = next(iter(COLUMNS[number]))
        others = [pair for pair in printed_rows(number) if pair[0] != "FINE"]
        name, values = max(others, key=lambda pair: pair[1][metric])
        parts.append(_beyond_sampling(number, f"Table {number}, {name}", dict(printed_rows(number))["FINE"], values))
    return together(parts)


def _beyond_sampling(table: int, name: str, whole: dict[str, float], other: dict[str, float]) -> Verdict:
    """How often two methods disagree is not printed: the gap holds if it exceeds two standard errors were their errors
    independent, and does not hold if it stays below two even at the least disagreement that the gap allows."""
    metric = next(iter(COLUMNS[table]))
    gap = whole[metric] - other[metric]
    least, most = (100 * s for s in audit.gap_errors(whole[metric] / 100, other[metric] / 100, audit.utterances(table)))
    verdict = HOLDS if gap > 2 * most else DOES_NOT if gap <= 2 * least else OPEN
    return Verdict(verdict, f"{name}: {gap:.2f} points, s.e. between {least:.2f} and {most:.2f}", gap)


def printed_rows(number: int) -> list[tuple[str, dict[str, float]]]:
    """(name, metric -> percent) of each printed row."""
    names = {5: tables.modalities_printed, 6: lambda record: record["config"]}
    found = read_printed(number, *([names[number]] if number in names else []))
    return [(row.name, {m: round(100 * value, 2) for m, value in row.printed.items()}) for row in found]


def _lead(number: int, metric: str) -> float:
    """Points between FINE and the best other row."""
    printed = printed_rows(number)
    return round(dict(printed)["FINE"][metric] - max(v[metric] for name, v in printed if name != "FINE"), 2)


def _in_order(printed: dict[str, dict[str, float]], pairs: list[tuple[str, str]]) -> Verdict:
    gaps = [
        (round(printed[better][m] - printed[worse][m], 2), f"{worse} to {better}: {COLUMNS[5][m]}")
        for better, worse in pairs
        for m in printed[better]
    ]
    right, (least, where) = sum(gap > 0 for gap, _ in gaps), min(gaps)
    return Verdict(
        HOLDS if right == len(gaps) else DOES_NOT,
        f"{right} of {len(gaps)} comparisons; smallest: {where} {least:+.2f}",
        least,
    )


def one_more() -> list[tuple[str, str]]:
    """(larger, smaller) for subsets of the modalities that differ by one."""
    sets = {name: set(name.split(" + ")) for name in SUBSETS}
    pairs = [(b, a) for a, b in combinations(sets, 2)] + list(combinations(sets, 2))
    return [(big, small) for big, small in pairs if sets[small] < sets[big] and len(sets[big]) == len(sets[small]) + 1]


def together(parts: list[Verdict]) -> Verdict:
    """All must hold; the first of the worst parts speaks for them."""
    order = (DOES_NOT, OPEN, HOLDS)
    worst = min(parts, key=lambda part: (order.index(part.verdict), part.value))
    runs = tuple(dict.fromkeys(run for part in parts for run in part.runs))
    counts = ", ".join(f"{n} {v}" for v in order[::-1] if (n := sum(p.verdict == v for p in parts)))
    said = worst.says if len(parts) == 1 else f"of {len(parts)}: {counts}; least: {worst.says}"
    return replace(worst, says=said, runs=runs)


RULES: dict[str, Callable[..., Verdict]] = {
    rule.__name__: rule for rule in (best, rank, margin, above, added_modality, lowest, above_existing, drop, lead)
}
