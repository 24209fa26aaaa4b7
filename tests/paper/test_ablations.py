"""Rows of Tables 5 and 6: each differs from FINE in what it says and in nothing else."""

import json
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from test_fine import SMALL, make, make_batch

from finelib import metrics
from finelib.config import FineConfig
from finelib.data import planted, sources
from finelib.data.corpora import CORPORA
from finelib.paper import ablations, power, tables
from finelib.paper.table import Row
from finelib.runs.options import Options

ROWS = {v.name: v for v in (*ablations.COMPONENT_ROWS, *ablations.PANEL_ROWS.values())}
# which parts of the model a change may touch
PARTS = {
    "encoder": {"moq"},
    "experts": {"moq"},
    "top_k": {"moq"},
    "critic": {"information"},
    "critic_layers": {"information"},
    "queue_alpha": {"queue"},
    "factorisation": {"ftre", "information", "unimodal", "fusion"},
}
# coefficient -> the terms of "total" it weighs, and their sign
TERM_OF = {
    "lambda_up": ("L_UP", 1),
    "lambda_cl": ("L_CL", 1),
    "lambda_aux": ("L_aux", 1),
    "weight_recon": ("L_recon", 1),
    "weight_uni": ("I_uni", 1),
    "weight_str": ("I_str", 1),
    "weight_sha": ("I_sha", -1),
    "weight_utr": ("I_utr", -1),
}


def build(change):
    torch.manual_seed(0)
    return make(replace(SMALL, **change))


def shapes(model):
    return {name: tuple(x.shape) for name, x in model.state_dict().items()}


def test_all_rows_of_the_paper_are_there_in_its_order():
    for number, rows, name in (
        (5, ablations.MODALITY_ROWS, tables.modalities_printed),
        (6, ablations.COMPONENT_ROWS, lambda record: record["config"]),
    ):
        printed = [row.name for row in tables.printed_rows(number, name)]
        assert [v.name for v in rows if v.kind == ablations.PRINTED] == printed
    assert max(Counter(v.name for v in ablations.COMPONENT_ROWS).values()) == 1


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_changes_settings_that_exist_and_only_the_parts_they_belong_to(row):
    assert set(row.change) <= {f.name for f in fields(FineConfig)}
    assert all(getattr(FineConfig(), name) != value for name, value in row.change.items())
    whole, variant = shapes(build({})), shapes(build(row.change))
    allowed = set().union(*(PARTS.get(name, set()) for name in row.change))
    for name in whole.keys() ^ variant.keys() | {n for n in whole.keys() & variant.keys() if whole[n] != variant[n]}:
        assert name.split(".")[0] in allowed, name
    assert (whole == variant) == (not allowed)


@pytest.mark.parametrize("row", [v for v in ROWS.values() if v.loss_only], ids=lambda v: v.name)
def test_loss_only_rows_start_from_the_same_predictions(row):
    whole, variant, batch = build({}), build(row.change), make_batch()
    assert torch.equal(whole(batch).prediction, variant(batch).prediction)


def test_rows_that_are_not_loss_only_do_not():
    batch = make_batch()
    for row in ablations.COMPONENT_ROWS:
        if not row.loss_only and row.change:
            assert not torch.equal(build({})(batch).prediction, build(row.change)(batch).prediction), row.name


@pytest.mark.parametrize(
    "row", [v for v in ROWS.values() if v.loss_only and set(v.change) <= set(TERM_OF)], ids=lambda v: v.name
)
def test_a_coefficient_row_takes_its_terms_from_the_objective_and_no_other(row):
    whole, variant, batch = build({}), build(row.change), make_batch()
    variant.load_state_dict(whole.state_dict())
    with torch.no_grad():
        terms, left = whole.losses(whole(batch), batch), variant.losses(variant(batch), batch)
    taken = 0.0
    for name in row.change:
        term, sign = TERM_OF[name]
        outer = SMALL.beta_mi if name.startswith("weight_") else 1.0
        value = terms[term].clamp(min=0) if term in ("I_uni", "I_str") else terms[term]
        taken += sign * outer * getattr(SMALL, name) * value
    torch.testing.assert_close(left["total"], terms["total"] - taken)
    assert float(taken) != 0 or set(row.change) <= {"weight_uni", "weight_str"}


def test_contrast_rows_differ_in_the_contrastive_loss_alone():
    whole, batch = build({}).train(), make_batch()
    whole.losses(whole(batch), batch)  # fill the queue
    whole.eval()
    with torch.no_grad():
        terms = whole.losses(whole(batch), batch)
        for name in ("w/o DCQ + ACCon", "w/o DCQ + SCL", "DCQ (SCL)"):
            variant = build(ROWS[name].change)
            variant.load_state_dict(whole.state_dict(), strict=False)
            left = variant.losses(variant(batch), batch)
            assert {k for k in terms if not torch.equal(terms[k], left[k])} == {"L_CL", "total"}, name


# ---------------------------------------------------------------------------------------------- Table 5


def test_best_prediction_of_all_modalities_is_the_oracle():
    corpus = sources.load("mosei", design="modalities", scale=0.2)
    split = corpus.splits["test"]
    best = planted.best_prediction(corpus.info, "modalities", split.factors, ("T", "A", "V"))
    np.testing.assert_allclose(best, split.factors["oracle"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("subset", ["T", "A", "V", "TA"])
def test_best_prediction_of_a_subset_leaves_nothing_that_the_subset_could_tell(subset):
    rng, info = np.random.default_rng(0), CORPORA["mosei"]
    factors = {f: rng.standard_normal(20_000).astype(np.float32) for f in planted.FACTORS}
    truth = planted._on_scale(info, planted.DESIGNS["modalities"], planted.DESIGNS["modalities"].response(factors))
    best = planted.best_prediction(info, "modalities", factors, tuple(subset))
    left = truth - best
    seen = {f for m in subset for f in planted.SEEN[m]}
    for f in planted.FACTORS:
        r = abs(np.corrcoef(left, factors[f])[0, 1])
        assert r < 0.03 if f in seen else True
    assert abs(left.mean()) < 0.03 and abs(np.corrcoef(left, best)[0, 1]) < 0.03
    # told too little, it is another prediction
    assert (left**2).mean() > 0.01


def test_oracle_grows_with_the_subset():
    corpus = sources.load("mosei", design="modalities")
    found = tables.subset_oracles(corpus, "modalities")
    for small, value in found.items():
        for large, more in found.items():
            assert more > value if set(small) < set(large) else True
    split = corpus.splits["test"]
    assert max(found.values()) == pytest.approx(metrics.correlation(split.factors["oracle"], split.label))


# ------------------------------------------------------------------------------------------ whole tables


@pytest.mark.parametrize(("number", "least"), [(5, 7), (6, 18)])
def test_smoke_table_has_every_row_traced_to_its_runs(number, least, tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "SHOULD_MATTER", {"cues": ("w/o MoQ",)})
    options = Options(preset="smoke", out=tmp_path, jobs=2)
    table = tables.build_table_5_or_6(number, options)
    systems = [row for row in table.rows if row.measured and row.kind == "system"]
    assert len(systems) >= least
    for row in systems:
        assert row.data == "planted" and len(row.runs) == 2
        for run in row.runs:
            record = json.loads((tmp_path / "runs" / run / "record.json").read_text())
            assert record["name"] == row.name
    with_difference = [row for row in systems if row.differences]
    assert len(with_difference) >= least - 1
    written = json.loads((tmp_path / "figures" / f"table{number}.json").read_text())
    assert len(written["rows"]) == len(table.rows)
    suffixes = {path.suffix for path in (tmp_path / "figures").glob(f"table{number}.*")}
    assert suffixes == {".json", ".csv", ".md", ".tex", ".html"}
    row = with_difference[0]
    base = next(r for r in systems if r.name in ("FINE", "V + A + T") and r.block == row.block)
    gap = row.measured["corr"]["mean"] - base.measured["corr"]["mean"]
    assert row.differences["corr"]["mean"] == pytest.approx(gap)


def test_order_of_subsets_by_hand():
    def row(name, oracle, low, high):
        corr = {"mean": (low + high) / 2, "sd": 0.1, "low": low, "high": high, "n": 3}
        return Row(name, "system", "planted", "", "", "", None, {"corr": corr}, extra={"oracle Corr": oracle})

    rows = [row("a", "0.3", 0.1, 0.2), row("b", "0.5", 0.3, 0.4), row("c", "0.8", 0.15, 0.25)]
    found = power.order_of_subsets(rows).set_index(["better", "worse"])["verdict"]
    assert found.to_dict() == {("b", "a"): "right", ("c", "a"): "open", ("c", "b"): "wrong"}
