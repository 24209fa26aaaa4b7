"""The study of worlds: which runs, which start is taken, intervals over worlds, what is said by rule."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.baselines.subset_codes import TRAIN, SubsetCodesConfig
from finelib.config import DataConfig, RunSpec
from finelib.runs import presets
from finelib.runs.options import Options
from finelib.study import starts, subset_codes
from finelib.study.identifiability import SCORES

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
        return SimpleNamespace(curves=[{"structure": s, "dev_mae": 1 / s} for s in structure]), None

    runs = [run(0.5, 1.6), run(3.0, 1.1), run(0.1, 2.0)]
    assert starts.best_start(runs) is runs[1]


def test_intervals_are_over_worlds_of_means_over_seeds():
    rng = np.random.default_rng(0)
    values = rng.random((4, 3))
    rows = [row(VARIANT, w, s, values[w, s]) for w in range(4) for s in range(3)]
    found = subset_codes.over_worlds(rows, "linear", SCORES[0])
    means = values.mean(1)
    low, high = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((means.mean(), low, high, 4))


def test_corr_is_compared_world_by_world():
    mine = [row(VARIANT, w, s, 0.7, corr=0.7 + 0.1 * w + 0.01 * s) for w in range(3) for s in range(2)]
    fine = [row("FINE", w, s, 0.0, corr=0.69 + 0.1 * w) for w in range(3) for s in range(2)]
    found = subset_codes.corr_difference(mine, fine)
    assert (found.mean, found.low, found.high) == pytest.approx((0.015, 0.015, 0.015))


@pytest.mark.parametrize(("score", "spread", "holds"), [(0.7, 0.01, True), (0.3, 0.01, False), (0.55, 0.2, None)])
@pytest.mark.parametrize(("lead", "kept"), [(0.0, True), (-0.05, False)])
def test_what_is_said_follows_the_intervals(score, spread, holds, lead, kept):
    mine = [row(VARIANT, w, 0, score + spread * (w - 1), corr=0.75 + lead + 0.001 * w) for w in range(3)]
    fine = [row("FINE", w, 0, 0.0) for w in range(3)]
    found = subset_codes.judge_worlds(mine + fine)
    assert [found[f"codes_{s}"]["holds"] for s in SCORES] == [holds] * 3
    assert found["codes_corr"]["holds"] is kept and len(found["codes_corr"]["runs"]) == 6


def test_the_lower_of_two_probes_decides():
    rows = [row(VARIANT, w, 0, 0.7 + 0.01 * w) for w in range(3)] + [row("FINE", w, 0, 0.0) for w in range(3)]
    for each in rows:
        each["mlp"] = dict.fromkeys(SCORES, 0.2 + 0.01 * each["world"])
    assert subset_codes.judge_worlds(rows)["codes_shared_in_str"]["holds"] is False


def test_each_case_is_measured_by_one_study():
    found = [name for cases in subset_codes.STUDIES.values() for name in cases]
    assert sorted(found) == sorted(subset_codes.cases(Options())) and len(set(found)) == len(found)


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
