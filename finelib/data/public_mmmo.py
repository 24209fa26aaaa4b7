"""Public ICT-MMMO: reviews of films in 20 segments, from the data of MFN (Zadeh et al., AAAI 2018; MIT licence)."""

from pathlib import Path

import numpy as np

from finelib.data import checks, real_frames
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicSource, github
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.public_mfn import COMMIT, REPOSITORY, dataset, real_steps
from finelib.data.safe_pickle import DataError

_BLOBS = {
    "audio_train.h5": "43b53d1e063c3f2925d11829ce990be72428b545",
    "audio_valid.h5": "4ab80596e7d4cdefceb3ff00e7c7a16ebad465a0",
    "audio_test.h5": "2484532710b824fb8c612fdeb24a806502b70275",
    "video_train.h5": "e6fdbe8dd083a0e99783624d04338c8f349565e7",
    "video_valid.h5": "4a55b478f8dea90aaf6d4133cb4ac24249d8e20c",
    "video_test.h5": "ef67d8472c9134fbdc83e26158eec76635d81f6a",
    "y_train.h5": "cc283761a63a872a03767aea5ef76da437192054",
    "y_valid.h5": "1eea5176f2b25c48edf3066113bc52d4f7bb55dd",
    "y_test.h5": "19f9bcbc33e4f3af07c0e5ba78a19130edf3a4fb",
}
_TEXT_BLOBS = {
    "text_train_emb.h5": "9d3e4469b95a0b8efc6772b5ea3e64b77ad36ae4",
    "text_valid_emb.h5": "69a229e2c06882fe885d384e6ff5a9f5e8355209",
    "text_test_emb.h5": "d80d925e138bd5d8bcd4af632a708578170a4829",
}
FILES = github("ict_mmmo", REPOSITORY, COMMIT, "new_data/mmmo/", _BLOBS)
TEXT_FILES = github("ict_mmmo", REPOSITORY, COMMIT, "new_data/mmmo/", _TEXT_BLOBS)
FORMS = {"T": ("text_{}_emb.h5", 300), "A": ("audio_{}.h5", 74), "V": ("video_{}.h5", 36)}
DATASET, SEGMENTS = "d1", 20
NEUTRAL = 3  # of the ratings 1 to 5


def read(path: dict[str, Path], info: CorpusInfo) -> tuple[dict[str, Split], dict]:
    """Audio and video, and text where its files are given; segments from the first to the last that is not all zero.

    Labels are the ratings less 3, so that neutral is 0.

    Raises:
        DataError: a file is not HDF5, or of another shape, row count or label range, or without finite values.
        OSError: a file cannot be opened.
    """
    splits, notes = {}, {}
    for s in SPLITS:
        y = path[f"y_{s}.h5"]
        label = checks.labels(checks.vector(dataset(y, DATASET), f"{y}, {DATASET}") - NEUTRAL, f"{y}, less 3", info)
        arrays = {}
        for m, (form, width) in FORMS.items():
            if (name := form.format(s)) in path:
                shape = (len(label), SEGMENTS, width)
                arrays[m] = checks.numbers(dataset(path[name], DATASET), f"{path[name]}, {DATASET}", shape)
        mask, padding = real_steps(np.concatenate(list(arrays.values()), axis=2))
        if not mask.any():
            raise DataError(f"{y.parent}, {s}: found only zeros, expected features")
        frames, counts = {}, {}
        for m, array in arrays.items():
            values, counts[m] = checks.finite(array[mask], f"{path[FORMS[m][0].format(s)]}, {DATASET}")
            counts[m] |= real_frames.zeros(values)
            frames[m] = Frames.from_lengths(values, mask.sum(1))
        ids = [f"{s}_{row}" for row in range(len(label))]  # the files have none
        splits[s] = Split(frames, label, ids, [""] * len(label))
        notes[s] = {**counts, "padding": padding}
    return splits, notes | {"known": ["ratings 1 to 5 are held as -2 to 2", "the source has no ids and no raw text"]}


SOURCES = {
    "ict_mmmo": {
        "public": PublicSource(FILES, read, encoder="none", text="none"),
        "public-text": PublicSource(FILES | TEXT_FILES, read, encoder="GloVe", text="GloVe vectors of the words"),
    }
}
