"""The readers, the store and the public sources, on generated files and, where they are, on the real ones."""

import csv
import http.server
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from make_files import SMALL, dump, mmsa_content, write_mfn, write_mmsa, write_ur_funny

from finelib import data
from finelib.data import download, mfn, mmsa, public, store, ur_funny
from finelib.data.card import describe
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS, Frames, ResidentSplit, Split
from finelib.data.formats import DataError, load_pickle

MOSI = CORPORA["mosi"]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mirror(monkeypatch):
    folder = Path(os.environ.get("FINE_DATA_MIRROR") or ROOT.parent / "shared" / "data")
    if not (folder / "mosi_public" / "label.csv").is_file():
        pytest.skip("the public files are not here: set FINE_DATA_MIRROR")
    monkeypatch.setenv("FINE_DATA_MIRROR", str(folder))
    return folder


def frames_of(frames: Frames, row: int) -> np.ndarray:
    return frames.values[frames.start[row] : frames.start[row] + frames.length[row]]


# MMSA-format files


@pytest.mark.parametrize("corpus", ["mosi", "mosei", "ch_sims"])
@pytest.mark.parametrize("layout", [1, 2])
def test_mmsa_frames_are_the_real_rows(tmp_path, corpus, layout):
    write_mmsa(tmp_path, corpus, layout=layout)
    truth = mmsa_content(CORPORA[corpus])
    loaded = data.load(corpus, tmp_path)
    assert loaded.widths == dict(zip("TAV", CORPORA[corpus].widths, strict=True))
    for s in SPLITS:
        split, fields = loaded.splits[s], truth[s]
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
        assert loaded.card["notes"][s]["A"] == {"nan": 0, "inf": 1, "nonzero_frames_dropped": 0}


def test_mmsa_aligned_uses_the_text_mask(tmp_path):
    path = write_mmsa(tmp_path, "mosi", aligned=True)
    loaded = data.load("mosi", tmp_path, aligned=True)
    mask = load_pickle(path)["test"]["text_bert"][:, 1]
    for m in "TAV":
        assert np.array_equal(loaded.splits["test"].frames[m].length, mask.sum(1))
    with pytest.raises(DataError, match=r"looked for .*unaligned_50.pkl, found in .*: aligned_50.pkl; data/README.md"):
        data.load("mosi", tmp_path)


def _set(name, value):
    return lambda split: split.__setitem__(name, value(split[name]))


def _at(index, value):
    def change(array):
        array = np.array(array)
        array[index] = value
        return array

    return change


BROKEN = {
    "missing field": (lambda f: f.pop("vision"), "found the fields .*, expected also 'vision'"),
    "rows": (_set("audio", lambda a: a[:-1]), r"valid, audio: found shape \(5, 375, 5\), expected \(6, any, any\)"),
    "text steps": (_set("text", lambda a: a[:, :-1]), r"valid, text: found shape \(6, 49, 768\), expected \(6, 50"),
    "flat": (_set("vision", lambda a: a[:, 0]), r"valid, vision: found shape \(6, 20\)"),
    "length too long": (_set("audio_lengths", _at(2, 376)), "audio_lengths: found 376 in row 2, .*0..375"),
    "length negative": (_set("vision_lengths", _at(0, -1)), "vision_lengths: found -1 in row 0"),
    "length not whole": (_set("vision_lengths", lambda a: np.asarray(a) + 0.5), "expected whole numbers"),
    "length missing": (_set("audio_lengths", lambda a: a[1:]), r"audio_lengths: found shape \(5,\), expected \(6,\)"),
    "label NaN": (_set("regression_labels", _at(1, np.nan)), "regression_labels: found nan in row 1"),
    "label range": (_set("regression_labels", _at(1, 3.1)), r"found 3.1 in row 1, expected labels in \[-3, 3\]"),
    "label text": (_set("regression_labels", lambda a: ["x"] * len(a)), "regression_labels: found .*expected numbers"),
    "ids": (_set("id", lambda a: list(range(len(a)))), "id: found 0 in row 0, expected text"),
    "id count": (_set("id", lambda a: a[1:]), "id: found 5 rows, expected 6"),
    "id twice": (_set("id", _at(1, "valid0$_$0")), r"id: found 'valid0\$_\$0' twice"),
    "texts": (_set("raw_text", lambda a: None), "raw_text: found None, expected 6 texts"),
    "no mask": (_set("text_bert", lambda a: a[:, :2]), r"text_bert: found shape \(6, 2, 50\)"),
    "mask values": (_set("text_bert", lambda a: a * 2), "text_bert: found a mask with values other than 0 and 1"),
    "all NaN": (_set("audio", lambda a: np.full_like(a, np.nan)), "valid, audio: found no finite value"),
    "all padding": (_set("audio_lengths", lambda a: [0] * len(a)), "valid, audio: found no frames"),
    "empty": (_set("regression_labels", lambda a: a[:0]), "regression_labels: found no rows"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_mmsa_broken_fields_are_named(tmp_path, name):
    change, sentence = BROKEN[name]
    content = mmsa_content(MOSI)
    change(content["valid"])
    path = dump(content, tmp_path / "x.pkl")
    with pytest.raises(DataError, match=sentence) as error:
        data.load("mosi", path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.glob("cache/corpora/*/index.json"))


def test_mmsa_split_and_overlap(tmp_path):
    content = mmsa_content(MOSI)
    content["test"]["id"] = [content["train"]["id"][3], *content["test"]["id"][1:]]
    with pytest.raises(DataError, match="1 ids in both train and test"):
        mmsa.read(dump(content, tmp_path / "a.pkl"), MOSI)
    content = mmsa_content(MOSI)
    content["valid"]["id"] = content["train"]["id"][:6]  # suspicious, but leaves the test split clean
    assert data.load("mosi", dump(content, tmp_path / "b.pkl")).card["duplicate_ids"]["train/valid"] == 6
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
    assert notes["train"]["V"] == {"nan": 3, "inf": 0, "nonzero_frames_dropped": 2}
    assert splits["train"].frames["V"].values[0, :3].tolist() == [0, 0, 0]
    assert frames_of(splits["train"].frames["V"], 1).tolist() == [[1.0] * 20]


# UR-FUNNY


@pytest.mark.parametrize(("version", "arrays", "misspelt"), [(1, False, False), (1, True, False), (2, False, True),
                                                              (2, True, False)])
def test_ur_funny(tmp_path, version, arrays, misspelt):
    folder = write_ur_funny(tmp_path, version, arrays=arrays, misspelt=misspelt)
    words = load_pickle(next(p for p in folder.iterdir() if p.stem in (*ur_funny.LANGUAGE, ur_funny.INDEXES)))
    vectors = np.asarray(load_pickle(folder / "word_embedding_list.pkl"), dtype=np.float32)
    covarep = load_pickle(folder / "covarep_features_sdk.pkl")
    for context in (False, True):
        loaded = data.load("ur_funny", tmp_path, context=context)
        assert loaded.card["notes"]["version"] == version
        assert loaded.widths == {"T": 300, "A": 81, "V": 371 if version == 2 else 75}
        split = loaded.splits["valid"]
        assert split.ids == [str(i) for i in range(13, 19)] and set(split.label) <= {0, 1}
        for row, i in enumerate(range(13, 19)):
            before = [*words[i]["context_embedding_indexes"]] if context else []
            index = sum(before, []) + words[i]["punchline_embedding_indexes"]
            assert np.array_equal(frames_of(split.frames["T"], row), vectors[index])
            before = [*covarep[i]["context_features"]] if context else []
            expected = np.concatenate([*map(np.asarray, before), np.asarray(covarep[i]["punchline_features"])])
            assert np.array_equal(frames_of(split.frames["A"], row), expected.astype(np.float32))
            sentences = words[i].get("context_sentences", []) if context else []
            assert split.text[row] == " ".join([*sentences, words[i].get("punchline_sentence", "")])


def _edit(folder, name, change):
    content = load_pickle(folder / f"{name}.pkl")
    change(content)
    dump(content, folder / f"{name}.pkl")


@pytest.mark.parametrize(("name", "change", "sentence"), [
    ("data_folds", lambda c: c.pop("dev"), "expected also 'dev'"),
    ("data_folds", lambda c: c["train"].append(1), "found '1' twice"),
    ("data_folds", lambda c: c["test"].append(1), "1 ids in both train and test"),
    ("data_folds", lambda c: c["test"].clear(), "expected a list of at least one id"),
    ("data_folds", lambda c: c["test"].append(99), "found no utterance 99"),
    ("humor_label_sdk", lambda c: c.update({2: 0.5}), "expected 0 or 1"),
    ("humor_label_sdk", lambda c: c.update({2: 2}), "found 2 in row 1"),
    ("word_embedding_list", lambda c: c.append([0.0]), "expected numbers of shape"),
    ("language_sdk", lambda c: c[2]["punchline_embedding_indexes"].append(15), "found 15.* in row .*0..14"),
    ("language_sdk", lambda c: c[2].pop("punchline_embedding_indexes"), "utterance 2: .*punchline_embedding_indexes"),
    ("language_sdk", lambda c: c[2].update(punchline_sentence=3), "utterance 2, sentences: found 3"),
    ("covarep_features_sdk", lambda c: c.pop(2), "covarep_features_sdk.pkl: found no utterance 2"),
    ("covarep_features_sdk", lambda c: c[2]["punchline_features"].append([1.0]), "utterance 2: .*expected numbers"),
    ("openface_features_sdk", lambda c: c[2].update(punchline_features=[[1.0] * 5]),
     r"utterance 2: found shape \(1, 5\), expected \(any, 371\)"),
    ("openface_features_sdk", lambda c: [e.update(punchline_features=[]) for e in c.values()], "found no frames"),
    ("openface_features_sdk", lambda c: [e.update(punchline_features=[[np.nan] * 371]) for e in c.values()],
     "found no finite value"),
])
def test_ur_funny_broken_files_are_named(tmp_path, name, change, sentence):
    folder = write_ur_funny(tmp_path)
    _edit(folder, name, change)
    with pytest.raises(DataError, match=sentence):
        data.load("ur_funny", tmp_path)


def test_ur_funny_missing_and_mixed_versions(tmp_path):
    folder = write_ur_funny(tmp_path)
    (folder / "openface_features_sdk.pkl").unlink()
    assert "for openface_features_sdk.pkl, found covarep_features_sdk.pkl" in data.available("ur_funny", tmp_path)
    write_ur_funny(tmp_path)
    write_ur_funny(tmp_path, version=1)
    with pytest.raises(DataError, match="expected one version"):
        data.load("ur_funny", tmp_path)


def test_ur_funny_empty_utterance_has_no_frames(tmp_path):
    folder = write_ur_funny(tmp_path)
    _edit(folder, "covarep_features_sdk", lambda c: c[1].update(punchline_features=[]))
    loaded = data.load("ur_funny", tmp_path)
    assert loaded.splits["train"].frames["A"].length[0] == 0
    assert loaded.card["notes"]["train"]["lengths_differ"] == 1


# The store


def test_store_round_trip_reads_the_source_once(tmp_path, monkeypatch):
    path = write_mmsa(tmp_path, "ch_sims")
    direct, _ = mmsa.read(path, CORPORA["ch_sims"])
    first = data.load("ch_sims", tmp_path)
    monkeypatch.setattr(mmsa, "read", None)
    second = data.load("ch_sims", tmp_path)
    assert (first.sha256, first.card, first.encoder) == (second.sha256, second.card, "bert-base-chinese")
    for s in SPLITS:
        a, b = direct[s], second.splits[s]
        assert (a.ids, a.text) == (b.ids, b.text) and np.array_equal(a.label, b.label)
        for m in "TAV":
            assert np.array_equal(a.frames[m].values, b.frames[m].values)
            assert np.array_equal(a.frames[m].start, b.frames[m].start)
            assert np.array_equal(a.unimodal_labels[m], b.unimodal_labels[m])
            assert isinstance(b.frames[m].values.base, np.memmap)
    batch = ResidentSplit(second.splits["train"], ("T", "A", "V"), torch.device("cpu")).batch(torch.tensor([0, 5]))
    assert batch.features["A"].shape[-1] == 33


def test_store_depends_on_file_and_options(tmp_path):
    names = {data.load("mosi", write_mmsa(tmp_path / str(seed), "mosi", seed=seed)).sha256 for seed in (0, 1)}
    write_ur_funny(tmp_path)
    names |= {data.load("ur_funny", tmp_path, context=c).sha256 for c in (False, True)}
    assert len(names) == 4


@pytest.mark.parametrize("harm", ["truncate", "alter", "remove", "index"])
def test_a_damaged_store_is_rebuilt(tmp_path, harm):
    write_mmsa(tmp_path, "mosi")
    loaded = data.load("mosi", tmp_path)
    expected = np.array(loaded.splits["train"].frames["V"].values)
    folder = tmp_path / "cache" / "corpora" / loaded.sha256
    victim = folder / "train-V.npy"
    if harm == "truncate":
        os.truncate(victim, victim.stat().st_size - 4)
    elif harm == "alter":
        victim.write_bytes(victim.read_bytes()[:-4] + b"\1\2\3\4")
    elif harm == "remove":
        victim.unlink()
    else:
        (folder / store.INDEX).write_text((folder / store.INDEX).read_text()[:-100])
    again = data.load("mosi", tmp_path)
    assert np.array_equal(again.splits["train"].frames["V"].values, expected)


def test_a_killed_conversion_leaves_nothing_that_is_used(tmp_path):
    write_mmsa(tmp_path, "mosi")
    killed = (
        "import os, sys; from finelib import data; from finelib.data import store\n"
        "store.json.dumps = lambda *a, **k: os._exit(9) if isinstance(a[0], dict) else '0'\n"
        "store.key = lambda *a, **k: 'name'\n"
        "data.load('mosi', sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(tmp_path)], cwd=ROOT, capture_output=True)
    assert done.returncode == 9, done.stderr
    left = list((tmp_path / "cache" / "corpora").glob("name.partial-*"))
    assert len(left) == 1 and list(left[0].glob("train-*.npy"))  # killed in the middle
    splits, _ = mmsa.read(tmp_path / "MOSI/Processed/unaligned_50.pkl", MOSI)
    corpus = store.open_or_convert("name", MOSI, lambda: data.Corpus(MOSI, "files", splits, "name", "bert", {}))
    assert len(corpus.splits["train"]) == SMALL[0]
    assert not list((tmp_path / "cache" / "corpora").glob("*.partial-*"))


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    write_mmsa(tmp_path, "mosi")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(OSError, match="cache: cannot be written to .*set FINE_CACHE"):
        data.load("mosi", tmp_path)


def test_a_full_disk_while_converting_leaves_no_store(tmp_path, monkeypatch):
    write_mmsa(tmp_path, "mosi")

    def full(path, array):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.np, "save", full)
    with pytest.raises(OSError, match="No space left on device.*set FINE_CACHE"):
        data.load("mosi", tmp_path)
    assert [p.suffix for p in (tmp_path / "cache" / "corpora").iterdir()] == [".lock"]


def test_a_hash_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert store.file_sha256(path) == known
    monkeypatch.setattr(store.hashlib, "file_digest", None)
    assert store.file_sha256(path) == known
    monkeypatch.undo()
    path.write_bytes(b"abcd")
    assert store.file_sha256(path, tmp_path / "cache") != known


# Card


def test_card_counts_by_hand():
    def split(labels, length, ids, text):
        frames = Frames.from_lengths(np.zeros((sum(length), 2), np.float32), np.array(length))
        return Split({"A": frames}, np.array(labels, np.float32), ids, text)

    splits = {
        "train": split([-1.0, -0.7, -0.1, 0.1, 0.8], [0, 1, 2, 3, 4], list("abcde"), ["x", "y", "z", "", "x"]),
        "valid": split([0.0], [3], ["a"], ["x"]),
        "test": split([1.0], [3], ["t"], [""]),
    }
    card = describe(CORPORA["ch_sims"], splits)
    train = card["splits"]["train"]
    assert train["class_counts"] == [2, 1, 1, 0, 1]  # a label on an edge belongs to the class below
    assert sum(train["label_histogram"]["counts"]) == 5 and train["published_utterances"] == 1368
    assert train["modalities"]["A"] == {
        "width": 2, "frames": 10, "empty": 1,
        "length_quantiles": {"0": 0, "0.25": 1, "0.5": 2, "0.75": 3, "0.95": 3.8, "1": 4},
    }
    assert card["duplicate_ids"] == {"train/valid": 1, "train/test": 0, "valid/test": 0}
    assert card["duplicate_texts"] == {"train/valid": 1, "train/test": 0, "valid/test": 0}


def test_card_compares_with_the_published_hash(tmp_path, monkeypatch):
    path = write_mmsa(tmp_path, "mosi")
    assert data.load("mosi", tmp_path).card["files"][0]["compared"] == "differs from the published file"
    assert data.compared(MOSI, MOSI.files["MOSI/Processed/unaligned_50.pkl"]) == "published"
    assert data.compared(CORPORA["ur_funny"], store.file_sha256(path)) == "no checksum was published"


# Names and options


@pytest.mark.parametrize(("arguments", "options", "sentence"), [
    (("mosy",), {}, "unknown.*did you mean 'mosi'"),
    (("mosi", "publik"), {}, "no such file or folder.*did you mean 'public'"),
    (("mosei", "public"), {}, "no public features of CMU-MOSEI"),
    (("mosi",), {"aligned": True}, "has no aligned file"),
    (("ch_sims", "."), {"aligned": True}, "has no aligned file"),
    (("mosi", "."), {"context": True}, "has no context sentences"),
    (("mosi",), {"finetune_text": True}, "expected the name of an encoder"),
    (("mosei", "."), {}, "CMU-MOSEI: looked for .*data/README.md says how to obtain it"),
])
def test_what_does_not_exist_is_said(arguments, options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        data.load(*arguments, **options)


def test_available(tmp_path):
    assert data.available("mosi", "planted") is None
    assert "looked for" in data.available("mosi", tmp_path)
    write_mmsa(tmp_path, "mosi")
    assert data.available("mosi", tmp_path) is None
    assert "aligned_50.pkl, found in" in data.available("mosi", tmp_path, aligned=True)


# Public sources


def test_git_blob_ids():
    # `git hash-object` of an empty file and of "hello\n"
    for content, blob in ((b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
                          (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a")):
        path = Path(os.environ["FINE_CACHE"]).parent / "blob"
        path.write_bytes(content)
        assert download._checksum(path, "git-blob:") == f"git-blob:{blob}"


def test_download_is_verified_and_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("FINE_DATA_MIRROR", raising=False)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.txt").write_bytes(b"hello\n")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.txt"
    blob = "git-blob:ce013625030ba8dba906f756967f9e9ca394464a"
    try:
        with pytest.raises(DataError, match="a.txt: found git-blob:ce01.*, expected git-blob:0000"):
            download.obtain(download.PublicFile("f/a.txt", url, "git-blob:" + "0" * 40))
        assert list((tmp_path / "cache").rglob("*.txt")) == []  # nothing unverified is left
        path = download.obtain(download.PublicFile("f/a.txt", url, blob))
        assert path.read_bytes() == b"hello\n" and list(path.parent.iterdir()) == [path]
    finally:
        server.shutdown()
        server.server_close()
    assert download.obtain(download.PublicFile("f/a.txt", url, blob)) == path  # no network needed any more
    path.write_bytes(b"hell")
    with pytest.raises(DataError, match="could not be downloaded.*FINE_DATA_MIRROR to a folder that holds f/a.txt"):
        download.obtain(download.PublicFile("f/a.txt", url, blob))


def test_public_mosi(mirror):
    paths = public.paths()
    splits, _ = public.read(paths, MOSI)
    assert [len(splits[s]) for s in SPLITS] == [1281, 229, 685]
    train = splits["train"]
    assert set(train.frames) == {"A"} and train.frames["A"].values.shape == (1281, 73)
    row = train.ids.index("03bSnISJMiM_1")
    assert train.text[row] == "anyhow it was really good" and train.label[row] == np.float32(2.4)
    assert sum((train.label == 0).tolist()) == 53
    audio = {i: values for s in splits.values() for i, values in zip(s.ids, s.frames["A"].values, strict=True)}
    cells = {name: list(csv.reader(path.read_text().splitlines())) for name, path in paths.items()}
    joined = 0
    for part in ("train", "test"):  # the join again, row by row
        for text, line in zip(cells[f"text_{part}.csv"], cells[f"audio_{part}0.csv"], strict=True):
            name = cells["transcripts.csv"][int(text[0])][0]
            if name in audio:
                assert np.array_equal(audio[name], np.array(line[:73], dtype=np.float64).astype(np.float32))
                joined += 1
    assert joined == 2195
    for s in splits.values():  # the binary label of the audio files is not among the features
        assert not any(np.array_equal(column, s.label >= 0) for column in s.frames["A"].values.T)


def test_public_mosi_refuses_another_file(mirror, tmp_path, monkeypatch):
    shutil.copytree(mirror / "mosi_public", tmp_path / "m" / "mosi_public")
    label = tmp_path / "m" / "mosi_public" / "label.csv"
    label.chmod(0o644)
    label.write_bytes(label.read_bytes().replace(b",2.4,", b",2.5,", 1))
    monkeypatch.setenv("FINE_DATA_MIRROR", str(tmp_path / "m"))
    with pytest.raises(DataError, match="label.csv: found sha256:.*expected sha256:74c52aba"):
        data.load("mosi", "public")
    assert "label.csv: found" in data.available("mosi", "public")


def test_leaked_features_know_their_videos(mirror):
    leaked = public.leaked_video_features()
    assert leaked.values.shape == (2195, 100)
    video = np.array([i.rsplit("_", 1)[0] for i in leaked.ids])
    assert (len(set(video[leaked.learned_from])), len(set(video[~leaked.learned_from]))) == (62, 31)
    assert not set(video[leaked.learned_from]) & set(video[~leaked.learned_from])
    assert leaked.learned_from[leaked.split == "test"].mean() > 0.5  # most of the test split is in it


@pytest.mark.parametrize("front", [True, False])
def test_mfn_finds_the_padding(tmp_path, front):
    folder = write_mfn(tmp_path, front=front)
    splits, notes = mfn.read({name: folder / name for name in mfn.FILES}, MOSI)
    with h5py.File(folder / "X_train.h5") as file:
        array = file["data"][()].astype(np.float32)
    some = np.abs(array).sum(2) > 0
    train = splits["train"]
    assert np.array_equal(train.frames["T"].length, some.sum(1))
    for m, (low, high) in {"T": (0, 300), "A": (300, 305), "V": (305, 325)}.items():
        for row in range(len(train)):
            assert np.array_equal(frames_of(train.frames[m], row), array[row, some[row], low:high])
    padded = int((some.sum(1) < 20).sum())
    assert notes["train"]["padding"] == {"front": padded * front, "behind": padded * (not front), "empty": 0}


def test_mfn_keeps_zero_steps_inside(tmp_path):
    folder = write_mfn(tmp_path)
    with h5py.File(folder / "X_test.h5", "a") as file:
        array = np.zeros((6, 20, 325))
        array[0, [3, 7], 10] = 1
        file["data"][()] = array
    splits, notes = mfn.read({name: folder / name for name in mfn.FILES}, MOSI)
    assert splits["test"].frames["V"].length.tolist() == [5, 0, 0, 0, 0, 0]
    assert notes["test"]["padding"] == {"front": 1, "behind": 1, "empty": 5}


@pytest.mark.parametrize(("name", "value", "sentence"), [
    ("X_test", np.ones((6, 20, 324)), r"X_test.h5, data: found shape \(6, 20, 324\), expected \(6, any, 325\)"),
    ("X_test", np.ones((5, 20, 325)), r"found shape \(5, 20, 325\)"),
    ("X_test", np.zeros((6, 20, 325)), "found only zeros"),
    ("X_test", np.full((6, 20, 325), np.nan), "found no finite value"),
    ("y_test", np.full(6, 4.0), "y_test.h5, data: found 4 in row 0"),
    ("y_test", np.zeros(0), "found no rows"),
    ("y_test", None, "y_test.h5: found other, expected a dataset 'data'"),
])
def test_mfn_broken_files_are_named(tmp_path, name, value, sentence):
    folder = write_mfn(tmp_path)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["other" if value is None else "data"] = 0 if value is None else value
    with pytest.raises(DataError, match=sentence):
        mfn.read({name: folder / name for name in mfn.FILES}, MOSI)


def test_mfn_truncated_file(tmp_path):
    folder = write_mfn(tmp_path)
    os.truncate(folder / "X_test.h5", 1000)
    with pytest.raises(DataError, match="X_test.h5: found no readable HDF5 file"):
        mfn.read({name: folder / name for name in mfn.FILES}, MOSI)


def test_mfn_with_the_real_labels(mirror, tmp_path):
    if not (mirror / "mosi_mfn" / "y_train.h5").is_file():
        pytest.skip("the label files of MFN are not here")
    paths = {name: download.obtain(mfn.FILES[name]) for name in ("y_train.h5", "y_valid.h5", "y_test.h5")}  # verified
    generated = write_mfn(tmp_path, MOSI.sizes, steps=4)
    paths |= {f"X_{s}.h5": generated / f"X_{s}.h5" for s in SPLITS}
    splits, _ = mfn.read(paths, MOSI)
    assert [len(splits[s]) for s in SPLITS] == [1284, 229, 686]
    assert splits["train"].label[:3].tolist() == np.float32([-0.5, -1.2, 1.8]).tolist()
    non_zero = (splits["test"].label != 0).sum()
    assert non_zero == 656  # as published for this test split
