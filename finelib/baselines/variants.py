"""From a FineConfig to the parts of the model: those of the paper, or the one that Table 6 puts in their place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finelib.config import FineConfig
from finelib.data.corpora import CorpusInfo
from finelib.ftre import FTRE, Features, FTREOutput, MutualInformation, reconstruction_loss
from finelib.layers import mlp, positions, stretches
from finelib.moq import FramesOf, MaskOf, MoQ, MoQOutput

BRANCHES = {"ftre": ("shared", "unique"), "shared": ("shared",), "unique": ("unique",)}
REPLACED = {"none": NoFactorisation, "misa": Misa}
ONE_KIND = ("shared", "unique", "none")  # of task features, where FTRE makes two


def make_encoder(c: FineConfig, frame_widths: dict[str, int], width: int) -> nn.Module:
    """Frames to tokens (Eq. 1) for the modalities of one width d'."""
    if c.encoder == "moq":
        return MoQ(
            frame_widths, width, c.experts, c.queries, c.top_k, c.qformer_layers, c.heads, c.dropout, c.renormalise_gate
        )
    _known("encoder", c.encoder, ("moq", *BODIES))
    return FrameEncoder(frame_widths, width, c.queries, BODIES[c.encoder], c)


def make_factorisation(c: FineConfig, groups: dict[int, tuple[str, ...]]) -> list[nn.Module]:
    """Tokens to task-relevant features (Eq. 6, 9); ``groups`` holds the modalities of each width d'."""
    _known("factorisation", c.factorisation, (*BRANCHES, *REPLACED))
    if c.factorisation in REPLACED:
        return [REPLACED[c.factorisation]({m: width for width, group in groups.items() for m in group}, c.task_width)]
    branches = BRANCHES[c.factorisation]
    return [FTRE(group, width, c.reduction, c.task_width, branches) for width, group in groups.items()]


def make_information(c: FineConfig, info: CorpusInfo, factor_widths: dict[str, int]) -> nn.Module:
    """What the factorisation is trained with: L_MI (Eq. 12) or its replacement."""
    if c.factorisation in REPLACED:
        return REPLACED[c.factorisation].objective()
    return MutualInformation(
        factor_widths,
        c.task_width,
        c.label_width,
        label_center=(info.label_high + info.label_low) / 2,
        label_scale=(info.label_high - info.label_low) / 2,
        critic=c.critic,
        critic_width=c.critic_width,
        critic_layers=c.critic_layers,
        str_negatives=c.str_negatives,
        club_diagonal=c.club_diagonal,
        symmetric=c.symmetric,
        branches=BRANCHES[c.factorisation],
        weights={
            "I_sha": c.weight_sha,
            "I_uni": c.weight_uni,
            "I_str": c.weight_str,
            "I_utr": c.weight_utr,
            "L_recon": c.weight_recon,
        },
    )


def _known(field: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"FINE: {field} is {name!r}, expected one of {', '.join(names)}")


# ------------------------------------------------------------------------------------- in the place of MoQ


class FrameEncoder(nn.Module):
    """Frames (B, T, d_m) -> tokens (B, l, d') of each modality, by a body instead of queries and experts.

    The result has the form of MoQ's, as of a mixture of one expert; nothing is routed.

    Args:
        frame_widths: modality -> d_m.
        width, queries: d', l.
        body: makes the module (frames (B, T, d'), mask (B, T)) -> (B, T, d').
    """

    def __init__(
        self,
        frame_widths: dict[str, int],
        width: int,
        queries: int,
        body: Callable[[int, FineConfig], nn.Module],
        config: FineConfig,
    ):
        super().__init__()
        self.queries = queries
        self.project = nn.ModuleDict({m: nn.Linear(f, width) for m, f in frame_widths.items()})
        self.body = nn.ModuleDict({m: body(width, config) for m in frame_widths})

    def forward(self, frames: FramesOf, mask: MaskOf) -> dict[str, MoQOutput]:
        """Tokens of every modality; an utterance without any real frame gets zeros."""
        out = {}
        for m, project in self.project.items():
            x = self.body[m](project(frames[m]), mask[m])
            out[m] = MoQOutput(stretches(x, mask[m], self.queries), x.new_ones(len(x), 1), None)
        return out


class Linear(nn.Module):
    """w/o MoQ: nothing after the linear map to d' (the paper does not say what stands in for MoQ)."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()

    def forward(self, x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T d"]:
        return x


class MLP(nn.Module):
    """w/o MoQ + MLPs: each frame on its own."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        self.mlp = mlp(width, 4 * width, width)

    def forward(self, x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T d"]:
        return self.mlp(x)


class TransformerBody(nn.Module):
    """w/o MoQ + TE: a masked Transformer encoder as deep and as wide as a Q-Former, with sinusoidal positions."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, config.heads, 4 * width, config.dropout, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.qformer_layers, enable_nested_tensor=False)

    def forward(self, x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T d"]:
        nothing_real = ~mask.any(1, keepdim=True)  # attends to its padding, so that no softmax is empty
        return self.encoder(x + positions(x.shape[1], x.shape[2], x), src_key_padding_mask=~(mask | nothing_real))


class TCN(nn.Module):
    """w/o MoQ + TCN: three residual dilated convolutions over time (dilation 1, 2, 4; kernel 3)."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T d"]:
        x, real = x.transpose(1, 2), mask[:, None]
        for layer in self.layers:
            x = x + self.dropout(F.gelu(layer(x * real)))
        return x.transpose(1, 2)


class LSTM(nn.Module):
    """w/o MoQ + LSTM: bidirectional, d'/2 each way, over the real frames."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T d"]:
        length = mask.sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


BODIES = {"linear": Linear, "mlp": MLP, "te": TransformerBody, "tcn": TCN, "lstm": LSTM}

# ------------------------------------------------------------------------------------ in the place of FTRE


class NoObjective(nn.Module):
    """No L_MI: all its terms are 0."""

    def forward(
        self, features: FTREOutput, label: Float[Tensor, "B"], classes: Int[Tensor, "B"]
    ) -> dict[str, Float[Tensor, ""]]:
        return dict.fromkeys(("L_MI", "critic"), label.new_zeros(()))

    def critic_parameters(self) -> list[nn.Parameter]:
        return []


class NoFactorisation(nn.Module):
    """w/o FTRE: tokens through one linear map to the fusion's width, as the only kind of task features.

    Args:
        token_widths: modality -> d'.
        task_width: width of the fusion.
    """

    objective = NoObjective

    def __init__(self, token_widths: dict[str, int], task_width: int):
        super().__init__()
        self.modalities, self.factor_width = tuple(token_widths), task_width
        self.project = nn.ModuleDict({m: nn.Linear(width, task_width) for m, width in token_widths.items()})

    def forward(self, tokens: Features) -> FTREOutput:
        return FTREOutput(tokens, {}, {}, {m: self.project[m](x) for m, x in tokens.items()}, {}, {})


class MisaObjective(nn.Module):
    """MISA's losses in the place of L_MI: 0.3 difference + 1.0 CMD + 1.0 reconstruction (its weights on CMU-MOSI)."""

    DIFFERENCE, SIMILARITY, RECONSTRUCTION = 0.3, 1.0, 1.0

    def forward(
        self, features: FTREOutput, label: Float[Tensor, "B"], classes: Int[Tensor, "B"]
    ) -> dict[str, Float[Tensor, ""]]:
        shared, private = ({m: x.mean(1) for m, x in kind.items()} for kind in (features.shared, features.unique))
        zero = label.new_zeros(())
        similarity = [central_moment_discrepancy(shared[m], shared[n]) for m, n in combinations(shared, 2)]
        difference = [orthogonality(private[m], shared[m]) for m in shared]
        difference += [orthogonality(private[m], private[n]) for m, n in combinations(private, 2)]
        terms = {
            "cmd": torch.stack(similarity).mean() if similarity else zero,
            "diff": torch.stack(difference).sum(),
            "L_recon": reconstruction_loss(features),
            "critic": zero,
        }
        terms["L_MI"] = (
            self.SIMILARITY * terms["cmd"] + self.DIFFERENCE * terms["diff"] + self.RECONSTRUCTION * terms["L_recon"]
        )
        return terms

    def critic_parameters(self) -> list[nn.Parameter]:
        return []


class Misa(nn.Module):
    """w/o FTRE + MISA (Hazarika et al. 2020): one shared encoder for all modalities, a private one for each.

    Both are one layer with a sigmoid, at the fusion's width; the decoder is linear in shared + private. What MISA
    calls shared and private goes where STR and UTR go.
    """

    objective = MisaObjective

    def __init__(self, token_widths: dict[str, int], task_width: int):
        super().__init__()
        self.modalities, self.factor_width = tuple(token_widths), task_width
        self.project = nn.ModuleDict({m: nn.Linear(width, task_width) for m, width in token_widths.items()})
        self.shared = nn.Sequential(nn.Linear(task_width, task_width), nn.Sigmoid())
        self.private = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(task_width, task_width), nn.Sigmoid()) for m in token_widths}
        )
        self.decoder = nn.ModuleDict({m: nn.Linear(task_width, task_width) for m in token_widths})

    def forward(self, tokens: Features) -> FTREOutput:
        common = {m: self.project[m](x) for m, x in tokens.items()}
        shared = {m: self.shared(x) for m, x in common.items()}
        private = {m: self.private[m](x) for m, x in common.items()}
        decoded = {m: self.decoder[m](shared[m] + private[m]) for m in common}
        return FTREOutput(common, shared, private, shared, private, decoded)


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
