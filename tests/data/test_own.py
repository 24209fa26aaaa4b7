"""Somebody's own feature files: every form gives the same corpus, each wrong row a sentence, nothing is half read."""

import csv
import pickle
import random
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from make_files import read_here

import finelib
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data import doctor, download, own, own_files, own_labels, sources
from finelib.data.features import Corpus
from finelib.data.own_labels import Scale, scale_of
from finelib.data.safe_pickle import DataError
from finelib.runs import experiment

N, SIZES = 24, {"train": 14, "valid": 5, "test": 5}
SPLIT = np.repeat(list(SIZES), list(SIZES.values()))


def fields(seed: int = 0) -> dict[str, np.ndarray]:
    """Audio of 4 columns in up to 3 frames, video of 2 in one, labels 1 to 5."""
    rng = np.random.default_rng(seed)
    audio = rng.normal(size=(N, 3, 4))
    audio[np.arange(3) >= rng.integers(1, 4, N)[:, None]] = 0  # padding behind
    label = np.resize([1, 5, 2.5, 3, 4], N).astype(float)
    return {"audio": audio, "vision": rng.normal(size=(N, 2)), "label": label, "split": SPLIT}


def write_npz(path: Path) -> Path:
    np.savez(path.with_suffix(".npz"), **fields())
    return path.with_suffix(".npz")


def write_npz_by_split(path: Path) -> Path:
    made = fields()
    by_split = {f"{s}_{k}": made[k][SPLIT == s] for s in SIZES for k in ("audio", "vision", "label")}
    np.savez(path.with_suffix(".npz"), **by_split)
    return path.with_suffix(".npz")


def write_h5(path: Path) -> Path:
    made = fields()
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for s in SIZES:
            for k in ("audio", "vision", "label"):
                file[f"{s}/{k}"] = made[k][SPLIT == s]
    return path.with_suffix(".h5")


def write_mfn(path: Path) -> Path:
    made = fields()
    path.mkdir()
    for s in SIZES:
        for name, key in (("audio", "audio"), ("video", "vision"), ("y", "label")):
            with h5py.File(path / f"{name}_{s}.h5", "w") as file:
                array = made[key][SPLIT == s]
                file["d1"] = array[:, None] if key == "vision" else array
    return path


def write_pickle(path: Path) -> Path:
    made = fields()
    names = {"audio": "audio", "vision": "vision", "label": "regression_labels"}
    content = {s: {names[k]: made[k][SPLIT == s] for k in names} for s in SIZES}
    path.with_suffix(".pkl").write_bytes(pickle.dumps(content))
    return path.with_suffix(".pkl")


def write_csv(path: Path) -> Path:
    made = fields()
    columns = ["id", "split", "label", *(f"audio_{j}" for j in range(4)), *(f"video_{j}" for j in range(2))]
    with path.with_suffix(".csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(columns)
        for i in range(N):
            length = int(made["audio"][i].any(1).sum())
            for t in range(length):
                video = made["vision"][i].tolist() if t == 0 else ["", ""]
                rows.writerow([f"clip{i}", SPLIT[i], made["label"][i], *made["audio"][i, t].tolist(), *video])
    return path.with_suffix(".csv")


FORMS = [write_npz, write_npz_by_split, write_h5, write_mfn, write_pickle, write_csv]


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_every_form_gives_the_arrays_that_were_written(write, tmp_path):
    corpus, made = read(write(tmp_path / "mine")), fields()
    assert corpus.kind == "own" and corpus.info.name == "own" and corpus.widths == {"A": 4, "V": 2}
    assert (corpus.info.label_low, corpus.info.label_high, corpus.info.metrics) == (-2, 2, "mosi")
    for s, size in SIZES.items():
        split, rows = corpus.splits[s], SPLIT == s
        assert len(split) == size and np.array_equal(split.label, np.float32(made["label"][rows] - 3))
        audio = made["audio"][rows]
        real = audio.any(2)
        assert np.array_equal(split.frames["A"].length, real.sum(1))
        assert np.array_equal(split.frames["A"].values, np.float32(audio[real]))
        assert np.array_equal(split.frames["V"].values, np.float32(made["vision"][rows]))


def test_real_ict_mmmo_is_as_the_public_reader_has_it(tmp_path, monkeypatch):
    """Its published h5 files in a folder of one's own: audio and video, labels 1 to 5."""
    read_here(monkeypatch)
    public = sources.load("ict_mmmo", "public")
    (tmp_path / "mine").mkdir()
    for file in own_files_of_mmmo():
        shutil.copy(file, tmp_path / "mine" / file.name)
    corpus = finelib.load(tmp_path / "mine", cache=tmp_path / "cache")
    assert corpus.widths == public.widths and "range 1 to 5, from the training labels" in str(corpus.card["identity"])
    for s in SIZES:
        assert np.array_equal(corpus.splits[s].label, public.splits[s].label)
        assert corpus.splits[s].frames["A"].values.sum() == pytest.approx(public.splits[s].frames["A"].values.sum())


def own_files_of_mmmo() -> list[Path]:
    from finelib.data import public_mmmo

    return [download.obtain(file) for file in public_mmmo.FILES.values()]


def test_text_alone_is_encoded_and_an_empty_text_has_no_frames(tmp_path):
    rows = [f"{('good', 'bad')[i % 2]} film {i},{i % 2}" for i in range(20)] + [",1", ",0"]
    (tmp_path / "words.csv").write_text("\n".join(["text,label", *rows]))
    corpus = finelib.load(tmp_path / "words.csv", cache=tmp_path / "cache")
    assert corpus.modalities == ("T",) and corpus.info.metrics == "humor" and corpus.encoder == "all-MiniLM-L6-v2"
    for split in corpus.splits.values():
        spoken = np.array([bool(text) for text in split.text])
        assert np.array_equal(split.frames["T"].length > 0, spoken)
        assert len(split.frames["T"].values) == split.frames["T"].length.sum()


def test_no_recording_is_in_two_drawn_splits_and_the_seed_draws_them(tmp_path, monkeypatch):
    read_here(monkeypatch)
    made = {k: v for k, v in fields().items() if k != "split"} | {"file": np.array([f"v{i // 2}" for i in range(N)])}
    made["video"], path = made.pop("vision"), tmp_path / "mine.pkl"
    path.write_bytes(pickle.dumps(made | {"id": np.arange(N).astype(str)}))
    drawn = []
    for seed in (0, 0, 1):
        corpus = finelib.load(path, seed=seed, cache=tmp_path / "cache")
        drawn.append({s: [int(i) for i in split.ids] for s, split in corpus.splits.items()})
        files = {s: {i // 2 for i in ids} for s, ids in drawn[-1].items()}
        assert sum(map(len, files.values())) == 12 and {s: len(f) for s, f in files.items()}["train"] == 8
        assert f"splits drawn with seed {seed}: 70/15/15 of 12 files" in corpus.card["identity"]["says"]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_every_form_can_be_read_without_its_labels(write, tmp_path):
    """For a prediction; a table without the column, too."""
    path, made = write(tmp_path / "mine"), fields()
    if path.suffix == ".csv":
        rows = [row[:2] + row[3:] for row in csv.reader(path.read_text().splitlines())]
        path.write_text("\n".join(map(",".join, rows)))
    found = own_files.unlabelled(own.files(path))
    parts = sorted(found, key=len, reverse=True)
    audio = np.concatenate([split.frames["A"].values for split in parts])
    assert sum(map(len, found)) == N and all(np.isnan(split.label).all() for split in found)
    assert audio.sum() == pytest.approx(np.float32(made["audio"]).sum(), rel=1e-4)


# --------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "given", "expected"),
    [
        ([1, 2, 5], None, Scale(1, 5, 3, 1)),
        ([-2.4, 1, 2], None, Scale(-3, 3, 0, 1)),
        ([-0.2, 0.8, 0.1], None, Scale(-1, 1, 0, 1)),
        ([0, 55, 100], None, Scale(0, 100, 50, 50 / 3)),
        ([0.1, 0.5, 0.9], None, Scale(0, 1, 0.5, 0.5 / 3)),
        ([2, 3, 4], (1, 7), Scale(1, 7, 4, 1)),
        ([0, 1, 1], None, Scale(0, 1, 0, 1, 2)),
        ([-1, 1, 1], None, Scale(-1, 1, -1, 2, 2)),
        ([0.5, 1, 1], None, Scale(0, 1, 0.5, 0.5 / 3)),
    ],
)
def test_scale_of_labels(labels, given, expected):
    scale = scale_of(np.array(labels), "x", given)
    assert scale == expected
    assert np.allclose(scale.given(scale.held(np.array(labels))), labels, atol=1e-5)


def test_labels_outside_a_given_range_and_one_label_alone_are_refused():
    with pytest.raises(DataError, match=r"x: found the label 5 in train, expected labels in \[0, 4\]"):
        scale_of(np.array([1.0, 5, 2]), "x", (0, 4))
    with pytest.raises(DataError, match="x: found the label 2 in every row of train, expected at least two"):
        scale_of(np.array([2.0, 2]), "x")
    with pytest.raises(ValueError, match="label_range: found .*, expected two numbers, the smaller first"):
        own_labels.check_range((3, 1))


def test_a_third_label_in_a_two_class_corpus_is_refused(tmp_path):
    made = fields() | {"label": np.where(np.arange(N) == N - 1, 2, np.arange(N) % 2)}
    np.savez(tmp_path / "a.npz", **made)
    with pytest.raises(DataError, match="test: found the label 2 in row 4, expected 0 or 1, the two classes of train"):
        read(tmp_path / "a.npz")


# --------------------------------------------------------------------------------------- records, known names


def test_an_own_corpus_has_records_like_any_other(tmp_path, monkeypatch):
    read_here(monkeypatch)
    path = write_npz(tmp_path / "mine")
    data, config = DataConfig("own", source=str(path)), FineConfig(("A", "V"), width=(8, 8, 8), task_width=8)
    spec = RunSpec("FINE", data, config, TrainConfig(epochs=1), 0)
    (record,) = experiment.run([spec], tmp_path / "out", progress=False)
    assert record.info.title == "own corpus mine.npz" and record.info.label_high == 2
    assert record.test["mae"] > 0 and experiment.is_trained(spec, tmp_path / "out")
    np.savez(path, **fields(1))
    assert not experiment.is_trained(spec, tmp_path / "out")  # another content of the same name


def test_known_names_and_published_files_are_read_as_before(tmp_path):
    assert own.own_path("mosi") is None and own.own_path("mosi", tmp_path) is None
    with pytest.raises(ValueError, match="corpus 'mosy': unknown"):
        finelib.load("mosy")
    with pytest.raises(DataError, match="found no such file or folder"):
        finelib.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="label_range: found .* for mosi, expected it for an own corpus alone"):
        finelib.load("mosi", label_range=(0, 1))
    published = tmp_path / "MOSI" / "Processed"
    published.mkdir(parents=True)
    (published / "unaligned_50.pkl").write_bytes(b"")
    assert own.own_path(tmp_path) is None


# -------------------------------------------------------------------------------------------- what is wrong


TABLE = ["id,split,label,audio_0,audio_1", "a,train,1,2,3", "b,train,2,3,4", "c,valid,3,4,5", "d,test,3,4,5"]
WRONG = {
    "label": (1, "a,train,x,2,3", "line 2: found 'x' as label, expected a finite number, or nothing"),
    "infinite": (1, "a,train,inf,2,3", "line 2: found 'inf' as label, expected a finite number"),
    "feature": (2, "b,train,2,,4", "line 3: found '' as audio_0, expected a finite number"),
    "split": (3, "c,dev2,3,4,5", "line 4: found 'dev2' as split, expected train, valid or test"),
    "no split": (3, "c,,3,4,5", "split: found nothing in row 2, expected train, valid or test in every row"),
    "cells": (4, "d,test,3,4", "line 5: found 4 cells, expected 5 as in the header"),
    "id": (4, ",test,3,4,5", "line 5: found no id, expected one"),
    "another label": (2, "a,train,2,3,4", "line 3: found another label than in line 2, expected the same"),
    "no test": (4, "d,valid,3,4,5", "found no labelled row of test, expected some"),
    "header": (0, "id;split;label", "expected also label; commas must stand between them"),
    "twice": (0, "id,split,label,audio_0,audio_0", "found the column 'audio_0' twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_named(case, tmp_path):
    line, text, expected = WRONG[case]
    rows = [*TABLE]
    rows[line] = text
    (tmp_path / "a.csv").write_text("\n".join(rows))
    with pytest.raises(DataError) as raised:
        read(tmp_path / "a.csv")
    assert expected in str(raised.value) and str(tmp_path / "a.csv") in str(raised.value)


def test_every_wrong_row_has_its_line_and_nothing_is_kept(tmp_path):
    rows = [TABLE[0], *(f"u{i},train,{'x' if i % 2 else i},1,2" for i in range(60)), "v,train,1,y,2"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    with pytest.raises(DataError) as raised:
        finelib.load(tmp_path / "a.csv", cache=tmp_path / "cache")
    said = str(raised.value).splitlines()
    assert len(said) == 21 and "line 3:" in said[0] and said[-1].endswith("11 more such rows")  # in their order
    assert not [p for p in (tmp_path / "cache" / "corpora").iterdir() if p.is_dir()]


def read(path: Path) -> Corpus:
    """As the bounded process does, in this one."""
    content, unusual = own_files.fields_of(own.files(path))
    return own_files.corpus_of(content, str(path), path.name, None, 0, unusual, {}, "")


def broken(path: Path, rng: random.Random) -> None:
    """Change the bytes of a file, or take a file of a folder away."""
    if path.is_dir():
        victim = rng.choice(sorted(path.iterdir()))
        if rng.random() < 0.3:
            return victim.unlink()
        path = victim
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 5, 50))):
        where = rng.randrange(len(content))
        kind = rng.randrange(4)
        if kind == 0:
            content[where] = rng.randrange(256)
        elif kind == 1:
            del content[where : where + rng.randrange(1, 200)]
        elif kind == 2:
            content[where:where] = content[: rng.randrange(1, 100)]
        else:
            content[where:where] = rng.choice((b",", b"\n", b'"', b"nan", b"\0", b"-", b"e9"))
        if not content:
            break
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
def test_broken_files_end_in_a_sentence(write, tmp_path):
    """25 of each form, changed at random: a corpus of finite numbers, or one sentence."""
    read_well = 0
    for seed in range(25):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = write(folder / "mine")
        broken(path, random.Random(seed))
        try:
            corpus = read(path)
        except (DataError, OSError) as error:
            assert ": found " in str(error) and len(str(error).splitlines()) <= 21, error
            continue
        read_well += 1
        assert all(np.isfinite(f.values).all() for s in corpus.splits.values() for f in s.frames.values())
    assert read_well < 25


@pytest.mark.parametrize("change", ["rows", "text", "object", "axes", "nan", "empty", "none"])
def test_arrays_that_cannot_be_meant_are_refused(change, tmp_path):
    made = fields()
    if change == "rows":
        made["audio"] = made["audio"][:-1]
    elif change == "text":
        made["audio"] = np.array(["a"] * N)
    elif change == "object":
        made["audio"] = np.array([None] * N, dtype=object)
    elif change == "axes":
        made["audio"] = np.zeros((N, 2, 2, 2)) + 1
    elif change == "nan":
        made["label"][3] = np.nan
    elif change == "empty":
        made = {k: v[:0] for k, v in made.items()}
    else:
        made = {"label": made["label"], "split": made["split"]}
    np.savez(tmp_path / "a.npz", **made)
    with pytest.raises(DataError, match=r"a\.npz.*: found .*expected"):
        read(tmp_path / "a.npz")


def test_check_tells_what_was_decided_and_names_every_wrong_row(tmp_path, capsys, monkeypatch):
    read_here(monkeypatch)
    rows = [f"good film {i},{i % 5},{i + 1}" for i in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label,audio_0", *rows]))
    assert doctor.main([str(tmp_path / "a.csv")]) == 0
    said = capsys.readouterr().out
    assert "utterances            train 14, valid 3, test 3" in said and "width 1; 14 frames" in said
    assert "decided               label range 0 to 4, from the training labels" in said and "tokens unknown" in said
    (tmp_path / "a.csv").write_text("\n".join(["text,label,audio_0", "a,x,1", "b,1,2", "c,y,3"]))
    assert doctor.main([str(tmp_path / "a.csv")]) == 1
    assert [line.partition("a.csv, ")[2][:7] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "line 2:",
        "line 4:",
    ]


def test_a_folder_without_anything_known_lists_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found notes\.txt, expected clips\.csv, MFN's \.h5 files"):
        finelib.load(tmp_path, cache=tmp_path / "cache")
