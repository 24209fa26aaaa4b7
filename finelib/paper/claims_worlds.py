"""What planted data say of a claim that FINE is best: judged over the whole matrix of home worlds, by no table.

The tables share one planted world, and which ideas help in it was decided when it was made. Among the home worlds every
compared system has one that was made for its own idea.
"""

from dataclasses import asdict, replace
from statistics import median

from finelib.baselines import SYSTEMS
from finelib.paper import significance
from finelib.paper.table import in_millions
from finelib.paper.verdict import NOT_RUN, Verdict, all_must_hold, by_interval

FINE = "FINE"
MADE_BY = "run_all.sh --only home_worlds"
RULE = (
    "Who is ahead in a planted world depends on which ideas help there, and the tables share a single one, so no table "
    "of planted data judges a claim that FINE is best. The home worlds do: every system in every world, with one "
    "setting for all worlds, the same limit of epochs and the same early stop. (Settings were tried by hand, not the "
    "same number for each system: docs/home_worlds.md.) Against each other system: FINE's share of the way from a "
    "constant to the oracle minus the other's, in the worlds that are home to neither of the two, since a world and "
    "the settings of the systems at home there were drawn up together. The claim holds if every 95 % interval over "
    "worlds lies above 0, it does not hold if one lies below 0, else it cannot be told. Without the whole matrix "
    f"({MADE_BY}) it is not run."
)


def best_over_worlds(content: dict | None) -> Verdict:
    """FINE is ahead of every compared system by ``RULE``.

    Args:
        content: of figures/home_worlds.json; None if there is none.
    """
    if lacking := _lacking(content or {"worlds": {}, "matrix": {}}):
        return Verdict(NOT_RUN, lacking, rule=RULE)
    matrix = content["matrix"]
    homes = {system: world for world, made in content["worlds"].items() for system in made["homes"]}
    parts, numbers, seeds = [], set(), set()
    for other in SYSTEMS:
        worlds = [world for world in content["worlds"] if world not in (homes[FINE], homes[other])]
        shares = [[matrix[system][world]["mean"] for world in worlds] for system in (FINE, other)]
        parts.append(by_interval(f"FINE over {other}", asdict(significance.paired(*shares)[0]), ()))
        numbers.add(len(worlds))
        seeds |= {len(matrix[system][world]["values"]) for system in (FINE, other) for world in worlds}
    found = all_must_hold(parts)
    each = f"{_span(seeds)} seed{'s' if max(seeds) > 1 else ''} each"
    says = f"share of the way over {_span(numbers)} home worlds, {each}; {found.says} ({_sizes(content['parameters'])})"
    return replace(found, says=says, rule=RULE)


def _lacking(content: dict) -> str:
    """What is missing of the matrix, as a sentence; "" if it is whole."""
    worlds, matrix = content["worlds"], content["matrix"]
    if not worlds:
        return f"the home worlds have not been measured ({MADE_BY})"
    for system in (FINE, *SYSTEMS):
        if absent := [world for world in worlds if world not in matrix.get(system, {})]:
            return f"of the home worlds' matrix {system} is missing in {', '.join(absent)} ({MADE_BY})"
    return ""


def _span(counts: set[int]) -> str:
    return " to ".join(str(count) for count in sorted({min(counts), max(counts)}))


def _sizes(parameters: dict[str, int]) -> str:
    others = median(parameters[system] for system in SYSTEMS)
    return f"FINE has {in_millions(parameters[FINE])} parameters, the median other {in_millions(others)}"
