"""Files that lack what is not needed, or keep it in another container, type or shape; splits that disagree."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from make_files import dump, mmsa_content, pad_in_front, read_here

from finelib.config import FineConfig, TrainConfig
from finelib.data import mmsa, sources
from finelib.data.card import changes, describe
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS
from finelib.data.safe_pickle import DataError
from finelib.models import build
from finelib.training import fit

MOSI, SIMS = CORPORA["mosi"], CORPORA["ch_sims"]
SMALL = FineConfig(width=(16, 8, 16), task_width=16, heads=2, critic_width=16, label_width=4)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)


def content(info=MOSI, aligned=False):
    return mmsa_content(info, (9, 5, 5), aligned, widths=(3, 4, 5))


def read(tmp_path, changed, info=MOSI):
    splits, notes = mmsa.read(dump(changed, tmp_path / "x.pkl"), info)
    return splits, changes(describe(info, splits, notes=notes))


def equal(splits, truth, modalities="TAV", but=()):
    for s in SPLITS:
        a, b = splits[s], truth[s]
        assert np.array_equal(a.label, b.label) and "".join(a.frames) == modalities
        assert "ids" in but or a.ids == b.ids
        assert "text" in but or a.text == b.text
        for m in modalities:
            assert np.array_equal(a.frames[m].values, b.frames[m].values), (s, m)
            assert np.array_equal(a.frames[m].length, b.frames[m].length), (s, m)
    return True


def set_all(name, change):
    def of(c):
        for fields in c.values():
            fields[name] = change(fields[name])

    return of


def pop_all(*names):
    return lambda c: [fields.pop(name) for fields in c.values() for name in names]


def objects(values):
    array = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        array[row] = value
    return array


def column(values):
    return np.asarray(values)[:, None]


# What is not needed


@pytest.mark.parametrize(
    ("names", "modalities", "but", "sentence"),
    [
        (["text_bert"], "TAV", (), "text_bert missing (train, valid, test)"),
        (["id"], "TAV", ("ids",), "id missing, made of split and row (train, valid, test)"),
        (["raw_text"], "TAV", ("text",), "raw_text missing (train, valid, test)"),
        (["classification_labels", "annotations"], "TAV", (), ""),
        (["audio_lengths"], "TAV", (), ""),
        (["audio_lengths", "vision_lengths", "text_bert"], "TAV", (), "text_bert missing (train, valid, test)"),
        (["vision"], "TA", (), "vision missing (train, valid, test)"),
        (["audio", "audio_lengths", "vision"], "T", (), "audio missing (train, valid, test)"),
        (["text"], "AV", (), "text missing (train, valid, test)"),
        (["text", "text_bert", "raw_text", "id"], "AV", ("ids", "text"), "text missing (train, valid, test)"),
    ],
)
def test_fields_that_are_not_needed_may_be_missing(tmp_path, names, modalities, but, sentence):
    truth, _ = read(tmp_path, content())
    for absent in (pop_all(*names), lambda c: [fields.update(dict.fromkeys(names)) for fields in c.values()]):
        changed = content()
        absent(changed)
        splits, said = read(tmp_path, changed)
        assert equal(splits, truth, modalities, but) and sentence in "; ".join(said)
        if "ids" in but:
            assert splits["valid"].ids == [f"valid_{row}" for row in range(5)]
        if "text" in but:
            assert splits["valid"].text == [""] * 5


def test_labels_and_one_modality_are_needed(tmp_path):
    changed = content()
    changed["test"].pop("regression_labels")
    with pytest.raises(DataError, match="test: found the fields .*, expected also 'regression_labels'"):
        read(tmp_path, changed)
    changed = content()
    pop_all("text", "audio", "vision")(changed)
    with pytest.raises(DataError, match="x.pkl: found none of 'text', 'audio', 'vision', expected at least one"):
        read(tmp_path, changed)


def test_a_modality_that_one_split_lacks(tmp_path):
    truth, _ = read(tmp_path, content(SIMS), SIMS)
    changed = content(SIMS)
    for name in ("vision", "vision_lengths", "regression_labels_V"):
        changed["test"].pop(name)
    path = dump(changed, tmp_path / "x.pkl")
    corpus = sources.load("ch_sims", path)
    empty = corpus.splits["test"].frames["V"]
    assert corpus.modalities == ("T", "A", "V") and empty.values.shape == (0, 5) and empty.length.tolist() == [0] * 5
    assert "vision missing (test)" in changes(corpus.card)
    assert np.array_equal(corpus.splits["test"].frames["A"].values, truth["test"].frames["A"].values)
    assert corpus.batch(range(5), "test").mask["V"].sum() == 0
    changed = content()
    changed["train"].pop("vision")
    with pytest.raises(DataError, match="x.pkl, train: found no 'vision', expected it as in valid"):
        read(tmp_path, changed)


@pytest.mark.parametrize("modalities", ["T", "TAV"])
def test_sims_without_unimodal_labels_trains_on_the_common_one(tmp_path, modalities):
    changed = content(SIMS)
    pop_all(*(f"regression_labels_{m}" for m in modalities))(changed)
    corpus = sources.load("ch_sims", dump(changed, tmp_path / "x.pkl"))
    assert all(split.unimodal_labels is None for split in corpus.splits.values())
    assert changes(corpus.card)[0].startswith("regression_labels_T, _A, _V missing, the common label serves (train, ")
    for fields in changed.values():
        fields |= {f"regression_labels_{m}": fields["regression_labels"] for m in "TAV"}
    with_them = sources.load("ch_sims", dump(changed, tmp_path / "y.pkl"))
    losses = []
    for loaded in (corpus, with_them):
        torch.manual_seed(0)
        model, batch = build(SMALL, loaded).eval(), loaded.batch(range(5))
        losses.append(model.losses(model(batch), batch)["L_UP"])
    assert torch.equal(*losses)


def test_a_file_without_text_trains(tmp_path):
    changed = content()
    pop_all("text", "text_bert")(changed)
    corpus = sources.load("mosi", dump(changed, tmp_path / "x.pkl"))
    model = build(replace(SMALL, modalities=corpus.modalities), corpus)
    assert corpus.modalities == ("A", "V")
    history = fit(model, corpus, TrainConfig(epochs=1, batch_size=4))
    assert len(history.curves) == 1


# Containers, types and shapes

READ = {
    "labels (N, 1)": set_all("regression_labels", column),
    "labels (1, N)": set_all("regression_labels", lambda v: np.asarray(v)[None]),
    "labels (N, 1, 1)": set_all("regression_labels", lambda v: np.asarray(v)[:, None, None]),
    "labels, lists of one": set_all("regression_labels", lambda v: [[float(x)] for x in v]),
    "labels, a tuple": set_all("regression_labels", tuple),
    "labels, objects": set_all("regression_labels", lambda v: np.asarray(v).astype(object)),
    "lengths (N, 1)": set_all("audio_lengths", column),
    "lengths, whole floats": set_all("vision_lengths", lambda v: np.asarray(v, np.float64)),
    "ids of bytes": set_all("id", lambda v: [str(i).encode() for i in v]),
    "ids (N, 1)": set_all("id", column),
    "ids, lists of one": set_all("id", lambda v: [[str(i)] for i in v]),
    "ids, a tuple": set_all("id", lambda v: tuple(map(str, v))),
    "ids, objects": set_all("id", lambda v: objects(list(map(str, v)))),
    "texts of bytes": set_all("raw_text", lambda v: [t.encode() for t in v]),
    "texts (N, 1)": set_all("raw_text", column),
    "texts, lists of words": set_all("raw_text", lambda v: [t.split() for t in v]),
    "features, a list of arrays": set_all("audio", list),
    "features, objects": set_all("audio", objects),
    "features, a tuple of lists": set_all("vision", lambda v: tuple(x.tolist() for x in v)),
    "features (N, 1, T, d)": set_all("vision", lambda v: v[:, None]),
    "features (N, T, d, 1)": set_all("text", lambda v: v[..., None]),
    "ragged, with lengths": lambda c: _ragged(c, list),
    "ragged objects": lambda c: _ragged(c, objects),
    "ragged, without lengths": lambda c: (_ragged(c, list), pop_all("audio_lengths", "vision_lengths")(c)),
    "ragged lists": lambda c: _ragged(c, lambda rows: [row.tolist() for row in rows]),
    "splits called Train, dev, TEST": lambda c: _rename(c, Train=c["train"], dev=c["valid"], TEST=c["test"]),
    "splits called training, val": lambda c: _rename(c, training=c["train"], val=c["valid"], test=c["test"]),
    "splits called in bytes": lambda c: _rename(c, **c) or c.update({s.encode(): c.pop(s) for s in SPLITS}),
    "one level deeper": lambda c: _rename(c, data=dict(c)),
    "fields in capitals": lambda c: [c.update({s: {k.upper(): v for k, v in c[s].items()}}) for s in SPLITS],
    "more than the splits": lambda c: c.update(config={"tool": "x"}),
    "float64": set_all("audio", lambda v: v.astype(np.float64)),
}


def _ragged(c, container):
    for fields in c.values():
        fields["text"] = container(
            [row[: int(k)] for row, k in zip(fields["text"], fields["text_bert"][:, 1].sum(1), strict=True)]
        )
        for name in ("audio", "vision"):
            lengths = fields[f"{name}_lengths"]
            fields[name] = container([row[:k] for row, k in zip(fields[name], lengths, strict=True)])


def _rename(c, **new):
    c.clear()
    c.update(new)


@pytest.mark.parametrize("name", READ)
def test_what_can_mean_one_thing_only_is_read(tmp_path, name):
    truth, _ = read(tmp_path, content())
    changed = content()
    READ[name](changed)
    splits, _ = read(tmp_path, changed)
    assert equal(splits, truth)


def test_ids_that_are_numbers(tmp_path):
    changed = content()
    for first, fields in zip((100, 200, 300), changed.values(), strict=True):
        fields["id"] = list(range(first, first + len(fields["regression_labels"])))
    assert read(tmp_path, changed)[0]["test"].ids == ["300", "301", "302", "303", "304"]
    set_all("id", lambda v: np.asarray(v, float))(changed)
    assert read(tmp_path, changed)[0]["valid"].ids == ["200", "201", "202", "203", "204"]
    for first in (0, 1):  # numbers of rows, which would be in train and test alike
        set_all("id", lambda v, first=first: np.arange(first, first + len(v)))(changed)
        splits, said = read(tmp_path, changed)
        assert splits["test"].ids == [f"test_{row}" for row in range(first, first + 5)]
        assert "id row numbers, made of split and row (train, valid, test)" in said
    for s, fields in changed.items():
        fields["id"] = np.array([[f"{s}video{row // 2}", str(row), "1.5"] for row in range(len(fields["id"]))])
    assert read(tmp_path, changed)[0]["test"].ids[3] == "testvideo1$_$3_1.5"


def test_texts_that_are_missing_in_some_rows(tmp_path):
    changed = content()
    texts = list(changed["valid"]["raw_text"])
    changed["valid"]["raw_text"] = [None, texts[1], float("nan"), *texts[3:]]
    changed["train"]["raw_text"] = [text.split() for text in changed["train"]["raw_text"]]
    splits, said = read(tmp_path, changed)
    assert splits["valid"].text == ["", texts[1], "", *texts[3:]] and "raw_text missing in 2 rows (valid)" in said
    assert "raw_text words joined by spaces (train)" in said


def test_a_ragged_utterance_without_frames(tmp_path):
    changed = content()
    _ragged(changed, list)
    pop_all("audio_lengths")(changed)
    changed["train"]["audio"][2:5] = None, [], np.zeros((3, 0))
    splits, _ = read(tmp_path, changed)
    assert splits["train"].frames["A"].length[2:5].tolist() == [0, 0, 0]


# Refused, with the meaning of what was found

REFUSED = {
    "(T, N, d)": (
        set_all("audio", lambda v: v.swapaxes(0, 1)),
        r"audio: found shape \(375, 9, 4\), with the utterances",
    ),
    "(N, d, T)": (set_all("audio", lambda v: v.swapaxes(1, 2)), "audio: found zeros at the ends of its columns"),
    "(N, d, T), front": (
        lambda c: [pad_in_front(f, "audio") or f.update(audio=f["audio"].swapaxes(1, 2)) for f in c.values()],
        "audio: found zeros at the ends of its columns",
    ),
    "(N, d, T), lengths of another file": (
        lambda c: [
            f.update(audio=f["audio"].swapaxes(1, 2), audio_lengths=np.array(f["audio_lengths"])[::-1])
            for f in c.values()
        ],
        "audio: found zeros at the ends of its columns",
    ),
    "(N, d, T) of text": (
        set_all("text", lambda v: np.where(np.any(v, 2)[..., None], v, 0.5).swapaxes(1, 2)),
        r"text: found shape \(9, 3, 50\), its axes exchanged, expected \(9, 50, any\) as in text_bert",
    ),
    "(N, d, T) without lengths": (
        lambda c: [f.update(vision=f["vision"].swapaxes(1, 2), vision_lengths=None) for f in c.values()],
        r"vision: found zeros at the ends of its columns, as in \(9, columns, frames\)",
    ),
    "(N, d)": (set_all("vision", lambda v: v.mean(1)), r"found shape \(9, 5\), one row an utterance and no axis"),
    "no frames": (set_all("vision", lambda v: v[:, :0]), r"found shape \(9, 0, 5\), expected frames and columns"),
    "text_bert (N, T)": (set_all("text_bert", lambda v: v[:, 0]), r"text_bert: found shape \(9, 50\), token ids alone"),
    "text_bert (N, T, 3)": (set_all("text_bert", lambda v: v.swapaxes(1, 2)), "text_bert: .*its axes exchanged"),
    "labels (N, 7)": (
        set_all("regression_labels", lambda v: np.zeros((len(v), 7))),
        r"found shape \(9, 7\), CMU-MOSEI's sentiment and six emotions, or seven classes, expected \(any,\)",
    ),
    "labels (N, 3)": (set_all("regression_labels", lambda v: np.eye(3)[[0] * len(v)]), "one column a class or rater"),
    "ragged (d, T)": (
        lambda c: (_ragged(c, list), set_all("audio", lambda rows: [row.T for row in rows])(c)),
        r"audio: found rows of shape .*which look like \(columns, frames\)",
    ),
    "ragged widths": (
        set_all("audio", lambda v: [np.ones((7, 4))] * (len(v) - 2) + [np.ones((5, 2)), np.ones((6, 3))]),
        r"train, audio: found rows of shape \(5, 2\), \(6, 3\), \(7, 4\), expected \(frames, columns\) of one width$",
    ),
    "ragged, one axis": (
        set_all("audio", lambda v: [np.ones(7)] + [np.ones((7, 4))] * (len(v) - 1)),
        r"train, audio: found rows of shape \(7, 4\), \(7,\), expected",
    ),
    "ragged, no frames": (set_all("audio", lambda v: [None] * len(v)), "rows of shape without frames, expected"),
    "features of texts": (
        set_all("audio", lambda v: ["x"] * len(v)),
        r"train, audio: found a list, expected numbers of shape \(9, any, any\)$",
    ),
    "features, a row less": (
        set_all("audio", lambda v: v[1:]),
        r"audio: found shape \(8, 375, 4\), expected \(9, any, any\)$",
    ),
    "(N, 1, T, 1)": (set_all("audio", lambda v: v[:, None, :, :1]), r"found shape \(9, 1, 375, 1\), expected \(9, any"),
    "(N, 2, T, d)": (set_all("audio", lambda v: v[:, None].repeat(2, 1)), r"audio: found shape \(9, 2, 375, 4\), exp"),
    "ragged, a row less": (
        lambda c: (_ragged(c, list), c["train"]["audio"].pop()),
        "train, audio: found 8 rows, expected 9",
    ),
    "dev and valid": (lambda c: c.update(dev=c["valid"]), "found both 'valid' and 'dev', expected one valid split"),
    "Train and train": (lambda c: c.update(Train=c["train"]), "some of which are one name, expected each once"),
    "ids of fractions": (
        set_all("id", lambda v: np.arange(len(v)) + 0.5),
        "id, row 0: found 0.5, expected a text or a",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_known_shape_is_named_where_it_is_refused(tmp_path, name):
    change, sentence = REFUSED[name]
    changed = content()
    change(changed)
    with pytest.raises(DataError, match=sentence) as error:
        read(tmp_path, changed)
    assert "\n" not in str(error.value) and "found" in str(error.value) and "expected" in str(error.value)


def test_front_padded_ragged_and_nested_together(tmp_path):
    truth, _ = read(tmp_path, content())
    changed = content()
    for fields in changed.values():
        pad_in_front(fields, "vision", "text")
        fields["audio"] = [row[:k] for row, k in zip(fields["audio"], fields.pop("audio_lengths"), strict=True)]
        fields["regression_labels"] = fields["regression_labels"][:, None].tolist()
    splits, said = read(tmp_path, [{"Train": changed["train"], "dev": changed["valid"], "test": changed["test"]}])
    assert equal(splits, truth) and "valid called 'dev'" in said and "splits nested one level deeper" in said
