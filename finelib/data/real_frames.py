"""Which frames of padded sequences are real: looked at in the numbers, and compared with what the file states.

Files differ in the end that is padded, and scripts write lengths that are wrong. A frame that is all zero may be
padding or real (no face was found), a frame that is not can hardly be padding.
"""

import numpy as np

from finelib.data.safe_pickle import DataError

DROPPED, ZERO = 0.01, 0.05  # shares of the non-zero frames and of the kept ones above which the file is contradicted
LENGTHS, MASK, WORDS, LOOK = "lengths", "text mask", "words", "frames"  # what the choice can rest on


def span(filled: np.ndarray) -> np.ndarray:
    """(N, T) True from the first to the last True of each row of ``filled`` (N, T); none in a row without any."""
    first, after = _ends(filled)
    steps = np.arange(filled.shape[1])
    return (steps >= first[:, None]) & (steps < after[:, None])


def choose(filled: np.ndarray, stated: np.ndarray | None, by: str, where: str) -> tuple[np.ndarray, dict]:
    """Choose the real frames of one modality of one split.

    What the file states is followed at the end that explains the data. It is not followed where it would drop more
    than 1 % of the frames that are not zero, or where most utterances would end in zeros and these were more than
    5 % of the frames: then the real frames are those from the first to the last that is not zero.

    Args:
        filled: (N, T) True where a frame is not all zero; NaN counts as filled.
        stated: (N, T) True where the file says that a frame is real; None if it says nothing.
        by: what ``stated`` comes from: LENGTHS, which do not say the end; MASK of the text; or WORDS, of which each
            has its frame, be it zero.

    Returns:
        (N, T) True on real frames, and counts: "nonzero_frames_dropped", "zero_frames_kept", "padding" ("behind",
        "front", "both ends" or "none"), "chosen_by", where that is not ``by`` what following the file would have
        given, "stated_drops" and "stated_zero", and "all_zero" where no frame is filled.

    Raises:
        DataError: the lengths leave out frames at either end, and no padding is seen.
    """
    looked = span(filled)
    mask = looked if stated is None else _followed(filled, looked, stated, by, where)
    counts = {
        "nonzero_frames_dropped": int((filled & ~mask).sum()),
        "zero_frames_kept": int((mask & ~filled).sum()),
        "padding": _padded_end(filled),
        "chosen_by": LOOK if mask is looked else by,
    }
    if stated is not None and mask is looked:
        counts |= {"stated_drops": int((filled & ~stated).sum()), "stated_zero": int((stated & ~filled).sum())}
    return mask, counts | ({} if filled.any() else {"all_zero": 1})


def zeros(values: np.ndarray) -> dict[str, int]:
    """The counts of ``choose`` on zeros among frames (S, d) that are all kept, where there are any."""
    zero = len(values) - int(np.any(values, axis=1).sum())
    if not zero:
        return {}
    return {"zero_frames_kept": zero} | ({"all_zero": 1} if zero == len(values) else {})


def _followed(filled: np.ndarray, looked: np.ndarray, stated: np.ndarray, by: str, where: str) -> np.ndarray:
    """``stated`` at the end that explains the data, or ``looked`` itself where it contradicts them."""
    length, steps = stated.sum(1), np.arange(filled.shape[1])
    behind, front = steps < length[:, None], steps >= len(steps) - length[:, None]
    for mask in (stated, behind, front):
        if (filled & ~mask).sum() <= DROPPED * filled.sum():
            return looked if by != WORDS and _too_long(filled, looked, mask) else mask
    shortened = filled.any(1) & (length > 0) & (length < len(steps))
    if not (shortened.any() and looked[shortened].all()):
        return looked
    if by != LENGTHS:  # a text encoder that read the padding too, for example
        return stated
    found = f"lengths below {len(steps)} in {shortened.sum()} rows and no zeros at either end of any of them"
    raise DataError(f"{where}: found {found}, expected zeros as padding, or no lengths")


def _too_long(filled: np.ndarray, looked: np.ndarray, mask: np.ndarray) -> bool:
    """Whether most utterances are kept with zeros at an end, and these are a noteworthy share."""
    some = filled.any(1)
    outside = (mask & ~looked)[some]
    return bool(outside.any(1).sum() > some.sum() / 2 and outside.sum() > ZERO * mask.sum())


def _ends(filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the first filled frame and the one after the last; both 0 in a row without any."""
    if not filled.shape[1]:
        return np.zeros((2, len(filled)), np.int64)
    some = filled.any(1)
    return filled.argmax(1) * some, (filled.shape[1] - filled[:, ::-1].argmax(1)) * some


def _padded_end(filled: np.ndarray) -> str:
    some = filled.any(1)
    first, after = _ends(filled[some])
    before, behind = int(first.sum()), int((filled.shape[1] - after).sum())
    if not before + behind:
        return "none"
    if min(before, behind) > ZERO * (before + behind):
        return "both ends"
    return "front" if before > behind else "behind"
