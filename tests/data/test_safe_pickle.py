"""The unpickler: what it reads, and that nothing in a file is ever run."""

import copyreg
import pickle

import numpy as np
import pytest
from hostile_files import CONTENT, HOSTILE, REFUSED
from make_files import dump

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
