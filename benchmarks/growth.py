"""How time and memory of training grow with rows, frames, batch size and seeds: exponents in log-log.

    python benchmarks/growth.py --out DIR [--quick] [--only NAME ...]

Planted data of MOSEI's widths, FINE's default configuration, one thread, figures in ``DIR/growth.json``: for each size
x the value y, the exponent b of y = a x^b with its standard error, and the r2 of a straight line. What is there per
step or per process whatever the size makes an exponent smaller than 1; a straight line has room for it. On a machine
that others use the CPU's seconds are the ones to look at.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted_parts
from larger_than_memory import BATCH, AnonymousMemory, machine, model_of, number, rate, shape, updates
from scipy import stats

from finelib import training
from finelib.config import TrainConfig
from finelib.data import planted
from finelib.data.features import Corpus, Split
from finelib.runs.records import git_revision, versions
from finelib.scale.streamed import StreamedConfig

ROWS, FRAMES, BATCHES, SEEDS = (500, 1000, 2000, 4000, 8000), (0.25, 0.5, 1, 2), (8, 16, 32, 64, 128, 256), (1, 2, 4, 8)
CHUNK = 16
IN_MEMORY = TrainConfig(epochs=100, batch_size=BATCH)
STREAMED = StreamedConfig(epochs=100, batch_size=BATCH, chunk=CHUNK)


def growth(name: str, sizes: tuple[float, ...], measure: Callable[[float], dict[str, float]]) -> dict:
    """What ``measure`` gives at each size, and how it grows."""
    found, curves = [measure(x) for x in sizes], {}
    for quantity in found[0]:
        y = [point[quantity] for point in found]
        power, line = stats.linregress(np.log(sizes), np.log(y)), stats.linregress(sizes, y)
        curves[quantity] = {
            "y": y,
            "exponent": power.slope,
            "standard_error": power.stderr,
            "line": {"slope": line.slope, "intercept": line.intercept, "r2": line.rvalue**2},
        }
    print(name, json.dumps(curves), file=sys.stderr, flush=True)
    return {"x": list(sizes), "curves": curves}


def head(corpus: Corpus, n: int) -> Corpus:
    """A corpus of the first n training utterances, their frames mapped as they are."""
    split = corpus.splits["train"]
    frames = {
        m: replace(f, values=f.values[: f.length[:n].sum()], start=f.start[:n], length=f.length[:n])
        for m, f in split.frames.items()
    }
    first = Split(frames, split.label[:n], split.ids[:n], split.text[:n])
    return replace(corpus, splits=corpus.splits | {"train": first})


def in_memory(corpus: Corpus) -> Corpus:
    """The corpus with its training split copied to ordinary memory."""
    train = corpus.splits["train"]
    return replace(corpus, splits=corpus.splits | {"train": train.take(np.arange(len(train)))})


def more_memory(work: Callable[[], object]) -> float:
    """Anonymous memory (MiB) that work takes at most beyond what the process has."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before and only kept by the allocator is not there already
    before = number("/proc/self/status", "RssAnon:") / 1024
    with AnonymousMemory() as memory:
        work()
    return memory.peak - before


def seconds(work: Callable[[], object]) -> dict[str, float]:
    """Time on the clock and on the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def rows(corpus: Corpus, n: int) -> dict[str, float]:
    """Time of an epoch in memory, and its memory. The queue grows with the rows, as it does."""
    mapped, steps = head(corpus, n), -(-n // BATCH)
    model = model_of(mapped)
    epoch = updates(model, in_memory(mapped), IN_MEMORY)
    rate(epoch, 2)
    found = seconds(lambda: rate(epoch, steps))
    del epoch
    memory = more_memory(lambda: rate(updates(model, in_memory(mapped), IN_MEMORY), 4))
    return found | {"in_memory_mib": memory}


def streamed(corpus: Corpus, n: int) -> dict[str, float]:
    """Memory of streamed training, over two windows and a half. The queue is as long for all n."""
    model, part = model_of(corpus), head(corpus, n)
    return {"streamed_mib": more_memory(lambda: rate(updates(model, part, STREAMED), 20))}


def step(corpus: Corpus, batch: int = BATCH) -> dict[str, float]:
    """Median time of a step."""
    arm = updates(model_of(corpus), corpus, replace(IN_MEMORY, batch_size=batch))
    rate(arm, 2)
    found = [seconds(lambda: next(arm)) for _ in range(7)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def seeds(corpus: Corpus, n: int) -> dict[str, float]:
    """Time of whole trainings one after another, an epoch each."""
    config = replace(IN_MEMORY, epochs=1)
    return seconds(lambda: [training.fit(model_of(corpus), corpus, config, seed) for seed in range(n)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a gigabyte is written here, and removed at the end")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows: for the code, not for figures")
    parser.add_argument("--only", nargs="+", help="of rows, streamed, frames, batch, seeds; the others are kept")
    arguments = parser.parse_args()
    sizes, path = tuple(n // 10 for n in ROWS) if arguments.quick else ROWS, arguments.out / "growth.json"
    stored, small = planted_parts.stored(shape(max(sizes)), cache=arguments.out), planted.generate(shape(256))
    measures = {
        "rows": (sizes, lambda n: rows(stored, n)),
        "streamed": (sizes, lambda n: streamed(stored, n)),
        "frames": (FRAMES, lambda x: step(planted.generate(shape(256, x)))),
        "batch": (BATCHES, lambda batch: step(small, batch)),
        "seeds": (SEEDS, lambda n: seeds(small, n)),
    }
    found = json.loads(path.read_text())["growth"] if path.exists() else {}
    with training.cpu_threads(1):
        for name in arguments.only or measures:
            load = os.getloadavg()
            found[name] = growth(name, *measures[name]) | {"load_before": load, "git_revision": git_revision()}
    shutil.rmtree(arguments.out / "corpora")
    result = {
        "command": " ".join(["python", "benchmarks/growth.py", *sys.argv[1:]]),
        "quick": arguments.quick,
        "batch": BATCH,
        "streamed_chunk": CHUNK,
        "growth": found,
        "machine": machine(),
        "versions": versions(),
    }
    path.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
