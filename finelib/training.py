"""One training loop for every model: ``fit`` trains and selects on dev, ``predict`` evaluates."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from finelib import metrics
from finelib.config import TrainConfig
from finelib.data.features import Corpus, ResidentSplit, Split

EVALUATION_BATCH = 128
CHECKPOINT_SECONDS = 20
POOL_BATCHES = 16  # batches that are cut from one pool of random utterances, sorted by length


class Diverged(RuntimeError):
    """Training met a loss that is not finite; the message names the term, the epoch and the step."""


@dataclass
class History:
    """What a run leaves behind besides its weights.

    Attributes:
        curves: one dict per epoch: mean of every loss term on the training split, dev metrics, learning rate.
        best_epoch: index of the epoch whose weights are kept: smallest dev MAE, or the last with ``keep_last``.
        seconds, samples_per_second: training time, evaluation left out.
        peak_memory_mib: of the process, or of the device where it is a GPU.
    """

    curves: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0
    samples_per_second: float = 0.0
    peak_memory_mib: float = 0.0


def resolve_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


@contextmanager
def cpu_threads(count: int):
    """Use ``count`` CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def predict(model: nn.Module, split: ResidentSplit) -> np.ndarray:
    """Predictions (N,) of a split in its own order. Batches hold utterances of like length, for speed alone."""
    was_training = model.training
    model.eval()
    order = torch.argsort(sum(split.length.values()), descending=True, stable=True)
    out = torch.empty(len(split), device=split.device)
    for index in order.split(EVALUATION_BATCH):
        batch = split.batch(index)
        out[batch.index] = model(batch).prediction.float()
    model.train(was_training)
    return out.cpu().numpy()


def fit(
    model: nn.Module,
    corpus: Corpus,
    config: TrainConfig,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> History:
    """Train in place and leave the weights of the epoch with the smallest dev MAE in the model.

    AdamW; linear warm-up, then a cosine; gradient clipping; early stop. The dev split is scored whole, so its
    MAE weighs every utterance alike; the test split is not touched.

    Args:
        model: meets the contract of ``models.py``.
        checkpoint: file in which the state is kept now and then; if it exists, training goes on from there and
            ends with the same numbers as without the interruption.
        on_epoch: called after each epoch with the number of epochs done and the epoch's curve.

    Raises:
        Diverged: when a loss term is not finite.
    """
    device = resolve_device(config.device)
    modalities = tuple(m for m in corpus.modalities if m in model.config.modalities)
    with cpu_threads(config.threads):
        train = ResidentSplit(corpus.splits["train"], modalities, device)
        valid = ResidentSplit(corpus.splits["valid"], modalities, device)
        run = _Run(model.to(device), config, seed, len(train))
        if checkpoint is not None and checkpoint.exists():
            run.load(checkpoint)
        saved_at = time.monotonic()
        while not run.finished():
            started = time.perf_counter()
            curve = run.epoch(train)
            run.history.seconds += time.perf_counter() - started
            curve |= dev_scores(model, valid, corpus)
            run.select(curve)
            if on_epoch:
                on_epoch(len(run.history.curves), curve)
            if checkpoint is not None and time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                run.save(checkpoint)
                saved_at = time.monotonic()
        model.load_state_dict(run.best)
    history = run.history
    history.samples_per_second = len(train) * len(history.curves) / max(history.seconds, 1e-9)
    history.peak_memory_mib = _peak_memory_mib(device)
    return history


def dev_scores(model: nn.Module, valid: ResidentSplit, corpus: Corpus) -> dict[str, float]:
    """All metrics of the dev split, their names prefixed by "dev_"."""
    scores = metrics.score(corpus.info.metric, predict(model, valid), corpus.splits["valid"].label)
    return {f"dev_{name}": value for name, value in scores.items()}


def predictions(model: nn.Module, split: Split, config: TrainConfig) -> np.ndarray:
    """Predictions (N,) of a split, with the run's device and threads."""
    modalities = tuple(m for m in split.frames if m in model.config.modalities)
    with cpu_threads(config.threads):
        return predict(model, ResidentSplit(split, modalities, resolve_device(config.device)))


class _Run:
    """The state of one training: model, optimiser, generators, history, best weights."""

    def __init__(self, model: nn.Module, config: TrainConfig, seed: int, size: int):
        self.model, self.config = model, config
        self.optimiser = make_optimiser(model, config)
        self.batches = math.ceil(size / config.batch_size)
        self.updates_per_epoch = math.ceil(self.batches / config.accumulate)
        self.order = torch.Generator().manual_seed(seed)
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.update = 0
        torch.manual_seed(seed)

    def finished(self) -> bool:
        done = len(self.history.curves)
        return done >= self.config.epochs or done - 1 - self.history.best_epoch >= self.config.patience

    def epoch(self, train: ResidentSplit) -> dict[str, float]:
        """One pass in random order; every utterance contributes to an update, left-over batches included."""
        self.model.train()
        batches = self.batches_of(train)
        sums: dict[str, Tensor] = {}
        for first in range(0, len(batches), self.config.accumulate):
            group = batches[first : first + self.config.accumulate]
            size = sum(len(index) for index in group)
            for index in group:
                batch = train.batch(index)
                terms = self.model.losses(self.model(batch), batch)
                (terms["total"] * (len(index) / size)).backward()
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0) + value.detach() * len(index)
            self.step()
        means = {name: float(value) / len(train) for name, value in sums.items()}
        self._check_finite(means)
        return means | {"lr": self.optimiser.param_groups[0]["lr"]}

    def batches_of(self, train: ResidentSplit) -> list[Tensor]:
        """An epoch's batches in random order; with ``bucket`` cut from pools that are sorted by length."""
        order, size = torch.randperm(len(train), generator=self.order), self.config.batch_size
        if not self.config.bucket:
            return list(order.split(size))
        length = sum(train.length.values())
        sorted_pools = [pool[length[pool].argsort()] for pool in order.split(size * POOL_BATCHES)]
        batches = torch.cat(sorted_pools).split(size)
        return [batches[i] for i in torch.randperm(len(batches), generator=self.order)]

    def step(self) -> None:
        """Clip each group, set the rates, update."""
        factor = rate_factor(self.update, self.config.epochs * self.updates_per_epoch, self.config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
        for role in {group["role"] for group in self.optimiser.param_groups}:
            members = [p for g in self.optimiser.param_groups if g["role"] == role for p in g["params"]]
            nn.utils.clip_grad_norm_(members, self.config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.update += 1

    def select(self, curve: dict[str, float]) -> None:
        """Append the epoch to the history and keep its weights if its dev MAE is the smallest so far."""
        curves = self.history.curves
        best = curves[self.history.best_epoch]["dev_mae"] if curves else math.inf
        curves.append(curve)
        if curve["dev_mae"] < best or self.config.keep_last:
            self.history.best_epoch = len(curves) - 1
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write the state beside ``path`` and move it there, so that no half-written state is ever read."""
        state = {
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "best": self.best,
            "order": self.order.get_state(), "cpu": torch.get_rng_state(), "update": self.update,
            "history": vars(self.history),
        }  # fmt: skip
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        partial = path.with_suffix(f".{os.getpid()}.partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.update, self.history = state["best"], state["update"], History(**state["history"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["cpu"])
        if "cuda" in state:
            torch.cuda.set_rng_state_all(state["cuda"])

    def _check_finite(self, means: dict[str, float]) -> None:
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise Diverged(f"training diverged in epoch {len(self.history.curves) + 1}: not finite: {', '.join(bad)}")


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with groups of their own for the NCE-CLUB critics and the text encoder; decay on matrices only."""
    role = {id(p): "critic" for p in model.critic_parameters()} if hasattr(model, "critic_parameters") else {}
    if model.text_encoder is not None:
        role |= {id(p): "text" for p in model.text_encoder.parameters()}
    rates = {"model": config.lr, "critic": config.lr_critic, "text": config.lr_text}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((role.get(id(parameter), "model"), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": members, "role": name, "lr": rates[name], "peak_lr": rates[name],
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (name, decays), members in groups.items()
        ],
        fused=True,
    )  # fmt: skip


def rate_factor(update: int, total: int, warmup: float) -> float:
    """Share of the peak rate at an update: linear over the first ``warmup`` of all updates, then a cosine to 0."""
    rising = max(1, round(warmup * total))
    if update < rising:
        return (update + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (update - rising) / max(1, total - rising)))


def _peak_memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
