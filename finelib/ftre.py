"""Factorized Task-Relevant Encoder (Eq. 6-12): shared and unique, then task-relevant, features.

The encoders make the features (``FTRE.forward``, no labels). ``MutualInformation`` holds what only training
needs: critics, label encoders and the terms of L_MI.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finelib.layers import mlp, stacked_mlp
from finelib.mutual_information import CRITICS, frozen, info_nce, nce_club

Features = dict[str, Float[Tensor, "B l d"]]
TERMS = ("I_sha", "I_uni", "I_str", "I_utr", "L_recon")


@dataclass(frozen=True)
class FTREOutput:
    """The features of each modality, all (B, l, width); a kind that a variant does without is empty.

    tokens: input x^_m; shared x^s, unique x^u (Eq. 6); str_ x^str, utr x^utr (Eq. 9); reconstruction of tokens.
    """

    tokens: Features
    shared: Features
    unique: Features
    str_: Features
    utr: Features
    reconstruction: Features

    @property
    def task(self) -> list[Features]:
        """The kinds of task-relevant features there are: STR and UTR."""
        return [kind for kind in (self.str_, self.utr) if kind]


class FTRE(nn.Module):
    """Token-wise MLPs: shared and unique encoder (Eq. 6), decoder, STR and UTR encoder (Eq. 9).

    For the modalities that share a width; their encoders have weights of their own and run side by side.

    Args:
        modalities: names, in the order in which the tokens come.
        width: d'.
        reduction: width of shared and of unique features as a share of d'.
        task_width: width of STR and of UTR features.
        branches: ("shared", "unique"), or one of them: Table 6's variants that keep a single branch.
    """

    def __init__(
        self,
        modalities: tuple[str, ...],
        width: int,
        reduction: float = 0.5,
        task_width: int = 128,
        branches: tuple[str, ...] = ("shared", "unique"),
    ):
        super().__init__()
        self.modalities, self.branches, stack = modalities, branches, len(modalities)
        self.factor_width = factor = max(1, int(width * reduction))
        # shared and unique encoders have one shape, so both run as one stack: S_1 .. S_M, U_1 .. U_M
        self.factorise = stacked_mlp(len(branches) * stack, width, width, factor)
        self.decoder = stacked_mlp(stack, len(branches) * factor, width, width)
        self.task = stacked_mlp(len(branches) * stack, factor, task_width, task_width)

    def forward(self, tokens: Features) -> FTREOutput:
        """Factorise each modality's tokens (B, l, d')."""
        stacked = torch.stack([tokens[m].flatten(0, 1) for m in self.modalities])  # (M, B*l, d')
        factors = self.factorise(stacked.repeat(len(self.branches), 1, 1))
        branches = factors.chunk(len(self.branches))
        task = self.task(factors).chunk(len(self.branches))
        reconstruction = self.decoder(torch.cat(branches, -1))
        size = next(iter(tokens.values())).shape[:2]

        def by_modality(stack: Float[Tensor, "M n w"]) -> Features:
            return dict(zip(self.modalities, stack.unflatten(1, size), strict=True))

        factor_of = {name: by_modality(x) for name, x in zip(self.branches, branches, strict=True)}
        task_of = {name: by_modality(x) for name, x in zip(self.branches, task, strict=True)}
        return FTREOutput(
            tokens,
            factor_of.get("shared", {}),
            factor_of.get("unique", {}),
            task_of.get("shared", {}),
            task_of.get("unique", {}),
            by_modality(reconstruction),
        )


class MutualInformation(nn.Module):
    """The terms of L_MI (Eq. 12), with one critic per term and per pair (or modality).

    The critics of I_sha and I_utr are trained with the encoders, since both raise the same bound. Those of the
    NCE-CLUB terms I_uni and I_str are trained by InfoNCE on detached features ("critic" in the result), while
    the terms themselves score with frozen critics; one backward pass then gives each side its own gradient.
    Tokens are averaged and normalised before they are scored (``pool``). Sums over pairs and over modalities are
    averages here.

    A term whose features a variant lacks is 0, and so are the pairwise terms of a single modality.

    The label-shared encoder Y^str is trained by the critic's term alone: I_str is minimised, and its gradient
    would teach the encoder to forget the label.

    Args:
        factor_widths: modality -> width of its shared and unique features.
        task_width: width of STR and UTR features.
        label_width: d_s and d_u.
        label_center, label_scale: labels enter the label encoders as (y - center) / scale.
        critic, critic_width, critic_layers: "dot" or "concat", hidden width and layers.
        str_negatives: negatives of I_str, "same_bin" (drawn from p(x|y) as in Eq. 10) or "batch" (FactorCL).
        club_diagonal, symmetric: see ``nce_club`` and ``info_nce``.
        weights: of the terms in L_MI; all 1 in Eq. 12.
        branches: see ``FTRE``.
    """

    def __init__(
        self,
        factor_widths: dict[str, int],
        task_width: int,
        label_width: int,
        label_center: float,
        label_scale: float,
        critic: str = "dot",
        critic_width: int = 128,
        critic_layers: int = 1,
        str_negatives: str = "same_bin",
        club_diagonal: bool = False,
        symmetric: bool = True,
        weights: dict[str, float] | None = None,
        branches: tuple[str, ...] = ("shared", "unique"),
    ):
        super().__init__()
        self.weights = dict.fromkeys(TERMS, 1.0) | (weights or {})
        self.modalities = tuple(factor_widths)
        self.factor_width = max(factor_widths.values())
        pairs = list(combinations(range(len(factor_widths)), 2))
        self.register_buffer("left", torch.tensor([i for i, _ in pairs], dtype=torch.long))
        self.register_buffer("right", torch.tensor([j for _, j in pairs], dtype=torch.long))

        def make(stack: int, width_x: int, width_y: int) -> nn.Module:
            return CRITICS[critic](stack, width_x, width_y, critic_width, critic_layers)

        if pairs and "shared" in branches:
            conditional = task_width + label_width
            self.critic_sha = make(len(pairs), self.factor_width, self.factor_width)
            self.critic_str = make(len(pairs), conditional, conditional)
            self.label_shared = mlp(1, 4 * label_width, label_width)
        if pairs and "unique" in branches:
            self.critic_uni = make(len(pairs), self.factor_width, self.factor_width)
        if "unique" in branches:
            self.critic_utr = make(len(factor_widths), task_width, label_width)
            self.label_unique = stacked_mlp(len(factor_widths), 1, 4 * label_width, label_width)
        self.label_center, self.label_scale = label_center, label_scale
        self.str_negatives, self.club_diagonal, self.symmetric = str_negatives, club_diagonal, symmetric

    def critic_parameters(self) -> list[nn.Parameter]:
        """What only the critics' own InfoNCE trains: NCE-CLUB critics and the label-shared encoder."""
        names = ("critic_uni", "critic_str", "label_shared")
        return [p for name in names if hasattr(self, name) for p in getattr(self, name).parameters()]

    def forward(
        self, features: FTREOutput, label: Float[Tensor, "B"], classes: Int[Tensor, "B"]
    ) -> dict[str, Float[Tensor, ""]]:
        """I_sha, I_uni, I_str, I_utr in nats, the reconstruction error, their sum "L_MI" (L_MI of Eq. 12), and
        "critic", the critics' own loss."""
        y = ((label - self.label_center) / self.label_scale)[:, None]
        terms = dict.fromkeys((*TERMS, "critic"), y.new_zeros(()))
        terms["L_recon"] = reconstruction_loss(features)
        if features.utr:
            terms["I_utr"] = self.i_utr(self.pool(features.utr), y)
        if hasattr(self, "critic_uni"):
            terms["I_uni"], uni_critic = self.i_uni(self.pool(features.unique))
            terms["critic"] = terms["critic"] + uni_critic
        if hasattr(self, "critic_str"):
            same_bin = classes[:, None] == classes
            terms["I_str"], str_critic = self.i_str(self.pool(features.str_), self.label_shared(y), same_bin)
            terms["critic"] = terms["critic"] + str_critic
            terms["I_sha"] = self.i_sha(self.pool(features.shared))
        # mutual information is not negative: an estimate below 0 asks for a better critic, not for other features
        w, lowered = self.weights, {name: terms[name].clamp(min=0) for name in ("I_uni", "I_str")}
        terms["L_MI"] = (
            w["L_recon"] * terms["L_recon"]
            + w["I_uni"] * lowered["I_uni"]
            + w["I_str"] * lowered["I_str"]
            - w["I_sha"] * terms["I_sha"]
            - w["I_utr"] * terms["I_utr"]
        )
        return terms

    def pool(self, features: Features) -> Float[Tensor, "M B w"]:
        """Mean over tokens of every modality, brought to zero mean and unit variance per utterance.

        Without that scale an encoder can drive NCE-CLUB to minus infinity by inflating its features faster than
        the critic follows. Narrower features are padded with zeros, which adds nothing to a score.
        """
        widths = {x.shape[-1] for x in features.values()}
        if len(widths) == 1:
            pooled = torch.stack([features[m] for m in self.modalities]).mean(2)
            return F.layer_norm(pooled, pooled.shape[-1:])
        pooled = [F.layer_norm(features[m].mean(1), features[m].shape[-1:]) for m in self.modalities]
        return torch.stack([F.pad(x, (0, max(widths) - x.shape[1])) for x in pooled])

    def i_sha(self, shared: Float[Tensor, "M B w"]) -> Float[Tensor, ""]:
        """I_sha (Eq. 7): InfoNCE between the shared features of each pair, to be maximised."""
        return info_nce(self.critic_sha(shared[self.left], shared[self.right]), symmetric=self.symmetric).mean()

    def i_uni(self, unique: Float[Tensor, "M B w"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """I_uni (Eq. 8): NCE-CLUB between the unique features of each pair, to be minimised; its critics' loss."""
        x, y = unique[self.left], unique[self.right]
        value = nce_club(frozen(self.critic_uni, x, y), include_diagonal=self.club_diagonal)
        own = info_nce(self.critic_uni(x.detach(), y.detach()), symmetric=self.symmetric)
        return value.mean(), -own.mean()

    def i_str(
        self, str_: Float[Tensor, "M B w"], y_str: Float[Tensor, "B ds"], same_bin: Bool[Tensor, "B B"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """I_str (Eq. 10): conditional NCE-CLUB between [X_m^str; Y^str] of pairs, to be minimised; critics' loss."""
        candidates = same_bin if self.str_negatives == "same_bin" else None
        main, own = _beside(str_, y_str.detach()), _beside(str_.detach(), y_str)
        value = nce_club(frozen(self.critic_str, main[self.left], main[self.right]), candidates, self.club_diagonal)
        own_bound = info_nce(self.critic_str(own[self.left], own[self.right]), candidates, self.symmetric)
        return value.mean(), -own_bound.mean()

    def i_utr(self, utr: Float[Tensor, "M B w"], y: Float[Tensor, "B 1"]) -> Float[Tensor, ""]:
        """I_utr (Eq. 11): InfoNCE between each modality's UTR features and its encoded label, to be maximised."""
        encoded = self.label_unique(y.expand(len(utr), -1, -1))
        return info_nce(self.critic_utr(utr, encoded), symmetric=self.symmetric).mean()


def reconstruction_loss(features: FTREOutput) -> Float[Tensor, ""]:
    """L_recon: mean squared error to the detached tokens, so that the target does not move to be easy."""
    errors = [F.mse_loss(features.reconstruction[m], x.detach()) for m, x in features.tokens.items()]
    return torch.stack(errors).mean()


def _beside(x: Float[Tensor, "M B w"], y: Float[Tensor, "B ds"]) -> Float[Tensor, "M B v"]:
    return torch.cat([x, y.expand(len(x), -1, -1)], -1)
