"""Claims about STR and UTR for FINE with subset codes: judged by its study, in this folder or as it is published."""

import json

import pytest

from finelib.paper import claims, claims_measured
from finelib.paper.verdict import DOES_NOT, HOLDS, NOT_RUN
from finelib.runs.options import ROOT, Options

BY_ID = {claim.id: claim for claim in claims.CLAIMS}
OF_SCORES = [name for name, rule in claims.OF_VARIANT.items() if rule.keywords["file"] == "subset_codes"]


def write(folder, holds):
    found = {"value": 0.7, "low": 0.6, "high": 0.8, "holds": holds, "runs": ["a"], "says": "0.7"}
    names = [name for rule in claims.OF_VARIANT.values() for name in rule.keywords["names"]]
    folder.mkdir(parents=True)
    content = {"data": "planted", "findings": dict.fromkeys(names, found)}
    (folder / "subset_codes.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", OF_SCORES)
def test_a_folder_without_the_study_has_the_published_one_for_the_variant_alone(tmp_path, monkeypatch, name):
    monkeypatch.setattr(claims_measured, "PUBLISHED", tmp_path / "published")
    options = Options(out=tmp_path)
    assert claims.verdicts(BY_ID[name], options)["variant"].verdict == NOT_RUN
    write(tmp_path / "published", holds=True)
    found = claims.verdicts(BY_ID[name], options)
    assert found["variant"].verdict == HOLDS and found["variant"].says == "0.7 (as published)"
    assert found["planted"].verdict == NOT_RUN
    write(options.figures, holds=False)  # what was measured here counts before it
    found = claims.verdicts(BY_ID[name], options)
    assert found["variant"].verdict == DOES_NOT and found["variant"].says == "0.7"


def test_the_published_table_has_a_verdict_for_the_variant_on_every_claim_about_str_and_utr():
    """By its rule from the published study: a column of "not run" says nothing of what was measured."""
    folder = ROOT / "figures" / "published"
    shown = {claim["id"]: claim for claim in json.loads((folder / "claims.json").read_text())["claims"]}
    findings = json.loads((folder / "subset_codes.json").read_text())["findings"]
    expected = {True: "holds", False: "does not hold", None: "cannot be told"}
    assert len(OF_SCORES) == 3
    for name in OF_SCORES:
        (finding,) = claims.OF_VARIANT[name].keywords["names"]
        assert shown[name]["verdicts"]["variant"] == expected[findings[finding]["holds"]]
    assert shown["objective_identifies"]["verdicts"]["variant"] != NOT_RUN
