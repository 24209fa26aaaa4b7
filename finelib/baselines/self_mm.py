"""Self-MM: self-supervised unimodal labels (Yu et al., AAAI 2021).

A fused head and a head per modality. The unimodal heads learn labels that the model makes for itself: a modality's
label differs from the multimodal one as its features lie nearer to the positive or negative centre than the fused
features do (Unimodal Label Generation Module, from the second epoch on):

    alpha_s = (d_s^n - d_s^p) / (d_s^p + eps)          d: distance to the centre of negative, positive utterances
    y_s     = (y_m alpha_s / alpha_m + y_m + alpha_s - alpha_m) / 2
    y_s^(i) = (i - 1) / (i + 1) y_s^(i-1) + 2 / (i + 1) y_s                       in epoch i
    loss    = |p_m - y_m| + sum_s tanh|y_s - y_m| |p_s - y_s|
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from finelib.baselines.common import Baseline, LastState, Settings, perceptron
from finelib.data.features import MODALITIES, Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean

EPSILON = 1e-6
Labels, Centre = Float[Tensor, "B"], Float[Tensor, "d"]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: MMSA 2.2.1 (by Self-MM's authors), config_regression.json, self_mm on CMU-MOSI.

    Text is averaged over its tokens, which is defined for every kind of text feature, instead of BERT's [CLS].

    Attributes:
        lstm, encoded: width of the audio and video LSTMs and of what is made of their last state (T is not used).
        post, post_fusion: width of each unimodal task's layers for T, A, V; of the multimodal task's.
        dropout: before the unimodal layers, for T, A, V.

    Self-MM's loss is defined with absolute errors: ``loss`` is not read.
    """

    lstm: tuple[int, int, int] = (0, 16, 32)
    encoded: tuple[int, int, int] = (0, 16, 32)
    post: tuple[int, int, int] = (32, 16, 32)
    post_fusion: int = 128
    dropout: tuple[float, float, float] = (0.1, 0.1, 0.0)


# same source, but bucket; there audio and video learn at 5e-3
TRAIN = dict(batch_size=16, lr=1e-3, weight_decay=0.001, bucket=True)
FINETUNED = True
DEMO = dict(frames=24)
POSTS, DROPOUTS = ((32, 16, 32), (64, 16, 32)), ((0.1, 0.1, 0.0), (0.3, 0.1, 0.1))
SPACE = dict(post_fusion=(32, 64, 128), post=POSTS, dropout=DROPOUTS)


@dataclass(frozen=True)
class Output:
    """prediction: (B,); unimodal: modality -> (B,); features: modality or "M" (fused) -> (B, d_s)."""

    prediction: Float[Tensor, "B"]
    unimodal: dict[str, Float[Tensor, "B"]]
    features: dict[str, Float[Tensor, "B d"]]


class Model(Baseline):
    """Fused and unimodal heads, with a memory of every training utterance's features and unimodal labels."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        lstm, out, post = (dict(zip(MODALITIES, c, strict=True)) for c in (config.lstm, config.encoded, config.post))
        widths = inputs.widths
        self.read = nn.ModuleDict({m: LastState(d, lstm[m], out[m]) for m, d in widths.items() if m != "T"})
        encoded = {m: d if m == "T" else out[m] for m, d in widths.items()}
        tasks = {"M": (sum(encoded.values()), config.post_fusion, 0.0)}
        tasks |= {m: (encoded[m], post[m], config.dropout[MODALITIES.index(m)]) for m in widths}
        layers = {s: [nn.Dropout(drop), nn.Linear(d, width), nn.ReLU()] for s, (d, width, drop) in tasks.items()}
        self.feature = nn.ModuleDict({s: nn.Sequential(*own) for s, own in layers.items()})
        self.head = nn.ModuleDict({s: perceptron(width, width, 1) for s, (_, width, _) in tasks.items()})
        self.size = len(corpus.splits["train"])
        self.middle = (self.info.label_high + self.info.label_low) / 2  # where positive begins
        self.memory = nn.ModuleDict({s: Memory(self.size, width) for s, (_, width, _) in tasks.items()})
        self.register_buffer("met", torch.zeros((), dtype=torch.long))  # utterances trained on so far

    def forward(self, batch: Batch) -> Output:
        encoded = {}
        for m, (x, mask) in self.inputs(batch).items():
            encoded[m] = masked_mean(x, mask) if m == "T" else self.read[m](x, mask)
        tasks = {"M": torch.cat(list(encoded.values()), -1), **encoded}
        features = {s: self.feature[s](x) for s, x in tasks.items()}
        predicted = {s: self.head[s](x)[:, 0] for s, x in features.items()}
        return Output(predicted.pop("M"), predicted, features)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Multimodal error "L_MP" and weighted unimodal errors "L_UP"; training then updates the unimodal labels."""
        label, middle = batch.label, self.middle
        multimodal = (output.prediction - label).abs().mean()
        errors = [label.new_zeros(())]
        for m, predicted in output.unimodal.items():
            own = self.memory[m].labels_of(batch.index, label - middle) + middle if self.training else label
            errors.append((torch.tanh((own - label).abs()) * (predicted - own).abs()).mean())
        if self.training:
            self.remember(output, batch)
        unimodal = torch.stack(errors).sum()
        return {"L_MP": multimodal, "L_UP": unimodal, "total": multimodal + unimodal}

    @torch.no_grad()
    def remember(self, output: Output, batch: Batch) -> None:
        """Update the unimodal labels of a batch, then the features that the centres are made of."""
        index, label = batch.index, batch.label - self.middle
        limit = (self.info.label_high - self.info.label_low) / 2
        epoch = self.met // self.size + 1
        fused = relative_distance(output.features["M"], *self.memory["M"].centres())
        for m in output.unimodal:
            alpha = relative_distance(output.features[m], *self.memory[m].centres())
            new = generated_label(label, alpha, fused).clamp(-limit, limit)
            before = self.memory[m].labels_of(index, label)
            self.memory[m].label[index] = torch.where(epoch > 1, momentum(before, new, epoch), before)
        self.memory["M"].label[index] = label
        for s, features in output.features.items():
            self.memory[s].features[index] = features
            self.memory[s].met.index_fill_(0, index, True)  # a scalar that is assigned makes a GPU wait
        self.met += len(batch)


class Memory(nn.Module):
    """Features and label of every training utterance for one task; labels are relative to the middle of the scale."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.register_buffer("features", torch.zeros(size, width))
        self.register_buffer("label", torch.zeros(size))
        self.register_buffer("met", torch.zeros(size, dtype=torch.bool))

    def labels_of(self, index: Int[Tensor, "B"], label: Labels) -> Labels:
        """Own labels of utterances; of one not met before, its multimodal label."""
        return torch.where(self.met[index], self.label[index], label)

    def centres(self) -> tuple[Centre, Centre]:
        """Mean features of utterances with a positive and with a negative label; a label of 0 counts for neither."""
        return self._mean(self.met & (self.label > 0)), self._mean(self.met & (self.label < 0))

    def _mean(self, rows: Tensor) -> Centre:
        weight = rows.to(self.features.dtype)
        return weight @ self.features / weight.sum().clamp(min=1)


def relative_distance(x: Float[Tensor, "B d"], positive: Centre, negative: Centre) -> Float[Tensor, "B"]:
    """alpha: how much nearer to the positive than to the negative centre, relative to the former."""
    to_positive, to_negative = ((x - centre).norm(dim=-1) for centre in (positive, negative))
    return (to_negative - to_positive) / (to_positive + EPSILON)


def generated_label(label: Labels, alpha: Float[Tensor, "B"], fused: Float[Tensor, "B"]) -> Labels:
    """y_s of a modality; relative distances ``alpha`` of its own and ``fused`` of the fused features."""
    return (label * alpha / (fused + EPSILON) + label + alpha - fused) / 2


def momentum(before: Labels, new: Labels, epoch: Int[Tensor, ""] | int) -> Labels:
    """Labels of epoch i from those of the epoch before: later epochs change them less."""
    return (epoch - 1) / (epoch + 1) * before + 2 / (epoch + 1) * new
