"""How time and memory of training grow with rows, frames, batch size and seeds: exponents in log-log.

    python benchmarks/growth.py --out DIR [--quick]

Planted data of MOSEI's widths, FINE's demo configuration, one thread, figures in ``DIR/growth.json``: for each size x
the value y, the exponent b of y = a x^b with its standard error, and the r2 of a straight line. What is there per
step or per process whatever the size makes an exponent smaller than 1; a straight line has room for it. On a machine
that others use the CPU's seconds are the ones to look at.
"""

from __future__ import annotations

import argparse
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
from larger_than_memory import BATCH, AnonymousMemory, machine, model_of, number, rate, shape, updates
from scipy import stats

from finelib import training
from finelib.config import TrainConfig
from finelib.data import planted
from finelib.data.features import Corpus, Split
from finelib.fine import FINE
from finelib.records import git_revision, versions

ROWS, FRAMES, BATCHES, SEEDS = (500, 1000, 2000, 4000, 8000), (0.25, 0.5, 1, 2), (8, 16, 32, 64, 128, 256), (1, 2, 4, 8)
CHUNK = 16
IN_MEMORY = TrainConfig(epochs=100, batch_size=BATCH)


def growth(name: str, sizes: tuple[float, ...], measure: Callable[[float], dict[str, float]]) -> dict:
    """What ``measure`` gives at each size, and how it grows."""
    found, curves = [measure(x) for x in sizes], {}
    for quantity in found[0]:
        y = [point[quantity] for point in found]
        power, line = stats.linregress(np.log(sizes), np.log(y)), stats.linregress(sizes, y)
        curves[quantity] = {
            "y": y, "exponent": power.slope, "standard_error": power.stderr,
            "line": {"slope": line.slope, "intercept": line.intercept, "r2": line.rvalue**2},
        }  # fmt: skip
    print(name, json.dumps(curves), file=sys.stderr, flush=True)
    return {"x": list(sizes), "curves": curves}


def head(split: Split, n: int) -> Split:
    """The first n utterances, their frames mapped as they are."""
    frames = {
        m: replace(f, values=f.values[: f.length[:n].sum()], start=f.start[:n], length=f.length[:n])
        for m, f in split.frames.items()
    }
    return Split(frames, split.label[:n], split.ids[:n], split.text[:n])


def more_memory(model: FINE, split: Split, config: TrainConfig, steps: int, loaded: bool) -> float:
    """Anonymous memory (MiB) that training takes beyond what the process had; ``loaded``: the split copied too."""
    before = number("/proc/self/status", "RssAnon:") / 1024
    with AnonymousMemory() as memory:
        rate(updates(model, split.take(np.arange(len(split))) if loaded else split, config), steps)
    return memory.peak - before


def seconds(work: Callable[[], object]) -> dict[str, float]:
    """Time on the clock and on the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def rows(corpus: Corpus, n: int) -> dict[str, float]:
    """Time of an epoch in memory; memory, in memory and streamed. The queue grows with the rows, as it does."""
    part, steps = head(corpus.splits["train"], n), -(-n // BATCH)
    model = model_of(replace(corpus, splits=corpus.splits | {"train": part}))
    epoch = updates(model, part.take(np.arange(n)), IN_MEMORY)
    rate(epoch, 2)
    found = seconds(lambda: rate(epoch, steps))
    del epoch
    return found | {
        "in_memory_mib": more_memory(model, part, IN_MEMORY, 4, loaded=True),
        "streamed_mib": more_memory(model, part, replace(IN_MEMORY, chunk=CHUNK), 20, loaded=False),
    }


def step(corpus: Corpus, batch: int = BATCH) -> dict[str, float]:
    """Median time of a step."""
    arm = updates(model_of(corpus), corpus.splits["train"], replace(IN_MEMORY, batch_size=batch))
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
    arguments = parser.parse_args()
    load = os.getloadavg()
    sizes = tuple(n // 10 for n in ROWS) if arguments.quick else ROWS
    with training.cpu_threads(1):
        stored = planted.stored(shape(max(sizes)), cache=arguments.out)
        found = {"rows": growth("rows", sizes, lambda n: rows(stored, n))}
        small = planted.generate(shape(256))
        found["frames"] = growth("frames", FRAMES, lambda x: step(planted.generate(shape(256, x))))
        found["batch"] = growth("batch", BATCHES, lambda batch: step(small, batch))
        found["seeds"] = growth("seeds", SEEDS, lambda n: seeds(small, n))
    shutil.rmtree(arguments.out / "corpora")
    result = {
        "command": " ".join(["python", "benchmarks/growth.py", *sys.argv[1:]]), "quick": arguments.quick,
        "batch": BATCH, "streamed_chunk": CHUNK, "growth": found, "machine": machine(), "load_before": load,
        "versions": versions(), "git_revision": git_revision(),
    }  # fmt: skip
    (arguments.out / "growth.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
