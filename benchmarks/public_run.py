"""The systems that ``compare_public.py`` knows public code of, and what that code is given: batches of one file.

Layouts that a repository wants other than the file's are made here, so that they can be tested without the code.
"""

from __future__ import annotations

import math
import pickle
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from compare_mmsa import measures
from torch import Tensor, nn

Batch = dict  # text, audio, vision (B, T, d), mask (B, T) of 0 and 1, label (B,), labels {"M": label}
NAMES = {"text": "text", "audio": "audio", "vision": "vision", "label": "regression_labels"}

ENCODER = "the text encoder is replaced by the file's frozen text features"
WIDTHS = "feature widths and the device, constants of the code, are those of the file and the CPU"
OLD = "classes of the transformers library stand in where it had them then, with the weights' distribution of then"
IN_PLACE = "attention's query is a copy, since PyTorch now refuses to scale a part of a shared product in place"
FROZEN_RATE = "the learning rate, which is a pre-trained encoder's, is 1e-3 on both sides"
PLATEAU = "an argument of the schedule that PyTorch no longer takes is left out"


@dataclass(frozen=True)
class System:
    """Name here; repository on GitHub and its revision; budget of both sides; mends of the public code.

    Attributes:
        epochs, settings: what both sides have; ``settings`` where it differs from the recipe's.
        repairs: what keeps the code from running, and what was done about it.
    """

    name: str
    repository: str
    revision: str
    epochs: int
    settings: dict
    repairs: tuple[str, ...]


SYSTEMS = {
    "gfn": System(
        "GFN",
        "TmacMai/ARGF_multimodal_fusion",
        "e13b1a77f6f5b98ebe359020a7a6ff499c820e28",
        8,
        {},
        (
            "an utterance's vectors are the means of its real frames",
            "one output: the softmax over classes is left out",
            "all gradients of a step are computed before the first of four optimisers moves a weight; PyTorch now "
            "refuses gradients through weights that have moved",
            "the training loop, which is inside the script's main with a random search, is written anew",
        ),
    ),
    "mag": System(
        "MAG-BERT",
        "WasifurRahman/BERT_multimodal_transformer",
        "dc7876fc30f7ef362999200911e3d4d8a2bca107",
        15,
        {"lr": 1e-3},
        (
            "the text encoder is an untrained BERT of our size (2 layers, 128 wide) on a [CLS] vector and a linear map "
            "of the file's frozen text features",
            WIDTHS,
            OLD,
            "the learning rate, which is the pre-trained encoder's, is ours for what is new",
            "the training loop, which needs a GPU and an account for logging, is written anew",
        ),
    ),
    "cubemlp": System(
        "CubeMLP",
        "kiva12138/CubeMLP",
        "49f75bdc4caa5add8f2710b8053b000916ea970e",
        16,
        {},
        (ENCODER, "the training loop, which needs a GPU and a log folder, is written anew"),
    ),
    "c_mib": System(
        "C-MIB",
        "TmacMai/Multimodal-Information-Bottleneck",
        "f6d006bdf0ebb64975352cf62abbce790d540b64",
        15,
        {"lr": 1e-3},
        (ENCODER, WIDTHS, OLD, IN_PLACE, FROZEN_RATE),
    ),
    "euar": System(
        "EUAR",
        "ZixianGao/EUAR",
        "233e2747b47e7ec9d1ec8343e193da0e20e31293",
        12,
        {"lr": 1e-3},
        (ENCODER, WIDTHS, PLATEAU, FROZEN_RATE),
    ),
    "dmd": System(
        "DMD",
        "mdswyz/DMD",
        "516d4e116c22220e08873fa38df828d1a0d6f7e8",
        3,
        {"lr": 1e-3, "accumulate": 1},
        (
            "the configuration's own switch turns the text encoder off, so that the file's text features are read",
            "calls that move tensors to a GPU do nothing",
            "the cosine loss, which PyTorch now refuses for three axes, runs along the axis it had then (the batch)",
            PLATEAU,
            "the learning rate is 1e-3 instead of 1e-4, with a step every batch instead of every ten, on both sides: "
            "there are few batches",
        ),
    ),
}


def checkout(folder: Path, key: str) -> Path:
    """Where a system's public code is.

    Raises:
        ValueError: none of that revision is there; the message names every repository that ``folder`` lacks.
    """
    lacking = {}
    for name, system in SYSTEMS.items():
        found = subprocess.run(["git", "-C", folder / name, "rev-parse", "HEAD"], text=True, capture_output=True)
        revision = found.stdout.strip() if found.returncode == 0 else "no checkout"
        if revision != system.revision:
            address = f"https://github.com/{system.repository} at {system.revision}"
            lacking[name] = f"{folder / name}: found {revision}, expected {address}"
    if key in lacking:
        raise ValueError("; ".join([lacking.pop(key), *lacking.values()]))
    return (folder / key).resolve()


class Run:
    """A file in MMSA's format for public code: batches, their time, and the scores at the best epoch on validation."""

    def __init__(self, file: Path, folder: Path, settings: dict):
        self.folder, self.settings, self.lr, self.epochs = folder, settings, settings["lr"], settings["epochs"]
        self.seconds, self.seen, self.curve, self.scores = 0.0, 0, [], {}
        with file.open("rb") as stream:
            content = pickle.load(stream)
        self.splits = {
            split: {name: torch.as_tensor(fields[key]) for name, key in NAMES.items()}
            | {"mask": torch.as_tensor(fields["text_bert"][:, 1]).long()}
            for split, fields in content.items()
        }
        self.size = len(self.splits["train"]["label"])

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.size // self.settings["batch_size"])

    def __iter__(self) -> Iterator[Batch]:
        """The training split's batches in random order; a batch's time runs until the next one is asked for."""
        began = time.perf_counter()
        for rows in torch.randperm(self.size).split(self.settings["batch_size"]):
            yield self.batch("train", rows)
            self.seen += len(rows)
        self.seconds += time.perf_counter() - began

    def batch(self, split: str, rows: Tensor) -> Batch:
        """Some rows of a split; ``labels`` is how MMSA's loaders have the label."""
        batch = {name: values[rows] for name, values in self.splits[split].items()}
        return batch | {"labels": {"M": batch["label"]}}

    def evaluate(self, predict: Callable[[Batch], Tensor], size: int = 128) -> float:
        """Validation MAE; the test split is scored if it is the smallest so far."""
        error = self.scored("valid", predict, size)["mae"]
        if error < min(self.curve, default=math.inf):
            self.scores = self.scored("test", predict, size)
        self.curve.append(error)
        return error

    def scored(self, split: str, predict: Callable[[Batch], Tensor], size: int) -> dict[str, float]:
        """MAE and Corr of a split, predicted ``size`` utterances at a time."""
        label = self.splits[split]["label"]
        with torch.no_grad():
            parts = [predict(self.batch(split, rows)).view(-1) for rows in torch.arange(len(label)).split(size)]
        return measures(torch.cat(parts).numpy(), label.numpy())

    def train(self, model: nn.Module, step: Callable, predict: Callable, after: Callable = lambda error: None) -> None:
        """All epochs; ``after`` gets each one's validation MAE."""
        for _ in range(self.epochs):
            model.train()
            for batch in self:
                step(batch)
            model.eval()
            after(self.evaluate(predict))


def mean_frames(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """For GFN: means (B, d) of the real frames of audio, vision and text, in the authors' order."""
    there = batch["mask"][..., None]
    return tuple((batch[m] * there).sum(1) / there.sum(1) for m in ("audio", "vision", "text"))


def to_longest(batch: Batch) -> Batch:
    """For CubeMLP: what is behind the batch's longest utterance is cut off, since its loader pads no further."""
    steps = int(batch["mask"].sum(1).max())
    return {m: batch[m][:, :steps] for m in ("text", "audio", "vision", "mask")}


def behind_first(batch: Batch) -> Batch:
    """For MAG: a step of zeros in front of audio and vision, and a 1 in front of the mask, where text has [CLS]."""
    frames = {m: F.pad(batch[m], (0, 0, 1, 0)) for m in ("audio", "vision")}
    return frames | {"mask": F.pad(batch["mask"], (1, 0), value=1)}
