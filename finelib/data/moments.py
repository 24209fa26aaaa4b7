"""Mean, standard deviation and usual range of features, which a few wild values do not move.

The usual range of a feature runs from its 1 % to its 99 % quantile. A value many spans of that range outside it was
not measured: no sensor gives 1e30 in two frames of thousands.
"""

import math

import numpy as np
from jaxtyping import Float

FRAMES, COLUMNS = 200_000, 64
FEWEST = 20  # values below which nothing is called usual
TAIL = 0.01  # of the values, at either end, outside the usual range
RARE_TAIL = 0.1  # the same of the values that differ, where nearly all are one number
FAR = 7.0  # standard deviations: wild values are fewer than one in 49, so one of them at least is further out
RUINED = 2.0  # times the standard deviation that there would be without the wild values


def spaced(values: Float[np.ndarray, "S d"], count: int = FRAMES) -> Float[np.ndarray, "n d"]:
    """About ``count`` evenly spaced frames, or all; a view."""
    return values[:: max(1, len(values) // count)]


def moments(values: Float[np.ndarray, "S d"]) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"]]:
    """Mean and standard deviation per feature, float32, over 200,000 evenly spaced frames.

    The standard deviation of a constant feature is given as 1, and so is that of no frames, whose mean is 0.
    Where wild values would more than double a standard deviation, both are those of the values clipped at one span
    outside the usual range; all others are those of the values as they are.
    """
    if not len(values):
        return np.zeros(values.shape[1], np.float32), np.ones(values.shape[1], np.float32)
    sample = np.ascontiguousarray(spaced(values))
    mean, sd = plain(sample)
    for j in far_out(sample.min(0), sample.max(0), mean, sd):
        column = sample[:, j].astype(np.float64)
        usual = usual_range(column)
        if usual:
            low, high = usual
            clipped = column.clip(low - (high - low), high + (high - low))
            if sd[j] > RUINED * clipped.std():
                mean[j], sd[j] = clipped.mean(), clipped.std()
    sd[sd == 0] = 1.0
    return mean.astype(np.float32), sd.astype(np.float32)


def plain(sample: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"]]:
    """Mean and standard deviation per feature, float64, of the values as they are."""
    width = sample.shape[1]
    mean, sd = np.empty(width), np.empty(width)
    # COLUMNS at a time: in float64 a whole sample of wide features would take 1.2 GB
    for columns in np.array_split(np.arange(width), max(1, width // COLUMNS)):
        block = sample[:, columns].astype(np.float64)
        mean[columns], sd[columns] = block.mean(0), block.std(0)
    return mean, sd


def far_out(
    lowest: Float[np.ndarray, "d"],
    highest: Float[np.ndarray, "d"],
    mean: Float[np.ndarray, "d"],
    sd: Float[np.ndarray, "d"],
) -> np.ndarray:
    """The columns of which an extreme is more than 7 standard deviations out; no other can hold wild values."""
    return np.flatnonzero((highest - mean > FAR * sd) | (mean - lowest > FAR * sd))


def usual_range(column: Float[np.ndarray, "n"]) -> tuple[float, float] | None:
    """The 1 % and 99 % quantiles, neither among the outermost 1 %; None where nothing tells what is usual.

    Where the quantiles are one number (a feature that is nearly always 0), the range reaches as far to both sides of
    it as 90 % of the other values do. None for a constant, and for fewer than 20 values.
    """
    n = len(column)
    if n < FEWEST:
        return None
    k = math.ceil(TAIL * (n - 1))
    ordered = np.partition(column, [k, n - 1 - k])
    low, high = float(ordered[k]), float(ordered[n - 1 - k])
    if low < high:
        return low, high
    distance = np.abs(column[column != low] - low)
    if not len(distance):
        return None
    k = int((1 - RARE_TAIL) * (len(distance) - 1))
    reach = float(np.partition(distance, k)[k])
    return low - reach, low + reach
