"""Public CMU-MOSI, three modalities, word-aligned: the data of MFN (Zadeh et al., AAAI 2018; MIT licence).

Per split a file ``X_*.h5`` with the dataset ``data`` (N, T, 325) and a file ``y_*.h5`` with ``data`` (N,).
The columns are facts of that repository's ``test_mosi.py``. Its X files could not be opened when this was
written, so everything about them is checked here and not assumed: which end is padded is found from the data.
"""

from pathlib import Path

import h5py
import numpy as np

from finelib.data import checks, real_frames
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicSource, github, obtain
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.safe_pickle import DataError

REPOSITORY, COMMIT = "pliang279/MFN", "b0453fb6e21b581c796246a0c32a6551f2028c1b"
_BLOBS = {
    "X_train.h5": "174f63f5ceea7af785519d94506b28b1ffcbad74",
    "X_valid.h5": "b81c5cd24776541a3706d4805bd30e306c5e24d7",
    "X_test.h5": "accb7e77162a38b9e80d795f0145b1bf310dc17c",
    "y_train.h5": "2908208fec855004610658b6ad7b7f686a82e222",
    "y_valid.h5": "126769487590e1d1116e6ae7b3cadd27a0d16171",
    "y_test.h5": "45c2e02dd0a8dd80f6e8e6538049a3c83043d5cf",
}
FILES = github("mosi_mfn", REPOSITORY, COMMIT, "data/", _BLOBS)
COLUMNS = {"T": slice(0, 300), "A": slice(300, 305), "V": slice(305, 325)}  # GloVe, COVAREP, FACET
WIDTH = 325
MOST_COMPRESSED = 1100  # no deflated data unpack to more times their size


def paths(cache: Path | None = None) -> dict[str, Path]:
    """All six files, name -> path, downloaded if necessary (``download.obtain``)."""
    return {name: obtain(file, cache) for name, file in FILES.items()}


def read(path: dict[str, Path], info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """Read the six files, name ("X_train.h5", ...) -> path.

    An utterance's frames are those from the first to the last time step that is not all zero.

    Returns:
        The splits, and notes for the data card: split -> modality -> counts of NaN and infinite values (set
        to 0) and of frames that are all zero, and how many utterances are padded in front, behind, and empty.

    Raises:
        DataError: a file is not HDF5, or of another shape, row count or label range, or without finite values.
        OSError: a file cannot be opened.
    """
    splits, notes = {}, {}
    for s in SPLITS:
        x, y = path[f"X_{s}.h5"], path[f"y_{s}.h5"]
        label = checks.labels(dataset(y), f"{y}, data", info)
        array = checks.numbers(dataset(x), f"{x}, data", (len(label), None, WIDTH))
        mask, padding = real_steps(array)
        if not mask.any():
            raise DataError(f"{x}, data: found only zeros, expected features")
        frames, counts = {}, {}
        for m, columns in COLUMNS.items():
            own = np.ascontiguousarray(array[mask][:, columns])
            values, counts[m] = checks.finite(own, f"{x}, data, modality {m}")
            counts[m] |= real_frames.zeros(values)
            frames[m] = Frames.from_lengths(values, mask.sum(1))
        ids = [f"{s}_{row}" for row in range(len(label))]  # the files have none
        splits[s] = Split(frames, label, ids, [""] * len(label))
        notes[s] = {**counts, "padding": padding}
    return splits, notes


def dataset(path: Path, name: str = "data") -> np.ndarray:
    """One dataset of an HDF5 file.

    Raises:
        DataError: the file is not HDF5, lacks it, or declares more than it can hold.
        OSError: the file cannot be opened.
    """
    with Path(path).open("rb") as stream:  # h5py's own message on a missing file is three lines long
        try:
            with h5py.File(stream, "r") as file:
                found, listed = file.get(name), ", ".join(file) or "nothing"
                is_data = isinstance(found, h5py.Dataset)
                if is_data and found.nbytes <= MOST_COMPRESSED * Path(path).stat().st_size:
                    return found[()]
                shape = " x ".join(map(str, found.shape)) if is_data else ""
        except Exception as error:  # h5py raises almost any class on a damaged file
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: found no readable HDF5 file ({reason}), expected a dataset {name!r}") from error
    if not is_data:
        raise DataError(f"{path}: found {listed}, expected a dataset {name!r}")
    said = f"a declared size of {shape}, more than this file can hold"
    raise DataError(f"{path}, {name}: found {said}, expected (N, T, d) or (N,)")


def real_steps(array: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """(N, T) True from the first to the last step that is not all zero, and where the padding lies."""
    mask = real_frames.span(np.any(array, axis=2))
    some = mask.any(1)
    counts = {"front": some & ~mask[:, 0], "behind": some & ~mask[:, -1], "empty": ~some}
    return mask, {name: int(rows.sum()) for name, rows in counts.items()}


SOURCES = {"mosi": {"public-mfn": PublicSource(FILES, read, encoder="GloVe", text="GloVe vectors of the words")}}
