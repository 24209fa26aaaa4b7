"""Which video an utterance is of, and splits in which no video is on both sides."""

import numpy as np

from finelib.data.card import CLIP
from finelib.data.features import Corpus


def of(ids: list[str]) -> np.ndarray:
    """The video of each utterance, (N,) texts.

    Raises:
        ValueError: an id names none.
    """
    found = [CLIP.fullmatch(i) for i in ids]
    if not all(found):
        expected = "VIDEO$_$CLIP, VIDEO[CLIP] or VIDEO_CLIP"
        raise ValueError(f"videos: found the id {ids[found.index(None)]!r}, expected {expected}")
    return np.array([match[1] for match in found])


def folds(ids: list[str], count: int = 5) -> np.ndarray:
    """The fold of each utterance, (N,) int64 in 0..count-1: a video is in one fold, and folds are of nearly one size.

    There is no chance in it: from the largest to the smallest, each video goes to the fold that has fewest utterances.
    """
    fold = np.empty(len(ids), dtype=np.int64)
    from sklearn.model_selection import GroupKFold  # when used, as in own_splits

    for number, (_, rows) in enumerate(GroupKFold(count).split(ids, groups=of(ids))):
        fold[rows] = number
    return fold


def unseen(corpus: Corpus) -> np.ndarray:
    """(N,) True for each utterance of test whose video is in neither train nor valid."""
    known = np.concatenate([of(corpus.splits[s].ids) for s in ("train", "valid")])
    return ~np.isin(of(corpus.splits["test"].ids), known)
