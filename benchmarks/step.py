"""FINE's training step against what the machine can do at most: a roofline, measured in one run.

    python benchmarks/step.py --threads 1 2 --out benchmarks/step.json
    python benchmarks/step.py --precision bfloat16

Input of each corpus's full published lengths (no padding to trim), batch 32. Every operation of a step is counted: its
multiplications and additions, and the bytes it reads and writes. It takes at least the larger of operations / matrix
product rate and bytes / copy rate; the sum over the step is the attainable time. Both rates are measured in the same
process, the product between the steps, since a machine's speed drifts. "ms_by_kind" is where the time goes: every
operation of a step is timed as it is dispatched, which makes the step longer; the rest, "between the operations", is
Python, autograd and the timing. (PyTorch's profiler is not used: its own records make large results land in fresh
memory, which can double the time of a product.)
Run it as ``run_all.sh`` runs training, with memory kept in large pages:

    malloc=glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184
    export GLIBC_TUNABLES=$malloc:glibc.malloc.hugetlb=1
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections import Counter
from importlib.metadata import version

import joblib
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from finelib.config import FineConfig, TrainConfig
from finelib.data.corpora import CORPORA, CorpusInfo
from finelib.data.features import MODALITIES, SPLITS, Batch, Corpus, Frames, Split
from finelib.fine import FINE
from finelib.inputs import Inputs
from finelib.runs import presets
from finelib.training import PRECISIONS, Trainer

BATCH, STEPS, PRODUCT = 32, 15, 1024
COPIES = [2**k for k in range(16, 27, 2)]  # bytes copied, for the rate at which operations of that size move theirs
KINDS = {
    "optimiser": ("adamw", "foreach"),
    "matrix products": ("mm", "bmm", "addmm", "baddbmm"),
    "softmax": ("softmax", "logsumexp"),
    "attention": ("scaled_dot_product",),
    "GELU and ReLU": ("gelu", "relu", "threshold"),
    "norms": ("norm",),
    "copies": ("copy", "cat", "clone", "stack", "index"),
    "random numbers": ("random",),
}
CONFIGURATIONS = {"default": FineConfig(), "paper": presets.PAPER}
PHASES = ("forward", "losses", "backward", "update")


# --------------------------------------------------------------------------------------- what a step consists of


def made_up(config: FineConfig, info: CorpusInfo, train: TrainConfig) -> tuple[Trainer, Batch]:
    """A training of FINE, and a batch of full length to train on, on the device of ``train``."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    frames = {}
    for m, width, longest in zip(MODALITIES, info.widths, info.max_frames, strict=True):
        values = rng.standard_normal((BATCH * longest, width), np.float32)
        frames[m] = Frames.from_lengths(values, np.full(BATCH, longest))
    label = rng.uniform(info.label_low, info.label_high, BATCH).astype(np.float32)
    split = Split(frames, label, ids=[str(i) for i in range(BATCH)], text=[""] * BATCH)
    corpus = Corpus(info, "planted", dict.fromkeys(SPLITS, split), sha256="", encoder="")
    classes = len(info.class_edges) + 1
    model = FINE(config, info, Inputs(corpus.widths), [info.sizes[0] // classes] * classes)  # the corpus's own queue
    trainer = Trainer(model, corpus, train, seed=0)
    return trainer, trainer.splits["train"].batch(torch.arange(BATCH))


def step(trainer: Trainer, batch: Batch) -> list[float]:
    """One whole training step; seconds of its phases (on a GPU of their launch alone)."""
    clock = [time.perf_counter()]
    output = trainer.forward(batch)
    clock.append(time.perf_counter())
    total = trainer.model.losses(output, batch)["total"]
    clock.append(time.perf_counter())
    total.backward()
    clock.append(time.perf_counter())
    trainer.step()
    clock.append(time.perf_counter())
    return [after - before for before, after in zip(clock, clock[1:], strict=False)]


def counted(config: FineConfig, info: CorpusInfo) -> int:
    """Operations of one training step, counted on tensors without values."""
    trainer, batch = made_up(config, info, TrainConfig(device="meta"))
    with FlopCounterMode(display=False) as counter:
        trainer.losses(batch)["total"].backward()
    return counter.get_total_flops()


class Operations(TorchDispatchMode):
    """Notes (name, operations, bytes, seconds) of everything that is called inside."""

    def __init__(self):
        super().__init__()
        self.called: list[tuple[str, int, int, float]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        started = time.perf_counter()
        out = function(*args, **(kwargs or {}))
        took = time.perf_counter() - started
        count = flop_registry.get(function.overloadpacket)
        operations = count(*args, **(kwargs or {}), out_val=out) if count else 0
        size = 0 if function.is_view else moved(args, out)
        self.called.append((function.overloadpacket.__name__, operations, size, took))
        return out


def moved(args, out) -> int:
    """Bytes of all tensors that go in and come out; of an expanded tensor those that are there."""
    tensors = [x for x in (*tree_leaves(args), *tree_leaves(out)) if isinstance(x, torch.Tensor)]
    return sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)


# ------------------------------------------------------------------------------------------------ the machine


def seconds(work, repeats: int = STEPS) -> float:
    """Median over repeats, after two that do not count."""
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def copy_rates() -> dict[int, float]:
    """Bytes per second (read and written) of copies by the bytes that they move: small ones stay in a cache."""
    rates = {}
    for size in COPIES:
        source, target = torch.randn(size // 8), torch.empty(size // 8)
        rates[size] = size / seconds(lambda s=source, t=target: t.copy_(s), 30)
    return rates


def attainable(called: list[tuple[str, int, int, float]], product: float, copies: dict[int, float]) -> float:
    """Seconds that the operations take at least."""

    def rate(size: int) -> float:
        return copies[min(copies, key=lambda known: abs(known.bit_length() - size.bit_length()))]

    return sum(max(operations / product, size / rate(size)) for _, operations, size, _ in called)


# ------------------------------------------------------------------------------------------------ the figures


def measure(config: FineConfig, info: CorpusInfo, train: TrainConfig, copies: dict[int, float]) -> dict:
    """Counts, times and shares of one configuration on one corpus's sizes."""
    trainer, batch = made_up(config, info, train)
    for _ in range(3):
        step(trainer, batch)
    with Operations() as counts:
        step(trainer, batch)
    a = torch.randn(PRODUCT, PRODUCT)
    phases, products = [], []
    for i in range(STEPS + 3):
        times, product = step(trainer, batch), seconds(lambda: a @ a, 1)
        if i >= 3:
            phases.append(times)
            products.append(2 * PRODUCT**3 / product)
    product, took = statistics.median(products), statistics.median(map(sum, phases))
    operations = sum(called[1] for called in counts.called)
    least = attainable(counts.called, product, copies)
    return {
        "corpus": info.name,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "gflop": operations / 1e9,
        "gbyte": sum(called[2] for called in counts.called) / 1e9,
        "calls": len(counts.called),
        "ms": 1e3 * took,
        "samples_per_second": BATCH / took,
        "product_gflop_per_second": product / 1e9,
        "share_of_product_rate": operations / took / product,
        "attainable_ms": 1e3 * least,
        "share_of_attainable": least / took,
        "ms_by_phase": {p: 1e3 * statistics.median(t) for p, t in zip(PHASES, zip(*phases, strict=True), strict=True)},
        "ms_by_kind": by_kind(lambda: step(trainer, batch)),
    }


def by_kind(work) -> dict[str, float]:
    """Milliseconds of a step by kind of operation, in a step whose operations are timed; ``work`` does one."""
    spent: Counter[str] = Counter()
    started = time.perf_counter()
    with Operations() as counts:
        for _ in range(STEPS):
            work()
    whole = 1e3 * (time.perf_counter() - started) / STEPS
    for name, _, size, took in counts.called:
        kind = next((k for k, parts in KINDS.items() if any(part in name for part in parts)), "elementwise, sums")
        spent[kind if size else "views"] += 1e3 * took / STEPS
    spent["between the operations"] = whole - sum(spent.values())
    return dict(spent.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=["mosi", "mosei", "ch_sims"])
    parser.add_argument("--configurations", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--out", help="also write the JSON here")
    arguments = parser.parse_args()
    rows, rates = [], {}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        copies = copy_rates()
        rates[threads] = {str(size): rate / 1e9 for size, rate in copies.items()}
        for corpus in arguments.corpora:
            for name in arguments.configurations:
                train = TrainConfig(precision=arguments.precision)
                found = measure(CONFIGURATIONS[name], CORPORA[corpus], train, copies)
                rows.append({"threads": threads, "configuration": name} | found)
                row = rows[-1]
                print(
                    f"{corpus}, {name}, {threads} thread(s): {row['ms']:.0f} ms, {row['share_of_product_rate']:.0%} "
                    f"of the product rate, {row['share_of_attainable']:.0%} of attainable",
                    flush=True,
                )
    content = json.dumps(
        {
            "batch": BATCH,
            "precision": arguments.precision,
            "copy_gbyte_per_second": rates,
            "rows": rows,
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # of Linux, in kB
            "load": os.getloadavg()[0],
            "processor": platform.processor() or platform.machine(),
            "cores": joblib.cpu_count(),
            "torch": version("torch"),
            "allocator": os.environ.get("GLIBC_TUNABLES", "as it comes"),
            "command": " ".join(["python", "benchmarks/step.py", *sys.argv[1:]]),
        },
        indent=1,
    )
    print(content)
    if arguments.out:
        with open(arguments.out, "w") as file:
            file.write(content + "\n")


if __name__ == "__main__":
    main()
