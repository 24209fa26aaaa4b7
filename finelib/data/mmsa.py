"""Reader of MMSA-format pickles: CMU-MOSI, CMU-MOSEI and CH-SIMS, aligned or unaligned.

The format is that of github.com/thuiar/MMSA: {"train" | "valid" | "test": fields}, padded arrays of N rows.
"""

from pathlib import Path

import numpy as np

from finelib.data import checks
from finelib.data.corpora import CorpusInfo
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.safe_pickle import DataError, load_pickle

FIELD = {"T": "text", "A": "audio", "V": "vision"}


def read(path: Path, info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """Read one file.

    Text frames are the rows of ``text`` that the attention mask in ``text_bert`` marks; audio and video frames
    are the first ``*_lengths``, or where the file has no lengths (aligned), those of the text mask.

    Returns:
        The three splits, and notes for the data card: split -> modality -> counts of NaN and infinite values
        (set to 0) and of frames past the stated length that are not zero (dropped).

    Raises:
        DataError: a field is missing, of the wrong shape, length or range, without any finite value, or empty;
            an id occurs twice in a split or in both train and test.
        OSError: the file cannot be opened.
    """
    content = load_pickle(path)
    splits, notes = {}, {}
    for s in SPLITS:
        fields = checks.field(content, s, str(path))
        splits[s], notes[s] = _split(fields, info, f"{path}, {s}")
        content[s] = fields = None  # a large corpus would otherwise be held twice
    checks.disjoint(splits["train"].ids, splits["test"].ids, f"{path}, id")
    return splits, notes


def _split(fields: object, info: CorpusInfo, where: str) -> tuple[Split, dict]:
    label = checks.labels(checks.field(fields, "regression_labels", where), f"{where}, regression_labels", info)
    n = len(label)
    ids = checks.strings(checks.field(fields, "id", where), f"{where}, id", n)
    text = checks.strings(checks.field(fields, "raw_text", where), f"{where}, raw_text", n)
    spoken = _text_mask(fields, where, n)
    frames, notes = {}, {}
    for m in FIELD:
        frames[m], notes[m] = _frames(fields, m, spoken, where)
    unimodal = None
    if info.unimodal_labels:
        names = {m: f"regression_labels_{m}" for m in FIELD}
        values = {m: checks.field(fields, name, where) for m, name in names.items()}
        unimodal = {m: checks.labels(values[m], f"{where}, {name}", info, n) for m, name in names.items()}
    return Split(frames, label, checks.unique(ids, f"{where}, id"), text, unimodal), notes


def _text_mask(fields: dict, where: str, n: int) -> np.ndarray:
    """(N, L), True on real tokens."""
    tokens = checks.numbers(checks.field(fields, "text_bert", where), f"{where}, text_bert", (n, 3, None))
    mask = tokens[:, 1]
    if not np.isin(mask, (0, 1)).all():
        raise DataError(f"{where}, text_bert: found a mask with values other than 0 and 1, expected 0 or 1")
    return mask == 1


def _frames(fields: dict, modality: str, spoken: np.ndarray, where: str) -> tuple[Frames, dict[str, int]]:
    name, (n, longest), mask = FIELD[modality], spoken.shape, spoken
    here = f"{where}, {name}"
    has_lengths = modality != "T" and f"{name}_lengths" in fields
    shape = (n, None if has_lengths else longest, None)
    array = checks.numbers(checks.field(fields, name, where), here, shape)
    if has_lengths:
        length = checks.lengths(fields[f"{name}_lengths"], f"{here}_lengths", n, array.shape[1])
        mask = np.arange(array.shape[1]) < length[:, None]
    if not mask.any() or not array.shape[2]:
        raise DataError(f"{here}: found no frames in any row, expected features")
    values, counts = checks.finite(array[mask], here)
    dropped = int((np.any(array, axis=2) & ~mask).sum())
    return Frames.from_lengths(values, mask.sum(1)), {**counts, "nonzero_frames_dropped": dropped}
