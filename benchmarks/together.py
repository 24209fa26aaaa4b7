"""A training step of S seeds of one configuration, one after the other and together (``together.seconds_per_update``).

    python benchmarks/together.py [--seeds 1 2 3 5 8] [--count 15] > benchmarks/together.json

Both ways in alternation, on planted data; medians. On a CPU one thread, and the processor's time is counted, on which
other processes weigh little; on a GPU the clock's. "load": processes that wanted to run, before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time

import torch
from torch import nn

from finelib.config import DataConfig, FineConfig, TrainConfig
from finelib.data.features import Corpus
from finelib.models import build
from finelib.runs import presets
from finelib.runs.experiment import load_corpus
from finelib.runs.options import Options
from finelib.scale import seeds_together

DEVICE = seeds_together.resolve_device(TrainConfig().device)
CLOCK = time.process_time if DEVICE.type == "cpu" else time.perf_counter
CONFIGURATIONS = {
    "grid": (presets.DEMO, presets.SMALL_TRAIN["demo"], DataConfig("mosei", design="components")),
    "default": (FineConfig(), presets.TRAIN["demo"], presets.data_config("mosei", Options(preset="demo"))),
}


def measure(name: str, seeds: int, count: int) -> dict:
    """One configuration and number of seeds: milliseconds of a step per seed."""
    config, train, data = CONFIGURATIONS[name]
    corpus = load_corpus(data)
    models = [_model(config, corpus, seed) for seed in range(seeds)]
    apart, at_once = seeds_together.seconds_per_update(models, corpus, train, list(range(seeds)), count, CLOCK)
    return {
        "configuration": name,
        "batch": train.batch_size,
        "seeds": seeds,
        "ms_per_step_and_seed_separate": round(1e3 * apart / seeds, 2),
        "ms_per_step_and_seed_together": round(1e3 * at_once / seeds, 2),
        "separate_over_together": round(apart / at_once, 2),
    }


def _model(config: FineConfig, corpus: Corpus, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build(config, corpus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5, 8])
    parser.add_argument("--count", type=int, default=15, help="steps of each way, after three that do not count")
    arguments = parser.parse_args()
    load = [round(os.getloadavg()[0], 1)]
    rows = [measure(name, seeds, arguments.count) for name in CONFIGURATIONS for seeds in arguments.seeds]
    load.append(round(os.getloadavg()[0], 1))
    print(
        json.dumps(
            {
                "command": " ".join(["python", *sys.argv]),
                "rows": rows,
                "device": str(DEVICE),
                "clock": CLOCK.__name__,
                "threads": TrainConfig().threads,
                "cores": os.cpu_count(),
                "load": load,
                "processor": platform.processor() or platform.machine(),
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
