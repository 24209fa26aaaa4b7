"""Fields in every container, type and shape that can mean one thing only; what a refused shape probably is.

``where`` names file, split and field in the sentence of a ``DataError``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from finelib.data import checks, real_frames
from finelib.data.safe_pickle import DataError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "dev", "val", "validation"),
    "test": ("test", "testing"),
}


class Sequences(NamedTuple):
    """N sequences of frames.

    Attributes:
        values: (N, T, d), padded; or (S, d), the frames of ragged sequences one after another.
        held: None where padded; else (N, T), True on the frames that a ragged sequence has.
    """

    values: np.ndarray
    held: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, T), T the frames of the longest."""
        return self.values.shape[:2] if self.held is None else self.held.shape

    def filled(self, where: str) -> np.ndarray:
        """(N, T) True where a frame is not all zero. NaN counts as filled, except in files that pad with it.

        Raises:
            DataError: there are numbers and every one of them is padding by NaN.
        """
        some = self._frames(np.any)
        edges = self.values[:, [0, -1]] if self.held is None else self.values[:0, None]
        if edges.dtype.kind == "f" and np.isnan(edges).all(2).any():
            some &= ~self._frames(lambda values, axis: np.isnan(values).all(axis))
            if not some.any():
                raise DataError(f"{where}: found no finite value, expected features")
        return some

    def _frames(self, of: Callable) -> np.ndarray:
        """(N, T) what ``of`` says of each frame; False where there is none."""
        if self.held is None:
            return of(self.values, axis=2)
        found = np.zeros(self.held.shape, bool)
        found[self.held] = of(self.values, axis=1)
        return found

    def take(self, mask: np.ndarray) -> np.ndarray:
        """The frames that ``mask`` (N, T) marks, (S, d)."""
        return self.values[mask if self.held is None else mask[self.held]]


def sequences(value: object, where: str, count: int) -> Sequences:
    """``count`` sequences of one width: an array (N, T, d), nested lists, or arrays (T_i, d) in a list or an array.

    Raises:
        DataError: not numeric, or of another shape.
    """
    try:
        array = checks.as_numbers(value)
    except (TypeError, ValueError):
        return _ragged(value, where, count)
    if array.ndim == 4:
        array = _without_an_axis(array, count)
    if array.ndim != 3 or len(array) != count:
        meant = _meaning(array.shape, count)
        raise DataError(f"{where}: found shape {checks.shape_text(array.shape)}{meant}, expected ({count}, any, any)")
    if not array.size:
        raise DataError(f"{where}: found shape {checks.shape_text(array.shape)}, expected frames and columns")
    return Sequences(array)


def _ragged(value: object, where: str, count: int) -> Sequences:
    try:
        rows = [checks.as_numbers([] if row is None else row) for row in value]
    except (TypeError, ValueError):
        found = f"{where}: found {checks.kind_of(value)}"
        raise DataError(f"{found}, expected numbers of shape ({count}, any, any)") from None
    if len(rows) != count:
        raise DataError(f"{where}: found {len(rows)} rows, expected {count}")
    filled = [row for row in rows if row.size]  # the others are utterances without frames
    shapes = {row.shape for row in filled}
    if {len(shape) for shape in shapes} != {2} or len({shape[1] for shape in shapes}) != 1:
        listed = ", ".join(sorted(map(checks.shape_text, shapes))[:3]) or "without frames"
        exchanged = {len(shape) for shape in shapes} == {2} and len({shape[0] for shape in shapes}) == 1
        meant = ", which look like (columns, frames)" if exchanged else ""
        raise DataError(f"{where}: found rows of shape {listed}{meant}, expected (frames, columns) of one width")
    length = np.array([len(row) if row.size else 0 for row in rows])
    return Sequences(np.concatenate(filled), np.arange(length.max()) < length[:, None])


def _without_an_axis(array: np.ndarray, count: int) -> np.ndarray:
    """Four axes as three, where one of length 1 can be left out in one way only."""
    ones = [axis for axis, size in enumerate(array.shape) if size == 1]
    shapes = {tuple(np.delete(array.shape, axis)) for axis in ones}
    fitting = [shape for shape in shapes if shape[0] == count]
    return array.reshape(fitting[0]) if len(fitting) == 1 else array


def _meaning(shape: tuple[int, ...], count: int) -> str:
    if len(shape) == 3 and count in shape[1:]:
        return f", with the utterances on axis {shape.index(count, 1)}"
    if len(shape) == 2 and shape[0] == count:
        return ", one row an utterance and no axis of frames"
    return ""


def ids(value: object, where: str, count: int, split: str) -> tuple[list[str], str]:
    """``count`` ids from texts, bytes, whole numbers or several parts each; and how they were made, "" if as given.

    Numbers that only count the rows of each split get the split's name in front, as ids that are missing do.

    Raises:
        DataError: another number of them, or something that cannot be an id.
    """
    if value is None:
        return [f"{split}_{row}" for row in range(count)], "missing, made of split and row"
    items = checks.items(value, where, count, "ids")
    if all(isinstance(item, float) and item.is_integer() for item in items):  # as many tools keep numbers
        items = [int(item) for item in items]
    found = [_id(item, f"{where}, row {row}") for row, item in enumerate(items)]
    if all(isinstance(item, str) for item in items):
        return found, ""
    if found in ([str(row) for row in range(count)], [str(row + 1) for row in range(count)]):
        return [f"{split}_{row}" for row in found], "row numbers, made of split and row"
    return found, "" if all(isinstance(item, bytes) for item in items) else "not texts, read as texts"


def _id(item: object, where: str) -> str:
    item = item.tolist() if isinstance(item, np.ndarray) else item
    if isinstance(item, (list, tuple)) and item and not any(isinstance(part, (list, tuple)) for part in item):
        first, *more = (_id(part, where) for part in item)
        return f"{first}$_${'_'.join(more)}" if more else first
    return id_text(item, where)


def id_text(item: object, where: str) -> str:
    """An id that is a text, bytes or a whole number as text.

    Raises:
        DataError: it is none of these.
    """
    try:
        if isinstance(item, bytes):
            return item.decode("utf-8")
        if isinstance(item, (str, int, np.integer)) and not isinstance(item, bool):
            return str(item)
    except UnicodeDecodeError:
        pass
    raise DataError(f"{where}: found {checks.kind_of(item)}, expected a text or a whole number as id")


def texts(value: object, where: str, count: int) -> tuple[list[str], str]:
    """``count`` texts, also from lists of their words; and what was altered, "" if nothing.

    Raises:
        DataError: another number of them, or something that is not text.
    """
    if value is None:
        return [""] * count, "missing"
    items, empty, joined = checks.items(value, where, count, "texts"), 0, 0
    for row, item in enumerate(items):
        if item is None or isinstance(item, float) and np.isnan(item):  # as tables have it
            items[row], empty = "", empty + 1
        elif isinstance(item, (list, tuple, np.ndarray)):
            items[row], joined = " ".join(checks.strings(item, f"{where}, row {row}", len(item))), joined + 1
    told = [f"missing in {empty} rows"] * bool(empty) + ["words joined by spaces"] * bool(joined)
    return checks.strings(items, where, count), ", ".join(told)


def turned(sequences: Sequences, length: np.ndarray | None) -> bool:
    """Whether padded sequences look as if their frames were the columns: these have zeros at an end, as padding has.

    Args:
        length: (N,) the lengths that the file states, which agree with that or are mostly beyond the frames; or None.
    """
    if sequences.held is not None:
        return False
    filled = np.any(sequences.values, axis=1)  # (N, d)
    looked = real_frames.span(filled)
    real = looked.sum(1)
    padded = np.array_equal(filled, looked) and len(set(real)) > 1
    return padded and (length is None or np.array_equal(real, length) or (length > sequences.shape[1]).mean() > 0.5)


def splits(content: object, where: str) -> tuple[dict, dict[str, object], dict[str, str]]:
    """The dictionary of splits in a file's content, the key of each split in it, and what is unusual in that.

    Raises:
        DataError: a split is missing, or there is more than one of a name.
    """
    inner, nested = unwrapped(content, {name for names in SPLIT_NAMES.values() for name in names})
    named = by_name(inner, where) if isinstance(inner, dict) else {}
    keys, unusual = {}, {"splits": "nested one level deeper"} if nested else {}
    for s, names in SPLIT_NAMES.items():
        found = [name for name in names if name in named]
        if len(found) > 1:
            raise DataError(f"{where}: found both {found[0]!r} and {found[1]!r}, expected one {s} split")
        if not found:
            checks.field(inner, s, where)  # says what there is
        keys[s] = named[found[0]]
        if keys[s] != s:
            unusual[s] = f"called {keys[s]!r}"
    return inner, keys, unusual


def unwrapped(value: object, names: set[str]) -> tuple[object, bool]:
    """What lies in a container of one dictionary, unless it has one of the ``names`` itself; and whether it did."""
    inner = list(value.values() if isinstance(value, dict) else value) if isinstance(value, (dict, list, tuple)) else []
    if len(inner) == 1 and isinstance(inner[0], dict):
        if not isinstance(value, dict) or not names & {_name(key) for key in value}:
            return inner[0], True
    return value, False


def by_name(container: dict, where: str) -> dict[str, object]:
    """Name in small letters -> key as it is.

    Raises:
        DataError: two keys have the same name.
    """
    named = {_name(key): key for key in container}
    if len(named) != len(container):
        listed = ", ".join(map(repr, list(container)[:20]))
        raise DataError(f"{where}: found {listed}, some of which are one name, expected each once")
    return named


def _name(key: object) -> str:
    return (key.decode("latin-1") if isinstance(key, bytes) else str(key)).lower()
