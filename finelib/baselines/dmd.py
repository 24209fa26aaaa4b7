"""DMD: Decoupled Multimodal Distillation (Li, Wang and Cui, CVPR 2023).

Each modality's frames x_m are split into private frames s_m and common ones c_m, on steps that all modalities share.
Self-attention reads the common frames, MulT's cross-modal attention the private ones; both parts predict together.
Each modality also predicts alone, from c_m (homogeneous) and from what it got of the others (heterogeneous), and a
graph for each of the two kinds distils between modalities: an edge has a learned weight, and a student j is drawn to
a teacher i that gets no gradient.

    e_ji = W [W_p p_j; W_r h_j; W_p p_i; W_r h_i],   w = softmax over edges of e / 8
    distil = sum_ji mean_B (w_ji + prior_ji) |p_j - p_i| + 10 sum_ji (mean_B w_ji - prior_ji)^2
    loss = errors of all eight predictions + 0.05 (distil_homo + distil_hetero)
           + 0.1 sum_m [|x_m - decoded_m|^2 + |s_m - private(decoded_m)|^2] + 0.01 (orthogonality + margin)

The heterogeneous graph also drives the representations h_j and h_i apart. From code: github.com/mdswyz/DMD (dmd.py,
DMD.py, HingeLoss.py, get_distillation_kernel.py).
"""

from dataclasses import dataclass
from itertools import permutations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Convolution, Settings, aligned
from finelib.baselines.mult import Stack
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import FastDropout, StackedLinear, stretches, uniform_parameter

Frames, Vectors = Float[Tensor, "M B L d"], Float[Tensor, "M B _"]
FAR = 1e4  # stands for a cosine that is no candidate: what is compared with it is exactly 0
COMMON_PRIOR = {("V", "T"), ("A", "T")}  # student, teacher
PRIVATE_PRIOR = COMMON_PRIOR | {("A", "V")}


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the authors' repository (config.json) on CMU-MOSI.

    Not as there: cosines are over features, where the code's run over the batch. Every utterance has ``steps`` steps,
    each the mean of its stretch of the real frames (shorter utterances repeat some), so that the maps of all steps see
    no padding. The convolution keeps the number of steps. Batches left over at an epoch's end are used. There is no
    mask of future frames, and no dropout of attention weights (0.3 and 0.2 there), which the fused kernel cannot do.
    As there, edges get gradients, so they can lower the loss by moving to pairs that agree.

    Attributes:
        steps: L.
        width, heads, layers: of the stacks.
        memory_layers: of the self-attention stacks behind the cross-modal ones.
        kernel: of the temporal convolution in front.
        graph: g, width of W_p's and W_r's outputs, of the homogeneous and of the heterogeneous graph.
        distil, disentangle, similar: weights of the graphs; of decoding; of orthogonality and margin within the latter.
        apart: weight of the heterogeneous graph's term on representations.
        text_dropout, embed_dropout, residual_dropout, relu_dropout, output_dropout: on text features, on the stacks'
            inputs, after attention and feed-forward, inside the latter, in the networks behind the stacks.
    """

    steps: int = 50
    width: int = 50
    heads: int = 10
    layers: int = 4
    memory_layers: int = 4
    kernel: int = 5
    graph: tuple[int, int] = (64, 32)
    distil: float = 0.05
    disentangle: float = 0.1
    similar: float = 0.1
    apart: float = 10.0
    text_dropout: float = 0.5
    embed_dropout: float = 0.2
    residual_dropout: float = 0.0
    relu_dropout: float = 0.0
    output_dropout: float = 0.5


# same source, but bucket and clipping by norm; there the rate halves on a plateau
TRAIN = dict(batch_size=16, accumulate=10, lr=1e-4, lr_text=1e-4, weight_decay=0.0, clip=0.6, bucket=True)
FINETUNED = True
DROPOUTS = dict.fromkeys(("text_dropout", "embed_dropout", "output_dropout"), 0.1)
DEMO = dict(steps=12, width=32, heads=4, layers=1, memory_layers=1, **DROPOUTS)
SPACE = dict(layers=(1, 2, 4), text_dropout=(0.2, 0.5), output_dropout=(0.1, 0.5), distil=(0.01, 0.05, 0.1))


@dataclass(frozen=True)
class Output:
    """What the losses read.

    Attributes:
        prediction, common: (B,) of both parts, and of the common part alone.
        homo, hetero: each modality's own predictions, common and private.
        homo_rep, hetero_rep: the representations behind them.
        x, decoded, private, shared, again: convolved frames, decoded frames, s, c, and the private part of the decoded.
        similar: (M, B, d), the vectors of the margin loss.
    """

    prediction: Float[Tensor, "B"]
    common: Float[Tensor, "B"]
    homo: Float[Tensor, "M B"]
    hetero: Float[Tensor, "M B"]
    homo_rep: Vectors
    hetero_rep: Vectors
    x: Frames
    decoded: Frames
    private: Frames
    shared: Frames
    again: Frames
    similar: Vectors


class Residual(nn.Module):
    """S networks side by side: inner = W1 x, outer = x + W2 dropout(relu(inner)), a prediction of outer."""

    def __init__(self, stack: int, width: int, hidden: int, dropout: float):
        super().__init__()
        self.inner, self.outer = StackedLinear(stack, width, hidden), StackedLinear(stack, hidden, width)
        self.out, self.dropout = StackedLinear(stack, width, 1), FastDropout(dropout)

    def forward(self, x: Float[Tensor, "S B i"]) -> tuple[Tensor, Tensor, Float[Tensor, "S B"]]:
        """inner (S, B, h), outer (S, B, i), prediction (S, B)."""
        inner = self.inner(x)
        outer = x + self.outer(self.dropout(torch.relu(inner)))
        return inner, outer, self.out(outer)[..., 0]


class Distillation(nn.Module):
    """A graph over modalities, an edge from each teacher to each student.

    Args:
        width, graph: of a representation; of W_p's and W_r's outputs.
        favoured: (student, teacher) whose edges the prior favours.
    """

    def __init__(self, modalities: tuple[str, ...], width: int, graph: int, favoured: set[tuple[str, str]]):
        super().__init__()
        edges = list(permutations(range(len(modalities)), 2))
        self.predicted, self.represented = nn.Linear(1, graph), nn.Linear(width, graph)
        self.weigh = nn.Linear(4 * graph, 1)
        likely = [float((modalities[j], modalities[i]) in favoured) for j, i in edges]
        self.register_buffer("edges", torch.tensor(edges).T, persistent=False)
        self.register_buffer("prior", (torch.tensor(likely) / 0.25).softmax(0)[:, None])  # (E, 1)

    def forward(self, prediction: Float[Tensor, "M B"], rep: Vectors) -> tuple[Float[Tensor, "E B"], dict[str, Tensor]]:
        """Weights of the edges, and the terms "prediction", "apart" and "prior"."""
        student, teacher = self.edges
        node = torch.cat([self.predicted(prediction[..., None]), self.represented(rep)], -1)  # (M, B, 2g)
        raw = self.weigh(torch.cat([node[student], node[teacher]], -1))[..., 0]  # (E, B)
        weight = (raw / 8).softmax(0)
        gap = (prediction[student] - prediction[teacher].detach()).abs()
        alike = F.cosine_similarity(rep[student], rep[teacher].detach(), dim=-1).relu().mean(1, keepdim=True)
        strength, uneven = weight + self.prior, weight.mean(1, keepdim=True) - self.prior
        terms = {"prediction": (strength * gap).mean(1).sum(), "apart": (strength * alike).mean(1).sum()}
        return weight, terms | {"prior": 10 * uneven.square().sum()}


class Model(Baseline):
    """Private and common frames, their attention, and two graphs of distillation.

    Raises:
        ValueError: for a single modality, which has none to learn from.
    """

    least = 2

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        c, d, names, count = config, config.width, self.modalities, len(self.modalities)
        if count == 1:
            raise ValueError(f"DMD: distils between modalities, found {names[0]} alone; expected two or three")
        self.text_dropout, received = FastDropout(c.text_dropout), (count - 1) * d
        self.convolve = nn.ModuleDict({m: Convolution(width, d, c.kernel) for m, width in inputs.widths.items()})
        self.private, self.shared = uniform_parameter(d, count, 1, d, d), uniform_parameter(d, d, d)
        self.decode = uniform_parameter(2 * d, count, 1, 2 * d, d)
        self.similar = StackedLinear(count, c.steps * d, d)
        self.homo = Residual(count, c.steps * d, d, c.output_dropout)
        self.hetero = Residual(count, received, received, c.output_dropout)
        self.common = Residual(1, count * d, count * d, c.output_dropout)
        self.read = nn.ModuleDict({m: Stack(d, c, c.layers) for m in names})
        self.cross = nn.ModuleDict({m + n: Stack(d, c, c.layers) for m, n in permutations(names, 2)})
        self.memory = nn.ModuleDict({m: Stack(received, c, c.memory_layers) for m in names})
        self.gate, self.gate_common = StackedLinear(count, received, received), nn.Linear(count * d, count * d)
        fused = count * (received + d)
        self.fuse = Residual(1, fused, fused, c.output_dropout)
        self.homo_graph = Distillation(names, d, c.graph[0], COMMON_PRIOR)
        self.hetero_graph = Distillation(names, received, c.graph[1], PRIVATE_PRIOR)

    def forward(self, batch: Batch) -> Output:
        x = self.frames(batch)
        private, shared = x @ self.private, x @ self.shared
        decoded = torch.cat([private, shared], -1) @ self.decode
        flat = shared.flatten(2)  # (M, B, L d)
        homo_rep, _, homo = self.homo(flat)
        common, ends = self.attend(private, shared)
        hetero_rep, hetero = self.hetero(ends)[1:]
        gated = [*torch.sigmoid(self.gate(ends)), torch.sigmoid(self.gate_common(common))]
        prediction, alone = self.fuse(torch.cat(gated, -1)[None])[2][0], self.common(common[None])[2][0]
        frames = x, decoded, private, shared, decoded @ self.private
        return Output(prediction, alone, homo, hetero, homo_rep, hetero_rep, *frames, self.similar(flat))

    def frames(self, batch: Batch) -> Frames:
        """Convolved frames of all modalities on common steps."""
        sequences, mask = aligned(self.inputs(batch))
        all_steps, found = mask.new_ones(len(mask), self.config.steps), []
        for m, x in sequences.items():
            x = stretches(x, mask, self.config.steps)
            found.append(self.convolve[m](self.text_dropout(x) if m == "T" else x, all_steps))
        return torch.stack(found)

    def attend(self, private: Frames, shared: Frames) -> tuple[Float[Tensor, "B c"], Vectors]:
        """The common vector of all modalities, and each one's vector of what it got from the others."""
        mask = torch.ones_like(private[0, ..., 0], dtype=torch.bool)
        own = dict(zip(self.modalities, private, strict=True))
        common = [self.read[m].last(x, mask) for m, x in zip(self.modalities, shared, strict=True)]
        ends = []
        for m, x in own.items():
            seen = [self.cross[m + n](x, keys, mask) for n, keys in own.items() if n != m]
            ends.append(self.memory[m].last(torch.cat(seen, -1), mask))
        return torch.cat(common, -1), torch.stack(ends)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The prediction's error "L_MP", the seven others' "L_UP", DMD's further terms, and their weighted sum."""
        c, label, others = self.config, batch.label, (output.common, *output.homo, *output.hetero)
        loss = self.prediction_loss(output.prediction, label)
        single = sum(self.prediction_loss(p, label) for p in others)
        recon = _squared(output.decoded, output.x)
        cycle = _squared(output.again, output.private)
        apart = orthogonality(output.private, output.shared)
        margin = margin_loss(output.similar.flatten(0, 1), label.repeat(len(self.modalities)))
        homo = self.homo_graph(output.homo, output.homo_rep)[1]
        hetero = self.hetero_graph(output.hetero, output.hetero_rep)[1]
        distil = homo["prediction"] + homo["prior"] + hetero["prediction"] + hetero["prior"] + c.apart * hetero["apart"]
        parts = recon + cycle + c.similar * (apart + margin)
        total = loss + single + c.distil * distil + c.disentangle * parts
        terms = {"L_MP": loss, "L_UP": single, "L_recon": recon, "cycle": cycle, "ort": apart, "margin": margin}
        return terms | {"distil": distil, "total": total}


def _squared(x: Frames, y: Frames) -> Float[Tensor, ""]:
    """Mean squared error of each modality, summed."""
    return (x - y).square().mean((1, 2, 3)).sum()


def orthogonality(private: Frames, shared: Frames) -> Float[Tensor, ""]:
    """Mean positive cosine of a frame's private and common part, summed over modalities."""
    return F.cosine_similarity(private, shared, dim=-1).relu().mean((1, 2)).sum()


def margin_loss(x: Float[Tensor, "N d"], label: Float[Tensor, "N"], slope: float = 0.15) -> Float[Tensor, ""]:
    """Vectors of one label are nearer to each other than to others, by a margin that grows with the labels' distance.

    For an anchor i the mean over positives p (equal label) and negatives n of
    max(0, slope |y_i - y_n| - cos(i, p) + cos(i, n)); then the mean over anchors that have both.
    """
    unit = F.normalize(x, dim=-1)
    cosine, gap = unit @ unit.T, (label[:, None] - label).abs()
    positive, negative = (gap == 0).fill_diagonal_(False), gap != 0
    from_negative = (slope * gap + cosine).masked_fill(~negative, -FAR)
    excess = (from_negative[:, None, :] - cosine.masked_fill(~positive, FAR)[:, :, None]).relu()  # (N, p, n)
    count = positive.sum(1) * negative.sum(1)
    return (excess.sum((1, 2)) / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)
