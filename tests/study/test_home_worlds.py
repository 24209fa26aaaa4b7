"""Home worlds: responses by loops over what was drawn, ridge by least squares on many utterances, parts really gone."""

import json
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

from finelib.baselines import SYSTEMS, coupled_mamba
from finelib.data import worlds
from finelib.data.features import MODALITIES
from finelib.data.worlds import WORLDS
from finelib.runs.options import Options
from finelib.study import home_runs, home_worlds
from finelib.study.home_runs import FINE, RIDGE, Cell
from finelib.study.taken_out import TAKEN_OUT, AloneBlock
from finelib.views import home_worlds as drawn_worlds

SMALL = (40, 20, 20)


def drawn(name, n=60, seed=3):
    return WORLDS[name].draw(np.random.default_rng(seed), n)


@pytest.fixture
def small(monkeypatch):
    """Worlds of few utterances."""
    monkeypatch.setattr(worlds, "HELD_OUT", SMALL[1:])
    for name, world in WORLDS.items():
        monkeypatch.setitem(WORLDS, name, replace(world, train=SMALL[0]))


# ------------------------------------------------------------------------------------------------- worlds


def at_every_step(x):
    """The one row (n, k) that all steps hold."""
    assert (x == x[:, :1]).all()
    return x[:, 0]


def formula_means(c, i):
    return sum(c[m][i, 0].sum() for m in MODALITIES) / np.sqrt(6)


def formula_products(c, i):
    t, a, v = (at_every_step(c[m])[i] for m in MODALITIES)
    return sum(t[k] * a[k] * v[k] for k in range(len(t))) / np.sqrt(len(t))


def formula_disagreeing(c, i):
    return sum(c[m][i, 0, 0] * c[m][i, 0, 1] for m in MODALITIES) / np.sqrt(3)


def formula_nuisance(c, i):
    return sum(c[m][i, 0, 0] * c[m][i, 0, 1] for m in MODALITIES) / np.sqrt(3)


def formula_graph(c, i):
    x = {m: c[m][i, 0] for m in MODALITIES}
    halves = product(combinations(MODALITIES, 2), (slice(0, None, 2), slice(1, None, 2)))
    pairs = sum(np.linalg.det([x[m][half], x[n][half]]) for (m, n), half in halves)
    return (pairs + x["T"][0] * x["A"][0] * x["V"][0]) / np.sqrt(13)


def formula_shifts(c, i):
    return sum(w * s for w, s in zip(c["T"][i, :, 0], c["A"][i, :, 0], strict=True)) / np.sqrt(c["T"].shape[1])


def formula_matching(c, i):
    kinds, total = c["T"].shape[2] - 1, 0.0
    for k in range(kinds):
        (t,), (a,) = (np.flatnonzero(c[m][i, :, k]) for m in "TA")  # the one frame of each that bears the mark
        total += c["T"][i, t, kinds] * c["A"][i, a, kinds]
    return total / np.sqrt(kinds)


def formula_context(c, i):
    sign = {np.sign(c[m][i, 0, 0]) for m in MODALITIES}  # the first sentence's
    assert len(sign) == 1
    return sign.pop() * sum(c[m][i, -1, 1] for m in MODALITIES) / np.sqrt(3)


def formula_cues(c, i):
    return sum(c[m][i, np.argmax(c[m][i, :, 1]), 0] for m in MODALITIES) / np.sqrt(3)


def formula_steps(c, i):
    (at,) = np.flatnonzero(c["T"][i, :, 0])
    return np.sign(c["T"][i, at, 0]) * c["A"][i, at - 1, 0]


def formula_order(c, i):
    at = {m: int(np.flatnonzero(c[m][i, :, 0])[0]) for m in "TA"}
    sign = np.sign(c["T"][i, at["T"], 1])
    return sign * {True: 1, False: -1}[at["A"] > at["T"]] * (at["A"] != at["T"]) / np.sqrt(5 / 6)


def formula_lookup(c, i):
    asked = np.argmax(at_every_step(c["T"])[i])
    (at,) = np.flatnonzero(c["A"][i, :, asked])
    assert c["A"][i, :, -1].sum() == pytest.approx(0, abs=1e-9)
    return c["A"][i, at, -1]


def formula_ignored(c, i):
    total = 0.0
    for m in MODALITIES:
        first, second = c[m][i, 0, :2]
        total += (first, -first, second, -second, 0)[int(np.argmax(c[m][i, 0, 2:]))]
    return total / np.sqrt(3 * 4 / 5)


def formula_grid(c, i):
    signs = {"T": "+--++-+-", "A": "++--+--+", "V": "+-+--+-+"}
    return sum((1 if s == "+" else -1) * c[m][i, t, 0] for m in MODALITIES for t, s in enumerate(signs[m])) / np.sqrt(
        24
    )


FORMULAS = {name.removeprefix("formula_"): f for name, f in list(globals().items()) if name.startswith("formula_")}


@pytest.mark.parametrize("name", WORLDS)
def test_the_response_is_what_the_world_says(name):
    found = drawn(name)
    if name in ("commons", "turned"):  # the common factors themselves are in no modality
        at = {"commons": 1, "turned": 2}[name]
        private = np.sqrt(1 / 3) * sum(at_every_step(found.codes[m])[:, at] for m in MODALITIES)
        np.testing.assert_allclose(abs(found.response), abs(private))
        return
    expected = [FORMULAS[name](found.codes, i) for i in range(len(found.response))]
    np.testing.assert_allclose(found.response, expected, atol=1e-9)


@pytest.mark.parametrize("name", WORLDS)
def test_ridge_has_nothing_to_find_where_it_should_not(name):
    """Least squares on the averaged codes, no noise: the most that a linear model of averaged frames can do."""
    found = drawn(name, n=40_000)
    x = np.concatenate([np.ones((40_000, 1)), *(codes.mean(1) for codes in found.codes.values())], 1)
    fit = np.linalg.lstsq(x[:20_000], found.response[:20_000], rcond=None)[0]
    r = np.corrcoef(x[20_000:] @ fit, found.response[20_000:])[0, 1]
    expected = {"means": 1.0, "cues": 1 / np.sqrt(12)}.get(name, 0.0)  # one frame of twelve independent ones
    assert r == pytest.approx(expected, abs=0.03)
    assert found.response.mean() == pytest.approx(0, abs=0.03) and found.response.var() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize(("name", "left"), [("steps", 6**-0.5), ("order", 0), ("grid", 0), ("shifts", 6**-0.5)])
def test_what_a_reader_blind_to_order_can_know(name, left):
    """Its best guess is the response averaged over orders of each modality's frames; docs/home_worlds.md has these."""
    n, rng, total = 400, np.random.default_rng(5), 0.0
    found = drawn(name, n)
    for _ in range(60):
        order = {m: rng.random(c.shape[:2]).argsort(1)[..., None] for m, c in found.codes.items()}
        shuffled = {m: np.take_along_axis(c, order[m], 1) for m, c in found.codes.items()}
        total = total + np.array([FORMULAS[name](shuffled, i) for i in range(n)])
    assert np.corrcoef(total, found.response)[0, 1] == pytest.approx(left, abs=0.12)


def test_a_corpus_is_drawn_by_its_seed_alone(small):
    first, again, other = (worlds.generate("order", seed) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.kind == "planted" and [len(s) for s in first.splits.values()] == list(SMALL)


@pytest.mark.parametrize("name", WORLDS)
def test_no_utterance_is_in_two_splits_and_the_oracle_knows_the_label(small, name):
    corpus = worlds.generate(name)
    rows = [row.tobytes() for s in corpus.splits.values() for row in s.frames["A"].values]
    assert len(set(rows)) == len(rows)
    for split in corpus.splits.values():
        noise = split.label - split.factors["oracle"]
        assert 0.1 < noise.std() < 0.3 and abs(split.label).max() <= worlds.LIMIT


def test_frames_are_codes_along_orthonormal_directions(small, monkeypatch):
    monkeypatch.setattr(worlds, "NOISE", 0.0)
    codes = []
    world = WORLDS["cues"]
    monkeypatch.setitem(WORLDS, "cues", replace(world, draw=lambda *a: codes.append(world.draw(*a)) or codes[-1]))
    frames = worlds.generate("cues").splits["train"].frames["V"].values
    told = codes[0].codes["V"].reshape(len(frames), -1)
    np.testing.assert_allclose(frames @ frames.T, told @ told.T, atol=1e-3)


# --------------------------------------------------------------------------------------- without the part


@pytest.fixture(scope="module")
def corpora():
    return {}


def pair(system, corpora, change=None):
    """A batch of the system's home, the whole system and the one without its part, both in evaluation mode."""
    world = home_worlds.HOME[system]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "HELD_OUT", SMALL[1:])
        patch.setitem(WORLDS, world, replace(WORLDS[world], train=SMALL[0]))
        corpus = corpora.setdefault(world, worlds.generate(world))
    built = [home_runs.build(Cell(world, system, 0, without), corpus).eval() for without in (False, True)]
    return corpus.batch(range(20)), *built


def in_other_order(batch, m):
    """The batch with the frames of one modality in reverse order."""
    return replace(batch, features=batch.features | {m: batch.features[m].flip(1)})


@pytest.mark.parametrize("system", TAKEN_OUT)
def test_every_system_trains_without_its_part(system, corpora):
    batch, whole, without = pair(system, corpora)
    assert without(batch).prediction.shape == whole(batch).prediction.shape == (20,)
    without.train().losses(without(batch), batch)["total"].backward()
    assert sum(p.grad is not None for p in without.parameters()) > 2


def unused(model, batch):
    """Names of the parameters that the loss does not reach."""
    model.train().losses(model(batch), batch)["total"].backward()
    return {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}


GONE = {
    "MFN": ("attention.", "candidate.", "gates."),
    "MulT": ("cross.",),
    "GFN": ("graph.join.", "graph.join_again."),
    "Self-MM": ("feature.T", "head.A", "head.V"),
    "C-MFN": ("context.",),
    "LMF": (),
}


@pytest.mark.parametrize("system", [s for s, names in GONE.items() if names])
def test_nothing_trains_the_part_that_is_gone(system, corpora):
    batch, whole, without = pair(system, corpora)
    lost = unused(without, batch) - unused(whole, batch)
    for part in GONE[system]:
        if own := [name for name, _ in without.named_parameters() if name.startswith(part)]:
            assert set(own) <= lost | unused(without, batch), part


def test_concatenated_tfn_and_added_lmf_have_no_products(corpora):
    """Exchanging one modality between two utterances changes an additive prediction by what it changes elsewhere."""
    batch, whole, added = pair("LMF", corpora)
    other = replace(batch, features=batch.features | {"A": batch.features["A"].roll(1, 0)})
    third = replace(batch, features=batch.features | {"V": batch.features["V"].roll(1, 0)})
    both = replace(other, features=other.features | {"V": batch.features["V"].roll(1, 0)})
    with torch.no_grad():
        mixed = [
            sum(s * m(b).prediction for s, b in ((1, batch), (-1, other), (-1, third), (1, both)))
            for m in (whole, added)
        ]
    assert mixed[0].abs().max() > 1e-4 and mixed[1].abs().max() < 1e-5


@pytest.mark.parametrize("system, m", [("MuLOT", "A"), ("MAG-BERT", "A"), ("CubeMLP", "T")])
def test_the_order_of_frames_is_lost_with_the_part(system, m, corpora):
    batch, whole, without = pair(system, corpora)
    with torch.no_grad():
        change = [(s(in_other_order(batch, m)).prediction - s(batch).prediction).abs().max() for s in (whole, without)]
    assert change[0] > 1e-4
    if system != "MuLOT":  # whose frames have positions of their own
        assert change[1] < 1e-5


def test_without_transport_every_frame_gets_the_same(corpora):
    batch, whole, without = pair("MuLOT", corpora)
    mask = batch.mask
    states = {m: torch.randn(20, x.shape[1], 8) for m, x in batch.features.items()}
    for model, differs in ((whole, True), (without, False)):
        sent = model.transported(states, mask)[0]["T"][0]
        assert bool((sent - sent[:, :1]).abs().max() > 1e-3) is differs
        # all mass arrives, as exactly as ten iterations leave it
        np.testing.assert_allclose(sent.mean(1), states["A"].mean(1), atol=0.1)


def test_a_separate_bbfn_does_not_look_at_the_other_modality(corpora):
    batch, whole, separate = pair("BBFN", corpora)
    first, second = torch.randn(2, 20, batch.features["T"].shape[1], whole.config.width)
    control, mask = torch.randn(20, 2 * whole.config.width), batch.mask["T"]
    for model, differs in ((whole, True), (separate, False)):
        (gated,) = {layer.gated[0] for layer in model.pairs["A"]}
        change = gated(first, second, control, mask) - gated(first, second.roll(1, 0), control, mask)
        assert bool(change.abs().max() > 1e-3) is differs


def test_without_context_the_context_changes_nothing(corpora):
    batch, whole, without = pair("C-MFN", corpora)
    features = {m: torch.where((batch.sentence[m] > 0)[..., None], -x, x) for m, x in batch.features.items()}
    other = replace(batch, features=features)
    with torch.no_grad():
        change = [(s(other).prediction - s(batch).prediction).abs().max() for s in (whole, without)]
    assert change[0] > 1e-4 and change[1] == 0


def test_uncoupled_states_are_those_of_one_modality_alone():
    """With one modality Coupled Mamba is Mamba, which other tests hold to transformers'."""
    torch.manual_seed(0)
    config = coupled_mamba.Config(width=8, states=3, expand=1)
    block, x = AloneBlock(3, config), torch.randn(3, 2, 5, 8)
    alone = coupled_mamba.Block(1, config)
    for m in range(3):
        for name, p in alone.named_parameters():
            p.data = dict(block.named_parameters())[name].data[m : m + 1]
        assert torch.allclose(block.scan(x)[m], alone.scan(x[m : m + 1])[0], atol=1e-6)


# ------------------------------------------------------------------------------------------------- study


def scores(world, **of):
    """Cells of three seeds with these shares."""
    found = {}
    for name, shares in of.items():
        system, without = (name.removesuffix("_without"), name.endswith("_without"))
        for seed, share in enumerate(shares):
            found[Cell(world, system, seed, without)] = {"corr": share * 0.9, "oracle": 0.9}
    return found


GOOD = {"TFN": (0.8, 0.82, 0.84), "TFN_without": (0.3, 0.32, 0.31), "ridge": (0.1, 0.0, 0.05)}
RULES = {
    "holds": ({}, True),
    "too short a way": ({"TFN": (0.6, 0.62, 0.64)}, False),
    "ridge comes far": ({"ridge": (0.5, 0.4, 0.45)}, False),
    "the part is not needed": ({"TFN_without": (0.7, 0.72, 0.71)}, False),
    "the loss is not shown": ({"TFN_without": (0.9, 0.0, 0.1)}, False),
}


@pytest.mark.parametrize("change, holds", RULES.values(), ids=RULES)
def test_the_rule(change, holds):
    verdict = home_worlds.summarise(scores("products", **GOOD | change))["verdicts"]["TFN"]
    assert verdict["holds"] is holds and json.dumps(verdict)
    assert verdict["loss"]["mean"] == pytest.approx(
        np.mean((GOOD | change)["TFN"]) - np.mean((GOOD | change)["TFN_without"])
    )


def test_every_system_has_one_home_and_one_part():
    assert set(home_worlds.HOME) == {*SYSTEMS, FINE}
    assert sum(len(world.homes) for world in WORLDS.values()) == len(SYSTEMS) + 1
    assert set(TAKEN_OUT) == {*SYSTEMS, FINE} - {"LF-DNN"}


def test_the_matrix_is_whole():
    cells = home_worlds.matrix_cells((0, 1, 2, 3, 4))
    at_home, elsewhere = 5 * (len(WORLDS) + 20 + 19), home_worlds.AWAY * 20 * (len(WORLDS) - 1)
    assert len(cells) == len(set(cells)) == at_home + elsewhere


@pytest.fixture
def three_cells(small, monkeypatch, tmp_path):
    cells = [Cell("products", "TFN", 0), Cell("products", "TFN", 0, True), Cell("products", RIDGE, 0)]
    monkeypatch.setattr(home_worlds, "diagonal_cells", lambda seed: cells)
    return Options(preset="smoke", out=tmp_path, jobs=1)


def test_what_is_trained_is_kept(three_cells, monkeypatch):
    first = home_worlds.measure_diagonal(three_cells)
    assert first["verdicts"]["TFN"]["world"] == "products" and first["runs"] == 2
    monkeypatch.setattr(home_runs, "measure", lambda *_: pytest.fail("trained again"))
    assert home_worlds.measure_diagonal(three_cells) == first
    assert json.loads((three_cells.figures / "home_worlds_diagonal.json").read_text())["matrix"] == first["matrix"]


def test_a_constant_prediction_has_come_no_way(three_cells, monkeypatch):
    """0.1 is rounded, so its standard deviation over many utterances is not 0."""
    monkeypatch.setattr(home_runs, "predict", lambda model, split: np.full(len(split), 0.1, np.float32))
    assert home_runs.measure(Cell("products", "TFN", 0), "smoke")["corr"] == 0


def test_another_seed_or_setting_is_another_run(three_cells, monkeypatch):
    whole = home_runs.score(Cell("products", "TFN", 0), "smoke", three_cells.out)
    assert home_runs.score(Cell("products", "TFN", 1), "smoke", three_cells.out) != whole
    monkeypatch.setitem(home_runs.RATES, "TFN", 1e-5)
    assert home_runs.score(Cell("products", "TFN", 0), "smoke", three_cells.out) != whole


def test_a_cell_is_made_again_when_its_own_data_are_others_and_not_when_another_world_is(three_cells, monkeypatch):
    cell = Cell("products", "TFN", 0)
    whole = home_runs.score(cell, "smoke", three_cells.out)
    monkeypatch.setattr(home_runs, "measure", lambda *_: {"corr": 0.0})
    monkeypatch.setitem(WORLDS, "cues", replace(WORLDS["cues"], train=50))
    assert home_runs.score(cell, "smoke", three_cells.out) == whole
    monkeypatch.setitem(WORLDS, "products", replace(WORLDS["products"], train=50))
    assert home_runs.score(cell, "smoke", three_cells.out) == {"corr": 0.0}


def test_a_cell_is_made_again_when_the_range_of_the_labels_is_another(three_cells, monkeypatch):
    home_runs.score(Cell("products", "TFN", 0), "smoke", three_cells.out)
    corpus = worlds.generate("products", 0)
    monkeypatch.setattr(worlds, "generate", lambda *_: replace(corpus, info=replace(corpus.info, label_high=5.0)))
    monkeypatch.setattr(home_runs, "measure", lambda *_: {"corr": 0.0})
    assert home_runs.score(Cell("products", "TFN", 0), "smoke", three_cells.out) == {"corr": 0.0}


def test_an_interruption_leaves_no_half_run(three_cells):
    with pytest.raises(home_runs.Stopped):
        home_runs.score(Cell("products", "TFN", 0), "smoke", three_cells.out, lambda: True)
    assert not list(three_cells.out.rglob("*.json"))


def test_the_text_names_who_is_at_home_and_what_was_taken_out():
    text = home_worlds.as_text(home_worlds.summarise(scores("products", **GOOD)))
    assert "**82**" in text and TAKEN_OUT["TFN"].name in text


def test_the_picture_frames_each_home_in_its_row_and_column():
    found = {}
    for system, world in home_worlds.HOME.items():
        found[Cell(world, system, 0)] = {"corr": 0.8, "oracle": 1.0}
        found[Cell(world, RIDGE, 0)] = {"corr": 0.1, "oracle": 1.0}
    axis = drawn_worlds.matrix(home_worlds.summarise(found)).axes[0]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    columns = [label.get_text() for label in axis.get_xticklabels()]
    framed = {(rows[patch.get_y()], columns[patch.get_x()]) for patch in axis.patches}
    assert framed == set(home_worlds.HOME.items()) and rows[0] == RIDGE
