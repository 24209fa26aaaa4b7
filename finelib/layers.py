"""Small layers that several models share.

FINE runs the same little networks for every expert, modality and pair. Stacked along a leading axis S they cost one
batched product instead of a dozen small ones, which on small batches is most of the time; the numbers are the same.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def uniform_parameter(fan_in: int, *shape: int) -> nn.Parameter:
    """A parameter drawn as ``nn.Linear`` draws its own: uniform within +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """One hidden layer with GELU, then a linear layer."""
    return nn.Sequential(nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width_out))


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


class FastDropout(nn.Module):
    """Dropout that draws one random byte per element, so p is rounded to 1/256.

    ``nn.Dropout`` draws a float per element, which takes a tenth of a training step on a CPU (benchmarks/README.md).
    """

    def __init__(self, p: float):
        super().__init__()
        self.p, self.kept = p, 256 - round(256 * p)  # kept: of 256 values of a byte

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.kept == 256:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.long, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) < self.kept
        return x * (keep * (256 / self.kept))


def stacked_mlp(
    stack: int, width_in: int, hidden: int, width_out: int, layers: int = 1, activation: type[nn.Module] = nn.GELU
) -> nn.Sequential:
    """S MLPs side by side: ``layers`` hidden layers with an activation after each, then a linear layer."""
    parts: list[nn.Module] = []
    for width in [width_in] + [hidden] * (layers - 1):
        parts += [StackedLinear(stack, width, hidden), activation()]
    return nn.Sequential(*parts, StackedLinear(stack, hidden, width_out))


def masked_mean(x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B d"]:
    """Mean over real frames; zeros for an utterance without any."""
    weight = mask.to(x.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    return (weight[:, None] @ x).squeeze(1)


def stretches(
    x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"], count: int, own: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B l d"]:
    """Means over ``count`` equal stretches of the real frames; where there are fewer frames, stretches overlap.

    With ``own`` (at most ``count`` and at least 1) each utterance has its own number of stretches, zeros after them.
    """
    place = mask.cumsum(1) - 1  # (B, T), place of each real frame among the real ones
    length = mask.sum(1)[:, None, None]  # (B, 1, 1)
    i = torch.arange(count, device=x.device)[None, :, None]  # (1, l, 1)
    parts = count if own is None else own[:, None, None]
    first = i * length // parts  # (B, l, 1)
    last = torch.maximum(((i + 1) * length + parts - 1) // parts, first + 1)
    inside = (place[:, None] >= first) & (place[:, None] < last) & mask[:, None]  # (B, l, T)
    if own is not None:
        inside &= i < parts
    weight = inside / inside.sum(-1, keepdim=True).clamp(min=1)
    return weight.to(x.dtype) @ x  # (B, l, d)


def positions(length: int, width: int, like: Tensor) -> Float[Tensor, "T d"]:
    """Sines and cosines of wavelengths from 2 pi to 10,000 * 2 pi (Vaswani et al. 2017)."""
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10000.0) / width))  # (d/2,)
    angle = torch.arange(length, device=like.device)[:, None] * rate  # (T, d/2)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width].to(like.dtype)
