"""MERTools' two files of a corpus: ``label.npz``, splits and labels, and a transcription in Chinese and English."""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from finelib.data import checks
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicFile, github
from finelib.data.features import SPLITS
from finelib.data.safe_pickle import DataError, load_pickle_stream

LABELS, SPOKEN = "label.npz", "transcription-engchi-polish.csv"
MEMBERS = {"train": "train_corpus", "valid": "val_corpus", "test": "test_corpus"}
LARGEST = 1 << 26  # bytes of one member, unpacked


def files(folder: str, dataset: str, blobs: dict[str, str]) -> dict[str, PublicFile]:
    """Files of one corpus; ``dataset`` is their folder in MERBench."""
    commit = "89120b780ab18b28349f0e37dcc12b8cc253cb02"
    return github(folder, "zeroQiaoba/MERTools", commit, f"MERBench/dataset/{dataset}/", blobs)


def labels(path: Path, info: CorpusInfo) -> dict[str, dict[str, float]]:
    """Split -> id -> label.

    Raises:
        DataError: not such an archive, a label out of range, or an id in two splits.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {item.filename: item.file_size for item in archive.infolist()}
            if set(sizes) != {f"{name}.npy" for name in MEMBERS.values()} or max(sizes.values()) > LARGEST:
                listed = ", ".join(f"{name} ({size} bytes)" for name, size in sizes.items())
                raise DataError(f"{path}: found {listed}, expected {', '.join(MEMBERS.values())}")
            found = {}
            for s in SPLITS:
                with archive.open(f"{MEMBERS[s]}.npy") as stream:
                    found[s] = _labels(stream, f"{path}, {MEMBERS[s]}", info)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{path}: found no readable archive ({error}), expected one of NumPy arrays") from error
    checks.unique([i for s in SPLITS for i in found[s]], str(path))
    return found


def transcription(path: Path) -> pd.DataFrame:
    """Columns "chinese" and "english" by utterance id.

    Raises:
        DataError: other columns, an id twice, or a text that is missing.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype=str, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: found no readable table ({reason}), expected name, chinese, english") from error
    if list(table) != ["name", "chinese", "english"]:
        raise DataError(f"{path}: found columns {', '.join(map(str, table))}, expected name, chinese, english")
    checks.unique(table.name.to_list(), f"{path}, name")
    if table.isna().any(axis=None):
        raise DataError(f"{path}: found a row with fewer than three cells, expected name, chinese, english")
    return table.set_index("name")


def texts(table: pd.DataFrame, ids: list[str], language: str, where: str) -> list[str]:
    """The texts of utterances in one language.

    Raises:
        DataError: an utterance has none.
    """
    missing = [i for i in ids if i not in table.index]
    if missing:
        raise DataError(f"{where}: found no text of {len(missing)} utterances ({missing[0]} first), expected all")
    return table.loc[ids, language].to_list()


def _labels(stream: IO[bytes], where: str, info: CorpusInfo) -> dict[str, float]:
    try:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
    except ValueError as error:
        raise DataError(f"{where}: found no NumPy array ({error}), expected one that holds a dictionary") from error
    content = load_pickle_stream(stream, Path(where))
    content = content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    if not isinstance(content, dict):
        raise DataError(f"{where}: found {checks.kind_of(content)}, expected a dictionary by utterance id")
    values = [checks.field(entry, "val", f"{where}, {i}") for i, entry in content.items()]
    return dict(zip(map(str, content), checks.labels(values, where, info).tolist(), strict=True))
