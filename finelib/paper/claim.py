"""A claim of the paper, and a verdict on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

HOLDS, DOES_NOT, OPEN, NOT_RUN = VERDICTS = ("holds", "does not hold", "cannot be told", "not run")


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


@dataclass(frozen=True)
class Claim:
    """What the paper says, in our words.

    Attributes:
        id: its name in claims.json and on the page.
        place: where the paper says it.
        settled_by: what would settle it.
        printed: a rule of ``claims_printed`` with its settings; None if the printed tables do not speak of it.
        measured: a rule of ``claims_measured`` with its settings, to be given ``Results``; None if no experiment here
            tests it.
    """

    id: str
    claim: str
    place: str
    settled_by: str
    printed: Callable[[], Verdict] | None = None
    measured: Callable[..., Verdict] | None = None


def as_text(rule: partial | None) -> str:
    """A rule as it is written, for example "rank(table=4, metric='acc5', place=2)"; "" for None."""
    if rule is None:
        return ""
    return f"{rule.func.__name__}({', '.join(f'{name}={value!r}' for name, value in rule.keywords.items())})"


def all_must_hold(parts: list[Verdict]) -> Verdict:
    """The verdict on several comparisons: the worst of theirs; the one with the least value speaks for them."""
    from_worst = (DOES_NOT, OPEN, HOLDS)
    worst = min(parts, key=lambda part: (from_worst.index(part.verdict), part.value))
    runs = tuple(dict.fromkeys(run for part in parts for run in part.runs))
    if len(parts) == 1:
        return replace(worst, runs=runs)
    numbers = {verdict: sum(part.verdict == verdict for part in parts) for verdict in reversed(from_worst)}
    counts = ", ".join(f"{number} {verdict}" for verdict, number in numbers.items() if number)
    return replace(worst, says=f"of {len(parts)}: {counts}; least: {worst.says}", runs=runs)
