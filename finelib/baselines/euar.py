"""EUAR: Enhanced experts with Uncertainty-Aware Routing (Gao et al., ACM MM 2024).

Each modality's vector x passes a mixture of experts, each of which gives a Gaussian:

    mu_e = A_e x,   v_e = B_e x (log variance),   z_e = mu_e + exp(v_e / 2) * eps,   p = softmax(W x)
    g_e = p_e / sum of the k largest p, for those k experts, else 0;   output = sum_e g_e z_e
    loss = error |p - y| + weight * sum_m (balance + mean_e KL_e + uncertainty)

balance makes routing even, KL_e holds each Gaussian near N(0, 1), and uncertainty = mean_B sum_e g_e sum_d exp(v_e)
pays the router for experts that are certain. From partial code: github.com/ZixianGao/EUAR (EUAR.py, MoE.py).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from finelib.baselines.c_mib import DROPOUTS, Summary, SummarySettings
from finelib.baselines.common import Baseline
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs


@dataclass(frozen=True)
class Config(SummarySettings):
    """Defaults: the authors' repository on CMU-MOSI.

    Not as there: gates are normalised over an utterance's experts. The code normalises them over the batch, so that a
    prediction depends on the other utterances of its batch, at test too. z is drawn in training and is mu in
    evaluation: the code draws it, with the log variance as standard deviation, and does not use it. The last real
    frame is read where the code reads the last position, which may be padding. Padding is masked. There is no dropout
    of attention weights (0.5), which the fused kernel cannot do. The epoch is chosen on dev, not on test.

    Attributes:
        experts, top_k: experts of each modality; how many of them an utterance uses.
        sample: draw z in training.
        error, weight: weights of the prediction's error and of the routers' terms.
    """

    width: int = 72
    heads: int = 4
    experts: int = 4
    top_k: int = 3
    sample: bool = True
    error: float = 10.0
    weight: float = 1e-5


TRAIN = dict(batch_size=32, lr=2e-5, lr_text=1e-5, weight_decay=0.0, bucket=True)  # same source, but bucket
FINETUNED = True
DEMO = dict(width=32, layers=1, text_mean=True, frames=24, **DROPOUTS)
SPACE = dict(experts=(4, 8), weight=(1e-5, 1e-4, 1e-3), layers=(1, 3), text_mean=(False, True))


@dataclass(frozen=True)
class Routed:
    """What a mixture of E experts made of a batch.

    Attributes:
        output: (B, d).
        probability, gate: the router's p and g.
        kept: True at the k experts that an utterance uses.
        mean, log_variance: of each expert's Gaussian.
    """

    output: Float[Tensor, "B d"]
    probability: Float[Tensor, "B E"]
    gate: Float[Tensor, "B E"]
    kept: Bool[Tensor, "B E"]
    mean: Float[Tensor, "B E d"]
    log_variance: Float[Tensor, "B E d"]


@dataclass(frozen=True)
class Output:
    """prediction: (B,); routed: modality -> Routed."""

    prediction: Float[Tensor, "B"]
    routed: dict[str, Routed]


class Experts(nn.Module):
    """Gaussian experts and their router; all experts are one product."""

    def __init__(self, c: Config):
        super().__init__()
        self.experts, self.top_k, self.sample = c.experts, c.top_k, c.sample
        self.route, self.gaussian = nn.Linear(c.width, c.experts), nn.Linear(c.width, 2 * c.experts * c.width)

    def forward(self, x: Float[Tensor, "B d"]) -> Routed:
        probability = self.route(x).softmax(-1)
        best = probability.topk(self.top_k, dim=-1).indices
        kept = torch.zeros_like(probability, dtype=torch.bool).scatter(1, best, True)
        gate = probability * kept
        gate = gate / gate.sum(-1, keepdim=True)
        mean, log_variance = self.gaussian(x).unflatten(-1, (2, self.experts, -1)).unbind(1)  # (B, E, d)
        z = mean
        if self.training and self.sample:
            z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return Routed((gate[:, None] @ z)[:, 0], probability, gate, kept, mean, log_variance)


class Model(Baseline):
    """A mixture of experts for each modality, and a network on what they give."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.summary = Summary(inputs, config)
        self.experts = nn.ModuleDict({m: Experts(config) for m in self.modalities})
        self.head = _head(len(self.modalities) * config.width, config.width, 128, 256, 128)

    def forward(self, batch: Batch) -> Output:
        routed = {m: self.experts[m](x) for m, x in self.summary(self.inputs(batch)).items()}
        return Output(self.head(torch.cat([r.output for r in routed.values()], -1))[:, 0], routed)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The prediction's error "L_MP", the routers' three terms summed over modalities, and the weighted sum."""
        c, routed = self.config, list(output.routed.values())
        loss = self.prediction_loss(output.prediction, batch.label)
        even = sum(balance(r.probability, r.kept) for r in routed)
        kl = sum(divergence(r.mean, r.log_variance) for r in routed)
        unsure = sum(uncertainty(r.gate, r.log_variance) for r in routed)
        total = c.error * loss + c.weight * (even + kl + unsure)
        return {"L_MP": loss, "balance": even, "KL": kl, "uncertainty": unsure, "total": total}


def balance(probability: Float[Tensor, "B E"], kept: Bool[Tensor, "B E"]) -> Float[Tensor, ""]:
    """E sum_e (share of utterances that use e) (mean p_e): k where all experts are used alike, more elsewhere."""
    share = kept.to(probability.dtype).mean(0)
    return probability.shape[1] * (share * probability.mean(0)).sum()


def divergence(mean: Float[Tensor, "B E d"], log_variance: Float[Tensor, "B E d"]) -> Float[Tensor, ""]:
    """KL of each Gaussian from N(0, 1) in nats, summed over dimensions, averaged over utterances and experts."""
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(-1).mean() / 2


def uncertainty(gate: Float[Tensor, "B E"], log_variance: Float[Tensor, "B E d"]) -> Float[Tensor, ""]:
    """Total variance of the experts, weighed by their gates, averaged over utterances."""
    return (gate * log_variance.exp().sum(-1)).sum(-1).mean()


def _head(*widths: int) -> nn.Sequential:
    """Linear, layer norm, ReLU from width to width, then one output; Kaiming's normal weights, no bias at first."""
    layers: list[nn.Module] = []
    for width_in, width_out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(width_in, width_out), nn.LayerNorm(width_out), nn.ReLU()]
    layers.append(nn.Linear(widths[-1], 1))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
