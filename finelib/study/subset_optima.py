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


def _factor(subset: str) -> str:
    return "s" if len(subset) == len(SEEN) else subset.lower()


def code_terms(codes: Tensor, loud: float = 1.0, of_sets: bool = False) -> dict[str, Tensor]:
    """Agreement, outside and L_codes of linear codes (C, v), each brought to unit variance first.

    Args:
        loud: how many times as loud r is as other factors (its observations' noise is that much smaller).
        of_sets: the label is read from the mean code of every set, and not from every code.
    """
    c = torch.from_numpy(_covariance(loud))
    label, observed = c[0, 1:], c[1:, 1:]
    codes = codes / (codes @ observed * codes).sum(1, keepdim=True).sqrt()
    both = codes @ observed @ codes.T  # correlations of codes
    read = torch.from_numpy(SET_MEANS) @ codes if of_sets else codes
    told, of_read = read @ label, read @ observed @ read.T
    return {
        "agreement": (torch.from_numpy(_pair_weights()) * (2 - 2 * both)).sum(),
        "outside": (torch.einsum("cv,cvu->cu", codes, torch.from_numpy(_outsiders(loud))) * codes).sum(),
        "L_codes": 1 - told @ torch.linalg.solve(of_read + 1e-9 * torch.eye(len(read)), told) / c[0, 0],
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


def code_objective(codes: Tensor, loud: float = 1.0, of_sets: bool = False) -> Tensor:
    """The terms with the weights of ``SubsetCodesConfig``."""
    terms = code_terms(codes, loud, of_sets)
    structure = WEIGHTS.weight_agreement * terms["agreement"] + WEIGHTS.weight_outside * terms["outside"]
    return structure + WEIGHTS.weight_codes * terms["L_codes"]


def best_codes(seed: int, loud: float = 1.0, of_sets: bool = False) -> Directions:
    """Codes at which a descent of ``code_objective`` ends that begins at random ones."""
    return descend(np.random.default_rng(seed).standard_normal(IN_PLACE.shape), IN_PLACE, loud, of_sets)


def descend(start: Directions, may_read: np.ndarray, loud: float = 1.0, of_sets: bool = False) -> Directions:
    """Codes at which a descent of ``code_objective`` ends; ``may_read`` (C, v) says where they may differ from 0."""
    places = torch.from_numpy(may_read)

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(flat).requires_grad_()
        codes = torch.zeros(places.shape, dtype=torch.double).masked_scatter(places, free)
        value = code_objective(codes, loud, of_sets)
        return value.item(), torch.autograd.grad(value, free)[0].numpy()

    given = {"jac": True, "method": "L-BFGS-B", "options": {"maxiter": 2000, "gtol": 1e-8, "ftol": 1e-15}}
    codes = np.zeros(may_read.shape)
    codes[may_read] = minimize(value_and_gradient, start[may_read], **given).x
    return codes


def stuck_codes() -> Directions:
    """The best codes of which those of all modalities read r alone, and no other reads r.

    The objective is the same with -r in the place of r, so its gradient does not lead out of these codes: a saddle.
    """
    of_all = np.array([len(subset) == len(SEEN) for subset, _ in PLACES])[:, None]
    reads_r = np.array([f == "r" for _, f in OBSERVED])
    start = np.where(of_all, IN_PLACE & reads_r, perfect_codes())
    return descend(start, IN_PLACE & (of_all == reads_r))


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


def from_stuck(loud: float, of_sets: bool) -> Directions:
    """Where a descent ends that begins beside ``stuck_codes``."""
    beside = 0.05 * np.random.default_rng(0).standard_normal(IN_PLACE.shape) * IN_PLACE
    return descend(stuck_codes() + beside, IN_PLACE, loud, of_sets)


def measure_optima() -> dict:
    """What the notebook shows: scores and objective of perfect codes, of the saddle, of where descents end that begin
    at random and beside the saddle, where r is as loud as other factors and where it is three times as loud; scores of
    minimal sufficient statistics; what I_str takes from each shared factor."""
    found = {
        "perfect codes": (perfect_codes(), 1.0),
        "descent from random codes": (best_codes(0), 1.0),
        "saddle: r in the code of all": (stuck_codes(), 1.0),
        "descent from beside it": (from_stuck(1.0, False), 1.0),
        "the same, r 3 x as loud": (from_stuck(3.0, False), 3.0),
        "the same, label by sets": (from_stuck(3.0, True), 3.0),
    }
    values = {name: float(code_objective(torch.from_numpy(codes), loud)) for name, (codes, loud) in found.items()}
    shown = {name: scores(held(codes, loud)) for name, (codes, loud) in found.items()}
    shown["minimal sufficient statistics"] = scores(minimal_sufficient())
    still = {factor: still_shared(factor) for factor in ("s", "ta", "tv", "av", "r")}
    return {"scores": shown, "objective": values, "still_shared": still}


def judge_optima(measured: dict, margin: float) -> dict[str, dict]:
    """``codes_identify`` holds if a descent from random codes, and one from beside the saddle, end with scores no lower
    by ``margin`` than those of perfect codes."""
    scores, ends = measured["scores"], ("descent from random codes", "descent from beside it")
    gap = max(best - scores[end][name] for end in ends for name, best in scores["perfect codes"].items())
    says = f"descents in the linear Gaussian world end with scores lower by at most {max(gap, 0.0):.2f}"
    return {
        "codes_identify": {"value": gap, "low": None, "high": None, "holds": gap < margin, "runs": [], "says": says}
    }
