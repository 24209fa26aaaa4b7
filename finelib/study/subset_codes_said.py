"""What the study of FINE with subset codes says of its runs: intervals over worlds, what is reached, tables.

A row is what was measured of one run (``subset_codes``): its system, world and seed, three scores by two probes, Corr.
"""

from collections import defaultdict
from dataclasses import asdict
from itertools import count

import numpy as np
from scipy import stats

from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.paper import significance
from finelib.paper.significance import Interval
from finelib.study.identifiability import SCORES

FINE, PROBES = "FINE", ("linear", "mlp")
GOAL, LOST = 0.5, -0.01  # of each score; of Corr
THIRD = 1 / 3  # R2 with which the mean of three independent entries tells one of them
# case -> what each of its scores should exceed; where none stands, Corr alone counts
WANTED = {"redundancy": 0.3, "two modalities": GOAL, "FactorCL": 0.8 * THIRD}
KEPT = ("many", "shape of CMU-MOSI", "shape of CH-SIMS", "two modalities")  # cases in which Corr should not be lost
REASONS = {
    "many": "why Corr should be lower is not known; the heads read twelve numbers where FINE's read wide features, "
    "which may gain more from more utterances",
    "redundancy": "three modalities agree on what is loud before the label speaks; with r this loud there is an "
    "optimum that keeps it (`study/subset_optima.py`)",
    "two modalities": "every set holds two factors of the label, and of two uncorrelated factors one number tells half "
    "on average; the label names the direction of one number alone, so a second one need not be a factor of the label",
    "FactorCL": "a code tells a part of what the label needs of its block, the mean of three entries (*FactorCL, "
    "halves*, where 1 is perfect), and of a single entry a third of that",
}


def judge_further(rows: dict[str, list[dict]]) -> dict[str, dict]:
    """Of each case what is reached: the lowest of the scores against ``WANTED``, Corr against ``LOST``."""
    found = {}
    for case, goal in WANTED.items():
        if case in rows:
            mine = [row for row in rows[case] if row["system"] == VARIANT]
            lowest = min(((over_worlds(mine, p, s), s) for p in PROBES for s in SCORES), key=lambda each: each[0].mean)
            says = f"{case}: lowest score of {VARIANT}, {lowest[1]}"
            found[f"{case}: scores"] = _finding(lowest[0], goal, _ids(mine), says)
    for case in KEPT:
        if case in rows:
            mine, fine = ([row for row in rows[case] if row["system"] == name] for name in (VARIANT, FINE))
            says = f"{case}: Corr of {VARIANT} minus FINE's"
            found[f"{case}: Corr"] = _finding(corr_difference(mine, fine), LOST, _ids(mine + fine), says)
    return found


def _ids(rows: list[dict]) -> list[str]:
    return [row["run"] for row in rows]


def summary(rows: list[dict]) -> dict[str, dict]:
    """system -> intervals over worlds of scores by both probes, of Corr, and of Corr minus FINE's; mean seconds."""
    found = {}
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system]
        of_probe = {probe: {score: asdict(over_worlds(mine, probe, score)) for score in SCORES} for probe in PROBES}
        mean = {name: float(np.mean([row[name] for row in mine])) for name in ("seconds", "parameters")}
        corr = {"corr": asdict(over_worlds(mine, "corr"))}
        fine = [row for row in rows if row["system"] == FINE]
        if system != FINE and fine:
            corr["corr_minus_fine"] = asdict(corr_difference(mine, fine))
        found[system] = of_probe | corr | mean
    return found


def by_world(rows: list[dict], *place: str) -> list[float]:
    """A number of each run, as the mean over the seeds of each world."""
    values = defaultdict(list)
    for row in rows:
        value = row
        for name in place:
            value = value[name]
        values[row["world"]].append(value)
    return [float(np.mean(each)) for each in values.values()]


def over_worlds(rows: list[dict], *place: str) -> Interval:
    """Interval over worlds of a number of each run."""
    return significance.interval(by_world(rows, *place))


def corr_difference(rows: list[dict], fine: list[dict]) -> Interval:
    """Corr minus FINE's over the same worlds."""
    return significance.paired(by_world(rows, "corr"), by_world(fine, "corr"))[0]


def judge_worlds(rows: list[dict]) -> dict[str, dict]:
    """Each score holds if its intervals by both probes lie above ``GOAL``, Corr if its difference's lies above
    ``LOST``; neither does if they lie below, else they are open (None)."""
    mine, fine = ([row for row in rows if row["system"] == name] for name in (VARIANT, FINE))
    ids, found = [row["run"] for row in mine], {}
    for score in SCORES:
        intervals = [over_worlds(mine, probe, score) for probe in PROBES]
        lowest = min(intervals, key=lambda i: i.mean)
        found[f"codes_{score}"] = _finding(lowest, GOAL, ids, f"{score} of {VARIANT}")
    difference = corr_difference(mine, fine)
    runs = ids + [row["run"] for row in fine]
    found["codes_corr"] = _finding(difference, LOST, runs, f"Corr of {VARIANT} minus FINE's")
    return found


def _finding(interval: Interval, above: float, runs: list[str], says: str) -> dict:
    low, high, holds = interval.low, interval.high, None
    says = f"{says}: {interval.mean:.3f}"
    if low is not None:
        says += f" [{low:.3f}, {high:.3f}], {interval.n} worlds"
        holds = True if low > above else False if high < above else None
    value = {"value": interval.mean, "low": low, "high": high, "goal": above}
    return value | {"holds": holds, "runs": runs, "says": says, "open": open_said(interval, above)}


def open_said(interval: Interval, above: float) -> str:
    """Why a goal may stay open: how well so many worlds tell a difference of Corr, and how many would be enough."""
    if interval.low is None or above >= 0:
        return OPEN
    told = f"{interval.n} worlds tell this difference to ±{interval.high - interval.mean:.3f}"
    enough = worlds_needed(interval.sd, -above)
    return f"{OPEN}: {told}; to tell the {-above:.2f} that may be lost takes about {enough} worlds of this spread"


def worlds_needed(sd: float, margin: float) -> int:
    """Worlds over which a Student interval of 95 % reaches at most ``margin`` to either side, ``sd`` between worlds."""
    return next(n for n in count(2) if stats.t.ppf(0.975, n - 1) * sd / n**0.5 <= margin)


def as_text(content: dict) -> str:
    """What was to be reached and is, and a table for every case, in Markdown."""
    lines = goals_table(content["findings"])
    for name, case in content["cases"].items():
        lines += [f"**{name}**: {case['about']}", ""]
        lines += ["| system | " + " | ".join(SCORES) + " | Corr | minus FINE | seconds | parameters |"]
        lines += ["|---" * (len(SCORES) + 5) + "|"]
        for system, found in case["systems"].items():
            cells = [_cell(found["linear"][score], found["mlp"][score]) for score in SCORES]
            difference = found.get("corr_minus_fine")
            cells += [_cell(found["corr"], digits=3), _cell(difference, digits=3) if difference else ""]
            cells += [f"{found['seconds']:.0f}", f"{found['parameters']:,.0f}"]
            lines.append(f"| {system} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


REACHED, OPEN = {True: "yes", False: "no", None: "open"}, "the goal lies within the interval"


def goals_table(findings: dict[str, dict]) -> list[str]:
    """Lines of a table: each goal, whether it is reached, and what stands in the way where it is not: why it is open
    ("open"), and the finding's own "why" or the case's reason."""
    lines = ["| found | to be above | reached | why not |", "|---|---|---|---|"]
    for name, found in findings.items():
        known = [found.get("open", OPEN)] * (found["holds"] is None)
        known.append(found.get("why") or REASONS.get(name.partition(":")[0], ""))
        why = "" if found["holds"] else "; ".join(filter(None, known))
        lines.append(f"| {found['says']} | {found['goal']:.2f} | {REACHED[found['holds']]} | {why} |")
    return [*lines, ""]


def _cell(*found: dict, digits: int = 2) -> str:
    """Means with intervals, by the linear probe and, after a slash, by the other."""
    told = []
    for each in found:
        spread = "" if each["low"] is None else f" [{each['low']:.{digits}f}, {each['high']:.{digits}f}]"
        told.append(f"{each['mean']:.{digits}f}{spread}")
    return " / ".join(told)
