"""The converted store, the data card, and what ``load`` says of names and options."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_files import SMALL, read_here, write_mmsa, write_ur_funny

from finelib.data import conversion, mmsa, sources, store, ur_funny
from finelib.data.card import changes, compared, describe, said
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS, Frames, Split

MOSI = CORPORA["mosi"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)


# The store


def test_store_round_trip_reads_the_source_once(tmp_path, monkeypatch):
    path = write_mmsa(tmp_path, "ch_sims")
    direct, _ = mmsa.read(path, CORPORA["ch_sims"])
    first = sources.load("ch_sims", tmp_path)
    monkeypatch.setattr(conversion, "_read", None)
    second = sources.load("ch_sims", tmp_path)
    assert (first.sha256, first.card, first.encoder) == (second.sha256, second.card, "bert-base-chinese")
    for s in SPLITS:
        a, b = direct[s], second.splits[s]
        assert (a.ids, a.text) == (b.ids, b.text) and np.array_equal(a.label, b.label)
        for m in "TAV":
            assert np.array_equal(a.frames[m].values, b.frames[m].values)
            assert np.array_equal(a.frames[m].start, b.frames[m].start)
            assert np.array_equal(a.unimodal_labels[m], b.unimodal_labels[m])
            assert isinstance(b.frames[m].values.base, np.memmap)
    batch = second.batch([0, 5], "train")
    assert batch.features["A"].shape[-1] == 33


def test_sentences_come_through_the_store_and_into_batches(tmp_path):
    folder = write_ur_funny(tmp_path)
    direct, _ = ur_funny.read(folder, CORPORA["ur_funny"], context=True)
    assert not sources.load("ur_funny", tmp_path).batch([0]).sentence
    stored = sources.load("ur_funny", tmp_path, context=True)
    rows = [4, 0, 1]
    batch = stored.batch(rows, "train")
    for m in "TAV":
        frames = direct["train"].frames[m]
        assert np.array_equal(stored.splits["train"].frames[m].sentence, frames.sentence)
        for place, row in enumerate(rows):
            own = frames.sentence[frames.start[row] : frames.start[row] + frames.length[row]]
            assert batch.sentence[m][place][batch.mask[m][place]].tolist() == own.tolist()
        assert (batch.sentence[m][~batch.mask[m]] == -1).all()


def test_store_depends_on_file_and_options(tmp_path):
    names = {sources.load("mosi", write_mmsa(tmp_path / str(seed), "mosi", seed=seed)).sha256 for seed in (0, 1)}
    write_ur_funny(tmp_path)
    names |= {sources.load("ur_funny", tmp_path, context=c).sha256 for c in (False, True)}
    assert len(names) == 4


@pytest.mark.parametrize("harm", ["truncate", "alter", "flip", "remove", "index", "checksums"])
def test_a_damaged_store_is_rebuilt(tmp_path, harm):
    write_mmsa(tmp_path, "mosi")
    loaded = sources.load("mosi", tmp_path)
    expected = np.array(loaded.splits["train"].frames["V"].values)
    folder = tmp_path / "cache" / "corpora" / loaded.sha256
    victim = folder / "train-V.npy"
    if harm == "truncate":
        os.truncate(victim, victim.stat().st_size - 4)
    elif harm == "alter":
        victim.write_bytes(victim.read_bytes()[:-4] + b"\1\2\3\4")
    elif harm == "flip":  # one bit, size and times as they were
        times = victim.stat()
        content = bytearray(victim.read_bytes())
        content[-100] ^= 4
        victim.write_bytes(content)
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif harm == "remove":
        victim.unlink()
    else:
        path = folder / (store.INDEX if harm == "index" else store.CHECKSUMS)
        path.write_text(path.read_text()[:-100])
    again = sources.load("mosi", tmp_path)
    assert np.array_equal(again.splits["train"].frames["V"].values, expected)


def test_a_killed_conversion_leaves_nothing_that_is_used(tmp_path):
    write_mmsa(tmp_path, "mosi")
    killed = (
        "import os; from finelib.data import store; from finelib.data.corpora import CORPORA\n"
        "def convert(folder):\n"
        "    (folder / 'train-T.npy').write_bytes(b'half')\n"
        "    os._exit(9)\n"
        "store.open_or_convert('name', CORPORA['mosi'], convert)"
    )
    done = subprocess.run([sys.executable, "-c", killed], cwd=ROOT, capture_output=True)
    assert done.returncode == 9, done.stderr
    left = list((tmp_path / "cache" / "corpora").glob("name.partial-*"))
    assert len(left) == 1 and list(left[0].glob("train-*.npy"))  # killed in the middle
    splits, _ = mmsa.read(tmp_path / "MOSI/Processed/unaligned_50.pkl", MOSI)
    whole = sources.Corpus(MOSI, "files", splits, "name", "bert", {})
    corpus = store.open_or_convert("name", MOSI, lambda folder: store.write(folder, whole))
    assert len(corpus.splits["train"]) == SMALL[0]
    assert not list((tmp_path / "cache" / "corpora").glob("*.partial-*"))


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    write_mmsa(tmp_path, "mosi")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(OSError, match="cache: cannot be written to .*set FINE_CACHE"):
        sources.load("mosi", tmp_path)


def test_a_full_disk_while_converting_leaves_no_store(tmp_path):
    def full(_folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        store.open_or_convert("name", MOSI, full)
    assert [p.name for p in (tmp_path / "cache" / "corpora").iterdir()] == ["name.lock"]


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
    assert train["published_utterances"] == 1368
    assert train["modalities"]["A"] == {
        "width": 2,
        "frames": 10,
        "empty": 1,
        "length_quantiles": {"0": 0, "0.25": 1, "0.5": 2, "0.75": 3, "0.95": 3.8, "1": 4},
    }
    assert card["duplicate_ids"] == {"train/valid": 1, "train/test": 0, "valid/test": 0}
    assert card["duplicate_texts"] == {"train/valid": 1, "train/test": 0, "valid/test": 0}
    assert train["utterances"] == 5 and train["label_histogram"]["counts"] == [1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0]
    assert train["label_histogram"]["edges"] == pytest.approx([-1 + k / 6 for k in range(13)], abs=1e-6)
    assert (card["files"], card["notes"], card["videos"]) == ([], {}, {"train": 0, "valid": 0, "test": 0})


def test_what_reading_changed_is_said_by_hand():
    """Every count in one modality at least; what is as usual, and five per cent of zeros, is not said."""
    sizes = {"train": 1200, "valid": 30, "test": 40}
    kept = {s: {m: {"frames": 100} for m in "TAV"} for s in sizes}
    card = {"splits": {s: {"utterances": n, "modalities": kept[s]} for s, n in sizes.items()}, "notes": {}}
    assert changes(card) == []
    quiet = {"nan": 0, "inf": 0, "padding": "behind", "zero_frames_kept": 5, "nonzero_frames_dropped": 0, "type": "f4"}
    card["notes"] = {s: {"text": {"empty": n}, "T": quiet, "A": quiet, "V": {}} for s, n in sizes.items()}
    assert changes(card) == []
    looked = {"stated_drops": 1000, "stated_zero": 2000}
    card["notes"] = {
        "file": {"splits": "nested one level deeper"},
        "train": {
            "fields": {"id": "missing", "raw_text": "missing"},
            "text": {"empty": 1, "re_encoded": 1100},
            "T": {"padding": "front", "type": "float32"},
            "A": {"nan": 3, "inf": 1, "zero_frames_kept": 10, "nonzero_frames_dropped": 5, "padding": "none"},
        },
        "valid": {
            "fields": {"id": "missing"},
            "text": {"replaced_characters": 2, "control_characters": 3, "cut": 4, "unknown_tokens": 5},
            "T": {"padding": "both ends", "type": "float64"},
            "A": {"lengths_beyond": 2, "columns_apart": 4, "clipped": 1234},
        },
        "test": {"A": {"nan": 1000}, "V": looked | {"zero_frames_kept": 100, "all_zero": 1, "type": "float32"}},
    }
    assert changes(card) == [
        "splits nested one level deeper",
        "texts that are empty: train 1",
        "texts that were UTF-8 read as Latin-1, read again: train 1,100",
        "texts with a character that was lost before: valid 2",
        "texts with control characters: valid 3",
        "texts cut to what the text encoder reads: valid 4",
        "tokens that the text encoder does not know: valid 5",
        "id missing (train, valid)",
        "raw_text missing (train)",
        "zeros cut off in front: text train, valid and behind",
        "NaN set to 0: audio train 3, test 1,000",
        "infinite values set to 0: audio train 1",
        "frames that are not zero dropped as padding: audio train 5 of 95",
        "frames kept that are all zero: audio train 10 of 100; video test 100 of 100",
        "lengths beyond the array cut to it: audio valid 2",
        "columns that lie elsewhere than in train: audio valid 4",
        "values far outside what is usual set to its edge: audio valid 1,234",
        "real frames found by looking (as stated, so many not zero would go, so many zeros stay): "
        "video test 1,000 and 2,000",
        "all zero throughout: video test",
        "text stored as float32 in train, float64 in valid",
    ]
    card["identity"] = {"says": ["your file"]}
    assert said(card) == ["your file", *changes(card)]


def test_card_compares_with_the_published_hash(tmp_path, monkeypatch):
    path = write_mmsa(tmp_path, "mosi")
    assert sources.load("mosi", tmp_path).card["files"][0]["compared"] == "differs from the published file"
    assert compared(MOSI, MOSI.files["MOSI/Processed/unaligned_50.pkl"]) == "published"
    assert compared(CORPORA["ur_funny"], store.file_sha256(path)) == "no checksum was published"


# Names and options


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("mosy",), {}, "unknown.*did you mean 'mosi'"),
        (("mosi", "publik"), {}, "no such file or folder.*did you mean 'public'"),
        (("mosei", "public-mfn"), {}, "there is none of CMU-MOSEI, expected one of public, public-full"),
        (("mosi",), {"aligned": True}, "has no aligned file"),
        (("ch_sims", "."), {"aligned": True}, "has no aligned file"),
        (("mosi", "."), {"context": True}, "has no context sentences"),
        (("mosi",), {"finetune_text": True}, "expected the name of an encoder"),
        (("mosei", "."), {}, "CMU-MOSEI: looked for .*data/README.md says how to obtain it"),
        (("nowhere/file.pkl",), {}, "nowhere/file.pkl: found no such file or folder"),
        ((".",), {}, "found no file that is named as published, expected those of one corpus; name it"),
        ((".", "public"), {}, "found the path '.' and source 'public', expected one of them"),
    ],
)
def test_what_does_not_exist_is_said(arguments, options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        sources.load(*arguments, **options)


def test_available(tmp_path):
    assert sources.available("mosi", "planted") is None
    assert "there is none of CMU-MOSEI, expected one of public, public-full" in sources.available("mosei", "public-mfn")
    assert "looked for" in sources.available("mosi", tmp_path)
    write_mmsa(tmp_path, "mosi")
    assert sources.available("mosi", tmp_path) is None
    assert "aligned_50.pkl, found in" in sources.available("mosi", tmp_path, aligned=True)


def test_a_path_in_place_of_a_name_tells_the_corpus(tmp_path):
    file = write_mmsa(tmp_path, "ch_sims")
    assert {sources.load(path).info.name for path in (tmp_path, str(tmp_path), file)} == {"ch_sims"}
    write_mmsa(tmp_path, "mosi")
    with pytest.raises(ValueError, match="found files of ch_sims, mosi, expected those of one corpus; name it"):
        sources.load(tmp_path)
    assert sources.load("mosi", tmp_path).info.name == "mosi"
