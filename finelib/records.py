"""Run records: what tells a run from others, what it leaves on disk, and how that is written and read."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from finelib.config import RunSpec
from finelib.data import store
from finelib.data.features import Corpus

RECORD, PREDICTIONS, WEIGHTS = "record.json", "predictions.npz", "weights.safetensors"
TRAINING_CODE = ("moq", "ftre", "contrastive", "mutual_information", "stacked", "fine", "parts", "variants", "models",
                 "training", "optimiser", "together", "parallel", "checkpoint", "text", "baselines", "data/features",
                 "data/stream")  # fmt: skip
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformers")


@dataclass(frozen=True)
class RunRecord:
    """A finished run: ``folder`` holds record.json (``content``), predictions.npz and weights.safetensors.

    Of a run that diverged it holds record.json alone, with "failed" and what happened in place of all results.
    """

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
        """test and valid predictions and labels, and test ids, each (N,).

        Raises:
            ValueError: the file is not what was written.
        """
        with np.load(self.file(PREDICTIONS), allow_pickle=False) as arrays:
            return dict(arrays)

    def file(self, name: str) -> Path:
        """A file of the run, after a look at its checksum.

        Raises:
            ValueError: it is missing or not what was written.
        """
        path = self.folder / name
        if not path.is_file() or store.checksum(path) != self.content["files"][name]:
            found = "another content than was written" if path.is_file() else "no such file"
            raise ValueError(f"{path}: found {found}; delete its folder to train it again")
        return path


def read_record(folder: Path) -> RunRecord:
    """A finished run from its folder.

    Raises:
        ValueError: record.json is not what was written.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text())
        known = content.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a run record ({error}); delete its folder to train it again") from error
    if digest(content) != known:
        raise ValueError(f"{path}: found another content than was written; delete its folder to train it again")
    return RunRecord(folder, content)


def write_record(folder: Path, content: dict) -> None:
    """Write record.json in one move, with the checksum of its content.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(folder / RECORD, json.dumps({"checksum": digest(content)} | content, indent=1))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the whole new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def digest(content: dict) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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


def identity(spec: RunSpec, folder: Path, corpus: Corpus) -> dict:
    """What was trained, on what, with what."""
    return {
        "id": folder.name, "name": spec.name, "seed": spec.seed,
        "config": spec_config(spec), "config_hash": config_hash(spec), "code_hash": code_hash(),
        "corpus": corpus.info.name, "data": corpus.data, "data_hash": corpus.sha256, "encoder": corpus.encoder,
        "modalities": [m for m in corpus.modalities if m in spec.model.modalities],
        "sizes": {name: len(split) for name, split in corpus.splits.items()},
        "git_revision": git_revision(), "versions": versions(),
    }  # fmt: skip


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
