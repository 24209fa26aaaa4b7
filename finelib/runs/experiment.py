"""From a RunSpec to a run record on disk, trained once and never again while nothing under it changes."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from finelib import metrics, parallel, training
from finelib.config import DataConfig, RunSpec
from finelib.data import sources, store
from finelib.data.features import Corpus
from finelib.models import build
from finelib.runs.records import (
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    RunRecord,
    code_hash,
    config_hash,
    digest,
    identity,
    read_record,
    write_record,
)
from finelib.scale import cluster, processes, seeds_together

CHECKPOINT = "checkpoint.pt"


@lru_cache(maxsize=2)
def load_corpus(config: DataConfig) -> Corpus:
    """The corpus of a DataConfig; the two used last are kept."""
    options = dataclasses.asdict(config)
    return sources.load(options.pop("corpus"), **options)


def run(
    specs: list[RunSpec], out: Path, jobs: int | None = None, progress: bool = True, ray: str | None = None
) -> list[RunRecord]:
    """Records of all specs, in order; what has no record yet is trained first.

    An interruption ends training between two steps; the same call then goes on from there.

    Args:
        out: records are kept in ``out/runs``.
        jobs: processes; default one per CPU and thread of a run, 1 on a GPU.
        progress: show a bar with the time left for all runs together.
        ray: train on the Ray cluster of that address (``cluster.run``), which then bounds the jobs, not in processes.

    Raises:
        training.Diverged: after all runs, if one diverged: no result is made of the others alone.
        ValueError: a record is damaged.
        OSError: a run cannot be written.
    """
    folders = [run_folder(spec, out) for spec in specs]
    missing = {folder: spec for folder, spec in zip(folders, specs, strict=True) if not _finished(folder)}
    if missing:
        total = sum(spec.train.epochs * corpus_key(spec.data)[1] for spec in missing.values())
        label = ", ".join(sorted({spec.data.corpus for spec in missing.values()}))
        with tqdm(
            total=total,
            unit="utt",
            unit_scale=True,
            desc=f"training {len(missing)} runs ({label})",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar:
            _train(missing, jobs, bar.update, ray)
    records = [read_record(folder) for folder in folders]
    if failed := [record for record in records if "failed" in record.content]:
        first, share = failed[0].content, f"{len(failed)} of {len(records)} runs failed"
        raise training.Diverged(
            f"{first['name']}, seed {first['seed']}: {first['failed']}; {share}, so no mean is taken of them; "
            f"the others are kept (delete {failed[0].folder} to train it again)"
        )
    return records


def _train(missing: dict[Path, RunSpec], jobs: int | None, advance: Callable[[int], object], ray: str | None) -> None:
    tasks = [(spec, folder) for folder, spec in missing.items()]
    try:
        with processes.signals_noted() as stop, suppress(training.Stopped):
            if ray:
                for folder in missing:
                    folder.mkdir(parents=True, exist_ok=True)
                cpus = [spec.train.threads for spec in missing.values()]
                cluster.run(_train_where_shared, tasks, cpus, ray, jobs, advance, stop)
                return
            jobs = min(jobs or default_jobs(tasks[0][0]), len(tasks))
            if jobs == 1:
                for group in _groups(missing):
                    _train_group_and_report(group, advance, stop)
            else:
                processes.run(_train_and_report, tasks, jobs, advance, stop)
    except processes.Killed as error:
        spec = error.task[0]
        raise RuntimeError(
            f"{spec.name}, seed {spec.seed}: {error}; finished runs are kept, start again with fewer --jobs"
        ) from error


def _train_and_report(spec: RunSpec, folder: Path, advance: Callable[[int], object], stop: Callable[[], bool]) -> None:
    """Train one run; advance by the utterances of each new epoch, and by what an early stop saves."""
    size, done = corpus_key(spec.data)[1], 0

    def on_epoch(epochs: int, _curve: dict[str, float]) -> None:
        nonlocal done
        advance((epochs - done) * size)
        done = epochs

    train_one(spec, folder, on_epoch, stop)
    advance((spec.train.epochs - done) * size)


def _train_where_shared(
    spec: RunSpec, folder: Path, advance: Callable[[int], object], stop: Callable[[], bool]
) -> None:
    """On a machine of a cluster; the folder was made by the one that asks."""
    if not folder.is_dir():
        raise OSError(f"{folder}: not found on {platform.node()}; with --ray, --out must lie where all machines see it")
    _train_and_report(spec, folder, advance, stop)


def _groups(missing: dict[Path, RunSpec]) -> list[dict[Path, RunSpec]]:
    """Runs that may be trained together: on a GPU those that differ in the seed alone and have not begun.

    On a CPU each run is alone, whatever is faster at the moment: there the same seed gives the same bits.
    """
    groups: dict[object, dict[Path, RunSpec]] = {}
    for folder, spec in missing.items():
        apart = not _batched_device(spec) or (folder / CHECKPOINT).exists()
        groups.setdefault(folder if apart else dataclasses.replace(spec, seed=0), {})[folder] = spec
    return list(groups.values())


def _batched_device(spec: RunSpec) -> bool:
    return training.resolve_device(spec.train.device).type == "cuda"


def _train_group_and_report(
    group: dict[Path, RunSpec], advance: Callable[[int], object], stop: Callable[[], bool]
) -> None:
    """Train a group together where a few updates of both ways say that it is faster, else one run after the other."""
    specs = list(group.values())
    if len(specs) > 1 and seeds_together.pays(*_prepared(specs), specs[0].train, [spec.seed for spec in specs]):
        train_group(group, advance, stop)
    else:
        for folder, spec in group.items():
            _train_and_report(spec, folder, advance, stop)


def default_jobs(spec: RunSpec) -> int:
    """One run at a time on a GPU; on a CPU as many as its cores hold."""
    if training.resolve_device(spec.train.device).type == "cuda":
        return 1
    return max(1, len(os.sched_getaffinity(0)) // spec.train.threads)


@cache
def corpus_key(config: DataConfig) -> tuple[str, int]:
    """Data hash and training utterances of a DataConfig, kept when the corpus itself is no longer."""
    corpus = load_corpus(config)
    return corpus.sha256, len(corpus.splits["train"])


# ------------------------------------------------------------------------------------- where a run is kept


def run_folder(spec: RunSpec, out: Path) -> Path:
    """out/runs/CORPUS-NAME-sSEED-HASH; the hash covers configuration, data, seed and training code."""
    key = {"config": config_hash(spec), "data": corpus_key(spec.data)[0], "seed": spec.seed, "code": code_hash()}
    name = "".join(c if c.isalnum() else "_" for c in spec.name)
    return Path(out) / "runs" / f"{spec.data.corpus}-{name}-s{spec.seed}-{digest(key)[:12]}"


def _finished(folder: Path) -> bool:
    return (folder / RECORD).exists()


def load_model(record: RunRecord, spec: RunSpec) -> nn.Module:
    """The trained model of a record, in evaluation mode on the CPU."""
    model = build(spec.model_config, load_corpus(spec.data))
    model.load_state_dict(load_file(record.file(WEIGHTS)))
    return model.eval()


# ---------------------------------------------------------------------------------------------- one run


def train_one(spec: RunSpec, folder: Path, on_epoch=None, stop: Callable[[], bool] = lambda: False) -> None:
    """Train a spec and write its record; at most one process at a time does so for a folder.

    An interrupted run goes on from its last checkpoint. The record is written last and in one move, so a
    folder with record.json holds a whole run, or one that diverged and says so.

    Raises:
        training.Stopped: ``stop`` said so; see ``training.fit``.
        OSError: the run cannot be written, as one sentence.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if _finished(folder):
            return
        (model,), corpus = _prepared([spec])
        with _written(folder):
            try:
                result = training.fit(model, corpus, spec.train, spec.seed, folder / CHECKPOINT, on_epoch, stop)
            except training.Diverged as error:
                result = error
            _write(spec, folder, corpus, model, result)


def train_group(group: dict[Path, RunSpec], advance: Callable[[int], object], stop: Callable[[], bool]) -> None:
    """``train_one`` for runs that differ in the seed alone, all at once; an interrupted group begins anew.

    Args:
        group: folder -> spec.
        advance: told the utterances of each epoch of each run, and at the end what early stops save.
    """
    with ExitStack() as locks:
        for folder in sorted(group):
            folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(FileLock(folder / "lock"))
        group = {folder: spec for folder, spec in group.items() if not _finished(folder)}
        if not group:
            return
        specs = list(group.values())
        seeds, train = [spec.seed for spec in specs], specs[0].train
        models, corpus = _prepared(specs)
        size, done = len(corpus.splits["train"]), [0] * len(specs)

        def on_epoch(s: int, epochs: int, _curve: dict[str, float]) -> None:
            done[s] = epochs
            advance(size)

        results = seeds_together.fit_together(models, corpus, train, seeds, on_epoch, stop)
        for s, (folder, spec) in enumerate(group.items()):
            with _written(folder):
                _write(spec, folder, corpus, models[s], results[s], together=seeds)
            advance((train.epochs - done[s]) * size)


def _prepared(specs: list[RunSpec]) -> tuple[list[nn.Module], Corpus]:
    """A new model for each spec, made with its seed, and the corpus that they share."""
    corpus, models = load_corpus(specs[0].data), []
    for spec in specs:
        torch.manual_seed(spec.seed)
        models.append(build(spec.model_config, corpus))
    return models, corpus


@contextmanager
def _written(folder: Path):
    """What keeps a run from being written, as one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(f"{folder}: the run cannot be written ({error}); finished runs are kept") from error


def _write(
    spec: RunSpec,
    folder: Path,
    corpus: Corpus,
    model: nn.Module,
    result: training.History | training.Diverged,
    **timing: object,
) -> None:
    """Weights, predictions and, last, the record of a run; of one that diverged, the record alone."""
    if isinstance(result, training.Diverged):
        content = identity(spec, folder, corpus) | {"failed": str(result)}
    else:
        predictions = _all_predictions(model, corpus, spec)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
        np.savez_compressed(folder / PREDICTIONS, **predictions)
        content = _content(spec, folder, corpus, model, result, predictions)
        content["timing"] |= timing
    write_record(folder, content)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _all_predictions(model: nn.Module, corpus: Corpus, spec: RunSpec) -> dict[str, np.ndarray]:
    arrays = {"test_ids": np.array(corpus.splits["test"].ids, dtype=np.str_)}
    for name in ("valid", "test"):
        split = corpus.splits[name]
        arrays[name] = training.predictions(model, split, spec.train)
        arrays[f"{name}_label"] = split.label
    return arrays


def _content(
    spec: RunSpec,
    folder: Path,
    corpus: Corpus,
    model: nn.Module,
    history: training.History,
    predictions: dict[str, np.ndarray],
) -> dict:
    scores = {
        name: metrics.score(corpus.info.metrics, predictions[name], predictions[f"{name}_label"])
        for name in ("valid", "test")
    }
    return identity(spec, folder, corpus) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "curves": history.curves,
        "selected_epoch": history.best_epoch,
        **scores,
        "files": {name: store.checksum(folder / name) for name in (WEIGHTS, PREDICTIONS)},
        "timing": {
            "seconds": history.seconds,
            "samples_per_second": history.samples_per_second,
            "peak_memory_mib": history.peak_memory_mib,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": str(training.resolve_device(spec.train.device)),
            "processes": parallel.count(),
        },
    }
