"""Scores of features built by hand; what is concluded from them, by rule."""

import numpy as np
import pytest
import torch

from finelib.config import DataConfig
from finelib.data.planted import FACTORS, SEEN
from finelib.paper.claims import CLAIMS, OF_VARIANT
from finelib.runs import experiment
from finelib.runs.options import Options
from finelib.study import equal_optima, factors, identifiability, subset_optima
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
    return {name: found["score"] for name, found in identifiability.probe(parts, corpus).scores.items()}


def test_roles_divide_what_a_modality_sees():
    assert factors.roles("A") == {"shared": ("s", "ta", "av"), "own": ("a",), "noise": ("r", "ra")}
    assert factors.roles("T", ("T", "A")) == {"shared": ("s", "ta"), "own": ("tv", "t"), "noise": ("r", "rt")}
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


def test_the_objective_is_said_not_to_identify(planted):
    solved = identifiability.solve_closed_forms(planted)
    found = equal_optima.judge_objective(solved, identifiability.MARGIN)
    same, lower = found["objective_identifies"], found["objective_prefers_perfect"]
    assert same["holds"] is False and "perfect and own noise kept in UTR" in same["says"]
    assert lower["holds"] is False and "shared factors divided" in lower["says"]
    some = {name: solved[name] for name in ("perfect", "STR and UTR swapped")}
    alone = equal_optima.judge_objective(some, identifiability.MARGIN)
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
    found = identifiability.judge_factorisation(named(fine, spread=spread), ids())
    assert found["shared_in_str"]["holds"] is holds
    assert found["shared_in_str"]["runs"] == ["FINE0", "FINE1", "FINE2"]


def test_what_training_did_not_bring_does_not_hold():
    blank = named(0.5) | {"untrained": of([0.6] * 3)}
    assert identifiability.judge_factorisation(blank, ids())["unique_in_utr"]["holds"] is None


@pytest.mark.parametrize(("other", "holds"), [(0.1, True), (0.5, False), (0.9, False)])
def test_order_of_methods(other, holds):
    found = identifiability.judge_factorisation(named(0.5, other), ids())
    assert found["fine_over_misa_noise_in_neither"]["holds"] is holds
    assert found["fine_over_none_noise_in_neither"]["holds"] is True
    assert found["fine_over_misa_noise_in_neither"]["value"] == pytest.approx(0.5 - other)
    assert found["fine_over_misa"]["holds"] is holds and found["fine_over_misa"]["low"] < 0.5 - other


def test_leakage_is_of_the_wrong_places_of_shared_and_own_factors():
    parts = {"shared_in_str": 0.6, "unique_in_utr": 0.2, "noise_in_neither": 0.9}
    fine = [Probed(None, {s: {"score": 0.0, "right": v, "wrong": v} for s, v in parts.items()})] * 3
    found = identifiability.judge_factorisation(named(0.5) | {"FINE": fine}, ids())["leakage"]
    assert found["value"] == pytest.approx(0.4) and found["holds"] is True
    assert identifiability.judge_factorisation(named(0.5), ids())["leakage"]["holds"] is False


def test_every_finding_that_a_claim_asks_for_is_made():
    rules = [claim.measured for claim in CLAIMS if claim.measured] + list(OF_VARIANT.values())
    rules = [rule for rule in rules if rule.keywords.get("file") == "identifiability"]
    asked = {name for rule in rules for name in rule.keywords["names"]}
    solved = {"perfect": {"terms": {}, "objective": 0.0, "scores": {}}}
    optima = subset_optima.judge_optima(subset_optima.measure_optima(), 0.1)
    made = identifiability.judge_factorisation(named(0.5), ids()) | equal_optima.judge_objective(solved, 0.1) | optima
    assert len(asked) > 3 and asked <= set(made)
    assert optima["codes_identify"]["holds"] is True


@pytest.mark.long
def test_smoke_run_is_kept(tmp_path, monkeypatch):
    """Trained, probed and written; the second time nothing is computed, and Table 6's records are the same."""
    monkeypatch.setattr(identifiability, "BETA", (0.0,))
    monkeypatch.setattr(identifiability, "BATCH", ())
    options = Options("smoke", out=tmp_path, n_seeds=1)
    rows = identifiability.run_specs(options)
    few = {name: rows[name] for name in (*identifiability.COMPARED.values(), "beta_mi = 0")}
    monkeypatch.setattr(identifiability, "run_specs", lambda options: few)
    identifiability.experiment.run_groups(few, tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    content = identifiability.measure_identifiability(options)
    assert torch.equal(torch.get_rng_state(), before)
    compared = {"FINE", "FINE with subset codes", "MISA-style", "none", "untrained"}
    assert set(content["compared"]) == compared | {"perfect", "chance"}
    assert set(content["compared_mlp"]) == compared
    assert set(content["factorcl"]) == set(identifiability.COMPARED) and np.shape(content["leakage"]["FINE"]) == (6, 11)
    none = content["compared"]["none"]
    assert none["shared_in_str"]["mean"] == none["unique_in_utr"]["mean"] == 0
    monkeypatch.setattr(identifiability, "_content", lambda *_: pytest.fail("computed again"))
    assert identifiability.measure_identifiability(options) == content
    table6 = {s for group in identifiability.ablations.blocks(6, options)[0].specs((0,)).values() for s in group}
    assert few["FINE"][0] in table6
