"""Reference rows against scikit-learn used plainly."""

import os
from dataclasses import replace

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from finelib import metrics
from finelib.baselines import references
from finelib.data import sources
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS, Corpus, Frames, Split


def test_ridge_is_scikit_learns_on_standardised_means_for_some_penalty():
    corpus = sources.load("mosi", scale=0.1)
    train, test = (
        np.array(
            [
                corpus.splits[s].frames["A"].values[a : a + n].mean(0)
                for a, n in zip(corpus.splits[s].frames["A"].start, corpus.splits[s].frames["A"].length, strict=True)
            ]
        )
        for s in ("train", "test")
    )
    mean, sd = train.mean(0), train.std(0)
    found = references.ridge(corpus, ("A",))
    plain = [
        Ridge(alpha).fit((train - mean) / sd, corpus.splits["train"].label).predict((test - mean) / sd)
        for alpha in references.PENALTIES
    ]
    assert min(np.abs(found - p).max() for p in plain) < 1e-3


def test_floor_is_constant_and_the_majority_for_two_classes():
    mosi, humor = sources.load("mosi", scale=0.05), sources.load("ur_funny", scale=0.01)
    assert set(references.floor(mosi)) == {np.float32(mosi.splits["train"].label.mean())}
    share = humor.splits["train"].label.mean()
    assert set(references.floor(humor)) == {float(share > 0.5)}


def test_token_ids_are_not_pooled():
    corpus = sources.load("mosi", scale=0.05)
    splits = {}
    for name, split in corpus.splits.items():
        text = split.frames["T"]
        ids = replace(text, values=np.zeros(len(text.values), dtype=np.int64))
        splits[name] = replace(split, frames={**split.frames, "T": ids})
    assert "ridge (A + V)" in references.references(replace(corpus, splits=splits))


# ---------------------------------------------------------------------------------------------- real corpora


def made(label, text=None, ids=None, frames=None, name="mosi"):
    """A real corpus of the given labels and texts, split name -> values."""
    splits = {}
    for s in SPLITS:
        size = len(label[s])
        of_split = {m: x[s] for m, x in (frames or {}).items()}
        texts = text[s] if text else [""] * size
        names = ids[s] if ids else [f"{s}_{i}" for i in range(size)]
        splits[s] = Split(of_split, np.float32(label[s]), names, texts)
    return Corpus(CORPORA[name], "public", splits, "0" * 64, "")


def numbers(values, length=None):
    length = np.ones(len(values), dtype=np.int64) if length is None else np.array(length)
    return Frames.from_lengths(np.float32(values)[length > 0][:, None], length)


def test_average_is_over_the_numbers_that_an_utterance_has():
    test = {"T": numbers([0.5, -1.0]), "A": numbers([0.1, -0.2]), "V": numbers([0.3, 9.0], [1, 0])}
    frames = {m: dict.fromkeys(SPLITS, x) for m, x in test.items()}
    corpus = made(dict.fromkeys(SPLITS, [0.0, 0.0]), frames=frames)
    np.testing.assert_allclose(references.average(corpus.splits["test"]), [0.3, -0.6], rtol=1e-6)
    assert "plain average (nothing fitted)" in references.references(corpus)


def test_features_are_no_predictions_to_average():
    assert not [name for name in references.references(sources.load("mosi", scale=0.05)) if "average" in name]


def random_texts(rng, size):
    """Texts whose label is said by two words, among others, and the labels."""
    label = rng.choice([0.0, 1.0], size)
    words = np.where(label, "funny", "dull")
    others = rng.choice(list("abcdefgh"), (size, 4))
    return [f"{word} {' '.join(x * 2 for x in rest)}" for word, rest in zip(words, others, strict=True)], label


@pytest.mark.parametrize("name", ["mosi", "ur_funny"])
def test_tfidf_is_scikit_learns_pipeline_for_some_penalty(name):
    rng, text, label = np.random.default_rng(0), {}, {}
    for s in SPLITS:
        text[s], label[s] = random_texts(rng, 60)
        label[s] = np.where(rng.random(60) < 0.2, 1 - label[s], label[s])
    found = references.tfidf(made(label, text, name=name))

    def plain(model):
        pipeline = make_pipeline(TfidfVectorizer(min_df=2, ngram_range=(1, 2)), model).fit(
            text["train"], label["train"]
        )
        return pipeline.predict(text["test"]) if name == "mosi" else pipeline.predict_proba(text["test"])[:, 1]

    if name == "mosi":
        each = [plain(Ridge(penalty)) for penalty in references.TFIDF_PENALTIES]
    else:
        each = [plain(LogisticRegression(C=100 * c, max_iter=1000)) for c in references.INVERSE_PENALTIES]
    assert min(np.abs(found - p).max() for p in each) < 1e-5


def test_chinese_is_read_by_characters():
    rng, text, label = np.random.default_rng(0), {}, {}
    for s in SPLITS:
        label[s] = rng.choice([-1.0, 1.0], 60)
        text[s] = [f"我{'很好' if y > 0 else '不行'}了{rng.choice(list('天地人'))}" for y in label[s]]
    found = references.tfidf(made(label, text, name="ch_sims"))
    assert (np.sign(found) == label["test"]).all()  # words would be whole sentences, each of its own


@pytest.mark.parametrize("name", ["mosi", "ur_funny"])
def test_references_are_fitted_and_chosen_without_the_test_split(name):
    """Other test labels change nothing; other dev labels do, so that the penalty is known to come from there."""
    rng, text, label, frames = np.random.default_rng(0), {}, {}, {}
    for s in SPLITS:
        text[s], label[s] = random_texts(rng, 80)
        label[s] = np.where(rng.random(80) < 0.3, 1 - label[s], label[s])
        frames[s] = Frames.from_lengths(np.float32(rng.normal(size=(80, 30)) + label[s][:, None] / 4), np.ones(80, int))
    found = references.references(made(label, text, frames={"T": frames}, name=name))
    other = references.references(made(label | {"test": 1 - label["test"]}, text, frames={"T": frames}, name=name))
    assert found.keys() == other.keys() and {"TF-IDF + ridge", "TF-IDF + logistic"} & found.keys()
    for key, prediction in found.items():
        np.testing.assert_array_equal(prediction, other[key], err_msg=key)
    turned = references.tfidf(made(label | {"valid": 1 - label["valid"]}, text, name=name))
    assert not np.allclose(turned, next(p for key, p in found.items() if key.startswith("TF-IDF")))


def test_ridge_s_penalty_is_chosen_by_folds_that_share_no_video():
    """Labels are a video's own and so are the features: by clip the ridge is sure of itself, by video it is not."""
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(20), 10)
    of_video, label = rng.normal(size=(20, 40)), rng.normal(size=20)
    x = of_video[video] + 0.1 * rng.normal(size=(200, 40))
    test = {"train": x, "valid": x, "test": rng.normal(size=(200, 40))}
    frames = {"T": {s: Frames.from_lengths(np.float32(values), np.ones(200, int)) for s, values in test.items()}}
    labels = dict.fromkeys(SPLITS, label[video])
    with_video = dict.fromkeys(SPLITS, [f"v{v}_{i}" for i, v in enumerate(video)])
    named = references.ridge(made(labels, ids=with_video, frames=frames), ("T",))
    unnamed = references.ridge(
        made(labels, ids=dict.fromkeys(SPLITS, list(map(str, range(200)))), frames=frames), ("T",)
    )
    assert named.std() < 0.5 * unnamed.std()


@pytest.mark.skipif("FINE_DATA_MIRROR" not in os.environ, reason="no mirror of the public files")
def test_published_unimodal_predictions_have_the_scores_that_are_known_of_them():
    """Computed once before, by other code: the plain average has Corr .797, a ridge on all three .796."""
    corpus = sources.load("ch_sims_v2", "public-predictions")
    label = corpus.splits["test"].label
    found = {name: metrics.correlation(p, label) for name, p in references.references(corpus).items()}
    assert found["plain average (nothing fitted)"] == pytest.approx(0.797, abs=0.002)
    assert found["ridge (T + A + V)"] == pytest.approx(0.796, abs=0.01)
    assert found["ridge (T)"] == pytest.approx(0.623, abs=0.01)
