"""Public CMU-MOSI: real transcripts and audio statistics in the standard split, and a leak that is kept out.

Text, labels and split are those of ``label.csv``; of the four utterances that it lacks, MERTools'. Audio, and the
leaked video features, come in files without ids; the rows of ``text_*.csv`` say which row of ``transcripts.csv`` each
of theirs is. Audio and transcripts: Poria et al., ACL 2017 (MIT licence).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from finelib.data import checks, mertools
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicFile, PublicSource, obtain
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.safe_pickle import DataError

_RAW = "https://raw.githubusercontent.com/"
_A = f"{_RAW}declare-lab/multimodal-deep-learning/111b401d867c14a1dcd930fd2b2ab58a5eca3f70/"
_A += "contextual-utterance-level-multimodal-sentiment-analysis/data/"
_B = f"{_RAW}jiangbing22/MMCPanda/3e568e4da552a9d0c61bf61761c73a06acd0eda4/data/mosi/"
_SOURCES = (
    (_B, "label.csv", "74c52aba8884cca3f77962310c41f31d3d6250c4e4b50fd77fd4efe4eb75a521"),
    (_A, "transcripts.csv", "e7689e6d70720addd2a6b316419d245a68839c32b014ff426c406063ee777466"),
    (_A, "text_train.csv", "73770b6302ad0f7a51f4eddcae6788efde4d0b6802e09f78249d5b538d1c1d67"),
    (_A, "text_test.csv", "f3b735070bf07ceff7a6ef6c8f4c32757e988de484e35bd6d38b2aecef851a59"),
    (_A + "audio/", "audio_train0.csv", "5435398a54664e7b00304587dc59ae84a438852be033c2a2fba779588624a2a1"),
    (_A + "audio/", "audio_test0.csv", "ddd17eeefd3d951d51d4e2ef8a0d132652d8161e1886f71eb7262b7a14bffff6"),
    (_A + "video/", "video_train0.csv", "b6efc0413132d627efd06f67f1706830e775e90af9a75696f535c48dbc73f12f"),
    (_A + "video/", "video_test0.csv", "cab836253d81100f59d533fa2ff65cd53c486be3ec9fd82203c5e25a7a77265f"),
)
FILES = {name: PublicFile(f"mosi_public/{name}", base + name, f"sha256:{digest}") for base, name, digest in _SOURCES}
_BLOBS = {
    mertools.LABELS: "cdbb6fcc036e8773c785161d5dcb8d405685c7f8",
    mertools.SPOKEN: "a5e2dbe689b463b5a3456b3c8dcaf236dc9cd271",
}
FILES |= mertools.files("mosi_mertools", "cmumosi-process", _BLOBS)
MODES = {"train": "train", "valid": "dev", "test": "test"}
PARTS = ("train", "test")  # of the 2017 split by video: 62 and 31 videos
AUDIO_WIDTH, VIDEO_WIDTH = 73, 100


class LeakedFeatures(NamedTuple):
    """Video features that were learned with labels; for showing the leak, never for a result.

    Attributes:
        ids: N utterance ids, ``VIDEO_CLIP``.
        values: (N, 100) float32.
        label: (N,) float32, the continuous label.
        split: (N,) "train", "valid" or "test", the standard split.
        learned_from: (N,) True where the utterance's video was among those whose labels made the features.
    """

    ids: list[str]
    values: np.ndarray
    label: np.ndarray
    split: np.ndarray
    learned_from: np.ndarray


def paths(cache: Path | None = None) -> dict[str, Path]:
    """The files that ``read`` needs, name -> path, downloaded if necessary (``download.obtain``)."""
    return {name: obtain(file, cache) for name, file in FILES.items() if not name.startswith("video")}


def read(path: dict[str, Path], info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """Text (raw) and audio (one frame of 73 openSMILE statistics) of the standard split.

    Returns:
        The splits, without "T" until an encoder has read their text, and notes for the data card.

    Raises:
        DataError: the files do not agree with each other.
    """
    table, added = _completed(path, info)
    splits, notes = {}, {}
    for s in SPLITS:
        rows = table[table.split == s]
        label = checks.labels(rows.label.to_numpy(), f"label.csv, {MODES[s]}", info)
        values, counts = checks.finite(np.stack(rows.features.to_list()), f"audio, {s}")
        frames = {"A": Frames.from_lengths(values, np.ones(len(rows)))}
        splits[s] = Split(frames, label, checks.unique(rows.id.to_list(), "label.csv, id"), rows.text.to_list())
        notes[s] = {"A": counts}
    known = f"{added} utterances that the first source has no label of have the second source's label and text"
    return splits, notes | {"known": [known] if added else []}


def leaked_video_features(cache: Path | None = None) -> LeakedFeatures:
    """The 100-d video features published beside the audio. See ``LeakedFeatures``: not for any result.

    Raises:
        DataError: a file cannot be had, or the files do not agree with each other.
    """
    video = {name: obtain(file, cache) for name, file in FILES.items() if name.startswith("video")}
    path = {**paths(cache), **video}
    table = _join(path, "video", VIDEO_WIDTH, _label_csv(path))
    values = np.stack(table.features.to_list()).astype(np.float32)
    label, split = table.label.to_numpy(np.float32), table.split.to_numpy(str)
    return LeakedFeatures(table.id.to_list(), values, label, split, (table.part == "train").to_numpy(bool))


def _completed(path: dict[str, Path], info: CorpusInfo) -> tuple[pd.DataFrame, int]:
    """The utterances with audio, label.csv's and, behind them, those that it lacks; and how many these are."""
    official, spoken = mertools.labels(path[mertools.LABELS], info), mertools.transcription(path[mertools.SPOKEN])
    label = _label_csv(path)
    listed = {i: (value, s) for s in SPLITS for i, value in official[s].items()}
    told = [listed.get(i, (np.nan, "")) for i in label.id]
    same = np.isclose(label.label, [value for value, _ in told], atol=1e-4) & (label.split == [s for _, s in told])
    wrong = label.id[~same].to_list()
    if wrong:
        found = f"{len(wrong)} labels or splits that {path[mertools.LABELS]} contradicts ({wrong[0]} first)"
        raise DataError(f"{path['label.csv']}: found {found}, expected none")
    lacking = [i for i in listed if i not in set(label.id)]
    text = [t.lower() for t in mertools.texts(spoken, lacking, "english", str(path[mertools.SPOKEN]))]
    rows = [(i, t, *listed[i]) for i, t in zip(lacking, text, strict=True)]
    more = pd.DataFrame(rows, columns=["id", "text", "label", "split"])
    return _join(path, "audio", AUDIO_WIDTH, pd.concat([label, more], ignore_index=True)), len(lacking)


def _label_csv(path: dict[str, Path]) -> pd.DataFrame:
    label = pd.read_csv(path["label.csv"], keep_default_na=False, dtype={"id": str, "text": str})
    return label.assign(split=label.pop("mode").map({mode: s for s, mode in MODES.items()}))


def _join(path: dict[str, Path], kind: str, width: int, label: pd.DataFrame) -> pd.DataFrame:
    """One row per utterance of a table, in its order: id, text, label, split, part, features (width,)."""
    spoken = pd.read_csv(path["transcripts.csv"], header=None, keep_default_na=False)
    parts = [_part(path, kind, part, width, spoken) for part in PARTS]
    table = label.merge(pd.concat(parts), on="id", how="inner", validate="one_to_one")
    if len(table) != len(label):
        raise DataError(f"label.csv: found {len(label) - len(table)} ids without {kind} features, expected none")
    wrong = table.id[(table.label >= 0) != (table.binary == 1)]
    if len(wrong):
        raise DataError(f"label.csv: found a sign of the label of {wrong.iloc[0]} that {kind}_*.csv contradicts")
    return table


def _part(path: dict[str, Path], kind: str, part: str, width: int, spoken: pd.DataFrame) -> pd.DataFrame:
    """Features of one part of the 2017 split, with the ids that text_*.csv gives its rows."""
    name = f"{kind}_{part}0.csv"
    order = pd.read_csv(path[f"text_{part}.csv"], header=None, usecols=[0])[0].to_numpy()
    array = checks.numbers(pd.read_csv(path[name], header=None).to_numpy(), name, (len(order), width + 1))
    said = spoken.iloc[order]
    binary = array[:, width]  # the label, in the last column of every feature file
    if not np.array_equal(binary, said[3].to_numpy()):
        raise DataError(f"{name}: found labels that differ from those of transcripts.csv, expected the same rows")
    return pd.DataFrame({"id": said[0].to_numpy(), "part": part, "binary": binary, "features": list(array[:, :width])})


_WITHOUT_LEAK = {name: file for name, file in FILES.items() if not name.startswith("video")}
SOURCES = {"mosi": {"public": PublicSource(_WITHOUT_LEAK, read)}}
