"""What the compared systems share: their inputs, recurrent states at an utterance's true end, the prediction loss."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from finelib.data.features import MODALITIES, Batch, Corpus
from finelib.inputs import Inputs, Sequences
from finelib.layers import masked_mean, stretches, uniform_parameter

Mask = Bool[Tensor, "B T"]  # True on real frames


@dataclass(frozen=True)
class Settings:
    """What every system's ``Config`` has.

    Attributes:
        modalities: any subset of {T, A, V}.
        frames: see ``inputs.Inputs``.
        loss: "l1" or "mse".
    """

    modalities: tuple[str, ...] = ("T", "A", "V")
    frames: int = 0
    loss: str = "l1"


@dataclass(frozen=True)
class Output:
    """prediction: (B,)."""

    prediction: Float[Tensor, "B"]


class Baseline(nn.Module):
    """A compared system: subclasses give ``forward`` and, where they have more than a prediction loss, ``losses``.

    Of the corpus it may use label range, classes and number of training utterances, never the labels.
    ``needs`` names the modalities that it cannot do without, ``least`` says how many it must have.
    """

    needs: tuple[str, ...] = ()
    least = 1

    def __init__(self, config: Any, inputs: Inputs, corpus: Corpus):
        super().__init__()
        self.config, self.inputs, self.info = config, inputs, corpus.info
        self.modalities = tuple(inputs.widths)

    def prediction_loss(self, prediction: Float[Tensor, "B"], label: Float[Tensor, "B"]) -> Float[Tensor, ""]:
        """Mean absolute or squared error."""
        return (F.l1_loss if self.config.loss == "l1" else F.mse_loss)(prediction, label)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The prediction loss, as "L_MP" and "total"."""
        loss = self.prediction_loss(output.prediction, batch.label)
        return {"L_MP": loss, "total": loss}


def perceptron(*widths: int, dropout: float = 0.0, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers from width to width; activation and dropout between them."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that takes its running statistics for a batch of one utterance, which has no variance."""

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class MeanNet(nn.Module):
    """TFN's network for audio and video: mean frame, batch norm, three layers with ReLU."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.width = hidden
        layers = perceptron(width, hidden, hidden, hidden)
        self.layers = nn.Sequential(BatchNorm(width), nn.Dropout(dropout), layers, nn.ReLU())

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B h"]:
        return self.layers(masked_mean(x, mask))


class LastState(nn.Module):
    """TFN's network for text: an LSTM's state at the last real token, then a linear map."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.width = out
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.out = nn.Linear(hidden, out)

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B o"]:
        return self.out(at_end(self.lstm(x)[0], mask))


def unimodal_nets(inputs: Inputs, c: Any) -> nn.ModuleDict:
    """TFN's embedding networks, which LMF and LF-DNN use too: ``LastState`` for text, ``MeanNet`` for the others.

    ``c`` has ``hidden`` widths for T, A, V, ``text_out`` and ``dropout``. A network gives ``network.width`` features.
    """
    nets, hidden = {}, dict(zip(MODALITIES, c.hidden, strict=True))
    for m, width in inputs.widths.items():
        nets[m] = LastState(width, hidden[m], c.text_out) if m == "T" else MeanNet(width, hidden[m], c.dropout)
    return nn.ModuleDict(nets)


def at_end(x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B d"]:
    """The row of each utterance's last real frame.

    What comes after it cannot reach a one-directional recurrent state, so a padded sequence gives the same numbers
    as a packed one, and the whole-sequence kernels are several times faster.
    """
    last = (mask.sum(1) - 1).clamp(min=0)
    return x[torch.arange(len(x), device=x.device), last] * mask.any(1, keepdim=True)


def recurrence(
    keep: Float[Tensor, "B n *d"], add: Float[Tensor, "B n *d"], start: Float[Tensor, "B *d"] | None = None
) -> Float[Tensor, "B n *d"]:
    """y_t = keep_t * y_{t-1} + add_t at every step, elementwise; ``start`` is y_0, default 0.

    A loop: it goes over the numbers once, where doubling goes over them log2 n times, and it divides by nothing.
    """
    first, *keep = keep.unbind(1)
    state, *add = add.unbind(1)
    states = [state if start is None else torch.addcmul(state, first, start)]
    for keep_t, add_t in zip(keep, add, strict=True):
        states.append(torch.addcmul(add_t, keep_t, states[-1]))
    return torch.stack(states, 1)


def reversed_frames(x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B T d"]:
    """Each utterance's real frames in reverse order, padding where it was."""
    length = mask.sum(1, keepdim=True)
    steps = torch.arange(x.shape[1], device=x.device)
    order = torch.where(steps < length, length - 1 - steps, steps)
    return x.gather(1, order[..., None].expand_as(x))


class BothWays(nn.Module):
    """A bidirectional LSTM or GRU over the real frames alone; ``hidden`` is the width of each direction."""

    def __init__(self, kind: type[nn.RNNBase], width: int, hidden: int):
        super().__init__()
        self.ahead, self.back = (kind(width, hidden, batch_first=True) for _ in range(2))

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> tuple[Float[Tensor, "B T 2h"], Float[Tensor, "B 2h"]]:
        """States at every frame (of padding: arbitrary), and each direction's last state."""
        ahead, back = self.ahead(x)[0], self.back(reversed_frames(x, mask))[0]
        states = torch.cat([ahead, reversed_frames(back, mask)], -1)
        return states, torch.cat([at_end(ahead, mask), at_end(back, mask)], -1)


def aligned(sequences: Sequences) -> tuple[dict[str, Float[Tensor, "B n d"]], Bool[Tensor, "B n"]]:
    """All modalities on the steps of the first: each step is the mean of its stretch of the others' real frames.

    For systems that were defined on word-aligned features; files that are aligned already come through unchanged.
    """
    (first, (x, mask)), *others = sequences.items()
    return {first: x} | on_steps(mask, dict(others)), mask


def on_steps(mask: Mask, sequences: Sequences) -> dict[str, Float[Tensor, "B T d"]]:
    """Sequences on the steps of a mask: each real step is the mean of its stretch of their real frames."""
    own = mask.sum(1).clamp(min=1)
    return {m: stretches(y, there, mask.shape[1], own) for m, (y, there) in sequences.items()}


def key_bias(mask: Mask, queries: int, dtype: torch.dtype) -> Float[Tensor, "B 1 q T"]:
    """-inf on padding, to be added to attention scores; an utterance without frames attends to its padding (zeros)."""
    allowed = mask | ~mask.any(1, keepdim=True)
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~allowed, float("-inf"))
    return bias[:, None, None].expand(-1, 1, queries, -1)


class Convolution(nn.Module):
    """A convolution over time with as many steps out as in, zeros on padding and beyond both ends, no bias.

    All taps are one product, added up with shifts: for wide text features much quicker than ``nn.Conv1d``.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int):
        super().__init__()
        self.weight = uniform_parameter(width_in * kernel, width_in, kernel, width_out)

    def forward(self, x: Float[Tensor, "B T f"], mask: Mask) -> Float[Tensor, "B T d"]:
        kernel, steps = self.weight.shape[1], x.shape[1]
        taps = (x @ self.weight.flatten(1)).unflatten(-1, (kernel, -1))  # (B, T, kernel, d)
        taps = F.pad(taps, (0, 0, 0, 0, kernel // 2, kernel // 2))
        return sum(taps[:, j : j + steps, j] for j in range(kernel)) * mask[..., None]


class Attention(nn.Module):
    """Multi-head attention of queries to a padded sequence, by the fused kernel.

    The kernel drops no attention weights on a CPU, so where a paper does, dropout stands after the attention.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B q d"], keys: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B q d"]:
        projected = (self.query(x), self.key(keys), self.value(keys))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in projected)
        attended = F.scaled_dot_product_attention(q, k, v, key_bias(mask, x.shape[1], q.dtype))
        return self.out(attended.transpose(1, 2).flatten(2))
