"""MuLOT: multimodal learning by optimal transport (Pramanick, Roy and Patel, WACV 2022), on unaligned frames.

Our own reading: no code was published, and of the paper only abstract and introduction were at hand. They name
self-attention inside each modality, optimal transport between modalities, attention that fuses them. The rest is ours:

    S_m = self-attention block of modality m's frames, mapped to one width
    C_ij = 1 - cos(S_m,i, S_n,j),  P = argmin_P <P, C> - eps H(P),  rows of P sum to 1/len_m, columns to 1/len_n
    Y_mn,i = len_m sum_j P_ij S_n,j                                  (what n sends to frame i of m)
    f_m = mean_i GELU(W_m [S_m,i; Y_mn,i for n != m])
    alpha = softmax_m(w . tanh(V f_m)),   prediction = head(sum_m alpha_m f_m)

P comes from Sinkhorn's iterations on real frames alone; one plan serves both directions of a pair. The layer between
transport and mean is needed: the mean of Y over a modality's frames is the other's mean, whatever P is.
"""

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Mask, Settings, perceptron
from finelib.baselines.mult import Block
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean, positions

SMALLEST = 0.03  # exp(-2 / epsilon) is then still a normal number


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: our choices.

    Attributes:
        width, heads: d and attention heads; every modality has one block.
        epsilon, iterations: weight of the plan's entropy, and how often its sums are set right.
        through: let gradients pass the iterations; otherwise the plan is taken as given.
        transport: weight of the mean transport cost in the loss.
        dropout: in the blocks and in the head.
    """

    width: int = 128
    heads: int = 4
    epsilon: float = 0.1
    iterations: int = 30
    through: bool = True
    transport: float = 0.0
    dropout: float = 0.1
    frames: int = 50


TRAIN = dict(batch_size=32, lr=1e-3, weight_decay=0.01, bucket=True)  # ours
FINETUNED = False
DEMO = dict(width=32, iterations=10, frames=24)
SPACE = dict(width=(64, 128), epsilon=(0.05, 0.1, 0.3), transport=(0.0, 0.1), dropout=(0.1, 0.3))


@dataclass(frozen=True)
class Output:
    """prediction: (B,); cost: <P, C> of each pair of modalities, (pairs, B)."""

    prediction: Float[Tensor, "B"]
    cost: Float[Tensor, "p B"]


def plan(
    cost: Float[Tensor, "B T U"], rows: Mask, columns: Mask, epsilon: float, iterations: int
) -> Float[Tensor, "B T U"]:
    """The entropic transport plan between uniform masses on real frames, by Sinkhorn's iterations.

    Sums over rows are exact, sums over columns as the iterations leave them; 0 on padding, and everywhere for an
    utterance in which either side has no frames. Costs of up to 2 ask for an epsilon of at least ``SMALLEST`` in single
    precision; in return an iteration is two small products.
    """
    kernel = torch.exp(-cost / epsilon)
    mass = [mask[..., None] / mask.sum(1)[:, None, None].clamp(min=1) for mask in (rows, columns)]
    u = rows[..., None].to(cost.dtype)  # padding has no mass and, from here on, no factor
    for _ in range(iterations):
        v = scaled(mass[1], kernel.mT @ u)
        u = scaled(mass[0], kernel @ v)
    return u * kernel * v.mT


def scaled(mass: Float[Tensor, "B T 1"], found: Float[Tensor, "B T 1"]) -> Float[Tensor, "B T 1"]:
    """The factors that give every frame its mass; frames that nothing reaches keep theirs."""
    return mass / found.masked_fill(found == 0, 1)


def distance(x: Float[Tensor, "B T d"], y: Float[Tensor, "B U d"]) -> Float[Tensor, "B T U"]:
    """One minus the cosine of every two frames."""
    return 1 - F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).mT


class Model(Baseline):
    """Frames of each modality beside what the others send them, fused by attention.

    Raises:
        ValueError: for a single modality, which has nothing to transport; for an epsilon too small to compute with.
    """

    least = 2

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        c, count = config, len(inputs.widths)
        if count < 2:
            found = self.modalities[0]
            raise ValueError(f"MuLOT: transports between modalities, found {found} alone; expected two or three")
        if c.epsilon < SMALLEST:
            raise ValueError(f"MuLOT: found epsilon = {c.epsilon}, expected at least {SMALLEST}")
        self.project = nn.ModuleDict({m: nn.Linear(d, c.width) for m, d in inputs.widths.items()})
        self.block = nn.ModuleDict({m: Block(c.width, c.heads, c.dropout) for m in inputs.widths})
        self.meet = nn.ModuleDict({m: nn.Linear(count * c.width, c.width) for m in inputs.widths})
        self.score = perceptron(c.width, c.width, 1, activation=nn.Tanh)
        self.head = perceptron(c.width, c.width, 1, dropout=c.dropout)

    def forward(self, batch: Batch) -> Output:
        mask, states = {}, {}
        for m, (x, mask[m]) in self.inputs(batch).items():
            x = self.project[m](x)
            x = x + positions(x.shape[1], x.shape[2], x)
            states[m] = self.block[m](x, x, mask[m])
        received, cost = self.transported(states, mask)
        fused = []
        for m, x in states.items():
            met = F.gelu(self.meet[m](torch.cat([x, *received[m]], -1)))
            fused.append(masked_mean(met, mask[m]))
        vectors = torch.stack(fused, 1)  # (B, M, d)
        weight = self.score(vectors).softmax(1)
        return Output(self.head((weight * vectors).sum(1))[:, 0], cost)

    def transported(
        self, states: dict[str, Float[Tensor, "B T d"]], mask: dict[str, Mask]
    ) -> tuple[dict[str, list[Float[Tensor, "B T d"]]], Float[Tensor, "p B"]]:
        """What each modality's frames get from each other one, and every pair's transport cost."""
        c, received, costs = self.config, {m: [] for m in states}, []
        for m, n in combinations(states, 2):
            cost = distance(states[m], states[n])
            with torch.set_grad_enabled(c.through and torch.is_grad_enabled()):
                sent = plan(cost, mask[m], mask[n], c.epsilon, c.iterations)
            costs.append((sent * cost).sum((1, 2)))
            received[m].append(sent @ states[n] * mask[m].sum(1)[:, None, None])
            received[n].append(sent.mT @ states[m] * mask[n].sum(1)[:, None, None])
        return received, torch.stack(costs)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Prediction loss and the mean transport cost "L_OT", weighted in "total"."""
        loss, cost = self.prediction_loss(output.prediction, batch.label), output.cost.mean()
        return {"L_MP": loss, "L_OT": cost, "total": loss + self.config.transport * cost}
