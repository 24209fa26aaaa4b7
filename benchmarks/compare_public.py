"""Compared systems beside their authors' public code: training speed and test scores, on one planted file.

    python benchmarks/compare_public.py CHECKOUTS --system gfn --out benchmarks/public_code.json

CHECKOUTS is a folder with a checkout of each repository in SYSTEMS (``public_run.py``), named as ``--system`` is.
Nothing of that code is in this repository: its classes are imported when the script runs, and what keeps them from
running is mended from outside (``public_systems.py``) and listed with the result. Both sides read the same planted file
in MMSA's format (``compare_mmsa.write_file``: each frame of each modality tells the label a little), the file's frozen
text features in place of a text encoder, and have the same epochs, batch size and learning rate; each keeps the rest of
its recipe (optimiser, schedule, clipping, dropout) and the published sizes. Seeds are trained in alternation, theirs
and ours, each in a process of its own with one thread, both with the memory allocator set as ``run_all.sh`` sets it.
Speed is utterances per second of CPU time in training steps, the median over the seeds; test scores are those of the
epoch with the smallest validation MAE, with the t interval of the mean over seeds. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from compare_mmsa import ALLOCATOR, ROOT, count, keep, measures, write_file
from public_run import SYSTEMS, Run, checkout

ROWS = (384, 96, 300)
FILE = Path("MOSI") / "Processed" / "aligned_50.pkl"


def theirs(job: dict) -> dict:
    """Train the public code; test scores, validation MAE of each epoch, speed, parameters."""
    import public_systems
    import torch

    torch.manual_seed(job["seed"])
    run = Run(Path(job["folder"]) / FILE, Path(job["checkout"]), job["settings"])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # some write weights below the current folder
        model = getattr(public_systems, job["system"])(run)
    speed = {"samples_per_s": run.seen / run.seconds, "parameters": count(model)}
    return run.scores | {"dev_mae": run.curve} | speed


def ours(job: dict) -> dict:
    """Train the system of this package; the same."""
    import torch

    from finelib import models, training
    from finelib.baselines import SYSTEMS as OWN
    from finelib.config import TrainConfig
    from finelib.data import sources

    corpus = sources.load("mosi", job["folder"], aligned=True)
    config = OWN[SYSTEMS[job["system"]].name].Config()
    train = replace(TrainConfig(patience=job["settings"]["epochs"], threads=1), **job["settings"])
    torch.manual_seed(job["seed"])
    model = models.build(config, corpus)
    history = training.fit(model, corpus, train, job["seed"])
    test = corpus.splits["test"]
    scores = measures(training.predict(model, test), test.label)
    speed = {"samples_per_s": history.samples_per_second, "parameters": count(model)}
    return scores | {"dev_mae": [curve["dev_mae"] for curve in history.curves]} | speed


def work(job: dict) -> dict:
    """What a worker process does. CPU time is the clock: other programs do not lengthen it."""
    import torch

    torch.set_num_threads(1)
    time.perf_counter = time.process_time
    logging.disable()
    return (ours if job["side"] == "ours" else theirs)(job)


def in_process(job: dict) -> dict:
    """Run ``work`` in a fresh process with one thread and the allocator's settings."""
    cache = {"FINE_CACHE": str(Path(job["folder"]) / "cache"), "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    environment = os.environ | ALLOCATOR | cache | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, "--worker", json.dumps(job)]
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(job: dict, seeds: int) -> dict:
    """Both sides in alternation: speeds, and test scores with the half width of their mean's 95 % interval."""
    from scipy import stats

    found: dict[str, list[dict]] = {"theirs": [], "ours": []}
    for seed in range(seeds):
        for side, runs in found.items():
            runs.append(in_process(job | {"side": side, "seed": seed}))
            print(side, json.dumps(runs[-1]), flush=True)
    rate = {side: [round(run["samples_per_s"], 1) for run in runs] for side, runs in found.items()}
    median = {side: statistics.median(values) for side, values in rate.items()}
    result = {"samples_per_s": rate, "ratio": round(median["ours"] / median["theirs"], 2)}
    result["seconds_per_epoch"] = {side: round(ROWS[0] / value, 2) for side, value in median.items()}
    curves = {side: runs[0]["dev_mae"] for side, runs in found.items()}
    result["dev_mae_of_first_seed"] = {side: [round(mae, 3) for mae in curve] for side, curve in curves.items()}
    result["parameters"] = {side: runs[0]["parameters"] for side, runs in found.items()}
    for metric, better in (("mae", -1), ("corr", 1)):
        scores = {side: [run[metric] for run in runs] for side, runs in found.items()}
        mean = {side: statistics.mean(values) for side, values in scores.items()}
        quantile = float(stats.t.ppf(0.975, seeds - 1)) / seeds**0.5
        half = {side: quantile * statistics.stdev(values) for side, values in scores.items()}
        result[metric] = {side: [round(x, 4) for x in values] for side, values in scores.items()}
        result[metric] |= {f"{side}_mean": round(value, 4) for side, value in mean.items()}
        result[metric] |= {f"{side}_half_width": round(value, 4) for side, value in half.items()}
        result[metric] |= {"ours_within_or_better": better * (mean["ours"] - mean["theirs"]) >= -half["theirs"]}
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="?", default=Path())
    parser.add_argument("--system", choices=SYSTEMS, default="gfn")
    parser.add_argument("--lengths", choices=("full", "mosi"), default="mosi", help="as in compare_mmsa.py")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="put the result among those of other systems")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return 0
    from finelib.baselines import SYSTEMS as OWN

    system = SYSTEMS[options.system]
    try:
        code = checkout(options.checkouts, options.system)
    except ValueError as error:
        print(f"compare_public.py: {error}", file=sys.stderr)
        return 2
    settings = {"accumulate": 1} | OWN[system.name].TRAIN | system.settings | {"epochs": system.epochs}
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_file(Path(folder), ROWS, options.lengths, aligned=True)
        job = {"system": options.system, "folder": folder, "checkout": str(code), "settings": settings}
        found = compare(job, options.seeds)
    shared = {name: settings[name] for name in ("epochs", "batch_size", "accumulate", "lr")}
    result = {"system": system.name, "repository": system.repository, "revision": system.revision}
    result |= {"repairs": system.repairs, "data": "planted", "rows": ROWS, "lengths": lengths, "both_sides": shared}
    result |= {"threads": 1, **found, "versions": {"torch": version("torch")}}
    result |= {"cpu": platform.processor() or platform.machine()}
    print(json.dumps(result))
    if options.out:
        keep(options.out, options.system + ("" if options.lengths == "mosi" else f"_{options.lengths}"), result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
