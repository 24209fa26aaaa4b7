"""Claims: every rule gives every verdict on constructed results, and what is printed is judged as by hand."""

import inspect
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from made_tables import folder, measure, measured, put

from finelib.data import store
from finelib.data.corpora import ALL_CORPORA
from finelib.paper import ablations, claims, claims_measured, claims_printed
from finelib.paper.claims import as_text
from finelib.paper.claims_measured import added_modality, higher, lower_than_all
from finelib.paper.verdict import DOES_NOT, HOLDS, NOT_RUN, OPEN, VERDICTS, Verdict, all_must_hold
from finelib.runs.options import Options
from finelib.runs.records import PREDICTIONS, RunRecord, git_revision, write_record

CLAIMS = claims.CLAIMS
BY_ID = {claim.id: claim for claim in CLAIMS}


# ---------------------------------------------------------------------------------------------- the list


def test_enough_claims_each_with_its_place_and_what_would_settle_it():
    assert len(BY_ID) == len(CLAIMS) == 46 and set(claims.RULES) == set(BY_ID)
    assert all(claim.claim and claim.place and claim.settled_by for claim in CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS, ids=BY_ID)
def test_every_claim_can_be_judged_before_anything_was_run(claim, tmp_path):
    found = claims.verdicts(claim, Options(out=tmp_path))
    assert set(found) == set(claims.EVIDENCE) and {v.verdict for v in found.values()} <= set(VERDICTS)
    assert {found[kind].verdict for kind in ("planted", "files", *ALL_CORPORA)} == {NOT_RUN}
    assert (found["printed"] == claims.SILENT) == (claim.printed is None)


@pytest.mark.parametrize("rules", [claims_printed, claims_measured], ids=lambda m: m.__name__.rpartition(".")[2])
def test_every_rule_is_used_by_a_claim(rules):
    used = {rule.func for claim in CLAIMS for rule in (claim.printed, claim.measured) if rule}
    known = {
        f
        for name, f in inspect.getmembers(rules, inspect.isfunction)
        if not name.startswith("_") and f.__module__ == rules.__name__ and f.__annotations__["return"] is Verdict
    }
    assert len(known) > 5 and known <= used


def test_a_rule_is_written_as_it_is_called():
    assert as_text(BY_ID["ch_sims_second"].printed) == "rank(table=4, metric='acc5', place=2)"
    assert as_text(BY_ID["more_modalities"].measured) == "added_modality()" and as_text(None) == ""


def test_the_worst_part_speaks_for_all_and_every_run_counts_once():
    parts = [Verdict(HOLDS, "a", 0.1, runs=("r", "s")), Verdict(OPEN, "b", 0.3), Verdict(OPEN, "c", 0.2, runs=("s",))]
    found = all_must_hold(parts)
    assert (found.verdict, found.value, found.runs) == (OPEN, 0.2, ("r", "s"))
    assert found.says == "of 3: 1 holds, 2 cannot be told; least: c"
    assert all_must_hold([*parts, Verdict(DOES_NOT, "d", 9.0)]).says.endswith("least: d")
    assert all_must_hold([Verdict(OPEN, "b", 0.3, runs=("r", "r"))]) == Verdict(OPEN, "b", 0.3, runs=("r",))


# --------------------------------------------------------------------------------------- printed, by hand


@pytest.mark.parametrize(
    ("name", "verdict", "number"),
    [
        ("ch_sims_second", DOES_NOT, 3),  # 46.30, 42.1, 41.79
        ("ur_funny_margin", DOES_NOT, 0.98),  # 74.95 - 73.97
        ("mosei_one_point", HOLDS, 1.08),  # 87.70 - 86.6, 87.68 - 86.6
        ("mosei_acc7", HOLDS, 0.69),  # 55.59 - 54.9
        ("best_mosi", HOLDS, 0.30),  # 48.50 - 48.2
        ("best_ch_sims", HOLDS, 0.05),  # 82.28 - 82.23
        ("outperforms_everywhere", DOES_NOT, -4.51),  # 41.79 - 46.30
        ("more_modalities", DOES_NOT, -1.78),  # V 41.38, V + A 39.60
        ("audio_text_sota", HOLDS, 0.18),  # 86.78 - 86.6
        ("sota_without_task", HOLDS, 0.04),  # 86.64 - 86.6
        ("all_three_best", HOLDS, 0.72),  # 87.70 - 86.98
        ("misa_drop", OPEN, 0.72),  # 87.70 - 86.98
        ("both_branches", HOLDS, 1.84),  # 87.70 - 85.86, twice the s.e. of independent errors is 1.58
    ],
)
def test_printed_claims_checked_by_hand(name, verdict, number):
    found = BY_ID[name].printed()
    assert found.verdict == verdict and found.value == pytest.approx(number, abs=0.006)


PAIR = {"FINE": (80, 80, 50), "B": (79, 79, 49)}
TURNED = {"FINE": (80, 80, 50), "B": (79, 81, 49)}


@pytest.mark.parametrize(
    ("rule", "table", "verdict"),
    [
        (partial(claims_printed.best, tables=[1]), PAIR, HOLDS),
        (partial(claims_printed.best, tables=[1]), TURNED, DOES_NOT),
        (partial(claims_printed.best, tables=[1], metrics=["acc2_nonzero"]), TURNED, HOLDS),
        (partial(claims_printed.best, tables=[1]), PAIR | {"B": (80, 79, 49)}, DOES_NOT),
        (partial(claims_printed.rank, table=1, metric="f1_nonzero", place=2), TURNED, HOLDS),
        (partial(claims_printed.rank, table=1, metric="f1_nonzero", place=2), PAIR, DOES_NOT),
        (partial(claims_printed.margin, table=1, metrics=["acc7"], points=1.2, decimals=0), PAIR, HOLDS),
        (partial(claims_printed.margin, table=1, metrics=["acc7"], points=1.2, decimals=1), PAIR, DOES_NOT),
        (partial(claims_printed.above, table=1, row="FINE", than=["B"]), PAIR, HOLDS),
        (partial(claims_printed.above, table=1, row="FINE", than="all"), TURNED, DOES_NOT),
        (partial(claims_printed.lowest, table=1, rows=["B"]), PAIR, HOLDS),
        (partial(claims_printed.lowest, table=1, rows=["B"]), TURNED, DOES_NOT),
        (partial(claims_printed.drop, table=1, rows=["B"]), {"FINE": (80, 80, 50), "B": (70, 80, 50)}, HOLDS),
        (partial(claims_printed.drop, table=1, rows=["B"]), PAIR, OPEN),
        (partial(claims_printed.drop, table=1, rows=["B"]), {"FINE": (80, 80, 50), "B": (79.9, 80, 50)}, DOES_NOT),
        (partial(claims_printed.drop, table=1, rows=["B"]), {"FINE": (80, 80, 50), "B": (81, 80, 50)}, DOES_NOT),
        (partial(claims_printed.lead, tables=[1]), {"FINE": (80, 80, 50), "B": (70, 80, 50), "C": (60, 80, 50)}, HOLDS),
        (partial(claims_printed.lead, tables=[1]), {"FINE": (80, 80, 50), "B": (70, 80, 50), "C": (79, 80, 50)}, OPEN),
    ],
)
def test_printed_rules_on_constructed_tables(rule, table, verdict, monkeypatch):
    put(monkeypatch, {1: table})
    assert rule().verdict == verdict


@pytest.mark.parametrize(
    ("value", "expected", "verdict"),
    [(81, True, HOLDS), (79, True, DOES_NOT), (79, False, HOLDS), (81, False, DOES_NOT)],
)
def test_row_against_existing_methods(value, expected, verdict, monkeypatch):
    put(monkeypatch, {2: {"FINE": (90, 90, 60), "B": (80, 80, 50)}, 6: {"X": (value, 70, 40)}})
    found = claims_printed.above_existing(table=6, row="X", metrics=["acc2_nonzero"], expected=expected)
    assert found.verdict == verdict


@pytest.mark.parametrize(("full", "verdict"), [(90, HOLDS), (75, DOES_NOT)])
def test_added_modality_printed(full, verdict, monkeypatch):
    value = {1: 60, 2: 80, 3: full}
    put(monkeypatch, {5: {v.name: (value[len(v.name.split(" + "))],) * 3 for v in ablations.MODALITY_ROWS}})
    found = claims_printed.added_modality()
    assert found.verdict == verdict and "27 comparisons" in found.says  # 6 + 3 pairs of subsets, three columns


# ------------------------------------------------------------------------------------------------ measured


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.2, -0.1, HOLDS), (-0.01, 0.2, DOES_NOT), (0.1, 0.2, DOES_NOT), (-0.1, 0.1, OPEN), (None, None, OPEN)],
)
def test_row_against_fine(low, high, verdict, tmp_path):
    options = folder(tmp_path, measured("FINE"), measured("B", low, high))
    found = measure(higher, options, table=6, row="FINE", than=["B"])
    assert found.verdict == verdict and found.runs == ("run",)
    assert measure(higher, options, table=6, row="FINE", than=["B", "C"]).verdict == NOT_RUN
    assert measure(higher, options, "public", table=6, row="FINE", than=["B"]).verdict == NOT_RUN


@pytest.mark.parametrize(("second", "verdict"), [((-0.3, -0.1), HOLDS), ((-0.1, 0.1), OPEN), ((0.1, 0.2), DOES_NOT)])
def test_all_rows_must_hold(second, verdict, tmp_path):
    options = folder(tmp_path, measured("FINE"), measured("B", -0.2, -0.1), measured("C", *second))
    found = measure(higher, options, table=6, row="FINE", than=["B", "C"])
    assert found.verdict == verdict and found.says.startswith("of 2: ")


def test_planted_designs_are_kept_apart(tmp_path):
    about = {name: f"measured on planted data: {plan.about}" for name, plan in ablations.planted.DESIGNS.items()}
    pairs = [("components", (-0.2, -0.1)), ("cues", (0.1, 0.2))]
    found = [
        r
        for d, span in pairs
        for r in (
            measured("FINE", data="planted", block=about[d]),
            measured("B", *span, data="planted", block=about[d]),
        )
    ]
    options = folder(tmp_path, *found)
    assert measure(higher, options, "planted", table=6, row="FINE", than=["B"]).verdict == HOLDS
    assert measure(higher, options, "planted", table=6, row="FINE", than=["B"], design="cues").verdict == DOES_NOT
    assert measure(higher, options, "planted", table=6, row="FINE", than=["B"], design="plain").verdict == NOT_RUN


def recorded(tmp_path, noise: dict[str, float], seeds=3, size=400):
    """Run records whose predictions are the label plus noise; their rows know of no difference to each other."""
    rng, label, found = np.random.default_rng(0), np.linspace(-3, 3, 400), []
    for name, sd in noise.items():
        runs = [f"{name}{seed}" for seed in range(seeds)]
        for run in runs:
            (tmp_path / "runs" / run).mkdir(parents=True)
            predicted, file = label + sd * rng.standard_normal(size), tmp_path / "runs" / run / PREDICTIONS
            np.savez(file, test=predicted, test_label=label)
            told = dict.fromkeys(("config_hash", "code_hash", "data", "data_hash", "encoder", "git_revision"), "")
            told |= {"id": run, "name": name, "seed": 0, "corpus": "mosei", "modalities": ["T"], "config": {}}
            files = {PREDICTIONS: store.checksum(file)}
            write_record(RunRecord(file.parent, **told, sizes={}, versions={}, files=files))
        found.append(replace(measured(name, 0.0, 0.0), runs=tuple(runs)))
    return found


def test_rows_compared_by_their_records(tmp_path):
    options = folder(tmp_path, *recorded(tmp_path, {"good": 0.5, "bad": 3.0, "other": 0.5}))
    assert measure(higher, options, table=6, row="good", than=["bad"]).verdict == HOLDS
    assert measure(lower_than_all, options, table=6, rows=["bad"], others=["good", "other"]).verdict == HOLDS
    assert measure(higher, options, table=6, row="bad", than=["good"]).verdict == DOES_NOT
    assert measure(higher, options, table=6, row="good", than=["other"]).verdict == DOES_NOT  # the same, to .02
    (tmp_path / "runs" / "bad0" / "record.json").unlink()
    assert measure(higher, options, table=6, row="good", than=["bad"]).verdict == NOT_RUN


def test_added_modality_measured(tmp_path):
    noise = {v.name: {1: 4.0, 2: 2.0, 3: 0.5}[len(v.name.split(" + "))] for v in ablations.MODALITY_ROWS}
    options = folder(tmp_path, *recorded(tmp_path, noise), number=5)
    found = measure(added_modality, options)
    assert found.verdict == HOLDS and found.says.startswith("of 9: ")


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


def test_a_public_corpus_is_judged_by_its_own_rows_the_first_block_of_them(tmp_path):
    """Rows of the same name on another corpus, and in a second block of the corpus, say the opposite."""

    def rows(corpus, block, low, high):
        found = [measured("FINE", data="public", block=block), measured("w/o MoQ", low, high, "public", block=block)]
        return [replace(row, corpus=corpus) for row in found]

    first, second = rows("ch_sims_v2", "text", -0.2, -0.1), rows("ch_sims_v2", "numbers", 0.1, 0.2)
    options = folder(tmp_path, *first, *second, *rows("mosi", "speech", 0.1, 0.2))
    found = claims.verdicts(BY_ID["moq_essential"], options)
    assert (found["ch_sims_v2"].verdict, found["mosi"].verdict) == (HOLDS, DOES_NOT)
    assert {found[name].verdict for name in ("mosei", "ict_mmmo", "planted", "files")} == {NOT_RUN}


# ---------------------------------------------------------------------------------------------- the table


def test_forms_and_what_an_earlier_run_found(tmp_path):
    """Public results stay in the table when planted ones take their place in the folder."""
    name = "misa_drop"
    public = [measured("FINE", data="public"), measured("w/o FTRE + MISA", -0.2, -0.1, data="public")]
    public = [replace(row, corpus="mosi") for row in public]
    options = folder(tmp_path, *public)
    for _ in range(2):
        claims.write_claims(options)
        content = {c["id"]: c for c in json.loads((options.figures / "claims.json").read_text())["claims"]}
        nothing = dict.fromkeys(("planted", "files", "variant", *ALL_CORPORA), NOT_RUN)
        assert content[name]["verdicts"] == nothing | {"printed": OPEN, "mosi": HOLDS}
        folder(tmp_path)  # empties the table
    assert content[name]["behind"]["mosi"]["runs"] == ["run"]
    assert content[name]["behind"]["mosi"]["revision"] == git_revision()
    page, text = ((options.figures / f"claims.{form}").read_text() for form in ("html", "md"))
    assert all(claim.claim.replace("'", "&#39;") in page for claim in CLAIMS)
    assert text.count("\n| ") == len(CLAIMS) + 1
    assert "http" not in page and "src=" not in page


def test_claims_of_a_smoke_run(results, tmp_path):
    shutil.copytree(results.out, tmp_path / "results")
    written = claims.write_claims(replace(results, out=tmp_path / "results"))
    content = json.loads(written.with_suffix(".json").read_text())["claims"]
    decided = [c for c in content if c["verdicts"]["printed"] in (HOLDS, DOES_NOT)]
    assert len(content) >= 20 and len(decided) >= 8
    figure5 = next(c for c in content if c["id"] == "sentiment_in_features")
    assert figure5["verdicts"]["planted"] != NOT_RUN and figure5["behind"]["planted"]["runs"]
