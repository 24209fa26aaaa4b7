"""Coupled Mamba (Li et al., NeurIPS 2024): state space models of the modalities that share their states, step by step.

From the paper's equations. For modality m, diagonal and dependent on the input, with A_m < 0 and t a step:

    S_m = exp(Delta_m A_m)
    h_t^m = S_m,t * G_{t-1} + Delta_m,t B_m,t x_t^m,   G_t = (1/M) sum_i h_t^i      (coupled states)
    y_t^m = C_m,t h_t^m + D_m x_t^m

so that G alone is a recurrence: G_t = mean_m(S_m,t) * G_{t-1} + mean_m(Delta_m,t B_m,t x_t^m). Around it stands Mamba's
block: layer norm, projection to x and a gate z, causal convolution, SiLU; y * SiLU(z) is projected back and added.
With one modality this is Mamba.

The paper adds the states up, where here is their mean: a sum of M factors S may exceed 1, and the states then grow
as M^t. ``coupling="sum"`` has it. The public code (github.com/hustcselwb/coupled-mamba) does not run as published; in
it the modalities' Mambas are independent, only their outputs are mixed, by maps that are not defined, and normal
noise of sd 3 is added to the features of all splits. None of that is here. From the code: widths, initial values,
the largest value over time, and the modalities' weights in the head.
"""

from dataclasses import dataclass
from math import ceil, log

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from finelib.baselines.common import Baseline, Mask, Output, Settings, aligned, perceptron, recurrence
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import StackedLayerNorm, uniform_parameter

RATE = (0.001, 0.1)  # Delta at the start, log-uniform


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the public code's, but 16 states where it has 64 (256 for other corpora), for memory.

    Attributes:
        width, layers: d and the number of blocks; steps are those of the first modality.
        states: N, of each of the ``expand`` * d channels.
        expand, kernel: channels inside a block over d; steps that its convolution sees.
        coupling: "mean" or "sum".
    """

    width: int = 128
    layers: int = 3
    states: int = 16
    expand: int = 2
    kernel: int = 4
    coupling: str = "mean"


# the public code, but batches: 1,024 there, on CMU-MOSEI, which would leave CMU-MOSI one update an epoch
TRAIN = dict(batch_size=64, lr=5e-4, weight_decay=5e-4, bucket=True)
FINETUNED = False
DEMO = dict(width=32, layers=1, states=4, expand=1)
SPACE = dict(width=(32, 64, 128), layers=(1, 2, 3), states=(8, 16))


class Block(nn.Module):
    """Mamba's block of each of ``count`` modalities, coupled through the states, added to its input."""

    def __init__(self, count: int, c: Config):
        super().__init__()
        inner, self.rank, self.states = c.expand * c.width, ceil(c.width / 8), c.states
        self.share = 1.0 if c.coupling == "sum" else 1 / count
        self.norm = StackedLayerNorm(count, c.width)
        self.enter = uniform_parameter(c.width, count, c.width, 2 * inner)
        self.kernel = uniform_parameter(c.kernel, count, c.kernel, 1, 1, inner)
        self.shift = uniform_parameter(c.kernel, count, 1, 1, inner)
        self.select = uniform_parameter(inner, count, inner, self.rank + 2 * c.states)
        self.rate = uniform_parameter(self.rank, count, self.rank, inner)
        low, high = map(log, RATE)
        rate = torch.empty(count, 1, 1, inner).uniform_(low, high).exp()
        self.rate_shift = nn.Parameter(rate + torch.log(-torch.expm1(-rate)))  # softplus of it is ``rate``
        decay = torch.arange(1.0, c.states + 1).log()[:, None]  # of log(-A), the same for all channels
        self.decay = nn.Parameter(decay.repeat(count, 1, 1, 1, inner))
        self.through = nn.Parameter(torch.ones(count, 1, 1, inner))  # D
        self.leave = uniform_parameter(inner, count, inner, c.width)

    def forward(self, x: Float[Tensor, "M B n d"]) -> Float[Tensor, "M B n d"]:
        normed = self.norm(x.flatten(1, 2)).view_as(x)
        inner, gate = each(normed, self.enter).chunk(2, -1)
        # kept for one layer at a time: the states of all took 15 GB for a batch of CMU-MOSEI's longest texts
        y = checkpoint(self.scan, F.silu(self.convolve(inner)), use_reentrant=False, preserve_rng_state=False)
        return x + each(y * F.silu(gate), self.leave)

    def convolve(self, x: Float[Tensor, "M B n i"]) -> Float[Tensor, "M B n i"]:
        """Each channel with its own kernel, which ends at the step itself."""
        steps, taps = x.shape[2], self.kernel.shape[1]
        x = F.pad(x, (0, 0, taps - 1, 0))
        return self.shift + sum(x[:, :, j : j + steps] * self.kernel[:, j] for j in range(taps))

    def scan(self, x: Float[Tensor, "M B n i"]) -> Float[Tensor, "M B n i"]:
        """y of all steps. C h is C (S * G before) + (C B) Delta x, so that h itself is never formed."""
        rate, b, c = each(x, self.select).split((self.rank, self.states, self.states), -1)
        rate = F.softplus(each(rate, self.rate) + self.rate_shift)  # Delta, (M, B, n, i)
        keep = torch.exp(rate[..., None, :] * -self.decay.exp())  # S, (M, B, n, N, i)
        new = rate * x
        added = torch.einsum("mbtn,mbti->btni", b, new)  # summed over modalities
        states = recurrence(keep.sum(0) * self.share, added * self.share)  # G, (B, n, N, i)
        before = F.pad(states, (0, 0, 0, 0, 1, -1))  # of the step before, 0 at the first
        kept = (keep * before * c[..., None]).sum(-2)
        return kept + (b * c).sum(-1, keepdim=True) * new + self.through * x


def each(x: Float[Tensor, "M B n i"], weight: Float[Tensor, "M i o"]) -> Float[Tensor, "M B n o"]:
    """Every modality's rows times its own matrix."""
    return torch.bmm(x.flatten(1, 2), weight).unflatten(1, x.shape[1:3])


def largest(x: Float[Tensor, "B n d"], mask: Mask) -> Float[Tensor, "B d"]:
    """Largest value over real steps; zeros for an utterance without any."""
    most = x.masked_fill(~mask[..., None], float("-inf")).amax(1)
    return most.masked_fill(~mask.any(1, keepdim=True), 0)


class Model(Baseline):
    """Coupled blocks, then a weighted mean of the modalities."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        count, width = len(self.modalities), config.width
        self.project = nn.ModuleDict({m: nn.Linear(d, width) for m, d in inputs.widths.items()})
        self.blocks = nn.Sequential(*(Block(count, config) for _ in range(config.layers)))
        self.weight = nn.Parameter(torch.zeros(count))
        self.head = perceptron(width, width // 2, 1)

    def forward(self, batch: Batch) -> Output:
        frames, mask = aligned(self.inputs(batch))
        x = self.blocks(torch.stack([self.project[m](frames[m]) for m in self.modalities]))
        ends = torch.stack([largest(y, mask) for y in x], -1)  # (B, d, M)
        return Output(self.head(ends @ self.weight.softmax(0))[:, 0])
