"""Runs that differ in the seed alone, trained side by side as one batched model (``torch.func.vmap``).

A small model leaves a GPU idle between its small kernels; S seeds in one go launch as many kernels as one seed does.
Nothing passes from seed to seed: each has its own weights, order, dropout, queue, losses, gradient norm, best epoch
and early stop, so that it ends where it would end alone, within float error. A seed that is done is no longer recorded
while the others go on.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from finelib import parallel
from finelib.config import TrainConfig
from finelib.data.features import Batch, Corpus, ResidentSplit
from finelib.fine import FINE
from finelib.layers import ByteDropout
from finelib.training import Diverged, History, Stopped, _Run, cpu_threads, dev_scores, resolve_device

WARM_UP, MEASURED = 3, 5  # updates


def fit_together(
    models: list[nn.Module],
    corpus: Corpus,
    config: TrainConfig,
    seeds: list[int],
    on_epoch: Callable[[int, int, dict[str, float]], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[History | Diverged]:
    """``training.fit`` of every model with its seed, all at once; nothing is saved on the way.

    Args:
        models: of one configuration, each made with its own seed.
        on_epoch: called after each epoch of each seed with the seed's place, the epochs done and the epoch's curve.
        stop: asked after each update.

    Returns:
        each seed's history, or how it diverged. Its ``seconds`` are its even share of the time of the epochs in which
        it was trained.

    Raises:
        ValueError: such models cannot be trained together.
        Stopped: when ``stop`` said so.
    """
    if reason := obstacle(models[0], config):
        raise ValueError(f"these seeds cannot be trained together: {reason}")
    device = resolve_device(config.device)
    with cpu_threads(config.threads):
        train, valid = (_resident(corpus, name, models[0], device) for name in ("train", "valid"))
        together = _Together([model.to(device) for model in models], config, seeds, len(train))
        results: list[History | Diverged] = [run.history for run in together.runs]
        while going := [s for s, run in enumerate(together.runs) if results[s] is run.history and not run.finished()]:
            started = time.perf_counter()
            for _ in together.updates(train):
                if stop():
                    raise Stopped
            together.hand_out()
            curves = {}
            for s in going:
                try:
                    curves[s] = together.runs[s].end_epoch(train)
                except Diverged as error:
                    results[s] = error
            share = (time.perf_counter() - started) / len(going)
            for s, curve in curves.items():
                run = together.runs[s]
                run.history.seconds += share
                run.select(curve | dev_scores(models[s], valid, corpus))
                if on_epoch:
                    on_epoch(s, len(run.history.curves), run.history.curves[-1])
        for model, run, result in zip(models, together.runs, results, strict=True):
            if result is run.history:
                model.load_state_dict(run.best, assign=True)  # its own tensors again
                result.close(len(train), device)
    return results


def obstacle(model: nn.Module, config: TrainConfig) -> str | None:
    """Why models like this one cannot be trained together, or None."""
    if not isinstance(model, FINE):
        return f"{type(model).__module__}.{type(model).__name__} is not FINE"
    if model.text_encoder is not None:
        return "a text encoder is trained with them"
    if config.chunk or config.compile or config.precision != "float32" or parallel.count() > 1:
        return "chunk, compile, precision and several processes are for a run alone"
    if config.bucket:
        return "with batches of like length the short batch comes at another place for each seed"
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase) or (isinstance(module, nn.Dropout) and module.p > 0):
            return f"{name} is {type(module).__name__}, which vmap cannot run with a generator for each seed"
    return None


def pays(models: list[nn.Module], corpus: Corpus, config: TrainConfig, seeds: list[int]) -> bool:
    """Whether an update of all seeds takes less time together than one after the other, by a few of both in turn.

    The models are copied; they are not trained. False where they cannot be trained together.
    """
    if obstacle(models[0], config):
        return False
    apart, together = seconds_per_update(models, corpus, config, seeds)
    return together < apart


def seconds_per_update(
    models: list[nn.Module],
    corpus: Corpus,
    config: TrainConfig,
    seeds: list[int],
    count: int = MEASURED,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds of an update of all seeds, one after the other and together, on the corpus's own batches."""
    device = resolve_device(config.device)
    with cpu_threads(config.threads):
        train = _resident(corpus, "train", models[0], device)
        copies = copy.deepcopy([model.to(device) for model in models])
        runs = [_Run(model, config, seed, len(train)) for model, seed in zip(copies, seeds, strict=True)]
        together = _Together(copy.deepcopy(copies), config, seeds, len(train))
        ways = [[_endless(run, train) for run in runs], [_endless(together, train)]]
        times: list[list[float]] = [[], []]
        for _ in range(WARM_UP + count):
            for way, taken in zip(ways, times, strict=True):
                started = clock()
                for updates in way:
                    next(updates)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                taken.append(clock() - started)
    apart, at_once = (statistics.median(taken[WARM_UP:]) for taken in times)
    return apart, at_once


class _Together(_Run):
    """The state that the seeds share: stacked weights and buffers, and one optimiser over them.

    Attributes:
        runs: the state of each seed; its model's weights and buffers are views of the stacked ones.
    """

    def __init__(self, models: list[nn.Module], config: TrainConfig, seeds: list[int], size: int):
        super().__init__(models[0], config, seeds[0], size)
        self.runs = [_Run(model, config, seed, size) for model, seed in zip(models, seeds, strict=True)]
        objectives = [_Objective(model) for model in models]
        self.parameters, self.buffers = stack_module_state(objectives)
        names = {id(p): name for name, p in objectives[0].named_parameters()}
        for group in self.optimiser.param_groups:
            group["params"] = [self.parameters[names[id(p)]] for p in group["params"]]
        self.model = copy.deepcopy(objectives[0]).to("meta")  # its weights are given anew at each call
        device = next(models[0].parameters()).device
        generators = tuple(torch.Generator(device).manual_seed(seed) for seed in seeds)
        for module in self.model.modules():
            if isinstance(module, ByteDropout):
                module.generators = generators
        stacked = {name: value.detach() for name, value in (self.parameters | self.buffers).items()}
        for s, (run, objective) in enumerate(zip(self.runs, objectives, strict=True)):
            run.optimiser = self.optimiser
            for name, value in chain(objective.named_parameters(), objective.named_buffers()):
                value.data = stacked[name][s]

    def batches_of(self, train: ResidentSplit) -> list[Int[Tensor, "B S"]]:
        """An epoch's batches, of every seed in its own order."""
        return [torch.stack(batches, 1) for batches in zip(*(run.batches_of(train) for run in self.runs), strict=True)]

    def shares(self, train: ResidentSplit) -> Iterator[Batch]:
        """The batches to come, all seeds' rows one after another, padded to the longest utterance of any."""
        return train.batches([index.T.flatten() for index in self.pending])

    def losses(self, batch: Batch, index: Int[Tensor, "B S"]) -> dict[str, Float[Tensor, "S"]]:
        """Every loss term of each seed's batch."""

        def by_seed(x: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
            if isinstance(x, dict):
                return {m: by_seed(y) for m, y in x.items()}
            return x.unflatten(0, (len(self.runs), -1))

        parts = (batch.features, batch.mask, batch.label, batch.unimodal_labels or {}, batch.index)
        losses = vmap(self._losses_of_one, randomness="different")  # "different" only lets nn.Dropout(0) pass
        with sdpa_kernel(SDPBackend.MATH):  # vmap knows this one; it would run the others seed by seed
            return losses(self.parameters, self.buffers, *map(by_seed, parts))

    def _losses_of_one(self, parameters, buffers, *parts) -> dict[str, Tensor]:
        return functional_call(self.model, (parameters, buffers), (Batch(*parts),))

    def clip(self, members: list[Tensor]) -> None:
        """As in a run alone: the gradients of one role and one seed have a norm of their own."""
        gradients = [p.grad for p in members if p.grad is not None]
        norm = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in gradients]).norm(dim=0)  # (S,)
        share = (self.config.clip / (norm + 1e-6)).clamp(max=1)
        for g in gradients:
            g *= share.view(-1, *[1] * (g.ndim - 1))

    def hand_out(self) -> None:
        """Give the epoch's loss terms to the seeds."""
        for s, run in enumerate(self.runs):
            run.terms = {name: [value[s] for value in values] for name, values in self.terms.items()}
            run.sizes = self.sizes
        self.terms, self.sizes = {}, []


class _Objective(nn.Module):
    """A model and its losses as one call, as ``functional_call`` wants it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return self.model.losses(self.model(batch), batch)


def _resident(corpus: Corpus, name: str, model: nn.Module, device: torch.device) -> ResidentSplit:
    modalities = tuple(m for m in corpus.modalities if m in model.config.modalities)
    return ResidentSplit(corpus.splits[name], modalities, device)


def _endless(run: _Run, train: ResidentSplit) -> Iterator[None]:
    """Updates of one epoch after the other."""
    while True:
        yield from run.updates(train)
        run.terms, run.sizes = {}, []
