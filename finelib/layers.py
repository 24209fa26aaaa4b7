"""Many small layers of one shape, side by side, as one batched product.

FINE runs the same little networks for every expert, modality and pair. Stacked along a leading axis they cost
one operation instead of a dozen, which on small batches is most of the time; the numbers are the same.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def masked_mean(x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B d"]:
    """Mean over real frames; zeros for an utterance without any."""
    weight = mask.to(x.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    return (weight[:, None] @ x).squeeze(1)


class StackedLinear(nn.Module):
    """S linear layers side by side: (S, N, in) -> (S, N, out)."""

    def __init__(self, stack: int, width_in: int, width_out: int):
        super().__init__()
        self.weight = uniform_parameter(width_in, stack, width_in, width_out)
        self.bias = uniform_parameter(width_in, stack, 1, width_out)

    def forward(self, x: Float[Tensor, "S N i"]) -> Float[Tensor, "S N o"]:
        return torch.baddbmm(self.bias, x, self.weight)


class StackedLayerNorm(nn.Module):
    """S layer norms side by side over the last axis of (S, N, d)."""

    def __init__(self, stack: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(stack, 1, width))
        self.bias = nn.Parameter(torch.zeros(stack, 1, width))

    def forward(self, x: Float[Tensor, "S N d"]) -> Float[Tensor, "S N d"]:
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class ByteDropout(nn.Module):
    """Dropout that draws one random byte per element, so p is rounded to 1/256.

    Where a float per element is drawn, as ``nn.Dropout`` does, drawing takes as long as the products around it.

    Attributes:
        generators: where S copies of the model run under ``torch.func.vmap``, the generator of each; else empty, and
            the default generator is drawn from.
    """

    generators: tuple[torch.Generator, ...] = ()

    def __init__(self, p: float):
        super().__init__()
        self.kept = 256 - round(256 * p)  # of 256 bytes

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.kept == 256:
            return x
        words = _Words.apply(x.detach(), self.generators) if self.generators else random_words(x)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) < self.kept
        return x * (keep * (256 / self.kept))


def random_words(x: Float[Tensor, "*shape"], generator: torch.Generator | None = None) -> Int[Tensor, "n"]:
    """64 random bits for every eight elements of x; from the default generator if none is given."""
    words = torch.empty(-(-x.numel() // 8), dtype=torch.long, device=x.device)
    return words.random_(-(2**63), None, generator=generator)


class _Words(torch.autograd.Function):
    """``random_words`` under ``vmap``: every copy draws from its own generator what it would draw alone."""

    @staticmethod
    def forward(x: Float[Tensor, "*shape"], generators: tuple[torch.Generator, ...]) -> Int[Tensor, "n"]:
        return random_words(x, generators[0])

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, x: Float[Tensor, "*shape"], generators: tuple[torch.Generator, ...]):
        one = x.select(in_dims[0], 0)
        return torch.stack([random_words(one, generator) for generator in generators]), 0


def stacked_mlp(
    stack: int, width_in: int, hidden: int, width_out: int, layers: int = 1, activation: type[nn.Module] = nn.GELU
) -> nn.Sequential:
    """S MLPs side by side: ``layers`` hidden layers with an activation after each, then a linear layer."""
    parts: list[nn.Module] = []
    for width in [width_in] + [hidden] * (layers - 1):
        parts += [StackedLinear(stack, width, hidden), activation()]
    return nn.Sequential(*parts, StackedLinear(stack, hidden, width_out))


def mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """One hidden layer with GELU, then a linear layer."""
    return nn.Sequential(nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width_out))


def uniform_parameter(fan_in: int, *shape: int) -> nn.Parameter:
    """A parameter drawn as ``nn.Linear`` draws its own: uniform within +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def stretches(
    x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"], count: int, own: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B l d"]:
    """Means over ``count`` equal stretches of the real frames; where there are fewer frames, stretches overlap.

    With ``own`` (at most ``count`` and at least 1) each utterance has its own number of stretches, zeros after them.
    """
    place, length = mask.cumsum(1) - 1, mask.sum(1, keepdim=True)  # place of each real frame among the real ones
    i = torch.arange(count, device=x.device)[None, :, None]
    parts = count if own is None else own[:, None, None]
    first = i * length[..., None] // parts
    last = torch.maximum(((i + 1) * length[..., None] + parts - 1) // parts, first + 1)
    inside = (place[:, None] >= first) & (place[:, None] < last) & mask[:, None]  # (B, l, T)
    if own is not None:
        inside &= i < parts
    return (inside / inside.sum(-1, keepdim=True).clamp(min=1)).to(x.dtype) @ x


def positions(length: int, width: int, like: Tensor) -> Float[Tensor, "T d"]:
    """Sines and cosines of wavelengths from 2 pi to 10,000 * 2 pi (Vaswani et al. 2017)."""
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10000.0) / width))
    angle = torch.arange(length, device=like.device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width].to(like.dtype)
