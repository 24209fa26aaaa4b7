"""A training step against the machine's matrix product, measured in one run.

    python benchmarks/step.py [--threads N] [--corpus mosi] [--precision bfloat16] [--compile] [--profile]

Input of the corpus's full published lengths (no padding to trim), batch 32. "share" is the step's counted
operations per second over the rate of a 2048 x 2048 float32 product in the same process.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from finelib import presets
from finelib.config import FineConfig, TrainConfig
from finelib.data.corpora import CORPORA, CorpusInfo
from finelib.data.features import MODALITIES, Batch
from finelib.fine import FINE
from finelib.training import PRECISIONS, _Run

BATCH = 32


def median_seconds(work, repeats: int) -> float:
    """Median over repeats, after two that do not count."""
    times = []
    for i in range(repeats + 2):
        started = time.perf_counter()
        work()
        if i >= 2:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def matmul_rate() -> float:
    """Operations per second of a square float32 product."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / median_seconds(lambda: a @ a, 7)


def made_up(config: FineConfig, info: CorpusInfo, train: TrainConfig, device: str = "cpu") -> tuple[_Run, Batch]:
    """A training, and a batch of full length to train on."""
    torch.manual_seed(0)
    widths = dict(zip(MODALITIES, info.widths, strict=True))
    frames = dict(zip(MODALITIES, info.max_frames, strict=True))
    counts = [info.sizes[0] // (len(info.class_edges) + 1)] * (len(info.class_edges) + 1)
    model = FINE(config, info, widths, counts).to(device)
    run = _Run(model, train, 0, BATCH)
    if train.compile:
        model.compile(dynamic=True)
    label = torch.empty(BATCH).uniform_(info.label_low, info.label_high)
    batch = Batch(
        {m: torch.randn(BATCH, frames[m], widths[m]).to(device) for m in MODALITIES},
        {m: torch.ones(BATCH, frames[m], dtype=torch.bool, device=device) for m in MODALITIES},
        label.to(device), None, torch.arange(BATCH, device=device),
    )  # fmt: skip
    return run, batch


def step(run: _Run, batch: Batch) -> None:
    """One whole training step."""
    run.model.losses(run.forward(batch), batch)["total"].backward()
    run.step()


def counted(config: FineConfig, info: CorpusInfo) -> int:
    """Operations of one training step, counted on tensors without values."""
    run, batch = made_up(config, info, TrainConfig(), "meta")
    with FlopCounterMode(display=False) as counter:
        run.model.losses(run.forward(batch), batch)["total"].backward()
    return counter.get_total_flops()


def measure(
    name: str, config: FineConfig, info: CorpusInfo, train: TrainConfig, rate: float, profile: bool
) -> dict:  # fmt: skip
    """Operations, parameters, time and share of the matrix-product rate of one configuration."""
    operations = counted(config, info)
    run, batch = made_up(config, info, train)
    seconds = median_seconds(lambda: step(run, batch), 15)
    if profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
            step(run, batch)
        print(trace.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=40))
    return {
        "configuration": name, "parameters": sum(p.numel() for p in run.model.parameters()),
        "gflop_per_step": operations / 1e9, "ms_per_step": 1e3 * seconds, "samples_per_second": BATCH / seconds,
        "gflops_per_second": operations / seconds / 1e9, "share_of_matmul_rate": operations / seconds / rate,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--corpus", choices=CORPORA, default="mosi")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true", help="also print where the time goes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    info, rate = CORPORA[arguments.corpus], matmul_rate()
    train = TrainConfig(precision=arguments.precision, compile=arguments.compile)
    rows = [measure(name, config, info, train, rate, arguments.profile)
            for name, config in (("demo", presets.DEMO), ("paper", presets.PAPER))]  # fmt: skip
    print(json.dumps({
        "corpus": info.name, "batch": BATCH, "threads": arguments.threads,
        "precision": arguments.precision, "compile": arguments.compile, "matmul_gflops_per_second": rate / 1e9,
        "rows": rows, "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "processor": platform.processor() or platform.machine(), "torch": torch.__version__,
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
