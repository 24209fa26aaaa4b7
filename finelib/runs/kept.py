"""What took long to measure is kept in a file, and measured again when what it was made of has changed."""

import json
from collections.abc import Callable
from pathlib import Path

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


def _read(path: Path) -> dict:
    """The object in a JSON file, empty where there is none."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
