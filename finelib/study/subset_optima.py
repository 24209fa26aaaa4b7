"""What the objective of FINE with subset codes has for optima, in the linear Gaussian world of ``equal_optima``.

V_A is the span of the factors that exactly the modalities of a set A see; y_A is the label's part in V_A.

*What codes hold.* Let factors be uncorrelated, tokens an invertible linear function of what a modality sees, and the
label linear in the factors. Codes of unit variance have agreement 0 and outside 0 if and only if c_A^m = c_A^n in V_A:
equal codes of m and n lie in what both see, and to be uncorrelated with an outsider's tokens is to lie apart from what
it sees. The V_A are orthogonal, so L_codes is the sum over A of what c_A leaves of y_A, and least at c_A = +-y_A /
|y_A| alone. So a set's code is its part of the label, up to the sign: one factor, if one factor of the set matters.

*What a minimal sufficient statistic holds.* A minimal sufficient statistic of x for a scalar label, jointly Gaussian,
is a function of one number, g = E[y | x]. No probe reads more of a factor f from it than corr(f, g)^2, for E[f | g] is
linear; these sum to at most 1 over uncorrelated factors. So a minimal sufficient STR holds three shared factors with a
mean R2 of at most 1/3, and with a UTR of one number more, four factors of the label with at most 1/2.

*What I_str asks.* Given y, a factor of weight w that two modalities share is still shared: its conditional variance is
1 - w^2 / var(y), not 0. To lower I(STR_m; STR_n | y) is to take it out, like one that does not matter (w = 0).
"""

from functools import cache
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from finelib.baselines.subset_codes import SubsetCodesConfig, code_places
from finelib.data.planted import FACTORS, SEEN, WEIGHT
from finelib.study import equal_optima
from finelib.study.equal_optima import GROUPS, NOISE, OBSERVED
from finelib.study.factors import factor_scores, roles

PLACES = code_places(tuple(SEEN))
IN_PLACE = np.array([[m == owner for m, _ in OBSERVED] for _, owner in PLACES])  # (C, v): what a code may read
SETS = sorted({subset for subset, _ in PLACES})
SET_MEANS = np.array([[(a == b) / len(a) for b, _ in PLACES] for a in SETS])  # (sets, C)
WEIGHTS = SubsetCodesConfig()
Directions = Float[np.ndarray, "C v"]  # of each code, in the observations of its modality
R2 = Float[np.ndarray, "G F"]


def perfect_codes() -> Directions:
    """Each set's code reads the factor of the label that exactly its modalities see."""
    codes = np.zeros(IN_PLACE.shape)
    for place, (subset, m) in enumerate(PLACES):
        codes[place, OBSERVED.index((m, _factor(subset)))] = 1
    return codes


def stuck_codes() -> Directions:
    """As ``perfect_codes``, but the code of all modalities reads what they share and the label does not need."""
    codes = perfect_codes()
    for place, (subset, m) in enumerate(PLACES):
        if len(subset) == len(SEEN):
            codes[place] = 0
            codes[place, OBSERVED.index((m, "r"))] = 1
    return codes


def _factor(subset: str) -> str:
    return "s" if len(subset) == len(SEEN) else subset.lower()


def code_terms(codes: Tensor, loud: float = 1.0) -> dict[str, Tensor]:
    """Agreement, outside and L_codes of linear codes (C, v), each brought to unit variance first.

    Args:
        loud: how many times as loud r is as other factors (its observations' noise is that much smaller).
    """
    c = torch.from_numpy(_covariance(loud))
    label, observed = c[0, 1:], c[1:, 1:]
    codes = codes / (codes @ observed * codes).sum(1, keepdim=True).sqrt()
    both = codes @ observed @ codes.T  # correlations of codes
    mean = torch.from_numpy(SET_MEANS) @ codes
    told, both_means = mean @ label, mean @ observed @ mean.T
    return {
        "agreement": (torch.from_numpy(_pair_weights()) * (2 - 2 * both)).sum(),
        "outside": (torch.einsum("cv,cvu->cu", codes, torch.from_numpy(_outsiders(loud))) * codes).sum(),
        "L_codes": 1 - told @ torch.linalg.solve(both_means + 1e-9 * torch.eye(len(mean)), told) / c[0, 0],
    }


@cache
def _pair_weights() -> Float[np.ndarray, "C C"]:
    """1 / (number of pairs) where two places are a pair of codes of one set, counted once."""
    weight = np.zeros((len(PLACES), len(PLACES)))
    for (i, (a, _)), (j, (b, _)) in combinations(enumerate(PLACES), 2):
        if a == b:
            weight[i, j] = 2 / (len(a) * (len(a) - 1))
    return weight


@cache
def _outsiders(loud: float) -> Float[np.ndarray, "C v v"]:
    """Of each place Q such that c Q c' is the sum of the code's R2 by all that each modality outside its set sees."""
    observed = _covariance(loud)[1:, 1:]
    of = {n: [i for i, (m, _) in enumerate(OBSERVED) if m == n] for n in SEEN}
    told = {n: observed[:, i] @ np.linalg.solve(observed[np.ix_(i, i)], observed[i]) for n, i in of.items()}
    nothing = np.zeros_like(observed)
    return np.stack([sum((told[n] for n in SEEN if n not in subset), nothing) for subset, _ in PLACES])


def code_objective(codes: Tensor, loud: float = 1.0, weights: SubsetCodesConfig = WEIGHTS) -> Tensor:
    """The terms with their weights."""
    terms = code_terms(codes, loud)
    structure = weights.weight_agreement * terms["agreement"] + weights.weight_outside * terms["outside"]
    return structure + weights.weight_codes * terms["L_codes"]


def best_codes(seed: int, loud: float = 1.0) -> Directions:
    """Codes at which a descent of ``code_objective`` ends that begins at random ones."""
    start = np.random.default_rng(seed).standard_normal(int(IN_PLACE.sum()))
    places = torch.from_numpy(IN_PLACE)

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(flat).requires_grad_()
        value = code_objective(torch.zeros(IN_PLACE.shape, dtype=torch.double).masked_scatter(places, free), loud)
        return value.item(), torch.autograd.grad(value, free)[0].numpy()

    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-8})
    codes = np.zeros(IN_PLACE.shape)
    codes[IN_PLACE] = found.x
    return codes


def held(codes: Directions, loud: float = 1.0) -> R2:
    """R2 of the best prediction of each factor from the codes in each of ``GROUPS``."""
    observed = _covariance(loud)[1:, 1:]
    shown = np.array([[float(f == g) for _, g in OBSERVED] for f in FACTORS])  # covariance of factors, observations
    found = []
    for m, kind in GROUPS:
        mine = [i for i, (subset, owner) in enumerate(PLACES) if owner == m and (len(subset) > 1) == (kind == "STR")]
        across, own = shown @ codes[mine].T, codes[mine] @ observed @ codes[mine].T
        found.append((across * (np.linalg.pinv(own) @ across.T).T).sum(1))
    return np.array(found)


def minimal_sufficient() -> R2:
    """R2 of each factor from E[label | a modality's observations of shared factors], for STR, and of its own, for UTR:
    what no irrelevant thing and no second number is left in."""
    c = equal_optima.covariance()
    found = []
    for m, kind in GROUPS:
        names = roles(m)["shared" if kind == "STR" else "own"]
        known = [1 + OBSERVED.index((m, f)) for f in names]
        weight = np.linalg.solve(c[np.ix_(known, known)], c[known, 0])  # g = weight . observations
        variance = weight @ c[np.ix_(known, known)] @ weight
        found.append([weight[names.index(f)] ** 2 / variance if f in names else 0.0 for f in FACTORS])
    return np.array(found)


def scores(r2: R2) -> dict[str, float]:
    """The three scores of ``identifiability`` of a matrix of R2."""
    found = factor_scores(GROUPS, r2, list(FACTORS), {m: roles(m) for m in SEEN})
    return {name: part["right"] - part["wrong"] for name, part in found.items() if name != "noise"}


def still_shared(factor: str) -> float:
    """I(x_m; x_n | label) in nats of two modalities' observations of one factor: what I_str asks to remove with it."""
    c = equal_optima.covariance()
    first, second = [i for i, (_, f) in enumerate(OBSERVED, start=1) if f == factor][:2]
    both = equal_optima.given(c, [first, second], [0])
    return equal_optima.mutual_information(both, [0], [1])


def label_share(factor: str) -> float:
    """Share of the label's variance that is a factor's."""
    return WEIGHT.get(factor, 0.0) ** 2 / equal_optima.covariance()[0, 0]


@cache
def _covariance(loud: float) -> Float[np.ndarray, "v v"]:
    c = equal_optima.covariance()
    for i, (_, f) in enumerate(OBSERVED, start=1):
        if f == "r":
            c[i, i] += NOISE**2 * (1 / loud**2 - 1)
    return c


def measure_optima(starts: int = 5) -> dict:
    """What the notebook shows: scores of the best of some descents, of minimal sufficient statistics and of codes that
    are stuck; what I_str takes from each shared factor."""
    ends = [best_codes(seed) for seed in range(starts)]
    values = [float(code_objective(torch.from_numpy(codes))) for codes in ends]
    shown = {"best of descents": ends[int(np.argmin(values))], "perfect": perfect_codes(), "stuck": stuck_codes()}
    found = {name: held(codes) for name, codes in shown.items()} | {"minimal sufficient": minimal_sufficient()}
    objective = {name: float(code_objective(torch.from_numpy(codes))) for name, codes in shown.items()}
    return {
        "scores": {name: scores(r2) for name, r2 in found.items()},
        "objective": objective,
        "ends": sorted(values),
        "still_shared": {f: still_shared(f) for f in ("s", "ta", "tv", "av", "r")},
    }
