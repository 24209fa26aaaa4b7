"""The readers of the licensed files, on generated files of the same formats."""

import numpy as np
import pytest
from make_files import dump, mmsa_content, read_here, write_mmsa, write_ur_funny

from finelib.data import checks, mmsa, sources, ur_funny
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS, Frames
from finelib.data.safe_pickle import DataError, load_pickle

MOSI = CORPORA["mosi"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))


def frames_of(frames: Frames, row: int) -> np.ndarray:
    return frames.values[frames.start[row] : frames.start[row] + frames.length[row]]


# MMSA-format files


@pytest.mark.parametrize("corpus", ["mosi", "mosei", "ch_sims"])
@pytest.mark.parametrize("layout", [1, 2])
def test_mmsa_frames_are_the_real_rows(tmp_path, corpus, layout):
    info = CORPORA[corpus]
    splits, notes = mmsa.read(write_mmsa(tmp_path, corpus, layout=layout), info)
    truth = mmsa_content(info)
    assert [f.width for f in splits["train"].frames.values()] == list(info.widths)
    for s in SPLITS:
        split, fields = splits[s], truth[s]
        assert split.ids == list(fields["id"]) and split.text == list(fields["raw_text"])
        assert np.array_equal(split.label, fields["regression_labels"]) and split.label.dtype == np.float32
        length = {"T": fields["text_bert"][:, 1].sum(1), "A": fields["audio_lengths"], "V": fields["vision_lengths"]}
        for m, name in mmsa.FIELD.items():
            array = np.where(np.isfinite(fields[name]), fields[name], 0)
            for row in range(len(split)):
                assert np.array_equal(frames_of(split.frames[m], row), array[row, : int(length[m][row])])
        if corpus == "ch_sims":
            assert all(np.array_equal(split.unimodal_labels[m], fields[f"regression_labels_{m}"]) for m in "TAV")
        else:
            assert split.unimodal_labels is None
        assert notes[s]["A"].items() >= {"nan": 0, "inf": 1, "nonzero_frames_dropped": 0}.items()


def test_mmsa_aligned_uses_the_text_mask(tmp_path, monkeypatch):
    read_here(monkeypatch)
    path = write_mmsa(tmp_path, "mosi", aligned=True)
    loaded = sources.load("mosi", tmp_path, aligned=True)
    mask = load_pickle(path)["test"]["text_bert"][:, 1]
    for m in "TAV":
        assert np.array_equal(loaded.splits["test"].frames[m].length, mask.sum(1))
    with pytest.raises(DataError, match=r"looked for .*unaligned_50.pkl, found in .*: aligned_50.pkl; data/README.md"):
        sources.load("mosi", tmp_path)


def _set(name, value):
    return lambda split: split.__setitem__(name, value(split[name]))


def _at(index, value):
    def change(array):
        array = np.array(array)
        array[index] = value
        return array

    return change


BROKEN = {
    "rows": (_set("audio", lambda a: a[:-1]), r"valid, audio: found shape \(5, 375, 5\), expected \(6, any, any\)"),
    "text steps": (_set("text", lambda a: a[:, :-1]), r"valid, text: found shape \(6, 49, 768\), expected \(6, 50"),
    "flat": (_set("vision", lambda a: a[:, 0]), r"valid, vision: found shape \(6, 20\)"),
    "length negative": (_set("vision_lengths", _at(0, -1)), "vision_lengths: found -1 in row 0"),
    "length not whole": (_set("vision_lengths", lambda a: np.asarray(a) + 0.5), "expected whole numbers"),
    "length missing": (_set("audio_lengths", lambda a: a[1:]), r"audio_lengths: found shape \(5,\), expected \(6,\)"),
    "label NaN": (_set("regression_labels", _at(1, np.nan)), "regression_labels: found nan in row 1"),
    "label range": (_set("regression_labels", _at(1, 3.1)), r"found 3.1 in row 1, expected labels in \[-3, 3\]"),
    "label text": (_set("regression_labels", lambda a: ["x"] * len(a)), "regression_labels: found .*expected numbers"),
    "id count": (_set("id", lambda a: a[1:]), "id: found 5 rows, expected 6"),
    "id twice": (_set("id", _at(1, "valid0$_$0")), r"id: found 'valid0\$_\$0' twice"),
    "no mask": (_set("text_bert", lambda a: a[:, :2]), r"text_bert: found shape \(6, 2, 50\)"),
    "mask values": (_set("text_bert", lambda a: a * 2), "text_bert: found a mask with values other than 0 and 1"),
    "all NaN": (_set("audio", lambda a: np.full_like(a, np.nan)), "valid, audio: found no finite value"),
    "empty": (_set("regression_labels", lambda a: a[:0]), "regression_labels: found no rows"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_mmsa_broken_fields_are_named(tmp_path, name):
    change, sentence = BROKEN[name]
    content = mmsa_content(MOSI)
    change(content["valid"])
    path = dump(content, tmp_path / "x.pkl")
    with pytest.raises(DataError, match=sentence) as error:
        mmsa.read(path, MOSI)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_what_the_reading_process_says_is_said_here(tmp_path):
    """Sentence by sentence, and nothing of a refused file is kept."""
    content = mmsa_content(MOSI)
    content["valid"]["regression_labels"][2] = np.nan
    path = dump(content, tmp_path / "x.pkl")
    with pytest.raises(DataError, match="x.pkl, valid, regression_labels: found nan in row 2"):
        sources.load("mosi", path)
    assert [p.suffix for p in (tmp_path / "cache" / "corpora").iterdir()] == [".lock"]


def test_mmsa_split_and_overlap(tmp_path, monkeypatch):
    read_here(monkeypatch)
    content = mmsa_content(MOSI)
    content["test"]["id"] = [content["train"]["id"][3], *content["test"]["id"][1:]]
    with pytest.raises(DataError, match="1 ids in both train and test"):
        mmsa.read(dump(content, tmp_path / "a.pkl"), MOSI)
    content = mmsa_content(MOSI)
    content["valid"]["id"] = content["train"]["id"][:6]  # suspicious, but leaves the test split clean
    assert sources.load("mosi", dump(content, tmp_path / "b.pkl")).card["duplicate_ids"]["train/valid"] == 6
    with pytest.raises(DataError, match="found the fields 'train', 'test', expected also 'valid'"):
        mmsa.read(dump({"train": content["train"], "test": 0}, tmp_path / "c.pkl"), MOSI)
    with pytest.raises(DataError, match="found a list, expected a dictionary"):
        mmsa.read(dump([1], tmp_path / "d.pkl"), MOSI)


def test_mmsa_nan_and_stray_frames_are_counted(tmp_path):
    content = mmsa_content(MOSI)
    fields = content["train"]
    fields["vision"][0, 0, :3] = np.nan
    fields["vision_lengths"][1] = 1
    fields["vision"][1] = 0
    fields["vision"][1, [0, 5, 9]] = 1.0  # two frames past the length that are not zero
    splits, notes = mmsa.read(dump(content, tmp_path / "x.pkl"), MOSI)
    assert notes["train"]["V"].items() >= {"nan": 3, "inf": 0, "nonzero_frames_dropped": 2}.items()
    assert splits["train"].frames["V"].values[0, :3].tolist() == [0, 0, 0]
    assert frames_of(splits["train"].frames["V"], 1).tolist() == [[1.0] * 20]


def test_checks_by_hand():
    values, counts = checks.finite(np.array([[np.nan, np.inf], [1.0, 2.0]]), "x")
    assert values.tolist() == [[0, 0], [1, 2]] and counts == {"nan": 1, "inf": 1}
    with pytest.raises(DataError, match="x: found no finite value"):
        checks.finite(np.array([[np.nan, np.inf, -np.inf]]), "x")
    assert checks.strings(np.array([b"a", "\u00fc".encode()]), "x", 2) == ["a", "\u00fc"]
    assert checks.labels([-3, 3.0], "x", MOSI).tolist() == [-3, 3]
    for beyond in (-3.5, 3.5):
        with pytest.raises(DataError, match=f"x: found {beyond} in row 1"):
            checks.labels([0.0, beyond], "x", MOSI)


# UR-FUNNY


@pytest.mark.parametrize(
    ("version", "arrays", "misspelt"), [(1, False, False), (1, True, False), (2, False, True), (2, True, False)]
)
def test_ur_funny(tmp_path, version, arrays, misspelt):
    folder = write_ur_funny(tmp_path, version, arrays=arrays, misspelt=misspelt)
    words = load_pickle(next(p for p in folder.iterdir() if p.stem in (*ur_funny.LANGUAGE, ur_funny.INDEXES)))
    vectors = np.asarray(load_pickle(folder / "word_embedding_list.pkl"), dtype=np.float32)
    covarep = load_pickle(folder / "covarep_features_sdk.pkl")
    for context in (False, True):
        splits, notes = ur_funny.read(folder, CORPORA["ur_funny"], context)
        assert notes["version"] == version
        split = splits["valid"]
        assert {m: f.width for m, f in split.frames.items()} == {"T": 300, "A": 81, "V": 371 if version == 2 else 75}
        assert split.ids == [str(i) for i in range(13, 19)] and set(split.label) <= {0, 1}
        for row, i in enumerate(range(13, 19)):
            before = [*words[i]["context_embedding_indexes"]] if context else []
            index = sum(before, []) + words[i]["punchline_embedding_indexes"]
            assert np.array_equal(frames_of(split.frames["T"], row), vectors[index])
            before = [*covarep[i]["context_features"]] if context else []
            expected = np.concatenate([*map(np.asarray, before), np.asarray(covarep[i]["punchline_features"])])
            assert np.array_equal(frames_of(split.frames["A"], row), expected.astype(np.float32))
            numbers = np.repeat(
                [*range(1, len(before) + 1), 0], list(map(len, [*before, covarep[i]["punchline_features"]]))
            )
            for frames in split.frames.values():
                assert context == (frames.sentence is not None)
                own = slice(frames.start[row], frames.start[row] + frames.length[row])
                assert not context or np.array_equal(frames.sentence[own], numbers)
            assert split.frames["V"].length[row] == split.frames["A"].length[row] == len(index)
            sentences = words[i].get("context_sentences", []) if context else []
            assert split.text[row] == "\n".join([*sentences, words[i].get("punchline_sentence", "")])


def _edit(folder, name, change):
    content = load_pickle(folder / f"{name}.pkl")
    change(content)
    dump(content, folder / f"{name}.pkl")


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("data_folds", lambda c: c.pop("dev"), "expected also 'valid'"),
        ("data_folds", lambda c: c["train"].append(1), "found '1' twice"),
        ("data_folds", lambda c: c["test"].append(1), "1 ids in both train and test"),
        ("data_folds", lambda c: c["test"].clear(), "expected a list of at least one id"),
        ("data_folds", lambda c: c["test"].append(99), "data_folds.pkl lists"),
        ("data_folds", lambda c: c["test"].append([99]), "data_folds.pkl, test: found a list, expected a text"),
        ("data_folds", lambda c: c["test"].append(99.0), "data_folds.pkl, test: found 99.0, expected a text"),
        (
            "covarep_features_sdk",
            lambda c: c[2].update(punchline_features=np.array(3.0)),
            "utterance 2: found .*, expected a list or an array",
        ),
        ("humor_label_sdk", lambda c: c.update({2: 0.5}), "expected 0 or 1"),
        ("humor_label_sdk", lambda c: c.update({2: 2}), "found 2 in row 1"),
        ("word_embedding_list", lambda c: c.append([0.0]), "expected numbers of shape"),
        ("language_sdk", lambda c: c[2]["punchline_embedding_indexes"].append(15), "found 15.* in row .*0..14"),
        (
            "language_sdk",
            lambda c: c[2].pop("punchline_embedding_indexes"),
            "utterance 2: .*punchline_embedding_indexes",
        ),
        ("language_sdk", lambda c: c[2].update(punchline_sentence=3), "utterance 2, sentences: found 3"),
        ("covarep_features_sdk", lambda c: c.pop(2), "covarep_features_sdk.pkl: found no utterance 2"),
        ("covarep_features_sdk", lambda c: c[2]["punchline_features"].append([1.0]), "utterance 2: .*expected numbers"),
        (
            "openface_features_sdk",
            lambda c: c[2].update(punchline_features=[[1.0] * 5]),
            r"utterance 2: found shape \(1, 5\), expected \(any, 371\)",
        ),
        ("openface_features_sdk", lambda c: [e.update(punchline_features=[]) for e in c.values()], "found no frames"),
        (
            "openface_features_sdk",
            lambda c: [e.update(punchline_features=[[np.nan] * 371]) for e in c.values()],
            "found no finite value",
        ),
    ],
)
def test_ur_funny_broken_files_are_named(tmp_path, name, change, sentence):
    folder = write_ur_funny(tmp_path)
    _edit(folder, name, change)
    with pytest.raises(DataError, match=sentence):
        ur_funny.read(folder, CORPORA["ur_funny"])


def test_ur_funny_missing_and_mixed_versions(tmp_path):
    folder = write_ur_funny(tmp_path)
    (folder / "humor_label_sdk.pkl").unlink()
    assert "for humor_label_sdk.pkl, found covarep_features_sdk.pkl" in sources.available("ur_funny", tmp_path)
    write_ur_funny(tmp_path)
    write_ur_funny(tmp_path, version=1)
    with pytest.raises(DataError, match="expected one version"):
        sources.load("ur_funny", tmp_path)


@pytest.mark.parametrize(
    ("files", "modalities"),
    [
        (["covarep_features_sdk"], "TV"),
        (["openface_features_sdk", "word_embedding_list"], "A"),
        (["language_sdk"], "AV"),
        (["covarep_features_sdk", "openface_features_sdk"], "T"),
    ],
)
def test_ur_funny_reads_the_modalities_that_are_there(tmp_path, monkeypatch, files, modalities):
    read_here(monkeypatch)
    folder = write_ur_funny(tmp_path)
    whole, _ = ur_funny.read(folder, CORPORA["ur_funny"])
    for name in files:
        (folder / f"{name}.pkl").unlink()
    corpus = sources.load("ur_funny", tmp_path)
    assert "".join(corpus.modalities) == modalities
    assert {name for name, what in corpus.card["notes"]["file"].items() if what == "missing"} == {
        f"{f}.pkl" for f in files
    }
    for s in SPLITS:
        for m in modalities:
            assert np.array_equal(corpus.splits[s].frames[m].values, whole[s].frames[m].values)
        assert corpus.splits[s].text == (whole[s].text if "language_sdk" not in files else [""] * len(whole[s]))
    for name in ("covarep_features_sdk", "openface_features_sdk", "language_sdk"):
        (folder / f"{name}.pkl").unlink(missing_ok=True)
    assert "covarep_features_sdk.pkl" in sources.available("ur_funny", tmp_path)


def test_ur_funny_ids_of_other_types(tmp_path):
    folder = write_ur_funny(tmp_path)
    whole, _ = ur_funny.read(folder, CORPORA["ur_funny"])
    folds = load_pickle(folder / "data_folds.pkl")
    for change in (np.array, lambda fold: [str(i).encode() for i in fold], lambda fold: np.array(fold)[:, None], tuple):
        dump({name: change(fold) for name, fold in folds.items()}, folder / "data_folds.pkl")
        splits, _ = ur_funny.read(folder, CORPORA["ur_funny"])
        assert all(splits[s].ids == whole[s].ids for s in SPLITS)
    dump({"Train": folds["train"], "val": folds["dev"], "TEST": folds["test"]}, folder / "data_folds.pkl")
    assert ur_funny.read(folder, CORPORA["ur_funny"])[0]["valid"].ids == whole["valid"].ids
    words = load_pickle(folder / "language_sdk.pkl")
    dump({str(i).encode(): entry for i, entry in words.items()}, folder / "language_sdk.pkl")
    assert ur_funny.read(folder, CORPORA["ur_funny"])[0]["test"].text == whole["test"].text


def test_ur_funny_empty_utterance_has_no_frames(tmp_path):
    folder = write_ur_funny(tmp_path)
    _edit(folder, "covarep_features_sdk", lambda c: c[1].update(punchline_features=[]))
    splits, notes = ur_funny.read(folder, CORPORA["ur_funny"])
    assert splits["train"].frames["A"].length[0] == 0
    assert notes["train"]["lengths_differ"] == 1 and notes["test"]["lengths_differ"] == 0
    assert set(notes["train"]) == {"T", "A", "V", "lengths_differ"}
    _edit(folder, "openface_features_sdk", lambda c: [c[i].update(punchline_features=[]) for i in (1, 2, 3)])
    assert ur_funny.read(folder, CORPORA["ur_funny"])[1]["train"]["lengths_differ"] == 3


@pytest.mark.parametrize("rows", [range(1, 12), [0, *range(12)]])
def test_another_number_of_unimodal_labels_than_of_utterances(tmp_path, rows):
    content, info = mmsa_content(CORPORA["ch_sims"]), CORPORA["ch_sims"]
    content["train"]["regression_labels_A"] = content["train"]["regression_labels_A"][list(rows)]
    with pytest.raises(DataError, match="train, regression_labels_A: found shape"):
        mmsa.read(dump(content, tmp_path / "x.pkl"), info)
