"""FINE trained on a planted corpus larger than memory, streamed from its store, against the same training in memory.

    python benchmarks/larger_than_memory.py --out DIR [--rows 200000] [--threads 1] [--quick] [--keep]

Demo configuration, batch 32. Rounds of the arms alternate, since the machine may be busy with something else; before
every round the store's pages are unmapped and given up (posix_fadvise), so that streamed data come from the disk.
The result is DIR/larger_than_memory.json; --quick is for the code, its figures mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import mmap
import os
import platform
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted_parts
import psutil
import torch

from finelib import models
from finelib.config import FineConfig, TrainConfig
from finelib.contrastive import DynamicContrastiveQueue
from finelib.data.corpora import CORPORA, CorpusInfo
from finelib.data.features import Corpus, Split
from finelib.fine import FINE
from finelib.runs.records import git_revision, versions
from finelib.scale.streamed import StreamedConfig, StreamedTrainer
from finelib.training import Trainer, cpu_threads

MOSEI, BATCH, CHUNK, IN_MEMORY = CORPORA["mosei"], 32, 64, 4000


class AnonymousMemory:
    """Largest anonymous memory (MiB) of this process inside the block, looked at every 20 ms."""

    def __enter__(self) -> AnonymousMemory:
        self.peak, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, number("/proc/self/status", "RssAnon:") / 1024)
            if self._done.wait(0.02):
                return

    def __exit__(self, *_) -> None:
        self._done.set()
        self._thread.join()


def number(file: str, name: str) -> int:
    return int(Path(file).read_text().split(name)[1].split()[0])


def shape(rows: int, frames: float = 1.0) -> CorpusInfo:
    """MOSEI with so many training utterances and its longest sequences times ``frames``."""
    return replace(MOSEI, sizes=(rows, 256, 256), max_frames=tuple(round(frames * n) for n in MOSEI.max_frames))


def generate(info: CorpusInfo, out: Path) -> dict:
    """Make the corpus in its store; time, memory and sizes, kept beside it for a later start."""
    known = out / "corpora" / "generation.json"
    if known.exists():
        return json.loads(known.read_text())
    started = time.perf_counter()
    with AnonymousMemory() as memory:
        planted_parts.stored(info, cache=out)
    utterances = sum(info.sizes)
    dense = utterances * 4 * sum(n * d for n, d in zip(info.max_frames, info.widths, strict=True))
    stored = sum(path.stat().st_size for path in (out / "corpora").rglob("*.f4"))
    found = {
        "utterances": utterances,
        "training_utterances": info.sizes[0],
        "widths": info.widths,
        "max_frames": info.max_frames,
        "dense_gb": dense / 1e9,
        "stored_gb": stored / 1e9,
        "seconds": time.perf_counter() - started,
        "peak_anonymous_mib": memory.peak,
    }
    known.write_text(json.dumps(found))
    return found


def forget(out: Path, split: Split | None = None) -> None:
    """Have the store's pages given up: unmapped here, then dropped from the page cache."""
    for frames in split.frames.values() if split else ():
        frames.values.base.base.madvise(mmap.MADV_DONTNEED)
    for path in (out / "corpora").rglob("*.f4"):
        with path.open("rb") as stream_:
            os.posix_fadvise(stream_.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def model_of(corpus: Corpus) -> FINE:
    """FINE, default configuration; its contrastive queue holds 70 % of the training utterances."""
    torch.manual_seed(0)
    return models.build(FineConfig(), corpus)


def shorten_queue(model: FINE, slots: int) -> None:
    """Give the model an empty contrastive queue of so many slots, the classes' shares as they were."""
    shares = (model.queue.capacity / model.queue.capacity.sum()).tolist()
    capacity = [max(1, round(slots * share)) for share in shares]
    model.queue = DynamicContrastiveQueue(capacity, model.queue.features.shape[1])


def updates(model: FINE, corpus: Corpus, config: TrainConfig) -> Iterator[None]:
    """Endless training updates of the model, streamed if the configuration is a StreamedConfig."""
    trainer = (StreamedTrainer if isinstance(config, StreamedConfig) else Trainer)(model, corpus, config, seed=0)
    while True:
        yield from trainer.updates()
        trainer.end_epoch()


def rate(steps: Iterator[None], count: int, batch: int = BATCH) -> float:
    """Utterances per second over ``count`` updates."""
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    return batch * count / (time.perf_counter() - started)


def compare(model: FINE, corpus: Corpus, out: Path, config: StreamedConfig, rounds: int, steps: int) -> dict:
    """Rates of the arms in alternation: streamed, in memory, and mapped with a permutation of the whole corpus."""
    train = corpus.splits["train"]
    rows = np.sort(np.random.default_rng(0).choice(len(train), min(IN_MEMORY, len(train)), replace=False))
    in_memory = replace(corpus, splits=corpus.splits | {"train": train.take(rows)})
    whole = TrainConfig(epochs=config.epochs, batch_size=config.batch_size, threads=config.threads)
    arms = {
        "streamed": updates(copy.deepcopy(model), corpus, config),
        "in_memory": updates(copy.deepcopy(model), in_memory, whole),
        "mapped_full_permutation": updates(copy.deepcopy(model), corpus, whole),
    }
    found = {name: {"utterances_per_second": [], "per_cpu_second": [], "read_gb": 0.0} for name in arms}
    for arm in arms.values():
        rate(arm, 2)
    for _ in range(rounds):
        for name, arm in arms.items():
            forget(out, train)
            before = number("/proc/self/io", "\nread_bytes:")
            used = time.process_time()
            found[name]["utterances_per_second"].append(rate(arm, steps))
            found[name]["per_cpu_second"].append(BATCH * steps / (time.process_time() - used))
            found[name]["read_gb"] += (number("/proc/self/io", "\nread_bytes:") - before) / 1e9
    for quantity in ("utterances_per_second", "per_cpu_second"):
        memory = found["in_memory"][quantity]
        for arm in found.values():
            ratios = [a / b for a, b in zip(arm[quantity], memory, strict=True)]
            arm[f"{quantity}_total"] = rounds / sum(1 / value for value in arm[quantity])
            arm[f"{quantity}_ratios"], arm[f"{quantity}_median_ratio"] = ratios, statistics.median(ratios)
    return {"steps_per_round": steps, "rounds": rounds, "arms": found}


def both(model: FINE, corpus: Corpus, out: Path, config: StreamedConfig, rounds: int, steps: int) -> dict:
    """Memory of streamed training with nothing beside it, past the change of a window; then ``compare``."""
    forget(out, corpus.splits["train"])
    with AnonymousMemory() as memory:
        rate(updates(model, corpus, config), config.window_batches + 4)
    mapped, slots = number("/proc/self/status", "RssFile:") / 1024, len(model.queue.label)
    alone = {"queue_slots": slots, "peak_anonymous_mib": memory.peak, "file_mapped_mib": mapped}
    return alone | compare(model, corpus, out, config, rounds, steps)


def machine() -> dict:
    """What the figures were measured on, and how busy it is."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "memory_gib": psutil.virtual_memory().total / 2**30,
        "system": platform.platform(),
    }


def measure(rows: int, threads: int, quick: bool, out: Path) -> dict:
    """Everything, as the JSON has it."""
    config = StreamedConfig(epochs=100, batch_size=BATCH, threads=threads, chunk=8 if quick else CHUNK)
    generated = generate(shape(rows), out)
    forget(out)
    started = time.perf_counter()
    with AnonymousMemory() as opening:
        corpus = planted_parts.stored(shape(rows), cache=out)
    opened = time.perf_counter()
    with AnonymousMemory() as building:
        model = model_of(corpus)
    result = {
        "command": " ".join(["python", "benchmarks/larger_than_memory.py", *sys.argv[1:]]),
        "quick": quick,
        "cache": "before each round: MADV_DONTNEED, posix_fadvise(DONTNEED)",
        "threads": threads,
        "batch": BATCH,
        "chunk": config.chunk,
        "window_utterances": config.window_batches * BATCH,
        "generation": generated,
        "load_before": os.getloadavg(),
        "opening": {"seconds": opened - started, "peak_anonymous_mib": opening.peak},
        "building": {"seconds": time.perf_counter() - opened, "peak_anonymous_mib": building.peak},
    }
    with cpu_threads(threads):
        result["queue_as_configured"] = both(model, corpus, out, config, *((2, 4) if quick else (3, 4)))
        print(json.dumps(result), file=sys.stderr, flush=True)
        shorten_queue(model, round(FineConfig().queue_alpha * MOSEI.sizes[0]))
        result["queue_of_mosei"] = both(model, corpus, out, config, *((2, 4) if quick else (16, 16)))
    return result | {"machine": machine(), "versions": versions(), "git_revision": git_revision()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="24 GB are written here, and removed at the end")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the corpus, for another start")
    arguments = parser.parse_args()
    rows = arguments.rows or (1000 if arguments.quick else 200_000)
    result = measure(rows, arguments.threads, arguments.quick, arguments.out)
    (arguments.out / "larger_than_memory.json").write_text(json.dumps(result, indent=1))
    if not arguments.keep:
        shutil.rmtree(arguments.out / "corpora")


if __name__ == "__main__":
    main()
