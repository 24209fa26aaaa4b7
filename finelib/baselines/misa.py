"""MISA: Modality-Invariant and -Specific Representations (Hazarika, Zimmermann and Poria, ACM MM 2020).

One shared encoder for all modalities and a private one for each; the six vectors pass a Transformer and a linear
fusion. Loss: prediction + alpha * difference + beta * similarity (CMD) + gamma * reconstruction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, BothWays, Mask, Settings, perceptron
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean

Vectors = dict[str, Float[Tensor, "B d"]]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the authors' repository (github.com/declare-lab/MISA, config.py and solver.py) on CMU-MOSI.

    Attributes:
        width: of common, shared and private vectors.
        heads: of the fusing Transformer, of one layer.
        lstm: hidden width of the audio and video LSTMs, 0 for the number of features.
        dropout: in the fusion.
        difference, similarity, reconstruction: alpha, beta, gamma.
    """

    width: int = 128
    heads: int = 2
    lstm: int = 0
    dropout: float = 0.5
    difference: float = 0.3
    similarity: float = 1.0
    reconstruction: float = 1.0
    loss: str = "mse"


TRAIN = dict(batch_size=64, lr=1e-4, weight_decay=0.0, bucket=True)  # same source, but bucket
FINETUNED = True
DEMO = dict(width=64, lstm=16, dropout=0.1, frames=24)
SPACE = dict(width=(64, 128), dropout=(0.1, 0.3, 0.5), difference=(0.1, 0.3), similarity=(0.3, 0.7, 1.0))


@dataclass(frozen=True)
class Output:
    """prediction: (B,); common, shared, private and decoded vectors: modality -> (B, width)."""

    prediction: Float[Tensor, "B"]
    common: Vectors
    shared: Vectors
    private: Vectors
    decoded: Vectors


class TwoLSTMs(nn.Module):
    """Two bidirectional LSTMs with a layer norm between; the last states of both, concatenated."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.first, self.norm = BothWays(nn.LSTM, width, hidden), nn.LayerNorm(2 * hidden)
        self.second = BothWays(nn.LSTM, 2 * hidden, hidden)

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B 4h"]:
        states, end = self.first(x, mask)
        return torch.cat([end, self.second(self.norm(states), mask)[1]], -1)


class Factorisation(nn.Module):
    """One shared encoder for all modalities, a private one for each, and a decoder of their sum; all of one width."""

    def __init__(self, modalities: Iterable[str], width: int):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        self.private = nn.ModuleDict({m: nn.Sequential(nn.Linear(width, width), nn.Sigmoid()) for m in modalities})
        self.decoder = nn.ModuleDict({m: nn.Linear(width, width) for m in modalities})

    def forward(self, common: Vectors) -> tuple[Vectors, Vectors, Vectors]:
        """Shared, private and decoded vectors of each modality."""
        shared = {m: self.shared(x) for m, x in common.items()}
        private = {m: self.private[m](x) for m, x in common.items()}
        return shared, private, {m: self.decoder[m](shared[m] + private[m]) for m in common}


class Model(Baseline):
    """Shared and private vectors of each modality, fused."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        width, hidden = config.width, {m: config.lstm or d for m, d in inputs.widths.items()}
        self.read = nn.ModuleDict({m: TwoLSTMs(d, hidden[m]) for m, d in inputs.widths.items() if m != "T"})
        read = {m: d if m == "T" else 4 * hidden[m] for m, d in inputs.widths.items()}
        project = {m: [nn.Linear(d, width), nn.ReLU(), nn.LayerNorm(width)] for m, d in read.items()}
        self.project = nn.ModuleDict({m: nn.Sequential(*layers) for m, layers in project.items()})
        self.factorise = Factorisation(self.modalities, width)
        self.fuse = nn.TransformerEncoderLayer(width, config.heads, 2048, batch_first=True)
        fused = 2 * len(self.modalities) * width
        self.head = perceptron(fused, fused // 2, 1, dropout=config.dropout)

    def forward(self, batch: Batch) -> Output:
        common = {}
        for m, (x, mask) in self.inputs(batch).items():
            common[m] = self.project[m](masked_mean(x, mask) if m == "T" else self.read[m](x, mask))
        shared, private, decoded = self.factorise(common)
        fused = self.fuse(torch.stack([*private.values(), *shared.values()], 1))
        return Output(self.head(fused.flatten(1))[:, 0], common, shared, private, decoded)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The prediction loss and MISA's three others; "total" is their weighted sum."""
        c, loss = self.config, self.prediction_loss(output.prediction, batch.label)
        diff, cmd = difference(output.shared, output.private), similarity(output.shared)
        recon = reconstruction(output)
        total = loss + c.difference * diff + c.similarity * cmd + c.reconstruction * recon
        return {"L_MP": loss, "diff": diff, "cmd": cmd, "L_recon": recon, "total": total}


def difference(shared: Vectors, private: Vectors) -> Float[Tensor, ""]:
    """Orthogonality of each private vector to its shared one and to the other private ones, summed."""
    pairs = [(private[m], shared[m]) for m in private] + list(combinations(private.values(), 2))
    return torch.stack([orthogonality(x, y) for x, y in pairs]).sum()


def similarity(shared: Vectors) -> Float[Tensor, ""]:
    """Mean CMD over pairs of shared vectors; 0 for one modality."""
    pairs = [central_moment_discrepancy(x, y) for x, y in combinations(shared.values(), 2)]
    return torch.stack(pairs).mean() if pairs else next(iter(shared.values())).new_zeros(())


def reconstruction(output: Output) -> Float[Tensor, ""]:
    """Mean squared error between decoded and common vectors, averaged over modalities."""
    return torch.stack([F.mse_loss(output.decoded[m], output.common[m]) for m in output.common]).mean()


def central_moment_discrepancy(x: Float[Tensor, "B d"], y: Float[Tensor, "B d"], moments: int = 5) -> Float[Tensor, ""]:
    """CMD (Zellinger et al. 2017): distances between means and between central moments 2 to K, added up."""
    deviation_x, deviation_y = x - x.mean(0), y - y.mean(0)
    gaps = [x.mean(0) - y.mean(0)]
    gaps += [deviation_x.pow(k).mean(0) - deviation_y.pow(k).mean(0) for k in range(2, moments + 1)]
    return torch.stack([(gap.square().sum() + 1e-12).sqrt() for gap in gaps]).sum()


def orthogonality(x: Float[Tensor, "B d"], y: Float[Tensor, "B d"]) -> Float[Tensor, ""]:
    """MISA's difference loss: mean squared entry of X^T Y, columns centred over the batch, then rows of length 1."""
    x, y = (F.normalize(z - z.mean(0), dim=1, eps=1e-6) for z in (x, y))
    return (x.T @ y).square().mean()
