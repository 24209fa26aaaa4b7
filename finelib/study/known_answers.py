"""Pairs whose mutual information is known, and the optimal critics for them.

Gaussian pairs (d independent dimensions of correlation rho): I = -(d/2) ln(1 - rho^2), and the optimal critic
log p(x, y) / p(x) p(y) makes NCE-CLUB the Jeffreys divergence d rho^2 / (1 - rho^2). Warping y to y^3 changes neither.
Conditional pairs: x_k = shift(Y) + e_k with Y uniform on ``BINS`` values, so that I(X1;X2|Y) is that of e1, e2 alone.
All information is in nats. A leading axis P holds problems that differ in rho.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

BINS, SHIFT = 4, 3.0
Rho, Side = Float[Tensor, "P"], Float[Tensor, "P n d"]


def correlation_of(mi: Float[Tensor, "P"], d: int) -> Float[Tensor, "P"]:
    """rho of d-dimensional Gaussian pairs with this mutual information."""
    return (1 - torch.exp(-2 * mi / d)).sqrt()


def gaussian_pairs(rho: Rho, d: int, n: int, generator: torch.Generator) -> tuple[Side, Side]:
    """n pairs for each of P correlations."""
    x, e = (torch.randn(len(rho), n, d, generator=generator) for _ in range(2))
    rho = rho[:, None, None]
    return x, rho * x + (1 - rho**2).sqrt() * e


def gaussian_scores(x: Side, y: Side, rho: Rho) -> Float[Tensor, "P n n"]:
    """The optimal critic log p(y_j | x_i) / p(y_j)."""
    rho = rho[:, None, None]
    rest = 1 - rho**2
    squares = rho**2 * (x.square().sum(-1)[:, :, None] + y.square().sum(-1)[:, None]) / 2
    return (rho * x @ y.transpose(1, 2) - squares) / rest - x.shape[-1] / 2 * rest.log()


def gaussian_jeffreys(mi: float, d: int) -> float:
    """MI + KL(p(x) p(y) || p(x, y)) = d rho^2 / (1 - rho^2) of Gaussian pairs: what NCE-CLUB's optimum estimates."""
    return d * math.expm1(2 * mi / d)


def discrete_table(rows: int, columns: int, strength: float, seed: int) -> Float[np.ndarray, "r c"]:
    """A joint distribution of full support without symmetry."""
    logits = strength * np.random.default_rng(seed).standard_normal((rows, columns))
    table = np.exp(logits)
    return table / table.sum()


def discrete_information(table: Float[np.ndarray, "r c"]) -> tuple[float, float]:
    """Mutual information and Jeffreys divergence of a joint distribution, by enumeration."""
    product = table.sum(1, keepdims=True) * table.sum(0)
    ratio = np.log(table / product)
    return float((table * ratio).sum()), float(((table - product) * ratio).sum())


def discrete_scores(table: Float[np.ndarray, "r c"], n: int, batches: int, seed: int) -> Float[Tensor, "b n n"]:
    """Optimal critic's scores of batches of n pairs drawn from a joint distribution."""
    drawn = np.random.default_rng(seed).choice(table.size, (batches, n), p=table.ravel())
    x, y = np.divmod(drawn, table.shape[1])
    ratio = np.log(table / (table.sum(1, keepdims=True) * table.sum(0)))
    return torch.from_numpy(ratio[x[:, :, None], y[:, None]])


def conditional_pairs(rho_e: Rho, n: int, generator: torch.Generator) -> tuple[Side, Side, Bool[Tensor, "n n"]]:
    """[x1; Y], [x2; Y] with one dimension and the one-hot label each, and which pairs of utterances share a label."""
    label = torch.randint(BINS, (n,), generator=generator)
    e1, e2 = gaussian_pairs(rho_e, 1, n, generator)
    shift = SHIFT * (label - (BINS - 1) / 2)[None, :, None]
    code = F.one_hot(label, BINS).float().expand(len(rho_e), -1, -1)
    return torch.cat([e1 + shift, code], -1), torch.cat([e2 + shift, code], -1), label[:, None] == label
