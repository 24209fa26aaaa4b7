"""Factorized Task-Relevant Encoder (Eq. 6-12): shared and unique, then task-relevant, features.

The encoders make the features (``FTRE.forward``, no labels). ``MutualInformation`` holds what only training needs:
critics, label encoders and the terms of L_MI. ``plain.py`` writes the same with one layer a line.

Sizes in the comments: B utterances, l tokens, M modalities, P pairs of modalities.
"""

from dataclasses import dataclass, fields
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finelib.config import FineConfig
from finelib.layers import mlp, stacked_mlp
from finelib.moq import by_width
from finelib.mutual_information import CRITICS, frozen, info_nce, nce_club

Features = dict[str, Float[Tensor, "B l d"]]
BRANCHES = ("shared", "unique")


@dataclass(frozen=True)
class FTREOutput:
    """The features of each modality, all (B, l, width); a kind that a variant does without is empty.

    tokens: input x^_m; shared x^s, unique x^u (Eq. 6); ``str_`` x^str, utr x^utr (Eq. 9); reconstruction of tokens.
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
    """Token-wise MLPs of each modality: shared and unique encoder (Eq. 6), decoder, STR and UTR encoder (Eq. 9).

    The modalities of one width d' share a stack.

    Args:
        widths: modality -> d'_m.
        branches: ("shared", "unique"), or one of them: Table 6's variants that keep a single branch.

    Attributes:
        kinds: how many kinds of task-relevant features come out.
        factor_widths: modality -> width of its shared and of its unique features.
    """

    def __init__(self, widths: dict[str, int], config: FineConfig, branches: tuple[str, ...] = BRANCHES):
        super().__init__()
        self.modalities, self.branches, self.kinds = tuple(widths), branches, len(branches)
        self.factor_widths = {m: max(1, int(width * config.reduction)) for m, width in widths.items()}
        groups = by_width(widths).items()
        self.stacks = nn.ModuleList(FactorStack(group, width, config, branches) for width, group in groups)

    def forward(self, tokens: Features) -> FTREOutput:
        """Factorise each modality's tokens (B, l, d'_m)."""
        parts = [stack({m: tokens[m] for m in stack.modalities}) for stack in self.stacks]
        kinds = {}
        for kind in (field.name for field in fields(FTREOutput)):
            found = {m: x for part in parts for m, x in getattr(part, kind).items()}
            kinds[kind] = {m: found[m] for m in self.modalities if m in found}
        return FTREOutput(**kinds)

    def objective(self, config: FineConfig, label_low: float, label_high: float) -> nn.Module:
        """What trains the factorisation: L_MI of these features."""
        return MutualInformation(self.factor_widths, config, label_low, label_high, self.branches)


class FactorStack(nn.Module):
    """``FTRE`` of modalities that share a width: their encoders have weights of their own and run side by side."""

    def __init__(self, modalities: tuple[str, ...], width: int, config: FineConfig, branches: tuple[str, ...]):
        super().__init__()
        self.modalities, self.branches, stack = modalities, branches, len(modalities)
        factor, w = max(1, int(width * config.reduction)), config.task_width
        # shared and unique encoders have one shape, so both run as one stack: S_1 .. S_M, U_1 .. U_M
        self.factorise = stacked_mlp(len(branches) * stack, width, width, factor)
        self.decoder = stacked_mlp(stack, len(branches) * factor, width, width)
        self.task = stacked_mlp(len(branches) * stack, factor, w, w)

    def forward(self, tokens: Features) -> FTREOutput:
        size = next(iter(tokens.values())).shape[:2]  # B, l
        stacked = torch.stack([tokens[m].flatten(0, 1) for m in self.modalities])  # (M, B*l, d')
        factors = self.factorise(stacked.repeat(len(self.branches), 1, 1))  # (2M, B*l, f): shared, then unique
        task = self.task(factors)  # (2M, B*l, w): STR, then UTR
        parts = factors.chunk(len(self.branches))  # each (M, B*l, f)
        reconstruction = self.decoder(torch.cat(parts, -1))  # (M, B*l, d')

        def by_modality(stack: Float[Tensor, "M n w"]) -> Features:
            return dict(zip(self.modalities, stack.unflatten(1, size), strict=True))

        factor_of = {name: by_modality(x) for name, x in zip(self.branches, parts, strict=True)}
        task_of = {name: by_modality(x) for name, x in zip(self.branches, task.chunk(len(parts)), strict=True)}
        return FTREOutput(
            tokens,
            shared=factor_of.get("shared", {}),
            unique=factor_of.get("unique", {}),
            str_=task_of.get("shared", {}),
            utr=task_of.get("unique", {}),
            reconstruction=by_modality(reconstruction),
        )


class MutualInformation(nn.Module):
    """The terms of L_MI (Eq. 12), with one critic per term and per pair (or modality).

    The critics of I_sha and I_utr are trained with the encoders, since both raise the same bound. Those of the
    NCE-CLUB terms I_uni and I_str are trained by InfoNCE on detached features ("critic" in the result), while the
    terms themselves score with frozen critics; one backward pass then gives each side its own gradient. Tokens are
    averaged and normalised before they are scored (``pool``). A term is the sum over pairs or modalities (``over``).

    A term whose features a variant lacks is 0, and so are the pairwise terms of a single modality.

    The label-shared encoder Y^str is trained by the critic's term alone: I_str is minimised, and its gradient would
    teach the encoder to forget the label.

    Args:
        factor_widths: modality -> width of its shared and unique features.
        config: critics, label width, negatives, weights of the terms.
        label_low, label_high: labels enter the label encoders brought from this range to [-1, 1].
        branches: see ``FTRE``.
    """

    def __init__(
        self, factor_widths: dict[str, int], config: FineConfig, label_low: float, label_high: float, branches=BRANCHES
    ):
        super().__init__()
        self.config, self.modalities = config, tuple(factor_widths)
        self.label_center, self.label_scale = (label_high + label_low) / 2, (label_high - label_low) / 2
        count = len(self.modalities)
        pairs = list(combinations(range(count), 2))
        self.register_buffer("left", torch.tensor([i for i, _ in pairs], dtype=torch.long))
        self.register_buffer("right", torch.tensor([j for _, j in pairs], dtype=torch.long))
        factor_width, task_width, label_width = max(factor_widths.values()), config.task_width, config.label_width

        def critic(stack: int, x_width: int, y_width: int) -> nn.Module:
            return CRITICS[config.critic](stack, x_width, y_width, config.critic_width, config.critic_layers)

        self.critics = nn.ModuleDict()  # term -> the critics of its pairs or modalities
        if pairs and "shared" in branches:
            self.critics["I_sha"] = critic(len(pairs), factor_width, factor_width)
            self.critics["I_str"] = critic(len(pairs), task_width + label_width, task_width + label_width)
            self.label_shared = mlp(1, 4 * label_width, label_width)
        if pairs and "unique" in branches:
            self.critics["I_uni"] = critic(len(pairs), factor_width, factor_width)
        if "unique" in branches:
            self.critics["I_utr"] = critic(count, task_width, label_width)
            self.label_unique = stacked_mlp(count, 1, 4 * label_width, label_width)

    def critic_parameters(self) -> list[nn.Parameter]:
        """What only the critics' own InfoNCE trains: NCE-CLUB critics and the label-shared encoder."""
        modules = [self.critics[term] for term in ("I_uni", "I_str") if term in self.critics]
        modules += [self.label_shared] if "I_str" in self.critics else []
        return [p for module in modules for p in module.parameters()]

    def forward(
        self, features: FTREOutput, label: Float[Tensor, "B"], classes: Int[Tensor, "B"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms of L_MI (Eq. 12), their sum and the critics' own loss.

        Returns:
            "I_sha", "I_uni", "I_str" (over all pairs) and "I_utr" (over all modalities) in nats, "L_recon", "L_MI",
            and "critic".
        """
        y = ((label - self.label_center) / self.label_scale)[:, None]  # (B, 1)
        zero = y.new_zeros(())
        terms = dict.fromkeys(("I_sha", "I_uni", "I_str", "I_utr"), zero)
        terms["L_recon"] = reconstruction_loss(features)
        critics = []
        if "I_utr" in self.critics:
            terms["I_utr"] = self.i_utr(self.pool(features.utr), y)
        if "I_uni" in self.critics:
            terms["I_uni"], own = self.i_uni(self.pool(features.unique))
            critics.append(own)
        if "I_str" in self.critics:
            same_class = classes[:, None] == classes  # (B, B)
            terms["I_str"], own = self.i_str(self.pool(features.str_), self.label_shared(y), same_class)
            critics.append(own)
            terms["I_sha"] = self.i_sha(self.pool(features.shared))
        return terms | {"L_MI": self.weighted(terms), "critic": sum(critics, zero)}

    def weighted(self, terms: dict[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """L_MI (Eq. 12): I_uni and I_str are lowered, I_sha and I_utr raised.

        Mutual information is not negative: an estimate below 0 asks for a better critic, not for other features.
        """
        c = self.config
        lowered = c.weight_uni * terms["I_uni"].clamp(min=0) + c.weight_str * terms["I_str"].clamp(min=0)
        raised = c.weight_sha * terms["I_sha"] + c.weight_utr * terms["I_utr"]
        return c.weight_recon * terms["L_recon"] + lowered - raised

    def pool(self, features: Features) -> Float[Tensor, "M B w"]:
        """Mean over the tokens of each modality, brought to zero mean and unit variance per utterance.

        Without that scale an encoder can drive NCE-CLUB to minus infinity by inflating its features faster than the
        critic follows. Where the modalities differ in width, the narrower ones get zeros behind them, so that all can
        be stacked: a critic's weights of those places meet zeros and add nothing to a score.
        """
        pooled = [features[m].mean(1) for m in self.modalities]  # each (B, w_m)
        scaled = [F.layer_norm(x, x.shape[-1:]) for x in pooled]
        widest = max(x.shape[-1] for x in scaled)
        return torch.stack([F.pad(x, (0, widest - x.shape[-1])) for x in scaled])

    def i_sha(self, shared: Float[Tensor, "M B w"]) -> Float[Tensor, ""]:
        """I_sha (Eq. 7): InfoNCE between the shared features of each pair, to be maximised."""
        scores = self.critics["I_sha"](shared[self.left], shared[self.right])  # (P, B, B)
        return self.over(info_nce(scores, symmetric=self.config.symmetric))

    def i_uni(self, unique: Float[Tensor, "M B w"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """I_uni (Eq. 8): NCE-CLUB between the unique features of each pair, to be minimised; its critics' loss."""
        critic, x, y = self.critics["I_uni"], unique[self.left], unique[self.right]  # (P, B, w)
        value = nce_club(frozen(critic, x, y), include_diagonal=self.config.club_diagonal)
        own = info_nce(critic(x.detach(), y.detach()), symmetric=self.config.symmetric)
        return self.over(value), -self.over(own)

    def i_str(
        self, str_: Float[Tensor, "M B w"], y_str: Float[Tensor, "B ds"], same_class: Bool[Tensor, "B B"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """I_str (Eq. 10): conditional NCE-CLUB between [X_m^str; Y^str] of pairs, to be minimised; critics' loss.

        Negatives are utterances of the anchor's class, drawn from p(x|y) as in Eq. 10, or the whole batch (FactorCL).
        """
        c, critic = self.config, self.critics["I_str"]
        negatives = same_class if c.str_negatives == "same_bin" else None
        main, own = _beside(str_, y_str.detach()), _beside(str_.detach(), y_str)  # (M, B, w + ds)
        value = nce_club(frozen(critic, main[self.left], main[self.right]), negatives, c.club_diagonal)
        bound = info_nce(critic(own[self.left], own[self.right]), negatives, c.symmetric)
        return self.over(value), -self.over(bound)

    def i_utr(self, utr: Float[Tensor, "M B w"], y: Float[Tensor, "B 1"]) -> Float[Tensor, ""]:
        """I_utr (Eq. 11): InfoNCE between each modality's UTR features and its encoded label, to be maximised."""
        encoded = self.label_unique(y.expand(len(utr), -1, -1))  # (M, B, du)
        return self.over(info_nce(self.critics["I_utr"](utr, encoded), symmetric=self.config.symmetric))

    def over(self, values: Float[Tensor, "P"]) -> Float[Tensor, ""]:
        """What a term is of its values for each pair or modality: their sum (Eq. 3-5), or their mean (ours)."""
        return values.mean() if self.config.average_terms else values.sum()


def reconstruction_loss(features: FTREOutput) -> Float[Tensor, ""]:
    """L_recon: mean squared error to the detached tokens, so that the target does not move to be easy."""
    errors = [F.mse_loss(features.reconstruction[m], x.detach()) for m, x in features.tokens.items()]
    return torch.stack(errors).mean()


def _beside(x: Float[Tensor, "M B w"], y: Float[Tensor, "B ds"]) -> Float[Tensor, "M B v"]:
    return torch.cat([x, y.expand(len(x), -1, -1)], -1)
