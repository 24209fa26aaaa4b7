"""Readers on changed files: the right arrays or one sentence, never a crash, a hang or a wrong array.

Of every change to a field it is known what must come of it: the arrays as they were, other values that are still
in their bounds, or a sentence. Flipped bits may land in a number, which no reader can know; then only the bounds hold.
``FINE_FUZZ=10000 python -m pytest tests/data/test_fuzz.py`` tries as many files; without it 500.
"""

import os
import pickle
import random
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_files import dump, mmsa_content, pad_in_front, write_mfn, write_ur_funny

from finelib.data import mmsa, public_mfn, ur_funny
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS
from finelib.data.safe_pickle import DataError, load_pickle

CASES = int(os.environ.get("FINE_FUZZ", "500"))
MOSI, SIMS, FUNNY = CORPORA["mosi"], CORPORA["ch_sims"], CORPORA["ur_funny"]
SMALL = {"n": (4, 3, 3), "widths": (3, 4, 5)}


def cases(share: float):
    """The given share of all cases; Hypothesis chooses them, the same ones at every call."""
    return settings(
        max_examples=max(1, round(CASES * share)),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory():
    """A flipped bit may ask for all memory: here for no more than 4 GiB."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def read_or_sentence(read, where: str):
    """What a reader returns; None after one sentence that names the file and what was found and expected."""
    try:
        return read()
    except DataError as error:
        sentence = str(error)
        assert where in sentence and "found" in sentence and "expected" in sentence and "\n" not in sentence, sentence
        return None


def check_bounds(splits, info):
    """What holds of whatever a reader returns."""
    for s in SPLITS:
        split = splits[s]
        assert len(set(split.ids)) == len(split.ids) == len(split.text) == len(split.label) > 0
        assert all(isinstance(value, str) for value in (*split.ids, *split.text))
        assert split.label.dtype == np.float32 and np.isfinite(split.label).all()
        assert info.label_low - 1e-5 <= split.label.min() and split.label.max() <= info.label_high + 1e-5
        for frames in split.frames.values():
            assert frames.values.dtype == np.float32 and frames.values.ndim == 2 and np.isfinite(frames.values).all()
            assert len(frames.length) == len(split) and frames.length.min() >= 0
            assert frames.length.sum() == len(frames.values)
    assert not set(splits["train"].ids) & set(splits["test"].ids)


def check_equal(splits, truth, but: str = ""):
    """Everything as it was, except what the changed field is about."""
    for s in SPLITS:
        assert splits[s].ids == truth[s].ids or but == "id"
        assert splits[s].text == truth[s].text or but == "raw_text"
        assert np.array_equal(splits[s].label, truth[s].label) or but == "regression_labels"
        for m, frames in truth[s].frames.items():
            if but not in (mmsa.FIELD[m], f"{mmsa.FIELD[m]}_lengths"):
                assert np.array_equal(splits[s].frames[m].values, frames.values)
                assert np.array_equal(splits[s].frames[m].length, frames.length)


# ---------------------------------------------------------------------------------------------- changed fields

SAME = {  # another form of the same numbers
    "float64": lambda v: np.asarray(v).astype(np.float64),
    "big-endian": lambda v: np.asarray(v).astype(np.asarray(v).dtype.newbyteorder(">")),
    "column order": lambda v: np.asfortranarray(v),
    "not contiguous": lambda v: np.repeat(v, 2, axis=0)[::2],
    "nested lists": lambda v: np.asarray(v).tolist(),
    "array of objects": lambda v: np.asarray(v).astype(object),
    "read-only": lambda v: _locked(np.array(v)),
    "a list of rows": lambda v: list(v),
    "a tuple of rows": lambda v: tuple(v),
    "an array of row objects": lambda v: _objects(v),
    "one axis more": lambda v: np.asarray(v)[None],
}
SAME_OF = {
    "labels": {
        "a column": lambda v: np.asarray(v)[:, None],
        "a column of columns": lambda v: np.asarray(v)[:, None, None],
        "lists of one": lambda v: [[float(value)] for value in v],
    },
    "features": {
        "an axis before the frames": lambda v: v[:, None],
        "an axis before the columns": lambda v: v[:, :, None],
        "an axis behind": lambda v: v[..., None],
    },
    "lengths": {
        "a column": lambda v: np.asarray(v)[:, None],
        "halved": lambda v: np.asarray(v) // 2,
        "a third": lambda v: np.asarray(v) // 3,
        "zero": lambda v: 0 * np.asarray(v),
        "one beyond the array": lambda v: _with(v, 10**6),
        "all beyond the array": lambda v: np.asarray(v) + 10**4,
    },
    "ids": {
        "bytes": lambda v: [str(name).encode() for name in v],
        "an array of bytes": lambda v: np.asarray(v).astype("S"),
        "objects": lambda v: _objects([str(name) for name in v]),
        "a tuple": lambda v: tuple(map(str, v)),
        "a column": lambda v: np.asarray(v)[:, None],
        "a row": lambda v: np.asarray(v)[None],
        "lists": lambda v: [[name] for name in v],
    },
    "texts": {
        "bytes": lambda v: [text.encode() for text in v],
        "unicode": lambda v: np.array([str(text) for text in v]),
        "a column": lambda v: np.asarray(v)[:, None],
        "words": lambda v: [text.split() for text in v],
        "a tuple": lambda v: tuple(v),
    },
}
OTHER_IDS = {  # made of split and row
    "None": lambda v: None,
    "row numbers": lambda v: list(range(len(v))),
    "row numbers from 1": lambda v: np.arange(1, len(v) + 1),
    "row numbers, floats": lambda v: np.arange(float(len(v))),
}
REFUSED = {  # whatever field it is
    "a number": lambda v: 3.5,
    "a dictionary": lambda v: {"data": v},
    "text": lambda v: "abc",
    "no rows": lambda v: v[:0],
    "a row too few": lambda v: v[:-1],
    "a row too many": lambda v: list(v) + [v[0]],
    "ragged": lambda v: [[1.0], *list(v)[1:]],
    "complex": lambda v: np.asarray(v).astype(complex) + 1j,
    "dates": lambda v: np.zeros(np.shape(v), "M8[s]"),
}
REFUSED_OF = {
    "labels": {
        "NaN": lambda v: _with(v, np.nan),
        "infinite": lambda v: _with(v, np.inf),
        "out of range": lambda v: _with(v, 3.7),
        "huge": lambda v: _with(v, -1e30),
        "texts": lambda v: [f"x{value}" for value in v],
    },
    "features": {
        "one axis less": lambda v: np.asarray(v)[:, 0],
        "no columns": lambda v: np.asarray(v)[..., :0],
        "all NaN": lambda v: np.full_like(v, np.nan),
        "texts": lambda v: np.asarray(v).astype(str).astype(object) + "x",
        "rows and frames exchanged": lambda v: np.swapaxes(v, 0, 1),
        "frames and columns exchanged": lambda v: np.swapaxes(v, 1, 2),
        "no frames": lambda v: v[:, :0],
        "a column more than the others": lambda v: np.concatenate([v, v[..., :1]], axis=2),
        "a column less than the others": lambda v: v[..., :-1],
    },
    "lengths": {
        "negative": lambda v: _with(v, -1),
        "beyond int64": lambda v: _with(v, 1e300),
        "half a frame": lambda v: _with(np.asarray(v, float), 1.5),
        "NaN": lambda v: _with(np.asarray(v, float), np.nan),
    },
    "ids": {
        "twice": lambda v: [v[0], *list(v)[:-1]],
        "fractions": lambda v: [row + 0.5 for row in range(len(v))],
        "None among them": lambda v: [None, *list(v)[1:]],
        "dictionaries": lambda v: [{"name": name} for name in v],
        "broken UTF-8": lambda v: [b"\xff\xfe", *list(v)[1:]],
    },
    "texts": {"numbers": lambda v: list(range(len(v))), "dictionaries": lambda v: [{} for _ in v]},
}
KIND = {
    "regression_labels": "labels",
    "text": "features",
    "audio": "features",
    "vision": "features",
    "audio_lengths": "lengths",
    "vision_lengths": "lengths",
    "id": "ids",
    "raw_text": "texts",
}


def _locked(array):
    array.flags.writeable = False
    return array


def _objects(values):
    array = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        array[row] = value
    return array


def _with(values, value):
    changed = np.array(values, dtype=float)
    changed[len(changed) // 2] = value
    return changed


@pytest.fixture(scope="module")
def truth(folder):
    return {
        info.name: mmsa.read(dump(mmsa_content(info, **SMALL), folder / f"{info.name}.pkl"), info)[0]
        for info in (MOSI, SIMS)
    }


NUMBERS = ("labels", "features", "lengths")
FIELD_CASES = [
    (field, outcome, change)
    for field, kind in KIND.items()
    for outcome, table in (
        ("same", SAME if kind in NUMBERS else {}),
        ("same", SAME_OF[kind]),
        ("made", OTHER_IDS if kind == "ids" else {}),
        (
            "refused",
            REFUSED if kind in NUMBERS else {n: f for n, f in REFUSED.items() if n not in ("complex", "dates")},
        ),
        ("refused", REFUSED_OF[kind]),
    )
    for name, change in table.items()
    if not (kind == "texts" and name == "ragged")  # a list in a list of texts is the words of one
]


@cases(0.25)
@given(
    case=st.sampled_from(FIELD_CASES),
    split=st.sampled_from(SPLITS),
    info=st.sampled_from((MOSI, SIMS)),
    layout=st.sampled_from((1, 2)),
    protocol=st.integers(0, 5),
)
def test_a_changed_field_gives_the_right_arrays_or_a_sentence(folder, truth, case, split, info, layout, protocol):
    field, outcome, change = case
    content = mmsa_content(info, **SMALL)
    content[split][field] = change(content[split][field])
    path = dump(content, folder / "field.pkl", layout, protocol)
    found = read_or_sentence(lambda: mmsa.read(path, info), "field.pkl")
    if outcome == "refused":
        assert found is None, case
    else:
        check_equal(found[0], truth[info.name], but="id" if outcome == "made" else "")
    if outcome == "made":
        assert all(name.startswith(f"{split}_") for name in found[0][split].ids)


NOT_NEEDED = [name for name in KIND if name != "regression_labels"] + [
    "text_bert",
    "regression_labels_A",
    "annotations",
]


@cases(0.1)
@given(
    field=st.sampled_from([*NOT_NEEDED, "regression_labels"]),
    where=st.sampled_from((*SPLITS, "all")),
    info=st.sampled_from((MOSI, SIMS)),
    aligned=st.booleans(),
    none=st.booleans(),
)
def test_a_field_that_is_missing(folder, field, where, info, aligned, none):
    """What is left is as it was, and the notes name what is not there; the labels must be there, and so must a
    modality of train that another split has."""
    whole = mmsa.read(dump(mmsa_content(info, aligned=aligned, **SMALL), folder / "whole.pkl"), info)[0]
    content = mmsa_content(info, aligned=aligned, **SMALL)
    for s in SPLITS if where == "all" else [where]:
        content[s].pop(field, None)
        if none:
            content[s][field] = None
    found = read_or_sentence(lambda: mmsa.read(dump(content, folder / "missing.pkl"), info), "missing.pkl")
    modality = {name: m for m, name in mmsa.FIELD.items()}.get(field)
    if field == "regression_labels" or modality and where == "train":
        assert found is None
        return
    splits, notes = found
    check_bounds(splits, info)
    for s in SPLITS:
        lacks = where in (s, "all")
        for m, frames in whole[s].frames.items():
            if m != modality or not lacks:
                assert np.array_equal(splits[s].frames[m].values, frames.values)
                assert np.array_equal(splits[s].frames[m].length, frames.length)
            elif where != "all":
                assert splits[s].frames[m].values.shape == (0, frames.width)
            else:
                assert m not in splits[s].frames
        told = " ".join(notes[s].get("fields", {}))
        named = not field.endswith("_lengths") and field != "annotations"
        named = named and (info is SIMS or field != "regression_labels_A")
        assert (field[:-2] if field.endswith("_A") else field) in told or not (lacks and named)
        assert splits[s].ids == (
            whole[s].ids if field != "id" or not lacks else [f"{s}_{r}" for r in range(len(splits[s]))]
        )


LENGTHS = {
    "as they are": lambda length, longest: length,
    "halved": lambda length, longest: length // 2,
    "zero": lambda length, longest: 0 * length,
    "of the padded rows": lambda length, longest: 0 * length + longest,
    "beyond the padded rows": lambda length, longest: length + longest,
    "from the other end": lambda length, longest: longest - length,
    "none": None,
}


@cases(0.1)
@given(
    front=st.fixed_dictionaries({s: st.sets(st.sampled_from(("text", "audio", "vision"))) for s in SPLITS}),
    stated=st.fixed_dictionaries({name: st.sampled_from(sorted(LENGTHS)) for name in ("audio", "vision")}),
    mask=st.sampled_from(("as it is", "of the other end", "of every token", "zero", "none")),
    info=st.sampled_from((MOSI, SIMS)),
)
def test_frames_are_the_same_whichever_end_is_padded_and_whatever_the_lengths_say(
    folder, truth, front, stated, mask, info
):
    content = mmsa_content(info, **SMALL)
    for s, fields in content.items():
        pad_in_front(fields, *front[s])
        for name, change in stated.items():
            length = np.array(fields.pop(f"{name}_lengths"))
            if LENGTHS[change]:
                fields[f"{name}_lengths"] = LENGTHS[change](length, fields[name].shape[1])
        tokens = fields.pop("text_bert")
        if mask != "none":
            change = {"as it is": 1, "of the other end": tokens[:, 1, ::-1], "of every token": 1, "zero": 0}[mask]
            tokens[:, 1] = tokens[:, 1] * change if mask in ("as it is", "zero") else change
            fields["text_bert"] = tokens
    found = read_or_sentence(lambda: mmsa.read(dump(content, folder / "padding.pkl"), info), "padding.pkl")
    check_equal(found[0], truth[info.name])


@cases(0.1)
@given(data=st.data(), info=st.sampled_from((MOSI, SIMS)))
def test_any_numbers_in_a_field_keep_the_bounds_and_the_other_fields(folder, truth, data, info):
    """NaN, infinities, huge and tiny numbers of any width, anywhere."""
    content, split = mmsa_content(info, **SMALL), data.draw(st.sampled_from(SPLITS))
    field = data.draw(st.sampled_from(sorted(KIND.keys() - {"id", "raw_text"})))
    dtype = data.draw(st.sampled_from(("f2", "f4", "f8", ">f8", "i1", "i8", "u2", "?")))
    wanted = [0, 1, -1, 3, np.nan, np.inf, -np.inf, 1e30, 1e-40, 2**62]
    values = data.draw(st.lists(st.sampled_from(wanted), min_size=1, max_size=8))
    with np.errstate(all="ignore"):
        changed = np.array(content[split][field], dtype=float)
        places = data.draw(st.lists(st.integers(0, changed.size - 1), min_size=len(values), max_size=len(values)))
        changed.flat[places] = values
        content[split][field] = changed.astype(dtype)
    path = dump(content, folder / "numbers.pkl")
    found = read_or_sentence(lambda: mmsa.read(path, info), "numbers.pkl")
    if found is not None:
        check_bounds(found[0], info)
        check_equal(found[0], truth[info.name], but=field)


OTHER_STRUCTURES = {  # the same content in
    "a list": lambda c: [c],
    "a tuple": lambda c: (c,),
    "a dictionary": lambda c: {"features": c},
    "keys of bytes": lambda c: {key.encode(): value for key, value in c.items()},
    "capitals": lambda c: {key.upper(): value for key, value in c.items()},
    "dev": lambda c: {{"valid": "dev"}.get(key, key): value for key, value in c.items()},
    "val": lambda c: {{"valid": "val"}.get(key, key): value for key, value in c.items()},
    "splits in lists": lambda c: {key: [value] for key, value in c.items()},
    "splits in dictionaries": lambda c: {key: {"fields": value} for key, value in c.items()},
    "fields in capitals": lambda c: {s: {key.upper(): value for key, value in f.items()} for s, f in c.items()},
}


@pytest.mark.parametrize("name", OTHER_STRUCTURES)
@pytest.mark.parametrize("info", [MOSI, SIMS], ids=["mosi", "ch_sims"])
def test_another_structure_of_the_same_content(folder, truth, name, info):
    path = dump(OTHER_STRUCTURES[name](mmsa_content(info, **SMALL)), folder / "structure.pkl")
    splits, _ = mmsa.read(path, info)
    check_equal(splits, truth[info.name])
    assert (splits["train"].unimodal_labels is None) == (info is MOSI)


def _train(c, **changed):
    return {**c, "train": {**c["train"], **changed}}


STRUCTURES = {
    "splits missing": lambda c: {"train": c["train"], "test": c["test"]},
    "a list of the splits": lambda c: list(c.values()),
    "two levels deeper": lambda c: {"a": {"b": c}},
    "two splits of one name": lambda c: {**c, "dev": c["valid"]},
    "two cases of one name": lambda c: {**c, "Train": c["train"]},
    "splits that overlap": lambda c: _train(c, id=[c["test"]["id"][0], *c["train"]["id"][1:]]),
    "an empty dictionary": lambda c: {},
    "a split that is a list of two": lambda c: {**c, "train": [c["train"], c["train"]]},
    "a mask of other numbers": lambda c: _train(c, text_bert=np.full_like(c["train"]["text_bert"], 2)),
    "a mask of other shape": lambda c: _train(c, text_bert=c["train"]["text_bert"][:, 0]),
    "a mask with its axes exchanged": lambda c: _train(c, text_bert=c["train"]["text_bert"].swapaxes(1, 2)),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_another_structure_is_a_sentence(folder, name):
    path = dump(STRUCTURES[name](mmsa_content(MOSI, **SMALL)), folder / "structure.pkl")
    assert read_or_sentence(lambda: mmsa.read(path, MOSI), "structure.pkl") is None


# ----------------------------------------------------------------------------------------------- changed bytes

HARMS = ("flip a bit", "flip ten bits", "cut", "cut and pad", "put in", "take out", "exchange", "repeat")


def harmed(content: bytes, harm: str, seed: int) -> bytes:
    """A file after an accident; half of the places are among its first and last bytes, where its structure is."""
    chance, out = random.Random(seed), bytearray(content)

    def place():
        end, edge = len(out) - 1, min(300, len(out) - 1)
        return chance.choice((chance.randint(0, end), chance.randrange(edge), end - chance.randrange(edge)))

    if harm.startswith("flip"):
        for _ in range(10 if "ten" in harm else 1):
            out[place()] ^= 1 << chance.randrange(8)
    elif harm.startswith("cut"):
        out = out[: place()] + (bytes(chance.randrange(1, 2000)) if "pad" in harm else b"")
    elif harm == "put in":
        at = place()
        out[at:at] = chance.randbytes(chance.randrange(1, 20))
    elif harm == "take out":
        at = place()
        del out[at : at + chance.randrange(1, 20)]
    elif harm == "exchange":
        a, b = sorted((place(), place()))
        out[a : a + 9], out[b : b + 9] = out[b : b + 9], out[a : a + 9]
    else:
        at = place()
        out[at:at] = out[at : at + chance.randrange(1, 500)]
    return bytes(out)


@pytest.fixture(scope="module")
def pickles(folder):
    """Valid MMSA-format files of all protocols and both NumPy layouts."""
    content = mmsa_content(MOSI, **SMALL)
    return [dump(content, folder / "bytes.pkl", layout, p).read_bytes() for layout in (1, 2) for p in range(6)]


@cases(0.3)
@given(which=st.integers(0, 11), harm=st.sampled_from(HARMS), seed=st.integers(0))
def test_changed_bytes_give_arrays_in_their_bounds_or_a_sentence(folder, pickles, which, harm, seed):
    path = folder / "bytes.pkl"
    path.write_bytes(harmed(pickles[which], harm, seed))
    found = read_or_sentence(lambda: mmsa.read(path, MOSI), "bytes.pkl")
    if found is not None:
        check_bounds(found[0], MOSI)


@cases(0.2)
@given(version=st.sampled_from((1, 2)), which=st.integers(0, 5), harm=st.sampled_from(HARMS), seed=st.integers(0))
def test_changed_bytes_of_ur_funny(folder, version, which, harm, seed):
    home = folder / f"v{version}"
    files = ur_funny.files(home / "UR_FUNNY") if home.exists() else ur_funny.files(write_ur_funny(home, version))
    content = files[which].read_bytes()
    files[which].write_bytes(harmed(content, harm, seed))
    try:
        found = read_or_sentence(lambda: ur_funny.read(files[0].parent, FUNNY, context=True), "UR_FUNNY")
        if found is not None:
            check_bounds(found[0], FUNNY)
            assert all(set(split.label) <= {0, 1} for split in found[0].values())
    finally:
        files[which].write_bytes(content)


@cases(0.1)
@given(seed=st.integers(0), harm=st.sampled_from(HARMS), which=st.sampled_from(sorted(public_mfn.FILES)))
def test_changed_bytes_of_hdf5(folder, seed, harm, which):
    home = folder / "mosi_mfn"
    if not home.exists():
        write_mfn(folder, n=(4, 3, 3), steps=5)
    path = {name: home / name for name in public_mfn.FILES}
    content = path[which].read_bytes()
    path[which].write_bytes(harmed(content, harm, seed))
    try:
        found = read_or_sentence(lambda: public_mfn.read(path, MOSI), "mosi_mfn")
        if found is not None:
            check_bounds(found[0], MOSI)
    finally:
        path[which].write_bytes(content)


@cases(0.05)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.integers() | st.tuples(st.text()), inner)
            | st.tuples(inner, inner)
        ),
        max_leaves=30,
    ),
    st.integers(0, 5),
)
def test_plain_content_is_read_as_python_reads_it(folder, content, protocol):
    path = folder / "plain.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert repr(load_pickle(path)) == repr(pickle.loads(path.read_bytes(), encoding="latin1"))
