"""Sound to frames of 33 numbers by librosa, the recipe of CH-SIMS: log F0, 20 MFCC, 12 of a constant-Q chromagram."""

import os
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from filelock import FileLock

from finelib.data import store
from finelib.data.media import RATE
from finelib.data.safe_pickle import DataError

HOP = 512  # samples between frames: 43 frames a second
LOWEST, HIGHEST = 65.0, 1000.0  # Hz, of F0
WIDTH = 33
SHORTEST = RATE  # samples that the constant-Q transform needs; shorter sound is filled up with silence
SILENT = 1e-5  # largest amplitude of a track that holds no sound
RECIPE = f"librosa: log F0 (YIN, {LOWEST:g} to {HIGHEST:g} Hz), 20 MFCC, 12 chroma CQT; {RATE} Hz, hop {HOP}"


def features(samples: np.ndarray) -> np.ndarray:
    """Frames (T, 33) float32 of samples (S,) at 22,050 Hz; none of silence or of less than a hop."""
    if len(samples) < HOP or np.abs(samples).max() < SILENT:
        return np.zeros((0, WIDTH), np.float32)
    librosa = load_librosa()
    count = 1 + len(samples) // HOP
    samples = np.pad(samples.astype(np.float32), (0, max(0, SHORTEST - len(samples))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frames that are silent
        pitch = librosa.yin(samples, fmin=LOWEST, fmax=HIGHEST, sr=RATE, hop_length=HOP)
        mfcc = librosa.feature.mfcc(y=samples, sr=RATE, n_mfcc=20, hop_length=HOP)
        chroma = librosa.feature.chroma_cqt(y=samples, sr=RATE, hop_length=HOP, tuning=0.0)
    parts = (np.log(pitch)[None], mfcc, chroma)
    return np.concatenate([part[:, :count] for part in parts]).T.astype(np.float32)


@cache
def load_librosa() -> ModuleType:
    """librosa, whose functions one process at a time compiles, into a folder of ours (or NUMBA_CACHE_DIR).

    Two processes that compile them at once can leave files of which every later process dies
    (github.com/numba/numba/issues/10128).

    Raises:
        DataError: the folder cannot be written. That is no fault of a clip, as an OSError would be taken for.
    """
    folder = Path(os.environ.setdefault("NUMBA_CACHE_DIR", str(store.cache_folder() / "numba")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / "lock").acquire()
    except OSError as error:
        found = f"found {error.strerror}, expected a folder that can be written, for what librosa compiles"
        raise DataError(f"NUMBA_CACHE_DIR={folder}: {found}") from error
    with held:
        if numba := sys.modules.get("numba"):  # imported before the folder was set
            numba.config.reload_config()
        import librosa.core.constantq
        import librosa.core.pitch
        import librosa.feature.spectral
    return librosa
