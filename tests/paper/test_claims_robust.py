"""The claim that FINE is robust: judged by what is left when frames are missing."""

import json
import shutil

import pytest
from made_tables import measure

from finelib.data.corpora import ALL_CORPORA
from finelib.paper import claims
from finelib.paper.claims_measured import ahead_under_losses
from finelib.paper.verdict import DOES_NOT, HOLDS, NOT_RUN, OPEN
from finelib.runs.options import ROOT, Options

BY_ID = {claim.id: claim for claim in claims.CLAIMS}
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
