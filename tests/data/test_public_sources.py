"""Public corpora: every layout in a few made-up rows, what is refused, and the real files' counts where they are."""

import json
import os
import pickle
import socket
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from finelib.data import (
    licences,
    mertools,
    public_mmmo,
    public_mosei,
    public_sims,
    public_sources,
    public_ur_funny,
    sources,
    videos,
)
from finelib.data.corpora import ALL_CORPORA, BESIDE
from finelib.data.features import SPLITS, Corpus, Split
from finelib.data.safe_pickle import DataError

ROOT = Path(__file__).resolve().parents[2]
SIMS, MOSEI, FUNNY, MMMO = (ALL_CORPORA[name] for name in ("ch_sims_v2", "mosei", "ur_funny", "ict_mmmo"))
IDS = {  # utterances of seven videos; a video may be in several splits
    "train": ["a_0001", "b_0001", "b_0002", "c_0001"],
    "valid": ["a_0002", "b_0003", "d_0001", "e_0001", "f_0001", "f_0002"],
    "test": ["a_0003", "g_0001"],
}
LABEL = {i: np.float32(round(-1 + 0.1 * n, 1)) for n, i in enumerate(i for ids in IDS.values() for i in ids)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mirror(monkeypatch):
    folder = Path(os.environ.get("FINE_DATA_MIRROR") or ROOT.parent / "shared" / "data")
    if not (folder / "ch_sims" / "label.npz").is_file():
        pytest.skip("the public files are not here: set FINE_DATA_MIRROR")
    monkeypatch.setenv("FINE_DATA_MIRROR", str(folder))


def write_npz(path: Path, ids=IDS, label=LABEL) -> None:
    members = {mertools.MEMBERS[s]: {i: {"emo": 0, "val": label[i]} for i in ids[s]} for s in SPLITS}
    np.savez_compressed(path, **{name: np.array(content, dtype=object) for name, content in members.items()})


def write_sims(folder: Path, ids=IDS) -> dict[str, Path]:
    path = {name: folder / name for name in (mertools.LABELS, mertools.SPOKEN, public_sims.UNIMODAL)}
    write_npz(path[mertools.LABELS], ids)
    every = [i for s in SPLITS for i in ids[s]]
    spoken = {"name": every, "chinese": [f"中文{i}" for i in every], "english": [f'said, "{i}"' for i in every]}
    pd.DataFrame(spoken).to_csv(path[mertools.SPOKEN], index=False)
    video, clip = zip(*(i.split("_") for i in every), strict=True)
    value = [LABEL[i] for i in every]
    table = pd.DataFrame({"video_id": video, "clip_id": clip, "y_true": value, "mode": "train", "text_len": 3})
    for m in "TAV":
        table[f"label_{m}"] = np.float32(value) * (0.5 if m == "T" else 1)
        table[f"pred_{m.lower()}"] = np.arange(len(every)) / 10
    table.loc[table.index % 6 == 5, "pred_v"] = np.nan
    table.iloc[::-1].to_csv(path[public_sims.UNIMODAL], index=False)  # in another order than the labels
    return path


def rewrite(path: Path, change) -> None:
    """A table with a change made to it."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table).to_csv(path, index=False)


def test_sims_text_labels_and_unimodal_labels(tmp_path):
    path = write_sims(tmp_path)
    english, _ = public_sims.read(path, SIMS, "english")
    chinese, _ = public_sims.read(path, SIMS, "chinese")
    for s in SPLITS:
        assert english[s].ids == IDS[s] and english[s].label.tolist() == [LABEL[i] for i in IDS[s]]
        assert english[s].text == [f'said, "{i}"' for i in IDS[s]] and chinese[s].text[0] == f"中文{IDS[s][0]}"
        assert np.allclose(english[s].unimodal_labels["T"], 0.5 * english[s].label)
        assert np.allclose(english[s].unimodal_labels["V"], english[s].label)


def test_sims_by_video_shares_no_video_and_tests_every_utterance_once(tmp_path):
    path, tested = write_sims(tmp_path), []
    for fold in range(1, 6):
        splits, _ = public_sims.read_by_video(path, SIMS, fold)
        of = {s: set(videos.of(splits[s].ids)) for s in SPLITS}
        assert not (of["train"] & of["valid"] or of["train"] & of["test"] or of["valid"] & of["test"])
        assert sorted(i for s in SPLITS for i in splits[s].ids) == sorted(LABEL)
        for split in splits.values():
            assert split.label.tolist() == [LABEL[i] for i in split.ids]
        tested += splits["test"].ids
    assert sorted(tested) == sorted(LABEL)


def test_sims_predictions_train_on_valid_and_a_missing_one_has_no_frame(tmp_path):
    splits, notes = public_sims.read_predictions(write_sims(tmp_path), SIMS)
    assert splits["test"].ids == IDS["test"] and not set(splits["train"].ids) & set(IDS["train"])
    assert sorted(splits["train"].ids + splits["valid"].ids) == IDS["valid"]
    assert not set(videos.of(splits["train"].ids)) & set(videos.of(splits["valid"].ids))
    order = list(LABEL)
    for split in splits.values():
        for m, frames in split.frames.items():
            missing = [m == "V" and order.index(i) % 6 == 5 for i in split.ids]
            assert frames.length.tolist() == [0 if gone else 1 for gone in missing]
            expected = [order.index(i) / 10 for i, gone in zip(split.ids, missing, strict=True) if not gone]
            assert np.allclose(frames.values[:, 0], expected)
    assert "T 0, A 0, V 2 (2 in all)" in notes["known"][0]


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (public_sims.UNIMODAL, lambda t: t.assign(y_true="0.9"), "another label of"),
        (public_sims.UNIMODAL, lambda t: t.drop(index=0), "no row of 1 utterances"),
        (public_sims.UNIMODAL, lambda t: t.drop(columns="pred_a"), "no column pred_a"),
        (public_sims.UNIMODAL, lambda t: t.assign(label_A="2"), "label_A: found 2 in row 0"),
        (public_sims.UNIMODAL, lambda t: t.assign(clip_id="1"), "twice, expected unique ids"),
        (mertools.SPOKEN, lambda t: t.drop(index=3), "no text of 1 utterances .c_0001 first"),
        (mertools.SPOKEN, lambda t: t.rename(columns={"chinese": "zh"}), "found columns name, zh, english"),
    ],
)
def test_sims_tables_that_do_not_fit_are_named(tmp_path, name, change, sentence):
    path = write_sims(tmp_path)
    rewrite(path[name], change)
    with pytest.raises(DataError, match=sentence):
        public_sims.read(path, SIMS, "english")


class Evil:
    def __reduce__(self):
        return os.system, ("touch SHOULD_NOT_EXIST",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (Evil(), "found the name .*system, which was not looked up"),
        ({"a_1": {"val": 7.0}}, "found 7 in row 0, expected labels in"),
        ({"a_1": {"emo": 0}}, "a_1: found the fields 'emo', expected also 'val'"),
        ({}, "found no rows"),
        ([1], "found a list, expected a dictionary by utterance id"),
    ],
)
def test_label_archives_are_read_without_trust(tmp_path, content, sentence):
    members = dict.fromkeys(
        mertools.MEMBERS.values(), np.array(content, dtype=object).reshape(()) if content != [1] else None
    )
    if content == [1]:
        boxed = np.empty((), dtype=object)
        boxed[()] = [1]
        members = dict.fromkeys(members, boxed)
    np.savez(tmp_path / "label.npz", **members)
    with pytest.raises(DataError, match=sentence):
        mertools.labels(tmp_path / "label.npz", SIMS)


def test_label_archives_of_another_form(tmp_path):
    write_npz(tmp_path / "label.npz", {**IDS, "test": ["a_0001"]})
    with pytest.raises(DataError, match="found 'a_0001' twice"):
        mertools.labels(tmp_path / "label.npz", SIMS)
    np.savez(tmp_path / "label.npz", train_corpus=np.zeros(3))
    with pytest.raises(DataError, match="found train_corpus.npy .*, expected train_corpus, val_corpus, test_corpus"):
        mertools.labels(tmp_path / "label.npz", SIMS)
    (tmp_path / "label.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="found no readable archive"):
        mertools.labels(tmp_path / "label.npz", SIMS)
    with zipfile.ZipFile(tmp_path / "label.npz", "w") as archive:
        for name in mertools.MEMBERS.values():
            archive.writestr(f"{name}.npy", b"no array")
    with pytest.raises(DataError, match="train_corpus: found no NumPy array"):
        mertools.labels(tmp_path / "label.npz", SIMS)


def write_mosei(folder: Path) -> dict[str, Path]:
    path = {name: folder / name for name in (mertools.LABELS, mertools.SPOKEN, "label.csv")}
    ids = {"train": ["v1_0", "v1_1", "v2_0"], "valid": ["v3_0"], "test": ["v4_0", "v4_1"]}
    label = dict(zip((i for part in ids.values() for i in part), np.float32([1, -1, 1 / 3, 0, 3, -3]), strict=True))
    write_npz(path[mertools.LABELS], ids, label)
    rows = [(*i.split("_"), f"text of {i}", value) for i, value in label.items()]
    table = pd.DataFrame(rows, columns=["video_id", "clip_id", "text", "label"])
    table["clip_id"] = [f"{n}_{n}5" for n in range(6)]  # seconds, not numbers
    table["mode"] = ["train"] * 3 + ["valid"] + ["test"] * 2
    table.drop(index=4).to_csv(path["label.csv"], index=False)
    spoken = pd.DataFrame({"name": list(label), "chinese": "中文", "english": [f"said {i}" for i in label]})
    spoken.iloc[::-1].to_csv(path[mertools.SPOKEN], index=False)
    return path


def test_mosei_counts_what_differs_and_what_is_missing(tmp_path):
    path = write_mosei(tmp_path)
    splits, notes = public_mosei.read(path, MOSEI)
    assert [len(splits[s]) for s in SPLITS] == [3, 1, 1] and splits["test"].text == ["text of v4_1"]
    assert list(videos.of(splits["train"].ids)) == ["v1", "v1", "v2"]
    assert notes["known"] == [
        "0 labels differ from the official list's",
        "official utterances that it lacks: train 0, valid 0, test 1",
    ]
    rewrite(path["label.csv"], lambda t: t.assign(label=["1", "-1", "0.5", "0", "-2"]))
    assert public_mosei.read(path, MOSEI)[1]["known"][0].startswith("2 labels differ")


def test_mosei_in_full(tmp_path):
    path = write_mosei(tmp_path)
    splits, _ = public_mosei.read_full(path, MOSEI)
    assert splits["train"].ids == ["v1_0", "v1_1", "v2_0"] and splits["test"].text == ["said v4_0", "said v4_1"]
    assert splits["train"].label.tolist() == np.float32([1, -1, 1 / 3]).tolist()
    rewrite(path[mertools.SPOKEN], lambda t: t.assign(english=""))
    with pytest.raises(DataError, match="train: found 3 of 3 English texts empty"):
        public_mosei.read_full(path, MOSEI)
    rewrite(path[mertools.SPOKEN], lambda t: t.assign(english="x").drop(index=0))
    with pytest.raises(DataError, match="found no text of 1 utterances .v4_1 first"):
        public_mosei.read_full(path, MOSEI)
    path[mertools.SPOKEN].write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(DataError, match="found no readable table"):
        public_mosei.read_full(path, MOSEI)


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("mode", "dev", "found splits dev, expected train, valid, test"),
        ("label", "x", "found nan in row 0"),
        ("label", "4", "found 4 in row 0"),
        ("video_id", "v4", "videos that are in another official split .v4 first"),
    ],
)
def test_mosei_tables_that_do_not_fit_are_named(tmp_path, column, value, sentence):
    path = write_mosei(tmp_path)
    rewrite(path["label.csv"], lambda t: t.assign(**{column: value}))
    with pytest.raises(DataError, match=sentence):
        public_mosei.read(path, MOSEI)


def write_funny(folder: Path, flipped: int = 0) -> dict[str, Path]:
    path, label = {name: folder / name for name in public_ur_funny.FILES}, {}
    for names in public_ur_funny.FOLDS.values():
        for name in names:
            content = {}
            for _ in range(3):
                i = str(len(label) + 1)
                label[i] = len(label) % 2
                content[i] = {"context_sentences": [f"first {i}", f"then\n {i}"], "punchline_sentence": f"end {i}"}
                content[i]["label"] = label[i]
            path[name].write_text(json.dumps(content))
    rows = []
    for i in (*public_ur_funny.LACKING, "77"):
        label[i] = int(i) % 2
        query = (
            f"a video in which the speaker says: it ends {i} Based on the text, video, and audio content, what is it?"
        )
        answer = "speaking_style: " + ("humorous" if label[i] else "serious")
        rows.append(json.dumps({"query": query, "response": answer, "videos": [f"/x/UR-FUNNY_{i}.mp4"]}))
    path[public_ur_funny.MORE].write_text("\n".join(rows))
    copy = {int(i): 1 - v if n < flipped else v for n, (i, v) in enumerate(label.items())}
    path[public_ur_funny.LABELS].write_bytes(pickle.dumps(copy))
    return path


def test_ur_funny_with_and_without_context(tmp_path):
    path = write_funny(tmp_path)
    splits, notes = public_ur_funny.read(path, FUNNY)
    assert [len(splits[s]) for s in SPLITS] == [9, 3, 5] and notes["version"] == 2
    assert splits["train"].text[0] == "end 1" and splits["test"].ids[-2:] == ["1193", "14356"]
    assert splits["test"].text[-1] == "it ends 14356" and splits["test"].label[-2:].tolist() == [1, 0]
    told, _ = public_ur_funny.read(path, FUNNY, context=True)
    assert told["train"].text[0] == "first 1\nthen 1\nend 1" and told["test"].text[-1] == "it ends 14356"


def test_ur_funny_refuses_what_is_not_version_2(tmp_path):
    with pytest.raises(DataError, match="found 4 of 17 labels missing or different, .*versions 1 and 2"):
        public_ur_funny.read(write_funny(tmp_path, flipped=4), FUNNY)
    path = write_funny(tmp_path)
    train = [path[name] for name in public_ur_funny.FOLDS["train"]]
    train[1].write_bytes(train[0].read_bytes())
    with pytest.raises(DataError, match="found '1' twice"):
        public_ur_funny.read(path, FUNNY)
    path = write_funny(tmp_path)
    path[public_ur_funny.MORE].write_text('{"videos": ["/home/somebody/x.mp4"]}')
    with pytest.raises(DataError, match="row 0: found another form") as error:
        public_ur_funny.read(path, FUNNY)
    assert "somebody" not in str(error.value)
    path[public_ur_funny.LABELS].write_bytes(pickle.dumps(Evil()))
    path = {**write_funny(tmp_path / "."), public_ur_funny.LABELS: path[public_ur_funny.LABELS]}
    path[public_ur_funny.LABELS].write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="which was not looked up"):
        public_ur_funny.read(path, FUNNY)


def write_mmmo(folder: Path, text: bool) -> dict[str, Path]:
    rng, path = np.random.default_rng(0), {}
    for s in SPLITS:
        arrays = {"y": np.array([1.0, 3.0, 5.0])}
        for m, (form, width) in public_mmmo.FORMS.items():
            values = rng.standard_normal((3, public_mmmo.SEGMENTS, width))
            values[0, :7] = 0  # padded in front
            if m != "T" or text:
                arrays[form.format(s)[:-3]] = values
        arrays["y_" + s] = arrays.pop("y")
        for name, value in arrays.items():
            path[f"{name}.h5"] = folder / f"{name}.h5"
            with h5py.File(path[f"{name}.h5"], "w") as file:
                file[public_mmmo.DATASET] = value
    return path


@pytest.mark.parametrize("text", [False, True])
def test_mmmo(tmp_path, text):
    path = write_mmmo(tmp_path, text)
    splits, _ = public_mmmo.read(path, MMMO)
    assert set(splits["test"].frames) == set("TAV" if text else "AV")
    for m, frames in splits["test"].frames.items():
        assert frames.length.tolist() == [13, 20, 20] and frames.width == public_mmmo.FORMS[m][1]
    assert splits["train"].label.tolist() == [-2, 0, 2]  # ratings 1, 3, 5
    with h5py.File(path["audio_test.h5"], "a") as file:
        whole = file[public_mmmo.DATASET][()]
        del file[public_mmmo.DATASET]
        file[public_mmmo.DATASET] = whole[:, :, :73]
    with pytest.raises(DataError, match=r"audio_test.h5, d1: found shape \(3, 20, 73\), expected \(3, 20, 74\)"):
        public_mmmo.read(path, MMMO)


def test_videos_and_folds():
    assert list(videos.of(["ab_c_12", "xy$_$3_4", "v[7]"])) == ["ab_c", "xy", "v"]
    with pytest.raises(ValueError, match="found the id 'none', expected VIDEO"):
        videos.of(["a_1", "none"])
    ids = [f"{v}_{n}" for v, count in zip("abcdefgh", (9, 7, 6, 5, 4, 3, 2, 2), strict=True) for n in range(count)]
    fold = videos.folds(ids, 4)
    assert all(len(set(fold[videos.of(ids) == v])) == 1 for v in "abcdefgh")
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 2  # 38 utterances in four
    np.testing.assert_array_equal(fold, videos.folds(ids, 4))


def test_unseen_videos():
    splits = {s: Split({}, np.zeros(len(i), np.float32), i, i) for s, i in IDS.items()}
    assert videos.unseen(Corpus(SIMS, "public", splits, "", "")).tolist() == [False, True]


def test_every_source_names_its_licence_and_says_it_once(caplog, tmp_path):
    for info in ALL_CORPORA.values():
        for source in public_sources.names(info):
            files = public_sources.find(info, source).files
            assert {licences.repository(file) for file in files.values()} <= set(licences.LICENCES)
            assert public_sources.module(info, source) == sources.reader(info.name, source)
    licences.tell(files.values(), tmp_path)
    licences.tell(files.values(), tmp_path)
    assert [r.getMessage() for r in caplog.records].count(caplog.records[0].getMessage()) == 1
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for repository, licence in licences.LICENCES.items():
        assert repository in readme and licence.strip('"') in " ".join(readme.split())


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("ict_mmmo",), {}, "ICT-MMMO is read from public files alone, expected public, public-text"),
        (("ch_sims_v2", "."), {}, "CH-SIMS v2 is read from public files alone"),
        (("ch_sims", "public-predictions"), {}, "there is none of CH-SIMS, expected one of public, public-chinese"),
        (("mosei", "public"), {"context": True}, "only UR-FUNNY's files have"),
        (("ur_funny", "public"), {"aligned": True}, "has no aligned file"),
        (("ict_mmmo", "public"), {"finetune_text": True}, "expected the name of an encoder"),
    ],
)
def test_what_a_corpus_does_not_have(arguments, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        sources.load(*arguments, **options)


def test_without_network_or_file_one_sentence_each(monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.delenv("FINE_DATA_MIRROR", raising=False)
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    for name in ALL_CORPORA:
        said = sources.available(name, "public")
        assert "could not be downloaded" in said and "set FINE_DATA_MIRROR" in said and "\n" not in said
    monkeypatch.setenv("FINE_DATA_MIRROR", str(tmp_path))
    assert "found no such file, expected ch_sims/label.npz below" in sources.available("ch_sims", "public")


REAL = {  # sizes; videos of test that are in train, of how many; texts of test that are in train
    ("mosei", "public"): ((16274, 1861, 4653), (0, 675), 22),
    ("ur_funny", "public"): ((7609, 980, 994), (0, 0), 11),
    ("ch_sims", "public-chinese"): ((1368, 456, 457), (59, 59), 2),
    ("ch_sims_v2", "public-chinese"): ((2722, 647, 1034), (128, 145), 3),
    ("ch_sims_v2", "public-predictions"): ((517, 130, 1034), (93, 145), 1),
    ("ict_mmmo", "public"): ((220, 40, 80), (0, 0), 0),
}


@pytest.mark.parametrize(("corpus", "source"), REAL)
def test_the_real_files(mirror, corpus, source):
    loaded = public_sources.load(ALL_CORPORA[corpus], source)
    sizes, (shared, of), texts = REAL[corpus, source]
    card = loaded.card
    assert tuple(map(len, loaded.splits.values())) == sizes and loaded.kind == "public"
    assert (card["shared_videos"]["train/test"], card["videos"]["test"]) == (shared, of)
    assert card["duplicate_texts"]["train/test"] == texts and not any(card["duplicate_ids"].values())
    assert all(file["licence"] for file in card["files"])


def test_the_real_labels(mirror):
    load = {
        name: public_sources.load(ALL_CORPORA[name], "public") for name in ("mosei", "ur_funny", "ch_sims", *BESIDE)
    }
    assert load["mosei"].card["notes"]["known"] == [
        "8 labels differ from the official list's",
        "official utterances that it lacks: train 52, valid 10, test 6",
    ]
    humour = [split.label.mean() for split in load["ur_funny"].splits.values()]
    assert np.allclose(humour, [0.500, 0.504, 0.493], atol=6e-4)
    of_sign = [np.bincount(np.sign(split.label).astype(int) + 1).tolist() for split in load["ch_sims"].splits.values()]
    assert of_sign == [[742, 207, 419], [248, 69, 139], [248, 69, 140]]  # the paper's table
    for name, expected in (("ch_sims", (0.717, 0.845, 0.830)), ("ch_sims_v2", (0.776, 0.876, 0.841))):
        splits = load[name].splits.values()
        label = np.concatenate([split.label for split in splits])
        own = [np.concatenate([split.unimodal_labels[m] for split in splits]) for m in "TAV"]
        assert np.allclose([np.corrcoef(label, y)[0, 1] for y in own], expected, atol=6e-4)
    assert np.unique(load["ict_mmmo"].splits["train"].label).tolist() == np.arange(-2, 2.1, 0.5).tolist()


def test_predictions_add_up_as_published(mirror):
    """The plain average of the three, nothing fitted: test Corr .797."""
    test = public_sources.load(ALL_CORPORA["ch_sims_v2"], "public-predictions").splits["test"]
    every = np.stack([np.where(f.length > 0, f.mean()[:, 0], np.nan) for f in test.frames.values()])
    assert np.corrcoef(np.nanmean(every, 0), test.label)[0, 1] == pytest.approx(0.797, abs=1e-3)
    assert int(np.isnan(every).sum()) == 4


def test_ur_funny_context_of_the_real_files(mirror):
    text = public_sources.load(FUNNY, "public", context=True).splits["train"].text
    assert round(np.mean([t.count("\n") for t in text]), 1) == 5.4
