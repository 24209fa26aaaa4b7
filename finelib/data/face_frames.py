"""The pictures of a recording and the face in each: video features are made of them, and people are shown them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from finelib.data import face_models, media
from finelib.data.faces import Faces
from finelib.data.safe_pickle import DataError


@dataclass(frozen=True)
class FaceFrame:
    """One picture that was looked at.

    Attributes:
        seconds: its time in the file, the clock of ``start`` and ``end`` in clips.csv.
        picture: (H, W, 3) uint8.
        points: (478, 3) float64, x and y in pixels of the picture; None where there is no face.
    """

    seconds: float
    picture: np.ndarray
    points: np.ndarray | None


def read(path: Path, start: float, end: float, cache: Path | None = None) -> Iterator[FaceFrame]:
    """Every picture that video features are made of, those without a face too; none where there are no pictures.

    Args:
        start, end: seconds, of the stretch.
        cache: where the face models are kept, which are fetched when the first picture needs them.

    Raises:
        DataError: the face models cannot be had or kept, which says nothing of the recording.
        OSError, ValueError: it cannot be decoded.
    """
    models = None
    for seconds, picture in media.pictures(path, start, end):
        models = models or _models(cache)
        points = models.points(picture)
        yield FaceFrame(seconds, picture, points if points is not None and np.isfinite(points).all() else None)


def kept(path: Path, start: float, end: float, k: int, cache: Path | None = None) -> FaceFrame:
    """The picture that frame ``k`` of the video features was made of: the one of place ``k`` with a face.

    The recording is read again as it was for the features; neither the picture nor its time was kept.

    Raises:
        DataError: there are not as many; and as ``read``.
        OSError, ValueError: as ``read``.
    """
    with_face = (frame for frame in read(path, start, end, cache) if frame.points is not None)
    found = next(islice(with_face, k, None), None)
    if found is None:
        raise DataError(f"{path.name}: found no picture {k} with a face, expected those of its features")
    return found


def _models(cache: Path | None) -> Faces:
    try:
        return Faces(face_models.folder(cache))
    except OSError as error:
        raise DataError(str(error)) from error
