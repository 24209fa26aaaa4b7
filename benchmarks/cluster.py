"""How far more workers help: Ray's overhead measured, durations of training runs measured, larger clusters simulated.

    python benchmarks/cluster.py RECORDS [--tasks N] > benchmarks/cluster.json

RECORDS is the ``runs`` folder of a demo run on planted data. The paper preset's runs were not trained for this: their
seconds are those of the same row's demo runs, times the ratio of utterances and epochs (all of them, no early stop),
times the ratio of a training step of FINE's two configurations (step.json) where the model is a larger one.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from finelib.__main__ import planned_runs, select
from finelib.config import RunSpec
from finelib.data.corpora import CORPORA
from finelib.runs import experiment
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, config_hash, read_record, versions
from finelib.scale import cluster

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def simulate(seconds: list[float], workers: int, dispatch: float, start: float = 0.0) -> float:
    """Makespan of list scheduling: each task in turn goes to the worker that is free first.

    Args:
        seconds: of each task, in the order in which they are handed out.
        dispatch: seconds of the one driver for each task; it does one at a time.
        start: seconds until a worker can take its first task.
    """
    free, driver = [start] * workers, 0.0
    for task in seconds:
        driver = max(driver, free[0]) + dispatch
        heapq.heapreplace(free, driver + task)
    return max(free)


def curve(seconds: list[float], dispatch: float, start: float) -> dict:
    """Makespan, speed-up and efficiency against the same tasks one after another without any overhead.

    ``longest_first``: makespans where the longest tasks are handed out first.
    """
    total, rows, ordered = sum(seconds), [], sorted(seconds, reverse=True)
    for workers in WORKERS:
        makespan = simulate(seconds, workers, dispatch, start)
        rows.append(
            {
                "workers": workers,
                "makespan": makespan,
                "speed_up": total / makespan,
                "efficiency": total / makespan / workers,
                "longest_first": simulate(ordered, workers, dispatch, start),
            }
        )
    bounds = {"longest_task": max(seconds), "dispatch_of_all": dispatch * len(seconds)}
    return {"runs": len(seconds), "work": total, "bounds": bounds, "curve": rows}


# ------------------------------------------------------------------------------------------------- measured


def nothing(_spec: RunSpec, _folder: Path, advance, _stop) -> None:
    """A task of a training run's payload that does nothing; where it runs, what training imports is imported."""
    advance(1)


def empty(_task: tuple[RunSpec, Path]) -> None:
    """A task that Ray is given directly: what one costs without this library's driver."""


def timed(spec: RunSpec, folder: Path, advance, stop) -> None:
    """Train, and leave the seconds it took beside the record."""
    began = time.perf_counter()
    experiment.train_and_report(spec, folder, lambda _: None, stop)
    (folder / "seconds").write_text(str(time.perf_counter() - began))
    advance(1)


def seconds_of(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def overhead(ray, specs: list[RunSpec], count: int) -> dict:
    """Seconds: until the first task is done, of one task alone, of many handed over by one driver."""
    tasks = [(specs[i % len(specs)], Path("out/runs") / f"run-{i:06}") for i in range(count)]
    drive = partial(cluster.drive, ray, nothing, cpus=[1] * count, jobs=None, on_progress=lambda _: None)
    first = seconds_of(lambda: drive(tasks[:1]))
    call = ray.remote(empty)
    alone = sorted(seconds_of(lambda task=task: ray.get(call.remote(task))) for task in tasks[:200])
    many = [seconds_of(lambda: drive(tasks)) for _ in range(3)]
    return {
        "first_task": first,
        "alone_median": statistics.median(alone),
        "alone_p95": alone[190],
        "tasks": count,
        "all_tasks": many,
        "dispatch_per_task": statistics.median(many) / count,
    }


def real_runs(ray, specs: list[RunSpec], dispatch: float, start: float) -> list[dict]:
    """The same runs on one and two workers, beside the simulation of them.

    It takes the seconds that the runs took on one worker (``simulated``) or on as many (``simulated_own``).
    """
    found = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            tasks = [(spec, Path(folder) / str(number)) for number, spec in enumerate(specs)]
            load = os.getloadavg()[0]
            drive = partial(cluster.drive, ray, timed, tasks, [1] * len(specs), workers, lambda _: None)
            took = seconds_of(drive)
            own = [float((path / "seconds").read_text()) for _, path in tasks]
        alone = own if workers == 1 else alone
        found.append(
            {
                "workers": workers,
                "runs": len(specs),
                "measured": took,
                "work": sum(own),
                "load": load,
                "simulated": simulate(alone, workers, dispatch, start),
                "simulated_own": simulate(own, workers, dispatch, start),
            }
        )
    return found


# --------------------------------------------------------------------------------------------------- grids


def planned(preset: str) -> list[RunSpec]:
    """The planted runs of a preset, as run_all.sh starts them."""
    options = Options(preset=preset)
    return [s for s in planned_runs(select(options, None)) if s.data.source == "planted"]


def demo_seconds(specs: list[RunSpec], records: list[RunRecord]) -> tuple[list[float], int]:
    """Measured seconds of each run, or the mean over its like where its own are missing; how many are its own."""
    own = {(record.config_hash, record.seed): record.timing["seconds"] for record in records}
    found = [own.get((config_hash(spec), spec.seed)) for spec in specs]
    like: dict[tuple, list[float]] = {}
    for spec, value in zip(specs, found, strict=True):
        if value is not None:
            like.setdefault(kind(spec), []).append(value)
    means = {key: statistics.fmean(values) for key, values in like.items()}
    seconds = [means[kind(spec)] if value is None else value for spec, value in zip(specs, found, strict=True)]
    return seconds, sum(value is not None for value in found)


def kind(spec: RunSpec) -> tuple:
    """Runs of one kind take about as long."""
    return spec.data, type(spec.model_config), spec.train.epochs


def paper_seconds(paper: list[RunSpec], demo: list[RunSpec], seconds: list[float], ratio: float) -> list[float]:
    """Seconds of the paper preset's runs, scaled from those of the same rows' demo runs."""
    of_row = {(s.data.corpus, s.name): (s, value) for s, value in zip(demo, seconds, strict=True)}
    found = []
    for spec in paper:
        small, value = of_row[spec.data.corpus, spec.name]
        larger = 1.0 if spec.model_config == small.model_config else ratio
        found.append(value * larger * utterances(spec) / utterances(small))
    return found


def step_ratio() -> float:
    """A training step of FINE's paper configuration over one of its default configuration, as ``step.py`` measured."""
    rows = json.loads(Path(__file__).with_name("step.json").read_text())["rows"]
    milliseconds = {r["configuration"]: r["ms"] for r in rows if r["corpus"] == "mosi" and r["threads"] == 1}
    return milliseconds["paper"] / milliseconds["default"]


def utterances(spec: RunSpec) -> float:
    """Those that a run trains on in all its epochs."""
    return CORPORA[spec.data.corpus].sizes[0] * spec.data.scale * spec.train.epochs


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("--tasks", type=int, default=2000)
    given = parser.parse_args(arguments)
    demo, paper = planned("demo"), planned("paper")
    records = [read_record(path.parent) for path in sorted(given.records.glob("*/record.json"))]
    seconds, own = demo_seconds(demo, records)
    on_paper = paper_seconds(paper, demo, seconds, step_ratio())
    table1 = [s for s in demo if s.data.corpus == "mosi" and s.data.scale == 0.5 and s.seed == 0]
    short = [replace(s, data=replace(s.data, scale=0.25), train=replace(s.train, epochs=2)) for s in table1]
    ray = cluster.load()
    began, load = time.perf_counter(), os.getloadavg()
    with cluster.connected(ray, cluster.LOCAL, 2):
        measured = {"start_of_cluster": time.perf_counter() - began, **overhead(ray, demo, given.tasks), "load": load}
        dispatch, start = measured["dispatch_per_task"], measured["first_task"]
        real = real_runs(ray, short, dispatch, start)
    print(
        json.dumps(
            {
                "command": " ".join(["python", "benchmarks/cluster.py", "RECORDS", *arguments[1:]]),
                "machine": {
                    "processor": platform.processor() or platform.machine(),
                    "cores": os.cpu_count(),
                    "load_at_end": os.getloadavg(),
                },
                "versions": {**versions(), "ray": ray.__version__},
                "overhead": measured,
                "real": real,
                "demo": {"own_records": own, **curve(seconds, dispatch, start)},
                "paper": {"step_ratio": step_ratio(), **curve(on_paper, dispatch, start)},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
