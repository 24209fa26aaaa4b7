"""The numbers of the theorem on subset codes, against samples, other code and by hand."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from finelib.data.planted import FACTORS, SEEN
from finelib.study import equal_optima, factors, subset_optima
from finelib.study.subset_optima import GROUPS, IN_PLACE, NOISE, OBSERVED, PLACES, WEIGHT


def value(codes, **world):
    return float(subset_optima.code_objective(torch.from_numpy(codes), **world))


@pytest.fixture(scope="module")
def world():
    """Factors, label and observations of 100,000 utterances."""
    rng, n = np.random.default_rng(0), 100_000
    z = {f: rng.standard_normal(n) for f in FACTORS}
    label = sum(w * z[f] for f, w in WEIGHT.items()) + equal_optima.LABEL_NOISE * rng.standard_normal(n)
    seen = np.stack([z[f] + NOISE * rng.standard_normal(n) for _, f in OBSERVED], 1)
    return z, label, seen


def r2(x, y):
    return LinearRegression().fit(x, y).score(x, y)


def test_terms_are_those_of_samples(world):
    _, label, seen = world
    directions = np.random.default_rng(1).standard_normal(IN_PLACE.shape) * IN_PLACE
    codes = seen @ directions.T
    codes /= codes.std(0)
    sets = {a: [i for i, (b, _) in enumerate(PLACES) if a == b] for a, _ in PLACES}
    agreement = sum(
        np.mean([((codes[:, i] - codes[:, j]) ** 2).mean() for i in members for j in members if i < j])
        for members in sets.values()
        if len(members) > 1
    )
    outside = 0.0
    for place, (subset, _) in enumerate(PLACES):
        for n in set(SEEN) - set(subset):
            outside += r2(seen[:, [i for i, (m, _) in enumerate(OBSERVED) if m == n]], codes[:, place])
    terms = subset_optima.code_terms(torch.from_numpy(directions))
    assert float(terms["agreement"]) == pytest.approx(agreement, abs=0.03)
    assert float(terms["outside"]) == pytest.approx(outside, abs=0.03)
    assert float(terms["L_codes"]) == pytest.approx(1 - r2(codes, label), abs=0.02)
    of_sets = np.stack([codes[:, members].mean(1) for members in sets.values()], 1)
    by_sets = subset_optima.code_terms(torch.from_numpy(directions), of_sets=True)
    assert float(by_sets["L_codes"]) == pytest.approx(1 - r2(of_sets, label), abs=0.02)


def test_perfect_codes_have_the_value_worked_by_hand():
    rho = 1 / (1 + NOISE**2)  # of two observations of one factor
    terms = subset_optima.code_terms(torch.from_numpy(subset_optima.perfect_codes()))
    assert float(terms["agreement"]) == pytest.approx(4 * (2 - 2 * rho))
    assert float(terms["outside"]) == pytest.approx(0, abs=1e-12)
    seen_by = {f: 1 if len(f) == 1 else 2 for f in WEIGHT} | {"s": 3}
    told = sum(w**2 / (1 + NOISE**2 / seen_by[f]) for f, w in WEIGHT.items())
    total = sum(w**2 for w in WEIGHT.values()) + equal_optima.LABEL_NOISE**2
    assert float(terms["L_codes"]) == pytest.approx(1 - told / total, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_every_descent_ends_at_the_perfect_factorisation(seed):
    codes, perfect = subset_optima.best_codes(seed), subset_optima.perfect_codes()
    assert value(codes) == pytest.approx(value(perfect), abs=1e-4)
    assert subset_optima.held(codes) == pytest.approx(subset_optima.held(perfect), abs=0.01)
    scores = subset_optima.scores(subset_optima.held(codes))
    assert list(scores.values()) == pytest.approx([1 / (1 + NOISE**2)] * 3, abs=0.01)


def test_what_codes_hold_is_what_probes_of_samples_find(world):
    z, _, seen = world
    codes = subset_optima.best_codes(0)
    found = subset_optima.held(codes)
    for g, (m, kind) in enumerate(GROUPS):
        mine = [i for i, (a, owner) in enumerate(PLACES) if owner == m and (len(a) > 1) == (kind == "STR")]
        assert found[g] == pytest.approx([r2(seen @ codes[mine].T, z[f]) for f in FACTORS], abs=0.02)


def test_a_code_that_reads_r_is_a_saddle():
    codes = subset_optima.stuck_codes()
    point = torch.from_numpy(codes).requires_grad_()
    gradient = torch.autograd.grad(subset_optima.code_objective(point), point)[0].numpy()[IN_PLACE]
    assert np.abs(gradient).max() < 1e-3
    turned = codes.copy()
    for i, (subset, m) in enumerate(PLACES):
        if len(subset) == 3:
            turned[i, OBSERVED.index((m, "s"))] = 0.1 * codes[i, OBSERVED.index((m, "r"))]
    assert value(codes) > value(turned) + 1e-3 and value(codes) > value(subset_optima.perfect_codes()) + 0.1


def test_a_loud_irrelevant_factor_keeps_its_place_unless_the_label_is_read_from_sets():
    perfect = subset_optima.perfect_codes()
    low, by_sets = (subset_optima.from_stuck(3.0, of_sets) for of_sets in (False, True))
    assert value(low, loud=3.0) < value(perfect, loud=3.0) - 0.03
    assert subset_optima.scores(subset_optima.held(low, 3.0))["noise_in_neither"] < 0.3
    assert subset_optima.scores(subset_optima.held(by_sets, 3.0))["noise_in_neither"] > 0.9
    same = subset_optima.from_stuck(1.0, False)
    assert subset_optima.scores(subset_optima.held(same))["noise_in_neither"] > 0.9


def test_minimal_sufficient_statistics_hold_one_number_each(world):
    z, label, seen = world
    found, bound = subset_optima.minimal_sufficient(), subset_optima.scores(subset_optima.minimal_sufficient())
    assert (found.sum(1) <= 1).all()
    assert bound["shared_in_str"] <= 1 / 3 and bound["noise_in_neither"] <= 1 / 2
    for g, (m, kind) in enumerate(GROUPS):
        names = factors.roles(m)["shared" if kind == "STR" else "own"]
        x = seen[:, [OBSERVED.index((m, f)) for f in names]]
        g_of_x = LinearRegression().fit(x, label).predict(x)[:, None]
        assert found[g] == pytest.approx([r2(g_of_x, z[f]) for f in FACTORS], abs=0.02)


def test_i_str_asks_to_remove_shared_factors_of_the_label_too():
    still = {f: subset_optima.still_shared(f) for f in ("s", "ta", "r")}
    total = sum(w**2 for w in WEIGHT.values()) + equal_optima.LABEL_NOISE**2
    for f, found in still.items():  # by hand: a conditional variance of 1 - w^2 / var(y), and its own noise twice
        v = 1 - WEIGHT.get(f, 0.0) ** 2 / total
        assert found == pytest.approx(-0.5 * np.log(1 - (v / (v + NOISE**2)) ** 2))
    assert 0.7 * still["r"] < still["s"] < still["ta"] < still["r"]
