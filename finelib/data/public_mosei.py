"""Public CMU-MOSEI, text alone: a copy of nearly all transcripts, and all of them.

"public" is ailiwood's ``label.csv`` (22,788 of 22,856 utterances); its clips are numbered by seconds, so its ids are
not MERTools'. "public-full" is MERTools' transcription of every utterance, whose text could not be opened when this
was written: its layout is checked and not assumed.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from finelib.data import checks, mertools, videos
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicSource, github
from finelib.data.features import SPLITS, Split
from finelib.data.safe_pickle import DataError

LABELS = mertools.files("mosei_text", "cmumosei-process", {mertools.LABELS: "3170d1a4b0f55cc11224208a2ab42f5a7388ccf3"})
SPOKEN = mertools.files("mosei_text", "cmumosei-process", {mertools.SPOKEN: "9c78f38e236055409e87e00d2fa4899716d6f351"})
TABLE = github(
    "mosei_text",
    "ailiwood/mme_0621",
    "0c3bbfaf149fb02e5149663f2e9b32823109869f",
    "data/mosei/",
    {"label.csv": "41bf134147e17553ae40a0ec361ce0f21a356961"},
)
COLUMNS = ["video_id", "clip_id", "text", "label", "mode"]


def read(path: dict[str, Path], info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """The utterances of label.csv, and how many of its labels the official list does not have.

    Raises:
        DataError: another layout, a label out of range, an unknown split, an id twice, or a video in another split.
    """
    name = str(path["label.csv"])
    try:
        table = pd.read_csv(path["label.csv"], keep_default_na=False, dtype=str)
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{name}: found no readable table ({reason}), expected {', '.join(COLUMNS)}") from error
    if list(table) != COLUMNS:
        raise DataError(f"{name}: found columns {', '.join(map(str, table))}, expected {', '.join(COLUMNS)}")
    if set(table["mode"]) != set(SPLITS):
        raise DataError(f"{name}: found splits {', '.join(sorted(set(table['mode'])))}, expected {', '.join(SPLITS)}")
    official = mertools.labels(path[mertools.LABELS], info)
    split_of = {video: s for s in SPLITS for video in videos.of(list(official[s]))}
    splits, differ = {}, 0
    for s in SPLITS:
        rows = table[table["mode"] == s]
        value = pd.to_numeric(rows.label, errors="coerce").to_numpy()
        label = checks.labels(value, f"{name}, {s}", info)
        ids = checks.unique((rows.video_id + "$_$" + rows.clip_id).to_list(), f"{name}, {s}")
        elsewhere = sorted({video for video in rows.video_id if split_of.get(video, s) != s})
        if elsewhere:
            found = f"{len(elsewhere)} videos that are in another official split ({elsewhere[0]} first)"
            raise DataError(f"{name}, {s}: found {found}, expected none")
        listed = np.float32(list(official[s].values())).round(4)
        known = Counter(zip(videos.of(list(official[s])), listed, strict=True))
        differ += (Counter(zip(rows.video_id, label.round(4), strict=True)) - known).total()
        splits[s] = Split({}, label, ids, rows.text.to_list())
    missing = {s: len(official[s]) - len(splits[s]) for s in SPLITS}
    told = ", ".join(f"{s} {count}" for s, count in missing.items())
    known = [f"{differ} labels differ from the official list's", f"official utterances that it lacks: {told}"]
    return splits, {"known": known}


def read_full(path: dict[str, Path], info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """Every utterance of the official list, with MERTools' text.

    Raises:
        DataError: another layout than its transcriptions of other corpora have, or an utterance without text.
    """
    spoken, name = mertools.transcription(path[mertools.SPOKEN]), str(path[mertools.SPOKEN])
    splits = {}
    for s, listed in mertools.labels(path[mertools.LABELS], info).items():
        text = mertools.texts(spoken, list(listed), "english", name)
        empty = sum(not t.strip() for t in text)
        if empty > len(text) // 100:
            raise DataError(f"{name}, {s}: found {empty} of {len(text)} English texts empty, expected text")
        splits[s] = Split({}, np.float32(list(listed.values())), list(listed), text)
    return splits, {"known": []}


SOURCES = {
    "mosei": {"public": PublicSource(TABLE | LABELS, read), "public-full": PublicSource(SPOKEN | LABELS, read_full)}
}
