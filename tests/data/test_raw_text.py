"""Text that was damaged before it came: mended where there is one reading, counted, else left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_files import dump, mmsa_content, read_here

from finelib.data import raw_text, sources
from finelib.data.corpora import CORPORA
from finelib.data.features import Split


def mended(*texts):
    notes = {}
    split = Split({}, np.zeros(len(texts)), [str(i) for i in range(len(texts))], list(texts))
    found = raw_text.mend({"train": split}, notes)["train"].text
    return found, notes["train"]["text"]


@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
@pytest.mark.parametrize(
    "text", ["café", "naïve façade", "我不喜欢这部电影", "don’t “stop”", "schön 😀", "été déjà vu"]
)
def test_utf8_that_was_read_as_something_else_is_read_again(text, wrong):
    try:
        damaged = text.encode().decode(wrong)
    except UnicodeDecodeError:
        pytest.skip("Windows-1252 has no character for one of the bytes")
    found, counts = mended(damaged, "plain", "")
    assert damaged != text and found == [text, "plain", ""]
    assert counts == {"empty": 1, "re_encoded": 1, "replaced_characters": 0, "control_characters": 0}


@pytest.mark.parametrize("text", ["café", "Ã la carte", "señor Ñ", "我不喜欢", "“don’t”", "naïve Â£", "×÷", "Übung é"])
def test_text_that_is_right_stays(text):
    assert mended(text) == ([text], {"empty": 0, "re_encoded": 0, "replaced_characters": 0, "control_characters": 0})


@given(st.text(st.characters(categories=["L", "P", "Zs"]), max_size=40))
def test_any_text_comes_back_and_mending_twice_is_mending_once(text):
    (once,), _ = mended(text.encode().decode("latin-1"))
    assert once == text or mended(text)[0] == [once]  # a text that looks damaged itself is mended once more


def test_halves_of_characters_are_joined_and_lost_ones_counted():
    found, counts = mended("a \ud83d\ude00", "caf\udcc3\udca9", "x \ud83d", "caf\ufffd", "a\x00b", " \t\n", "\x1bb")
    assert found == ["a 😀", "café", "x \ufffd", "caf\ufffd", "a\x00b", " \t\n", "\x1bb"]
    assert counts == {"empty": 1, "re_encoded": 2, "replaced_characters": 2, "control_characters": 2}
    assert mended("\ud800 y", "\udfff")[0] == ["\ufffd y", "\ufffd"]  # the first and the last of the halves
    assert mended("a b", "a\tb\n")[1]["control_characters"] == 0


def test_python_2_s_text_comes_right_from_the_file_to_the_card(tmp_path, monkeypatch):
    """Python 2 pickled UTF-8 as bytes, which are read as Latin-1."""
    read_here(monkeypatch)
    content = mmsa_content(CORPORA["mosi"])
    content["train"]["raw_text"] = ["café ”now”".encode().decode("latin-1")] + [""] * (len(content["train"]["id"]) - 1)
    loaded = sources.load("mosi", dump(content, tmp_path / "x.pkl"), cache=tmp_path / "cache")
    assert loaded.splits["train"].text[0] == "café ”now”"
    notes = loaded.card["notes"]["train"]["text"]
    assert notes["re_encoded"] == 1 and notes["empty"] == len(loaded.splits["train"]) - 1
