"""Mixture of Q-Formers (Eq. 1): each modality's frames become l tokens.

A Q-Former holds l learned queries that attend to each other and then to the frames. N_e of them are the experts of one
modality; a router weighs them per utterance. ``plain.py`` writes the same with one layer a line.

Two things make it quick and change no number. The weights of all experts, of all modalities that share a width, are
stacked and run as one batched product. And the key and value projections are folded onto the query side:
softmax((q W_k^T) X^T) X W_v instead of softmax(q (X W_k)^T) (X W_v). There are a few dozen queries but hundreds of
frames, so the frames are read as they are and no projected copy of them is made. (The key bias adds the same number to
all scores of a query and so drops out of the softmax.)

Sizes in the comments: B utterances, T frames of f features, M modalities of one width, E experts, S = M * E Q-Formers,
l queries, H heads of width c, d = H * c.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from finelib.config import FineConfig
from finelib.layers import FastDropout, StackedLayerNorm, StackedLinear, masked_mean, stacked_mlp, uniform_parameter

FramesOf = dict[str, Float[Tensor, "B T f"]]
MaskOf = dict[str, Bool[Tensor, "B T"]]
ON_PADDING = -1e9  # added to the scores of padding; finite, so that an utterance of padding alone gets no NaN
QUERY_SD = 0.02  # of the learned queries when they are drawn, as in BERT


class QFormerLayer(nn.Module):
    """One layer of S Q-Formers: self-attention of the queries, cross-attention to the frames, feed-forward.

    Post-norm residual blocks as in BERT and BLIP-2, dropout after cross-attention and feed-forward. Tokens are kept as
    (S, b*l, d): b is the batch size, or 1 while the queries do not yet depend on the utterance (before the first
    cross-attention).

    Args:
        frame_widths: modality -> f.
        width: d.
    """

    def __init__(self, frame_widths: dict[str, int], width: int, config: FineConfig):
        super().__init__()
        self.experts, self.queries, self.heads = config.experts, config.queries, config.heads
        self.head_width, stack = width // self.heads, len(frame_widths) * self.experts
        self.self_in = StackedLinear(stack, width, 3 * width)
        self.self_out = StackedLinear(stack, width, width)
        self.cross_query = StackedLinear(stack, width, width)
        self.cross_key, self.cross_value = nn.ParameterDict(), nn.ParameterDict()
        for m, f in frame_widths.items():
            self.cross_key[m] = uniform_parameter(f, self.experts, self.heads, self.head_width, f)
        for m, f in frame_widths.items():
            self.cross_value[m] = uniform_parameter(f, self.experts, self.heads, f, self.head_width)
        self.cross_value_bias = uniform_parameter(width, stack, 1, width)
        self.cross_out = StackedLinear(stack, width, width)
        self.feed_forward = stacked_mlp(stack, width, 4 * width, width)
        self.norms = nn.ModuleList(StackedLayerNorm(stack, width) for _ in range(3))
        self.dropout = FastDropout(config.dropout)

    def forward(self, tokens: Float[Tensor, "S n d"], frames: FramesOf, bias: FramesOf) -> Float[Tensor, "S m d"]:
        """Tokens (S, b*l, d) with b = 1 or B -> tokens (S, B*l, d)."""
        tokens = self.norms[0](tokens + self.self_attention(tokens))  # (S, b*l, d)
        attended = self.cross_attention(tokens, frames, bias)  # (S, B*l, d)
        if tokens.shape[1] != attended.shape[1]:
            tokens = tokens.repeat(1, attended.shape[1] // tokens.shape[1], 1)
        tokens = self.norms[1](tokens + self.dropout(attended))
        return self.norms[2](tokens + self.dropout(self.feed_forward(tokens)))

    def self_attention(self, tokens: Float[Tensor, "S n d"]) -> Float[Tensor, "S n d"]:
        """Attention of each utterance's l queries to each other."""
        qkv = self.self_in(tokens)  # (S, b*l, 3*d)
        qkv = qkv.unflatten(1, (-1, self.queries))  # (S, b, l, 3*d)
        qkv = qkv.unflatten(-1, (3, self.heads, self.head_width))  # (S, b, l, 3, H, c)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # each (S, b, H, l, c)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (S, b, H, l, c)
        return self.self_out(mixed.transpose(2, 3).reshape(tokens.shape))  # (S, b*l, d)

    def cross_attention(
        self, tokens: Float[Tensor, "S n d"], frames: FramesOf, bias: FramesOf
    ) -> Float[Tensor, "S m d"]:
        """Attention of the queries to the real frames; without any real frame, the value bias alone."""
        queries = self.queries_of(tokens, frames)
        values = [self.read(queries[m], m, frames[m], bias[m]) for m in frames]  # each (E, B*l, d)
        return self.cross_out(torch.cat(values) + self.cross_value_bias)  # (S, B*l, d)

    def queries_of(self, tokens: Float[Tensor, "S n d"], frames: FramesOf) -> dict[str, Float[Tensor, "E H n c"]]:
        """Scaled query vectors of each modality's experts."""
        query = self.cross_query(tokens)  # (S, b*l, d)
        query = query.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)  # (S, H, b*l, c)
        parts = (query / math.sqrt(self.head_width)).chunk(len(frames))  # S = M * E, modality by modality
        return dict(zip(frames, parts, strict=True))

    def read(
        self, query: Float[Tensor, "E H n c"], m: str, frames: Float[Tensor, "B T f"], bias: Float[Tensor, "B 1 T"]
    ) -> Float[Tensor, "E m d"]:
        """softmax((q W_k^T) X^T + bias) X W_v of one modality."""
        weights = self.weights(query, m, frames, bias)  # (B, E*H*l, T)
        read = weights @ frames  # (B, E*H*l, f); zero where all frames are padding, for padding is zero
        read = read.unflatten(1, (self.experts, self.heads, self.queries))  # (B, E, H, l, f)
        read = read.permute(1, 2, 0, 3, 4).flatten(2, 3)  # (E, H, B*l, f)
        values = read @ self.cross_value[m]  # (E, H, B*l, c)
        return values.transpose(1, 2).flatten(2)  # (E, B*l, d)

    def weights(
        self, query: Float[Tensor, "E H n c"], m: str, frames: Float[Tensor, "B T f"], bias: Float[Tensor, "B 1 T"]
    ) -> Float[Tensor, "B m T"]:
        """Attention to each frame, rows in the order expert, head, query."""
        folded = query @ self.cross_key[m]  # (E, H, b*l, f), keys on the query side
        folded = folded.unflatten(2, (-1, self.queries))  # (E, H, b, l, f)
        folded = folded.permute(2, 0, 1, 3, 4).flatten(1, 3)  # (b, E*H*l, f)
        folded = folded.expand(len(frames), -1, -1)  # (B, E*H*l, f)
        return torch.baddbmm(bias, folded, frames.transpose(1, 2)).softmax(-1)  # (B, E*H*l, T)

    def attention(
        self, tokens: Float[Tensor, "S n d"], frames: FramesOf, bias: FramesOf
    ) -> dict[str, Float[Tensor, "B E l T"]]:
        """Where each expert's queries look, averaged over heads; for people, not used by ``forward``."""
        tokens = self.norms[0](tokens + self.self_attention(tokens))
        found = {}
        for m, query in self.queries_of(tokens, frames).items():
            weights = self.weights(query, m, frames[m], bias[m])  # (B, E*H*l, T)
            found[m] = weights.unflatten(1, (self.experts, self.heads, self.queries)).mean(2)
        return found


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
    """A Mixture of Q-Formers for each modality (Eq. 1): frames (B, T_m, d_m) -> tokens (B, l, d'_m).

    The modalities of one width d' share a stack.

    Args:
        frame_widths, widths: modality -> d_m, modality -> d'_m.
    """

    def __init__(self, frame_widths: dict[str, int], widths: dict[str, int], config: FineConfig):
        super().__init__()
        self.modalities = tuple(frame_widths)
        groups = {width: {m: frame_widths[m] for m in group} for width, group in by_width(widths).items()}
        self.stacks = nn.ModuleList(MixtureStack(group, width, config) for width, group in groups.items())

    def forward(self, frames: FramesOf, mask: MaskOf) -> dict[str, MoQOutput]:
        """Frames must be zero where the mask is False; an utterance without any real frame is allowed."""
        found = {m: out for stack in self.stacks for m, out in stack(frames, mask).items()}
        return {m: found[m] for m in self.modalities}

    def attention(self, frames: FramesOf, mask: MaskOf) -> dict[str, Float[Tensor, "B E l T"]]:
        """Each modality's attention to its frames in the last layer, by expert and query; rows sum to 1."""
        found = {m: weights for stack in self.stacks for m, weights in stack.attention(frames, mask).items()}
        return {m: found[m] for m in self.modalities}


class MixtureStack(nn.Module):
    """The Mixtures of Q-Formers of modalities that share a width d'.

    The router of a modality reads the masked mean of its frames; the k largest of its softmax probabilities weigh the
    experts' tokens and the others count as 0 (``renormalise_gate`` divides by the sum of the k).

    Raises:
        ValueError: if top_k is not between 1 and experts, or heads do not divide the width.
    """

    def __init__(self, frame_widths: dict[str, int], width: int, config: FineConfig):
        super().__init__()
        c, stack = config, len(frame_widths) * config.experts
        if not 1 <= c.top_k <= c.experts:
            raise ValueError(f"MoQ: top_k is {c.top_k}, expected 1 to {c.experts} (the number of experts)")
        if width % c.heads:
            raise ValueError(f"MoQ: width {width} is not a multiple of the number of heads {c.heads}")
        self.config = config
        self.router = nn.ModuleDict({m: nn.Linear(f, c.experts) for m, f in frame_widths.items()})
        self.query = nn.Parameter(torch.randn(stack, c.queries, width) * QUERY_SD)
        self.norm = StackedLayerNorm(stack, width)
        self.layers = nn.ModuleList(QFormerLayer(frame_widths, width, c) for _ in range(c.qformer_layers))

    def forward(self, frames: FramesOf, mask: MaskOf) -> dict[str, MoQOutput]:
        tokens = self.expert_tokens(frames, mask)  # (M, E, B, l, d')
        return {m: self.mix(tokens[i], masked_mean(frames[m], mask[m]), m) for i, m in enumerate(self.router)}

    def expert_tokens(self, frames: FramesOf, mask: MaskOf) -> Float[Tensor, "M E B l d"]:
        """Every expert's tokens, before the routers weigh them."""
        frames, bias = self.read_from(frames, mask)
        tokens = self.norm(self.query)  # (S, l, d')
        for layer in self.layers:
            tokens = layer(tokens, frames, bias)  # (S, B*l, d')
        tokens = tokens.unflatten(1, (-1, self.config.queries))  # (S, B, l, d')
        return tokens.unflatten(0, (len(frames), -1))

    def attention(self, frames: FramesOf, mask: MaskOf) -> dict[str, Float[Tensor, "B E l T"]]:
        """``MoQ.attention`` of these modalities."""
        frames, bias = self.read_from(frames, mask)
        tokens = self.norm(self.query)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, frames, bias)
        return self.layers[-1].attention(tokens, frames, bias)

    def read_from(self, frames: FramesOf, mask: MaskOf) -> tuple[FramesOf, dict[str, Float[Tensor, "B 1 T"]]]:
        """The frames of these modalities, and what is added to the attention scores of each frame."""
        frames = {m: frames[m] for m in self.router}
        return frames, {m: torch.where(mask[m][:, None], 0.0, ON_PADDING).to(x.dtype) for m, x in frames.items()}

    def mix(self, tokens: Float[Tensor, "E B l d"], mean_frame: Float[Tensor, "B f"], m: str) -> MoQOutput:
        """The router's weighted sum of the experts' tokens."""
        probability = self.router[m](mean_frame).softmax(-1)  # (B, E)
        gate = top_k_gate(probability, self.config.top_k, self.config.renormalise_gate)
        mixed = (gate.T[:, :, None, None] * tokens).sum(0)  # (B, l, d')
        return MoQOutput(mixed, probability, gate)


def by_width(widths: dict[str, int]) -> dict[int, tuple[str, ...]]:
    """Width -> the modalities that have it, in their order."""
    groups: dict[int, tuple[str, ...]] = {}
    for m, width in widths.items():
        groups[width] = (*groups.get(width, ()), m)
    return groups


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
