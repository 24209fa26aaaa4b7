"""C-MIB: complete Multimodal Information Bottleneck (Mai, Zeng and Hu, IEEE TMM 2022).

Each modality's vector x_m, and the fusion f of what is kept of them, pass a Gaussian bottleneck:

    e = relu(W_e x),   mu = W_mu e,   sd = softplus(W_sd e - 5),   z = mu + sd * eps,   eps ~ N(0, 1)
    f = relu(W_f [z_T; z_A; z_V])
    loss = main |p - y| + sum_m |p_m - y| + beta (KL_f + sum_m KL_m)
    KL = mean over utterances and dimensions of (mu^2 + sd^2 - 2 ln sd - 1) / 2

p_m is a linear map of z_m, p one of the fusion's z. From code: github.com/TmacMai/Multimodal-Information-Bottleneck
(cmib.py, main_mib.py).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Convolution, Settings, at_end
from finelib.baselines.mult import Stack
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs, Sequences
from finelib.layers import masked_mean

Vectors = dict[str, Float[Tensor, "B d"]]


@dataclass(frozen=True)
class SummarySettings(Settings):
    """What ``Summary`` reads.

    Attributes:
        width, heads, layers: of the audio and video Transformers; width is also that of each modality's vector.
        kernel: of the convolution in front.
        text_mean: mean of the real tokens instead of the last one, for features whose tokens do not know each other.
        residual_dropout, relu_dropout, embed_dropout: after attention and feed-forward, inside the latter, on the
            frames.
    """

    width: int = 50
    heads: int = 5
    layers: int = 3
    kernel: int = 3
    text_mean: bool = False
    residual_dropout: float = 0.3
    relu_dropout: float = 0.3
    embed_dropout: float = 0.2


@dataclass(frozen=True)
class Config(SummarySettings):
    """Defaults: the authors' repository (cmib.py) on CMU-MOSI, fusion by concatenation.

    Not as there: the last real frame is read where the code reads the last position, which is padding in a short
    utterance. Padding is masked. z is mu in evaluation, where the code draws it and so predicts at random. There is no
    dropout of attention weights (0.5), which the fused kernel cannot do.

    Attributes:
        hidden: width of e.
        beta: weight of the KL terms.
        main: weight of the fused prediction's error, which the code adds twice.
        unimodal, fused: whether the modalities and the fusion have a bottleneck. The paper's L-MIB has the second
            alone, its E-MIB the first alone; without both nothing is compressed.
    """

    hidden: int = 1024
    beta: float = 1e-3
    main: float = 2.0
    unimodal: bool = True
    fused: bool = True


TRAIN = dict(batch_size=32, lr=2e-5, lr_text=1e-5, weight_decay=0.0, bucket=True)  # same source, but bucket
FINETUNED = True
DROPOUTS = dict.fromkeys(("residual_dropout", "relu_dropout", "embed_dropout"), 0.1)
DEMO = dict(width=32, heads=4, layers=1, hidden=128, text_mean=True, frames=24, **DROPOUTS)
SPACE = dict(beta=(1e-5, 1e-4, 1e-3, 1e-2), layers=(1, 3), residual_dropout=(0.1, 0.3), text_mean=(False, True))


@dataclass(frozen=True)
class Gaussian:
    """mean, sd: (B, d) of a diagonal Gaussian per utterance."""

    mean: Float[Tensor, "B d"]
    sd: Float[Tensor, "B d"]


@dataclass(frozen=True)
class Output:
    """prediction: (B,); unimodal: modality -> (B,); bottleneck: modality or "M" (fused) -> Gaussian."""

    prediction: Float[Tensor, "B"]
    unimodal: dict[str, Float[Tensor, "B"]]
    bottleneck: dict[str, Gaussian]


class Summary(nn.Module):
    """One vector for each modality: a convolution, for audio and video a Transformer, and the last real frame."""

    def __init__(self, inputs: Inputs, c: SummarySettings):
        super().__init__()
        self.text_mean = c.text_mean
        self.convolve = nn.ModuleDict({m: Convolution(d, c.width, c.kernel) for m, d in inputs.widths.items()})
        self.read = nn.ModuleDict({m: Stack(c.width, c, c.layers) for m in inputs.widths if m != "T"})

    def forward(self, sequences: Sequences) -> Vectors:
        """Modality -> (B, width)."""
        vectors = {}
        for m, (x, mask) in sequences.items():
            x = self.convolve[m](x, mask)
            if m == "T":
                vectors[m] = masked_mean(x, mask) if self.text_mean else at_end(x, mask)
            else:
                vectors[m] = self.read[m].last(x, mask)
        return vectors


class Bottleneck(nn.Module):
    """A Gaussian of each vector; a draw from it in training, its mean in evaluation."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.hidden, self.mean, self.spread = (
            nn.Linear(width, hidden),
            nn.Linear(hidden, width),
            nn.Linear(hidden, width),
        )

    def forward(self, x: Float[Tensor, "B d"]) -> tuple[Float[Tensor, "B d"], Gaussian]:
        hidden = torch.relu(self.hidden(x))
        mean, sd = self.mean(hidden), F.softplus(self.spread(hidden) - 5)
        return mean + sd * torch.randn_like(sd) if self.training else mean, Gaussian(mean, sd)


class Model(Baseline):
    """A bottleneck for each modality and one for their fusion."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        width, squeezed = config.width, list(self.modalities) if config.unimodal else []
        self.summary = Summary(inputs, config)
        self.single = nn.ModuleDict({m: nn.Linear(width, 1) for m in squeezed})
        squeezed += ["M"] if config.fused else []
        self.squeeze = nn.ModuleDict({name: Bottleneck(width, config.hidden) for name in squeezed})
        self.fuse, self.head = nn.Linear(len(self.modalities) * width, width), nn.Linear(width, 1)

    def forward(self, batch: Batch) -> Output:
        vectors, bottleneck = self.summary(self.inputs(batch)), {}
        for m in self.single:
            vectors[m], bottleneck[m] = self.squeeze[m](vectors[m])
        fused = torch.relu(self.fuse(torch.cat(list(vectors.values()), -1)))
        if "M" in self.squeeze:
            fused, bottleneck["M"] = self.squeeze["M"](fused)
        single = {m: head(vectors[m])[:, 0] for m, head in self.single.items()}
        return Output(self.head(fused)[:, 0], single, bottleneck)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The fused error "L_MP", the modalities' errors "L_UP", the bottlenecks' "KL", and their weighted sum."""
        c, nothing = self.config, batch.label.new_zeros(())
        loss = self.prediction_loss(output.prediction, batch.label)
        single = sum((self.prediction_loss(p, batch.label) for p in output.unimodal.values()), nothing)
        kl = sum((divergence(gaussian) for gaussian in output.bottleneck.values()), nothing)
        return {"L_MP": loss, "L_UP": single, "KL": kl, "total": c.main * loss + single + c.beta * kl}


def divergence(gaussian: Gaussian) -> Float[Tensor, ""]:
    """KL(N(mean, sd) || N(0, 1)), averaged over utterances and dimensions, in nats."""
    mean, sd = gaussian.mean, gaussian.sd
    return (mean.square() + sd.square() - 2 * sd.log() - 1).mean() / 2
