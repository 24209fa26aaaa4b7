"""A kept value is the one that was made with the same key, and nothing else."""

import json

import pytest

from finelib.runs.kept import as_left, kept, leave


def never():
    pytest.fail("made again")


def test_a_value_is_made_once_for_a_key(tmp_path):
    path = tmp_path / "figures" / "value.json"
    first = kept(path, "a", lambda: {"pair": (1, 2.5), "none": None})
    assert first == {"pair": [1, 2.5], "none": None}  # as JSON gives it back
    assert kept(path, "a", never) == first
    assert json.loads(path.read_text()) == {"key": "a"} | first


def test_another_key_makes_another_value(tmp_path):
    path = tmp_path / "value.json"
    kept(path, "a", lambda: {"x": 1})
    assert kept(path, "b", lambda: {"x": 2}) == {"x": 2}
    assert kept(path, "b", never) == {"x": 2}
    with pytest.raises(pytest.fail.Exception):
        kept(path, "a", never)


@pytest.mark.parametrize("content", ["", "{", "[1]", '"a"', '{"x": 1}', '{"key": null, "x": 1}'])
def test_a_file_that_is_no_kept_value_is_replaced(tmp_path, content):
    path = tmp_path / "value.json"
    path.write_text(content)
    assert kept(path, "a", lambda: {"x": 2}) == {"x": 2}
    assert kept(path, "a", never) == {"x": 2}


def test_the_old_value_stays_where_a_new_one_cannot_be_made(tmp_path):
    path = tmp_path / "value.json"
    kept(path, "a", lambda: {"x": 1})
    with pytest.raises(ZeroDivisionError):
        kept(path, "b", lambda: {"x": 1 / 0})
    with pytest.raises(TypeError):
        kept(path, "b", lambda: {"x": object()})
    assert kept(path, "a", never) == {"x": 1} and [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_value_with_a_key_of_its_own_is_refused(tmp_path):
    with pytest.raises(ValueError, match="value.json: found an entry 'key'"):
        kept(tmp_path / "value.json", "a", lambda: {"key": 1})


def test_files_are_as_they_were_left_until_one_changes_or_goes_or_the_key_does(tmp_path):
    note, files = tmp_path / "notes" / "step.json", [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("content")
    assert not as_left(note, "key")
    leave(note, "key", files)
    assert as_left(note, "key") and not as_left(note, "other")
    files[1].write_text("Content")
    assert not as_left(note, "key")
    files[1].write_text("content")
    assert as_left(note, "key")
    files[0].unlink()
    assert not as_left(note, "key")


@pytest.mark.parametrize("content", ["", "[]", '{"key": "key"}', '{"key": "key", "files": [1]}', '{"files": {}}'])
def test_a_damaged_note_is_none(tmp_path, content):
    (tmp_path / "note.json").write_text(content)
    assert not as_left(tmp_path / "note.json", "key")


def test_what_is_not_there_cannot_be_noted(tmp_path):
    with pytest.raises(OSError):
        leave(tmp_path / "note.json", "key", [tmp_path / "none"])
    assert not (tmp_path / "note.json").exists()
