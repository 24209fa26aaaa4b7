"""One training loop for every model. It touches no disk, signal or other process: runs/ and scale/ stand around it."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from finelib import metrics
from finelib.config import TrainConfig
from finelib.data.features import Batch, Corpus, ResidentSplit, Split, cut_batches
from finelib.inputs import resident
from finelib.layers import StackedLayerNorm

EVALUATION_BATCH = 128
PRECISIONS = ("float32", "bfloat16")
Splits = dict[str, ResidentSplit]
AfterUpdate = Callable[["Trainer"], None]
OnEpoch = Callable[[int, dict[str, float]], None]  # epochs done, the last one's curve


class Diverged(RuntimeError):
    """Training met a loss that is not finite; the message names the terms, the epoch and the step."""


@dataclass
class History:
    """What a run leaves behind besides its weights.

    Attributes:
        curves: one dict per epoch: mean of every loss term on the training split, dev metrics, learning rate.
        best_epoch: index of the epoch whose weights are kept: smallest dev error, or the last with ``keep_last``.
        seconds, samples_per_second: training time, evaluation left out.
    """

    curves: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0
    samples_per_second: float = 0.0

    def add_time(self, started: float) -> None:
        """Count the seconds since ``started`` (of ``time.perf_counter``)."""
        self.seconds += time.perf_counter() - started

    def finish(self, size: int) -> None:
        """Note the speed, ``size`` utterances an epoch."""
        self.samples_per_second = size * len(self.curves) / max(self.seconds, 1e-9)


def fit(
    model: nn.Module,
    corpus: Corpus,
    config: TrainConfig,
    seed: int = 0,
    after_update: AfterUpdate | None = None,
    on_epoch: OnEpoch | None = None,
) -> History:
    """Train in place and leave the weights of the epoch with the smallest dev error (``metrics.DEV_ERROR``) in it.

    AdamW; linear warm-up, then a cosine; gradient clipping; early stop. The test split is not touched.

    Args:
        model: meets the contract of ``models.py``.
        after_update: called with the Trainer after each update.
        on_epoch: called after each epoch with the number of epochs done and the epoch's curve.

    Raises:
        Diverged: when a loss term is not finite.
    """
    return Trainer(model, corpus, config, seed).run(after_update, on_epoch)


class Trainer:
    """The state of one training: model, optimiser, order of the batches, history, best weights.

    Args:
        splits: "train" and "valid" where they are on the device already.

    Raises:
        ValueError: an unknown precision.
    """

    def __init__(self, model: nn.Module, corpus: Corpus, config: TrainConfig, seed: int, splits: Splits | None = None):
        if config.precision not in PRECISIONS:
            raise ValueError(f"precision: found {config.precision!r}, expected one of {', '.join(PRECISIONS)}")
        self.config, self.device = config, resolve_device(config.device)
        self.model, self.metrics = model.to(self.device), corpus.info.metrics
        self.splits = splits or self.splits_of(corpus)
        self.optimiser = make_optimiser(model, config)
        batches = math.ceil(len(self.splits["train"]) / config.batch_size)
        self.updates_per_epoch = math.ceil(batches / config.accumulate)
        self.order = torch.Generator().manual_seed(seed)
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.update = 0
        self.pending: list[Tensor] = []  # rows of the batches of this epoch that are still to come
        self.terms: dict[str, list[Tensor]] = {}  # each batch's loss terms in this epoch, left on the device
        self.sizes: list[int] = []
        torch.manual_seed(seed)  # dropout

    def splits_of(self, corpus: Corpus) -> Splits:
        """The training and the dev split on the device."""
        return {name: resident(self.model, corpus.splits[name], self.device) for name in ("train", "valid")}

    def run(self, after_update: AfterUpdate | None = None, on_epoch: OnEpoch | None = None) -> History:
        """Train to the end, or on to it; see ``fit``."""
        with cpu_threads(self.config.threads):
            while not self.finished():
                self.run_epoch(after_update)
                if on_epoch:
                    on_epoch(len(self.history.curves), self.history.curves[-1])
        self.model.load_state_dict(self.best)
        self.history.finish(len(self.splits["train"]))
        return self.history

    def finished(self) -> bool:
        """Whether all epochs are done, or the last ``patience`` brought nothing better."""
        done = len(self.history.curves)
        return done >= self.config.epochs or done - 1 - self.history.best_epoch >= self.config.patience

    def run_epoch(self, after_update: AfterUpdate | None) -> None:
        """What is left of an epoch, then its dev scores."""
        started = time.perf_counter()
        for _ in self.updates():
            self.history.add_time(started)
            if after_update:
                after_update(self)
            started = time.perf_counter()
        curve = self.end_epoch()
        self.history.add_time(started)
        self.select(curve | self.dev_scores())

    def updates(self) -> Iterator[None]:
        """The updates of one pass in random order, or of what is left of one; each utterance contributes to one."""
        self.model.train()
        if not self.sizes:
            self.pending = self.epoch_batches()
        batches = self.splits["train"].batches(self.pending)
        while self.pending:
            group = self.pending[: self.config.accumulate]
            size = sum(len(rows) for rows in group)
            for rows, batch in zip(group, batches, strict=False):
                terms = self.losses(batch)
                (terms["total"] * (len(rows) / size)).backward()
                self.sizes.append(len(rows))
                for name, value in terms.items():
                    self.terms.setdefault(name, []).append(value.detach())
            self.step()
            self.pending = self.pending[len(group) :]
            yield

    def epoch_batches(self) -> list[Int[Tensor, "B"]]:
        """The rows of an epoch's batches, in random order."""
        length = sum(self.splits["train"].length.values())
        order = torch.randperm(len(length), generator=self.order)
        return cut_batches(order, length, self.config.batch_size, self.config.bucket, self.order)

    def losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Every loss term of a batch."""
        return self.model.losses(self.forward(batch), batch)

    def forward(self, batch: Batch) -> Any:
        """The model's output, in float32 whatever precision its products have: that is what losses are made of."""
        if self.config.precision == "float32":
            return self.model(batch)
        with torch.autocast(batch.label.device.type, torch.bfloat16):
            return in_float32(self.model(batch))

    def step(self) -> None:
        """Set the learning rates, clip each role's gradients, update."""
        factor = rate_factor(self.update, self.config.epochs * self.updates_per_epoch, self.config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
        for role in {group["role"] for group in self.optimiser.param_groups}:
            self.clip([p for g in self.optimiser.param_groups if g["role"] == role for p in g["params"]])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.update += 1

    def clip(self, members: list[nn.Parameter]) -> None:
        """Scale the gradients of one role so that their common norm is at most ``config.clip``."""
        nn.utils.clip_grad_norm_(members, self.config.clip)

    def end_epoch(self) -> dict[str, float]:
        """Mean of every loss term over the epoch's utterances, and the learning rate.

        Raises:
            Diverged: a term was not finite. Looked at once an epoch, since reading a value makes a GPU wait.
        """
        values = {name: torch.stack(batches).double().cpu() for name, batches in self.terms.items()}
        bad = {name: int(v.isfinite().int().argmin()) for name, v in values.items() if not v.isfinite().all()}
        if bad:
            epoch, first = len(self.history.curves) + 1, min(bad.values())
            names = ", ".join(name for name, step in bad.items() if step == first)
            raise Diverged(f"training diverged in epoch {epoch}, step {first + 1}: not finite: {names}")
        size = torch.tensor(self.sizes, dtype=torch.float64)
        self.terms, self.sizes = {}, []
        means = {name: float(v @ size / size.sum()) for name, v in values.items()}
        return means | {"lr": self.optimiser.param_groups[0]["lr"]}

    def dev_scores(self) -> dict[str, float]:
        """All metrics of the dev split, their names prefixed by ``dev_``."""
        valid = self.splits["valid"]
        scores = metrics.score(self.metrics, predict(self.model, valid), valid.label.cpu().numpy())
        return {f"dev_{name}": value for name, value in scores.items()}

    def select(self, curve: dict[str, float]) -> None:
        """Append the epoch to the history and keep its weights if its dev error is the smallest so far."""
        curves, error = self.history.curves, f"dev_{metrics.DEV_ERROR[self.metrics]}"
        best = curves[self.history.best_epoch][error] if curves else math.inf
        curves.append(curve)
        if curve[error] < best or self.config.keep_last:
            self.history.best_epoch = len(curves) - 1
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}


@torch.no_grad()
def predict(model: nn.Module, split: Split | ResidentSplit) -> Float[np.ndarray, "N"]:
    """Predictions of a split in its own order, made where the model is."""
    if isinstance(split, Split):
        split = resident(model, split, next(model.parameters()).device)
    was_training = model.training
    model.eval()
    order = torch.argsort(sum(split.length.values()), descending=True, stable=True)  # like lengths together, for speed
    out = torch.empty(len(split), device=split.device)
    for rows in order.split(EVALUATION_BATCH):
        batch = split.batch(rows)
        out[batch.index] = model(batch).prediction.float()
    model.train(was_training)
    return out.cpu().numpy()


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with groups of their own for the NCE-CLUB critics and the text encoder; decay on matrices only.

    Biases and gains of norms are no matrices, though those of stacked layers have an axis for the stack.
    """
    role = {id(p): "critic" for p in model.critic_parameters()} if hasattr(model, "critic_parameters") else {}
    if model.inputs.text_encoder is not None:
        role |= {id(p): "text" for p in model.inputs.text_encoder.parameters()}
    rates = {"model": config.lr, "critic": config.critic_speed * config.lr, "text": config.lr_text}
    gains = {id(module.weight) for module in model.modules() if isinstance(module, StackedLayerNorm)}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim > 1 and not name.endswith("bias") and id(parameter) not in gains
            groups.setdefault((role.get(id(parameter), "model"), is_matrix), []).append(parameter)
    settings = []
    for (name, is_matrix), members in groups.items():
        rate = {"lr": rates[name], "peak_lr": rates[name], "weight_decay": config.weight_decay if is_matrix else 0.0}
        settings.append({"params": members, "role": name} | rate)
    return torch.optim.AdamW(settings, fused=True)


def rate_factor(update: int, total: int, warmup: float) -> float:
    """Share of the peak rate at an update: linear over the first ``warmup`` of all updates, then a cosine to 0."""
    rising = max(1, round(warmup * total))
    if update < rising:
        return (update + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (update - rising) / max(1, total - rising)))


def in_float32(tree: Any) -> Any:
    """A structure of dataclasses and dicts with every floating-point tensor in float32."""
    if isinstance(tree, Tensor):
        return tree.float() if tree.is_floating_point() else tree
    if isinstance(tree, dict):
        return {key: in_float32(value) for key, value in tree.items()}
    if dataclasses.is_dataclass(tree):
        return type(tree)(**{key: in_float32(value) for key, value in vars(tree).items()})
    return tree


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
