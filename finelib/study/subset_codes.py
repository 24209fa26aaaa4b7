"""Does FINE with subset codes factorise on planted worlds that nothing was tuned on, and at what cost?

FINE and the variant are trained with equal epochs, rates and numbers of starts (``study.starts``); what is reported
are means over the seeds of a world, and intervals over worlds. ``run_all.sh --only subset_codes`` measures the worlds
that decide, ``run_all.sh --only subset_codes_further`` the variant without each of its parts, and other data. An
interval over four worlds with one seed is a sixth as wide as one over two worlds with two, at the same cost. The six
worlds left open whether Corr is lost; ``run_all.sh --only subset_codes_more`` measures 48 others, with one seed each.
By the spread of the six worlds' single runs so many tell the difference to 0.009. They were fixed before any was run.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from joblib import Parallel, delayed
from tqdm.auto import tqdm

from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.baselines.subset_codes import PARTS, TRAIN
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data.corpora import CORPORA
from finelib.runs import experiment, presets
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import ROOT, Options
from finelib.runs.records import digest, write_atomically
from finelib.scale.execute import jobs_that_fit
from finelib.study import subset_codes_factorcl as factorcl
from finelib.study.identifiability import FACTORCL_SIZES, probe_run
from finelib.study.starts import Run, begun, best_start, with_subset_codes
from finelib.study.subset_codes_said import FINE, as_text, judge_further, judge_worlds, summary

NAME = "subset_codes"
WORLDS = tuple(range(101, 107))  # seeds of the generator that nothing was tried on
MORE_WORLDS = tuple(range(107, 155))  # the same
TRIED = (0, 1, 2, 3)  # seeds of the generator that settings were tried on; the parts are taken out there
SHAPES = {"shape of CMU-MOSI": ("mosi", 0.4), "shape of CH-SIMS": ("ch_sims", 0.35)}  # corpus, share of its sizes
MORE, FURTHER, FACTORCL = "subset_codes_more", "subset_codes_further", "FactorCL"
STUDIES = {
    NAME: ("worlds",),
    MORE: ("more worlds",),
    FURTHER: ("parts", "redundancy", "many", *SHAPES, "two modalities"),
}
HALF = "every set holds two factors of the label, of which one number tells half at most"
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
    more = MORE_WORLDS[:2] if options.preset == "smoke" else MORE_WORLDS
    few, both = WORLDS[: len(seeds) + 1], {FINE: None, VARIANT: {}}

    def design(name: str) -> DataConfig:
        return DataConfig("mosei", scale=presets.SMALL_SCALE[options.preset], design=name)

    def case(about: str, data: DataConfig, worlds=few, seeds=seeds[:1], systems=both, starts=2, base=small) -> Case:
        return Case(about, data, worlds, seeds, systems, starts, base, train)

    def shape(corpus: str, share: float) -> Case:
        about = f"as wide and long as {CORPORA[corpus].title}, a share of its utterances"
        scale = share / 5 if options.preset == "smoke" else share
        return case(about, DataConfig(corpus, scale=scale), starts=1)

    components, text_audio = design("components"), replace(small, modalities=("T", "A"))
    wider = both | {"codes of 2 numbers": {"code_width": 2}}
    return {
        "worlds": case("a little of everything, 640 utterances", components, WORLDS[: 2 * len(seeds)], seeds),
        "more worlds": case("the same, other worlds", components, more),
        "parts": case("the variant without each of its parts", components, TRIED, systems=both | PARTS, starts=1),
        "redundancy": case("a loud factor that all share and the label does not need", design("redundancy")),
        "many": case("a little of everything, 2,000 utterances", design("many")),
        **{name: shape(*of) for name, of in SHAPES.items()},
        "two modalities": case(f"text and audio alone: {HALF}", components, systems=wider, base=text_audio),
        FACTORCL: case(factorcl.ABOUT[FACTORCL], DataConfig("ur_funny")),
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
    content = kept(options.figures / f"{study}.json", key, partial(_content, runs, options, study))
    write_atomically(options.figures / f"{study}.md", as_text(content))
    return content


def measured_before(options: Options, study: str = NAME) -> dict | None:
    """What a study of the variant found in this folder, or else what is published with the checkout; nothing is
    trained."""
    return next((json.loads(path.read_text()) for path in places(options, study) if path.exists()), None)


def places(options: Options, study: str = NAME) -> tuple[Path, Path]:
    """Where ``measured_before`` looks."""
    return options.figures / f"{study}.json", ROOT / "figures" / "published" / f"{study}.json"


def _content(runs: dict[tuple, list[Run]], options: Options, study: str) -> dict:
    rows, jobs = defaultdict(list), options.jobs or jobs_that_fit(1)
    probing = Parallel(jobs, return_as="generator")(map(delayed(_row), runs.values()))
    for (case, system, world, seed), row in zip(runs, tqdm(probing, "probing", len(runs), unit="run"), strict=True):
        rows[case].append({"system": system, "world": world, "seed": seed} | row)
    every = cases(options)
    if study == FURTHER:
        rows |= factorcl.measure_factorcl(every[FACTORCL].specs(), FACTORCL_SIZES[options.preset], jobs)
    about = {name: case.about for name, case in every.items()} | factorcl.ABOUT
    found = {name: {"about": about[name], "systems": summary(each), "runs": each} for name, each in rows.items()}
    findings = judge_further(rows) if study == FURTHER else judge_worlds(rows[STUDIES[study][0]])
    return {"data": "planted", "cases": found, "findings": findings}


def _row(group: list[Run]) -> dict:
    """What is measured of one run: of the best of its starts, with the seconds of all of them."""
    record, spec = best_start(group)
    probed = probe_run(record, spec, mlp=True)
    return {
        "run": record.id,
        **factorcl.scores_of(probed),
        "corr": record.test["corr"],
        "structure": record.curves[-1].get("structure"),
        "starts": [other.curves[-1].get("structure") for other, _ in group],
        "seconds": sum(other.timing["seconds"] for other, _ in group),
        "parameters": record.parameters,
    }
