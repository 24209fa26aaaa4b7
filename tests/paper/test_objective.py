"""The study of L_MI's forms: which runs it has, and what its rules say of constructed numbers."""

import json
from dataclasses import asdict, fields

import pytest

from finelib.config import FineConfig, TrainConfig
from finelib.data import planted
from finelib.paper import ablations, claims_measured, objective, tables
from finelib.paper.table import Row
from finelib.paper.verdict import DOES_NOT, HOLDS, NOT_RUN
from finelib.runs.options import Options

MAIN = planted.DESIGNS["components"].about
PRINTED_SUM, AVERAGED, FAST, FAST_AVERAGED = (
    "summed over pairs, critics at the model's rate",
    "averaged over pairs, critics at the model's rate",
    "summed over pairs, critics at 5 x the model's rate",
    "averaged over pairs, critics at 5 x the model's rate",
)
ROWS = {
    "FINE": set(),
    "w/o L_MI": {"beta_mi"},
    "w/o I_sha": {"weight_sha"},
    "w/o I_uni": {"weight_uni"},
    "w/o I_str": {"weight_str"},
    "w/o I_utr": {"weight_utr"},
    "w/o I_str, I_utr": {"weight_str", "weight_utr"},
    "w/o I_sha, I_uni": {"weight_sha", "weight_uni"},
    "w/o I_sha, I_str": {"weight_sha", "weight_str"},
    "w/o I_uni, I_utr": {"weight_uni", "weight_utr"},
}


@pytest.mark.parametrize(
    ("form", "model", "speed"),
    [
        (PRINTED_SUM, set(), 1),
        (AVERAGED, {"average_terms"}, 1),
        (FAST, set(), 5),
        (FAST_AVERAGED, {"average_terms"}, 5),
    ],
)
def test_a_form_has_every_row_of_l_mi_and_differs_from_fine_in_what_it_says(form, model, speed):
    options = Options("smoke")
    runs, fine = objective.blocks(options)[form, MAIN], ablations.blocks(6, options)[0].base
    assert set(runs) == set(ROWS)
    for row, (first, *others) in runs.items():
        whole = fine.model_config
        changed = {f.name for f in fields(FineConfig) if getattr(first.model_config, f.name) != getattr(whole, f.name)}
        assert changed == ROWS[row] | model and [spec.seed for spec in (first, *others)] == [0, 1]
        assert all(getattr(first.model_config, name) == 0 for name in ROWS[row])
        differs = {f.name for f in fields(TrainConfig) if getattr(first.train, f.name) != getattr(fine.train, f.name)}
        assert differs == ({"critic_speed"} if speed == 5 else set()) and first.train.critic_speed == speed


def test_fines_own_form_is_the_first_and_its_runs_are_table_6s():
    options = Options("smoke")
    found = objective.blocks(options)
    own = [spec for (form, _), rows in found.items() if form == PRINTED_SUM for runs in rows.values() for spec in runs]
    assert next(iter(objective.FORMS)) == PRINTED_SUM and set(own) <= set(tables.table_specs(6, options))
    assert {about for _, about in found} == {
        planted.DESIGNS[name].about for name in ("components", "redundancy", "complementary", "plain")
    }
    assert len(objective.specs(options)) == len(set(objective.specs(options))) == 4 * 2 * (10 + 2 + 2 + 3)


@pytest.mark.parametrize(
    ("summed", "said"),
    [
        ([0.701, 0.699, 0.700], "loses no more than 0.02 of Corr on dev against the average (+0.000 [-0.002, +0.002]"),
        ([0.661, 0.659, 0.660], "loses more than 0.02 of Corr"),
        ([0.600, 0.700, 0.800], "may lose more or less than 0.02 of Corr"),
        ([0.700], "may lose more or less than 0.02 of Corr"),  # one seed has no interval
    ],
)
def test_what_the_sum_costs_is_said_by_its_interval(summed, said):
    dev = dict.fromkeys((AVERAGED, FAST_AVERAGED), [0.7] * len(summed)) | dict.fromkeys((PRINTED_SUM, FAST), summed)
    slow, fast = objective.dev_sentences(dev)
    assert said in fast and said in slow
    assert fast.startswith("With critics at 5 x the model's rate") and slow.startswith("With critics at the model's")


def row(name, low=None, high=None, p=None, block=""):
    """A row of Table 6 on planted data, with the interval of its Corr minus FINE's."""
    corr = None if low is None else {"mean": (low + high) / 2, "low": low, "high": high, "p_holm": p}
    differences = corr and {"corr": corr}
    return Row(name, "system", "planted", "", "T", block, None, {}, ("run",), differences=differences)


def test_rows_are_named_where_they_are_shown_to_differ_after_correction():
    harmed, not_clear = row("w/o I_sha", -0.06, -0.04, 0.01), row("w/o I_uni", 0.02, 0.04, 0.2)
    said = objective.row_sentence("rows", [row("FINE"), harmed, not_clear, row("w/o I_str", 0.1, 0.1)])
    assert said == "Of 3 rows, shown to differ from FINE in Corr: w/o I_sha (-0.050, p .010)."
    said = objective.row_sentence("other forms", [row("FINE"), not_clear])
    assert said == "Of 1 other forms, none is shown to differ from FINE in Corr; most does w/o I_uni, by +0.030."


def test_a_claim_keeps_the_printed_forms_verdict_and_names_the_others(tmp_path):
    options = Options(out=tmp_path)
    options.figures.mkdir()

    def put(name, spans):
        """A table with FINE and B in a block for each form."""
        blocks = {form: f"measured: {objective.headed(form, MAIN)}" for form in spans}
        rows = [
            r for f, span in spans.items() for r in (row("FINE", block=blocks[f]), row("B", *span, block=blocks[f]))
        ]
        content = {"table": 6, "notes": [], "rows": [asdict(r) for r in rows]}
        (options.figures / f"{name}.json").write_text(json.dumps(content))

    def judged():
        return claims_measured.higher_in_each_form(claims_measured.Results(options, "planted"), ["B"])

    assert judged().verdict == NOT_RUN
    put("table6", {"components": (-0.2, -0.1)})
    alone = judged()
    assert alone.verdict == HOLDS and alone.says == "FINE over B +0.150 [+0.100, +0.200]"
    put("objective", {PRINTED_SUM: (0.1, 0.2), FAST: (0.1, 0.2), AVERAGED: (-0.2, -0.1)})
    found = judged()
    assert (found.verdict, found.value) == (HOLDS, alone.value)
    slow, averaged = (f"{HOLDS if sign == '+' else DOES_NOT} (FINE over B {sign}0.150" for sign in "-+")
    assert found.says.startswith(f"{alone.says}; {FAST}: {slow}") and f"; {AVERAGED}: {averaged}" in found.says


def test_the_study_is_written_with_its_sentences(tmp_path, monkeypatch):
    few = [row for row in ablations.COMPONENT_ROWS if row.name in ("w/o I_sha", "FINE", "w/o MoQ")]
    monkeypatch.setattr(ablations, "COMPONENT_ROWS", few)
    monkeypatch.setattr(ablations, "MATTERS", {})
    monkeypatch.setattr(ablations, "PANEL_ROWS", {})
    options = Options("smoke", out=tmp_path, jobs=1)
    table = objective.build(options)
    content = json.loads((options.figures / "objective.json").read_text())
    assert content["title"].startswith("L_MI as printed") and len(content["rows"]) == 4 + 4 * 2
    heading = (options.figures / "objective.md").read_text().splitlines()[0]
    assert heading == f"**{objective.SUBJECT}**"  # no table of the paper's
    between, *forms = table.measured
    assert [row.name for row in between] == list(objective.FORMS)
    assert [row.runs for row in between] == [next(r.runs for r in rows if r.name == "FINE") for rows in forms]
    assert [row.differences is None for row in between] == [True, False, False, False]
    said = (options.figures / "objective_in_short.md").read_text().splitlines()
    assert [f"- {sentence}" for sentence in table.notes] == said and len(said) == 2 + 1 + 4
