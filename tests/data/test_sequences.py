"""Forms of a field by hand: which frames are filled, frames taken for columns, ids and texts with their sentences."""

import numpy as np
import pytest

from finelib.data import checks, forms
from finelib.data.safe_pickle import DataError

NAN = np.nan


def padded(*rows):
    return forms.Sequences(np.array(rows, np.float32))


def ragged(lengths, frames):
    held = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return forms.Sequences(np.array(frames, np.float32), held)


def test_rows_kept_as_objects_are_an_array():
    rows = np.empty(2, object)
    rows[:] = [np.array([1.0, 2.0]), [3, 4]]
    assert rows.shape == (2,) and checks.as_numbers(rows).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_frames_that_are_not_all_zero_are_filled():
    found = padded([[0, 1], [0, 0], [2, 0]], [[0, 0], [0, 3], [0, 0]]).filled("x")
    assert found.tolist() == [[True, False, True], [False, True, False]]
    found = ragged([2, 0, 3], [[0, 1], [0, 0], [0, 0], [1, 1], [2, 0]]).filled("x")
    assert found.tolist() == [[True, False, False], [False] * 3, [False, True, True]]


def test_nan_is_padding_where_it_fills_an_end_and_else_a_frame():
    inside = padded([[1, 1], [NAN, NAN], [2, 0]], [[1, NAN], [0, 0], [2, 0]])
    assert inside.filled("x").tolist() == [[True, True, True], [True, False, True]]
    behind = padded([[1, 1], [NAN, NAN], [NAN, NAN]], [[1, NAN], [0, 0], [2, 0]])
    assert behind.filled("x").tolist() == [[True, False, False], [True, False, True]]
    first = ragged([2, 1], [[NAN, NAN], [1, 0], [0, 0]])  # nothing pads what is ragged
    assert first.filled("x").tolist() == [[True, True], [False, False]]
    with pytest.raises(DataError, match="^x: found no finite value, expected features$"):
        padded([[NAN], [NAN]], [[NAN], [0]]).filled("x")


def test_frames_taken_for_columns_by_hand():
    """Three utterances of two columns, stored with their axes exchanged; zeros behind, as padding has."""
    lengths = np.array([4, 2, 4])
    padded = np.ones((3, 5, 2)) * (np.arange(5) < lengths[:, None])[..., None]
    exchanged = forms.Sequences(padded.swapaxes(1, 2))  # (3, 2, 5): two frames, of which the longest has no more
    assert forms.turned(exchanged, None) and forms.turned(exchanged, lengths)
    assert not forms.turned(forms.Sequences(padded), None)
    wider = forms.Sequences(np.pad(exchanged.values, ((0, 0), (0, 4), (0, 0)), mode="edge"))  # six frames
    assert forms.turned(wider, lengths) and not forms.turned(wider, np.array([4, 2, 3]))
    assert forms.turned(wider, np.array([7, 2, 8])) and not forms.turned(wider, np.array([6, 6, 6]))
    half = forms.Sequences(wider.values[:2])  # of two rows one is beyond: no most
    assert not forms.turned(half, np.array([7, 3]))
    held = np.ones((3, 2), bool)
    assert not forms.turned(forms.Sequences(exchanged.values.reshape(6, 5), held), None)


def test_texts_and_ids_by_hand():
    assert forms.texts([None, ["a", "b"], "c", b"d"], "x", 4) == (
        ["", "a b", "c", "d"],
        "missing in 1 rows, words joined by spaces",
    )
    assert forms.ids([b"a", "b"], "x", 2, "train") == (["a", "b"], "not texts, read as texts")


@pytest.mark.parametrize(
    ("read", "value", "sentence"),
    [
        (forms.texts, {"a": 1}, "x: found a dict, expected 3 texts"),
        (forms.texts, ["a", "b", 3], "x: found 3 in row 2, expected text"),
        (forms.texts, ["a", ["b", 3], "c"], "x, row 1: found 3 in row 1, expected text"),
        (forms.ids, {"a": 1}, "x: found a dict, expected 3 ids"),
        (forms.ids, ["a", "b"], "x: found 2 rows, expected 3"),
        (forms.ids, ["a", "b", [["c"]]], "x, row 2: found a list, expected a text or a whole number as id"),
    ],
)
def test_what_is_no_text_or_id_is_named_with_its_place(read, value, sentence):
    with pytest.raises(DataError) as raised:
        read(value, "x", 3, *["train"] * (read is forms.ids))
    assert str(raised.value) == sentence


# The container of the splits


PLAIN = {"train": 1, "valid": 2, "test": 3}


@pytest.mark.parametrize("container", [{"data": PLAIN}, [PLAIN], (PLAIN,)])
def test_one_dictionary_in_a_container_is_what_it_holds(container):
    assert forms.splits(PLAIN, "x") == (PLAIN, {s: s for s in PLAIN}, {})
    assert forms.splits(container, "x") == (PLAIN, {s: s for s in PLAIN}, {"splits": "nested one level deeper"})
    assert forms.unwrapped(container, {"other"}) == (PLAIN, True)


def test_containers_that_are_left_as_they_are():
    for value in (
        {"Train": PLAIN},
        {b"train": PLAIN},
        {"a": PLAIN, "b": PLAIN},
        [PLAIN, PLAIN],
        [1],
        {"a": 1},
        [],
        None,
    ):
        assert forms.unwrapped(value, {"train"}) == (value, False)


def test_splits_are_known_by_several_names_in_any_case():
    content = {"Train": 1, b"DEV": 2, "testing": 3, "config": 4}
    called = {"train": "called 'Train'", "valid": "called b'DEV'", "test": "called 'testing'"}
    assert forms.splits(content, "x") == (content, {"train": "Train", "valid": b"DEV", "test": "testing"}, called)
    for train, valid in (("training", "val"), ("TRAIN", "validation")):
        assert forms.splits({train: 1, valid: 2, "test": 3}, "x")[1] == {"train": train, "valid": valid, "test": "test"}


MANY = {f"k{i}": i for i in range(19)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "x: found a list, expected a dictionary with 'train'"),
        ({"train": PLAIN}, "x: found the fields 'train', expected also 'valid'"),
        ({"train": 1, "dev": 2}, "x: found the fields 'train', 'dev', expected also 'test'"),
        ({**PLAIN, "dev": 4, "val": 5}, "x: found both 'valid' and 'dev', expected one valid split"),
        ({"train": 1, "Train": 2}, "x: found 'train', 'Train', some of which are one name, expected each once"),
        (
            {**MANY, "a": 1, "A": 2},
            f"x: found {', '.join(map(repr, MANY))}, 'a', some of which are one name, expected each once",
        ),
    ],
)
def test_splits_that_are_not_there_once_each(content, sentence):
    with pytest.raises(DataError) as raised:
        forms.splits(content, "x")
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (["v", "1"], "v$_$1"),
        (["v"], "v"),
        (("v", b"1", 2), "v$_$1_2"),
        ([np.array(["v", "w"])[0], np.int64(3)], "v$_$3"),
        (np.array(["v", "1", "2"]), "v$_$1_2"),
        (b"\xc3\xa9", "é"),
        (np.int64(7), "7"),
    ],
)
def test_one_id_of_each_kind(value, read):
    assert forms.ids([value, "other"], "x", 2, "train")[0] == [read, "other"]


@pytest.mark.parametrize(
    ("value", "found"),
    [(True, "found True"), (b"\xff", "found a bytes"), (None, "found None"), (["a", None], "found None")],
)
def test_what_can_be_no_id(value, found):
    with pytest.raises(DataError, match=f"^x, row 1: {found}, expected a text or a whole number as id$"):
        forms.ids(["other", value], "x", 2, "train")
