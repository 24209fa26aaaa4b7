"""The unpickler: what it reads, and that nothing in a file is ever run."""

import copyreg
import os
import pickle
import struct

import numpy as np
import pytest
from make_files import dump

from finelib.data.safe_pickle import _ALLOWED, DataError, load_pickle

CONTENT = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">i4"),
    "objects": np.array(["a", None, [1, np.float32(2)], np.arange(2)], dtype=object),
    "unicode": np.array(["ab", "ü"]),
    "bytes": np.array([b"xy", b"z"]),
    "bool": np.array([True, False]),
    "scalar_array": np.array(5, dtype=np.int16),
    "float": np.float64(3.5),
    "int": np.int64(-4),
    "str": np.str_("hé"),
    "flag": np.bool_(True),
    "plain": [1, 2.5, "t", b"\xff", None, True, (1,), {"k": {1, 2}}, 10**30],
}


@pytest.mark.parametrize("layout", [1, 2])
@pytest.mark.parametrize("protocol", range(6))
def test_reads_what_numpy_wrote(tmp_path, layout, protocol):
    path = dump(CONTENT, tmp_path / "x.pkl", layout, protocol)
    assert (b"numpy._core" in path.read_bytes()) == (layout == 2)  # the generator wrote the layout it should
    read = load_pickle(path)
    assert list(read) == list(CONTENT)
    for name in ("matrix", "fortran", "big_endian", "unicode", "bytes", "bool", "scalar_array"):
        array = np.asarray(read[name])
        original = pickle.loads(pickle.dumps(CONTENT[name], protocol))  # NumPy may swap to the machine's byte order
        assert array.dtype == original.dtype and np.array_equal(array, CONTENT[name]), name
    assert [read[k] for k in ("float", "int", "str", "flag")] == [3.5, -4, "hé", True]
    assert read["plain"] == CONTENT["plain"]
    first, second, third, last = np.asarray(read["objects"])
    assert (first, second, third) == ("a", None, [1, 2.0]) and np.array_equal(last, [0, 1])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reads_nothing_at_all(tmp_path, protocol):
    content = {"a": np.zeros((0, 3), np.float32), "b": np.str_(""), "c": b""}
    read = load_pickle(dump(content, tmp_path / "x.pkl", protocol=protocol))
    assert read["a"].shape == (0, 3) and read["a"].dtype == np.float32 and (read["b"], read["c"]) == ("", b"")


def test_reads_python_2_strings(tmp_path):
    path = tmp_path / "x.pkl"
    raw = np.array([1.5, 2.5]).tobytes()  # as Python 2 wrote it: the content is a str
    array = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
    )
    path.write_bytes(array + raw + b"tb.")
    assert load_pickle(path).tolist() == [1.5, 2.5]


class New:
    def __new__(cls, marker, **_):
        os.mkdir(marker)
        return super().__new__(cls)


class Build:
    def __setstate__(self, marker):
        os.mkdir(marker)


class Reduce:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def _text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


HERE = __name__.encode()
HOSTILE = {
    "GLOBAL, REDUCE": lambda m: b"cos\nmkdir\n" + _text(m) + b"\x85R.",
    "STACK_GLOBAL": lambda m: b"\x80\x04" + _text("os") + _text("mkdir") + b"\x93" + _text(m) + b"\x85R.",
    "STACK_GLOBAL, dotted": lambda m: (
        b"\x80\x04" + _text("os") + _text("path.os.mkdir") + b"\x93" + _text(m) + b"\x85R."
    ),
    "INST": lambda m: b"(" + _text(m) + b"ios\nmkdir\n.",
    "OBJ": lambda m: b"(cos\nmkdir\n" + _text(m) + b"o.",
    "NEWOBJ": lambda m: b"\x80\x02c" + HERE + b"\nNew\n" + _text(m) + b"\x85\x81.",
    "NEWOBJ_EX": lambda m: b"\x80\x04c" + HERE + b"\nNew\n" + _text(m) + b"\x85}\x92.",
    "BUILD": lambda m: b"\x80\x02c" + HERE + b"\nBuild\n)\x81" + _text(m) + b"b.",
    "EXT1": lambda m: b"\x80\x02\x82\xf0" + _text(m) + b"\x85R.",
    "EXT2": lambda m: b"\x80\x02\x83\xf0\x00" + _text(m) + b"\x85R.",
    "EXT4": lambda m: b"\x80\x02\x84\xf0\x00\x00\x00" + _text(m) + b"\x85R.",
    "in a list": lambda m: pickle.dumps({"train": [1, (Reduce(m),)]}),
    "in an object array": lambda m: pickle.dumps(np.array([1, Reduce(m)], dtype=object)),
    "in an object array in an object array": lambda m: pickle.dumps(
        np.array([np.array([Reduce(m), 1], dtype=object), 1], dtype=object)
    ),
    "as an array's state": lambda m: pickle.dumps(CONTENT["matrix"], 2)[:-1] + b"cos\nmkdir\n" + _text(m) + b"\x85Rb.",
    "after other content": lambda m: pickle.dumps(CONTENT, 2)[:-1] + b"0cos\nmkdir\n" + _text(m) + b"\x85R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_code_from_a_file_runs(tmp_path, name):
    marker = tmp_path / "ran"
    path = tmp_path / "hostile.pkl"
    path.write_bytes(HOSTILE[name](str(marker)))
    copyreg.add_extension("os", "mkdir", 0xF0)
    try:
        try:  # it is a live payload: Python's own unpickler runs it (and remembers the extension)
            pickle.loads(path.read_bytes())
        except Exception:
            assert name == "as an array's state"
        assert marker.exists()
        marker.rmdir()
        with pytest.raises(DataError, match=r"hostile.pkl: found the name .*(mkdir|New|Build)"):
            load_pickle(path)
        assert not marker.exists()
    finally:
        copyreg.remove_extension("os", "mkdir", 0xF0)


def _array(dtype: bytes, state: bytes, shape: bytes, content: bytes) -> bytes:
    """A pickled array with a chosen dtype name, dtype state, shape and content."""
    return (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\n"
        + _text(dtype.decode())
        + b"\x89\x88\x87R"
        + state
        + b"b\x89"
        + content
        + b"tb."
    )


def _buffer(dtype: bytes, state: bytes, content: bytes, order: bytes = b"C") -> bytes:
    """The form of protocol 5, one element."""
    return (
        b"\x80\x05cnumpy.core.numeric\n_frombuffer\n("
        + content
        + b"cnumpy\ndtype\n"
        + _text(dtype.decode())
        + b"\x89\x88\x87R"
        + state
        + b"bK\x01\x85"
        + _text(order.decode())
        + b"tR."
    )


FLOAT = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
OBJECT = b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"  # flags 0: "holds no objects"
NAMED = b"(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00a\x85}K\x08K\x01K\x00t"
ONE, TRILLION = b"K\x01\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85"
EIGHT = b"C\x08AAAAAAAA"
REFUSED = {
    "bytes as object pointers": (_array(b"O8", OBJECT, ONE, EIGHT), "content is a bytes"),
    "bytes as object pointers, protocol 5": (_buffer(b"O8", OBJECT, EIGHT), "content is a bytes"),
    "a list as numbers, protocol 5": (_buffer(b"f8", FLOAT, b"]"), "content is a list"),
    "an order that is none": (_buffer(b"f8", FLOAT, EIGHT, b"K"), "content is a bytes"),
    "a set made of a text": (b"\x80\x02c__builtin__\nset\n" + _text("abc") + b"\x85R.", "a set made of a str"),
    "a name of 10,000 letters": (b"c" + b"x" * 10_000 + b"\nmkdir\n.", r"the name x{77}\.\.\., which"),
    "a list as numbers": (_array(b"f8", FLOAT, ONE, b"]"), "content is a list"),
    "a shape larger than the content": (_array(b"f8", FLOAT, TRILLION, EIGHT), "with 8 bytes where"),
    "a negative shape": (_array(b"f8", FLOAT, b"J\xff\xff\xff\xff\x85", EIGHT), r"shape \(-1,\)"),
    "structured type": (_array(b"V8", NAMED, ONE, EIGHT), "type V8"),
    "fields given to a plain type": (_array(b"f8", NAMED, ONE, EIGHT), "structured"),
    "another subtype": (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85C\x01b\x87R.",
        "subclass",
    ),
    "numpy.ndarray called": (b"\x80\x03cnumpy\nndarray\n" + TRILLION + b"\x85R.", "call of numpy.ndarray"),
    "NEWOBJ of numpy.ndarray": (b"\x80\x03cnumpy\nndarray\n" + TRILLION + b"\x85\x81.", "NEWOBJ"),
    "bytes(huge)": (b"\x80\x03c__builtin__\nbytes\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.", "call of bytes"),
    "another codec": (b"\x80\x03c_codecs\nencode\n" + _text("x") + _text("zip") + b"\x86R.", "_codecs.encode"),
    "attributes of an allowed name": (b"\x80\x03c_codecs\nencode\n}" + _text("a") + b"K\x01sb.", "cannot be read"),
    "slots of an allowed name": (
        b"\x80\x03c_codecs\nencode\nN}" + _text("_call") + b"K\x01s\x86b.",
        "attempt to change",
    ),
    "PERSID": (b"Pos.mkdir\n.", "outside the file"),
    "BINPERSID": (b"\x80\x02K\x01Q.", "outside the file"),
    "a declared size beyond the file": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.", "found"),
    "not a pickle": (b"id,text,label\n1,a,2\n", "cannot be read"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "cannot be read"),
    "nothing": (b"", "an empty file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_in_one_sentence(tmp_path, name):
    content, found = REFUSED[name]
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match=found) as error:
        load_pickle(tmp_path / "x.pkl")
    assert "x.pkl: found" in str(error.value) and "expected a pickle of" in str(error.value)
    assert "\n" not in str(error.value)
    encode = _ALLOWED["_codecs", "encode"]
    assert encode("x", "latin1") == b"x"  # what files may use is as it was


def test_an_array_cannot_be_overwritten_from_the_file(tmp_path):
    content = pickle.dumps(CONTENT["matrix"], 3)[:-1] + b"K\x00K\x01s."
    assert pickle.loads(content)[0].tolist() == [1, 1, 1]  # NumPy's own array can
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match="overwrite"):
        load_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_truncation_is_noticed(tmp_path, protocol):
    content = pickle.dumps({"a": np.arange(4.0), "b": np.array(["x", None], dtype=object)}, protocol)
    path = tmp_path / "x.pkl"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(DataError):
            load_pickle(path)


def test_a_real_truncation_is_named(tmp_path):
    path = dump({"a": np.zeros(10_000)}, tmp_path / "x.pkl")
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(DataError, match="ends in the middle"):
        load_pickle(path)
