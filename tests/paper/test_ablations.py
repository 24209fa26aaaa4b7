"""Rows of Tables 5 and 6: each differs from FINE in what it says and in nothing else."""

import json
from collections import Counter
from dataclasses import fields

import made_runs
import numpy as np
import pytest
import torch
from test_fine import SMALL, WIDTHS, make_batch

from finelib import metrics
from finelib.baselines.variants import VARIANTS, VariantConfig
from finelib.config import FineConfig
from finelib.data import planted, sources
from finelib.data.corpora import CORPORA
from finelib.inputs import Inputs
from finelib.models import model_class
from finelib.paper import ablations, printed, tables
from finelib.runs import experiment, real, records
from finelib.runs.options import Options

ROWS = {v.name: v for v in (*ablations.COMPONENT_ROWS, *ablations.PANEL_ROWS.values())}
# which parts of the model a change may touch
PARTS = {
    "experts": {"moq"},
    "top_k": {"moq"},
    "critic": {"information"},
    "critic_layers": {"information"},
    "queue_alpha": {"queue"},
}
FTRE_PARTS = {"ftre", "information", "unimodal", "fusion"}
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


def build(row=ablations.FINE_ROW):
    torch.manual_seed(0)
    config, info = row.config(SMALL), CORPORA["mosi"]
    return model_class(config)(config, info, Inputs(WIDTHS), [20] * (len(info.class_edges) + 1)).eval()


def shapes(model):
    return {name: tuple(x.shape) for name, x in model.state_dict().items()}


def allowed_parts(row):
    """The parts of the model that a row may touch."""
    if row.name in VARIANTS:
        return {"moq"} if row.name.startswith("w/o MoQ") else FTRE_PARTS
    return set().union(*(PARTS.get(name, set()) for name in row.change))


def test_all_rows_of_the_paper_are_there_in_its_order():
    for number, rows in ((5, ablations.MODALITY_ROWS), (6, ablations.COMPONENT_ROWS)):
        assert [v.name for v in rows if v.kind == ablations.PRINTED] == [row.name for row in printed.rows(number)]
    assert max(Counter(v.name for v in ablations.COMPONENT_ROWS).values()) == 1


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_changes_settings_that_exist_and_only_the_parts_they_belong_to(row):
    assert set(row.change) <= {f.name for f in fields(FineConfig)}
    assert all(getattr(FineConfig(), name) != value for name, value in row.change.items())
    whole, variant, allowed = shapes(build()), shapes(build(row)), allowed_parts(row)
    for name in whole.keys() ^ variant.keys() | {n for n in whole.keys() & variant.keys() if whole[n] != variant[n]}:
        assert name.split(".")[0] in allowed, name
    assert (whole == variant) == (not allowed)


def test_every_variant_class_has_its_row():
    assert set(VARIANTS) == {row.name for row in ROWS.values() if isinstance(row.config(SMALL), VariantConfig)}


@pytest.mark.parametrize("row", [v for v in ROWS.values() if v.loss_only], ids=lambda v: v.name)
def test_loss_only_rows_start_from_the_same_predictions(row):
    whole, variant, batch = build(), build(row), make_batch()
    assert torch.equal(whole(batch).prediction, variant(batch).prediction)


def test_rows_that_are_not_loss_only_do_not():
    batch = make_batch()
    for row in ablations.COMPONENT_ROWS:
        if not row.loss_only and row is not ablations.FINE_ROW:
            assert not torch.equal(build()(batch).prediction, build(row)(batch).prediction), row.name


@pytest.mark.parametrize(
    "row", [v for v in ROWS.values() if v.loss_only and set(v.change) <= set(TERM_OF)], ids=lambda v: v.name
)
def test_a_coefficient_row_takes_its_terms_from_the_objective_and_no_other(row):
    whole, variant, batch = build(), build(row), make_batch()
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
    whole, batch = build().train(), make_batch()
    whole.losses(whole(batch), batch)  # fill the queue
    whole.eval()
    with torch.no_grad():
        terms = whole.losses(whole(batch), batch)
        for name in ("w/o DCQ + ACCon", "w/o DCQ + SCL", "DCQ (SCL)"):
            variant = build(ROWS[name])
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


def untrained(groups, out, *_):
    """Records as ``experiment.run_groups`` gives them, but of predictions that are made up, each run's its own."""

    def record(spec):
        test, rng = experiment.load_corpus(spec.data).splits["test"], np.random.default_rng(spec.seed)
        more = {"data_hash": spec.data.design, "modalities": list(spec.model_config.modalities)}
        made = (test.label + rng.normal(size=len(test)) * (1 + len(spec.name) / 9)).astype(np.float32)
        folder = out / "runs" / f"mosei-{spec.name.replace(' ', '_').replace('/', '_')}-s{spec.seed}-{spec.data.design}"
        if not folder.exists():
            made_runs.write_run(out, spec.name, spec.seed, made, test.label, test.ids, corpus="mosei", **more)
        return records.read_record(folder)

    return {name: [record(spec) for spec in specs] for name, specs in groups.items()}


@pytest.mark.parametrize(("number", "least"), [(5, 7), (6, 18)])
def test_smoke_table_has_every_row_traced_to_its_runs(number, least, tmp_path, monkeypatch):
    """The runs are made up; ``.ci/run`` trains those of the smoke preset."""
    monkeypatch.setattr(experiment, "run_groups", untrained)
    monkeypatch.setattr(ablations, "MATTERS", {"cues": "w/o MoQ"})
    monkeypatch.setitem(real.BLOCKS, number, [])
    options = Options(preset="smoke", out=tmp_path, jobs=2)
    table = tables.build_table(number, options)
    systems = [row for row in table.rows if row.measured and row.kind == "system"]
    assert len(systems) >= least
    for row in systems:
        assert row.data == "planted" and len(row.runs) == 2
        for run in row.runs:
            record = json.loads((tmp_path / "runs" / run / "record.json").read_text())
            assert record["name"] == ("FINE" if row.name == "V + A + T" else row.name)
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
