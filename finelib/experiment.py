"""From a RunSpec to a run record on disk, trained once and never again while nothing under it changes."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import os
import platform
from collections.abc import Callable
from contextlib import suppress
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

from finelib import cluster, data, metrics, parallel, processes, training
from finelib.config import DataConfig, RunSpec
from finelib.data import store
from finelib.data.features import Corpus
from finelib.models import build
from finelib.records import (
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    RunRecord,
    digest,
    git_revision,
    read_record,
    versions,
    write_record,
)

TRAINING_CODE = ("moq", "ftre", "contrastive", "mutual_information", "stacked", "fine", "parts", "variants", "models",
                 "training", "optimiser", "parallel", "checkpoint", "text", "baselines", "data/features",
                 "data/stream")  # fmt: skip


@lru_cache(maxsize=2)
def load_corpus(config: DataConfig) -> Corpus:
    """The corpus of a DataConfig; the two used last are kept."""
    options = dataclasses.asdict(config)
    return data.load(options.pop("corpus"), **options)


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
        with tqdm(total=total, unit="utt", unit_scale=True, desc=f"training {len(missing)} runs ({label})",
                  disable=not progress, dynamic_ncols=True) as bar:  # fmt: skip
            _train(missing, jobs, bar.update, ray)
    records = [read_record(folder) for folder in folders]
    if failed := [record for record in records if "failed" in record.content]:
        first, share = failed[0].content, f"{len(failed)} of {len(records)} runs failed"
        raise training.Diverged(
            f"{first['name']}, seed {first['seed']}: {first['failed']}; {share}, so no mean is taken of them; "
            f"the others are kept (delete {failed[0].folder} to train it again)"
        )
    return records


def _train(
    missing: dict[Path, RunSpec], jobs: int | None, advance: Callable[[int], object], ray: str | None
) -> None:
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
                for task in tasks:
                    _train_and_report(*task, advance, stop)
            else:
                processes.run(_train_and_report, tasks, jobs, advance, stop)
    except processes.Killed as error:
        spec = error.task[0]
        raise RuntimeError(
            f"{spec.name}, seed {spec.seed}: {error}; finished runs are kept, start again with fewer --jobs"
        ) from error


def _train_and_report(
    spec: RunSpec, folder: Path, advance: Callable[[int], object], stop: Callable[[], bool]
) -> None:
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
    key = {
        "config": config_hash(spec), "data": corpus_key(spec.data)[0], "seed": spec.seed, "code": code_hash(),
    }  # fmt: skip
    name = "".join(c if c.isalnum() else "_" for c in spec.name)
    return Path(out) / "runs" / f"{spec.data.corpus}-{name}-s{spec.seed}-{digest(key)[:12]}"


def config_hash(spec: RunSpec) -> str:
    """Hash of what is trained and how, without name, seed, and where the data lie (their own hash covers them)."""
    content = {"model": type(spec.model).__name__, **spec_config(spec)}
    content["data"] = {key: value for key, value in content["data"].items() if key != "source"}
    return digest(content)


def spec_config(spec: RunSpec) -> dict:
    """The data, model and train settings of a spec as plain dictionaries."""
    return {part: dataclasses.asdict(getattr(spec, part)) for part in ("data", "model", "train")}


@cache
def code_hash() -> str:
    """Hash of the parsed code that decides what a training run gives; comments and docstrings do not count."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for name in TRAINING_CODE:
        path = root / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            digest.update(ast.dump(_without_docstrings(ast.parse(file.read_text()))).encode())
    return digest.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            body[0] = ast.Pass()
    return tree


def _finished(folder: Path) -> bool:
    return (folder / RECORD).exists()


def load_model(record: RunRecord, spec: RunSpec) -> nn.Module:
    """The trained model of a record, in evaluation mode on the CPU."""
    model = build(spec.model, load_corpus(spec.data))
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
        corpus = load_corpus(spec.data)
        torch.manual_seed(spec.seed)
        model = build(spec.model, corpus)
        checkpoint = folder / "checkpoint.pt"
        try:
            content = _trained(model, corpus, spec, folder, checkpoint, on_epoch, stop)
            write_record(folder, content)
        except training.Diverged as error:
            write_record(folder, _identity(spec, folder, corpus) | {"failed": str(error)})
        except (OSError, SafetensorError) as error:
            raise OSError(f"{folder}: the run cannot be written ({error}); finished runs are kept") from error
        checkpoint.unlink(missing_ok=True)


def _trained(model: nn.Module, corpus: Corpus, spec: RunSpec, folder: Path, checkpoint: Path, on_epoch, stop) -> dict:
    """Train, and write weights and predictions; the content of the record."""
    history = training.fit(model, corpus, spec.train, spec.seed, checkpoint, on_epoch, stop)
    predictions = _all_predictions(model, corpus, spec)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    np.savez_compressed(folder / PREDICTIONS, **predictions)
    return _content(spec, folder, corpus, model, history, predictions)


def _all_predictions(model: nn.Module, corpus: Corpus, spec: RunSpec) -> dict[str, np.ndarray]:
    arrays = {"test_ids": np.array(corpus.splits["test"].ids, dtype=np.str_)}
    for name in ("valid", "test"):
        split = corpus.splits[name]
        arrays[name] = training.predictions(model, split, spec.train)
        arrays[f"{name}_label"] = split.label
    return arrays


def _content(spec: RunSpec, folder: Path, corpus: Corpus, model: nn.Module, history: training.History,
             predictions: dict[str, np.ndarray]) -> dict:  # fmt: skip
    scores = {
        name: metrics.score(corpus.info.metric, predictions[name], predictions[f"{name}_label"])
        for name in ("valid", "test")
    }
    return _identity(spec, folder, corpus) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "curves": history.curves, "selected_epoch": history.best_epoch, **scores,
        "files": {name: store.checksum(folder / name) for name in (WEIGHTS, PREDICTIONS)},
        "timing": {
            "seconds": history.seconds, "samples_per_second": history.samples_per_second,
            "peak_memory_mib": history.peak_memory_mib, "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": str(training.resolve_device(spec.train.device)), "processes": parallel.count(),
        },
    }


def _identity(spec: RunSpec, folder: Path, corpus: Corpus) -> dict:
    """What was trained, on what, with what."""
    return {
        "id": folder.name, "name": spec.name, "seed": spec.seed,
        "config": spec_config(spec), "config_hash": config_hash(spec), "code_hash": code_hash(),
        "corpus": corpus.info.name, "data": corpus.data, "data_hash": corpus.sha256, "encoder": corpus.encoder,
        "modalities": [m for m in corpus.modalities if m in spec.model.modalities],
        "sizes": {name: len(split) for name, split in corpus.splits.items()},
        "git_revision": git_revision(), "versions": versions(),
    }  # fmt: skip
