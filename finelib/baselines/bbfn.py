"""BBFN: Bi-Bimodal Fusion Network (Han et al., ICMI 2021), on word-aligned steps.

Text is fused with audio and with video, in two modules of gated Transformers. In each layer both sequences of a pair
attend to each other; two gates, made of the pair's pooled vectors, weigh what is kept and what is new:

    x <- r * x + c * attention(x -> y),   r = sigmoid(W_r [h_x; h_y]),   c = sigmoid(W_c [h_x; h_y])

and a discriminator that must tell h_x from h_y keeps the modalities' feature spaces apart.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Attention, Baseline, BothWays, Convolution, Mask, Settings, aligned, perceptron
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import FastDropout, masked_mean

Frames = Float[Tensor, "B n d"]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the authors' repository (github.com/declare-lab/BBFN, src/main.py).

    Not as there: no dropout of attention weights (0.1), which the fused kernel cannot do.

    Attributes:
        width, heads, layers: of the gated Transformers; the first modality is paired with each other one.
        kernel: of the convolution in front.
        dropout, relu_dropout, output_dropout: after attention and feed-forward; inside the latter; in the output.
        discriminator: weight of the feature-space loss.
    """

    width: int = 40
    heads: int = 5
    layers: int = 5
    kernel: int = 3
    dropout: float = 0.1
    relu_dropout: float = 0.1
    output_dropout: float = 0.0
    discriminator: float = 0.1


TRAIN = dict(batch_size=24, lr=5e-4, weight_decay=0.0, clip=0.8, bucket=True)  # same source, but bucket
FINETUNED = True
DEMO = dict(width=32, heads=4, layers=1)
SPACE = dict(layers=(1, 2, 5), dropout=(0.1, 0.3), output_dropout=(0.0, 0.3), discriminator=(0.01, 0.1))


@dataclass(frozen=True)
class Output:
    """prediction: (B,); belief: per pair and layer, logits (B, 2) that its two vectors are the first modality's."""

    prediction: Float[Tensor, "B"]
    belief: list[Float[Tensor, "B 2"]]


class Gated(nn.Module):
    """One direction of a layer: x attends to y; gates weigh x and what it got; feed-forward."""

    def __init__(self, c: Config):
        super().__init__()
        self.attention = Attention(c.width, c.heads)
        self.retain, self.compound = nn.Linear(2 * c.width, c.width), nn.Linear(2 * c.width, c.width)
        self.norm, self.norm_ff = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        wide, narrow = nn.Linear(c.width, 4 * c.width), nn.Linear(4 * c.width, c.width)
        self.feed_forward = nn.Sequential(wide, nn.ReLU(), FastDropout(c.relu_dropout), narrow)
        self.dropout = FastDropout(c.dropout)

    def forward(self, x: Frames, y: Frames, control: Float[Tensor, "B 2d"], mask: Mask) -> Frames:
        new = self.dropout(self.attention(self.norm(x), self.norm(y), mask))
        retain, compound = torch.sigmoid(self.retain(control)), torch.sigmoid(self.compound(control))  # (B, d)
        x = retain[:, None] * x + compound[:, None] * new
        return x + self.dropout(self.feed_forward(self.norm_ff(x)))


class Pooled(nn.Module):
    """A sequence's vector h: a linear map of its mean in the first layer, a GRU's mean state in later ones."""

    def __init__(self, width: int, first: bool):
        super().__init__()
        self.map = nn.Linear(width, width) if first else None
        self.gru = None if first else BothWays(nn.GRU, width, width)

    def forward(self, x: Frames, mask: Mask) -> Float[Tensor, "B d"]:
        if self.gru is None:
            return self.map(masked_mean(x, mask))
        ahead, back = self.gru(x, mask)[0].chunk(2, -1)
        return masked_mean((ahead + back) / 2, mask)


class Layer(nn.Module):
    """Both directions of a pair, their pooled vectors and the discriminator."""

    def __init__(self, c: Config, first: bool):
        super().__init__()
        self.pool = nn.ModuleList(Pooled(c.width, first) for _ in range(2))
        self.gated = nn.ModuleList(Gated(c) for _ in range(2))
        self.tell = perceptron(c.width, 4 * c.width, 1)

    def forward(self, x: Frames, y: Frames, mask: Mask) -> tuple[Frames, Frames, Float[Tensor, "B 2"]]:
        h = [pool(sequence, mask) for pool, sequence in zip(self.pool, (x, y), strict=True)]  # two of (B, d)
        control = torch.cat(h, -1)
        belief = self.tell(torch.stack(h))[..., 0].T  # (2, B, 1) -> (B, 2)
        return self.gated[0](x, y, control, mask), self.gated[1](y, x, control, mask), belief


class Model(Baseline):
    """Two bimodal fusion modules around one modality, text where there is text.

    Raises:
        ValueError: for a single modality, which has no pair.
    """

    needs = ("T",)
    least = 2

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        first, *others = self.modalities
        if not others:
            raise ValueError(f"BBFN: fuses pairs of modalities, found {first} alone; expected two or three")
        width, kernel, firsts = config.width, config.kernel, [i == 0 for i in range(config.layers)]
        self.convolve = nn.ModuleDict({m: Convolution(d, width, kernel) for m, d in inputs.widths.items()})
        self.pairs = nn.ModuleDict({m: nn.ModuleList(Layer(config, first) for first in firsts) for m in others})
        combined = 2 * len(self.pairs) * width
        self.hidden = perceptron(combined, combined, combined, dropout=config.output_dropout)
        self.head = nn.Linear(combined, 1)

    def forward(self, batch: Batch) -> Output:
        frames, mask = aligned(self.inputs(batch))
        x = {m: self.convolve[m](f, mask) for m, f in frames.items()}
        ends, belief = [], []
        for m, layers in self.pairs.items():
            first, second = x[self.modalities[0]], x[m]
            for layer in layers:
                first, second, told = layer(first, second, mask)
                belief.append(told)
            ends += [first[:, 0], second[:, 0]]  # the first token, [CLS] where a BERT made the features
        end = torch.cat(ends, -1)
        return Output(self.head(end + self.hidden(end))[:, 0], belief)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Prediction loss and the discriminators' "disc", weighted in "total"."""
        belief = torch.stack([x.T for x in output.belief])  # (pairs * layers, 2, B)
        truth = torch.zeros_like(belief)
        truth[:, 0] = 1
        loss = self.prediction_loss(output.prediction, batch.label)
        told = F.binary_cross_entropy_with_logits(belief, truth)
        return {"L_MP": loss, "disc": told, "total": loss + self.config.discriminator * told}
