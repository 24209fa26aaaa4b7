"""Reader of MMSA-format pickles: CMU-MOSI, CMU-MOSEI and CH-SIMS, aligned or unaligned.

The format is that of github.com/thuiar/MMSA: {"train" | "valid" | "test": fields}, padded arrays of N rows. Tools
write it with other names of splits, containers, shapes and fewer fields; what can mean one thing only is read.
"""

from pathlib import Path

import numpy as np

from finelib.data import between_splits, checks, forms, real_frames
from finelib.data.corpora import CorpusInfo
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.safe_pickle import DataError, load_pickle

FIELD = {"T": "text", "A": "audio", "V": "vision"}


def read(path: Path, info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """Read one file.

    Real frames are chosen by ``real_frames.choose``: what the file states are the attention mask in ``text_bert``
    for text, and ``*_lengths`` for the others, or where there are none (aligned files) the real frames of the text.
    Only the labels and one modality must be there. Ids that are missing are made, raw text is "" then; a split
    without a modality that train has gets no frames of it; without unimodal labels there are none in ``Split``.

    Returns:
        The three splits, and notes for the data card: split -> modality -> counts of NaN and infinite values
        (set to 0) and those of ``real_frames.choose``; split -> "fields" -> field -> what was missing or altered;
        "file" -> what was unusual in the file as a whole.

    Raises:
        DataError: a field is of the wrong shape, length or range, or without any finite value; labels, or all
            modalities, are missing; an id occurs twice in a split or in both train and test; splits disagree.
        OSError: the file cannot be opened.
    """
    return of_content(load_pickle(path), info, str(path))


def of_content(
    content: object, info: CorpusInfo, where: str, raw_text_alone: bool = False
) -> tuple[dict[str, Split], dict]:
    """``read`` of what a file holds; ``where`` names it; ``raw_text_alone``: it may have no features at all."""
    content, key, unusual = forms.splits(content, where)
    splits, notes = {}, {"file": unusual} if unusual else {}
    for s in SPLITS:
        splits[s], notes[s] = read_split(content[key[s]], info, s, f"{where}, {s}")
        content[key[s]] = None  # a large corpus would otherwise be held twice
    checks.disjoint(splits["train"].ids, splits["test"].ids, f"{where}, id")
    if any(split.frames for split in splits.values()) or not raw_text_alone:
        between_splits.complete(splits, notes, FIELD, where)
    return splits, notes


def read_split(fields: object, info: CorpusInfo, s: str, where: str) -> tuple[Split, dict]:
    """One split ``s`` from its fields, and its notes; raises as ``read``."""
    fields, _ = forms.unwrapped(fields, {"regression_labels"})
    if isinstance(fields, dict):
        fields = {name: fields[key] for name, key in forms.by_name(fields, where).items()}
    given = checks.field(fields, "regression_labels", where)
    label = checks.labels(given, f"{where}, regression_labels", info)
    told = {"regression_labels": "a column or row, read as (N,)" if np.ndim(given) > 1 else ""}
    ids, told["id"] = forms.ids(fields.get("id"), f"{where}, id", len(label), s)
    text, told["raw_text"] = forms.texts(fields.get("raw_text"), f"{where}, raw_text", len(label))
    frames, notes = {}, {}
    spoken = _text_mask(fields.get("text_bert"), f"{where}, text_bert", len(label))
    for m, name in FIELD.items():
        if fields.get(name) is None:
            told[name] = "missing"
            continue
        frames[m], spoken, notes[m] = _frames(fields, m, spoken, len(label), f"{where}, {name}")
    if fields.get("text_bert") is None and "T" in frames:
        told["text_bert"] = "missing"
    unimodal = _unimodal(fields, info, frames, len(label), where)
    if info.unimodal_labels and unimodal is None:
        told["regression_labels_T, _A, _V"] = "missing, the common label serves"
    notes |= {"fields": told} if (told := {name: what for name, what in told.items() if what}) else {}
    return Split(frames, label, checks.unique(ids, f"{where}, id"), text, unimodal), notes


def _unimodal(fields: dict, info: CorpusInfo, frames: dict, n: int, where: str) -> dict[str, np.ndarray] | None:
    """Modality -> (N,) labels; None if those of a modality are missing."""
    names = {m: f"regression_labels_{m}" for m in FIELD if m in frames}
    if not info.unimodal_labels or any(fields.get(name.lower()) is None for name in names.values()):
        return None
    return {m: checks.labels(fields[name.lower()], f"{where}, {name}", info, n) for m, name in names.items()}


def _text_mask(value: object, where: str, n: int) -> np.ndarray | None:
    """(N, L), True on real tokens; None without ``text_bert``."""
    if value is None:
        return None
    shape = np.shape(value) if isinstance(value, np.ndarray) else ()
    if shape[:1] == (n,) and (len(shape) == 2 or len(shape) == 3 and shape[2] == 3 != shape[1]):
        meant = "token ids alone" if len(shape) == 2 else "its axes exchanged"
        raise DataError(f"{where}: found shape {checks.shape_text(shape)}, {meant}, expected ({n}, 3, any)")
    mask = checks.numbers(value, where, (n, 3, None))[:, 1]
    if not np.isin(mask, (0, 1)).all():
        raise DataError(f"{where}: found a mask with values other than 0 and 1, expected 0 or 1")
    return mask == 1


def _frames(
    fields: dict, modality: str, spoken: np.ndarray | None, n: int, where: str
) -> tuple[Frames, np.ndarray | None, dict]:
    """Frames of one modality, the real frames of the text (N, L) if known, and counts."""
    sequences = forms.sequences(fields[FIELD[modality]], where, n)
    length = None
    if modality != "T" or spoken is None:
        length = fields.get(f"{FIELD[modality]}_lengths")
    if length is not None:
        length = checks.lengths(length, f"{where}_lengths", n)
    filled = sequences.filled(where)
    beyond = 0 if length is None else int((length > filled.shape[1]).sum())
    if (beyond or filled[:, [0, -1]].all()) and forms.turned(sequences, length):
        found = f"zeros at the ends of its columns, as in ({n}, columns, frames)"
        raise DataError(f"{where}: found {found}, expected ({n}, frames, columns)")
    stated, by = _stated(sequences, filled, modality, length, spoken, where)
    mask, counts = real_frames.choose(filled, stated, by, where)
    values, wrong = checks.finite(sequences.take(mask), where)
    rare = {"lengths_beyond": beyond, "ragged": int(sequences.held is not None)}
    counts = (
        wrong | counts | {"type": sequences.values.dtype.name} | {name: count for name, count in rare.items() if count}
    )
    return Frames.from_lengths(values, mask.sum(1)), mask if modality == "T" else spoken, counts


def _stated(
    sequences: forms.Sequences,
    filled: np.ndarray,
    modality: str,
    length: np.ndarray | None,
    spoken: np.ndarray | None,
    where: str,
) -> tuple[np.ndarray | None, str]:
    """(N, T) True on the frames that the file says are real, None if it says nothing; and where it says so."""
    shape, held = sequences.shape, sequences.held
    if length is not None:
        beyond = length > shape[1]  # of the sequence before it was cut, or wrong
        stated = np.where(beyond[:, None], real_frames.span(filled), np.arange(shape[1]) < length[:, None])
        return stated if held is None else stated & held, real_frames.LENGTHS
    if held is not None or spoken is None:
        return held, real_frames.LENGTHS
    if modality != "T":
        return (spoken, real_frames.WORDS) if spoken.shape == shape else (None, real_frames.LOOK)
    if spoken.shape != shape:
        found = f"shape {checks.shape_text(sequences.values.shape)}"
        meant = ", its axes exchanged" if spoken.shape[1] == sequences.values.shape[2] else ""
        expected = f"({shape[0]}, {spoken.shape[1]}, any) as in text_bert"
        raise DataError(f"{where}: found {found}{meant}, expected {expected}")
    return spoken, real_frames.MASK
