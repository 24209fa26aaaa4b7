"""The world with closed forms: its terms against samples, textbook formulas and the estimators."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from finelib.data.planted import FACTORS
from finelib.mutual_information import info_nce, nce_club
from finelib.study import equal_optima


def test_closed_forms_of_gaussian_terms():
    rho = 0.7
    c = np.array([[1, rho], [rho, 1]])
    assert equal_optima.mutual_information(c, [0], [1]) == pytest.approx(-0.5 * math.log(1 - rho**2))
    assert equal_optima.jeffreys_divergence(c, [0], [1]) == pytest.approx(rho**2 / (1 - rho**2))
    both = np.array([[2.0, 1, 1], [1, 2, 1], [1, 1, 1]])  # x = y + e, z = y + f with independent e, f; y last
    assert equal_optima.given(both, [0, 1], [2]) == pytest.approx(np.eye(2))
    assert equal_optima.jeffreys_divergence(both, [0], [1], [2]) == pytest.approx(0, abs=1e-9)
    assert equal_optima.jeffreys_divergence(both, [0], [1]) > 0.1


def optimal_scores(c, sizes, rng, batches=300, n=64):
    """log p(x, y) / p(x) p(y) of Gaussian pairs by scipy's densities, (batches, n, n)."""
    k = sizes[0]
    z = rng.multivariate_normal(np.zeros(sum(sizes)), c, (batches, n))
    x, y = z[..., :k], z[..., k:]
    pairs = np.concatenate([x[:, :, None].repeat(n, 2), y[:, None].repeat(n, 1)], -1)
    both, own_x, own_y = (stats.multivariate_normal(np.zeros(len(v)), v) for v in (c, c[:k, :k], c[k:, k:]))
    return torch.from_numpy(both.logpdf(pairs) - own_x.logpdf(x)[:, :, None] - own_y.logpdf(y)[:, None])


@pytest.mark.parametrize("known", [(), (0,)])
def test_closed_forms_agree_with_the_sample_estimators(known):
    """With the optimal critic InfoNCE comes to the mutual information from below (the bias of 64 samples) and NCE-CLUB
    to the Jeffreys divergence within Monte-Carlo error; the same given the label."""
    c, at = equal_optima.covariance(), equal_optima.OBSERVED.index
    x, y = [1 + at(("T", f)) for f in ("ta", "t")], [1 + at(("A", f)) for f in ("ta", "a")]
    joint = equal_optima.given(c, x + y, list(known))
    scores = optimal_scores(joint, (2, 2), np.random.default_rng(0))
    lower, upper = info_nce(scores), nce_club(scores)
    error = [3.5 * float(v.std()) / math.sqrt(len(v)) for v in (lower, upper)]
    truth = equal_optima.mutual_information(joint, [0, 1], [2, 3])
    assert truth - 0.1 - error[0] < float(lower.mean()) < truth + error[0]
    assert float(upper.mean()) == pytest.approx(equal_optima.jeffreys_divergence(c, x, y, list(known)), abs=error[1])
    assert error[1] < 0.3 < equal_optima.jeffreys_divergence(c, x, y, list(known)) - truth


def test_covariance_is_that_of_samples():
    rng, n = np.random.default_rng(0), 200_000
    z = {f: rng.standard_normal(n) for f in FACTORS}
    label = sum(w * z[f] for f, w in equal_optima.WEIGHT.items()) + equal_optima.LABEL_NOISE * rng.standard_normal(n)
    seen = [z[f] + equal_optima.NOISE * rng.standard_normal(n) for _, f in equal_optima.OBSERVED]
    assert np.cov(np.stack([label, *seen])) == pytest.approx(equal_optima.covariance(), abs=0.02)


def test_two_solutions_have_equal_terms_and_others_do_not():
    terms = {name: equal_optima.term_values(s) for name, s in equal_optima.solutions().items()}
    assert terms["own noise kept in UTR"] == pytest.approx(terms["perfect"], abs=1e-9)
    assert terms["shared factors divided"]["I_str"] < terms["perfect"]["I_str"] - 1
    assert terms["shared noise kept in STR"]["I_str"] > terms["perfect"]["I_str"] + 1
    assert terms["STR and UTR swapped"]["I_sha"] < terms["perfect"]["I_sha"] - 1


def test_errors_of_linear_predictions_are_those_of_least_squares():
    """L_MP and L_UP against a fit on samples of the same world."""
    rng, n = np.random.default_rng(0), 40_000
    z = {f: rng.standard_normal(n) for f in FACTORS}
    label = sum(w * z[f] for f, w in equal_optima.WEIGHT.items()) + equal_optima.LABEL_NOISE * rng.standard_normal(n)
    solution = equal_optima.solutions()["shared factors divided"]
    made, terms = equal_optima.make_features(solution, z, label, 1).values, equal_optima.term_values(solution)

    def error(groups):
        x = np.concatenate([made[g] for g in groups], -1)
        return np.var(label - x @ np.linalg.lstsq(x, label, rcond=None)[0])

    assert error(range(6)) == pytest.approx(terms["L_MP"], rel=0.03)
    assert sum(error((2 * m, 2 * m + 1)) for m in range(3)) == pytest.approx(terms["L_UP"], rel=0.03)


def test_objective_adds_up_by_hand():
    terms = {"I_sha": 3.0, "I_uni": 1.0, "I_str": 2.0, "I_utr": 0.5, "L_recon": 4.0, "L_MP": 0.25, "L_UP": 10.0}
    assert equal_optima.objective(terms) == pytest.approx(0.25 + 0.4 * 10 + 0.5 * (1 + 2 + 4 - 3 - 0.5))
