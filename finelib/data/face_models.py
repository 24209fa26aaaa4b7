"""The models that find faces: taken out of MediaPipe's wheel, which is downloaded once and never installed."""

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

from finelib.data import store
from finelib.data.safe_pickle import DataError

WHEEL = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"  # the models in it are those of every platform
URL = f"https://files.pythonhosted.org/packages/ad/83/56f760fecdc60de84c529d6c05c9dfc7d972617c6632bd254d5e021e5b16/{WHEEL}"
SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
INSIDE = {
    "detection": "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    "landmarks": "mediapipe/modules/face_landmark/face_landmark.tflite",
    "iris": "mediapipe/modules/iris_landmark/iris_landmark.tflite",
}


def folder(cache: Path | None = None) -> Path:
    """The folder of detection.tflite, landmarks.tflite and iris.tflite.

    The wheel is taken from ``mediapipe/`` of FINE_DATA_MIRROR where it lies there, else downloaded.

    Raises:
        DataError: it cannot be had, or has another checksum.
        OSError: the cache cannot be written.
    """
    found = Path(cache or store.cache_folder()) / "faces" / SHA256[:16]
    store.keep(found, _fill)
    return found


def _fill(target: Path) -> None:
    mirror = Path(os.environ.get("FINE_DATA_MIRROR") or ".") / "mediapipe" / WHEEL
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="wheel-") as partial:
        wheel = mirror if mirror.is_file() else _download(Path(partial))
        with wheel.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != SHA256:
            raise DataError(f"{wheel}: found SHA-256 {digest}, expected {SHA256}")
        with zipfile.ZipFile(wheel) as archive, store.writable(target.parents[1]):
            for name, inside in INSIDE.items():
                (target / f"{name}.tflite").write_bytes(archive.read(inside))


def _download(partial: Path) -> Path:
    import pooch
    import requests

    try:
        fetch = pooch.HTTPDownloader(timeout=60, progressbar=True)
        return Path(pooch.retrieve(URL, f"sha256:{SHA256}", fname=WHEEL, path=partial, downloader=fetch))
    except (requests.RequestException, ValueError) as error:
        advice = f"where there is no network put it into mediapipe/ of a folder that FINE_DATA_MIRROR names: {WHEEL}"
        raise DataError(f"{URL}: could not be downloaded ({type(error).__name__}); {advice}") from error
