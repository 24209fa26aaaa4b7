"""What took long to make is kept in files, and made again when what it was made of has changed."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from finelib.data import store
from finelib.runs.records import write_atomically


def kept(path: Path, key: str, make: Callable[[], dict]) -> dict:
    """The JSON object in ``path`` if it was made with this ``key``, else the one that ``make()`` returns.

    A new object is written to ``path`` in one move, with "key" as its first entry; a file that is no JSON object is
    replaced. What is returned has been through JSON in both cases (tuples are lists) and is without the key.

    Args:
        key: a hash of all that the object depends on: settings, run ids, code (``records.code_hash``).

    Raises:
        ValueError: the object has an entry "key" of its own.
        OSError: the file cannot be written.
    """
    content = _read(path)
    if content.get("key") != key:
        made = make()
        if "key" in made:
            raise ValueError(f"{path}: found an entry 'key' in the value, expected it to be free for the key")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": key} | made, indent=1)
        write_atomically(path, text)
        content = json.loads(text)
    return {name: value for name, value in content.items() if name != "key"}


def as_left(note: Path, key: str) -> bool:
    """Whether ``leave`` noted this ``key``, and every file noted with it is there with the content that it had."""
    content = _read(note)
    try:
        return content.get("key") == key and all(store.checksum(Path(p)) == c for p, c in content["files"].items())
    except (OSError, KeyError, AttributeError, TypeError):
        return False


def leave(note: Path, key: str, files: Iterable[Path]) -> None:
    """Note, in one move, the files that a step has written and the ``key`` of all that they depend on.

    Raises:
        OSError: a file is not there, or the note cannot be written.
    """
    note.parent.mkdir(parents=True, exist_ok=True)
    content = {"key": key, "files": {str(path): store.checksum(path) for path in files}}
    write_atomically(note, json.dumps(content, indent=1))


def _read(path: Path) -> dict:
    """The object in a JSON file, empty where there is none."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
