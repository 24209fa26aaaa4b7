"""Losses: which frames are taken out, by hand and by chance; the ordinary score at rate 0; one draw for all."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from systems import demo

from finelib import metrics, training
from finelib.baselines import SYSTEMS
from finelib.data.features import MODALITIES, Frames, Split
from finelib.paper import tables
from finelib.runs import experiment
from finelib.runs.options import Options
from finelib.study import losses, missing, missing_said, missing_trained

ALL = dict.fromkeys(MODALITIES, 0.0)
# three utterances: what is drawn for each frame, and the values of the frames, by which they are known
DRAWN = {"T": [0.2, 0.8, 0.5, 0.9, 0.1, 0.4], "A": [0.3, 0.6, 0.0, 0.7], "V": [0.05, 0.95]}
LENGTH = {"T": [3, 1, 2], "A": [1, 0, 3], "V": [1, 1, 0]}


@pytest.fixture
def three(monkeypatch):
    """A split whose draws are known; sentences are told apart in its text."""

    class Known:
        def __init__(self, seed):
            self.m = MODALITIES[seed[1]]

        def random(self, n):
            assert n == len(DRAWN[self.m])
            return np.array(DRAWN[self.m])

    monkeypatch.setattr(losses.np.random, "default_rng", Known)
    frames = {m: Frames.from_lengths(np.arange(len(u), dtype=np.float32)[:, None], LENGTH[m]) for m, u in DRAWN.items()}
    frames["T"] = replace(frames["T"], sentence=np.array([1, 1, 0, 0, 2, 0]))
    return Split(frames, np.zeros(3, np.float32), ["a", "b", "c"], [""] * 3)


def shown(frames):
    return [frames.values[s : s + n, 0].tolist() for s, n in zip(frames.start, frames.length, strict=True)]


def test_frames_below_the_rate_are_taken_out_by_hand(three):
    lost = losses.lose(three, dict.fromkeys(MODALITIES, 0.5)).frames
    assert shown(lost["T"]) == [[1, 2], [3], []]  # drawn .8 .5 | .9 | none of .1 .4
    assert shown(lost["A"]) == [[], [], [1, 3]]  # drawn none of .3 | nothing there | .6 .7
    assert shown(lost["V"]) == [[], [1], []]
    assert lost["T"].sentence.tolist() == [1, 0, 0] and lost["A"].sentence is None
    assert [f.length.dtype for f in lost.values()] == [np.int64] * 3


def test_each_utterance_and_modality_may_have_its_own_rate(three):
    lost = losses.lose(three, {"T": np.array([0.0, 1.0, 0.3]), "A": 1.0, "V": 0.0}).frames
    assert shown(lost["T"]) == [[0, 1, 2], [], [5]]
    assert shown(lost["A"]) == [[], [], []] and shown(lost["V"]) == shown(three.frames["V"])


def test_frames_that_lie_in_another_order_are_found(three):
    """An utterance's frames begin at ``start``, wherever that is."""
    values = np.array([[3], [0], [1], [2], [4], [5]], np.float32)
    moved = Frames(values, np.array([1, 0, 4]), np.array([3, 1, 2]))
    split = replace(three, frames=three.frames | {"T": moved})
    assert shown(losses.lose(split, dict.fromkeys(MODALITIES, 0.5)).frames["T"]) == [[1, 2], [3], []]


def test_the_share_lost_is_the_rate_and_what_is_left_keeps_its_order(corpus):
    test = corpus.splits["train"]
    for rate in losses.RATES:
        lost = losses.lose(test, dict.fromkeys(MODALITIES, rate))
        for m, frames in test.frames.items():
            n, left = len(frames.values), len(lost.frames[m].values)
            low, high = stats.binom.interval(1 - 1e-6, n, 1 - rate) if rate else (n, n)
            assert low <= left <= high, (m, rate)
            for i in range(0, len(test), 17):
                mine, whole = (f.values[f.start[i] : f.start[i] + f.length[i]] for f in (lost.frames[m], frames))
                places = [np.flatnonzero((whole == row).all(1))[0] for row in mine]
                assert places == sorted(set(places))


def test_what_is_lost_at_one_rate_is_lost_at_every_higher_one(corpus):
    test = corpus.splits["test"]
    kept = [losses.lose(test, dict.fromkeys(MODALITIES, rate)).frames["A"].values for rate in (0.2, 0.5, 0.8)]
    for more, less in zip(kept, kept[1:], strict=False):
        assert {row.tobytes() for row in less} < {row.tobytes() for row in more}


def test_modalities_are_lost_independently_and_by_the_seed(corpus):
    test = corpus.splits["test"]
    same = replace(test, frames=dict.fromkeys(MODALITIES, test.frames["A"]))
    lost = losses.lose(same, dict.fromkeys(MODALITIES, 0.5)).frames
    assert not np.array_equal(lost["T"].length, lost["A"].length)
    other = losses.lose(same, dict.fromkeys(MODALITIES, 0.5), seed=1).frames
    assert not np.array_equal(lost["A"].length, other["A"].length)


def test_conditions_are_ten_rates_and_every_subset():
    found = losses.conditions(MODALITIES)
    assert list(found)[:3] == ["0.0", "0.1", "0.2"] and len(found) == 10 + 6
    assert found["T + V"] == {"T": 0.0, "A": 1.0, "V": 0.0} and found["0.9"] == dict.fromkeys(MODALITIES, 0.9)
    assert list(losses.conditions(("T",))) == [losses.frames_name(rate) for rate in losses.RATES]


@pytest.mark.parametrize("name", ["FINE", *SYSTEMS])
def test_every_system_accepts_empty_modalities_but_those_that_say_what_they_need(name, corpus, model):
    asked = model if name == "FINE" else demo(name, corpus)
    test = corpus.splits["test"]
    found = losses.predict_with_losses(asked, test, MODALITIES, 1)
    lost = losses.lose(test, dict.fromkeys(MODALITIES, 0.9))
    assert any((frames.length == 0).any() for frames in lost.frames.values())  # modalities run empty by chance
    refused = {"A", "V", "A + V"} if name in ("MFN", "C-MFN", "BBFN") else set()
    assert {condition for condition, x in found.items() if x is None} == refused
    assert all(np.isfinite(x).all() for x in found.values() if x is not None)


# ------------------------------------------------------------------------------------------------- the study


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two systems on planted CMU-MOSI, the smoke preset's."""
    options = Options(preset="smoke", out=tmp_path_factory.mktemp("missing"), jobs=1)
    specs = tables.own_specs(1, replace(options, systems="LF-DNN,MFN"))
    runs = missing.runs_of(specs, options)
    return options, runs, missing.at_test(runs, options)


def test_at_rate_0_every_bit_is_that_of_the_ordinary_score(measured):
    options, runs, content = measured
    for s, group in runs.items():
        for i, (record, spec) in enumerate(group):
            found = missing.predictions_of(record, spec, options, remembered=i == 0)["test"]["0.0"]
            np.testing.assert_array_equal(np.array(found, np.float32), record.predictions()["test"])
        for metric in ("corr", "acc2_nonzero"):
            ordinary = np.mean([record.test[metric] for record, _ in group])
            assert content["scores"][metric][s]["0.0"]["mean"] == pytest.approx(ordinary, abs=2e-6)


def test_all_systems_and_seeds_meet_the_same_losses(measured, monkeypatch):
    _, runs, _ = measured
    met = []
    monkeypatch.setattr(losses.training, "predict", lambda model, split: met.append(split) or np.zeros(len(split)))
    for group in runs.values():
        for record, spec in group:
            missing._of_record(record, spec, remembered=False)
    lengths = {tuple(np.concatenate([f.length for f in split.frames.values()])) for split in met}
    assert len(met) > len(lengths) == 16


def test_scores_under_losses_are_those_of_the_lost_split(measured):
    _, runs, content = measured
    test, scores = experiment.load_corpus(runs["LF-DNN"][0][1].data).splits["test"], []
    for record, spec in runs["LF-DNN"]:
        lost = losses.lose(test, dict.fromkeys(MODALITIES, 0.7))
        scores.append(metrics.score("mosi", training.predict(experiment.load_model(record, spec), lost), test.label))
    for metric in content["metrics"]:
        expected = np.mean([score[metric] for score in scores])
        assert content["scores"][metric]["LF-DNN"]["0.7"]["mean"] == pytest.approx(expected, abs=2e-6)


def test_systems_that_cannot_do_without_are_named_and_left_out(measured):
    content = measured[2]
    assert content["refused"] == {"MFN": ["A", "V", "A + V"]} and set(content["without"]["T"]) == {"FINE", "LF-DNN"}
    assert "A + V" not in content["scores"]["corr"]["MFN"]
    assert any(s.startswith("MFN cannot do without text") for s in missing_said.sentences(content))


def test_differences_within_a_system_are_crossed_in_seeds_and_utterances():
    """Against the formula by hand: MS_seed + MS_utterance - MS_rest over S N."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 1)) + rng.normal(size=(1, 50)) + 0.3 * rng.normal(size=(4, 50))
    found = missing.over_seeds_and_utterances({"a": x})["a"]
    seed = 50 * x.mean(1).var(ddof=1)
    utterance = 4 * x.mean(0).var(ddof=1)
    rest = ((x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()) ** 2).sum() / (3 * 49)
    error = np.sqrt((seed + utterance - rest) / 200)
    df = (seed + utterance - rest) ** 2 / (seed**2 / 3 + utterance**2 / 49 + rest**2 / (3 * 49))
    assert found["mean"] == pytest.approx(x.mean())
    assert found["high"] - found["mean"] == pytest.approx(stats.t.ppf(0.975, df) * error)


def test_without_is_the_difference_of_both_scores_and_one_seed_has_no_interval(measured):
    options, runs, content = measured
    scores = content["scores"]["corr"]["FINE"]
    expected = scores["A + V"]["mean"] - scores["0.0"]["mean"]
    assert content["without"]["T"]["FINE"]["mean"] == pytest.approx(expected, abs=4e-6)
    one = missing.at_test({s: group[:1] for s, group in runs.items()}, options)
    assert one["seeds"] == 1 and one["scores"]["corr"]["FINE"]["0.5"]["low"] is None
    assert all(found["p_holm"] is None for found in one["without"]["T"].values())
    assert missing_said.better_without(one, "T") == []


def content_of(change, train=0.9, p=0.01):
    """What the sentences read, of one system whose Corr changes by so much without text."""
    none = {"mean": 0.3, "low": 0.2, "high": 0.4}
    scores = dict.fromkeys(("0.0", "T", "A", "T + A"), none)
    number = {"mean": change, "low": change - 0.1, "high": change + 0.1, "p_holm": p}
    return {
        "modalities": ["T", "A"],
        "scores": {"corr": {"x": scores}},
        "average": {"corr": {"x": none}},
        "without": {"T": {"x": number}, "A": {}},
        "refused": {},
        "remembered": {"x": {"T": train, "A": 0.4}},
        "linear": {"0.0": 0.4, "T": 0.5, "A": 0.2},
    }


def test_sentences_follow_the_numbers():
    better = "\n".join(missing_said.sentences(content_of(0.2)))
    assert "1 of 1 systems are shown to predict better (x +0.200 [+0.100, +0.300]) and 0 worse" in better
    assert "x 0.90 and 0.30 with text alone, 0.40 and 0.30 with audio alone" in better
    assert "never sees text is higher too (0.50 against 0.40)" in better
    worse = "\n".join(missing_said.sentences(content_of(-0.2)))
    assert "0 of 1 systems are shown to predict better and 1 worse" in worse and "learn" not in worse
    open_ = "\n".join(missing_said.sentences(content_of(0.2, p=0.2)))
    assert "0 of 1 systems are shown to predict better and 0 worse" in open_
    alone = content_of(0.2) | {"modalities": ["T"]}
    assert missing_said.sentences(alone)[-1] == "There is text alone, so no whole modality can be missing."


# ---------------------------------------------------------------------------------------- losses in training


def test_training_losses_are_half_none_and_else_uniform():
    rates = missing_trained.training_rates(4000, missing_trained.FRAMES, MODALITIES, 1)
    for m in MODALITIES:
        some = rates[m][rates[m] > 0]
        assert stats.binomtest(len(some), 4000, 0.5).pvalue > 1e-4 and stats.kstest(some, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(rates["T"] > 0, rates["A"] > 0)[0, 1]) < 0.1


def test_in_training_every_subset_is_left_as_often():
    rates = missing_trained.training_rates(7000, missing_trained.WHOLE_MODALITIES, MODALITIES, 1)
    left = np.stack([rates[m] == 0 for m in MODALITIES])
    counts = np.unique(left, axis=1, return_counts=True)[1]
    assert len(counts) == 7 and left.any(0).all() and stats.chisquare(counts).pvalue > 1e-4


def test_the_test_split_is_whole_and_train_and_dev_are_not(corpus):
    for kind in missing_trained.KINDS:
        lossy = missing_trained.with_losses(corpus, kind)
        assert lossy.splits["test"] is corpus.splits["test"]
        for name in ("train", "valid"):
            before, after = corpus.splits[name], lossy.splits[name]
            assert len(after.frames["A"].values) < len(before.frames["A"].values) and after.label is before.label


def test_a_run_trained_with_losses_is_kept_and_compared(measured, monkeypatch):
    options, runs, _ = measured
    spec = runs["LF-DNN"][0][1]
    first = missing_trained.predictions_of(spec, missing_trained.FRAMES, options)
    monkeypatch.setattr(missing_trained, "_train", lambda *_: pytest.fail("trained again"))
    assert missing_trained.predictions_of(spec, missing_trained.FRAMES, options) == first
    corpus = experiment.load_corpus(spec.data)
    before = missing.predictions_of(*runs["LF-DNN"][0], options, True)["test"]
    assert first["0.0"] != before["0.0"]
    found = missing_trained.gain({"LF-DNN": [before]}, {"LF-DNN": [first]}, missing_trained.FRAMES, corpus)
    label = corpus.splits["test"].label
    corr = [
        np.mean([metrics.correlation(np.array(side[losses.frames_name(r)]), label) for r in losses.RATES[1:]])
        for side in (first, before)
    ]
    assert found["LF-DNN"]["mean"] == pytest.approx(corr[0] - corr[1], abs=1e-5)


def test_an_interruption_leaves_nothing_half_made(measured):
    options, runs, _ = measured
    spec = runs["LF-DNN"][1][1]
    with pytest.raises(missing_trained.Stopped):
        missing_trained.predictions_of(spec, missing_trained.FRAMES, options, lambda: True)
    assert not list((options.out / "runs" / "kept" / missing_trained.NAME).glob(f"*-s{spec.seed}-*"))


def test_of_text_alone_no_whole_modality_is_missing(monkeypatch, tmp_path):
    """Its frames are, and the study has no block of whole modalities."""
    asked = []
    corpus = SimpleNamespace(modalities=("T",), called="text alone")
    monkeypatch.setattr(missing_trained.experiment, "load_corpus", lambda data: corpus)
    monkeypatch.setattr(
        missing_trained, "_train_all", lambda tasks, options: asked.extend(kind for _, kind, _ in tasks)
    )
    for name in ("at_test", "ask", "tests", "summarise"):
        monkeypatch.setattr(missing_trained.missing, name, lambda *_: {})
    monkeypatch.setattr(missing_trained, "predictions_of", lambda *_: {})
    monkeypatch.setattr(missing_trained, "gain", lambda *_: {})
    runs = {"FINE": [(None, SimpleNamespace(data=None))]}
    found = missing_trained._content([runs], Options(out=tmp_path))["corpora"]["text alone"]
    assert asked == ["frames"] and set(found) == {"at test", "frames"}


def test_the_mean_over_rates_is_compared_with_fine(measured):
    found = measured[2]["average"]["corr"]
    scores = measured[2]["scores"]["corr"]
    for s in ("FINE", "LF-DNN"):
        expected = np.mean([scores[s][losses.frames_name(rate)]["mean"] for rate in losses.RATES])
        assert found[s]["mean"] == pytest.approx(expected, abs=1e-6)
    difference = found["LF-DNN"]["mean"] - found["FINE"]["mean"]
    assert found["LF-DNN"]["minus_fine"]["mean"] == pytest.approx(difference, abs=1e-6)
    assert "minus_fine" not in found["FINE"]
