"""Run records: what tells a run from others, what it leaves on disk, and how that is written and read."""

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finelib import metrics
from finelib.config import RunSpec
from finelib.data import own, store
from finelib.data.card import said
from finelib.data.corpora import ALL_CORPORA, CorpusInfo
from finelib.data.features import Corpus
from finelib.data.own_labels import info_from
from finelib.models import model_class
from finelib.runs.code import code_hash

if TYPE_CHECKING:
    import pandas as pd

RECORD, PREDICTIONS, WEIGHTS = "record.json", "predictions.npz", "weights.safetensors"
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformers")
LEAVES = ("finelib.models", "finelib.data.sources", "finelib.runs.one", "finelib.runs.checkpoint")


@dataclass(frozen=True)
class RunRecord:
    """A finished run: ``folder`` holds record.json, predictions.npz and weights.safetensors.

    Of a run that diverged it holds record.json alone, with ``failed``, what happened, in place of all results.

    Attributes:
        id, name, seed: the folder's name; the row that the run belongs to.
        config, config_hash, code_hash, data_hash, git_revision, versions: what was trained, by what.
        corpus, data, encoder, modalities, sizes: the corpus's name and kind, text encoder, splits.
        parameters: trained numbers, critics included.
        curves: one dict per epoch: loss terms, MI estimates, dev metrics.
        selected_epoch: index of the epoch whose weights were kept.
        files: checksums.
        timing: seconds, speed, peak memory, device, when it ended.
        notes: what must be known of the data beside any score (``data.card.said``).
        own: of an own corpus what it is (``own_labels.as_json``), since no name tells.
        scores_as_written: the scores of valid and test when the run ended; ``test`` and ``valid`` are computed anew.
    """

    folder: Path
    id: str
    name: str
    seed: int
    config: dict
    config_hash: str
    code_hash: str
    corpus: str
    data: str
    data_hash: str
    encoder: str
    modalities: list[str]
    sizes: dict[str, int]
    git_revision: str
    versions: dict[str, str]
    parameters: int | None = None
    curves: list[dict[str, float]] = field(default_factory=list)
    selected_epoch: int | None = None
    files: dict = field(default_factory=dict)
    timing: dict = field(default_factory=dict)
    scores_as_written: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    own: dict = field(default_factory=dict)
    failed: str | None = None

    @cached_property
    def test(self) -> dict[str, float]:
        """Test metrics at the selected epoch, from the stored predictions."""
        return self._scores("test")

    @cached_property
    def valid(self) -> dict[str, float]:
        """Dev metrics at the selected epoch, from the stored predictions."""
        return self._scores("valid")

    def predictions(self) -> dict[str, np.ndarray]:
        """test and valid predictions and labels, and test ids, each (N,).

        Raises:
            ValueError: the file is not what was written.
        """
        with np.load(self.file(PREDICTIONS), allow_pickle=False) as arrays:
            return dict(arrays)

    @property
    def dev_error(self) -> str:
        """The dev metric by which its epoch was chosen: "mae" or "error_rate"."""
        return metrics.DEV_ERROR[self.info.metrics]

    def file(self, name: str) -> Path:
        """A file of the run, after a look at its checksum.

        Raises:
            ValueError: it is missing or not what was written.
        """
        path = self.folder / name
        if not path.is_file() or store.checksum(path) != self.files[name]:
            found = "another content than was written" if path.is_file() else "no such file"
            raise ValueError(f"{path}: found {found}; delete its folder to train it again")
        return path

    def _scores(self, split: str) -> dict[str, float]:
        arrays = self.predictions()
        return metrics.score(self.info.metrics, arrays[split], arrays[f"{split}_label"])

    @property
    def info(self) -> CorpusInfo:
        """What the corpus is; of an own corpus the record says it."""
        return info_from(self.own["info"]) if self.own else ALL_CORPORA[self.corpus]


def read_record(folder: Path) -> RunRecord:
    """A finished run from its folder.

    Raises:
        ValueError: record.json is not what was written.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text())
        known = content.pop("checksum")
        if digest(content) != known:
            raise ValueError("another content than was written")
        return RunRecord(folder, **content)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a run record: found {error}; delete its folder to train it again") from error


def all_records(runs: Path, folders: str = "*") -> list[RunRecord]:
    """Every finished run in the folder ``runs``, by name of its folder, which fits the pattern ``folders``.

    Raises:
        ValueError: a record is not what was written.
    """
    return [read_record(path.parent) for path in sorted(Path(runs).glob(f"{folders}/{RECORD}"))]


def frame(out: Path | str) -> "pd.DataFrame":
    """Every finished run below ``out``/runs, one row each, for analyses of one's own.

    Columns: what ``RunRecord`` calls by name ("name" is "system" here), the scores as fractions ("test.corr",
    "valid.mae", computed anew), "epochs" trained, timing (seconds), every setting ("data.scale", "train.lr",
    "model.dropout"), versions ("versions.torch"). A run that diverged has no scores; it says why in "failed".

    Raises:
        ValueError: a record or its predictions are not what was written.
    """
    import pandas as pd  # imported when used: processes that train import this module

    told = ("id", "corpus", "data", "encoder", "seed", "parameters", "selected_epoch", "failed")
    code = ("git_revision", "config_hash", "data_hash", "code_hash")
    rows = []
    for record in all_records(Path(out) / "runs"):
        row = {"system": record.name} | {name: getattr(record, name) for name in told}
        row |= {"modalities": " + ".join(record.modalities), "epochs": len(record.curves)}
        if not record.failed:
            row |= {f"{split}.{m}": v for split in ("test", "valid") for m, v in getattr(record, split).items()}
        row |= record.timing | {name: getattr(record, name) for name in code}
        nested = record.config | {"versions": record.versions}
        rows.append(row | {f"{part}.{key}": value for part, held in nested.items() for key, value in held.items()})
    return pd.DataFrame(rows)


def write_record(record: RunRecord) -> None:
    """Write record.json in one move, with the checksum of its content.

    Raises:
        OSError: it cannot be written.
    """
    content = {name: value for name, value in vars(record).items() if name != "folder" and value is not None}
    write_atomically(record.folder / RECORD, json.dumps({"checksum": digest(content)} | content, indent=1))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the whole new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def digest(content: dict) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# -------------------------------------------------------------------------------------- what a run depends on


def identity(spec: RunSpec, folder: Path, corpus: Corpus) -> RunRecord:
    """What was trained, on what, with what: a record without results."""
    told = {"name": spec.name, "seed": spec.seed, "config": spec_config(spec), "config_hash": config_hash(spec)}
    told |= {"corpus": corpus.info.name, "data": corpus.kind, "data_hash": corpus.sha256, "encoder": corpus.encoder}
    told["modalities"] = [m for m in corpus.modalities if m in spec.model_config.modalities]
    told |= {"notes": said(corpus.card), "own": corpus.card.get("own", {})}
    told["sizes"] = {name: len(split) for name, split in corpus.splits.items()}
    code = {"code_hash": run_code(spec), "git_revision": git_revision(), "versions": versions()}
    return RunRecord(folder, folder.name, **told, **code)


def config_hash(spec: RunSpec) -> str:
    """Hash of what is trained and how, without name, seed, and where the data lie (their own hash covers them)."""
    kind = type(spec.model_config)
    content = {"model": f"{kind.__module__}.{kind.__qualname__}", **spec_config(spec)}
    content["data"] = {key: value for key, value in content["data"].items() if key != "source"}
    return digest(content)


def spec_config(spec: RunSpec) -> dict:
    """The data, model and train settings of a spec as plain dictionaries."""
    parts = {"data": spec.data, "model": spec.model_config, "train": spec.train}
    return {name: dataclasses.asdict(part) for name, part in parts.items()}


def run_code(spec: RunSpec) -> str:
    """Hash of the code that decides what a run gives: its model's, its reader's and the training loop's.

    Modules that hold the other systems or readers too (``LEAVES``) count themselves, without what they import.
    """
    # a StreamedConfig is trained by its own module's Trainer
    model, train = model_class(spec.model_config).__module__, type(spec.train).__module__
    return _run_code(model, train, own.reader(spec.data.corpus, str(spec.data.source)))


@cache
def _run_code(model: str, train: str, reader: str) -> str:
    read = [] if reader.endswith("planted") else [f"finelib.data.{name}" for name in ("text", "raw_text", "outliers")]
    read += ["finelib.data.public_sources"] if ".public" in reader else []
    every = ("finelib.training", "finelib.data.moments")
    return code_hash(model, train, *every, reader, *read, *LEAVES, without=LEAVES)


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
