"""Runs that differ in the seed alone, trained side by side as one batched model (``torch.func.vmap``).

A small model leaves a GPU idle between its small kernels; S seeds in one go launch as many kernels as one seed does.
Nothing passes from seed to seed: each has its own weights, order, queue, losses, gradient norm, best epoch and early
stop. Without dropout each ends where it would end alone, within float error; with dropout it is another draw of the
same training, since all seeds draw from one generator. A seed that is done is no longer recorded while the others go
on.
"""

import copy
import time
from collections.abc import Callable, Iterator
from itertools import chain
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from finelib.config import TrainConfig
from finelib.data.features import Batch, Corpus
from finelib.fine import FINE
from finelib.layers import FastDropout
from finelib.training import Diverged, History, Trainer, cpu_threads, resolve_device

WARM_UP, MEASURED = 3, 5  # updates
Models = list[nn.Module]
OnSeedEpoch = Callable[[int, int, dict[str, float]], None]  # place of the seed, epochs done, the last one's curve


def fit_together(
    models: Models,
    corpus: Corpus,
    config: TrainConfig,
    seeds: list[int],
    on_epoch: OnSeedEpoch | None = None,
    after_update: Callable[[], None] | None = None,
) -> list[History | Diverged]:
    """``training.fit`` of every model with its seed, all at once; nothing is saved on the way.

    Args:
        models: of one configuration, each made with its own seed.
        on_epoch: called after each epoch of each seed.
        after_update: called after each update; what it raises ends the training.

    Returns:
        each seed's history, or how it diverged. Its ``seconds`` are its even share of the time of the epochs in which
        it was trained.

    Raises:
        ValueError: such models cannot be trained together.
    """
    if reason := obstacle(models[0], config):
        raise ValueError(f"these seeds cannot be trained together: {reason}")
    together = SeedsTogether(models, corpus, config, seeds)
    with cpu_threads(config.threads):
        while going := together.going():
            started = time.perf_counter()
            for _ in together.updates():
                if after_update:
                    after_update()
            together.end_epoch_of(going, started, on_epoch)
    return together.finish()


def obstacle(model: nn.Module, config: TrainConfig) -> str | None:
    """Why models like this one cannot be trained together, or None."""
    if not isinstance(model, FINE):
        return f"{type(model).__module__}.{type(model).__name__} is not FINE"
    if model.inputs.text_encoder is not None:
        return "a text encoder is trained with them"
    if type(config) is not TrainConfig or config.precision != "float32":
        return "a split larger than memory, and other precisions, are for a run alone"
    if config.bucket:
        return "with batches of like length the short batch comes at another place for each seed"
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            return f"{name} is {type(module).__name__}, which vmap cannot run"
    return None


def pays(models: Models, corpus: Corpus, config: TrainConfig, seeds: list[int]) -> bool:
    """Whether an update of all seeds takes less time together than one after the other, by a few of both in turn.

    The models are copied; they are not trained. False where they cannot be trained together.
    """
    if obstacle(models[0], config):
        return False
    apart, together = seconds_per_update(models, corpus, config, seeds)
    return together < apart


def seconds_per_update(
    models: Models,
    corpus: Corpus,
    config: TrainConfig,
    seeds: list[int],
    count: int = MEASURED,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds of an update of all seeds, one after the other and together, on the corpus's own batches."""
    device = resolve_device(config.device)
    with cpu_threads(config.threads):
        copies = copy.deepcopy([model.to(device) for model in models])
        together = SeedsTogether(copy.deepcopy(copies), corpus, config, seeds)
        splits = together.splits
        alone = [Trainer(model, corpus, config, seed, splits) for model, seed in zip(copies, seeds, strict=True)]
        ways = [[_endless(trainer) for trainer in alone], [_endless(together)]]
        times: list[list[float]] = [[], []]
        for _ in range(WARM_UP + count):
            for way, taken in zip(ways, times, strict=True):
                started = clock()
                for updates in way:
                    next(updates)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                taken.append(clock() - started)
    return median(times[0][WARM_UP:]), median(times[1][WARM_UP:])


class SeedsTogether(Trainer):
    """The state that the seeds share: stacked weights and buffers, and one optimiser over them.

    Attributes:
        trainers: the state of each seed; its model's weights and buffers are views of the stacked ones.
    """

    def __init__(self, models: Models, corpus: Corpus, config: TrainConfig, seeds: list[int]):
        super().__init__(models[0], corpus, config, seeds[0])
        of_each = zip(models, seeds, strict=True)
        self.trainers = [Trainer(model, corpus, config, seed, self.splits) for model, seed in of_each]
        self.diverged: dict[int, Diverged] = {}  # place of the seed -> how
        objectives = [_Objective(model) for model in models]
        self.parameters, self.buffers = stack_module_state(objectives)
        names = {id(p): name for name, p in objectives[0].named_parameters()}
        for group in self.optimiser.param_groups:
            group["params"] = [self.parameters[names[id(p)]] for p in group["params"]]
        self.model = copy.deepcopy(objectives[0]).to("meta")  # its weights are given anew at each call
        for name, module in list(self.model.named_modules()):
            if isinstance(module, FastDropout):  # draws in a way that vmap has no rule for
                self.model.set_submodule(name, nn.Dropout(module.p))
        stacked = {name: value.detach() for name, value in (self.parameters | self.buffers).items()}
        for s, (trainer, objective) in enumerate(zip(self.trainers, objectives, strict=True)):
            trainer.optimiser = self.optimiser
            for name, value in chain(objective.named_parameters(), objective.named_buffers()):
                value.data = stacked[name][s]

    def going(self) -> list[int]:
        """The places of the seeds that are neither done nor diverged."""
        return [s for s, trainer in enumerate(self.trainers) if s not in self.diverged and not trainer.finished()]

    def updates(self) -> Iterator[None]:
        """As of one training; a batch holds all seeds' rows one after another, padded to the longest of any."""
        self.model.train()
        epochs = [trainer.epoch_batches() for trainer in self.trainers]
        of_all = [torch.stack(rows) for rows in zip(*epochs, strict=True)]  # each (S, B)
        batches = self.splits["train"].batches([rows.flatten() for rows in of_all])
        groups = [of_all[i : i + self.config.accumulate] for i in range(0, len(of_all), self.config.accumulate)]
        for group in groups:
            size = sum(rows.shape[1] for rows in group)
            for rows, batch in zip(group, batches, strict=False):
                terms = self.losses(batch)
                (terms["total"].sum() * (rows.shape[1] / size)).backward()
                for s, trainer in enumerate(self.trainers):
                    trainer.sizes.append(rows.shape[1])
                    for name, value in terms.items():
                        trainer.terms.setdefault(name, []).append(value[s].detach())
            self.step()
            yield

    def losses(self, batch: Batch) -> dict[str, Float[Tensor, "S"]]:
        """Every loss term of each seed's batch."""

        def by_seed(x: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
            if isinstance(x, dict):
                return {m: by_seed(y) for m, y in x.items()}
            return x.unflatten(0, (len(self.trainers), -1))

        parts = (batch.features, batch.mask, batch.label, batch.unimodal_labels or {}, batch.index)
        losses = vmap(self._losses_of_one, randomness="different")
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

    def end_epoch_of(self, going: list[int], started: float, on_epoch: OnSeedEpoch | None) -> None:
        """Curve, dev scores and selection of the seeds that are going; the others' terms are dropped."""
        curves: dict[int, dict[str, float]] = {}
        for s, trainer in enumerate(self.trainers):
            if s not in going:
                trainer.terms, trainer.sizes = {}, []
                continue
            try:
                curves[s] = trainer.end_epoch()
            except Diverged as error:
                self.diverged[s] = error
        share = (time.perf_counter() - started) / len(going)
        for s, curve in curves.items():
            trainer = self.trainers[s]
            trainer.history.seconds += share
            trainer.select(curve | trainer.dev_scores())
            if on_epoch:
                on_epoch(s, len(trainer.history.curves), trainer.history.curves[-1])

    def finish(self) -> list[History | Diverged]:
        """Give each model its best weights, as tensors of its own again; each seed's history, or how it diverged."""
        for s, trainer in enumerate(self.trainers):
            if s not in self.diverged:
                trainer.model.load_state_dict(trainer.best, assign=True)
                trainer.history.finish(len(self.splits["train"]))
        return [self.diverged.get(s, trainer.history) for s, trainer in enumerate(self.trainers)]


class _Objective(nn.Module):
    """A model and its losses as one call, as ``functional_call`` wants it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return self.model.losses(self.model(batch), batch)


def _endless(trainer: Trainer) -> Iterator[None]:
    """Updates of one epoch after the other."""
    while True:
        yield from trainer.updates()
        for each in getattr(trainer, "trainers", [trainer]):
            each.terms, each.sizes = {}, []
