"""Values that were never measured: one of 1e30 in a column of tens would make the column useless.

Readers hand their splits to ``clip``. What is usual is learned from the training split alone.
"""

import numpy as np

from finelib.data.features import MODALITIES, Split
from finelib.data.moments import far_out, plain, spaced, usual_range

SPANS = 20.0  # of the usual range; a Gaussian's reach is less than one outside it
SCREENED = 20_000  # frames that tell which columns are looked at


def clip(splits: dict[str, Split], notes: dict) -> None:
    """Set every value further than 20 spans outside its column's usual range to one span outside, in place.

    Zero stays: files write it where nothing was measured. Token ids, constant columns and columns of which nothing
    tells what is usual (``moments.usual_range``) stay too. How many values were set goes to
    ``notes[split][modality]["clipped"]``.
    """
    for m in MODALITIES:
        values = {s: split.frames[m].values for s, split in splits.items() if m in split.frames}
        if "train" in values and all(v.ndim == 2 for v in values.values()):
            counts = _clip(values)
            for s in values:
                notes.setdefault(s, {}).setdefault(m, {})["clipped"] = counts[s]


def _clip(values: dict[str, np.ndarray]) -> dict[str, int]:
    """How many values of each split were set."""
    counts, train = dict.fromkeys(values, 0), values["train"]
    filled = {s: v for s, v in values.items() if len(v) and v.shape[1] == train.shape[1]}
    if "train" not in filled:
        return counts
    lowest, highest = ({s: f(v, 0) for s, v in filled.items()} for f in (np.min, np.max))
    extremes = np.min([*lowest.values()], 0), np.max([*highest.values()], 0)
    for j in far_out(*extremes, *plain(spaced(train, SCREENED))):
        usual = usual_range(spaced(train)[:, j].astype(np.float64))
        if usual:
            span = usual[1] - usual[0]
            bounds = usual[0] - SPANS * span, usual[1] + SPANS * span
            for s, v in filled.items():
                if lowest[s][j] < bounds[0] or highest[s][j] > bounds[1]:
                    counts[s] += _clip_column(v[:, j], bounds, (usual[0] - span, usual[1] + span))
    return counts


def _clip_column(column: np.ndarray, bounds: tuple[float, float], edges: tuple[float, float]) -> int:
    measured = column != 0
    below, above = (column < bounds[0]) & measured, (column > bounds[1]) & measured
    column[below], column[above] = edges
    return int(below.sum() + above.sum())
