"""Reading pickles without trusting them: plain containers and NumPy arrays, and no code, ever.

``pickle`` can call whatever a file names. Here a file can name only the few globals below, and even those are
never NumPy's own functions: NumPy's ``__setstate__`` of a dtype accepts flags that make it read bytes as object
pointers. Each name stands for a small substitute that checks its arguments before NumPy sees them.
What this cannot stop is a hostile file that asks for all memory (a huge memo index) or nests so deeply that the
interpreter crashes; ``conversion`` reads files in a process that is bounded and may end.
"""

from __future__ import annotations

import copyreg
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from finelib.data import foreign

EXPECTED = "a pickle of plain containers and NumPy arrays"
AGAIN = "download or copy it again"
_PLAIN_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c(8|16)|[SU]\d+|O\d?|\?)")


class DataError(ValueError):
    """A data file is not what it should be. One sentence: file, field, what was found, what was expected."""


def load_pickle(path: Path) -> object:
    """Read a pickle of any protocol, written under NumPy 1 or 2, without running anything it names.

    Returns:
        its content: dicts, lists, tuples, sets, str, bytes, numbers, None, and arrays of bool, int, float,
        complex, str, bytes or objects. NumPy scalars come back as Python's, Python 2's strings as Latin-1.

    Raises:
        DataError: the file is empty, truncated, not a pickle, or holds anything else; the sentence names the way out.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as stream:
        start = stream.read(foreign.START)
        known = foreign.of_start(path, start)
        if known:
            raise DataError(_sentence(path, *known))
        stream.seek(0)
        return load_pickle_stream(stream, path, start)


def load_pickle_stream(stream: BinaryIO, path: Path, start: bytes = b"\x80") -> object:
    """As ``load_pickle``, from where a stream stands; ``path`` and the first bytes are for the sentence."""
    copyreg.clear_extension_cache()  # an extension code that was loaded before would bypass find_class
    try:
        return _Unpickler(stream, encoding="latin1").load()
    except _Refused as error:
        found, way_out = error.args[0], error.args[1] if len(error.args) > 1 else ""
    except Exception as error:  # the unpickler raises almost any class on bytes that are not a pickle
        if not start:
            found, way_out = "an empty file", AGAIN
        elif text := foreign.of_text(start, len(start) < foreign.START):
            found, way_out = text
        elif isinstance(error, EOFError) or "truncated" in str(error):
            found, way_out = "a file that ends in the middle", AGAIN
        else:
            found, way_out = f"bytes that cannot be read ({_short(error)})", AGAIN
    raise DataError(_sentence(path, found, way_out))


def _sentence(path: Path, found: str, way_out: str) -> str:
    return f"{path}: found {found}, expected {EXPECTED}" + (f"; {way_out}" if way_out else "")


class _Refused(pickle.UnpicklingError):
    """What was found in the file, and the way out where there is one."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Allowed:
        found = _ALLOWED.get((module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins"), name))
        if found is None and not f"{module}.{name}".replace(".", "").isidentifier():
            raise pickle.UnpicklingError("a name that is none")
        if found is None:
            said = f"the name {_short(f'{module}.{name}')}, which was not looked up"
            raise _Refused(said, foreign.of_name(module))
        return found

    def persistent_load(self, pid: object) -> object:
        if isinstance(pid, str) and "," in pid:
            raise pickle.UnpicklingError("a text, not a pickle")
        raise _Refused("a reference to something outside the file")


class _Allowed:
    """A callable from which a file can reach nothing: no type to instantiate, no attribute to set, no __dict__."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable):
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: object) -> object:
        return self._call(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise _Refused("an attempt to change what the file may use")


class _Dtype:
    """Stands for numpy.dtype. Only its name and byte order are taken from the file, never its flags."""

    __slots__ = ("value",)

    def __init__(self, name: object, *_: object):
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise _Refused(f"an array of type {_short(name)}")
        self.value = np.dtype(name)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 6 or state[1] not in ("<", ">", "=", "|"):
            raise _Refused("a broken array type")
        if any(part is not None for part in state[2:5]):
            raise _Refused("a structured array type")
        self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array whose state is checked before NumPy allocates or believes it."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        if self.size or not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("a broken array")
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):  # bytes as Python 2 wrote them
            data = data.encode("latin-1")
        dtype, size = _checked(shape, dtype)
        if dtype.hasobject != isinstance(data, list) or not isinstance(data, (list, bytes)):
            raise _Refused(f"an array of {dtype} whose content is a {type(data).__name__}")
        _fits(data, size if dtype.hasobject else size * dtype.itemsize, shape)
        super().__setstate__((1, shape, dtype, fortran is True or fortran == 1, data))

    def __setitem__(self, key: object, value: object) -> None:
        raise _Refused("an attempt to overwrite an array")


def _checked(shape: object, dtype: object) -> tuple[np.dtype, int]:
    """The dtype and the number of elements of an array that a file describes."""
    if not isinstance(dtype, _Dtype):
        raise _Refused("an array without a type")
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused(f"an array of shape {_short(shape)}")
    return dtype.value, math.prod(shape)


def _fits(data: list | bytes | bytearray, size: int, shape: tuple) -> None:
    if len(data) != size:
        unit = "elements" if isinstance(data, list) else "bytes"
        raise _Refused(f"an array of shape {_short(shape)} with {len(data)} {unit} where {size} belong")


def _ndarray(*_: object) -> None:
    raise _Refused("a call of numpy.ndarray")


def _reconstruct(subtype: object, *_: object) -> _Array:
    if subtype is not _ALLOWED["numpy", "ndarray"]:
        raise _Refused("an array subclass")
    return np.empty(0, np.int8).view(_Array)


def _frombuffer(data: object, dtype: object, shape: object, order: object, *_: object) -> _Array:
    """The form of protocol 5."""
    plain, size = _checked(shape, dtype)
    if plain.hasobject or not isinstance(data, (bytes, bytearray)) or order not in ("C", "F"):
        raise _Refused(f"an array of {plain} whose content is a {type(data).__name__}")
    _fits(data, size * plain.itemsize, shape)
    flat = np.frombuffer(data, plain) if len(data) else np.empty(size, plain)
    return flat.reshape(shape, order=order).view(_Array)


def _scalar(dtype: object, data: object = b"") -> object:
    plain, _ = _checked((), dtype)
    if isinstance(data, str):
        data = data.encode("latin-1")
    if plain.hasobject or not isinstance(data, bytes):
        raise _Refused(f"a number of type {plain} whose content is a {type(data).__name__}")
    _fits(data, plain.itemsize, ())
    return np.frombuffer(data, plain)[0].item() if data else plain.type().item()


def _encode(text: object, encoding: object = None) -> bytes:
    """Bytes as protocols 0 to 2 write them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("a call of _codecs.encode with other than Latin-1 text")
    return text.encode("latin-1")


def _empty_bytes(*args: object) -> bytes:
    if args:
        raise _Refused("a call of bytes with arguments")
    return b""


def _container(kind: type) -> Callable:
    def make(items: object = ()) -> object:
        if not isinstance(items, (list, tuple)):
            raise _Refused(f"a {kind.__name__} made of a {type(items).__name__}")
        return kind(items)

    return make


def _default_dict(*_: object) -> dict:
    return {}  # what it makes of a key that it lacks is of no interest


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


_ALLOWED = {
    ("numpy", "ndarray"): _Allowed(_ndarray),
    ("numpy", "dtype"): _Allowed(_Dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Allowed(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Allowed(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Allowed(_frombuffer),
    ("_codecs", "encode"): _Allowed(_encode),
    ("builtins", "bytes"): _Allowed(_empty_bytes),
    ("builtins", "set"): _Allowed(_container(set)),
    ("builtins", "frozenset"): _Allowed(_container(frozenset)),
    ("builtins", "list"): _Allowed(_container(list)),
    ("collections", "OrderedDict"): _Allowed(_container(dict)),
    ("collections", "defaultdict"): _Allowed(_default_dict),
}
