"""FINE with subset codes (ours): a number for what every set of modalities shares, and one for what each has alone.

FINE's objective has optima that do not factorise (``study.subset_optima``). Here STR_m holds one number c_A^m for every
set A of two modalities or more that m belongs to, UTR_m the number of A = {m}; three terms say what they are:

    agreement   c_A^m = c_A^n for m, n in A                    takes out of STR what a modality has alone
    outside     c_A^m is independent of the tokens of n not in A    takes out of a code what others see too
    L_codes     the label is linear in all the codes           takes out what the label does not need

I_uni and I_str are dropped: "outside" holds the first in it, and the second works against shared factors of the label.
Sizes: B utterances, M modalities, C codes, k numbers of a code, d' token width, w task width.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from finelib.baselines.common import BatchNorm
from finelib.config import FineConfig
from finelib.data.corpora import CorpusInfo
from finelib.data.features import Batch
from finelib.fine import FINE, FineOutput
from finelib.ftre import FTRE, Features, FTREOutput, MutualInformation, reconstruction_loss
from finelib.inputs import Inputs

NAME = "FINE with subset codes"
TRAIN = {"epochs": 20, "keep_last": True, "critic_speed": 5.0}
# what is measured without each of its parts: row -> change of the settings
PARTS = {
    "w/o agreement": {"weight_agreement": 0.0},
    "w/o outside": {"weight_outside": 0.0},
    "w/o label on the codes": {"weight_codes": 0.0},
    "w/o ramp": {"ramp": 0.0},
    "codes of 4 numbers": {"code_width": 4},
}
EPS = 1e-10  # of the norm of codes: with the usual 1e-5 they agree by becoming smaller than it
Codes = Float[Tensor, "B C k"]


@dataclass(frozen=True)
class SubsetCodesConfig(FineConfig):
    """FINE's settings with some defaults of our own, and:

    Attributes:
        code_width: numbers of a code.
        weight_agreement, weight_outside, weight_codes: weights of the three terms.
        ramp: passes over the training split in which L_MP, L_UP and L_CL rise to their full weight; 0: none.
        decay, ridge: share of the earlier batches in the moments of "outside"; what is added to their diagonal.
    """

    dropout: float = 0.2
    weight_sha: float = 3.0
    weight_utr: float = 1 / 3
    code_width: int = 1
    weight_agreement: float = 2.0
    weight_outside: float = 6.0
    weight_codes: float = 2.0
    ramp: float = 6.0
    decay: float = 0.8
    ridge: float = 0.3


def subset_codes_of(fine: FineConfig, **change: object) -> SubsetCodesConfig:
    """The settings of a FINE, with our own dropout and weights of I_sha and I_utr."""
    own = {name: getattr(SubsetCodesConfig, name) for name in ("dropout", "weight_sha", "weight_utr")}
    return SubsetCodesConfig(**vars(fine) | own | change)


def code_places(modalities: tuple[str, ...]) -> list[tuple[str, str]]:
    """(A, m) of every code c_A^m, as ("TA", "T"): modality by modality, its sets from large to small, {m} last."""
    sets = ["".join(s) for size in range(len(modalities), 0, -1) for s in combinations(modalities, size)]
    return [(subset, m) for m in modalities for subset in sets if m in subset]


@dataclass(frozen=True)
class CodedOutput(FTREOutput):
    """FTREOutput with one STR and one UTR token a modality, made of ``codes``, in the order of ``code_places``."""

    codes: Codes


class SubsetFTRE(FTRE):
    """FTRE whose STR and UTR are linear in codes, and codes linear in pooled shared and unique features.

    Raises:
        ValueError: fewer than two modalities.
    """

    def __init__(self, widths: dict[str, int], config: FineConfig):
        if len(widths) < 2:
            raise ValueError(f"{NAME}: found modalities {', '.join(widths)}, expected two or three of T, A, V")
        super().__init__(widths, config)
        for stack in self.stacks:
            stack.task = nn.Identity()  # codes stand in the place of the STR and UTR encoders
        k, w = config.code_width, config.task_width
        self.shared_sets = 2 ** (len(widths) - 1) - 1  # that a modality belongs to, itself alone left out
        self.shared_code, self.unique_code, self.str_token, self.utr_token = (nn.ModuleDict() for _ in range(4))
        for m, factor in self.factor_widths.items():
            self.shared_code[m] = nn.Linear(factor, self.shared_sets * k)
            self.unique_code[m] = nn.Linear(factor, k)
            self.str_token[m] = nn.Linear(self.shared_sets * k, w)
            self.utr_token[m] = nn.Linear(k, w)
        self.code_shape = (len(code_places(self.modalities)), k)
        self.norm = BatchNorm(self.code_shape[0] * k, eps=EPS, affine=False)

    def forward(self, tokens: Features) -> CodedOutput:
        """Factorise each modality's tokens (B, l, d'_m)."""
        out = super().forward(tokens)
        codes = self.norm(self.raw_codes(out)).unflatten(1, self.code_shape)
        by_modality = dict(zip(self.modalities, codes.unflatten(1, (len(self.modalities), -1)).unbind(1), strict=True))
        str_ = {m: self.str_token[m](c[:, :-1].flatten(1))[:, None] for m, c in by_modality.items()}  # (B, 1, w)
        utr = {m: self.utr_token[m](c[:, -1])[:, None] for m, c in by_modality.items()}
        return CodedOutput(**vars(replace(out, str_=str_, utr=utr)), codes=codes)

    def raw_codes(self, factors: FTREOutput) -> Float[Tensor, "B Ck"]:
        """Codes before they are brought to zero mean and unit variance."""
        found = []
        for m in self.modalities:
            found += [self.shared_code[m](factors.shared[m].mean(1)), self.unique_code[m](factors.unique[m].mean(1))]
        return torch.cat(found, 1)

    def sparing_codes(self, tokens: Features) -> Codes:
        """Codes of a batch, of batch statistics, whose gradient ends at the tokens."""
        raw = self.raw_codes(super().forward({m: x.detach() for m, x in tokens.items()}))
        return standardised(raw).unflatten(1, self.code_shape)

    def objective(self, config: FineConfig, label_low: float, label_high: float) -> nn.Module:
        return SharedAndTold(self.factor_widths, config, label_low, label_high)


class SharedAndTold(MutualInformation):
    """L_MI of I_sha, I_utr and L_recon."""

    def __init__(self, *settings: object):
        super().__init__(*settings)
        del self.critics["I_uni"], self.critics["I_str"], self.label_shared

    def forward(
        self, features: FTREOutput, label: Float[Tensor, "B"], classes: Int[Tensor, "B"]
    ) -> dict[str, Float[Tensor, ""]]:
        """As ``MutualInformation.forward``; I_uni, I_str and "critic" are 0."""
        y = ((label - self.label_center) / self.label_scale)[:, None]
        terms = dict.fromkeys(("I_uni", "I_str", "critic"), y.new_zeros(()))
        terms["I_sha"] = self.i_sha(self.pool(features.shared))
        terms["I_utr"] = self.i_utr(self.pool(features.utr), y)
        terms["L_recon"] = reconstruction_loss(features)
        return terms | {"L_MI": self.weighted(terms)}


class Outside(nn.Module):
    """NCE-CLUB between codes and the tokens of the modalities outside their sets, with the best bilinear critic.

    The critic c . W z has a closed form: W is the ridge regression of a code on the outsider's pooled, standardised
    tokens z, so that the estimate is the covariance of a code and its regression in the batch, R2 for enough data.
    A batch alone has about as many rows as z has columns, so the moments are averages over the batches so far, each
    of which counts ``decay`` times as much as the next one. No gradient reaches the critic or z.
    """

    def __init__(self, token_widths: dict[str, int], config: SubsetCodesConfig):
        super().__init__()
        self.decay, self.ridge = config.decay, config.ridge
        places = code_places(tuple(token_widths))
        self.modalities = tuple(token_widths)
        self.register_buffer("mass", torch.zeros(()))
        for m, width in token_widths.items():
            outside = torch.tensor([i for i, (subset, _) in enumerate(places) if m not in subset])
            self.register_buffer(f"outside_{m}", outside, persistent=False)  # a list would make a GPU wait
            self.register_buffer(f"tokens_{m}", torch.zeros(width, width))
            self.register_buffer(f"codes_{m}", torch.zeros(width, len(outside) * config.code_width))

    def forward(self, codes: Codes, tokens: Features) -> Float[Tensor, ""]:
        """Sum over codes and the modalities outside their sets; in training mode the moments are first updated."""
        if self.training:
            self.mass.mul_(self.decay).add_(1 - self.decay)
        total = codes.new_zeros(())
        for m in self.modalities:
            z = standardised(tokens[m].detach().mean(1))  # (B, d')
            c = codes[:, getattr(self, f"outside_{m}")].flatten(1)  # (B, C_m k)
            of_tokens, with_codes = self.moments(m, z, c.detach())
            ridge = self.ridge * torch.eye(z.shape[1], device=z.device)
            critic = torch.linalg.solve_ex(of_tokens + ridge, with_codes)[0]  # (d', C_m k); solve makes a GPU wait
            total = total + (critic * (z.T @ c / len(c))).sum()
        return total

    @torch.no_grad()
    def moments(
        self, m: str, z: Float[Tensor, "B d"], c: Float[Tensor, "B n"]
    ) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d n"]]:
        """Mean of z z' and of z c' over the batches so far."""
        kept = (getattr(self, f"tokens_{m}"), getattr(self, f"codes_{m}"))
        if self.training:
            for moment, other in zip(kept, (z, c), strict=True):
                moment.mul_(self.decay).add_((1 - self.decay) * (z.T @ other) / len(z))
        return tuple(moment / self.mass for moment in kept)


class FineWithSubsetCodes(FINE):
    """FINE with ``SubsetFTRE`` in the place of FTRE, and the terms of its codes; arguments as for FINE."""

    def __init__(self, config: SubsetCodesConfig, info: CorpusInfo, inputs: Inputs, class_counts: list[int]):
        super().__init__(config, info, inputs, class_counts)
        places = code_places(self.modalities)
        sets = {subset: [i for i, (other, _) in enumerate(places) if other == subset] for subset, _ in places}
        pairs = [(i, j, members) for members in sets.values() for i, j in combinations(members, 2)]
        # pairs of codes of one set, and the weight with which their differences add up to one mean a set
        self.register_buffer("left", torch.tensor([i for i, _, _ in pairs]))
        self.register_buffer("right", torch.tensor([j for _, j, _ in pairs]))
        count = [len(members) * (len(members) - 1) / 2 for _, _, members in pairs]
        self.register_buffer("share", 1 / torch.tensor(count))
        self.register_buffer("alone", torch.tensor([len(subset) == 1 for subset, _ in places]))
        self.from_codes = nn.Linear(len(places) * config.code_width, 1)
        token_widths = {m: d for m, d in zip("TAV", config.width, strict=True) if m in self.modalities}
        self.outside = Outside(token_widths, config)
        self.training_size = sum(class_counts)
        self.register_buffer("seen", torch.zeros(()))  # utterances, counted again in every pass

    def make_ftre(self, token_widths: dict[str, int]) -> nn.Module:
        return SubsetFTRE(token_widths, self.config)

    def losses(self, output: FineOutput, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """FINE's terms, "agreement", "outside", "L_codes", and "structure", by which starts are compared."""
        terms, c, features = super().losses(output, batch), self.config, output.features
        terms["agreement"] = self.agreement(features.codes)
        sparing = self.ftre.sparing_codes(features.tokens)
        codes = torch.where(self.alone[:, None], sparing, features.codes)
        terms["outside"] = self.outside(codes, features.tokens)
        label = standardised(batch.label[:, None])
        terms["L_codes"] = F.mse_loss(self.from_codes(features.codes.flatten(1)), label)
        terms["structure"] = (terms["agreement"] + terms["outside"]).detach()
        ramped = terms["L_MP"] + c.lambda_up * terms["L_UP"] + c.lambda_cl * terms["L_CL"]
        terms["total"] = (
            terms["total"]
            - (1 - self.ramp()) * ramped
            + c.weight_agreement * terms["agreement"]
            + c.weight_outside * terms["outside"]
            + c.weight_codes * terms["L_codes"]
        )
        if self.training:
            self.seen += len(batch.label)
        return terms

    def agreement(self, codes: Codes) -> Float[Tensor, ""]:
        """Sum over the sets of the mean, over pairs of their members, of the squared distance of their codes."""
        distance = (codes[:, self.left] - codes[:, self.right]).square().sum(-1).mean(0)  # (pairs,)
        return (self.share * distance).sum()

    def ramp(self) -> Float[Tensor, ""] | float:
        """Weight of L_MP, L_UP and L_CL, from 0 to 1."""
        whole = self.config.ramp * self.training_size
        return (self.seen / whole).clamp(max=1) if whole else 1.0


def standardised(x: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """Columns brought to zero mean and unit variance; a constant one becomes 0."""
    return (x - x.mean(0)) / (x.var(0, unbiased=False) + EPS).sqrt()
