"""MulT: Multimodal Transformer for unaligned sequences (Tsai et al., ACL 2019).

Each modality attends to each other one through a stack of cross-modal blocks; what it got from the others is
concatenated and passed through a self-attention stack, whose last real frame is read.

    Z^[0] = own frames;  Z^[i] = Z^[i-1] + CM(LN Z^[i-1] -> LN other frames);  Z^[i] += FF(LN Z^[i])
"""

from dataclasses import dataclass
from itertools import permutations
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Attention, Baseline, Convolution, Mask, Output, Settings, at_end, perceptron
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import FastDropout, positions


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: MMSA 2.2.1, config_regression.json, mult on CMU-MOSI.

    Not as there: sinusoidal positions, as in the paper; no mask of future frames, of which the paper says nothing;
    no dropout of attention weights (0.3 and 0.2 there), which the fused kernel cannot do.

    Attributes:
        width, heads: d and attention heads of the cross-modal blocks; a modality alone has no such blocks.
        layers, memory_layers: blocks of each cross-modal stack; of each self-attention stack, 0 for max(layers, 3).
        kernel: of the temporal convolution in front, for T, A, V alike.
        text_dropout, embed_dropout, residual_dropout, relu_dropout, output_dropout: on text features, on the stacks'
            inputs, after attention and feed-forward, inside the latter, in the output network.
    """

    width: int = 50
    heads: int = 10
    layers: int = 4
    memory_layers: int = 0
    kernel: int = 5
    text_dropout: float = 0.5
    embed_dropout: float = 0.2
    residual_dropout: float = 0.0
    relu_dropout: float = 0.0
    output_dropout: float = 0.5


TRAIN = dict(batch_size=16, lr=2e-3, weight_decay=0.005, clip=0.6, bucket=True)  # same source, but bucket
FINETUNED = False
DEMO = dict(width=32, heads=4, layers=1, memory_layers=1, text_dropout=0.1, output_dropout=0.1, frames=24)
SPACE = dict(width=(32, 50, 64), heads=(2,), layers=(1, 2, 4), text_dropout=(0.2, 0.5), output_dropout=(0.1, 0.5))


class Block(nn.Module):
    """One cross-modal block, or a self-attention block where keys are the queries' own sequence."""

    def __init__(self, width: int, heads: int, dropout: float, relu_dropout: float = 0.0):
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm, self.norm_ff = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = perceptron(width, 4 * width, width, dropout=relu_dropout)
        self.dropout = FastDropout(dropout)

    def forward(self, x: Float[Tensor, "B q d"], keys: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B q d"]:
        normed = self.norm(x)
        x = x + self.dropout(self.attention(normed, normed if keys is x else self.norm(keys), mask))
        return x + self.dropout(self.feed_forward(self.norm_ff(x)))


class Stack(nn.Module):
    """Blocks, then a layer norm; frames are scaled by sqrt(d) and given positions before."""

    def __init__(self, width: int, config: Config, layers: int):
        super().__init__()
        settings = width, config.heads, config.residual_dropout, config.relu_dropout
        self.blocks = nn.ModuleList(Block(*settings) for _ in range(layers))
        self.norm, self.dropout = nn.LayerNorm(width), FastDropout(config.embed_dropout)

    def forward(self, x: Float[Tensor, "B q d"], keys: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B q d"]:
        """x attending to keys."""
        x, keys = self.embed(x), self.embed(keys)
        for block in self.blocks:
            x = block(x, keys, mask)
        return self.norm(x)

    def last(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B d"]:
        """x attending to itself, at the last real frame; of the last block only that row is computed."""
        x = self.embed(x)
        *first, final = self.blocks
        for block in first:
            x = block(x, x, mask)
        return self.norm(final(at_end(x, mask)[:, None], x, mask))[:, 0]

    def embed(self, x: Float[Tensor, "B T d"]) -> Float[Tensor, "B T d"]:
        return self.dropout(x * sqrt(x.shape[-1]) + positions(x.shape[1], x.shape[2], x))


class Model(Baseline):
    """Cross-modal attention between every ordered pair of modalities."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        width, kernel, pairs = config.width, config.kernel, list(permutations(self.modalities, 2))
        received = max(1, len(self.modalities) - 1) * width  # from all others, side by side
        combined = len(self.modalities) * received
        self.text_dropout = FastDropout(config.text_dropout)
        self.convolve = nn.ModuleDict({m: Convolution(d, width, kernel) for m, d in inputs.widths.items()})
        self.cross = nn.ModuleDict({m + n: Stack(width, config, config.layers) for m, n in pairs})
        depth = config.memory_layers or max(config.layers, 3)
        self.memory = nn.ModuleDict({m: Stack(received, config, depth) for m in self.modalities})
        self.hidden = perceptron(combined, combined, combined, dropout=config.output_dropout)
        self.head = nn.Linear(combined, 1)

    def forward(self, batch: Batch) -> Output:
        sequences = {}
        for m, (x, mask) in self.inputs(batch).items():
            sequences[m] = self.convolve[m](self.text_dropout(x) if m == "T" else x, mask), mask
        ends = []
        for m, (x, mask) in sequences.items():
            seen = [self.cross[m + n](x, *keys) for n, keys in sequences.items() if n != m] or [x]
            ends.append(self.memory[m].last(torch.cat(seen, -1), mask))
        end = torch.cat(ends, -1)
        return Output(self.head(end + self.hidden(end))[:, 0])
