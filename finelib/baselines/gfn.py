"""GFN: Graph Fusion Network, of ARGF (Mai, Hu and Xing, AAAI 2020), on one vector per modality.

An encoder for each modality gives z_m; a discriminator cannot tell the others' from the first modality's (text), and
decoders give the features back. A graph of modalities, pairs and triples fuses them. With p = softmax(z) over features:

    level 1   s_m = sigmoid(w z_m),   U = mean_m s_m z_m
    level 2   r_ij = (s_i + s_j) / (p_i p_j + 0.5),   b_ij = elu(n_ij G1[z_i; z_j]),   n = softmax over pairs of r,
              B = sum b_ij
    level 3   a vertex for each two pairs, and for each pair and the modality that is not in it; with parents' weights
              w (r of a pair, s of a modality) and q (softmax of G1's output, p of a modality):
              t = elu(n G2[parents]),   n = softmax over vertices of (w_1 + w_2) / (q_1 q_2 + 0.5),   T = sum t
    loss = |p - y| + sum_m |K(z_m) - y| + a sum_others BCE(D(z_m), 1) + (1 - a) sum_m |decoded_m - x_m|

and for D itself 0.5 [BCE(D(z_first), 1) + sum_others BCE(D(z_m), 0)]. From code:
github.com/TmacMai/ARGF_multimodal_fusion (model.py, graph11_new).
"""

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, BatchNorm, Settings, perceptron
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean

Stacked = Float[Tensor, "S B h"]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the setting that the authors' script for CMU-MOSI has written out.

    Not as there: one output and absolute errors, where the code has softmax over classes. A modality is its mean real
    frame. Decoders are linear at the end, since features are standardised, and their errors are means, so that a does
    not depend on widths. The fused error trains the encoders too (the code computes these gradients and applies none:
    ``detach_fusion``). Steps are taken together instead of one after the other on a graph whose parameters have
    changed. Evaluation has no dropout and no statistics of its batch. K has no batch norm in front, which all
    modalities would share. The target is text, where the script for CMU-MOSI has audio; the authors find text best.

    Attributes:
        hidden: h.
        expand: the encoders' layers have ``expand`` times the features' and ``expand`` times the hidden width.
        dropout: in the encoders and in K.
        decoder_dropout: in the decoders.
        adversary: a.
        detach_fusion: keep the fused error from the encoders.
    """

    hidden: int = 50
    expand: int = 10
    dropout: float = 0.5
    decoder_dropout: float = 0.5
    adversary: float = 0.001
    detach_fusion: bool = False


TRAIN = dict(batch_size=16, lr=1e-3, weight_decay=0.005, bucket=True)  # same source, but bucket
FINETUNED = False
DEMO = dict(hidden=32, expand=1, dropout=0.1, decoder_dropout=0.1)
SPACE = dict(hidden=(50, 100, 150), expand=(1, 10), dropout=(0.1, 0.3, 0.5), adversary=(0.001, 0.01, 0.05))


@dataclass(frozen=True)
class Output:
    """prediction: (B,); encoded: z, modalities first; features, decoded: modality -> (B, d_m); unimodal: K(z)."""

    prediction: Float[Tensor, "B"]
    encoded: Stacked
    features: dict[str, Float[Tensor, "B _"]]
    decoded: dict[str, Float[Tensor, "B _"]]
    unimodal: Float[Tensor, "S B"]


class Graph(nn.Module):
    """U, B and T side by side: (M, B, h) -> (B, levels * h). Two modalities have no T, one has U alone.

    A vertex is a modality or a pair. ``pairs`` and ``parents`` are the vertices' places, modalities first, that pairs
    and triples are made of.
    """

    def __init__(self, modalities: int, hidden: int):
        super().__init__()
        place = {pair: modalities + i for i, pair in enumerate(combinations(range(modalities), 2))}
        parents = list(combinations(place.values(), 2))
        parents += [(at, k) for pair, at in place.items() for k in range(modalities) if k not in pair]
        self.levels = 1 + bool(place) + bool(parents)
        for name, sides in {"pairs": list(place), "parents": parents}.items():
            self.register_buffer(name, torch.tensor(sides, dtype=torch.long).view(-1, 2).T, persistent=False)
        self.weigh = nn.Linear(hidden, 1)
        self.join, self.join_again = _join(hidden), _join(hidden)

    def forward(self, z: Stacked) -> Float[Tensor, "B k"]:
        weight, share = torch.sigmoid(self.weigh(z))[..., 0], z.softmax(-1)  # (M, B), (M, B, h)
        levels = [(weight[..., None] * z).mean(0)]
        if self.levels > 1:
            i, j = self.pairs
            joint, raw = self.join(torch.cat([z[i], z[j]], -1)), edge(weight[i] + weight[j], share[i], share[j])
            pairs = F.elu(raw.softmax(0)[..., None] * joint)
            levels.append(pairs.sum(0))
        if self.levels > 2:
            i, j = self.parents
            vertices, weight = torch.cat([z, pairs]), torch.cat([weight, raw])
            share = torch.cat([share, joint.softmax(-1)])
            normalised = edge(weight[i] + weight[j], share[i], share[j]).softmax(0)
            triples = F.elu(normalised[..., None] * self.join_again(torch.cat([vertices[i], vertices[j]], -1)))
            levels.append(triples.sum(0))
        return torch.cat(levels, -1)


def edge(weight: Float[Tensor, "S B"], p: Stacked, q: Stacked) -> Float[Tensor, "S B"]:
    """Raw weight of a vertex: its parents' weights, added, over how alike the parents are."""
    return weight / ((p * q).sum(-1) + 0.5)


class Model(Baseline):
    """Encoders, decoders, a discriminator, and the graph."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        c, h = config, config.hidden
        self.encode = nn.ModuleDict({m: _encoder(d, c) for m, d in inputs.widths.items()})
        self.decode = nn.ModuleDict({m: _decoder(d, c) for m, d in inputs.widths.items()})
        single = [nn.Dropout(c.dropout), nn.Linear(h, h), nn.Tanh(), nn.Dropout(c.dropout), nn.Linear(h, 1)]
        self.single = nn.Sequential(*single)
        tell = [nn.Linear(h, 64), nn.LeakyReLU(0.2), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 1)]
        self.discriminator = nn.Sequential(*tell)
        self.graph = Graph(len(self.modalities), h)
        fused = self.graph.levels * h
        self.head = nn.Sequential(BatchNorm(fused), perceptron(fused, 50, 50, 1, activation=nn.Tanh))

    def critic_parameters(self) -> list[nn.Parameter]:
        """The discriminator's, which have a learning rate of their own."""
        return list(self.discriminator.parameters())

    def forward(self, batch: Batch) -> Output:
        features = {m: masked_mean(x, mask) for m, (x, mask) in self.inputs(batch).items()}
        encoded = torch.stack([self.encode[m](x) for m, x in features.items()])
        decoded = {m: self.decode[m](z) for m, z in zip(features, encoded, strict=True)}
        fused = self.graph(encoded.detach() if self.config.detach_fusion else encoded)
        return Output(self.head(fused)[:, 0], encoded, features, decoded, self.single(encoded)[..., 0])

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Fused "L_MP" and unimodal errors "L_UP", "L_recon", "adv" for the encoders, "disc" for D, and their sum."""
        label, a = batch.label, self.config.adversary
        loss = self.prediction_loss(output.prediction, label)
        single = sum(self.prediction_loss(p, label) for p in output.unimodal)
        recon = sum(F.l1_loss(output.decoded[m], x.detach()) for m, x in output.features.items())
        adversary, told = self.adversary(output.encoded), self.told(output.encoded.detach())
        total = loss + single + a * adversary + (1 - a) * recon + told
        return {"L_MP": loss, "L_UP": single, "L_recon": recon, "adv": adversary, "disc": told, "total": total}

    def adversary(self, encoded: Stacked) -> Float[Tensor, ""]:
        """BCE of "this is the first modality" over the others, summed; no gradient reaches D's parameters."""
        still = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        scores = torch.func.functional_call(self.discriminator, still, (encoded[1:],))
        return F.softplus(-scores).mean((1, 2)).sum()

    def told(self, encoded: Stacked) -> Float[Tensor, ""]:
        """D's own loss."""
        first, others = self.discriminator(encoded).split([1, len(encoded) - 1])
        return (F.softplus(-first).mean() + F.softplus(others).mean((1, 2)).sum()) / 2


def _join(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * hidden, 64), nn.LeakyReLU(0.2), nn.Linear(64, hidden), nn.Tanh())


def _encoder(width: int, c: Config) -> nn.Sequential:
    layers, widths = [], (width, c.expand * width, c.expand * c.hidden, c.hidden)
    for width_in, width_out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(width_in, width_out), nn.Dropout(c.dropout), BatchNorm(width_out), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(c.hidden, c.hidden), nn.Tanh())


def _decoder(width: int, c: Config) -> nn.Sequential:
    wide = [nn.Linear(c.hidden, 512), nn.Dropout(c.decoder_dropout), nn.LeakyReLU(0.2)]
    narrow = [nn.Linear(512, 64), nn.Dropout(c.decoder_dropout), BatchNorm(64), nn.LeakyReLU(0.2)]
    return nn.Sequential(*wide, *narrow, nn.Linear(64, width))
