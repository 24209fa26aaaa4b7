"""One training over the processes that torchrun starts:

    torchrun --nproc-per-node 2 -m finelib.torchrun --corpus mosei [--preset paper --source DIR --seed N --out DIR]

It is FINE's run of the corpus's table (``presets.specs``), and its record lies where ``run_all.sh`` looks for it. Each
process has a GPU where there is CUDA; else they use the CPU. Without torchrun it trains in one process.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from finelib import experiment, parallel, presets, processes, records, training
from finelib.config import RunSpec
from finelib.data.corpora import CORPORA
from finelib.models import build


def parse(arguments: list[str] | None = None) -> tuple[RunSpec, Path]:
    """The run that is asked for, and the folder of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, choices=CORPORA)
    parser.add_argument("--preset", default="demo", choices=presets.PRESETS)
    parser.add_argument("--source", default="planted", help="planted, public, public-mfn, or a folder of files")
    parser.add_argument("--seed", type=int, help="default: the preset's first")
    parser.add_argument("--out", type=Path, default=presets.ROOT, metavar="DIR")
    given = parser.parse_args(arguments)
    spec = presets.specs(given.corpus, presets.Options(given.preset, given.source, out=given.out))[0]
    return spec if given.seed is None else replace(spec, seed=given.seed), given.out


def train(spec: RunSpec, folder: Path) -> None:
    """Train together; the first process writes the record, the others only help it.

    Raises:
        KeyboardInterrupt: a process was asked to stop; the state is in the folder's checkpoint.
    """
    if parallel.from_first((folder / records.RECORD).exists()):
        return
    with processes.signals_noted() as stop, suppress(training.Stopped):
        if parallel.rank() == 0:
            experiment.train_one(spec, folder, _say, stop)
        else:
            corpus = experiment.load_corpus(spec.data)
            torch.manual_seed(spec.seed)
            with suppress(training.Diverged):  # the first process's record says so
                training.fit(build(spec.model, corpus), corpus, spec.train, spec.seed, folder / "checkpoint.pt",
                             stop=stop)  # fmt: skip


def _say(epochs: int, curve: dict[str, float]) -> None:
    print(f"epoch {epochs}: dev MAE {curve['dev_mae']:.4f}", flush=True)


def main() -> None:
    """Train what the command line names, in as many processes as torchrun has started."""
    spec, out = parse()
    if dist.is_torchelastic_launched():
        parallel.start()
    folder = experiment.run_folder(spec, out)
    try:
        train(spec, folder)
    except KeyboardInterrupt:
        sys.exit(f"{folder}: stopped; the same command goes on from here")
    if parallel.rank() == 0:
        content = records.read_record(folder).content
        print(f"{folder}: {content.get('failed') or content['test']}")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
