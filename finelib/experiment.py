"""From a RunSpec to a run record on disk, trained once and never again while nothing under it changes."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from finelib import data, metrics, processes, training
from finelib.config import DataConfig, RunSpec
from finelib.data.features import Corpus
from finelib.models import build

TRAINING_CODE = ("moq", "ftre", "contrastive", "mutual_information", "stacked", "fine", "parts", "variants", "models",
                 "training", "text", "baselines", "data/features")  # fmt: skip
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformers")


@dataclass(frozen=True)
class RunRecord:
    """A finished run: ``folder`` holds record.json (``content``), predictions.npz and weights.safetensors."""

    folder: Path
    content: dict

    @property
    def id(self) -> str:
        return self.content["id"]

    @property
    def test(self) -> dict[str, float]:
        """Test metrics at the selected epoch."""
        return self.content["test"]

    @property
    def curves(self) -> list[dict[str, float]]:
        """One dict per epoch: loss terms, MI estimates, dev metrics."""
        return self.content["curves"]

    def predictions(self) -> dict[str, np.ndarray]:
        """test and valid predictions and labels, and test ids, each (N,)."""
        with np.load(self.folder / "predictions.npz", allow_pickle=False) as arrays:
            return dict(arrays)


@lru_cache(maxsize=2)
def load_corpus(config: DataConfig) -> Corpus:
    """The corpus of a DataConfig; the two used last are kept."""
    options = dataclasses.asdict(config)
    return data.load(options.pop("corpus"), **options)


def run(specs: list[RunSpec], out: Path, jobs: int | None = None, progress: bool = True) -> list[RunRecord]:
    """Records of all specs, in order; what has no record yet is trained first.

    Args:
        out: records are kept in ``out/runs``.
        jobs: processes; default one per CPU and thread of a run, 1 on a GPU.
        progress: show a bar with the time left for all runs together.
    """
    folders = [run_folder(spec, out) for spec in specs]
    missing = {folder: spec for folder, spec in zip(folders, specs, strict=True) if not _finished(folder)}
    if missing:
        jobs = min(jobs or default_jobs(specs[0]), len(missing))
        total = sum(spec.train.epochs * corpus_key(spec.data)[1] for spec in missing.values())
        label = ", ".join(sorted({spec.data.corpus for spec in missing.values()}))
        with tqdm(total=total, unit="utt", unit_scale=True, desc=f"training {len(missing)} runs ({label})",
                  disable=not progress, dynamic_ncols=True) as bar:  # fmt: skip
            _train(missing, jobs, bar.update)
    return [read_record(folder) for folder in folders]


def _train(missing: dict[Path, RunSpec], jobs: int, advance: Callable[[int], object]) -> None:
    tasks = [(spec, folder) for folder, spec in missing.items()]
    if jobs == 1:
        for task in tasks:
            _train_and_report(*task, advance)
        return
    try:
        processes.run(_train_and_report, tasks, jobs, advance)
    except processes.Killed as error:
        spec = error.task[0]
        raise RuntimeError(
            f"{spec.name}, seed {spec.seed}: {error}; finished runs are kept, start again with fewer --jobs"
        ) from error


def _train_and_report(spec: RunSpec, folder: Path, advance: Callable[[int], object]) -> None:
    """Train one run; advance by the utterances of each new epoch, and by what an early stop saves."""
    size, done = corpus_key(spec.data)[1], 0

    def on_epoch(epochs: int, _curve: dict[str, float]) -> None:
        nonlocal done
        advance((epochs - done) * size)
        done = epochs

    train_one(spec, folder, on_epoch)
    advance((spec.train.epochs - done) * size)


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
    return Path(out) / "runs" / f"{spec.data.corpus}-{name}-s{spec.seed}-{_digest(key)[:12]}"


def config_hash(spec: RunSpec) -> str:
    """Hash of what is trained and how, without name, seed, and where the data lie (their own hash covers them)."""
    content = {"model": type(spec.model).__name__, **spec_config(spec)}
    content["data"] = {key: value for key, value in content["data"].items() if key != "source"}
    return _digest(content)


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


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(folder: Path) -> bool:
    return (folder / "record.json").exists()


def read_record(folder: Path) -> RunRecord:
    """A finished run from its folder.

    Raises:
        ValueError: if record.json is not readable.
    """
    path = folder / "record.json"
    try:
        return RunRecord(folder, json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path}: not a run record ({error}); delete its folder to train it again") from error


def load_model(record: RunRecord, spec: RunSpec) -> nn.Module:
    """The trained model of a record, in evaluation mode on the CPU."""
    model = build(spec.model, load_corpus(spec.data))
    model.load_state_dict(load_file(record.folder / "weights.safetensors"))
    return model.eval()


# ---------------------------------------------------------------------------------------------- one run


def train_one(spec: RunSpec, folder: Path, on_epoch=None) -> None:
    """Train a spec and write its record; at most one process at a time does so for a folder.

    An interrupted run goes on from its last checkpoint. The record is written last and in one move, so a
    folder with record.json holds a whole run.

    Raises:
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
        history = training.fit(model, corpus, spec.train, spec.seed, checkpoint, on_epoch)
        predictions = _all_predictions(model, corpus, spec)
        content = _content(spec, folder, corpus, model, history, predictions)
        try:
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "weights.safetensors")
            np.savez_compressed(folder / "predictions.npz", **predictions)
            write_atomically(folder / "record.json", json.dumps(content, indent=1))
        except (OSError, SafetensorError) as error:
            raise OSError(f"{folder}: the trained run cannot be written ({error}); finished runs are kept") from error
        checkpoint.unlink(missing_ok=True)


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
    return {
        "id": folder.name, "name": spec.name, "seed": spec.seed,
        "config": spec_config(spec), "config_hash": config_hash(spec), "code_hash": code_hash(),
        "corpus": corpus.info.name, "data": corpus.data, "data_hash": corpus.sha256, "encoder": corpus.encoder,
        "modalities": [m for m in corpus.modalities if m in spec.model.modalities],
        "sizes": {name: len(split) for name, split in corpus.splits.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "git_revision": git_revision(), "versions": versions(),
        "curves": history.curves, "selected_epoch": history.best_epoch, **scores,
        "timing": {
            "seconds": history.seconds, "samples_per_second": history.samples_per_second,
            "peak_memory_mib": history.peak_memory_mib, "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": str(training.resolve_device(spec.train.device)),
        },
    }  # fmt: skip


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the whole new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    os.replace(partial, path)


@cache
def git_revision() -> str:
    """Commit of the checkout, "+" appended if tracked files were changed; "unknown" outside a checkout."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@cache
def versions() -> dict[str, str]:
    """Python and the packages that decide numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
