"""How long the paper preset takes on a GPU: measured where there is one, a stated model where there is none.

    python benchmarks/gpu.py [--attained 10] [--overhead 20] > benchmarks/gpu.json

On a GPU: milliseconds of a training step (full published lengths, batch of ``step.BATCH``) in float32, with TF32, with
the forward pass in bfloat16; and the hours of a paper-preset run at the first of these.

Without one: seconds = steps * (operations of a step / attained rate + overhead). Operations are counted; the attained
rate and the time that a step takes however small it is are assumptions, not measurements. The text encoder, dev scores
and early stop are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time

import joblib
import torch
from step import BATCH, counted, made_up, step

from finelib.config import FineConfig, TrainConfig
from finelib.data.corpora import CORPORA, CorpusInfo
from finelib.runs import presets

CONFIGS = {"default": FineConfig(), "paper": presets.PAPER}
WAYS = {
    "float32": (TrainConfig(), False),
    "tf32": (TrainConfig(), True),
    "bfloat16": (TrainConfig(precision="bfloat16"), False),
}
REPEATS = 20


def paper_steps(info: CorpusInfo) -> int:
    """Updates of one run of the paper preset without early stop."""
    train = presets.TRAIN["paper"]
    assert train.batch_size == BATCH
    return train.epochs * math.ceil(info.sizes[0] / train.batch_size)


def device_ms(config: FineConfig, info: CorpusInfo, way: str) -> float:
    """Milliseconds of a step on the GPU, over REPEATS steps after ten that do not count."""
    train, tf32 = WAYS[way]
    torch.backends.cuda.matmul.allow_tf32 = tf32
    trainer, batch = made_up(config, info, train)  # where there is a GPU, "auto" is it
    for _ in range(10):
        step(trainer, batch)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(REPEATS):
        step(trainer, batch)
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - started) / REPEATS


def measured(info: CorpusInfo) -> dict:
    """Each configuration's step by each way, peak memory, and hours of the paper preset from them."""
    row: dict = {"paper_steps": paper_steps(info)}
    for name, config in CONFIGS.items():
        torch.cuda.reset_peak_memory_stats()
        row[name] = {"ms_per_step": {way: device_ms(config, info, way) for way in WAYS}}
        row[name]["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    row["paper_hours_extrapolated"] = {
        way: row["paper_steps"] * ms / 3.6e6 for way, ms in row["paper"]["ms_per_step"].items()
    }
    return row


def modelled(info: CorpusInfo, attained: float, overhead: float) -> dict:
    """Operations counted here, and the hours that the two assumptions make of them."""
    gflop, steps = counted(presets.PAPER, info) / 1e9, paper_steps(info)
    seconds = gflop / (1e3 * attained) + overhead / 1e3
    return {
        "paper_steps": steps,
        "gflop_per_step_counted": gflop,
        "ms_per_step_modelled": 1e3 * seconds,
        "paper_hours_modelled": steps * seconds / 3600,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attained", type=float, default=10.0, help="assumed TFLOP/s in float32")
    parser.add_argument("--overhead", type=float, default=20.0, help="assumed milliseconds of a step at any size")
    given = parser.parse_args()
    found = torch.cuda.is_available()
    report = {
        "kind": "measurement" if found else "model, not a measurement",
        "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "batch": BATCH,
        "device": torch.cuda.get_device_name() if found else None,
        "processor": platform.machine(),
        "cores": joblib.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if found:
        report["corpora"] = {name: measured(info) for name, info in CORPORA.items()}
    else:
        print("gpu.py: no CUDA device here, so nothing is measured; a model is computed instead", file=sys.stderr)
        report["assumed"] = {"attained_tflops_per_second": given.attained, "overhead_ms_per_step": given.overhead}
        report["corpora"] = {name: modelled(info, given.attained, given.overhead) for name, info in CORPORA.items()}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
