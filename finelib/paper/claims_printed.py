"""What the paper's printed tables say about its claims: rules that give a verdict from the printed numbers alone.

Printed numbers have no spread. A rule compares them as they stand, or allows for the sampling error of the test split
as far as it can be known.
"""

from itertools import permutations

from finelib.paper import ablations, audit, printed
from finelib.paper.printed import COLUMNS
from finelib.paper.verdict import DOES_NOT, HOLDS, OPEN, Verdict, all_must_hold

SUBSETS = [row.name for row in ablations.MODALITY_ROWS]


def best(tables: list[int], metrics: list[str] | None = None) -> Verdict:
    """FINE is strictly first in every column."""
    leads = [
        (lead := _lead(number, metric), f"Table {number} {COLUMNS[number][metric]} {lead:+.2f}")
        for number in tables
        for metric in metrics or COLUMNS[number]
    ]
    first = sum(lead > 0 for lead, _ in leads)
    least, where = min(leads)
    says = f"first in {first} of {len(leads)} columns; smallest lead: {where}"
    return Verdict(HOLDS if first == len(leads) else DOES_NOT, says, least)


def rank(table: int, metric: str, place: int) -> Verdict:
    """FINE's place in a column."""
    ordered = sorted(printed.rows(table), key=lambda row: -row.percent[metric])
    found = [row.name for row in ordered].index("FINE") + 1
    listed = ", ".join(f"{row.name} {row.percent[metric]:.2f}" for row in ordered[:3])
    return Verdict(HOLDS if found == place else DOES_NOT, f"place {found}: {listed}", found)


def margin(table: int, metrics: list[str], points: float, decimals: int) -> Verdict:
    """FINE's lead over the best other row, rounded, is what the text says."""
    leads = {metric: _lead(table, metric) for metric in metrics}
    said = ", ".join(f"{COLUMNS[table][metric]} {lead:+.2f}" for metric, lead in leads.items())
    same = all(abs(lead - points) <= 0.5 * 10**-decimals for lead in leads.values())
    says = f"over the best other row: {said}; the text says {points:g}"
    return Verdict(HOLDS if same else DOES_NOT, says, min(leads.values()))


def above(table: int, row: str, than: list[str] | str) -> Verdict:
    """A row is above others ("all": every other row) in every column."""
    others = [name for name in printed.by_name(table) if name != row] if than == "all" else than
    return _in_order(table, [(row, other) for other in others])


def added_modality() -> Verdict:
    """Every subset of modalities is below each that has one more, in every column."""
    return _in_order(5, one_more())


def lowest(table: int, rows: list[str]) -> Verdict:
    """Rows are below all others in every column."""
    others = [name for name in printed.by_name(table) if name not in rows]
    return _in_order(table, [(other, row) for row in rows for other in others])


def above_existing(table: int, row: str, metrics: list[str], expected: bool = True) -> Verdict:
    """A row of Table 5 or 6 is above every other method of Table 2 in the columns named; or, not expected, in none."""
    own = printed.by_name(table)[row]
    gaps = {metric: round(own[metric] - _best_other(2, metric)[1], 2) for metric in metrics}
    said = ", ".join(f"{COLUMNS[2][metric]} {gap:+.2f}" for metric, gap in gaps.items())
    agrees = all((gap > 0) == expected for gap in gaps.values())
    return Verdict(HOLDS if agrees else DOES_NOT, f"against the best other row of Table 2: {said}", min(gaps.values()))


def drop(table: int, rows: list[str]) -> Verdict:
    """Rows are below FINE in ACC-2 by more than two standard errors."""
    percent = _accuracy(table)
    return all_must_hold([_beyond_sampling(table, name, percent["FINE"], percent[name]) for name in rows])


def lead(tables: list[int]) -> Verdict:
    """FINE is above the second best in ACC-2 by more than two standard errors."""
    parts = []
    for number in tables:
        name, second = _best_other(number, printed.first_metric(number))
        parts.append(_beyond_sampling(number, f"Table {number}, {name}", _accuracy(number)["FINE"], second))
    return all_must_hold(parts)


def one_more() -> list[tuple[str, str]]:
    """(larger, smaller) for subsets of the modalities that differ by one."""
    modalities = {name: set(name.split(" + ")) for name in SUBSETS}
    return [
        (large, small)
        for small, large in permutations(SUBSETS, 2)
        if modalities[small] < modalities[large] and len(modalities[large]) == len(modalities[small]) + 1
    ]


def _accuracy(table: int) -> dict[str, float]:
    """Row name -> ACC-2 in percent."""
    return {name: percent[printed.first_metric(table)] for name, percent in printed.by_name(table).items()}


def _best_other(table: int, metric: str) -> tuple[str, float]:
    """Name and percentage of the best row that is not FINE's."""
    others = [row for row in printed.rows(table) if row.name != "FINE"]
    row = max(others, key=lambda row: row.percent[metric])
    return row.name, row.percent[metric]


def _lead(table: int, metric: str) -> float:
    """Points between FINE and the best other row."""
    return round(printed.by_name(table)["FINE"][metric] - _best_other(table, metric)[1], 2)


def _beyond_sampling(table: int, name: str, fine: float, other: float) -> Verdict:
    """Whether a gap in ACC-2, in percent, exceeds two standard errors.

    How often the two methods disagree is not printed. The gap holds if it exceeds two standard errors of independent
    errors, and does not hold if it stays below two even at the least disagreement that it allows.
    """
    gap = fine - other
    errors = audit.gap_errors(fine / 100, other / 100, printed.utterances(table))
    least, most = (100 * error for error in errors)
    verdict = HOLDS if gap > 2 * most else DOES_NOT if gap <= 2 * least else OPEN
    return Verdict(verdict, f"{name}: {gap:.2f} points, s.e. between {least:.2f} and {most:.2f}", gap)


def _in_order(table: int, pairs: list[tuple[str, str]]) -> Verdict:
    """Of each pair of rows the first is above the second in every column."""
    percent = printed.by_name(table)
    gaps = [
        (round(percent[better][metric] - percent[worse][metric], 2), f"{worse} to {better}: {title}")
        for better, worse in pairs
        for metric, title in COLUMNS[table].items()
    ]
    right, (least, where) = sum(gap > 0 for gap, _ in gaps), min(gaps)
    says = f"{right} of {len(gaps)} comparisons; smallest: {where} {least:+.2f}"
    return Verdict(HOLDS if right == len(gaps) else DOES_NOT, says, least)
