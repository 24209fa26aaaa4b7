"""Claims that a study's file decides: every rule gives every verdict on constructed numbers."""

import json
import shutil
from functools import partial

import pytest

from finelib.data.corpora import ALL_CORPORA
from finelib.paper import claims
from finelib.paper.claims_measured import Results, ahead_under_losses, figure5, figure5_above, figure5_order, finding
from finelib.paper.verdict import DOES_NOT, HOLDS, NOT_RUN, OPEN
from finelib.runs.options import ROOT, Options

BY_ID = {claim.id: claim for claim in claims.CLAIMS}


def measure(rule, options, data="files", **settings):
    return rule(Results(options, data), **settings)


def spread(mean, half=0.1, beyond="no", control=0.0):
    return {"mean": mean, "low": mean - half, "high": mean + half, "control": control, "beyond_control": beyond}


@pytest.mark.parametrize(
    ("rule", "measures", "verdict"),
    [
        (partial(figure5, measure="x"), {"x": spread(0.5, beyond="above")}, HOLDS),
        (partial(figure5, measure="x"), {"x": spread(0.5, beyond="no")}, OPEN),
        (partial(figure5, measure="x"), {"x": spread(0.5, beyond=None)}, OPEN),
        (partial(figure5, measure="x"), {"x": spread(0.5, beyond="below")}, DOES_NOT),
        (partial(figure5, measure="x", side="below"), {"x": spread(0.5, beyond="below")}, HOLDS),
        (partial(figure5_above, measure="x", threshold=0.5), {"x": spread(0.7)}, HOLDS),
        (partial(figure5_above, measure="x", threshold=0.5), {"x": spread(0.55)}, OPEN),
        (partial(figure5_above, measure="x", threshold=0.5), {"x": spread(0.3)}, DOES_NOT),
        (partial(figure5_order, larger="x", smaller="y"), {"x": spread(0.7), "y": spread(0.3)}, HOLDS),
        (partial(figure5_order, larger="x", smaller="y"), {"x": spread(0.4), "y": spread(0.3)}, OPEN),
        (partial(figure5_order, larger="x", smaller="y"), {"x": spread(0.3), "y": spread(0.7)}, DOES_NOT),
    ],
)
def test_figure_5_rules(rule, measures, verdict, tmp_path):
    options = Options(out=tmp_path)
    options.figures.mkdir()
    content = {"data": "files", "runs": ["run"], "measures": {"features": measures, "untrained": measures}}
    (options.figures / "figure5.json").write_text(json.dumps(content))
    assert measure(rule, options).verdict == verdict
    assert measure(rule, options, "planted").verdict == NOT_RUN


@pytest.mark.parametrize(("holds", "verdict"), [(True, HOLDS), (False, DOES_NOT), (None, OPEN)])
def test_findings(holds, verdict, tmp_path):
    options = Options(out=tmp_path)
    options.figures.mkdir()
    a = {"value": 1.0, "low": 0.5, "high": 1.5, "holds": holds, "says": "so", "runs": ["run"]}
    content = {"data": "planted", "findings": {"a": a, "b": a | {"holds": True, "value": 2.0}}}
    (options.figures / "estimators.json").write_text(json.dumps(content))
    rule = partial(finding, file="estimators", names=["a", "b"])
    assert measure(rule, options, "planted").verdict == verdict
    assert measure(rule, options, "public").verdict == NOT_RUN


@pytest.mark.parametrize(("holds", "verdict"), [(True, HOLDS), (False, DOES_NOT), (None, OPEN)])
def test_claims_about_str_and_utr_are_judged_for_the_variant_in_a_column_of_its_own(tmp_path, holds, verdict):
    found = {"value": 0.7, "low": 0.6, "high": 0.8, "holds": holds, "runs": ["a"], "says": "0.7"}
    made = {"data": "planted", "findings": {"codes_unique_in_utr": found}}
    options = Options(out=tmp_path)
    options.figures.mkdir(parents=True)
    (options.figures / "subset_codes.json").write_text(json.dumps(made))
    of_claim = claims.verdicts(BY_ID["unique_in_utr"], options)
    assert of_claim["variant"].verdict == verdict and of_claim["planted"].verdict == NOT_RUN
    assert claims.verdicts(BY_ID["misa_drop"], options)["variant"] == claims.OF_FINE


# ---------------------------------------------------------------------------------------------- missing data

MINUS_FINE = {  # of two systems: low and high; the claim's verdict, and what is said of FINE over the one that decides
    "both below FINE": ([(-0.3, -0.1), (-0.5, -0.4)], HOLDS, "FINE over a +0.200 [+0.100, +0.300]"),
    "one may be above": ([(-0.3, 0.1), (-0.5, -0.4)], OPEN, "FINE over a +0.100 [-0.100, +0.300]"),
    "one is above": ([(-0.3, -0.1), (-0.01, 0.3)], DOES_NOT, "FINE over b -0.145 [-0.300, +0.010]"),
    "one seed": ([(None, None), (None, None)], OPEN, "FINE over a +0.100"),
}


def losses(tmp_path, spans, data="planted"):
    average = {"FINE": {"mean": 0.4}}
    for name, (low, high) in zip("ab", spans, strict=False):
        average[name] = {"mean": 0.3, "minus_fine": {"mean": -0.1 if low is None else (low + high) / 2}}
        average[name]["minus_fine"] |= {"low": low, "high": high}
    options = Options(out=tmp_path)
    options.figures.mkdir()
    content = {"data": data, "corpus": "CMU-MOSI", "average": {"corr": average}}
    (options.figures / "missing.json").write_text(json.dumps(content))
    return options


@pytest.mark.parametrize("case", MINUS_FINE)
def test_robust_means_ahead_of_every_system_with_frames_missing(case, tmp_path):
    spans, verdict, says = MINUS_FINE[case]
    found = claims.verdicts(BY_ID["robust"], losses(tmp_path, spans))
    assert found["planted"].verdict == verdict and found["planted"].says.endswith(f"least: {says}")
    assert {found[kind].verdict for kind in ("files", *ALL_CORPORA)} == {NOT_RUN}


def test_losses_on_a_public_corpus_speak_of_that_corpus_and_fine_alone_of_none(tmp_path):
    found = claims.verdicts(BY_ID["robust"], losses(tmp_path, [(-0.3, -0.1)], "public"))
    assert found["mosi"].verdict == HOLDS and found["mosei"].verdict == found["planted"].verdict == NOT_RUN
    (tmp_path / "alone").mkdir()
    assert measure(ahead_under_losses, losses(tmp_path / "alone", []), "planted").verdict == NOT_RUN


def test_robust_is_judged_by_what_the_study_writes(tmp_path):
    """The published study: its own curves, averaged by hand, have the differences that the rule reads."""
    options = Options(out=tmp_path)
    options.figures.mkdir()
    shutil.copy(ROOT / "figures" / "published" / "missing.json", options.figures)
    content = json.loads((options.figures / "missing.json").read_text())
    found = measure(ahead_under_losses, options, content["data"])
    curves = {s: [x[str(rate)]["mean"] for rate in content["rates"]] for s, x in content["scores"]["corr"].items()}
    means = {s: sum(curve) / len(curve) for s, curve in curves.items()}
    (least,) = (s for s in means if f"; least: FINE over {s} " in found.says)
    assert found.value == pytest.approx(means["FINE"] - means[least], abs=1e-5)
    assert found.says.startswith(f"of {len(means) - 1}: ")
