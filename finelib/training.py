"""One training loop for every model: ``fit`` trains and selects on dev, ``predict`` evaluates."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from finelib import metrics, parallel, training
from finelib.config import TrainConfig
from finelib.data.features import Batch, Corpus, ResidentSplit, Split
from finelib.runs.checkpoint import read_state, write_state
from finelib.scale import streamed
from finelib.scale.streamed import StreamedSplit, window_batches

POOL_BATCHES = 16  # batches that are cut from one pool of random utterances, sorted by length


def epoch(length: Int[Tensor, "N"], config: TrainConfig, generator: torch.Generator) -> list[Int[Tensor, "B"]]:
    """An epoch's batches in random order, each row in one; with ``bucket`` cut from pools that are sorted by length.

    Args:
        length: frames of each utterance, all modalities together.
    """
    if not config.chunk:
        return _cut(torch.randperm(len(length), generator=generator), length, config, generator)
    chunks = torch.arange(len(length)).split(config.chunk)
    order = torch.cat([chunks[i] for i in torch.randperm(len(chunks), generator=generator)])
    windows = order.split(window_batches(config) * config.batch_size)
    shuffled = [window[torch.randperm(len(window), generator=generator)] for window in windows]
    return [batch for window in shuffled for batch in _cut(window, length, config, generator)]


def _cut(order: Tensor, length: Tensor, config: TrainConfig, generator: torch.Generator) -> list[Tensor]:
    size = config.batch_size
    if not config.bucket:
        return list(order.split(size))
    sorted_pools = [pool[length[pool].argsort()] for pool in order.split(size * POOL_BATCHES)]
    batches = torch.cat(sorted_pools).split(size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


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
                "params": members,
                "role": name,
                "lr": rates[name],
                "peak_lr": rates[name],
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (name, decays), members in groups.items()
        ],
        fused=True,
    )


def rate_factor(update: int, total: int, warmup: float) -> float:
    """Share of the peak rate at an update: linear over the first ``warmup`` of all updates, then a cosine to 0."""
    rising = max(1, round(warmup * total))
    if update < rising:
        return (update + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (update - rising) / max(1, total - rising)))


EVALUATION_BATCH = 128
PRECISIONS = ("float32", "bfloat16")
CHECKPOINT_SECONDS = 20
DROPOUT_STRIDE = 1_000_003  # between the seeds of the processes of one training, which draw their own dropout


class Diverged(RuntimeError):
    """Training met a loss that is not finite; the message names the terms, the epoch and the step."""


class Stopped(BaseException):
    """``stop`` asked for it; the state is in the checkpoint. Like KeyboardInterrupt, no error."""


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

    def clock(self, started: float) -> float:
        """Count the seconds since ``started``; returns now."""
        now = time.perf_counter()
        self.seconds += now - started
        return now

    def close(self, size: int, device: torch.device) -> None:
        """Note the speed, ``size`` utterances an epoch, and the peak memory."""
        self.samples_per_second = size * len(self.curves) / max(self.seconds, 1e-9)
        self.peak_memory_mib = _peak_memory_mib(device)


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
    stop: Callable[[], bool] = lambda: False,
) -> History:
    """Train in place and leave the weights of the epoch with the smallest dev MAE in the model.

    AdamW; linear warm-up, then a cosine; gradient clipping; early stop. The dev split is scored whole, so its
    MAE weighs every utterance alike; the test split is not touched.

    Args:
        model: meets the contract of ``models.py``.
        checkpoint: file in which the state is kept now and then; if it exists, training goes on from there and
            ends with the same numbers as without the interruption.
        on_epoch: called after each epoch with the number of epochs done and the epoch's curve.
        stop: asked after each update; when it says so, the state is saved and training ends.

    Raises:
        Diverged: when a loss term is not finite.
        Stopped: when ``stop`` said so.
    """
    device = resolve_device(config.device)
    modalities = tuple(m for m in corpus.modalities if m in model.config.modalities)
    with cpu_threads(config.threads):
        train = streamed.training_split(corpus.splits["train"], modalities, device, config)
        valid = ResidentSplit(corpus.splits["valid"], modalities, device)
        run = _Run(parallel.prepared(model.to(device)), config, seed, len(train))
        if config.compile:
            model.compile(dynamic=True)
        if state := read_state(checkpoint, device):
            run.load(state)
        saved_at = time.monotonic()
        while not run.finished():
            started = time.perf_counter()
            for _ in run.updates(train):
                started = run.history.clock(started)
                stopping = parallel.any_of(stop())
                due = parallel.any_of(time.monotonic() - saved_at > CHECKPOINT_SECONDS)
                if checkpoint is not None and (stopping or due):
                    run.save(checkpoint)
                    saved_at = time.monotonic()
                if stopping:
                    raise Stopped
            curve = run.end_epoch(train)
            run.history.clock(started)
            curve |= parallel.from_first(dev_scores(model, valid, corpus))
            run.select(curve)
            if on_epoch:
                on_epoch(len(run.history.curves), curve)
        model.load_state_dict(run.best)
    run.history.close(len(train), device)
    return run.history


def dev_scores(model: nn.Module, valid: ResidentSplit, corpus: Corpus) -> dict[str, float]:
    """All metrics of the dev split, their names prefixed by "dev_"."""
    scores = metrics.score(corpus.info.metrics, predict(model, valid), corpus.splits["valid"].label)
    return {f"dev_{name}": value for name, value in scores.items()}


def predictions(model: nn.Module, split: Split, config: TrainConfig) -> np.ndarray:
    """Predictions (N,) of a split, with the run's device and threads."""
    modalities = tuple(m for m in split.frames if m in model.config.modalities)
    with cpu_threads(config.threads):
        return predict(model, ResidentSplit(split, modalities, resolve_device(config.device)))


class _Run:
    """The state of one training: model, optimiser, generators, history, best weights."""

    def __init__(self, model: nn.Module, config: TrainConfig, seed: int, size: int):
        if config.precision not in PRECISIONS:
            raise ValueError(f"precision: found {config.precision!r}, expected one of {', '.join(PRECISIONS)}")
        self.model, self.config = model, config
        self.optimiser = make_optimiser(model, config)
        self.batches = math.ceil(size / config.batch_size)
        self.updates_per_epoch = math.ceil(self.batches / config.accumulate)
        self.order = torch.Generator().manual_seed(seed)
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.update = 0
        self.pending: list[Tensor] = []  # the batches of this epoch that are still to come
        self.terms: dict[str, list[Tensor]] = {}  # each batch's loss terms in this epoch, left on the device
        self.sizes: list[int] = []
        torch.manual_seed(seed + DROPOUT_STRIDE * parallel.rank())

    def finished(self) -> bool:
        done = len(self.history.curves)
        return done >= self.config.epochs or done - 1 - self.history.best_epoch >= self.config.patience

    def forward(self, batch: Batch) -> Any:
        """The model's output, in float32 whatever precision its products have: that is what losses are made of."""
        if self.config.precision == "float32":
            return self.model(batch)
        with torch.autocast(batch.label.device.type, torch.bfloat16):
            return parallel.mapped(lambda x: x.float() if x.is_floating_point() else x, self.model(batch))

    def updates(self, train: ResidentSplit | StreamedSplit) -> Iterator[None]:
        """The updates of one pass in random order, or of what is left of one; each utterance contributes to one."""
        self.model.train()
        if not self.sizes:
            self.pending = self.batches_of(train)
        shares = self.shares(train)
        while self.pending:
            group = self.pending[: self.config.accumulate]
            size = sum(len(index) for index in group)
            for index, share in zip(group, shares, strict=False):
                terms = self.losses(share, index)
                (terms["total"].sum() * (len(index) / size)).backward()  # one total, or one of each seed
                self.sizes.append(len(index))
                for name, value in terms.items():
                    self.terms.setdefault(name, []).append(value.detach())
            self.step()
            self.pending = self.pending[len(group) :]
            yield

    def batches_of(self, train: ResidentSplit | StreamedSplit) -> list[Int[Tensor, "B"]]:
        """The rows of an epoch's batches, in random order."""
        return training.epoch(sum(train.length.values()), self.config, self.order)

    def shares(self, train: ResidentSplit | StreamedSplit) -> Iterator[Batch]:
        """Of each batch to come, what this process computes."""
        return train.batches([parallel.share(index) for index in self.pending])

    def losses(self, share: Batch, index: Int[Tensor, "B"]) -> dict[str, Float[Tensor, ""]]:
        """Every loss term of a batch, of which this process computes ``share``."""
        output, batch = parallel.whole(self.forward, share, index)
        return self.model.losses(output, batch)

    def end_epoch(self, train: ResidentSplit | StreamedSplit) -> dict[str, float]:
        """Mean of every loss term over the epoch's utterances, and the learning rate.

        Raises:
            Diverged: a term was not finite. Looked at once an epoch, since reading a value makes a GPU wait.
        """
        values = {name: torch.stack(batches).double().cpu() for name, batches in self.terms.items()}
        bad = {name: int(v.isfinite().int().argmin()) for name, v in values.items() if not v.isfinite().all()}
        if bad:
            first = min(bad.values())
            names = ", ".join(name for name, step in bad.items() if step == first)
            epoch = len(self.history.curves) + 1
            raise Diverged(f"training diverged in epoch {epoch}, step {first + 1}: not finite: {names}")
        size = torch.tensor(self.sizes, dtype=torch.float64)
        self.terms, self.sizes = {}, []
        return {name: float(v @ size) / len(train) for name, v in values.items()} | {
            "lr": self.optimiser.param_groups[0]["lr"]
        }

    def step(self) -> None:
        """Set the rates, clip each group, update."""
        factor = rate_factor(self.update, self.config.epochs * self.updates_per_epoch, self.config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
        parallel.mean_gradients(self.model)
        for role in {group["role"] for group in self.optimiser.param_groups}:
            members = [p for g in self.optimiser.param_groups if g["role"] == role for p in g["params"]]
            self.clip(members)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.update += 1

    def clip(self, members: list[nn.Parameter]) -> None:
        """Scale the gradients of one role so that their common norm is at most ``config.clip``."""
        nn.utils.clip_grad_norm_(members, self.config.clip)

    def select(self, curve: dict[str, float]) -> None:
        """Append the epoch to the history and keep its weights if its dev MAE is the smallest so far."""
        curves = self.history.curves
        best = curves[self.history.best_epoch]["dev_mae"] if curves else math.inf
        curves.append(curve)
        if curve["dev_mae"] < best or self.config.keep_last:
            self.history.best_epoch = len(curves) - 1
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write the state, from which ``load`` goes on."""
        write_state(
            path,
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "best": self.best,
                "order": self.order.get_state(),
                "update": self.update,
                "history": vars(self.history),
                "pending": self.pending,
                "terms": self.terms,
                "sizes": self.sizes,
            },
        )

    def load(self, state: dict) -> None:
        """Go on from a saved state."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.update, self.history = state["best"], state["update"], History(**state["history"])
        self.pending, self.terms, self.sizes = state["pending"], state["terms"], state["sizes"]
        self.order.set_state(state["order"])


def _peak_memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
