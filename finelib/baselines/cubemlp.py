"""CubeMLP (Sun et al., ACM MM 2022): steps, modalities and features are mixed in turn, by an MLP along each axis.

The modalities stand side by side in X (steps x modalities x features). A block mixes its axes in this order; with
LN, W1, W2 and P along the axis in hand,

    X <- dropout(W2 gelu(W1 LN(X))) + P X

P is a linear map without bias, so that a block may shorten an axis. From code: github.com/kiva12138/CubeMLP (Model.py,
MLPProcess.py, README).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Output, Settings, aligned, perceptron
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import FastDropout, stretches

Cube = Float[Tensor, "B L K D"]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the command in the authors' README for CMU-MOSI.

    Not as there: every utterance has the same number of steps, each the mean of its stretch of the real frames
    (shorter utterances repeat some). The code has 100 steps, and mixes and averages zeros behind an utterance too.
    Audio and video are aligned with text before, where the code centres them in the longer sequence of word pieces.
    The text encoder's first eight layers are not frozen. The GRUs' recurrent weights are not orthogonal at first.

    Attributes:
        steps: L of the first block's input.
        width: D of the first block's input, and of each direction of the GRUs.
        blocks: steps and features that each block leaves; its MLPs' hidden layers are as wide. K, the number of
            modalities, stays.
        modality_mean: average the modalities at the end instead of taking them side by side; steps are averaged.
        dropout, mix_dropout, output_dropout: on the modalities' frames, in the blocks, in the output network.
    """

    steps: int = 50
    width: int = 128
    blocks: tuple[tuple[int, int], ...] = ((50, 128), (10, 32))
    modality_mean: bool = False
    dropout: float = 0.1
    mix_dropout: float = 0.1
    output_dropout: float = 0.1


# same source, but bucket; there gradients are clipped at 1 by value and the rate falls to a tenth at epoch 60 of 70
TRAIN = dict(batch_size=128, lr=4e-3, lr_text=4e-5, weight_decay=0.0, bucket=True)
FINETUNED = True
DEMO = dict(steps=24, width=32, blocks=((12, 32),))
BLOCKS = ((50, 128), (10, 32)), ((50, 128), (10, 64), (10, 32), (10, 3)), ((20, 64), (10, 32))
SPACE = dict(blocks=BLOCKS, mix_dropout=(0.1, 0.3, 0.5), width=(64, 128), modality_mean=(False, True))


class TwoGRUs(nn.Module):
    """A bidirectional GRU of two layers; its directions are added, layer norm, ReLU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gru = nn.GRU(width, hidden, 2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Float[Tensor, "B L d"]) -> Float[Tensor, "B L h"]:
        ahead, back = self.gru(x)[0].chunk(2, -1)
        return torch.relu(self.norm(ahead + back))


class Mix(nn.Module):
    """The MLP along the last axis, and the map beside it."""

    def __init__(self, width_in: int, width_out: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width_in)
        self.wide, self.narrow = nn.Linear(width_in, width_out), nn.Linear(width_out, width_out)
        self.beside, self.dropout = nn.Linear(width_in, width_out, bias=False), FastDropout(dropout)

    def forward(self, x: Float[Tensor, "*axes i"]) -> Float[Tensor, "*axes o"]:
        return self.dropout(self.narrow(F.gelu(self.wide(self.norm(x))))) + self.beside(x)


class Block(nn.Module):
    """Mixes steps, then modalities, then features: (B, *before) -> (B, *after)."""

    def __init__(self, before: tuple[int, int, int], after: tuple[int, int, int], dropout: float):
        super().__init__()
        self.mix = nn.ModuleList(Mix(i, o, dropout) for i, o in zip(before, after, strict=True))

    def forward(self, x: Cube) -> Cube:
        for axis, mix in enumerate(self.mix, start=1):
            x = mix(x.transpose(axis, -1)).transpose(axis, -1)
        return x


class Model(Baseline):
    """Blocks on the cube of all modalities."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        c, modalities = config, len(self.modalities)
        self.read = nn.ModuleDict({m: TwoGRUs(d, c.width) for m, d in inputs.widths.items() if m != "T"})
        if "T" in inputs.widths:
            self.text = nn.Linear(inputs.widths["T"], c.width, bias=False)
        sizes = [(steps, modalities, width) for steps, width in ((c.steps, c.width), *c.blocks)]
        self.blocks = nn.Sequential(*(Block(before, after, c.mix_dropout) for before, after in pairwise(sizes)))
        self.dropout = FastDropout(c.dropout)
        out = sizes[-1][2] * (1 if c.modality_mean else modalities)
        self.head = nn.Linear(out, 1) if out <= 128 else perceptron(out, 128, 1, dropout=c.output_dropout)

    def forward(self, batch: Batch) -> Output:
        mixed = self.blocks(self.cube(batch)).mean(1)  # (B, K, D)
        return Output(self.head(mixed.mean(1) if self.config.modality_mean else mixed.flatten(1))[:, 0])

    def cube(self, batch: Batch) -> Cube:
        """The modalities on ``steps`` common steps, side by side."""
        frames, mask = aligned(self.inputs(batch))
        layers = []
        for m, x in frames.items():
            x = stretches(x, mask, self.config.steps)
            layers.append(self.dropout(self.text(x) if m == "T" else self.read[m](x)))
        return torch.stack(layers, 2)
