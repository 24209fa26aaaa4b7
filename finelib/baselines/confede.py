"""ConFEDE: Contrastive Feature Decomposition (Yang et al., ACL 2023).

Each modality's vector is split into a similarity and a dissimilarity feature. Contrastive pairs of utterance i
(text stands for the first modality that is used):

    positive   its text similarity feature and those of the other modalities;
               a modality's similarity features of i and of like utterances j
    negative   its text similarity feature and each of its dissimilarity features;
               a modality's similarity features of i and of unlike utterances j

Each positive pair's loss is NT-Xent against the negatives of its anchor. All features predict the label together,
and each on its own.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Mask, Settings, perceptron
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean

PARTNERS = 2  # of each kind: like, unlike though near, unlike and far
NOTHING = -1e4  # a score that adds nothing to a sum of exponentials; with -inf a row without negatives has no gradient
Vectors, Pairs = dict[str, Float[Tensor, "B h"]], Bool[Tensor, "B B"]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the authors' repository (github.com/XpastaX/ConFEDE, MOSI/config.py and TVA_fusion.py).

    Not as there: trained in one stage, without encoders trained for each modality beforehand; like and unlike
    utterances come from the batch instead of the whole training split; no mask of future frames; no dropout of
    attention weights, which the fused kernel cannot do; text is averaged over its tokens.

    Attributes:
        width, heads, layers: of the audio and video Transformers; features are width / 2.
        dropout: in the Transformers and after the feature projections.
        contrast, mono: weights of the contrastive loss and of the single features' predictions.
        temperature: of NT-Xent.
    """

    width: int = 768
    heads: int = 8
    layers: int = 2
    dropout: float = 0.5
    contrast: float = 0.1
    mono: float = 0.01
    temperature: float = 0.5
    loss: str = "mse"


TRAIN = dict(batch_size=16, lr=1e-4, weight_decay=1e-3, bucket=True)  # same source, but bucket
FINETUNED = True
DEMO = dict(width=64, heads=4, layers=1, dropout=0.1)
SPACE = dict(width=(128, 256), dropout=(0.1, 0.3, 0.5), contrast=(0.05, 0.1, 0.2))


@dataclass(frozen=True)
class Output:
    """prediction: (B,); similar, dissimilar: modality -> (B, width / 2); pooled: mean frames side by side (B, d)."""

    prediction: Float[Tensor, "B"]
    similar: Vectors
    dissimilar: Vectors
    pooled: Float[Tensor, "B d"]


class Read(nn.Module):
    """A [CLS] vector in front of the frames, learned positions, a Transformer; the [CLS] row.

    Of the last layer only that row is read, so only it is computed.
    """

    def __init__(self, features: int, frames: int, c: Config):
        super().__init__()
        self.project = nn.Linear(features, c.width)
        self.cls = nn.Parameter(torch.ones(1, 1, c.width))
        self.position = nn.Parameter(torch.zeros(1, frames + 1, c.width))
        self.dropout = nn.Dropout(c.dropout)
        self.layers, settings = nn.ModuleList(), {"dropout": c.dropout, "activation": "gelu", "batch_first": True}
        for _ in range(c.layers):
            self.layers.append(nn.TransformerEncoderLayer(c.width, c.heads, features, **settings))
            self.layers[-1].self_attn.dropout = 0.0

    def forward(self, x: Float[Tensor, "B T f"], mask: Mask) -> Float[Tensor, "B d"]:
        x = torch.cat([self.cls.expand(len(x), -1, -1), self.project(x)], 1) + self.position[:, : x.shape[1] + 1]
        x, padding = self.dropout(x), F.pad(~mask, (1, 0), value=False)
        *first, last = self.layers
        for layer in first:
            x = layer(x, src_key_padding_mask=padding)
        return self.last_layer_cls(last, x, padding)

    def last_layer_cls(self, layer: nn.Module, x: Float[Tensor, "B T d"], padding: Mask) -> Float[Tensor, "B d"]:
        """A layer's output (attention and feed-forward, each normed after it is added) at the [CLS] row alone."""
        attended = layer.self_attn(x[:, :1], x, x, key_padding_mask=padding, need_weights=False)[0]
        cls = layer.norm1(x[:, :1] + layer.dropout1(attended))
        inner = layer.dropout(F.gelu(layer.linear1(cls)))
        return layer.norm2(cls + layer.dropout2(layer.linear2(inner)))[:, 0]


class Model(Baseline):
    """Decomposed features of each modality, all of them fused by an MLP."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        longest = {m: max(int(split.frames[m].length.max()) for split in corpus.splits.values()) for m in inputs.widths}
        self.read = nn.ModuleDict({m: Read(d, longest[m], config) for m, d in inputs.widths.items() if m != "T"})
        if "T" in inputs.widths:
            self.text = nn.Linear(inputs.widths["T"], config.width)
        width, half = config.width, config.width // 2
        self.similar = nn.ModuleDict({m: _projector(width, half, config.dropout) for m in inputs.widths})
        self.dissimilar = nn.ModuleDict({m: _projector(width, half, config.dropout) for m in inputs.widths})
        combined = 2 * len(self.modalities) * half
        self.head = perceptron(combined, 2 * half, half, half // 2, half // 4, 1, activation=nn.GELU)
        self.mono = perceptron(half, half // 2, half // 4, 1, activation=nn.GELU)

    def forward(self, batch: Batch) -> Output:
        sequences = self.inputs(batch)
        means = {m: masked_mean(x, mask) for m, (x, mask) in sequences.items()}
        whole = {m: self.text(means[m]) if m == "T" else self.read[m](*sequences[m]) for m in sequences}
        similar = {m: self.similar[m](x) for m, x in whole.items()}
        dissimilar = {m: self.dissimilar[m](x) for m, x in whole.items()}
        prediction = self.head(torch.cat([*similar.values(), *dissimilar.values()], -1))[:, 0]
        return Output(prediction, similar, dissimilar, torch.cat(list(means.values()), -1).detach())

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Prediction "L_MP", contrast "L_CL", each feature's own prediction "L_UP" (CH-SIMS: of its unimodal label)."""
        label, own = batch.label, batch.unimodal_labels or {}
        single = torch.stack([self.mono(x)[:, 0] for x in (*output.similar.values(), *output.dissimilar.values())])
        targets = [label] * len(self.modalities) + [own.get(m, label) for m in self.modalities]
        like, unlike = partners(output.pooled, self.info.class_of(label))
        c, loss = self.config, self.prediction_loss(output.prediction, label)
        contrast = contrastive_loss(output.similar, output.dissimilar, like, unlike, c.temperature)
        mono = self.prediction_loss(single, torch.stack(targets))
        total = loss + c.contrast * contrast + c.mono * mono
        return {"L_MP": loss, "L_CL": contrast, "L_UP": mono, "total": total}


def partners(pooled: Float[Tensor, "B d"], classes: Int[Tensor, "B"], count: int = PARTNERS) -> tuple[Pairs, Pairs]:
    """Like and unlike utterances of each, by cosine of their mean frames.

    Like: the ``count`` nearest of the same class. Unlike: of the other classes the ``count`` nearest and farthest.
    """
    unit = F.normalize(pooled, dim=-1)
    cosine, same = unit @ unit.T, classes[:, None] == classes
    itself = torch.eye(len(pooled), dtype=torch.bool, device=pooled.device)
    return _top(cosine, same & ~itself, count), _top(cosine, ~same, count) | _top(-cosine, ~same, count)


def _top(score: Float[Tensor, "B B"], among: Pairs, count: int) -> Pairs:
    """True at each row's ``count`` largest scores among the allowed ones, or at all where there are fewer."""
    best = score.masked_fill(~among, float("-inf")).topk(min(count, len(score)), dim=-1).indices
    return torch.zeros_like(among).scatter_(1, best, True) & among


def contrastive_loss(
    similar: Vectors, dissimilar: Vectors, like: Pairs, unlike: Pairs, temperature: float
) -> Float[Tensor, ""]:
    """Mean NT-Xent over all positive pairs; 0 where there are none."""
    unit, other = ({m: F.normalize(x, dim=-1) for m, x in kind.items()} for kind in (similar, dissimilar))
    total, pairs = like.new_zeros((), dtype=torch.float32), 0
    for place, (m, anchor) in enumerate(unit.items()):
        between = anchor @ anchor.T / temperature  # (B, B)
        positive, negative = [between], [between.masked_fill(~unlike, NOTHING)]
        real = [like]
        if place == 0:  # the first modality's similarity feature also meets the utterance's own others
            within = [(anchor * x).sum(-1, keepdim=True) / temperature for n, x in unit.items() if n != m]
            positive += within
            real += [torch.ones_like(like[:, :1])] * len(within)
            negative += [(anchor * x).sum(-1, keepdim=True) / temperature for x in other.values()]
        positive, real = torch.cat(positive, 1), torch.cat(real, 1)
        against = torch.cat(negative, 1).logsumexp(1, keepdim=True)
        losses = F.softplus(against - positive)  # -log(e^p / (e^p + sum e^n))
        total = total + losses.masked_fill(~real, 0).sum()
        pairs = pairs + real.sum()
    return total / pairs.clamp(min=1)


def _projector(width: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out), nn.Tanh(), nn.Dropout(dropout))
