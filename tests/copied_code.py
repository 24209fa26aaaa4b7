"""The library's code, read from a copy in place of the real one, for what depends on it."""

from pathlib import Path

import pytest

from finelib.runs import code
from finelib.runs.options import ROOT

PARSED: dict[str, tuple] = {}  # of a text; parsing takes longest


def read_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module is read from ``folder``, a copy of the checkout, as it is at that moment."""
    real, parse = code._path, code._parsed.__wrapped__

    def path(name):
        found = real(name)
        return found and folder / found.relative_to(ROOT)

    def parsed(path):
        text = path.read_text(encoding="utf-8")
        if text not in PARSED:
            PARSED[text] = parse(path)
        return PARSED[text]

    monkeypatch.setattr(code, "_path", path)
    monkeypatch.setattr(code, "_parsed", parsed)
