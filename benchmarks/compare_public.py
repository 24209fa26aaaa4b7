"""Compared systems beside their authors' public code: training speed and test scores, on one planted file.

    python benchmarks/compare_public.py CHECKOUTS --system gfn --out benchmarks/public_code.json

CHECKOUTS is a folder with a checkout of each repository in SYSTEMS, named as ``--system`` is. Nothing of that code is
in this repository: its classes are imported when the script runs, and what keeps them from running is mended from
outside (``public_systems.py``) and listed with the result. Both sides read the same file in MMSA's format, the
file's frozen text features in place of a text encoder, and have the same epochs, batch size and learning rate; each
keeps the rest of its recipe (optimiser, schedule, clipping, dropout) and the published sizes. Seeds are trained in
alternation, ours and theirs, each in a process of its own with one thread on one core, both with the memory allocator
set as ``run_all.sh`` sets it. Speed is utterances per second of CPU time in training steps, the median over the seeds;
test scores are those of the epoch with the smallest validation MAE. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from compare_mmsa import ALLOCATOR, ROOT, count, keep, measures, write_file

ROWS = (512, 128, 300)
ENCODER = "the text encoder is replaced by the file's frozen text features"
WIDTHS = "feature widths and the device, constants of the code, are those of the file and the CPU"
OLD = "classes of the transformers library stand in where it had them then, with the weights' distribution of then"
IN_PLACE = "attention's query is a copy, since PyTorch now refuses to scale a part of a shared product in place"
FROZEN_RATE = "the learning rate, which is a pre-trained encoder's, is 1e-3 on both sides"


@dataclass(frozen=True)
class System:
    """Name here, repository, epochs, settings that differ from the recipe's on both sides, mends of the public code."""

    name: str
    repository: str
    epochs: int
    settings: dict
    repairs: tuple[str, ...]


SYSTEMS = {
    "gfn": System(
        "GFN",
        "TmacMai/ARGF_multimodal_fusion",
        8,
        {},
        (
            "an utterance's vectors are the means of its real frames",
            "one output: the softmax over classes is left out",
            "all gradients of a step are computed before the first of four optimisers moves a weight; PyTorch now "
            "refuses gradients through weights that have moved",
            "the training loop, which is inside the script's main with a random search, is written anew",
        ),
    ),
    "cubemlp": System(
        "CubeMLP",
        "kiva12138/CubeMLP",
        12,
        {},
        (ENCODER, "the training loop, which needs a GPU and a log folder, is written anew"),
    ),
    "mag": System(
        "MAG-BERT",
        "WasifurRahman/BERT_multimodal_transformer",
        12,
        {"lr": 1e-3},
        (
            "the text encoder is an untrained BERT of our size (2 layers, 128 wide) on a [CLS] vector and a linear map "
            "of the file's frozen text features",
            WIDTHS,
            OLD,
            "the learning rate, which is the pre-trained encoder's, is ours for what is new",
            "the training loop, which needs a GPU and an account for logging, is written anew",
        ),
    ),
    "c_mib": System(
        "C-MIB", "TmacMai/Multimodal-Information-Bottleneck", 15, {"lr": 1e-3}, (ENCODER, WIDTHS, OLD, FROZEN_RATE)
    ),
    "euar": System(
        "EUAR",
        "ZixianGao/EUAR",
        12,
        {"lr": 1e-3},
        (
            ENCODER,
            WIDTHS,
            IN_PLACE,
            FROZEN_RATE,
            "an argument of the schedule that PyTorch no longer takes is left out",
        ),
    ),
    "dmd": System(
        "DMD",
        "mdswyz/DMD",
        2,
        {"lr": 1e-3, "accumulate": 1},
        (
            "the configuration's own switch turns the text encoder off, so that the file's text features are read",
            "calls that move tensors to a GPU do nothing",
            "the cosine loss, which PyTorch now refuses for three axes, runs along the axis it had then (the batch)",
            "an argument of the schedule that PyTorch no longer takes is left out",
            "the learning rate is 1e-3 instead of 1e-4, with a step every batch instead of every ten, on both sides: "
            "there are few batches",
        ),
    ),
}


class Run:
    """A file in MMSA's format for public code: batches, their time, and the scores at the best epoch on validation."""

    def __init__(self, data: Path, folder: Path, settings: dict):
        import torch

        self.folder, self.settings, self.lr, self.epochs = folder, settings, settings["lr"], settings["epochs"]
        self.seconds, self.seen, self.best, self.scores = 0.0, 0, np.inf, {}
        with (data / "MOSI" / "Processed" / "aligned_50.pkl").open("rb") as stream:
            content = pickle.load(stream)
        names = {"text": "text", "audio": "audio", "vision": "vision", "label": "regression_labels"}
        self.splits = {
            split: {name: torch.as_tensor(fields[key]) for name, key in names.items()}
            | {"mask": torch.as_tensor(fields["text_bert"][:, 1]).long()}
            for split, fields in content.items()
        }
        self.size = len(self.splits["train"]["label"])

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.size // self.settings["batch_size"])

    def __iter__(self) -> Iterator[dict]:
        """The training split's batches in random order; a batch's time runs until the next one is asked for."""
        import torch

        data, began = self.splits["train"], time.perf_counter()
        for rows in torch.randperm(self.size).split(self.settings["batch_size"]):
            batch = {name: values[rows] for name, values in data.items()}
            yield batch | {"labels": {"M": batch["label"]}}
            self.seen += len(rows)
        self.seconds += time.perf_counter() - began

    def evaluate(self, predict: Callable, size: int = 128) -> float:
        """Validation MAE; the test scores are kept if it is the smallest so far."""
        import torch

        found = {}
        for split in ("valid", "test"):
            data, parts = self.splits[split], []
            with torch.no_grad():
                for rows in torch.arange(len(data["label"])).split(size):
                    parts.append(predict({name: values[rows] for name, values in data.items()}).view(-1))
            found[split] = measures(torch.cat(parts).numpy(), data["label"].numpy())
        if found["valid"]["mae"] < self.best:
            self.best, self.scores = found["valid"]["mae"], found["test"]
        return found["valid"]["mae"]

    def train(self, model, step: Callable, predict: Callable, after: Callable = lambda error: None) -> None:
        """All epochs; ``after`` gets each one's validation MAE."""
        for _ in range(self.epochs):
            model.train()
            for batch in self:
                step(batch)
            model.eval()
            after(self.evaluate(predict))


def theirs(job: dict) -> dict:
    """Train the public code; test scores, speed, parameters."""
    import public_systems
    import torch

    torch.manual_seed(job["seed"])
    run = Run(Path(job["folder"]), Path(job["checkouts"]) / job["system"], job["settings"])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # some write weights below the current folder
        model = getattr(public_systems, job["system"])(run)
    return run.scores | {"samples_per_s": run.seen / run.seconds, "parameters": count(model)}


def ours(job: dict) -> dict:
    """Train the system of this package; test scores, speed, parameters."""
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
    return scores | {"samples_per_s": history.samples_per_second, "parameters": count(model)}


def work(job: dict) -> dict:
    """What a worker process does. CPU time is the clock: other programs do not lengthen it."""
    import torch

    torch.set_num_threads(1)
    os.sched_setaffinity(0, {job["core"]})
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
    """Both sides in alternation: speeds, and test scores with the interval of the public code's mean."""
    from scipy import stats

    found: dict[str, list[dict]] = {"theirs": [], "ours": []}
    for seed in range(seeds):
        for side, runs in found.items():
            runs.append(in_process(job | {"side": side, "seed": seed}))
            print(side, json.dumps(runs[-1]), flush=True)
    rate = {side: [round(run["samples_per_s"], 1) for run in runs] for side, runs in found.items()}
    median = {side: statistics.median(values) for side, values in rate.items()}
    result = {"samples_per_s": rate, "ratio": round(median["ours"] / median["theirs"], 2)}
    result["parameters"] = {side: runs[0]["parameters"] for side, runs in found.items()}
    for metric, better in (("mae", -1), ("corr", 1)):
        scores = {side: [run[metric] for run in runs] for side, runs in found.items()}
        mean = {side: statistics.mean(values) for side, values in scores.items()}
        half = float(stats.t.ppf(0.975, seeds - 1)) * statistics.stdev(scores["theirs"]) / seeds**0.5
        result[metric] = {side: [round(x, 4) for x in values] for side, values in scores.items()}
        result[metric] |= {f"{side}_mean": round(value, 4) for side, value in mean.items()}
        result[metric] |= {"theirs_half_width": round(half, 4)}
        result[metric] |= {"ours_within_or_better": better * (mean["ours"] - mean["theirs"]) >= -half}
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="?")
    parser.add_argument("--system", choices=SYSTEMS, default="gfn")
    parser.add_argument("--lengths", choices=("full", "mosi"), default="mosi", help="as in compare_mmsa.py")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="put the result among those of other systems")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return 0
    from finelib.baselines import SYSTEMS as OWN

    system = SYSTEMS[options.system]
    checkout = (options.checkouts / options.system).resolve()
    commit = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], text=True, capture_output=True, check=True)
    settings = {"accumulate": 1} | OWN[system.name].TRAIN | system.settings | {"epochs": system.epochs}
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_file(Path(folder), ROWS, options.lengths, aligned=True)
        job = {"system": options.system, "folder": folder, "checkouts": str(checkout.parent)}
        found = compare(job | {"settings": settings, "core": options.core}, options.seeds)
    shared = {name: settings[name] for name in ("epochs", "batch_size", "accumulate", "lr")}
    result = {"system": system.name, "repository": system.repository, "commit": commit.stdout.strip()}
    result |= {"repairs": system.repairs, "data": "planted", "rows": ROWS, "lengths": lengths, "both_sides": shared}
    result |= {"threads": 1, **found, "versions": {"torch": version("torch")}}
    result |= {"cpu": platform.processor() or platform.machine()}
    print(json.dumps(result))
    if options.out:
        keep(options.out, options.system + ("" if options.lengths == "mosi" else f"_{options.lengths}"), result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
