"""Fields in every container, type and shape that can mean one thing only; what a refused shape probably is.

``where`` names file, split and field in the sentence of a ``DataError``.
"""

from typing import NamedTuple

import numpy as np

from finelib.data import checks
from finelib.data.safe_pickle import DataError


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

    def filled(self) -> np.ndarray:
        """(N, T) True where a frame is not all zero; NaN counts as filled."""
        if self.held is None:
            return np.any(self.values, axis=2)
        filled = np.zeros(self.held.shape, bool)
        filled[self.held] = np.any(self.values, axis=1)
        return filled

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
    if not array.shape[2]:
        raise DataError(f"{where}: found shape {checks.shape_text(array.shape)}, expected at least one column")
    return Sequences(array)


def _ragged(value: object, where: str, count: int) -> Sequences:
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) != 1 and isinstance(value, np.ndarray):
        raise DataError(f"{where}: found {checks.kind_of(value)}, expected numbers of shape ({count}, any, any)")
    if len(value) != count:
        raise DataError(f"{where}: found {len(value)} rows, expected {count}")
    try:
        rows = [None if row is None else checks.as_numbers(row) for row in value]
    except (TypeError, ValueError):
        raise DataError(f"{where}: found {checks.kind_of(value)}, expected numbers of shape ({count}, any, any)") from None
    rows = [None if row is None or not row.size else row for row in rows]  # an utterance without frames
    shapes = {row.shape for row in rows if row is not None}
    if not shapes or any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) != 1:
        turned = len(shapes) > 1 and all(len(shape) == 2 for shape in shapes) and len({shape[0] for shape in shapes}) == 1
        meant = ", which look like (columns, frames)" if turned else ""
        found = f"rows of shapes {', '.join(sorted(map(checks.shape_text, shapes))[:3]) or 'without frames'}"
        raise DataError(f"{where}: found {found}{meant}, expected (frames, columns) of one width")
    length = np.array([0 if row is None else len(row) for row in rows])
    return Sequences(
        np.concatenate([row for row in rows if row is not None]), np.arange(length.max()) < length[:, None]
    )


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
        return [f"{split}_{row}" for row in range(count)], f"missing, {split}_0, {split}_1, ... made"
    items = checks.items(value, where, count, "ids")
    if all(isinstance(item, float) and item.is_integer() for item in items):  # as many tools keep numbers
        items = [int(item) for item in items]
    found = [_id(item, f"{where}, row {row}") for row, item in enumerate(items)]
    if all(isinstance(item, str) for item in items):
        return found, ""
    if found in ([str(row) for row in range(count)], [str(row + 1) for row in range(count)]):
        return [f"{split}_{row}" for row in found], f"row numbers, read as {split}_{found[0]}, ..."
    return found, "" if all(isinstance(item, bytes) for item in items) else "not texts, read as texts"


def _id(item: object, where: str) -> str:
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
    items = checks.items(value, where, count, "texts")
    absent = [item is None or (isinstance(item, float) and np.isnan(item)) for item in items]
    words = [isinstance(item, (list, tuple)) for item in items]
    plain = ["" if a else " ".join(checks.strings(i, where, len(i))) if w else i for i, a, w in zip(items, absent, words)]
    told = [f"{sum(absent)} empty ones" * any(absent), "words joined by spaces" * any(words)]
    return checks.strings(plain, where, count), ", ".join(filter(None, told))


def turned(sequences: Sequences, length: np.ndarray | None) -> bool:
    """Whether padded sequences look as if their frames were the columns: there, each ends in zeros of its own.

    Args:
        length: (N,) the lengths that the file states, which the zeros must agree with; None if it states none.
    """
    if sequences.held is not None:
        return False
    filled = np.any(sequences.values, axis=1)  # (N, d)
    end = np.where(filled.any(1), filled.shape[1] - filled[:, ::-1].argmax(1), 0)
    prefix = np.array_equal(filled, np.arange(filled.shape[1]) < end[:, None])
    return prefix and len(set(end)) > 1 and (length is None or np.array_equal(end, length))
