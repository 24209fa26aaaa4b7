"""Pickles that call, and pickles that describe what is not there: for the tests of the reader."""

import os
import pickle
import struct

import numpy as np

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
    "not a pickle": (b"\xff\xfe\x00\x01", "cannot be read"),
    "nothing": (b"", "an empty file"),
}
