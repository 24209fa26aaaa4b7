"""Claims that FINE is best: on planted data by the whole matrix of home worlds, on real corpora by all who can run."""

import json
from dataclasses import replace

import numpy as np
import publish
import pytest
from made_tables import folder, measure, measured, put
from scipy import stats

from finelib.baselines import SYSTEMS
from finelib.paper import claims, printed
from finelib.paper.claims_measured import best
from finelib.paper.claims_worlds import FINE, RULE, best_over_worlds
from finelib.paper.findings import PUBLIC
from finelib.paper.verdict import DOES_NOT, HOLDS, NOT_RUN, OPEN

BEST = [claim for claim in claims.CLAIMS if claim.measured and claim.measured.func is best]
WORLDS = [f"w{i}" for i in range(8)]
HOME = {FINE: "w7"} | {system: WORLDS[i % 7] for i, system in enumerate(SYSTEMS)}
OTHER = "MISA"


def matrix(fine, **others):
    """A matrix in which every system has half of the way everywhere; FINE, and others by name, that and these gaps."""
    gaps = {FINE: fine} | others
    shares = {s: 0.5 + np.broadcast_to(gaps.get(s, 0), len(WORLDS)) for s in (FINE, *SYSTEMS)}
    cells = {s: {w: {"mean": v, "values": [v]} for w, v in zip(WORLDS, row, strict=True)} for s, row in shares.items()}
    worlds = {w: {"homes": [s for s in HOME if HOME[s] == w]} for w in WORLDS}
    sizes = dict.fromkeys(SYSTEMS, 100_000) | {FINE: 300_000}
    return {"data": "planted", "worlds": worlds, "matrix": cells, "parameters": sizes}


AHEAD = 0.2 + np.linspace(-0.05, 0.05, 8)  # everywhere, not by the same in all worlds
UNEVEN = np.array([0.4, -0.4, 0.3, -0.3, 0.4, -0.4, 0.3, -0.3])


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (matrix(AHEAD), HOLDS),
        (matrix(-AHEAD), DOES_NOT),
        (matrix(UNEVEN), OPEN),
        (matrix(AHEAD, **{OTHER: 2 * AHEAD}), DOES_NOT),  # one system is above it, all others below
        (matrix(AHEAD, **{OTHER: AHEAD + UNEVEN}), OPEN),
    ],
    ids=["ahead everywhere", "behind everywhere", "wins some", "behind one", "beside one"],
)
def test_the_rule_over_worlds(content, verdict):
    found = best_over_worlds(content)
    assert found.verdict == verdict and found.rule == RULE and "of 19: " in found.says
    assert "FINE has 0.30 M parameters, the median other 0.10 M" in found.says


def test_the_interval_is_students_over_the_worlds_that_are_home_to_neither():
    """At home, and at home with the other, FINE is far ahead or behind: neither counts."""
    gap = np.where([w in (HOME[FINE], HOME[OTHER]) for w in WORLDS], 9.0, AHEAD + UNEVEN)
    found = best_over_worlds(matrix(1.0, **{OTHER: 1.0 - gap}))
    kept = np.array([gap[i] for i, w in enumerate(WORLDS) if w not in (HOME[FINE], HOME[OTHER])])
    low, high = stats.t.interval(0.95, 5, kept.mean(), stats.sem(kept))
    assert len(kept) == 6 and f"least: FINE over {OTHER}" in found.says
    assert (found.value, found.low, found.high) == pytest.approx((kept.mean(), low, high))
    assert found.says.startswith("share of the way over 6 home worlds, 1 seed each; of 19: ")


def without(content, system, worlds):
    row = {w: cell for w, cell in content["matrix"][system].items() if w not in worlds}
    return content | {"matrix": content["matrix"] | {system: row}}


def diagonal(content):
    rows = {s: {HOME[s]: row[HOME[s]]} for s, row in content["matrix"].items()}
    return content | {"matrix": rows}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "have not been measured"),
        (diagonal(matrix(AHEAD)), "FINE is missing in w0, w1"),
        (without(matrix(AHEAD), OTHER, ["w3"]), f"{OTHER} is missing in w3 "),
    ],
    ids=["nothing", "the diagonal alone", "one cell is missing"],
)
def test_without_the_whole_matrix_it_is_not_run(content, said):
    found = best_over_worlds(content)
    assert found.verdict == NOT_RUN and said in found.says and found.rule == RULE


def test_no_table_of_planted_data_judges_it(tmp_path):
    """FINE is ahead of all in a table; the home worlds say what they say, and the pages say by which rule."""
    rows = [measured(name, -0.3, -0.2, "planted", block="measured on planted data") for name in SYSTEMS]
    options = folder(tmp_path, measured("FINE", data="planted", block="measured on planted data"), *rows, number=1)
    for content, verdict in ((None, NOT_RUN), (matrix(-AHEAD), DOES_NOT), (matrix(AHEAD), HOLDS)):
        if content:
            (options.figures / "home_worlds.json").write_text(json.dumps(content))
        else:
            (options.figures / "home_worlds_diagonal.json").write_text(json.dumps(diagonal(matrix(AHEAD))))
        claims.write_claims(options)
        told = {c["id"]: c for c in json.loads((options.figures / "claims.json").read_text())["claims"]}
        assert {told[claim.id]["verdicts"]["planted"] for claim in BEST} == {verdict}
        page, text = ((options.figures / f"claims.{form}").read_text() for form in ("html", "md"))
        assert page.count("no table of planted data judges") == len(BEST) and RULE in text
    assert len(BEST) == 5


def test_a_verdict_of_another_rule_is_not_kept(tmp_path):
    options = folder(tmp_path)
    path = claims.write_claims(options).with_suffix(".json")
    earlier = json.loads(path.read_text())
    for claim in earlier["claims"]:
        claim["verdicts"]["planted"] = claim["behind"]["planted"]["verdict"] = HOLDS
        claim["tests"]["measured"] = claim["tests"]["measured"].replace("best(", "beats_others(")
    path.write_text(json.dumps(earlier))
    claims.write_claims(options)
    told = {c["id"]: c["verdicts"]["planted"] for c in json.loads(path.read_text())["claims"]}
    assert {told[claim.id] for claim in BEST} == {NOT_RUN} and told["moq_essential"] == HOLDS


# ------------------------------------------------------------------------------------------- real corpora


def real(tmp_path, gaps, modalities="T + A + V", corpus="mosi", number=1, **more):
    """A real block: each system's Corr minus FINE's, with a half-width of 0.05."""
    told = {"data": "public", "modalities": modalities, "corpus": corpus}
    rows = [measured(name, gap - 0.05, gap + 0.05, **told) for name, gap in gaps.items()]
    return folder(tmp_path, measured("FINE", **told), *rows, number=number, **more)


def judged(options, corpus="mosi", claim="best_mosi"):
    return claims.verdicts(next(c for c in BEST if c.id == claim), options)[corpus]


BEHIND = dict.fromkeys(SYSTEMS, -0.2)


@pytest.mark.parametrize(
    ("gaps", "verdict"), [(BEHIND, HOLDS), (BEHIND | {OTHER: 0.0}, OPEN), (BEHIND | {OTHER: 0.2}, DOES_NOT)]
)
def test_on_a_real_corpus_the_systems_of_its_block_judge(gaps, verdict, tmp_path):
    found = judged(real(tmp_path, gaps))
    assert found.verdict == verdict and found.says.startswith("T + A + V: of 19: ")


@pytest.mark.parametrize("gaps", [{}, {"text encoder alone": -0.3}], ids=["FINE alone", "and its encoder"])
def test_without_compared_systems_it_is_not_run(gaps, tmp_path):
    """``--systems none``; also where a run with systems has been judged before."""
    options = real(tmp_path, BEHIND)
    claims.write_claims(options)
    found = judged(real(tmp_path, gaps))
    assert found.verdict == NOT_RUN and "no other method has been run for Table 1" in found.says
    claims.write_claims(options)
    told = {c["id"]: c for c in json.loads((options.figures / "claims.json").read_text())["claims"]}
    assert told["best_mosi"]["verdicts"]["mosi"] == NOT_RUN
    assert "**not run**: no other method" in (options.figures / "claims.md").read_text()


@pytest.mark.parametrize(("gap", "verdict"), [(-0.2, NOT_RUN), (0.2, DOES_NOT)])
def test_some_systems_can_only_speak_against_it(gap, verdict, tmp_path):
    found = judged(real(tmp_path, {OTHER: gap}))
    assert found.verdict == verdict and ("Table 1 lacks TFN, LMF, GFN, " in found.says) is (verdict == NOT_RUN)


@pytest.mark.parametrize("gap", [-0.2, 0.2])
def test_a_block_whose_audio_is_one_frame_a_clip_ranks_nothing(gap, tmp_path):
    """CMU-MOSI from public sources; another corpus with the same modalities is judged."""
    found = judged(real(tmp_path, dict.fromkeys(SYSTEMS, gap), "T + A"))
    assert found.verdict == NOT_RUN and "its audio is one frame a clip" in found.says
    options = real(tmp_path, dict.fromkeys(SYSTEMS, gap), "T + A", "mosei", number=2)
    assert judged(options, "mosei", "best_mosei").verdict == (HOLDS if gap < 0 else DOES_NOT)


ON_TEXT = "TFN LMF MISA C-MFN".split()  # MAG-BERT and MuLOT need two modalities


@pytest.mark.parametrize(("names", "verdict"), [(ON_TEXT, HOLDS), (ON_TEXT[:-1], NOT_RUN), (ON_TEXT[1:], NOT_RUN)])
def test_who_cannot_do_with_the_modalities_or_is_not_printed_is_not_missed(names, verdict, tmp_path):
    """UR-FUNNY, text alone: by the paper's Table 3 and by what each method is."""
    options = real(tmp_path, dict.fromkeys(names, -0.2), "T", "ur_funny", number=3)
    assert judged(options, "ur_funny", "best_ur_funny").verdict == verdict


def test_a_corpus_is_judged_by_its_own_table_alone(tmp_path):
    options = real(tmp_path, BEHIND)
    assert judged(options, claim="outperforms_everywhere").verdict == HOLDS
    assert judged(options, "mosei", "outperforms_everywhere").verdict == NOT_RUN


def test_published_tables_of_real_corpora_count_before_the_demos(tmp_path):
    options = real(tmp_path, BEHIND, name=PUBLIC)
    real(tmp_path, {})  # the demo's block, without systems
    assert judged(options).verdict == HOLDS
    real(tmp_path, {}, corpus="ch_sims")
    (options.figures / f"{PUBLIC}1.json").unlink()
    assert judged(options).verdict == NOT_RUN


def test_what_is_published_is_judged_together(tmp_path):
    """A table of real corpora and the home worlds' matrix, of two runs, beside the claims of a third."""
    first = folder(tmp_path / "demo")
    claims.write_claims(first)
    real(tmp_path / "demo", BEHIND, name=PUBLIC)
    (first.figures / "home_worlds.json").write_text(json.dumps(matrix(-AHEAD)))
    publish.judge_again(first.figures, tmp_path / "no runs")
    told = {c["id"]: c["verdicts"] for c in json.loads((first.figures / "claims.json").read_text())["claims"]}
    assert (told["best_mosi"]["mosi"], told["best_mosi"]["planted"]) == (HOLDS, DOES_NOT)
    assert told["best_mosi"]["mosei"] == NOT_RUN and "**holds**" in (first.figures / "claims.md").read_text()


def test_a_run_that_cannot_judge_a_claim_leaves_its_published_verdict(tmp_path, monkeypatch):
    """Some verdicts need the records of the run that they came from."""
    earlier, later = real(tmp_path / "earlier", BEHIND), folder(tmp_path / "later")
    claims.write_claims(earlier)
    (earlier.figures / "table1.json").unlink()
    claims.write_claims(later)
    monkeypatch.setattr(publish, "PUBLISHED", earlier.figures)
    monkeypatch.setattr(publish.pages, "write", lambda root: None)
    publish.publish(later.figures, ["claims"])
    told = {c["id"]: c["verdicts"] for c in json.loads((earlier.figures / "claims.json").read_text())["claims"]}
    assert told["best_mosi"]["mosi"] == HOLDS


# ------------------------------------------------------------------------------------------ licensed files


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.9, 0.95, HOLDS), (0.7, 0.8, DOES_NOT), (0.8, 0.9, OPEN)])
def test_against_printed_rows(low, high, verdict, tmp_path, monkeypatch):
    put(monkeypatch, {1: {"FINE": (99, 99, 99), "B": (85, 85, 85)}})
    spans = dict.fromkeys(printed.SENTIMENT, {"mean": (low + high) / 2, "sd": 0.0, "low": low, "high": high, "n": 3})
    row = replace(measured("FINE"), measured=spans)
    options = folder(tmp_path, row, replace(row, data="public"), number=1)
    assert measure(best, options, tables=[1]).verdict == verdict
    assert measure(best, options, "public", tables=[1]).verdict == NOT_RUN
    assert measure(best, options, tables=[1, 2]).verdict == NOT_RUN


# --------------------------------------------------------------------------------------- what is published


def test_the_published_matrix_is_whole():
    content = json.loads((publish.PUBLISHED / "home_worlds.json").read_text())
    assert best_over_worlds(content).verdict != NOT_RUN
