"""Public CH-SIMS and CH-SIMS v2: text in Chinese and in English translation, labels of every modality, and, of v2,
what somebody's unimodal networks predict.

Those predictions are over-fitted on the official train rows (their Corr with the label is far higher there than on
valid and test), so "public-predictions" trains on four fifths of the official valid rows and selects on the fifth.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from finelib.data import checks, mertools, videos
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicSource, github
from finelib.data.features import MODALITIES, SPLITS, Frames, Split
from finelib.data.safe_pickle import DataError

UNIMODAL = "fusion_Video_videoMAE_with_labels.csv"
_BLOBS = {
    "ch_sims": ("0fa12d20dbe7f483435430ab4f9dd543aa9621d2", "f4a47b6458286f70b0400c9b6bfe86dd7ba04e6c"),
    "ch_sims_v2": ("4099e83f907e5394a0c021e427e810b4ad68f072", "615ea5882609ac4145f8ef7e16078cb7f6194c17"),
}
_TABLE = github(
    "ch_sims_v2",
    "spp72kimo/chsims_v2",
    "ffbb38953b74aecb87427970c071e35d14a03742",
    "inference_data/",
    {UNIMODAL: "8dedc8e121e937e272fce30062bc1b573f48c817"},
)
FOLDS = 5
COLUMNS = ["video_id", "clip_id", "y_true", "label_T", "label_A", "label_V", "pred_t", "pred_a", "pred_v"]
ENGLISH, CHINESE = "English translation of the source", "Chinese"


def read(path: dict[str, Path], info: CorpusInfo, language: str) -> tuple[dict[str, Split], dict]:
    """Text in one language ("english", "chinese") and labels, of each modality too; v1's clips are among v2's.

    Raises:
        DataError: another layout, labels out of range, or tables that contradict each other.
    """
    table, spoken = _table(path[UNIMODAL]), mertools.transcription(path[mertools.SPOKEN])
    splits = {}
    for s, listed in mertools.labels(path[mertools.LABELS], info).items():
        missing = [i for i in listed if i not in table.index]
        if missing:
            raise DataError(f"{path[UNIMODAL]}: found no row of {len(missing)} utterances ({missing[0]} first)")
        rows, label = table.loc[list(listed)], np.float32(list(listed.values()))
        wrong = np.flatnonzero(abs(rows.y_true.to_numpy(np.float32) - label) > 1e-4)
        if len(wrong):
            found = f"another label of {rows.index[wrong[0]]} than {path[mertools.LABELS]}"
            raise DataError(f"{path[UNIMODAL]}, y_true: found {found} in {len(wrong)} rows, expected the same")
        where = f"{path[UNIMODAL]}, label"
        own = {m: checks.labels(rows[f"label_{m}"].to_numpy(), f"{where}_{m}", info) for m in MODALITIES}
        text = mertools.texts(spoken, list(listed), language, str(path[mertools.SPOKEN]))
        splits[s] = Split({}, label, list(listed), text, own)
    return splits, {"known": []}


def read_by_video(path: dict[str, Path], info: CorpusInfo, fold: int) -> tuple[dict[str, Split], dict]:
    """As ``read`` in English, no video in two splits: ``fold`` (1 to 5) is test, the next valid, the others train."""
    official, notes = read(path, info, "english")
    every = _joined(official)
    part = (videos.folds(every.ids, FOLDS) - (fold - 1)) % FOLDS
    rows = {"train": part > 1, "valid": part == 1, "test": part == 0}
    known = f"another split than the official one: fold {fold} of {FOLDS} by video"
    return {s: every.take(np.flatnonzero(rows[s])) for s in SPLITS}, notes | {"known": [known]}


def read_predictions(path: dict[str, Path], info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """One number per modality and utterance; what is missing has no frame. The official valid rows, split by video, are
    train and valid; test is the official one. The text is the translation."""
    official, notes = read(path, info, "english")
    table = _table(path[UNIMODAL])
    held = videos.folds(official["valid"].ids, FOLDS) == 0
    splits = {s: official["valid"].take(np.flatnonzero(rows)) for s, rows in (("train", ~held), ("valid", held))}
    splits["test"] = official["test"]
    missing = dict.fromkeys(MODALITIES, 0)
    for s, split in splits.items():
        frames = {}
        for m in MODALITIES:
            values = table.loc[split.ids, f"pred_{m.lower()}"].to_numpy(np.float32)
            there = np.isfinite(values)
            frames[m] = Frames.from_lengths(values[there, None], there)
            missing[m] += int((~there).sum())
        splits[s] = replace(split, frames=frames)
    counted = ", ".join(f"{m} {count}" for m, count in missing.items())
    everywhere = int(table[[f"pred_{m.lower()}" for m in MODALITIES]].isna().any(axis=1).sum())
    known = [
        f"train and valid are the official valid split, four fifths and one by video, since the predictions are "
        f"over-fitted on the official train split; predictions that are missing here: {counted} ({everywhere} in all)"
    ]
    return splits, notes | {"known": known}


def _joined(splits: dict[str, Split]) -> Split:
    parts = [splits[s] for s in SPLITS]
    own = {m: np.concatenate([part.unimodal_labels[m] for part in parts]) for m in MODALITIES}
    ids, text = ([value for part in parts for value in getattr(part, name)] for name in ("ids", "text"))
    return Split({}, np.concatenate([part.label for part in parts]), ids, text, own)


def _table(path: Path) -> pd.DataFrame:
    """Labels and predictions by utterance id."""
    try:
        table = pd.read_csv(path, dtype={"video_id": str, "clip_id": str})
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: found no readable table ({reason}), expected {', '.join(COLUMNS)}") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise DataError(f"{path}: found no column {', '.join(missing)}, expected {', '.join(COLUMNS)}")
    for name in COLUMNS[2:]:
        checks.numbers(table[name].to_numpy(), f"{path}, {name}", (None,))
    ids = checks.unique((table.video_id + "_" + table.clip_id).to_list(), str(path))
    return table.set_index(pd.Index(ids))[COLUMNS[2:]]


def _sources(corpus: str) -> dict[str, PublicSource]:
    names = {"ch_sims": "sims-process", "ch_sims_v2": "simsv2-process"}
    blobs = dict(zip((mertools.LABELS, mertools.SPOKEN), _BLOBS[corpus], strict=True))
    files = mertools.files(corpus, names[corpus], blobs) | _TABLE

    def source(read: Callable, text: str = ENGLISH, encoder: str = "", **options: object) -> PublicSource:
        return PublicSource(files, partial(read, **options) if options else read, encoder, text)

    found = {"public": source(read, language="english"), "public-chinese": source(read, CHINESE, language="chinese")}
    found |= {f"public-by-video-{fold}": source(read_by_video, fold=fold) for fold in range(1, FOLDS + 1)}
    if corpus == "ch_sims_v2":
        found["public-predictions"] = source(read_predictions, encoder="published prediction")
    return found


SOURCES = {corpus: _sources(corpus) for corpus in _BLOBS}
