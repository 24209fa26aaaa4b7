"""Scores of features built by hand, the second generator, and the world with closed forms."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from finelib import metrics
from finelib.config import DataConfig
from finelib.data.planted import FACTORS, SEEN
from finelib.mutual_information import info_nce, nce_club
from finelib.runs import experiment
from finelib.runs.options import ROOT, Options
from finelib.study import equal_optima, factors, identifiability
from finelib.study.identifiability import SCORES, Probed
from finelib.study.representations import Representations

NAMES = list(FACTORS)


@pytest.fixture(scope="module")
def planted():
    return experiment.load_corpus(DataConfig("mosei", scale=1.0, design="components"))


def rotated(corpus, holds, width=9, seed=0):
    """Features that hold factors as ``holds(modality, kind)`` says, rotated at random to a common width."""
    rng = np.random.default_rng(seed)
    turn = {g: np.linalg.qr(rng.standard_normal((width, width)))[0] for g in equal_optima.GROUPS}
    parts = {}
    for part in ("train", "test"):
        split, values = corpus.splits[part], []
        for m, kind in equal_optima.GROUPS:
            x = np.zeros((len(split), width))
            for j, f in enumerate(holds(m, kind)):
                x[:, j] = split.factors[f]
            values.append(x @ turn[m, kind] * 3 + 1)
        parts[part] = Representations(equal_optima.GROUPS, np.stack(values).astype(np.float32), split.label)
    return parts


def perfect(m, kind):
    return factors.roles(m)["shared" if kind == "STR" else "own"]


def score(parts, corpus):
    return {name: found["score"] for name, found in identifiability.probed(parts, corpus).scores.items()}


def test_roles_divide_what_a_modality_sees():
    assert factors.roles("A") == {"shared": ("s", "ta", "av"), "own": ("a",), "noise": ("r", "ra")}
    for m in SEEN:
        assert sorted(f for role in factors.roles(m).values() for f in role) == sorted(SEEN[m])


def test_a_perfect_factorisation_scores_one(planted):
    assert all(value == pytest.approx(1, abs=0.02) for value in score(rotated(planted, perfect), planted).values())


def test_ends_of_the_scale(planted):
    for seed in (0, 1):
        ends = identifiability.ends_of_the_scale(planted, seed)
        for name, expected in (("perfect", 1), ("chance", 0)):
            assert all(s["score"] == pytest.approx(expected, abs=0.02) for s in ends[name].scores.values())


def test_swapped_branches_change_the_sign(planted):
    found = score(rotated(planted, lambda m, kind: perfect(m, "UTR" if kind == "STR" else "STR")), planted)
    assert [found[s] for s in SCORES[:2]] == pytest.approx([-1, -1], abs=0.02)
    assert found["noise_in_neither"] == pytest.approx(1, abs=0.02)


def test_noise_lowers_one_score_alone(planted):
    found = score(rotated(planted, lambda m, k: (*perfect(m, k), *(("r" + m.lower(),) if k == "UTR" else ()))), planted)
    assert found["noise_in_neither"] == pytest.approx(0.5, abs=0.02)  # one of two irrelevant factors in all three
    assert found["shared_in_str"] == pytest.approx(1, abs=0.02) and found["unique_in_utr"] == pytest.approx(1, abs=0.02)


def test_everything_everywhere_scores_zero(planted):
    assert all(abs(v) < 0.02 for v in score(rotated(planted, lambda m, k: SEEN[m]), planted).values())


def test_mlp_probe_reads_what_a_linear_one_cannot():
    rng = np.random.default_rng(0)
    hidden = {part: rng.standard_normal((1500, 2)) for part in ("train", "test")}
    parts = {part: Representations((("T", "STR"),), z[None].astype(np.float32), z[:, 0]) for part, z in hidden.items()}
    known = {
        part: {"square": z[:, 0] ** 2 - 1, "line": z[:, 1], "none": rng.standard_normal(1500)}
        for part, z in hidden.items()
    }
    given = (parts["train"], known["train"], parts["test"], known["test"])
    linear, mlp = factors.factor_r2(*given)[0], factors.mlp_r2(*given)[0]
    assert linear[0] < 0.05 and mlp[0] > 0.8
    assert linear[1] > 0.99 and mlp[1] > 0.9
    assert linear[2] < 0.02 and mlp[2] < 0.02


# --------------------------------------------------------------------------------------- the second generator


def test_factorcl_design():
    corpus = identifiability.factorcl((3000, 40, 50))
    split = corpus.splits["train"]
    x = {m: split.frames[m].values for m in "TAV"}
    assert all(v.shape == (3000, 100) for v in x.values()) and set(split.label) == {0.0, 1.0}
    assert split.label.mean() == pytest.approx(0.5, abs=0.04)
    assert np.var(split.factors["t"]) == pytest.approx(0.5, abs=0.05)
    for name, value in split.factors.items():
        seen = {m for m in "TAV" if name in SEEN[m]}
        for m in "TAV":  # linear in what a modality sees, nothing of what it does not
            fit = np.linalg.lstsq(x[m][:2000], value[:2000], rcond=None)[0]
            r2 = 1 - np.var(value[2000:] - x[m][2000:] @ fit) / np.var(value[2000:])
            assert r2 > 0.99 if m in seen else r2 < 0.05
    relevant = [metrics.correlation(split.factors[f], split.label) for f in ("s", "t", "ta")]
    assert min(relevant) > 0.05 and abs(metrics.correlation(split.factors["rt"], split.label)) < 0.06
    assert identifiability.factorcl((3000, 40, 50)).sha256 == corpus.sha256
    assert identifiability.factorcl((3000, 40, 50), seed=1).sha256 != corpus.sha256


# ------------------------------------------------------------------------------------ what cannot be told apart


def test_closed_forms_of_gaussian_terms():
    rho = 0.7
    c = np.array([[1, rho], [rho, 1]])
    assert equal_optima.information(c, [0], [1]) == pytest.approx(-0.5 * math.log(1 - rho**2))
    assert equal_optima.jeffreys(c, [0], [1]) == pytest.approx(rho**2 / (1 - rho**2))
    both = np.array([[2.0, 1, 1], [1, 2, 1], [1, 1, 1]])  # x = y + e, z = y + f with independent e, f; y last
    assert equal_optima.given(both, [0, 1], [2]) == pytest.approx(np.eye(2))
    assert equal_optima.jeffreys(both, [0], [1], [2]) == pytest.approx(0, abs=1e-9)
    assert equal_optima.jeffreys(both, [0], [1]) > 0.1


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
    truth = equal_optima.information(joint, [0, 1], [2, 3])
    assert truth - 0.1 - error[0] < float(lower.mean()) < truth + error[0]
    assert float(upper.mean()) == pytest.approx(equal_optima.jeffreys(c, x, y, list(known)), abs=error[1])
    assert error[1] < 0.3 < equal_optima.jeffreys(c, x, y, list(known)) - truth


def test_covariance_is_that_of_samples():
    rng, n = np.random.default_rng(0), 200_000
    z = {f: rng.standard_normal(n) for f in FACTORS}
    label = sum(w * z[f] for f, w in equal_optima.WEIGHT.items()) + equal_optima.LABEL_NOISE * rng.standard_normal(n)
    seen = [z[f] + equal_optima.NOISE * rng.standard_normal(n) for _, f in equal_optima.OBSERVED]
    assert np.cov(np.stack([label, *seen])) == pytest.approx(equal_optima.covariance(), abs=0.02)


def test_two_solutions_have_equal_terms_and_others_do_not():
    terms = {name: equal_optima.terms(s) for name, s in equal_optima.solutions().items()}
    assert terms["own noise kept in UTR"] == pytest.approx(terms["perfect"], abs=1e-9)
    assert terms["shared factors divided"]["I_str"] < terms["perfect"]["I_str"] - 1
    assert terms["shared noise kept in STR"]["I_str"] > terms["perfect"]["I_str"] + 1
    assert terms["STR and UTR swapped"]["I_sha"] < terms["perfect"]["I_sha"] - 1


def test_errors_of_linear_predictions_are_those_of_least_squares(planted):
    """L_MP and L_UP against a fit on samples of the same world."""
    rng, n = np.random.default_rng(0), 40_000
    z = {f: rng.standard_normal(n) for f in FACTORS}
    label = sum(w * z[f] for f, w in equal_optima.WEIGHT.items()) + equal_optima.LABEL_NOISE * rng.standard_normal(n)
    solution = equal_optima.solutions()["shared factors divided"]
    made, terms = equal_optima.features(solution, z, label, 1).values, equal_optima.terms(solution)

    def error(groups):
        x = np.concatenate([made[g] for g in groups], -1)
        return np.var(label - x @ np.linalg.lstsq(x, label, rcond=None)[0])

    assert error(range(6)) == pytest.approx(terms["L_MP"], rel=0.03)
    assert sum(error((2 * m, 2 * m + 1)) for m in range(3)) == pytest.approx(terms["L_UP"], rel=0.03)


def test_objective_adds_up_by_hand():
    terms = {"I_sha": 3.0, "I_uni": 1.0, "I_str": 2.0, "I_utr": 0.5, "L_recon": 4.0, "L_MP": 0.25, "L_UP": 10.0}
    assert equal_optima.objective(terms) == pytest.approx(0.25 + 0.4 * 10 + 0.5 * (1 + 2 + 4 - 3 - 0.5))


def test_the_objective_is_said_not_to_identify(planted):
    two = identifiability._two_solutions(planted)
    found = identifiability.findings(named(0.5), ids(), two)
    same, lower = found["objective_identifies"], found["objective_prefers_perfect"]
    assert same["holds"] is False and "perfect and own noise kept in UTR" in same["says"]
    assert lower["holds"] is False and "shared factors divided" in lower["says"]
    alone = identifiability.findings(
        named(0.5), ids(), {name: two[name] for name in ("perfect", "STR and UTR swapped")}
    )
    assert alone["objective_identifies"]["holds"] is True and alone["objective_prefers_perfect"]["holds"] is True


# ------------------------------------------------------------------------------------------------ findings


def of(values):
    return [Probed(None, {s: {"score": v, "right": v, "wrong": 0.0} for s in SCORES}) for v in values]


def named(fine, other=0.0, spread=0.01):
    jitter, nothing = np.array([-spread, 0, spread]), of([0.0] * 3)
    return {"FINE": of(fine + jitter), "MISA-style": of(other - jitter), "none": nothing, "untrained": nothing}


def ids():
    return {name: [f"{name}{seed}" for seed in range(3)] for name in identifiability.COMPARED}


@pytest.mark.parametrize(
    ("fine", "spread", "holds"), [(0.5, 0.01, True), (0.05, 0.01, True), (0.0, 0.01, False), (0.2, 0.5, None)]
)
def test_a_score_holds_by_its_interval(fine, spread, holds):
    found = identifiability.findings(named(fine, spread=spread), ids(), {})
    assert found["shared_in_str"]["holds"] is holds
    assert found["shared_in_str"]["runs"] == ["FINE0", "FINE1", "FINE2"]


def test_what_training_did_not_bring_does_not_hold():
    blank = named(0.5) | {"untrained": of([0.6] * 3)}
    assert identifiability.findings(blank, ids(), {})["unique_in_utr"]["holds"] is None


@pytest.mark.parametrize(("other", "holds"), [(0.1, True), (0.5, False), (0.9, False)])
def test_order_of_methods(other, holds):
    found = identifiability.findings(named(0.5, other), ids(), {})
    assert found["fine_over_misa_noise_in_neither"]["holds"] is holds
    assert found["fine_over_none_noise_in_neither"]["holds"] is True
    assert found["fine_over_misa_noise_in_neither"]["value"] == pytest.approx(0.5 - other)
    assert found["fine_over_misa"]["holds"] is holds and found["fine_over_misa"]["low"] < 0.5 - other


def test_leakage_is_of_the_wrong_places_of_shared_and_own_factors():
    parts = {"shared_in_str": 0.6, "unique_in_utr": 0.2, "noise_in_neither": 0.9}
    fine = [Probed(None, {s: {"score": 0.0, "right": v, "wrong": v} for s, v in parts.items()})] * 3
    found = identifiability.findings(named(0.5) | {"FINE": fine}, ids(), {})["leakage"]
    assert found["value"] == pytest.approx(0.4) and found["holds"] is True
    assert identifiability.findings(named(0.5), ids(), {})["leakage"]["holds"] is False


def test_every_finding_that_a_claim_asks_for_is_made():
    claims = (ROOT / "data/paper/claims.csv").read_text()
    asked = re.findall(r"file='identifiability', names=\['(\w+)'\]", claims)
    two = {"perfect": {"terms": {}, "objective": 0.0, "scores": {}}}
    assert len(asked) > 3 and set(asked) <= set(identifiability.findings(named(0.5), ids(), two))


def test_smoke_run_is_kept(tmp_path, monkeypatch):
    """Trained, probed and written; the second time nothing is computed, and Table 6's records are the same."""
    monkeypatch.setattr(identifiability, "BETA", (0.0,))
    monkeypatch.setattr(identifiability, "BATCH", ())
    rows = {name: group[:1] for name, group in identifiability.rows(Options("smoke", out=tmp_path)).items()}
    kept = {name: rows[name] for name in (*identifiability.COMPARED.values(), "beta_mi = 0")}
    monkeypatch.setattr(identifiability, "rows", lambda options: kept)
    options = replace(Options("smoke", out=tmp_path), seeds=1)
    content = identifiability.measure_identifiability(options)
    assert set(content["compared"]) == {"FINE", "MISA-style", "none", "untrained", "perfect", "chance"}
    assert set(content["compared_mlp"]) == {"FINE", "MISA-style", "none", "untrained"}
    assert set(content["factorcl"]) == set(identifiability.COMPARED) and np.shape(content["leakage"]["FINE"]) == (6, 11)
    none = content["compared"]["none"]
    assert none["shared_in_str"]["mean"] == none["unique_in_utr"]["mean"] == 0
    monkeypatch.setattr(identifiability, "_content", lambda *_: pytest.fail("computed again"))
    assert identifiability.measure_identifiability(options)["key"] == content["key"]
    table6 = {s for group in identifiability.ablations.blocks(6, options)[0].specs((0,)).values() for s in group}
    assert kept["FINE"][0] in table6
