"""Probes of planted factors on hand-built features; the parts of Figure 3 by hand."""

import numpy as np
import pytest

from finelib.data.planted import FACTORS, SEEN
from finelib.study.factors import factor_contrasts, factor_r2, information_parts, label_information, nats
from finelib.study.representations import Representations

GROUPS = tuple((m, kind) for m in "TAV" for kind in ("STR", "UTR"))


def hand_built(kinds: dict[str, callable], n: int = 400, seed: int = 0):
    """Representations whose groups hold exactly the factors chosen for (modality) by kind, with true factors."""
    rng = np.random.default_rng(seed)
    factors = {f: rng.standard_normal(n) for f in FACTORS}
    values = np.zeros((6, n, 8))
    for i, (m, kind) in enumerate(GROUPS):
        for j, f in enumerate(kinds[kind](m)):
            values[i, :, j] = factors[f]
    label = sum(factors[f] for f in ("s", "t", "a", "v"))
    return Representations(GROUPS, values, label), factors


PERFECT = {
    "STR": lambda m: [f for f in SEEN[m] if f == "s" or (len(f) == 2 and f[0] != "r")],
    "UTR": lambda m: [m.lower()],
}
EVERYTHING = dict.fromkeys(("STR", "UTR"), lambda m: list(SEEN[m]))


def contrasts(kinds):
    (train, known), (test, truth) = hand_built(kinds), hand_built(kinds, seed=1)
    r2 = factor_r2(train, known, test, truth)
    return r2, factor_contrasts(GROUPS, r2, list(known))


def test_a_perfect_factorisation_scores_one():
    r2, found = contrasts(PERFECT)
    assert found["shared_in_str"] == pytest.approx(1, abs=0.05)
    assert found["unique_in_utr"] == pytest.approx(1, abs=0.05)
    assert abs(found["noise"]) < 0.05
    at = {f: i for i, f in enumerate(FACTORS)}
    assert r2[GROUPS.index(("T", "STR")), at["s"]] == pytest.approx(1, abs=1e-3)
    assert abs(r2[GROUPS.index(("T", "UTR")), at["s"]]) < 0.05


def test_branches_that_carry_everything_are_not_told_apart():
    _, found = contrasts(EVERYTHING)
    assert abs(found["shared_in_str"]) < 0.01 and abs(found["unique_in_utr"]) < 0.01
    assert found["noise"] == pytest.approx(1, abs=0.01)


def test_nats_of_a_gaussian_channel():
    """I = -1/2 ln(1 - rho^2); a probe worse than the mean has none."""
    assert nats(0.75) == pytest.approx(np.log(2))
    assert nats(-0.3) == 0


def test_co_information_of_redundancy_and_of_synergy():
    copy = information_parts({("T",): 1.0, ("A",): 1.0, ("T", "A"): 1.0})
    assert copy == {"I(T,A;Y)": 1.0, "I(T;Y|A)": 0.0, "I(A;Y|T)": 0.0, "I(T;A;Y)": 1.0}
    exclusive_or = information_parts({("T",): 0.0, ("A",): 0.0, ("T", "A"): 1.0})
    assert exclusive_or == {"I(T,A;Y)": 1.0, "I(T;Y|A)": 1.0, "I(A;Y|T)": 1.0, "I(T;A;Y)": -1.0}


def test_co_information_of_three_by_hand():
    """Values 1, 2, 3 alone, 2.5, 3.5, 4 in twos, 4.5 all: 1 + 2 + 3 - 2.5 - 3.5 - 4 + 4.5 = 0.5."""
    values = {("T",): 1, ("A",): 2, ("V",): 3, ("T", "A"): 2.5, ("T", "V"): 3.5, ("A", "V"): 4, ("T", "A", "V"): 4.5}
    found = information_parts(values)
    assert found["I(T;A;V;Y)"] == pytest.approx(0.5)
    assert found["I(V;Y|T,A)"] == pytest.approx(2.0)
    assert found["I(T;V;Y)"] == pytest.approx(0.5)


def test_label_information_sees_only_the_groups_asked_for():
    (train, _), (test, _) = hand_built(PERFECT), hand_built(PERFECT, seed=1)
    utr = label_information(train, test, ("UTR",))
    assert utr[("T",)] == pytest.approx(nats(0.25), abs=0.08)  # t is one of four equal summands
    assert utr[("T", "A", "V")] == pytest.approx(nats(0.75), abs=0.1)
    assert label_information(train, test)[("T", "A", "V")] > 3  # nothing is missing
