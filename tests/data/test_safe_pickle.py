"""The unpickler: what it reads, and that nothing in a file is ever run."""

import bz2
import copyreg
import gzip
import io
import json
import lzma
import pickle
import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hostile_files import CONTENT, HOSTILE, REFUSED
from make_files import dump

from finelib.data import foreign
from finelib.data.safe_pickle import _ALLOWED, DataError, load_pickle


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


# What a file is that was given for a pickle, and what to do about it


def torch_file(zipped):
    buffer = io.BytesIO()
    torch.save({"audio": torch.zeros(2, 3)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def numpy_file(save, *arrays):
    buffer = io.BytesIO()
    save(buffer, *arrays)
    return buffer.getvalue()


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"x")
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("a.pkl"))
    return buffer.getvalue()


def hdf5():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["data"] = np.zeros(3)
    return buffer.getvalue()


def table(write):
    buffer = io.BytesIO()
    getattr(pd.DataFrame({"id": ["a"], "label": [1.0]}), write)(buffer)
    return buffer.getvalue()


PICKLE = pickle.dumps({"train": np.zeros(3)})
FOREIGN = {
    "gzip": (gzip.compress(PICKLE), "a gzip file", "gunzip"),
    "bzip2": (bz2.compress(PICKLE), "a bzip2 file", "bunzip2"),
    "xz": (lzma.compress(PICKLE), "an xz file", "xz -dc"),
    "zip": (zipped("aligned_50.pkl"), "a zip archive", "unpack it"),
    "an empty zip": (b"PK\x05\x06" + bytes(18), "a zip archive", "unpack it"),
    "half a zip": (zipped("aligned_50.pkl")[:40], "a zip archive that is damaged", "download"),
    "tar": (tarred(), "a tar archive", "unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(30), "a 7-Zip archive", "unpack it"),
    "torch": (torch_file(True), "a file of torch.save,", r"\.numpy\(\)"),
    "torch, old format": (torch_file(False), "a file of torch.save in its old format", r"\.numpy\(\)"),
    "HDF5": (hdf5(), "an HDF5 file", r"the \.pkl of the same corpus"),
    "HDF5 behind a header": (b"MATLAB 7.3 MAT-file".ljust(512) + hdf5(), "an HDF5 file", r"\.pkl"),
    "HDF5 after 512 bytes": (bytes(512) + hdf5(), "an HDF5 file", r"\.pkl"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128), "a MATLAB file", r"scipy\.io\.loadmat"),
    "npy": (numpy_file(np.save, np.zeros(3)), "a NumPy array", r"numpy\.load"),
    "npz": (numpy_file(np.savez, np.zeros(3), np.ones(2)), r"NumPy arrays \(\.npz\)", r"numpy\.load"),
    "Parquet": (b"PAR1" + bytes(20) + b"PAR1", "a Parquet table", "read_parquet"),
    "CSV": (b"id,text,label\n1,a,2\n", 'a text that begins with "id,text,label"', r"\.csv"),
    "CSV, c": (b"clip,text\nx,caf\xc3\xa9\n" * 200, 'begins with "clip,text"', r"\.csv"),
    "CSV, P": (b"Path,label\nx,1\n", 'begins with "Path,label"', r"\.csv"),
    "CSV, U": (b"Utterance,label\nx,1\n", 'begins with "Utterance,label"', r"\.csv"),
    "CSV of pandas": (table("to_csv"), 'begins with ",id,label"', r"\.csv"),
    "JSON": (json.dumps({"train": {"id": ["a"]}}).encode(), "JSON text", r"json\.load"),
    "JSON, a list": (b"\xef\xbb\xbf[1, 2]", "JSON text", r"json\.load"),
    "HTML": (b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>", "a web page", "browser"),
    "HTML, short": (b"<html>\r\n<head><title>404", "a web page", "download the file itself again"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer", "git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s123--abc.pkl\n", "a git-annex pointer", "git annex get"),
    "git-annex, a link": (b"../.git/annex/objects/Wx/f0/SHA256E-s123--abc.pkl", "a git-annex pointer", "git annex get"),
    "half a pickle": (PICKLE[:-30], "a file that ends in the middle", "again"),
    "nothing": (b"", "an empty file", "again"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_kind_of_file_is_named_with_the_way_out(tmp_path, name):
    content, found, way_out = FOREIGN[name]
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.pkl: found .*{found}") as error:
        load_pickle(tmp_path / "x.pkl")
    sentence = str(error.value)
    assert re.search(rf"expected a pickle of plain containers and NumPy arrays; .*{way_out}", sentence)
    assert "\n" not in sentence and len(sentence) < 400 + len(str(tmp_path))


def test_text_is_text_to_its_last_byte():
    assert foreign.of_text(("é" * 50).encode(), True).found == 'a text that begins with "' + "é" * 40 + '"'
    cut = "id,café".encode()[:-1]  # no fault where the file goes on
    assert "id,caf" in foreign.of_text(cut, False).found and foreign.of_text(cut, True) is None
    assert foreign.of_name("nobody.knows") == ""


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_pickle_that_holds_the_beginning_of_another_kind_of_file_is_a_pickle(tmp_path, name, protocol):
    held = [FOREIGN[name][0], FOREIGN[name][0].decode("latin1")]
    assert load_pickle(dump(held, tmp_path / "x.pkl", protocol=protocol)) == pickle.loads(
        (tmp_path / "x.pkl").read_bytes(), encoding="latin1"
    )


INSIDE = {
    "a tensor": (torch.zeros(2), r"torch\._utils", r"\.numpy\(\)"),
    "a parameter": (torch.nn.Parameter(torch.zeros(2)), "torch", r"\.numpy\(\)"),
    "a data frame": (pd.DataFrame({"x": [1.0]}), "pandas", r"\.to_numpy\(\)"),
    "a series": (pd.Series([1.0]), "pandas", r"\.to_numpy\(\)"),
    "a path": (Path("a"), "pathlib", r"str\(path\)"),
    "a date": (datetime(2026, 1, 2), "datetime", r"\.isoformat\(\)"),
    "a random state": (np.random.default_rng(0), r"numpy\.random", "leave the random state out"),
    "a masked array": (np.ma.array([1.0, 2.0], mask=[0, 1]), r"numpy\.ma", r"\.filled\(\)"),
    "a sparse matrix": (scipy.sparse.eye(2).tocsr(), "scipy", r"\.toarray\(\)"),
    "a counter": (Counter("ab"), "collections", "dict or list"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", INSIDE)
def test_what_is_no_array_inside_is_named_with_the_way_out(tmp_path, name, protocol):
    value, found, way_out = INSIDE[name]
    path = dump({"train": {"audio": [value]}}, tmp_path / "x.pkl", protocol=protocol)
    with pytest.raises(DataError, match=f"found the name {found}.*, which was not looked up, expected .*; .*{way_out}"):
        load_pickle(path)


def test_an_object_of_a_class_of_ones_own_is_named_with_the_way_out(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02c__main__\nSample\n)\x81.")
    with pytest.raises(DataError, match="found the name __main__.Sample, .*; pickle dictionaries and arrays"):
        load_pickle(tmp_path / "x.pkl")


def test_a_dictionary_with_defaults_is_a_dictionary(tmp_path):
    value = defaultdict(list, {"a": [1, 2], "b": np.arange(2)})
    read = load_pickle(dump(value, tmp_path / "x.pkl"))
    assert type(read) is dict and read["a"] == [1, 2] and read["b"].tolist() == [0, 1] and "c" not in read
