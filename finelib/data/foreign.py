"""What a file is that is given for a pickle of arrays, and the way out."""

import json
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

START = 1024  # bytes that tell


class Foreign(NamedTuple):
    """found: what the file is; way_out: what to do about it, "" where that is not known."""

    found: str
    way_out: str


_UNPACK = "unpack it and give the .pkl that is inside"
_TENSORS = "in Python: x = torch.load(FILE), then pickle.dump x with .numpy() called on every tensor"
_TABLE = "write a pickle of a dictionary of NumPy arrays from it; data/README.md says with which fields"
_AGAIN = "download the file itself again"
_HTML = Foreign("a web page", f"it is a login, a warning or an error saved in place of the file: {_AGAIN} in a browser")
_LFS = Foreign("a Git LFS pointer", "it names the file and does not hold it: run 'git lfs pull' where it comes from")
_ANNEX = Foreign("a git-annex pointer", "it names the file and does not hold it: run 'git annex get FILE' there")
_OLD_TORCH = Foreign("a file of torch.save in its old format", _TENSORS)
_HDF5 = Foreign("an HDF5 file (.h5, .hdf5, .csd or .mat)", f"expected is the .pkl of the same corpus, or {_TABLE}")
_MAT = Foreign("a MATLAB file", f"in Python: scipy.io.loadmat(FILE), then {_TABLE}")
_MAGIC = {  # no pickle that can be read begins with any of these
    b"\x1f\x8b": Foreign("a gzip file", "unpack it first: gunzip -c FILE > NEW.pkl"),
    b"BZh": Foreign("a bzip2 file", "unpack it first: bunzip2 -c FILE > NEW.pkl"),
    b"\xfd7zXZ\x00": Foreign("an xz file", "unpack it first: xz -dc FILE > NEW.pkl"),
    b"\x28\xb5\x2f\xfd": Foreign("a Zstandard file", "unpack it first: zstd -dc FILE > NEW.pkl"),
    b"7z\xbc\xaf\x27\x1c": Foreign("a 7-Zip archive", _UNPACK),
    b"Rar!": Foreign("a RAR archive", _UNPACK),
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": _OLD_TORCH,
    b"\x89HDF\r\n\x1a\n": _HDF5,
    b"MATLAB 7.3": _HDF5,
    b"MATLAB 5.0": _MAT,
    b"version https://git-lfs": _LFS,
    b"version https://hawser": _LFS,
    b"/annex/objects/": _ANNEX,
    b"\x93NUMPY": Foreign("a NumPy array (.npy)", f"in Python: numpy.load(FILE), then {_TABLE}"),
    b"PAR1": Foreign("a Parquet table", f"in Python: pandas.read_parquet(FILE), then {_TABLE}"),
    b"ARROW1": Foreign("an Arrow table", f"in Python: pandas.read_feather(FILE), then {_TABLE}"),
    b"%PDF": Foreign("a PDF", _AGAIN),
    b"SQLite format 3": Foreign("an SQLite database", _TABLE),
}
_ANNEX_LINK = re.compile(rb"(\.\./)*\.git/annex/objects/")  # a link that was written as a file
_OLD_PICKLE = re.compile(rb"\(|c[\w.]+\n[\w.]+\n")  # containers and arrays of protocol 0, which is text
_INSIDE = {  # first part of a module's name -> what to do with its objects before they are pickled
    "torch": "call .numpy() on every tensor before pickling",
    "pandas": "call .to_numpy() on every pandas object, or .to_dict(), before pickling",
    "pathlib": "pickle str(path) in place of the path",
    "datetime": "pickle the text .isoformat() in place of the date",
    "numpy.random": "leave the random state out",
    "numpy.ma": "call .filled() on every masked array before pickling",
    "numpy": "call numpy.asarray on every such object before pickling",
    "scipy": "call .toarray() on every sparse matrix before pickling",
    "joblib": "in Python: x = joblib.load(FILE), then pickle.dump x",
    "collections": "call dict or list on every such object before pickling",
    "__main__": "pickle dictionaries and arrays in place of objects of a class of your own",
}


def of_start(path: Path, start: bytes) -> Foreign | None:
    """What a file certainly is by its first 1024 bytes, None where it may be a pickle."""
    for magic, foreign in _MAGIC.items():
        if start.startswith(magic):
            return foreign
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    if start[257:262] == b"ustar":
        return Foreign("a tar archive", _UNPACK)
    if start[512:520] == b"\x89HDF\r\n\x1a\n":
        return _HDF5
    if _ANNEX_LINK.match(start):
        return _ANNEX
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return _HTML
    return None


def _zip(path: Path) -> Foreign:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Foreign("a zip archive that is damaged", _AGAIN)
    if any(name.endswith("/data.pkl") for name in names):
        return Foreign("a file of torch.save", _TENSORS)
    if names and all(name.endswith(".npy") for name in names):
        return Foreign("NumPy arrays (.npz)", f"in Python: numpy.load(FILE), then {_TABLE}")
    return Foreign("a zip archive", _UNPACK)


def of_text(start: bytes, whole: bool) -> Foreign | None:
    """What a file that could not be unpickled is, if its first bytes are text; ``whole``: they are all of it."""
    if _OLD_PICKLE.match(start):
        return None
    try:
        text = start.decode("utf-8-sig", "strict" if whole else "ignore").strip()
    except UnicodeDecodeError:
        return None
    if not text or not all(c.isprintable() or c.isspace() for c in text):
        return None
    if text.startswith(("{", "[")):
        return Foreign("JSON text", f"in Python: json.load(open(FILE)), then {_TABLE}")
    line = json.dumps(text.splitlines()[0][:40], ensure_ascii=False)
    return Foreign(f"a text that begins with {line}", f"if it is a table (.csv), {_TABLE}; if not, {_AGAIN}")


def of_name(module: str) -> str:
    """What to do about an object of a module's class inside a pickle; "" where that is not known."""
    return next((way for start, way in _INSIDE.items() if f"{module}.".startswith(f"{start}.")), "")
