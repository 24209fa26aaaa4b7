"""The study of worlds: which runs, which start is taken, intervals over worlds, what is said by rule."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.baselines.subset_codes import TRAIN, SubsetCodesConfig
from finelib.config import DataConfig, RunSpec
from finelib.data.corpora import CORPORA
from finelib.runs import presets
from finelib.runs.options import Options
from finelib.study import starts, subset_codes
from finelib.study import subset_codes_said as said
from finelib.study.identifiability import SCORES
from finelib.study.subset_codes_factorcl import measure_factorcl

SPEC = RunSpec("FINE", DataConfig("mosei"), presets.DEMO, presets.SMALL_TRAIN["demo"], 4)


def row(system, world, seed, score, corr=0.75):
    values = dict.fromkeys(SCORES, score)
    about = {"system": system, "world": world, "seed": seed, "run": f"{system}{world}{seed}", "corr": corr}
    return about | {"linear": values, "mlp": values, "seconds": 2.0, "parameters": 100}


def test_the_goal_is_judged_on_worlds_that_nothing_was_tried_on():
    case = subset_codes.cases(Options())["worlds"]
    assert case.worlds == (101, 102, 103, 104, 105, 106) and case.seeds == (0, 1, 2)
    found = case.specs()
    assert len(found) == 2 * 6 * 3 and {spec.data.seed for group in found.values() for spec in group} == set(
        case.worlds
    )
    for (system, world, seed), group in found.items():
        assert [spec.seed for spec in group] == [seed, seed + starts.APART]
        assert all(spec.train.epochs == 20 and spec.data.seed == world for spec in group)
        assert all(isinstance(spec.model_config, SubsetCodesConfig) == (system == VARIANT) for spec in group)
        assert all(spec.train.keep_last == (system == VARIANT) for spec in group)


def test_the_variant_has_fines_sizes_and_its_own_training():
    spec = starts.with_subset_codes(SPEC, VARIANT, ridge=0.5)
    assert spec.model_config.width == SPEC.model_config.width and spec.model_config.ridge == 0.5
    assert spec.model_config.dropout == 0.2 and spec.train.epochs == TRAIN["epochs"] and spec.train.keep_last
    assert spec.train.lr == SPEC.train.lr and spec.seed == SPEC.seed


def test_the_start_is_taken_whose_codes_agree_best():
    def run(*structure):
        curves = [{"structure": s, "dev_mae": 1 / s} for s in structure]
        return SimpleNamespace(curves=curves, info=CORPORA["mosi"]), None

    runs = [run(0.5, 1.6), run(3.0, 1.1), run(0.1, 2.0)]
    assert starts.best_start(runs) is runs[1]


def test_intervals_are_over_worlds_of_means_over_seeds():
    rng = np.random.default_rng(0)
    values = rng.random((4, 3))
    rows = [row(VARIANT, w, s, values[w, s]) for w in range(4) for s in range(3)]
    found = said.over_worlds(rows, "linear", SCORES[0])
    means = values.mean(1)
    low, high = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((means.mean(), low, high, 4))


def test_corr_is_compared_world_by_world():
    mine = [row(VARIANT, w, s, 0.7, corr=0.7 + 0.1 * w + 0.01 * s) for w in range(3) for s in range(2)]
    fine = [row("FINE", w, s, 0.0, corr=0.69 + 0.1 * w) for w in range(3) for s in range(2)]
    found = said.corr_difference(mine, fine)
    assert (found.mean, found.low, found.high) == pytest.approx((0.015, 0.015, 0.015))


@pytest.mark.parametrize(("score", "spread", "holds"), [(0.7, 0.01, True), (0.3, 0.01, False), (0.55, 0.2, None)])
@pytest.mark.parametrize(("lead", "kept"), [(0.0, True), (-0.05, False)])
def test_what_is_said_follows_the_intervals(score, spread, holds, lead, kept):
    mine = [row(VARIANT, w, 0, score + spread * (w - 1), corr=0.75 + lead + 0.001 * w) for w in range(3)]
    fine = [row("FINE", w, 0, 0.0) for w in range(3)]
    found = said.judge_worlds(mine + fine)
    assert [found[f"codes_{s}"]["holds"] for s in SCORES] == [holds] * 3
    assert found["codes_corr"]["holds"] is kept and len(found["codes_corr"]["runs"]) == 6


def test_the_lower_of_two_probes_decides():
    rows = [row(VARIANT, w, 0, 0.7 + 0.01 * w) for w in range(3)] + [row("FINE", w, 0, 0.0) for w in range(3)]
    for each in rows:
        each["mlp"] = dict.fromkeys(SCORES, 0.2 + 0.01 * each["world"])
    assert said.judge_worlds(rows)["codes_shared_in_str"]["holds"] is False


def test_each_case_is_measured_by_one_study():
    found = [name for cases in subset_codes.STUDIES.values() for name in cases]
    every = subset_codes.cases(Options())
    assert sorted([*found, subset_codes.FACTORCL]) == sorted(every) and len(set(found)) == len(found)
    own = {"parts": subset_codes.TRIED, "more worlds": subset_codes.MORE_WORLDS}
    worlds = [*subset_codes.WORLDS, *subset_codes.TRIED, *subset_codes.MORE_WORLDS]
    assert len(set(worlds)) == len(worlds) == 6 + 4 + 48  # none of which settings were tried on decides
    for name, case in every.items():  # FINE beside the variant in enough worlds for an interval
        assert list(case.systems)[:2] == ["FINE", VARIANT] and len(case.worlds) >= 4
        assert set(case.worlds) <= set(own.get(name, subset_codes.WORLDS))
        assert all(len(group) == case.starts for group in case.specs().values())


def test_shapes_are_a_share_of_the_corpus_s_own():
    every = subset_codes.cases(Options())
    for name, (corpus, share) in subset_codes.SHAPES.items():
        (data,) = {replace(spec.data, seed=0) for group in every[name].specs().values() for spec in group}
        assert data == DataConfig(corpus, scale=share, design="corpus") and 0.3 < share < 0.5


def rows_of(score, corr, spread=0.01, worlds=4):
    mine = [row(VARIANT, w, 0, score + spread * (w - 1.5), corr=corr + spread * (w % 2 - 0.5)) for w in range(worlds)]
    return mine + [row("FINE", w, 0, 0.0, corr=0.75) for w in range(worlds)]


@pytest.mark.parametrize(("score", "spread", "reached"), [(0.4, 0.01, True), (0.2, 0.01, False), (0.29, 0.1, None)])
def test_a_further_goal_is_reached_by_its_interval(score, spread, reached):
    found = said.judge_further({"redundancy": rows_of(score, 0.75, spread)})
    assert list(found) == ["redundancy: scores"]  # of Corr no goal was set there
    means = score + spread * (np.arange(4) - 1.5)
    low, high = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    assert [found["redundancy: scores"][end] for end in ("low", "high")] == pytest.approx([low, high])
    assert found["redundancy: scores"]["holds"] is reached is (True if low > 0.3 else False if high < 0.3 else None)


@pytest.mark.parametrize(("lead", "reached"), [(0.02, True), (-0.05, False), (-0.012, None)])
def test_corr_is_kept_where_it_was_to_be_kept(lead, reached):
    found = said.judge_further({name: rows_of(0.9, 0.75 + lead) for name in ("many", *subset_codes.SHAPES)})
    assert sorted(found) == sorted(f"{name}: Corr" for name in ("many", *subset_codes.SHAPES))
    assert {each["holds"] for each in found.values()} == {reached}


def test_the_lowest_of_six_scores_is_held_against_the_goal():
    rows = rows_of(0.9, 0.75)
    for each in rows:
        each["mlp"] = each["mlp"] | {SCORES[1]: 0.25 + 0.001 * each["world"]}
    found = said.judge_further({"two modalities": rows, "FactorCL": rows})
    assert found["two modalities: scores"]["holds"] is False and SCORES[1] in found["two modalities: scores"]["says"]
    assert found["FactorCL: scores"]["holds"] is False and found["two modalities: Corr"]["holds"] is True


def test_a_reason_stands_where_a_goal_is_not_reached_and_only_there():
    for score, there in ((0.9, 0), (0.1, 1)):
        rows = {"redundancy": rows_of(score, 0.75)}
        case = {"about": "x", "systems": said.summary(rows["redundancy"]), "runs": []}
        text = said.as_text({"cases": {"redundancy": case}, "findings": said.judge_further(rows)})
        assert (
            text.count(said.REASONS["redundancy"]) == there and text.count("| yes |" if score > 0.3 else "| no |") == 1
        )


def test_an_open_goal_without_a_known_reason_says_that_it_is_open():
    lines = said.goals_table(said.judge_worlds(rows_of(0.9, 0.742)))
    assert [line.count("| yes |") for line in lines[2:]] == [
        1,
        1,
        1,
        0,
        0,
    ] and "| open | the goal lies within" in lines[5]
    assert f"| {said.GOAL:.2f} |" in lines[2] and f"| {said.LOST:.2f} |" in lines[5]


@pytest.mark.parametrize(("sd", "margin"), [(0.02, 0.01), (0.05, 0.01), (0.001, 0.01)])
def test_so_many_worlds_are_needed_and_no_fewer(sd, margin):
    """Against SciPy's interval of worlds with just this spread."""

    def half(n):
        return stats.t.interval(0.95, n - 1, 0.0, sd / np.sqrt(n))[1]

    n = said.worlds_needed(sd, margin)
    assert n >= 2 and half(n) <= margin and (n == 2 or half(n - 1) > margin)


def test_an_open_goal_says_how_far_the_worlds_tell_and_a_known_reason_stands_beside():
    means = 0.75 - 0.012 + 0.01 * (np.arange(4) % 2 - 0.5)
    found = said.judge_further({name: rows_of(0.9, 0.738) for name in ("many", "shape of CMU-MOSI")})
    low, high = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    many, shape = said.goals_table(found)[2:4]
    for line in (many, shape):
        assert f"4 worlds tell this difference to ±{(high - low) / 2:.3f}" in line
        assert f"about {said.worlds_needed(means.std(ddof=1), 0.01)} worlds" in line
    assert said.REASONS["many"] in many
    lost = said.goals_table(said.judge_further({"many": rows_of(0.9, 0.70)}))[2]
    assert "worlds tell" not in lost and said.REASONS["many"] in lost


def test_factorcl_s_design_is_measured_by_both_readings_of_one_run():
    groups = {
        key: group for key, group in subset_codes.cases(Options("smoke"))["FactorCL"].specs().items() if key[1] == 101
    }
    few = {key: [replace(s, train=replace(s.train, epochs=1)) for s in group] for key, group in groups.items()}
    found = measure_factorcl(few, (64, 40, 40), 1)
    assert list(found) == ["FactorCL", "FactorCL, halves"]
    for entries, halves in zip(*found.values(), strict=True):
        assert {name for name in entries if entries[name] != halves[name]} == {"linear", "mlp"}
    variant = next(r for r in found["FactorCL"] if r["system"] == VARIANT)
    assert variant["structure"] == min(variant["starts"]) and len(set(variant["starts"])) == 2
    assert measure_factorcl(few, (64, 40, 40), 1)["FactorCL"][0]["linear"] == found["FactorCL"][0]["linear"]


@pytest.mark.long
def test_smoke_run_is_written_and_kept(tmp_path, monkeypatch):
    options = Options("smoke", out=tmp_path)
    case = subset_codes.cases(options)["worlds"]
    few = {"worlds": replace(case, worlds=case.worlds[:2])}
    monkeypatch.setattr(subset_codes, "cases", lambda options: few)
    content = subset_codes.measure_subset_codes(options)
    systems = content["cases"]["worlds"]["systems"]
    assert set(systems) == {"FINE", VARIANT} and len(content["cases"]["worlds"]["runs"]) == 4
    assert systems[VARIANT]["corr_minus_fine"]["n"] == 2 and set(content["findings"]) >= {"codes_corr"}
    of_variant = [r for r in content["cases"]["worlds"]["runs"] if r["system"] == VARIANT]
    assert all(r["structure"] == min(r["starts"]) for r in of_variant)
    assert "| FINE with subset codes |" in (options.figures / "subset_codes.md").read_text()
    monkeypatch.setattr(subset_codes, "_content", lambda *_: pytest.fail("computed again"))
    again, before = subset_codes.measure_subset_codes(options), subset_codes.measured_before(options)
    assert again == content and {name: before[name] for name in content} == content
