"""What the splits of a corpus must have in common, and what tells that they were not made alike."""

import numpy as np

from finelib.data.features import SPLITS, Frames, Split
from finelib.data.safe_pickle import DataError

SAMPLE = 2000  # frames of each split that columns are compared on
APART = 0.25  # share of columns above which splits were hardly made alike


def complete(splits: dict[str, Split], notes: dict, names: dict[str, str], where: str) -> None:
    """Give every split the modalities of train, without frames where it has none, and compare what there is.

    Args:
        notes: split -> modality -> counts; "columns_apart" is added where a split's columns lie elsewhere than
            train's (``columns_apart``).
        names: modality -> how the file calls it.

    Raises:
        DataError: no modality, one that train alone lacks, or another number of columns than in train.
    """
    train = splits["train"].frames
    known = [m for m in names if any(m in split.frames for split in splits.values())]
    if not known:
        fields = ", ".join(map(repr, names.values()))
        raise DataError(f"{where}: found none of {fields}, expected at least one of them")
    for m in known:
        has = [s for s in SPLITS if m in splits[s].frames]
        if m not in train:
            raise DataError(f"{where}, train: found no {names[m]!r}, expected it as in {has[0]}")
        of_train = sampled(train[m])
        for s in SPLITS[1:]:
            if s not in has:
                splits[s].frames[m] = Frames.from_lengths(train[m].values[:0], np.zeros(len(splits[s]), np.int64))
                if splits[s].unimodal_labels is not None:
                    splits[s].unimodal_labels.setdefault(m, splits[s].label)
            found, expected = splits[s].frames[m].width, train[m].width
            if found != expected:
                raise DataError(f"{where}, {s}, {names[m]}: found {found} columns, expected {expected} as in train")
            apart = columns_apart(of_train, splits[s].frames[m])
            if apart > APART * expected:
                notes[s][m]["columns_apart"] = apart


def sampled(frames: Frames) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation (d,) of each column over evenly spaced frames; None of fewer than two frames."""
    if len(frames.values) < 2:
        return None
    sample = frames.values[:: max(1, len(frames.values) // SAMPLE)].astype(np.float64)
    mean = sample.mean(0)
    return mean, np.sqrt(((sample - mean) ** 2).mean(0))


def columns_apart(train: tuple[np.ndarray, np.ndarray] | None, other: Frames) -> int:
    """How many columns were hardly made as train's were, given what ``sampled`` says of those.

    Such a column's mean lies more than a standard deviation of train from train's, or its standard deviation is
    above three times or below a third of train's.
    """
    found = sampled(other)
    if train is None or found is None:
        return 0
    (mean, sd), (own_mean, own_sd) = train, found
    return int(((np.abs(own_mean - mean) > sd) | (own_sd > 3 * sd) | (3 * own_sd < sd)).sum())
