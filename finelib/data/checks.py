"""The checks that every reader makes of a field. ``where`` names file, split and field in the sentence."""

from collections import Counter

import numpy as np

from finelib.data.corpora import CorpusInfo
from finelib.data.safe_pickle import DataError


def numbers(value: object, where: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array or nested lists as a numeric array, not copied where that is not needed; None in ``shape`` is any size.

    Raises:
        DataError: not numeric, or of another shape.
    """
    try:
        array = as_numbers(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: found {kind_of(value)}, expected numbers of shape {shape_text(shape)}") from None
    if array.ndim != len(shape) or any(w not in (None, n) for n, w in zip(array.shape, shape, strict=True)):
        raise DataError(f"{where}: found shape {shape_text(array.shape)}, expected {shape_text(shape)}")
    return array


def as_numbers(value: object) -> np.ndarray:
    """An array or nested lists as a numeric array of whatever shape, not copied where that is not needed.

    Raises:
        TypeError, ValueError: not numeric, or rows of different lengths.
    """
    array = np.asarray(value)
    if array.dtype.kind == "O" and array.ndim == 1 and any(isinstance(v, (np.ndarray, list, tuple)) for v in array):
        array = np.asarray(list(array))  # rows kept as objects; of one shape, they are an array
    if array.dtype.kind not in "fiub":  # numbers in an array of objects are numbers; texts and complex ones are not
        array = np.array([float(_number(v)) for v in array.flat], np.float64).reshape(array.shape)
    return array


def vector(value: object, where: str, count: int | None = None) -> np.ndarray:
    """Numbers (N,), also from a column (N, 1) or a row (1, N).

    Raises:
        DataError: not numeric, of another shape, or another number than ``count``.
    """
    try:
        array = as_numbers(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: found {kind_of(value)}, expected numbers of shape {shape_text((count,))}") from None
    if array.ndim > 1 and array.size == max(array.shape):
        array = array.reshape(-1)
    if array.ndim != 1 or count not in (None, len(array)):
        meant = ""
        if array.ndim == 2 and array.shape[1] == 7:
            meant = ", CMU-MOSEI's sentiment and six emotions, or seven classes"
        elif array.ndim == 2:
            meant = ", one column a class or rater"
        raise DataError(f"{where}: found shape {shape_text(array.shape)}{meant}, expected {shape_text((count,))}")
    return array


def _number(value: object) -> object:
    if isinstance(value, (str, bytes, complex, np.complexfloating)):
        raise TypeError("not a number")
    return value


def strings(value: object, where: str, count: int) -> list[str]:
    """``count`` texts, from a list or an array.

    Raises:
        DataError: another number of them, or something that is not text.
    """
    found = items(value, where, count, "texts")
    try:
        found = [item.decode("utf-8") if isinstance(item, bytes) else item for item in found]
    except ValueError:
        raise DataError(f"{where}: found {kind_of(value)}, expected {count} texts") from None
    for row, item in enumerate(found):
        if not isinstance(item, str):
            raise DataError(f"{where}: found {kind_of(item)} in row {row}, expected text")
    return found


def items(value: object, where: str, count: int, kind: str) -> list:
    """``count`` things of some ``kind``, from a list, a tuple or an array; from a column (N, 1) or a row (1, N) too.

    Raises:
        DataError: not such a container, or another number of them.
    """
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0:
        raise DataError(f"{where}: found {kind_of(value)}, expected {count} {kind}")
    if isinstance(value, np.ndarray) and value.size == count:
        value = value.reshape(-1)
    found = [item.tolist() if isinstance(item, np.generic) else item for item in value]
    if found and all(isinstance(item, (list, tuple)) and len(item) == 1 for item in found):
        found = [item[0] for item in found]
    if len(found) != count:
        raise DataError(f"{where}: found {len(found)} rows, expected {count}")
    return found


def labels(value: object, where: str, info: CorpusInfo, count: int | None = None) -> np.ndarray:
    """Labels (N,) float32 within the corpus's range.

    Raises:
        DataError: empty, another number than ``count``, NaN, or out of range.
    """
    array = vector(value, where, count).astype(np.float64)
    if not len(array):
        raise DataError(f"{where}: found no rows, expected at least one")
    wrong = np.flatnonzero(~((array >= info.label_low - 1e-6) & (array <= info.label_high + 1e-6)))
    if len(wrong):
        expected = f"labels in [{info.label_low:g}, {info.label_high:g}]"
        raise DataError(f"{where}: found {array[wrong[0]]:g} in row {wrong[0]}, expected {expected}")
    return array.astype(np.float32)


def lengths(value: object, where: str, count: int, longest: int | None = None) -> np.ndarray:
    """Whole numbers (N,) int64 that are not negative, such as sequence lengths; up to ``longest`` if it is given.

    Raises:
        DataError: another number of them, not whole numbers, or out of range.
    """
    array = vector(value, where, count)
    exact = array.astype(np.float64)  # half precision knows no large numbers
    most = 2**53 if longest is None else longest
    wrong = np.flatnonzero(~((exact >= 0) & (exact <= most) & (exact == np.floor(exact))))
    if len(wrong):
        found = f"{where}: found {array[wrong[0]]} in row {wrong[0]}"
        raise DataError(f"{found}, expected whole numbers in 0..{'' if longest is None else longest}")
    return array.astype(np.int64)


def finite(values: np.ndarray, where: str) -> tuple[np.ndarray, dict[str, int]]:
    """Features (S, d) as float32, NaN and infinities set to 0; what float32 cannot hold becomes its largest number.

    Args:
        values: overwritten if they are float32 already; a copy of gigabytes takes as long as reading them.

    Returns:
        the array, and how many NaN and infinite values there were.

    Raises:
        DataError: there are values and none is finite.
    """
    with np.errstate(over="ignore"):
        clean = np.asarray(values, dtype=np.float32)
    infinite = np.isinf(clean)
    if values.dtype == np.float64 and infinite.any():  # ``outliers.clip`` finds those that were finite
        overflown = infinite & np.isfinite(values)
        clean[overflown] = np.copysign(np.finfo(np.float32).max, values[overflown])
        infinite &= ~overflown
    nan, inf = int(np.isnan(clean).sum()), int(infinite.sum())
    if clean.size and nan + inf == clean.size:
        raise DataError(f"{where}: found no finite value among {clean.size}, expected features")
    clean[~np.isfinite(clean)] = 0
    return clean, {"nan": nan, "inf": inf}


def unique(ids: list[str], where: str) -> list[str]:
    """The ids themselves.

    Raises:
        DataError: an id occurs twice.
    """
    twice = [i for i, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{where}: found {twice[0]!r} twice, expected unique ids")
    return ids


def disjoint(train: list[str], test: list[str], where: str) -> None:
    """Refuse a corpus that trains on what it is tested on.

    Raises:
        DataError: an id is in both.
    """
    shared = sorted(set(train) & set(test))
    if shared:
        raise DataError(f"{where}: found {len(shared)} ids in both train and test (first {shared[0]!r}), expected none")


def field(container: object, name: object, where: str) -> object:
    """``container[name]``.

    Raises:
        DataError: it is not a dictionary, or has no such field.
    """
    if not isinstance(container, dict):
        raise DataError(f"{where}: found {kind_of(container)}, expected a dictionary with {name!r}")
    if name not in container:
        listed = ", ".join(map(repr, list(container)[:20])) or "nothing"
        raise DataError(f"{where}: found the fields {listed}, expected also {name!r}")
    return container[name]


def kind_of(value: object) -> str:
    """A few words on a value, for an error sentence."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {shape_text(value.shape)}"
    return f"{value!r}" if isinstance(value, (int, float)) or value is None else f"a {type(value).__name__}"


def shape_text(shape: tuple) -> str:
    """A shape as text; None is any size."""
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
