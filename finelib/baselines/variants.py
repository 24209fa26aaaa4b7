"""FINE without a part: what Table 6 puts in the place of the Mixture of Q-Formers and of the factorised encoder.

Each variant is a subclass of FINE that overrides one method. ``VARIANTS`` names it by its row in Table 6; a run asks
for one by ``VariantConfig(variant=ROW)``.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from finelib.baselines.common import Mask
from finelib.baselines.misa import Factorisation, difference, similarity
from finelib.config import FineConfig
from finelib.fine import FINE
from finelib.ftre import FTRE, Features, FTREOutput, reconstruction_loss
from finelib.layers import mlp, positions, stretches
from finelib.moq import FramesOf, MaskOf, MoQOutput

Terms = dict[str, Float[Tensor, ""]]

# ------------- in the place of MoQ; a frame body maps (x (B, T, d'), mask (B, T)) -> (B, T, d')


class SameFrames(nn.Module):
    """w/o MoQ: nothing after the linear map to d' (the paper does not say what stands in for MoQ)."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B T d"]:
        return x


class FrameMLP(nn.Module):
    """w/o MoQ + MLPs: each frame on its own."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        self.mlp = mlp(width, 4 * width, width)

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B T d"]:
        return self.mlp(x)


class FrameTransformer(nn.Module):
    """w/o MoQ + TE: a masked Transformer encoder as deep and as wide as a Q-Former, with sinusoidal positions."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        settings = {"dropout": config.dropout, "activation": "gelu", "batch_first": True}
        layer = nn.TransformerEncoderLayer(width, config.heads, 4 * width, **settings)
        self.encoder = nn.TransformerEncoder(layer, config.qformer_layers, enable_nested_tensor=False)

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B T d"]:
        nothing_real = ~mask.any(1, keepdim=True)  # attends to its padding, so that no softmax is empty
        return self.encoder(x + positions(x.shape[1], x.shape[2], x), src_key_padding_mask=~(mask | nothing_real))


class FrameTCN(nn.Module):
    """w/o MoQ + TCN: three residual dilated convolutions over time (dilation 1, 2, 4; kernel 3)."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B T d"]:
        x, real = x.transpose(1, 2), mask[:, None]  # (B, d', T), (B, 1, T)
        for layer in self.layers:
            x = x + self.dropout(F.gelu(layer(x * real)))
        return x.transpose(1, 2)


class FrameLSTM(nn.Module):
    """w/o MoQ + LSTM: bidirectional, d'/2 each way, over the real frames."""

    def __init__(self, width: int, config: FineConfig):
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Float[Tensor, "B T d"], mask: Mask) -> Float[Tensor, "B T d"]:
        length = mask.sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class FrameEncoder(nn.Module):
    """Frames (B, T, d_m) -> tokens (B, l, d') of each modality, by a body instead of queries and experts.

    A linear map to the width d', the body, and the mean over l equal stretches of an utterance's real frames, so that
    what follows gets l tokens as it does from a Mixture of Q-Formers. Nothing is routed.
    """

    def __init__(
        self, frame_widths: dict[str, int], token_widths: dict[str, int], body: type[nn.Module], config: FineConfig
    ):
        super().__init__()
        self.queries = config.queries
        self.project = nn.ModuleDict({m: nn.Linear(f, token_widths[m]) for m, f in frame_widths.items()})
        self.body = nn.ModuleDict({m: body(token_widths[m], config) for m in frame_widths})

    def forward(self, frames: FramesOf, mask: MaskOf) -> dict[str, MoQOutput]:
        """Tokens of every modality; an utterance without any real frame gets zeros."""
        found = {}
        for m, project in self.project.items():
            x = self.body[m](project(frames[m]), mask[m])  # (B, T, d')
            tokens = stretches(x, mask[m], self.queries)  # (B, l, d')
            found[m] = MoQOutput(tokens, router=x.new_ones(len(x), 1), gate=None)
        return found


BODIES: dict[str, type[nn.Module]] = {
    "w/o MoQ": SameFrames,
    "w/o MoQ + TE": FrameTransformer,
    "w/o MoQ + TCN": FrameTCN,
    "w/o MoQ + LSTM": FrameLSTM,
    "w/o MoQ + MLPs": FrameMLP,
}


class WithoutMoQ(FINE):
    """A row of ``BODIES``: a linear map, its body and means over stretches read the frames."""

    def make_moq(self, frame_widths: dict[str, int], token_widths: dict[str, int]) -> nn.Module:
        return FrameEncoder(frame_widths, token_widths, BODIES[self.config.variant], self.config)


# ------------------------------------------------------------------------------------ in the place of FTRE


class NoObjective(nn.Module):
    """No L_MI: all its terms are 0."""

    def forward(self, features: FTREOutput, label: Float[Tensor, "B"], classes: Int[Tensor, "B"]) -> Terms:
        return dict.fromkeys(("L_MI", "critic"), label.new_zeros(()))

    def critic_parameters(self) -> list[nn.Parameter]:
        return []


class NoFactorisation(nn.Module):
    """w/o FTRE: tokens through one linear map to the fusion's width, as the only kind of task features."""

    kinds = 1

    def __init__(self, token_widths: dict[str, int], task_width: int):
        super().__init__()
        self.project = nn.ModuleDict({m: nn.Linear(width, task_width) for m, width in token_widths.items()})

    def objective(self, config: FineConfig, label_low: float, label_high: float) -> nn.Module:
        return NoObjective()

    def forward(self, tokens: Features) -> FTREOutput:
        task = {m: self.project[m](x) for m, x in tokens.items()}
        return FTREOutput(tokens, shared={}, unique={}, str_=task, utr={}, reconstruction={})


class MisaObjective(NoObjective):
    """MISA's losses in the place of L_MI: 1.0 CMD + 0.3 difference + 1.0 reconstruction (its weights on CMU-MOSI)."""

    SIMILARITY, DIFFERENCE, RECONSTRUCTION = 1.0, 0.3, 1.0

    def forward(self, features: FTREOutput, label: Float[Tensor, "B"], classes: Int[Tensor, "B"]) -> Terms:
        shared = {m: x.mean(1) for m, x in features.shared.items()}  # each (B, w)
        private = {m: x.mean(1) for m, x in features.unique.items()}
        cmd, diff = similarity(shared), difference(shared, private)
        recon = reconstruction_loss(features)
        total = self.SIMILARITY * cmd + self.DIFFERENCE * diff + self.RECONSTRUCTION * recon
        return {"cmd": cmd, "diff": diff, "L_recon": recon, "critic": label.new_zeros(()), "L_MI": total}


class MisaFactorisation(nn.Module):
    """MISA's factorisation (Hazarika et al. 2020): one shared encoder for all modalities, a private one for each.

    Both are one layer with a sigmoid, at the fusion's width; the decoder is linear in shared + private. What MISA
    calls shared and private goes where STR and UTR go.
    """

    kinds = 2

    def __init__(self, token_widths: dict[str, int], task_width: int):
        super().__init__()
        self.project = nn.ModuleDict({m: nn.Linear(width, task_width) for m, width in token_widths.items()})
        self.factorise = Factorisation(token_widths, task_width)

    def objective(self, config: FineConfig, label_low: float, label_high: float) -> nn.Module:
        return MisaObjective()

    def forward(self, tokens: Features) -> FTREOutput:
        common = {m: self.project[m](x) for m, x in tokens.items()}  # each (B, l, w)
        shared, private, decoded = self.factorise(common)
        return FTREOutput(common, shared, private, str_=shared, utr=private, reconstruction=decoded)


FACTORISATIONS = {"w/o FTRE": NoFactorisation, "w/o FTRE + MISA": MisaFactorisation}
BRANCHES = {"shared branch only": ("shared",), "unique branch only": ("unique",)}


class WithoutFTRE(FINE):
    """A row of ``FACTORISATIONS``."""

    def make_ftre(self, token_widths: dict[str, int]) -> nn.Module:
        return FACTORISATIONS[self.config.variant](token_widths, self.config.task_width)


class OneBranch(FINE):
    """A row of ``BRANCHES``: one encoder, shared or unique, and its task-relevant features, STR or UTR."""

    def make_ftre(self, token_widths: dict[str, int]) -> nn.Module:
        return FTRE(token_widths, self.config, BRANCHES[self.config.variant])


ROWS_OF = {WithoutMoQ: BODIES, WithoutFTRE: FACTORISATIONS, OneBranch: BRANCHES}
VARIANTS: dict[str, type[FINE]] = {row: variant for variant, rows in ROWS_OF.items() for row in rows}


@dataclass(frozen=True)
class VariantConfig(FineConfig):
    """FINE's settings, for the one of ``VARIANTS`` that is named.

    Raises:
        ValueError: there is none of that name.
    """

    variant: str = ""

    def __post_init__(self):
        if self.variant not in VARIANTS:
            raise ValueError(f"variant {self.variant!r}: unknown, expected one of {', '.join(VARIANTS)}")
