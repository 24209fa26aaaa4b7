"""Mutual information from a critic's scores: InfoNCE (Eq. 7, 11) and NCE-CLUB (Eq. 8, 10).

A critic f(x, y) scores every x of a batch with every y. Pairs on the diagonal were drawn together, the
others stand in for the product of the marginals. Everything is in nats. A leading axis P holds independent
problems (pairs of modalities) that are scored side by side.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from finelib.layers import StackedLinear, stacked_mlp

# ---------------------------------------------------------------------------------------------- critics


class DotCritic(nn.Module):
    """f(x, y) = g(x) . h(y) / sqrt(width), g and h MLPs: a batch is scored by one matrix product.

    Args:
        stack: P, critics side by side.
        x_width, y_width: widths of x and y.
        width, layers: hidden width and hidden layers of g and h.
    """

    def __init__(self, stack: int, x_width: int, y_width: int, width: int = 128, layers: int = 1):
        super().__init__()
        self.g = stacked_mlp(stack, x_width, width, width, layers)
        self.h = stacked_mlp(stack, y_width, width, width, layers)

    def forward(self, x: Float[Tensor, "P N dx"], y: Float[Tensor, "P M dy"]) -> Float[Tensor, "P N M"]:
        """Score of every x with every y."""
        gx = self.g(x) / math.sqrt(self.g[-1].weight.shape[-1])
        return gx @ self.h(y).transpose(1, 2)


class ConcatCritic(nn.Module):
    """f(x, y) = MLP([x; y]), the critic of FactorCL: N*M rows for a batch, so dearer than the dot product.

    The first layer acts on x and y apart, which gives the same numbers as concatenating first. Arguments as
    for ``DotCritic``.
    """

    def __init__(self, stack: int, x_width: int, y_width: int, width: int = 512, layers: int = 2):
        super().__init__()
        self.first_x = StackedLinear(stack, x_width, width)
        self.first_y = StackedLinear(stack, y_width, width)
        hidden = [part for _ in range(layers - 1) for part in (StackedLinear(stack, width, width), nn.ReLU())]
        self.rest = nn.Sequential(nn.ReLU(), *hidden, StackedLinear(stack, width, 1))

    def forward(self, x: Float[Tensor, "P N dx"], y: Float[Tensor, "P M dy"]) -> Float[Tensor, "P N M"]:
        """Score of every x with every y."""
        first = self.first_x(x)[:, :, None] + self.first_y(y)[:, None]  # (P, N, M, width)
        return self.rest(first.flatten(1, 2)).view(first.shape[:3])


CRITICS = {"dot": DotCritic, "concat": ConcatCritic}


def frozen(critic: nn.Module, x: Float[Tensor, "P N dx"], y: Float[Tensor, "P N dy"]) -> Float[Tensor, "P N N"]:
    """Scores that send gradient to x and y but none to the critic's parameters.

    This is how NCE-CLUB (Eq. 8, 10) uses "the optimal critic from I_NCE" inside one backward pass: the
    main term scores with ``frozen``, the critic's own InfoNCE scores detached features.
    """
    parameters = {name: p.detach() for name, p in critic.named_parameters()}
    return torch.func.functional_call(critic, parameters, (x, y))


# ------------------------------------------------------------------------------------------- estimators


def info_nce(
    scores: Float[Tensor, "*P N N"], candidates: Bool[Tensor, "*Q N N"] | None = None, symmetric: bool = False
) -> Float[Tensor, "*P"]:
    """InfoNCE lower bound (Eq. 7, 11): mean of f_ii - log(mean over candidates j of exp f_ij).

    The positive is one of the candidates, so the estimate is at most log N.

    Args:
        scores: f(x_i, y_j).
        candidates: True where j may stand in the sum for anchor i (the diagonal included), symmetric;
            default all; one mask for all problems or one each. Anchors with no candidate but their own positive
            are skipped.
        symmetric: average over both directions (softmax over y and over x).
    """
    positive = scores.diagonal(dim1=-2, dim2=-1)
    if candidates is not None:
        scores = scores.masked_fill(~candidates, -torch.inf)
    normaliser = scores.logsumexp(-1)
    if symmetric:
        normaliser = (normaliser + scores.logsumexp(-2)) / 2
    if candidates is None:
        return (positive - normaliser).mean(-1) + math.log(scores.shape[-1])
    count = candidates.sum(-1)
    return _mean_where(positive - normaliser + count.to(scores.dtype).log(), count > 1)


def nce_club(
    scores: Float[Tensor, "*P N N"], candidates: Bool[Tensor, "N N"] | None = None, include_diagonal: bool = False
) -> Float[Tensor, "*P"]:
    """NCE-CLUB (Eq. 8, 10): mean of f over pairs drawn together minus its mean over negatives.

    With the exact critic log p(x,y)/p(x)p(y) it estimates MI + KL(p(x)p(y) || p(x,y)), above MI. With a
    learned critic it is no bound, and can be negative.

    Args:
        scores: f(x_i, y_j).
        candidates: True where j may be a negative of anchor i; default all. For the conditional form
            (Eq. 10), same-label pairs. Anchors without a negative are skipped.
        include_diagonal: count the positive among the negatives, as FactorCL does.
    """
    eye = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    negatives = torch.ones_like(eye) if candidates is None else candidates
    has_negative = (negatives & ~eye).any(-1)
    if not include_diagonal:
        negatives = negatives & ~eye
    mean_negative = (scores * negatives).sum(-1) / negatives.sum(-1).clamp(min=1)
    return _mean_where(scores.diagonal(dim1=-2, dim2=-1) - mean_negative, has_negative)


def _mean_where(values: Float[Tensor, "*P N"], keep: Bool[Tensor, "*Q N"]) -> Float[Tensor, "*P"]:
    """Mean of the kept values, 0 if none is kept; no transfer to the host."""
    return values.masked_fill(~keep, 0).sum(-1) / keep.sum(-1).clamp(min=1)
