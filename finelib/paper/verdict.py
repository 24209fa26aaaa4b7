"""A verdict on a claim of the paper."""

from dataclasses import dataclass, replace

HOLDS, DOES_NOT, OPEN, NOT_RUN = VERDICTS = ("holds", "does not hold", "cannot be told", "not run")


@dataclass(frozen=True)
class Verdict:
    """What a rule found: one of ``VERDICTS``, a sentence with the numbers, and the runs behind it.

    Attributes:
        value, low, high: the number that decided and its 95 % interval, where there is one.
        rule: how it was judged, and why so, where that is not by what holds of all measured claims.
    """

    verdict: str
    says: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    runs: tuple[str, ...] = ()
    rule: str = ""


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


def by_interval(name: str, found: dict, runs: tuple[str, ...], margin: float = 0.0) -> Verdict:
    """Whether the interval of a difference lies above 0, below the margin, or neither.

    Args:
        name: of the comparison, for the sentence.
        found: "mean", "low" and "high"; the last two None where nothing is known of the spread.
    """
    low, high, verdict = found["low"], found["high"], OPEN
    if low is not None and low > 0:
        verdict = HOLDS
    elif low is not None and high < max(margin, 1e-12):
        verdict = DOES_NOT
    return Verdict(verdict, f"{name} {number(found, '+')}".strip(), found["mean"], low, high, runs)


def number(found: dict, sign: str = "") -> str:
    """A mean with its interval, where there is one."""
    spread = "" if found["low"] is None else f" [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
    return f"{found['mean']:{sign}.3f}{spread}"
