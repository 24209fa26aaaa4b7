"""Hostile pickles: every way an opcode can call, with several things to call, in several places; none is run.

Each file is live: Python's own unpickler runs it. fickling gives a second opinion on it, and on honest files.
"""

import copyreg
import io
import pickle
import pickletools
import subprocess
import sys
import time

import numpy as np
import pytest
from fickling.analysis import check_safety
from fickling.fickle import Pickled
from hostile_files import HOSTILE, REFUSED
from make_files import dump, mmsa_content

from finelib.data import conversion, mmsa, sources
from finelib.data.corpora import CORPORA
from finelib.data.safe_pickle import _ALLOWED, DataError, load_pickle

MOSI = CORPORA["mosi"]
CALLS = {  # what is called -> its arguments; each makes the file or folder that is named
    ("os", "mkdir"): lambda marker: (marker,),
    ("posix", "mkdir"): lambda marker: (marker,),
    ("os", "system"): lambda marker: (f"mkdir '{marker}'",),
    ("subprocess", "call"): lambda marker: (["mkdir", marker],),
    ("builtins", "exec"): lambda marker: (f"import os; os.mkdir({marker!r})",),
    ("builtins", "eval"): lambda marker: (f"__import__('os').mkdir({marker!r})",),
    ("builtins", "open"): lambda marker: (marker, "w"),
    ("timeit", "timeit"): lambda marker: (f"import os; os.mkdir({marker!r})",),
}


def plain(value) -> bytes:
    """The opcodes of a plain value, without PROTO and STOP."""
    return pickle.dumps(value, 2)[2:-1]


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def reduced(name, args) -> bytes:
    return b"c" + "\n".join(name).encode() + b"\n" + plain(args) + b"R"


def extension(opcode: bytes):
    return lambda name, args: opcode + plain(args) + b"R"


CODES = {
    "GLOBAL, REDUCE": reduced,
    "STACK_GLOBAL, REDUCE": lambda name, args: plain(name[0]) + plain(name[1]) + b"\x93" + plain(args) + b"R",
    "STACK_GLOBAL from the memo": lambda name, args: (
        text(name[0]) + b"\x94" + text(name[1]) + b"\x940h\x00h\x01\x93" + plain(args) + b"R"
    ),
    "INST": lambda name, args: b"(" + b"".join(map(plain, args)) + b"i" + "\n".join(name).encode() + b"\n",
    "OBJ": lambda name, args: b"(c" + "\n".join(name).encode() + b"\n" + b"".join(map(plain, args)) + b"o",
    "EXT1": extension(b"\x82\xf0"),
    "EXT2": extension(b"\x83\xf0\x00"),
    "EXT4": extension(b"\x84\xf0\x00\x00\x00"),
    "BUILD, a state that is made by a call": lambda name, args: (
        plain(np.arange(3.0))[:-1] + b"0" + reduced(name, args) + b"b"
    ),
    "dictionary key": lambda name, args: b"}" + reduced(name, args) + b"K\x01s",
    "element of a set": lambda name, args: b"\x8f(" + reduced(name, args) + b"\x90",
    "in a list, appended": lambda name, args: b"](" + reduced(name, args) + b"e",
    "argument of NumPy's own function": lambda name, args: b"cnumpy\ndtype\n(" + reduced(name, args) + b"I00\nI01\ntR",
}


class Reduce:
    def __init__(self, name, args):
        self.name, self.args = name, args

    def __reduce__(self):
        module = __import__(self.name[0])
        return getattr(module, self.name[1]), self.args


def in_object_array(name, args):
    return np.array([1, Reduce(name, args)], dtype=object)


def in_nested_object_array(name, args):
    return np.array([None, np.array([Reduce(name, args), "x"], dtype=object)], dtype=object)


def in_a_feature_file(name, args):
    content = mmsa_content(MOSI, (2, 2, 2), widths=(2, 2, 2))
    content["test"]["raw_text"] = in_object_array(name, args)
    return content


FILES = {
    **{way: (lambda n, a, code=code: b"\x80\x04" + code(n, a) + b".") for way, code in CODES.items()},
    **{
        f"{make.__name__}, protocol {protocol}": (lambda n, a, make=make, p=protocol: pickle.dumps(make(n, a), p))
        for make in (in_object_array, in_nested_object_array, in_a_feature_file)
        for protocol in (0, 2, 5)
    },
}


@pytest.mark.parametrize("call", CALLS, ids=".".join)
@pytest.mark.parametrize("way", FILES)
def test_nothing_is_called(tmp_path, way, call):
    marker, path = tmp_path / "ran", tmp_path / "hostile.pkl"
    content = FILES[way](call, CALLS[call](str(marker)))
    path.write_bytes(content)
    copyreg.add_extension(*call, 0xF0)
    try:
        try:
            pickle.loads(content)
        except Exception:  # after the call
            pass
        assert marker.exists(), "a dead payload proves nothing"
        marker.unlink() if marker.is_file() else marker.rmdir()
        with pytest.raises(DataError, match="hostile.pkl: found the name"):
            load_pickle(path)
        assert not marker.exists()
        if "EXT" not in way:  # fickling does not look extension codes up
            assert not safe(content)
    finally:
        copyreg.remove_extension(*call, 0xF0)


def test_every_opcode_that_can_call_is_among_at_least_fifty_files():
    files = [make(call, CALLS[call]("x")) for make in FILES.values() for call in CALLS]
    files += [make("x") for make in HOSTILE.values()] + [REFUSED[name][0] for name in ("PERSID", "BINPERSID")]
    assert len(set(files)) >= 50
    found = {opcode.name for content in files for opcode, *_ in pickletools.genops(content)}
    assert found >= {
        "GLOBAL",
        "STACK_GLOBAL",
        "REDUCE",
        "BUILD",
        "INST",
        "OBJ",
        "NEWOBJ",
        "NEWOBJ_EX",
        "EXT1",
        "EXT2",
        "EXT4",
        "PERSID",
        "BINPERSID",
    }


@pytest.mark.parametrize("name", ["PERSID", "BINPERSID"])
def test_a_persistent_id_calls_whoever_answers_them(name):
    """Python's own unpickler refuses them too, unless it is told to answer: then the file chooses what it is asked."""

    class Answers(pickle.Unpickler):
        asked = []

        def persistent_load(self, pid):
            self.asked.append(pid)

    Answers(io.BytesIO(REFUSED[name][0])).load()
    assert Answers.asked


def safe(content: bytes) -> bool:
    try:
        return check_safety(Pickled.load(io.BytesIO(content))).severity.name == "LIKELY_SAFE"
    except Exception:  # it cannot follow the file
        return False


@pytest.mark.parametrize("layout", [1, 2])
@pytest.mark.parametrize("protocol", [2, 4])
def test_the_second_opinion_finds_no_name_in_honest_files_but_the_allowed_ones(tmp_path, layout, protocol):
    """fickling calls every import that is not Python's own unsafe, NumPy's too, so its list of them is compared."""
    assert safe(pickle.dumps({"plain": [1, "x", (2.5, None)]}, protocol))
    content = {"numbers": np.arange(4.0), "texts": np.array(["a", None], dtype=object), "one": np.float32(2)}
    path = dump(content, tmp_path / "x.pkl", layout, protocol)
    load_pickle(path)
    nodes = Pickled.load(io.BytesIO(path.read_bytes())).properties.imports
    names = {(node.module.replace("numpy._core", "numpy.core"), name.name) for node in nodes for name in node.names}
    assert ("numpy", "dtype") in names and names <= _ALLOWED.keys()


# Files that ask for all memory, or for more stack than there is: what the process that reads is bounded for

BOMBS = {
    "a memo index of 2 ** 30": b"\x80\x02]r\xff\xff\xff\x3f.",
    "tuples in tuples, as a key": b"\x80\x02})" + b"\x85" * 5_000_000 + b"K\x01s.",
    "a string of 2 ** 44 bytes": b"\x80\x04\x8d" + (2**44).to_bytes(8, "little") + b"x.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_asks_for_too_much_is_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[name])
    began = time.monotonic()
    with pytest.raises(DataError, match="bomb.pkl: (found|reading it ended)") as error:
        sources.load("mosi", tmp_path / "bomb.pkl")
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < conversion.CPU_SECONDS  # it is refused before the bound on time ends it


def test_lists_in_lists_are_one_sentence(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02" + b"](" * 200_000 + b"e" * 200_000 + b".")
    with pytest.raises(DataError, match="found a list, expected a dictionary"):
        mmsa.read(path, MOSI)
    content = mmsa_content(MOSI, (2, 2, 2), widths=(2, 2, 2))
    nest = []
    for _ in range(200):
        nest = [nest]
    content["train"]["audio"] = nest
    with pytest.raises(DataError, match="train, audio: found a list, expected numbers"):
        mmsa.read(dump(content, path), MOSI)


@pytest.mark.parametrize(
    ("limit", "task", "status", "said"),
    [
        ("CPU_SECONDS = 1", "while True: pass", -24, ""),  # SIGXCPU
        (
            "CPU_SECONDS = 1",
            "import time, resource as r\nassert r.getrlimit(r.RLIMIT_CPU)[0] - time.process_time() > 1",
            0,
            "",
        ),
        ("MEMORY = 1 << 30", "bytearray(4 << 30)", 1, "MemoryError"),
    ],
)
def test_reading_has_bounds_on_time_and_memory(limit, task, status, said):
    code = f"from finelib.data import conversion\nconversion.{limit}\nconversion._bound(0)\n{task}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == status and said in done.stderr
