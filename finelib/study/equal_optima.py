"""What the objective of Eq. 12 cannot tell apart: factorisations with the same value of every term.

A linear Gaussian world in which the terms have closed forms. Every modality observes each factor it sees with a little
noise of its own; a solution says which observations its shared, unique, STR and UTR features hold. InfoNCE is taken at
its optimum, the mutual information, and NCE-CLUB at its own, the Jeffreys divergence (see ``known_answers.py``).
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float

from finelib.config import FineConfig
from finelib.data.planted import FACTORS, SEEN, WEIGHT
from finelib.study.factors import roles
from finelib.study.representations import Representations

NOISE, LABEL_NOISE = 0.3, 0.3
WEIGHTS = FineConfig()
GROUPS = tuple((m, kind) for m in SEEN for kind in ("STR", "UTR"))
OBSERVED = [(m, f) for m, seen in SEEN.items() for f in seen]  # coordinates of the world after the label


@dataclass(frozen=True)
class Solution:
    """modality -> factors whose observations a kind of features holds."""

    shared: dict[str, tuple[str, ...]]
    unique: dict[str, tuple[str, ...]]
    str_: dict[str, tuple[str, ...]]
    utr: dict[str, tuple[str, ...]]


def perfect() -> Solution:
    """Shared: all that others see too. Unique: the rest. STR and UTR: of these what the label needs."""
    str_, utr = ({m: roles(m)[kind] for m in SEEN} for kind in ("shared", "own"))
    shared = {m: (*names, "r") for m, names in str_.items()}
    unique = {m: (*names, "r" + m.lower()) for m, names in utr.items()}
    return Solution(shared, unique, str_, utr)


def solutions() -> dict[str, Solution]:
    """The perfect one; one with every modality's own noise in its UTR; one in which modalities divide the shared
    factors among them, so that each is in the STR of one; two more that the objective does tell apart."""
    best = perfect()
    divided = {"T": ("s", "ta"), "A": ("av",), "V": ("tv",)}
    return {
        "perfect": best,
        "own noise kept in UTR": replace(best, utr=best.unique),
        "shared factors divided": replace(best, str_=divided),
        "shared noise kept in STR": replace(best, str_=best.shared),
        "STR and UTR swapped": Solution(best.unique, best.shared, best.utr, best.str_),
    }


def covariance() -> Float[np.ndarray, "v v"]:
    """Of the label and every observation: factors are standard normal, the label is their weighted sum and noise."""
    observed = [[float(f == g) for g in FACTORS] for _, f in OBSERVED]
    loading = np.array([[WEIGHT.get(f, 0.0) for f in FACTORS], *observed])
    return loading @ loading.T + np.diag([LABEL_NOISE**2] + [NOISE**2] * len(OBSERVED))


def term_values(solution: Solution) -> dict[str, float]:
    """Every term of Eq. 12, and the errors of the best linear predictions of Eq. 14 from STR and UTR features: of all
    modalities (L_MP) and of each (L_UP).

    Sums over pairs and modalities as in Eq. 3 and 5; information in nats, errors are variances.
    """
    c, label, pairs = covariance(), [0], list(combinations(SEEN, 2))
    shared, unique, str_, utr = (_places(k) for k in (solution.shared, solution.unique, solution.str_, solution.utr))
    task = {m: sorted({*str_[m], *utr[m]}) for m in SEEN}
    everything = [i for known in task.values() for i in known]
    seen = _places(SEEN)
    return {
        "I_sha": sum(mutual_information(c, shared[m], shared[n]) for m, n in pairs),
        "I_uni": sum(jeffreys_divergence(c, unique[m], unique[n]) for m, n in pairs),
        "I_str": sum(jeffreys_divergence(c, str_[m], str_[n], label) for m, n in pairs),
        "I_utr": sum(mutual_information(c, utr[m], label) for m in SEEN),
        "L_recon": float(sum(np.trace(given(c, seen[m], shared[m] + unique[m])) for m in SEEN)),
        "L_MP": float(given(c, label, everything)[0, 0]),
        "L_UP": float(sum(given(c, label, known)[0, 0] for known in task.values())),
    }


def _places(held: dict[str, tuple[str, ...]]) -> dict[str, list[int]]:
    """modality -> rows of ``covariance`` of the observations that it holds."""
    return {m: [1 + OBSERVED.index((m, f)) for f in names] for m, names in held.items()}


def objective(terms: dict[str, float], weights: FineConfig = WEIGHTS) -> float:
    """L_MP + lambda_up L_UP + beta_mi L_MI (Eq. 12, 14) of the ``term_values`` of a solution; the queue and the
    router's balance have no part in this world."""
    information = terms["I_uni"] + terms["I_str"] - terms["I_sha"] - terms["I_utr"] + terms["L_recon"]
    return terms["L_MP"] + weights.lambda_up * terms["L_UP"] + weights.beta_mi * information


def given(c: Float[np.ndarray, "v v"], of: list[int], known: list[int]) -> Float[np.ndarray, "k k"]:
    """Covariance of some variables given others (Schur complement)."""
    if not known:
        return c[np.ix_(of, of)]
    return c[np.ix_(of, of)] - c[np.ix_(of, known)] @ np.linalg.pinv(c[np.ix_(known, known)]) @ c[np.ix_(known, of)]


def mutual_information(c: Float[np.ndarray, "v v"], x: list[int], y: list[int]) -> float:
    """I(X;Y) = (ln det C_x + ln det C_y - ln det C_xy) / 2 of jointly Gaussian variables."""
    x_det, y_det, both = (np.linalg.slogdet(c[np.ix_(i, i)])[1] for i in (x, y, x + y))
    return float((x_det + y_det - both) / 2)


def jeffreys_divergence(c: Float[np.ndarray, "v v"], x: list[int], y: list[int], known: list[int] = ()) -> float:
    """I(X;Y|known) + KL(p(x) p(y) || p(x, y)), conditional: (tr(C_xy^-1 diag(C_x, C_y)) - d) / 2."""
    joint = given(c, x + y, list(known))
    product, k = joint.copy(), len(x)
    product[:k, k:] = product[k:, :k] = 0
    return float((np.trace(np.linalg.solve(joint, product)) - len(joint)) / 2)


def make_features(
    solution: Solution, factors: dict[str, np.ndarray], label: np.ndarray, seed: int, noise: float = NOISE
) -> Representations:
    """STR and UTR features that hold what the solution says, zeros beside it to a common width."""
    rng, n = np.random.default_rng(seed), len(label)
    observed = {(m, f): factors[f] + noise * rng.standard_normal(n) for m, f in OBSERVED}
    values = np.zeros((len(GROUPS), n, max(map(len, SEEN.values()))), dtype=np.float32)
    for g, (m, kind) in enumerate(GROUPS):
        for j, f in enumerate((solution.str_ if kind == "STR" else solution.utr)[m]):
            values[g, :, j] = observed[m, f]
    return Representations(GROUPS, values, label)


def judge_objective(solved: dict[str, dict], margin: float) -> dict[str, dict]:
    """What solutions say of the objective, by rule.

    ``objective_identifies`` holds if no two solutions have the same value of every term and a score that differs by
    ``margin``; ``objective_prefers_perfect`` if none with a lower objective than the perfect one has a score lower by
    ``margin``. ``solved`` has the "terms", "objective" and "scores" of each solution by its name.
    """

    def lost(a: str, b: str) -> float:
        """The largest of the scores by which a is better than b."""
        return max(value - solved[b]["scores"][score] for score, value in solved[a]["scores"].items())

    terms = {name: np.array(list(solution["terms"].values())) for name, solution in solved.items()}
    same = [(a, b) for a, b in combinations(solved, 2) if np.allclose(terms[a], terms[b], rtol=0, atol=1e-9)]
    gap = max((max(lost(a, b), lost(b, a)) for a, b in same), default=0.0)
    said = "; ".join(f"{a} and {b}" for a, b in same) or "none"
    says = f"solutions with every term equal: {said}; scores differ by {gap:.2f}"
    judged = {"objective_identifies": _finding(gap, margin, says)}
    if "perfect" in solved:
        best = solved["perfect"]["objective"]
        lower = {name: s["objective"] - best for name, s in solved.items() if s["objective"] < best - 1e-9}
        gap = max((lost("perfect", name) for name in lower), default=0.0)
        said = "; ".join(f"{name} ({value:.2f})" for name, value in lower.items()) or "none"
        says = f"solutions with a lower objective than the perfect one: {said}; a score is lower by {gap:.2f}"
        judged["objective_prefers_perfect"] = _finding(gap, margin, says)
    return judged


def _finding(gap: float, margin: float, says: str) -> dict:
    """As the findings of ``identifiability`` are; these have neither runs nor an interval."""
    return {"value": gap, "low": None, "high": None, "holds": gap < margin, "runs": [], "says": says}
