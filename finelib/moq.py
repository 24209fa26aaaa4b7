"""Mixture of Q-Formers (Eq. 1): each modality's frames become l tokens.

A Q-Former holds l learned queries that attend to each other and then to the frames. N_e of them are the
experts of one modality; a router weighs them per utterance.

Two things make it quick and change no number. The weights of all experts, of all modalities that share a
width, are stacked and run as one batched product. And the key and value projections are folded onto the query
side: softmax((q W_k^T) X^T) X W_v instead of softmax(q (X W_k)^T) (X W_v). There are a few dozen queries but
hundreds of frames, so the frames are read as they are and no projected copy of them is made; where they are few, as
words are, the values are projected first (``values_first``). (The key bias adds the same number to all scores of a
query and so drops out of the softmax.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from finelib.layers import ByteDropout, StackedLayerNorm, StackedLinear, masked_mean, uniform_parameter

FramesOf = dict[str, Float[Tensor, "B T f"]]
MaskOf = dict[str, Bool[Tensor, "B T"]]
NUMBER_MOVED = 200  # operations of a matrix product in the time that one number takes to memory and back


class QFormerLayer(nn.Module):
    """One layer of S = M * E Q-Formers: self-attention of the queries, cross-attention to frames, feed-forward.

    Post-norm residual blocks as in BERT and BLIP-2, dropout after cross-attention and feed-forward. Tokens are kept
    as (S, b*l, d): b is the batch size, or 1 while
    the queries do not yet depend on the utterance (before the first cross-attention).
    """

    def __init__(
        self, frame_widths: dict[str, int], experts: int, queries: int, width: int, heads: int, dropout: float
    ):
        super().__init__()
        stack = len(frame_widths) * experts
        self.queries, self.heads, self.head_width = queries, heads, width // heads
        self.self_in = StackedLinear(stack, width, 3 * width)
        self.self_out = StackedLinear(stack, width, width)
        self.cross_query = StackedLinear(stack, width, width)
        self.cross_key = nn.ParameterDict(
            {m: uniform_parameter(f, experts, heads, self.head_width, f) for m, f in frame_widths.items()}
        )
        self.cross_value = nn.ParameterDict(
            {m: uniform_parameter(f, experts, heads, f, self.head_width) for m, f in frame_widths.items()}
        )
        self.cross_value_bias = uniform_parameter(width, stack, 1, width)
        self.cross_out = StackedLinear(stack, width, width)
        self.wide = StackedLinear(stack, width, 4 * width)
        self.narrow = StackedLinear(stack, 4 * width, width)
        self.norms = nn.ModuleList(StackedLayerNorm(stack, width) for _ in range(3))
        self.dropout = ByteDropout(dropout)

    def forward(self, tokens: Float[Tensor, "S n d"], frames: FramesOf, bias: FramesOf) -> Float[Tensor, "S m d"]:
        """Tokens (S, b*l, d) with b = 1 or B -> tokens (S, B*l, d)."""
        tokens = self.norms[0](tokens + self.self_attention(tokens))
        attended = self.cross_attention(tokens, frames, bias)
        if tokens.shape[1] != attended.shape[1]:
            tokens = tokens.repeat(1, attended.shape[1] // tokens.shape[1], 1)
        tokens = self.norms[1](tokens + self.dropout(attended))
        return self.norms[2](tokens + self.dropout(self.narrow(F.gelu(self.wide(tokens)))))

    def self_attention(self, tokens: Float[Tensor, "S n d"]) -> Float[Tensor, "S n d"]:
        """Attention of each utterance's l queries to each other."""
        qkv = self.self_in(tokens).unflatten(1, (-1, self.queries)).unflatten(-1, (3, self.heads, self.head_width))
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # each (S, b, H, l, c)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.self_out(mixed.transpose(2, 3).reshape(tokens.shape))

    def cross_attention(
        self, tokens: Float[Tensor, "S n d"], frames: FramesOf, bias: FramesOf
    ) -> Float[Tensor, "S m d"]:
        """Attention of the queries to the real frames; without any real frame, the value bias alone."""
        values = [
            self.read(q, self.cross_key[m], self.cross_value[m], frames[m], bias[m])
            for q, m in zip(self.queries_of(tokens, len(frames)), frames, strict=True)
        ]
        return self.cross_out(torch.cat(values) + self.cross_value_bias)

    def queries_of(self, tokens: Float[Tensor, "S n d"], modalities: int) -> tuple[Float[Tensor, "E H n c"], ...]:
        """Scaled query vectors of each modality's experts."""
        query = self.cross_query(tokens).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
        return (query / math.sqrt(self.head_width)).chunk(modalities)

    def attention(
        self, tokens: Float[Tensor, "S n d"], frames: FramesOf, bias: FramesOf
    ) -> dict[str, Float[Tensor, "B E l T"]]:
        """Where each expert's queries look, averaged over heads; for people, not used by ``forward``."""
        tokens = self.norms[0](tokens + self.self_attention(tokens))
        return {
            m: self.weights(q, self.cross_key[m], frames[m], bias[m])
            .unflatten(1, (-1, self.heads, self.queries))
            .mean(2)
            for q, m in zip(self.queries_of(tokens, len(frames)), frames, strict=True)
        }

    def read(
        self,
        query: Float[Tensor, "E H n c"],
        key: Float[Tensor, "E H c f"],
        value: Float[Tensor, "E H f c"],
        frames: Float[Tensor, "B T f"],
        bias: Float[Tensor, "B 1 T"],
    ) -> Float[Tensor, "E m d"]:
        """softmax((q W_k^T) X^T + bias) X W_v of one modality; the bias is very negative on padding."""
        weights = self.weights(query, key, frames, bias)
        if values_first(*weights.shape[1:], *value.shape):
            return self.read_values(weights, frames, value)
        read = weights @ frames  # (B, E*H*l, f); zero where all frames are padding, for padding is zero
        read = read.unflatten(1, (*key.shape[:2], self.queries)).permute(1, 2, 0, 3, 4).flatten(2, 3)
        return (read @ value).transpose(1, 2).flatten(2)  # (E, B*l, d)

    def read_values(
        self, weights: Float[Tensor, "B m T"], frames: Float[Tensor, "B T f"], value: Float[Tensor, "E H f c"]
    ) -> Float[Tensor, "E m d"]:
        """The same product in the other order: every frame's values, then their weighted means."""
        experts, heads, width, _ = value.shape
        values = (frames.flatten(0, 1) @ value.permute(2, 0, 1, 3).reshape(width, -1)).unflatten(0, frames.shape[:2])
        values = values.unflatten(-1, (experts * heads, -1)).transpose(1, 2)  # (B, E*H, T, c)
        mean = weights.unflatten(1, (experts * heads, self.queries)) @ values  # (B, E*H, l, c)
        return mean.unflatten(1, (experts, heads)).permute(1, 0, 3, 2, 4).flatten(3).flatten(1, 2)

    def weights(
        self,
        query: Float[Tensor, "E H n c"],
        key: Float[Tensor, "E H c f"],
        frames: Float[Tensor, "B T f"],
        bias: Float[Tensor, "B 1 T"],
    ) -> Float[Tensor, "B m T"]:
        """Attention to each frame, rows in the order expert, head, query."""
        folded = (query @ key).unflatten(2, (-1, self.queries))  # (E, H, b, l, f)
        folded = folded.permute(2, 0, 1, 3, 4).flatten(1, 3)  # (b, E*H*l, f)
        if len(folded) == 1:  # the same queries for every utterance: one product with all frames of the batch
            scores = (folded[0] @ frames.flatten(0, 1).T).unflatten(1, frames.shape[:2])  # (m, B, T)
            return (scores + bias.transpose(0, 1)).softmax(-1).transpose(0, 1)
        return torch.baddbmm(bias, folded, frames.transpose(1, 2)).softmax(-1)


def values_first(rows: int, frames: int, experts: int, heads: int, width: int, head_width: int) -> bool:
    """Whether weights (X W_v) takes less time than (weights X) W_v, the frames being few.

    Counts each order's operations, and NUMBER_MOVED more for each number of its intermediate result.
    """
    means = rows * width * (2 * (frames + head_width) + NUMBER_MOVED)
    values = frames * experts * heads * head_width * (2 * width + NUMBER_MOVED)
    return values < means


@dataclass(frozen=True)
class MoQOutput:
    """One modality: tokens (B, l, d'); router (B, N_e), softmax over experts; gate (B, N_e), 0 for those not chosen.

    The gate is None where nothing is routed.
    """

    tokens: Float[Tensor, "B l d"]
    router: Float[Tensor, "B E"]
    gate: Float[Tensor, "B E"] | None

    @property
    def load_balance(self) -> Float[Tensor, ""]:
        """L_aux of this modality, 1 at balance; 0 where nothing is routed."""
        return self.router.new_zeros(()) if self.gate is None else load_balance(self.router, self.gate > 0)


class MoQ(nn.Module):
    """Mixtures of Q-Formers of the modalities that share a width d' (Eq. 1): frames (B, T, d_m) -> tokens (B, l, d').

    The router of a modality reads the masked mean of its frames; the k largest of its softmax probabilities
    weigh the experts' tokens and the others count as 0 (``renormalise`` divides by the sum of the k).

    Args:
        frame_widths: modality -> d_m.
        width: d', a multiple of ``heads``.
        experts, queries, top_k: N_e, l, k.
        layers: Q-Former depth; every layer attends to the frames.

    Raises:
        ValueError: if top_k is not between 1 and experts, or heads do not divide the width.
    """

    def __init__(
        self,
        frame_widths: dict[str, int],
        width: int,
        experts: int = 4,
        queries: int = 4,
        top_k: int = 3,
        layers: int = 1,
        heads: int = 8,
        dropout: float = 0.1,
        renormalise: bool = False,
    ):
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"MoQ: top_k is {top_k}, expected 1 to {experts} (the number of experts)")
        if width % heads:
            raise ValueError(f"MoQ: width {width} is not a multiple of the number of heads {heads}")
        self.top_k, self.queries, self.renormalise = top_k, queries, renormalise
        stack = len(frame_widths) * experts
        self.router = nn.ModuleDict({m: nn.Linear(f, experts) for m, f in frame_widths.items()})
        self.query = nn.Parameter(torch.randn(stack, queries, width) * 0.02)
        self.norm = StackedLayerNorm(stack, width)
        self.layers = nn.ModuleList(
            QFormerLayer(frame_widths, experts, queries, width, heads, dropout) for _ in range(layers)
        )

    def forward(self, frames: FramesOf, mask: MaskOf) -> dict[str, MoQOutput]:
        """Frames must be zero where the mask is False; an utterance without any real frame is allowed."""
        tokens = self.expert_tokens(frames, mask)
        return {m: self.mix(tokens[i], masked_mean(frames[m], mask[m]), m) for i, m in enumerate(self.router)}

    def expert_tokens(self, frames: FramesOf, mask: MaskOf) -> Float[Tensor, "M E B l d"]:
        """Every expert's tokens, before the routers weigh them."""
        frames = {m: frames[m] for m in self.router}
        bias = {m: _padding_bias(mask[m], frames[m].dtype) for m in frames}
        tokens = self.norm(self.query)
        for layer in self.layers:
            tokens = layer(tokens, frames, bias)
        return tokens.unflatten(1, (-1, self.queries)).unflatten(0, (len(frames), -1))

    def attention(self, frames: FramesOf, mask: MaskOf) -> dict[str, Float[Tensor, "B E l T"]]:
        """Each modality's attention to its frames in the last layer, by expert and query; rows sum to 1."""
        frames = {m: frames[m] for m in self.router}
        bias = {m: _padding_bias(mask[m], frames[m].dtype) for m in frames}
        tokens = self.norm(self.query)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, frames, bias)
        return self.layers[-1].attention(tokens, frames, bias)

    def mix(self, tokens: Float[Tensor, "E B l d"], mean_frame: Float[Tensor, "B f"], m: str) -> MoQOutput:
        """The router's weighted sum of the experts' tokens."""
        probability = self.router[m](mean_frame).softmax(-1)
        gate = top_k_gate(probability, self.top_k, self.renormalise)
        mixed = (gate.T[:, :, None, None] * tokens).sum(0)
        return MoQOutput(mixed, probability, gate)


def _padding_bias(mask: Bool[Tensor, "B T"], dtype: torch.dtype) -> Float[Tensor, "B 1 T"]:
    # finite, so that an utterance of padding alone gets even weights instead of NaN
    return torch.where(mask[:, None], 0.0, -1e9).to(dtype)


def top_k_gate(probability: Float[Tensor, "B E"], k: int, renormalise: bool = False) -> Float[Tensor, "B E"]:
    """Keep the k largest probabilities of each row, zero the others."""
    kept = probability.topk(k, dim=-1)
    values = kept.values / kept.values.sum(-1, keepdim=True) if renormalise else kept.values
    return torch.zeros_like(probability).scatter(-1, kept.indices, values)


def load_balance(probability: Float[Tensor, "B E"], chosen: Bool[Tensor, "B E"]) -> Float[Tensor, ""]:
    """L_aux = N_e / k * sum_e f_e P_e (Switch, GShard): 1 at balance, N_e / k when k experts take everything.

    f_e is the share of utterances routed to expert e, P_e its mean probability over the full softmax; k, the
    choices per utterance, is the sum of the f_e.
    """
    share = chosen.to(probability.dtype).mean(0)
    return probability.shape[-1] * (share * probability.mean(0)).sum() / share.sum()
