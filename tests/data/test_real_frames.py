"""Which frames are real: the same whichever end is padded, whatever the lengths say; what is wrong is said."""

import logging

import numpy as np
import pytest
from make_files import dump, mmsa_content, pad_in_front, read_here, write_mfn

from finelib.data import mmsa, public_mfn, real_frames, sources
from finelib.data.card import changes, describe
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS
from finelib.data.safe_pickle import DataError

MOSI = CORPORA["mosi"]
NAMES = tuple(mmsa.FIELD.values())


def content(aligned=False):
    return mmsa_content(MOSI, (9, 5, 5), aligned, widths=(3, 4, 5))


def read(tmp_path, changed):
    splits, notes = mmsa.read(dump(changed, tmp_path / "x.pkl"), MOSI)
    return splits, notes, changes(describe(MOSI, splits, notes=notes))


def same(splits, truth, modalities="TAV"):
    for s in SPLITS:
        for m in modalities:
            assert np.array_equal(splits[s].frames[m].values, truth[s].frames[m].values), (s, m)
            assert np.array_equal(splits[s].frames[m].length, truth[s].frames[m].length), (s, m)
    return True


def altered(change, aligned=False):
    found = content(aligned)
    for fields in found.values():
        change(fields)
    return found


def lengths(change):
    """All stated lengths of audio and video changed: ``change`` of the lengths and of the frames in a row."""

    def of(fields):
        for name in ("audio", "vision"):
            fields[f"{name}_lengths"] = change(np.array(fields[f"{name}_lengths"]), fields[name].shape[1])

    return of


def mask(change):
    """The text's attention mask changed."""

    def of(fields):
        fields["text_bert"][:, 1] = change(fields["text_bert"][:, 1])

    return of


def halved(rows):
    length = rows.sum(1) // 2
    return np.arange(rows.shape[1]) < length[:, None]


SAME = {  # the frames are as they were; what is said, if anything
    "front": (lambda f: pad_in_front(f, *NAMES), False, "zeros cut off in front: text train, valid, test; audio"),
    "text in front": (lambda f: pad_in_front(f, "text"), False, "zeros cut off in front: text train, valid, test"),
    "video in front": (lambda f: pad_in_front(f, "vision"), False, "zeros cut off in front: video train, valid"),
    "aligned, front": (lambda f: pad_in_front(f, *NAMES), True, "zeros cut off in front: text train"),
    "aligned, audio in front": (lambda f: pad_in_front(f, "audio"), True, "zeros cut off in front: audio train"),
    "mask of the other end": (lambda f: f.update(text_bert=f["text_bert"][:, :, ::-1]), False, ""),
    "lengths too short": (lengths(lambda k, t: k // 2), False, "real frames found by looking"),
    "lengths zero": (lengths(lambda k, t: 0 * k), False, "real frames found by looking"),
    "lengths of the padded rows": (lengths(lambda k, t: 0 * k + t), False, "real frames found by looking"),
    "lengths beyond the array": (
        lengths(lambda k, t: k + t),
        False,
        "lengths beyond the array cut to it: audio train 9",
    ),
    "lengths of another file": (lengths(lambda k, t: k[::-1]), False, "real frames found by looking"),
    "lengths counted from the end": (lengths(lambda k, t: t - k), False, "real frames found by looking"),
    "no lengths": (lambda f: [f.pop(f"{name}_lengths") for name in ("audio", "vision")], False, ""),
    "mask too short": (mask(halved), False, "real frames found by looking"),
    "mask zero": (mask(np.zeros_like), False, "real frames found by looking"),
    "mask of every token": (mask(np.ones_like), False, "real frames found by looking"),
    "aligned, mask too short": (mask(halved), True, "real frames found by looking"),
    "no mask": (lambda f: f.pop("text_bert"), False, "text_bert missing (train, valid, test)"),
    "aligned, no mask": (lambda f: f.pop("text_bert"), True, "text_bert missing"),
    "no mask, front": (lambda f: [f.pop("text_bert"), pad_in_front(f, *NAMES)], False, "zeros cut off in front"),
    "both wrong": (
        lambda f: [pad_in_front(f, *NAMES), lengths(lambda k, t: k // 3)(f)],
        False,
        "real frames found by looking",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_frames_whatever_is_stated(tmp_path, name):
    change, aligned, sentence = SAME[name]
    truth, _, _ = read(tmp_path, content(aligned))
    splits, notes, said = read(tmp_path, altered(change, aligned))
    assert same(splits, truth)
    assert all(np.any(splits[s].frames[m].values, axis=1).all() for s in SPLITS for m in "TV")
    said = "; ".join(said)
    assert sentence in said
    if not sentence:
        assert said == "infinite values set to 0: audio train 1, valid 1, test 1"


def test_one_split_may_be_padded_at_the_other_end(tmp_path):
    truth, _, _ = read(tmp_path, content())
    changed = content()
    pad_in_front(changed["test"], *NAMES)
    splits, notes, said = read(tmp_path, changed)
    assert (
        same(splits, truth) and notes["test"]["A"]["padding"] == "front" and notes["train"]["A"]["padding"] == "behind"
    )
    assert "zeros cut off in front: text test; audio test; video test" in said


def test_rows_padded_at_either_end(tmp_path):
    truth, _, _ = read(tmp_path, content())
    changed, moved = content(), content()
    for s in SPLITS:
        pad_in_front(moved[s], "vision")
        changed[s]["vision"][::2] = moved[s]["vision"][::2]
    splits, notes, said = read(tmp_path, changed)
    assert same(splits, truth) and notes["train"]["V"]["padding"] == "both ends"
    assert any(sentence.startswith("zeros cut off in front: video train and behind") for sentence in said)


def test_zero_frames_inside_the_stated_length_stay(tmp_path):
    """Where no face was found video is zero: in the middle, at an end of some, all through one utterance."""
    changed = content()
    fields = changed["train"]
    fields["vision_lengths"] = np.full(9, 100)
    fields["vision"][:, :100] = 1.0
    fields["vision"][:, 100:] = 0
    fields["vision"][0, 40:50] = fields["vision"][1, 95:100] = fields["vision"][2, :3] = 0
    splits, notes, said = read(tmp_path, changed)
    assert splits["train"].frames["V"].length.tolist() == [100] * 9 and notes["train"]["V"]["zero_frames_kept"] == 18
    assert not any("zero" in sentence and "video" in sentence for sentence in said)  # 2 % of the frames
    fields["vision"][3] = 0
    splits, notes, said = read(tmp_path, changed)
    assert splits["train"].frames["V"].length.tolist() == [100] * 9
    assert "frames kept that are all zero: video train 118 of 900" in said
    pad_in_front(fields, "vision")
    fields["vision"][[0, 1, 2, 4], 397:] = 0  # seen as the same length, zeros at the end
    splits, _, _ = read(tmp_path, changed)
    assert splits["train"].frames["V"].length.tolist() == [100] * 9


@pytest.mark.parametrize(("stray", "kept", "dropped"), [(9, 891, 9), (10, 901, 0)])
def test_one_per_cent_of_the_frames_decides(stray, kept, dropped):
    """891 filled frames behind which a few more lie: up to 1 % of all, the lengths are followed."""
    filled = np.zeros((9, 200), bool)
    filled[:, :99] = True
    filled[0, 99 : 99 + stray] = True
    stated = np.arange(200) < np.full(9, 99)[:, None]
    found, counts = real_frames.choose(filled, stated, real_frames.LENGTHS, "x")
    assert found.sum() == kept and counts["nonzero_frames_dropped"] == dropped
    assert counts.get("stated_drops") == (None if dropped else 10)
    assert counts["chosen_by"] == (real_frames.LENGTHS if dropped else real_frames.LOOK)


@pytest.mark.parametrize(
    ("n", "rows", "longer", "kept"),
    [(9, 5, 5, 925), (9, 5, 11, 900), (9, 4, 50, 1100), (8, 4, 50, 1000), (19, 10, 10, 2000)],
)
def test_most_rows_and_five_per_cent_of_zeros_decide(n, rows, longer, kept):
    """Rows of 100 filled frames, some lengths longer: zeros at the end are real unless there are too many."""
    filled = np.broadcast_to(np.arange(200) < 100, (n, 200)).copy()
    length = np.full(n, 100)
    length[:rows] += longer
    found, counts = real_frames.choose(filled, np.arange(200) < length[:, None], real_frames.LENGTHS, "x")
    assert found.sum() == kept and counts["padding"] == "behind"
    if kept == 100 * n:
        assert (counts["stated_drops"], counts["stated_zero"]) == (0, rows * longer)


@pytest.mark.parametrize(
    ("filled", "length", "rows"),
    [
        ((10, 10, 10), (0, 0, 0), 0),  # no length says anything
        ((10, 10, 10), (1, 10, 10), 1),
        ((10, 4, 10), (5, 10, 10), 1),  # the second row's padding says nothing of the first
        ((10, 0, 10), (5, 3, 10), 1),
        ((10, 10, 4), (5, 10, 5), 0),  # the third row's does: zeros lie behind
    ],
)
def test_rows_without_zeros_and_with_shorter_lengths_are_refused_unless_others_show_the_end(filled, length, rows):
    frames, stated = (np.arange(10) < np.array(n)[:, None] for n in (filled, length))
    if rows:
        with pytest.raises(DataError, match=f"x: found lengths below 10 in {rows} rows and no zeros at either end"):
            real_frames.choose(frames, stated, real_frames.LENGTHS, "x")
    else:
        found, counts = real_frames.choose(frames, stated, real_frames.LENGTHS, "x")
        assert np.array_equal(found, frames) and counts["chosen_by"] == real_frames.LOOK


def test_the_padded_end_by_hand():
    filled = np.ones((2, 10), bool)
    assert real_frames.choose(filled, None, real_frames.LENGTHS, "x")[1]["padding"] == "none"
    filled[0, :3] = filled[1, 7:] = False
    assert real_frames.choose(filled, None, real_frames.LENGTHS, "x")[1]["padding"] == "both ends"


def test_spans_by_hand():
    filled = np.array([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]], bool)
    expected = [[0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert real_frames.span(filled).tolist() == np.array(expected, bool).tolist()
    assert real_frames.span(np.zeros((2, 0), bool)).shape == (2, 0)


def test_where_no_end_can_be_told_it_is_refused(tmp_path):
    """Padding that is not zero, at either end: the lengths alone do not say which frames are real."""
    changed = content()
    for fields in changed.values():
        fields["vision"][~np.any(fields["vision"], axis=2)] = 0.25
    with pytest.raises(DataError, match="train, vision: found lengths below 500 in . rows and no zeros at either end"):
        read(tmp_path, changed)
    for fields in changed.values():
        fields.pop("vision_lengths")
    splits, _, _ = read(tmp_path, changed)
    assert set(splits["train"].frames["V"].length) == {500}


def test_a_text_encoder_that_read_its_padding_is_told_by_the_mask(tmp_path):
    truth, _, _ = read(tmp_path, content())
    changed = content()
    for fields in changed.values():
        fields["text"][~np.any(fields["text"], axis=2)] = 0.25
    splits, notes, said = read(tmp_path, changed)
    assert same(splits, truth) and notes["train"]["T"]["chosen_by"] == real_frames.MASK
    assert any(sentence.startswith("frames that are not zero dropped as padding: text train") for sentence in said)


def test_zeros_by_hand():
    values = np.array([[0, 0], [0, 1], [0, 0], [2, 0]], np.float32)
    assert real_frames.zeros(values) == {"zero_frames_kept": 2}
    assert real_frames.zeros(values[[0, 2]]) == {"zero_frames_kept": 2, "all_zero": 1}
    assert real_frames.zeros(values[[1, 3]]) == {}


def test_padding_with_nan(tmp_path):
    truth, _, _ = read(tmp_path, content())
    for front in (False, True):
        changed = content()
        for fields in changed.values():
            if front:
                pad_in_front(fields, "vision")
            fields["vision"][~np.any(fields["vision"], axis=2)] = np.nan
        assert same(read(tmp_path, changed)[0], truth)
        for fields in changed.values():
            fields.pop("vision_lengths")
        splits, notes, _ = read(tmp_path, changed)
        assert same(splits, truth) and notes["train"]["V"]["nan"] == 0


def test_a_modality_of_zeros_is_pointed_out(tmp_path):
    changed = content()
    changed["test"]["audio"][:] = 0
    splits, notes, said = read(tmp_path, changed)
    assert "all zero throughout: audio test" in said and notes["test"]["A"]["all_zero"] == 1
    del changed["test"]["audio_lengths"]
    splits, _, said = read(tmp_path, changed)
    assert "all zero throughout: audio test" in said and not len(splits["test"].frames["A"].values)


def test_everything_is_said_on_load_in_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)
    changed = altered(lengths(lambda k, t: k // 2))
    changed["valid"].pop("raw_text")
    path = dump(changed, tmp_path / "x.pkl")
    for _ in range(2):  # converted, then from the store
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            card = sources.load("mosi", path).card
        lines = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
        assert len(lines) == 1 and "\n" not in lines[0]
        assert lines[0].endswith("; ".join(changes(card)))
        assert "raw_text missing (valid)" in lines[0] and "real frames found by looking" in lines[0]
        assert "infinite values set to 0: audio train 1, valid 1, test 1" in lines[0]
    caplog.clear()
    untouched = content()
    for fields in untouched.values():
        fields["audio"][~np.isfinite(fields["audio"])] = 0.5
    assert changes(sources.load("mosi", dump(untouched, tmp_path / "y.pkl")).card) == []
    said = [r.getMessage() for r in caplog.records if "y.pkl" in r.getMessage() and "first use" not in r.getMessage()]
    assert len(said) == 1 and "your file" in said[0] and "set to 0" not in said[0] and "frames" not in said[0]


def test_mfn_steps_of_one_modality_that_are_zero_are_counted(tmp_path):
    import h5py

    folder = write_mfn(tmp_path)
    with h5py.File(folder / "X_test.h5", "a") as file:
        array = file["data"][()]
        array[..., 300:305] = 0
        file["data"][()] = array
    splits, notes = public_mfn.read({name: folder / name for name in public_mfn.FILES}, MOSI)
    said = changes(describe(MOSI, splits, notes=notes))
    assert notes["test"]["A"]["all_zero"] == 1 and "all zero throughout: audio test" in said
