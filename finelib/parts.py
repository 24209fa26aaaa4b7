"""From a FineConfig to the parts of the model: those of the paper, or the one that Table 6 puts in their place."""

from __future__ import annotations

from torch import nn

from finelib import variants
from finelib.config import FineConfig
from finelib.data.corpora import CorpusInfo
from finelib.ftre import FTRE, MutualInformation
from finelib.moq import MoQ

BRANCHES = {"ftre": ("shared", "unique"), "shared": ("shared",), "unique": ("unique",)}
REPLACED = {"none": variants.NoFactorisation, "misa": variants.Misa}
ONE_KIND = ("shared", "unique", "none")  # of task features, where FTRE makes two


def make_encoder(c: FineConfig, frame_widths: dict[str, int], width: int) -> nn.Module:
    """Frames to tokens (Eq. 1) for the modalities of one width d'."""
    if c.encoder == "moq":
        return MoQ(frame_widths, width, c.experts, c.queries, c.top_k, c.qformer_layers, c.heads, c.dropout,
                   c.renormalise_gate)  # fmt: skip
    _known("encoder", c.encoder, ("moq", *variants.BODIES))
    return variants.FrameEncoder(frame_widths, width, c.queries, variants.BODIES[c.encoder], c)


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
        factor_widths, c.task_width, c.label_width,
        label_center=(info.label_high + info.label_low) / 2, label_scale=(info.label_high - info.label_low) / 2,
        critic=c.critic, critic_width=c.critic_width, critic_layers=c.critic_layers, str_negatives=c.str_negatives,
        club_diagonal=c.club_diagonal, symmetric=c.symmetric, branches=BRANCHES[c.factorisation],
        weights={"I_sha": c.weight_sha, "I_uni": c.weight_uni, "I_str": c.weight_str, "I_utr": c.weight_utr,
                 "recon": c.weight_recon},
    )  # fmt: skip


def _known(field: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"FINE: {field} is {name!r}, expected one of {', '.join(names)}")
