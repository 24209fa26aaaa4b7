"""Splits that disagree: other widths are refused at load; other encoders, units, types and shared videos are said."""

import numpy as np
import pytest
from make_files import dump, mmsa_content, read_here

from finelib.data import mmsa, sources
from finelib.data.between_splits import columns_apart, sampled
from finelib.data.card import changes, describe
from finelib.data.corpora import CORPORA
from finelib.data.features import Frames
from finelib.data.safe_pickle import DataError

MOSI = CORPORA["mosi"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)


def content():
    return mmsa_content(MOSI, (9, 5, 5), widths=(3, 4, 5))


def read(tmp_path, changed):
    splits, notes = mmsa.read(dump(changed, tmp_path / "x.pkl"), MOSI)
    return splits, changes(describe(MOSI, splits, notes=notes))


@pytest.mark.parametrize(
    ("s", "name", "change", "sentence"),
    [
        ("test", "audio", lambda v: np.concatenate([v, v[..., :1]], -1), "test, audio: found 5 columns, expected 4"),
        ("valid", "text", lambda v: v[..., :2], "valid, text: found 2 columns, expected 3 as in train"),
        ("train", "vision", lambda v: v[..., :4], "valid, vision: found 5 columns, expected 4 as in train"),
        (
            "test",
            "vision",
            lambda v: [row[:, :1] for row in v],
            "test, vision: found 1 columns, expected 5 as in train",
        ),
    ],
)
def test_widths_that_differ_between_splits_are_refused(tmp_path, s, name, change, sentence):
    changed = content()
    changed[s][name] = change(changed[s][name])
    with pytest.raises(DataError, match=f"x.pkl, {sentence}"):
        read(tmp_path, changed)


def test_splits_that_were_hardly_made_alike_are_said(tmp_path):
    changed = mmsa_content(MOSI, (60, 30, 30), widths=(12, 4, 5))
    assert not any("lie elsewhere" in sentence for sentence in read(tmp_path, changed)[1])
    rng = np.random.default_rng(0)
    shift = np.where(np.any(changed["test"]["text"], axis=2)[..., None], rng.normal(0, 3, 12), 0)
    changed["test"]["text"] = (changed["test"]["text"] + shift).astype(np.float64)  # as another encoder's would lie
    changed["valid"]["vision"] *= 50  # in other units
    changed["valid"]["audio"][..., 0] *= 50  # a quarter of the columns
    changed["test"]["audio"][..., :2] *= 50
    said = "; ".join(read(tmp_path, changed)[1])
    assert "columns that lie elsewhere than in train: text test " in said and "video valid 5" in said
    assert "; audio test 2; video" in said
    assert "text stored as float32 in train, float32 in valid, float64 in test" in said


@pytest.mark.parametrize("form", ["{0}$_${1}", "{0}_{1}", "{0}[{1}]"])
def test_videos_in_two_splits_are_counted(tmp_path, form):
    changed = content()
    videos = {"train": "aabbbccdd", "valid": "ddeef", "test": "aagbb"}  # d; a and b
    for clip, (s, fields) in enumerate(changed.items()):
        fields["id"] = [form.format(f"v_{v}", f"{clip}{row}") for row, v in enumerate(videos[s])]
    card = sources.load("mosi", dump(changed, tmp_path / "x.pkl")).card
    assert card["shared_videos"] == {"train/valid": 1, "train/test": 2, "valid/test": 0}
    assert not any(card["duplicate_ids"].values())


def test_names_that_are_no_videos_are_not_counted(tmp_path):
    changed = content()
    for clip, fields in enumerate(changed.values()):
        fields["id"] = [f"sample_{clip}{row}" for row in range(len(fields["id"]))]
    assert not any(sources.load("mosi", dump(changed, tmp_path / "x.pkl")).card["shared_videos"].values())


def test_a_class_that_a_split_lacks_is_counted_as_none(tmp_path):
    changed = content()
    changed["test"]["regression_labels"] = np.full(len(changed["test"]["id"]), -3.0)
    corpus = sources.load("mosi", dump(changed, tmp_path / "x.pkl"))
    counts = corpus.card["splits"]["test"]["class_counts"]
    assert counts == [len(changed["test"]["id"]), *[0] * len(corpus.info.class_edges)]


def test_columns_apart_by_hand():
    """Means 0 and deviations 1 in train; in the other split a mean of 0.9 or 1.1, a deviation of 2.9, 3.1 or 0.3."""
    one = np.array([-1.0, 1.0] * 10)
    train = np.stack([one] * 6, axis=1)
    other = np.stack([one + 0.9, one + 1.1, 2.9 * one, 3.1 * one, 0.3 * one, one], axis=1)
    frames = [Frames.from_lengths(values.astype(np.float32), np.full(2, 10)) for values in (train, other)]
    assert columns_apart(sampled(frames[0]), frames[1]) == 3
    train = np.stack([10 + 6 * one] * 6, axis=1)  # what is just as far away is not apart
    other = 10 + np.stack([6 * one + 6, 6 * one + 6.5, 18 * one, 18.5 * one, 2 * one, 1.5 * one], axis=1)
    frames = [Frames.from_lengths(values, np.full(2, 10)) for values in (train, other)]
    assert [part.tolist() for part in sampled(frames[0])] == [[10.0] * 6, [6.0] * 6]
    assert columns_apart(sampled(frames[0]), frames[1]) == 3
    two = Frames.from_lengths(np.array([[1.0], [3.0]]), np.array([2]))
    assert [part.tolist() for part in sampled(two)] == [[2.0], [1.0]]
    nothing = Frames.from_lengths(frames[0].values[:0], np.zeros(2))
    assert columns_apart(sampled(frames[0]), nothing) == columns_apart(sampled(nothing), frames[0]) == 0
