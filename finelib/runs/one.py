"""One run, or several that differ in the seed alone: trained, and its folder written."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from finelib import metrics
from finelib.config import RunSpec
from finelib.data import store
from finelib.data.features import Corpus
from finelib.models import build
from finelib.runs import checkpoint
from finelib.runs.records import PREDICTIONS, RECORD, WEIGHTS, identity, write_record
from finelib.scale.seeds_together import fit_together
from finelib.scale.streamed import StreamedConfig, StreamedTrainer, warn_if_large
from finelib.training import Diverged, History, Trainer, cpu_threads, predict

CHECKPOINT = "checkpoint.pt"
SECONDS_BETWEEN_REPORTS = 0.2
Advance = Callable[[int], object]
Stop = Callable[[], bool]


def finished(folder: Path) -> bool:
    """Whether a folder holds a whole run, or one that diverged and says so: the record is written last."""
    return (folder / RECORD).exists()


def begun(folder: Path) -> bool:
    """Whether a folder holds the state of an interrupted run."""
    return (folder / CHECKPOINT).exists()


def train_one(spec: RunSpec, corpus: Corpus, folder: Path, on_progress: Advance, stop: Stop = lambda: False) -> None:
    """Train a spec and write its record; at most one process at a time does so for a folder.

    An interrupted run goes on from its last checkpoint.

    Args:
        on_progress: told now and then how many utterances have been trained on, of all epochs.

    Raises:
        checkpoint.Stopped: ``stop`` said so.
        OSError: the run cannot be written, as one sentence.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if finished(folder):
            return
        (model,) = new_models([spec], corpus)
        with _written(folder):
            trainer = make_trainer(model, corpus, spec)
            watch = Watch(trainer, on_progress, stop)
            try:
                result = checkpoint.run(trainer, folder / CHECKPOINT, watch.on_epoch, watch.stop)
            except Diverged as error:
                result = error
            _write(spec, folder, corpus, model, result, peak_memory_mib=watch.peak_memory_mib)


class Watch:
    """Looks at a training between its updates: how far it is, how much memory it takes, whether it should stop."""

    def __init__(self, trainer: Trainer, on_progress: Advance, stop: Stop):
        self.trainer, self.on_progress, self.asked = trainer, on_progress, stop
        self.peak_memory_mib, self.reported = memory_mib(trainer.device), time.monotonic()

    def on_epoch(self, epochs: int, _curve: dict[str, float]) -> None:
        """At the end of an epoch."""
        self.peak_memory_mib = max(self.peak_memory_mib, memory_mib(self.trainer.device))
        self.on_progress(epochs * len(self.trainer.splits["train"]))

    def stop(self) -> bool:
        """After an update; reports at most a few times a second."""
        if time.monotonic() - self.reported > SECONDS_BETWEEN_REPORTS:
            epochs, size = len(self.trainer.history.curves), len(self.trainer.splits["train"])
            self.on_progress(epochs * size + sum(self.trainer.sizes))
            self.reported = time.monotonic()
        return self.asked()


def train_group(group: dict[Path, RunSpec], corpus: Corpus, advance: Advance, stop: Stop = lambda: False) -> None:
    """``train_one`` for runs that differ in the seed alone, all at once; an interrupted group begins anew.

    Args:
        group: folder -> spec.
        advance: told the utterances of each epoch of each run, and at the end what early stops save.

    Raises:
        checkpoint.Stopped: ``stop`` said so.
    """
    with ExitStack() as locks:
        for folder in sorted(group):
            folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(FileLock(folder / "lock"))
        group = {folder: spec for folder, spec in group.items() if not finished(folder)}
        if not group:
            return
        specs = list(group.values())
        seeds, train = [spec.seed for spec in specs], specs[0].train
        models = new_models(specs, corpus)
        size, done = len(corpus.splits["train"]), [0] * len(specs)

        def on_epoch(s: int, epochs: int, _curve: dict[str, float]) -> None:
            done[s] = epochs
            advance(size)

        def after_update() -> None:
            if stop():
                raise checkpoint.Stopped

        results = fit_together(models, corpus, train, seeds, on_epoch, after_update)
        for s, (folder, spec) in enumerate(group.items()):
            with _written(folder):
                _write(spec, folder, corpus, models[s], results[s], together=seeds)
            advance((train.epochs - done[s]) * size)


def new_models(specs: list[RunSpec], corpus: Corpus) -> list[nn.Module]:
    """A model for each spec, drawn with its seed."""
    models = []
    for spec in specs:
        torch.manual_seed(spec.seed)
        models.append(build(spec.model_config, corpus))
    return models


def make_trainer(model: nn.Module, corpus: Corpus, spec: RunSpec) -> Trainer:
    """The Trainer that a spec's training settings ask for; a corpus that is large for the memory is told."""
    if isinstance(spec.train, StreamedConfig):
        return StreamedTrainer(model, corpus, spec.train, spec.seed)
    trainer = Trainer(model, corpus, spec.train, spec.seed)
    warn_if_large(corpus.splits["train"], tuple(trainer.splits["train"].length), trainer.device)
    return trainer


def memory_mib(device: torch.device) -> float:
    """Peak memory of a GPU so far, or what the process holds now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20


@contextmanager
def _written(folder: Path):
    """What keeps a run from being written, as one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(f"{folder}: the run cannot be written ({error}); finished runs are kept") from error


def _write(
    spec: RunSpec, folder: Path, corpus: Corpus, model: nn.Module, result: History | Diverged, **timing: object
) -> None:
    """Weights, predictions and, last, the record of a run; of one that diverged, the record alone."""
    record = identity(spec, folder, corpus)
    if isinstance(result, Diverged):
        record = dataclasses.replace(record, failed=str(result))
    else:
        found = _all_predictions(model, corpus, spec)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
        np.savez_compressed(folder / PREDICTIONS, **found)
        kind = corpus.info.metrics
        scores = {name: metrics.score(kind, found[name], found[f"{name}_label"]) for name in ("valid", "test")}
        results = {"curves": result.curves, "selected_epoch": result.best_epoch, "scores_as_written": scores}
        results["parameters"] = sum(p.numel() for p in model.parameters())
        results["files"] = {name: store.checksum(folder / name) for name in (WEIGHTS, PREDICTIONS)}
        record = dataclasses.replace(record, **results, timing=_timing(result, model) | timing)
    write_record(record)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _all_predictions(model: nn.Module, corpus: Corpus, spec: RunSpec) -> dict[str, np.ndarray]:
    """test and valid predictions and labels, and test ids, each (N,)."""
    arrays = {"test_ids": np.array(corpus.splits["test"].ids, dtype=np.str_)}
    with cpu_threads(spec.train.threads):
        for name in ("valid", "test"):
            arrays[name] = predict(model, corpus.splits[name])
            arrays[f"{name}_label"] = corpus.splits[name].label
    return arrays


def _timing(history: History, model: nn.Module) -> dict[str, object]:
    finished, device = datetime.now(UTC).isoformat(timespec="seconds"), str(next(model.parameters()).device)
    speed = {"seconds": history.seconds, "samples_per_second": history.samples_per_second}
    return speed | {"finished": finished, "device": device}
