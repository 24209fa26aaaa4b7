"""Does FINE with subset codes factorise on planted worlds that nothing was tuned on, and at what cost?

FINE and the variant are trained with equal epochs, rates and numbers of starts (``study.starts``); what is reported
are means over the seeds of a world, and intervals over worlds. ``run_all.sh --only subset_codes`` measures the worlds
that decide, ``run_all.sh --only subset_codes_further`` the variant without each of its parts, and other data.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.baselines.subset_codes import PARTS, TRAIN
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.paper import significance
from finelib.paper.significance import Interval
from finelib.runs import experiment, presets
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import ROOT, Options
from finelib.runs.records import digest, write_atomically
from finelib.scale.execute import jobs_that_fit
from finelib.study.identifiability import SCORES, probe_run
from finelib.study.starts import Run, begun, best_start, with_subset_codes

NAME, FINE = "subset_codes", "FINE"
WORLDS = tuple(range(101, 107))  # seeds of the generator; settings were tried on worlds 0 to 3 alone
STUDIES = {NAME: ("worlds",), "subset_codes_further": ("parts", "redundancy", "many", "two modalities")}
TRIED = (2, 3)  # the parts are taken out there
HALF = "every set holds two factors of the label, of which one number tells half at most"
GOAL, LOST = 0.5, -0.01  # of each score; of Corr
Key = tuple[str, int, int]  # system, world, seed


@dataclass(frozen=True)
class Case:
    """FINE and other systems on one kind of data.

    Attributes:
        data: its generator's seed is the world.
        systems: name -> change of the variant's settings; None is FINE.
        starts: of each run.
    """

    about: str
    data: DataConfig
    worlds: tuple[int, ...]
    seeds: tuple[int, ...]
    systems: dict[str, dict | None]
    starts: int
    base: FineConfig
    train: TrainConfig

    def specs(self) -> dict[Key, list[RunSpec]]:
        """The starts of every system in every world with every seed."""
        found = {}
        for name, change in self.systems.items():
            for world in self.worlds:
                spec = RunSpec(FINE, replace(self.data, seed=world), self.base, self.train, 0)
                if change is not None:
                    spec = with_subset_codes(spec, name, **change)
                for seed in self.seeds:
                    found[name, world, seed] = begun(replace(spec, seed=seed), self.starts)
        return found


def cases(options: Options) -> dict[str, Case]:
    """What is measured; "worlds" decides on the goals, the others say how far it goes."""
    small, train = presets.DEMO, presets.SMALL_TRAIN["demo"]
    equal = {"epochs": TRAIN["epochs"], "patience": TRAIN["epochs"], "critic_speed": TRAIN["critic_speed"]}
    train, seeds = replace(train, **equal), (0, 1, 2)
    if options.preset == "smoke":
        train, seeds = presets.SMALL_TRAIN["smoke"], (0,)
    two, both = WORLDS[:2], {FINE: None, VARIANT: {}}

    def case(about: str, design: str, worlds=two, seeds=seeds[:2], systems=both, starts=2, base=small) -> Case:
        data = DataConfig("mosei", scale=presets.SMALL_SCALE[options.preset], design=design)
        return Case(about, data, worlds, seeds, systems, starts, base, train)

    text_audio = replace(small, modalities=("T", "A"))
    parts = both | PARTS
    return {
        "worlds": case("a little of everything, 640 utterances", "components", WORLDS[: 2 * len(seeds)], seeds),
        "parts": case("the variant without each of its parts", "components", TRIED, seeds[:2], parts, starts=1),
        "redundancy": case("a loud factor that all share and the label does not need", "redundancy"),
        "many": case("a little of everything, 2,000 utterances", "many", seeds=seeds[:1]),
        "two modalities": case(f"text and audio alone: {HALF}", "components", base=text_audio),
    }


def specs(options: Options, study: str = NAME) -> list[RunSpec]:
    """Every run that ``measure_subset_codes`` needs."""
    return [spec for starts in _wanted(options, study).values() for spec in starts]


def _wanted(options: Options, study: str) -> dict[tuple, list[RunSpec]]:
    every = cases(options)
    return {(name, *key): starts for name in STUDIES[study] for key, starts in every[name].specs().items()}


def measure_subset_codes(options: Options, study: str = NAME) -> dict:
    """Train what is missing and probe it; write figures/STUDY.{json,md}, kept while runs and code stay the same."""
    wanted = _wanted(options, study)
    records = experiment.run_groups(wanted, options.out, options.jobs)
    runs = {key: list(zip(records[key], starts, strict=True)) for key, starts in wanted.items()}
    ids = [[record.id for record, _ in group] for group in runs.values()]
    key = digest({"preset": options.preset, "runs": ids, "code": code_hash("finelib.study.subset_codes")})
    content = kept(options.figures / f"{study}.json", key, partial(_content, runs, options))
    write_atomically(options.figures / f"{study}.md", as_text(content))
    return content


def measured_before(options: Options) -> dict | None:
    """What ``measure_subset_codes`` found in this folder, or else what is published with the checkout; nothing is
    trained."""
    return next((json.loads(path.read_text()) for path in places(options) if path.exists()), None)


def places(options: Options) -> tuple[Path, Path]:
    """Where ``measured_before`` looks."""
    return options.figures / f"{NAME}.json", ROOT / "figures" / "published" / f"{NAME}.json"


def _content(runs: dict[tuple, list[Run]], options: Options) -> dict:
    rows = defaultdict(list)
    probing = Parallel(options.jobs or jobs_that_fit(1), return_as="generator")(map(delayed(_row), runs.values()))
    for (case, system, world, seed), row in zip(runs, tqdm(probing, "probing", len(runs), unit="run"), strict=True):
        rows[case].append({"system": system, "world": world, "seed": seed} | row)
    about = {name: case.about for name, case in cases(options).items()}
    found = {name: {"about": about[name], "systems": summary(each), "runs": each} for name, each in rows.items()}
    return {"data": "planted", "cases": found, "findings": judge_worlds(rows["worlds"]) if "worlds" in rows else {}}


def _row(group: list[Run]) -> dict:
    """What is measured of one run: of the best of its starts, with the seconds of all of them."""
    record, spec = best_start(group)
    probed = probe_run(record, spec, mlp=True)
    return {
        "run": record.id,
        "linear": {score: part["score"] for score, part in probed.scores.items()},
        "mlp": {score: part["score"] for score, part in probed.mlp.scores.items()},
        "corr": record.test["corr"],
        "structure": record.curves[-1].get("structure"),
        "starts": [other.curves[-1].get("structure") for other, _ in group],
        "seconds": sum(other.timing["seconds"] for other, _ in group),
        "parameters": record.parameters,
    }


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


PROBES = ("linear", "mlp")


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
    return {"value": interval.mean, "low": low, "high": high, "holds": holds, "runs": runs, "says": says}


def as_text(content: dict) -> str:
    """A table for every case, in Markdown."""
    lines = []
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


def _cell(*found: dict, digits: int = 2) -> str:
    """Means with intervals, by the linear probe and, after a slash, by the other."""
    told = []
    for each in found:
        spread = "" if each["low"] is None else f" [{each['low']:.{digits}f}, {each['high']:.{digits}f}]"
        told.append(f"{each['mean']:.{digits}f}{spread}")
    return " / ".join(told)
