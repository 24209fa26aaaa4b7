"""Recordings of a face that is drawn from ovals: nobody's, and found by the face models."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

SKIN, DARK = (224, 172, 140), (60, 40, 25)
OVALS = [(0, -0.1, 0.8, 1.0, DARK), (0, 0.02, 0.68, 0.88, SKIN)]  # x, y, half width, half height, colour
for _side in (-0.3, 0.3):
    OVALS += [(_side, -0.13, 0.15, 0.08, (255, 255, 255)), (_side, -0.13, 0.07, 0.08, DARK)]
    OVALS += [(_side, -0.31, 0.17, 0.03, DARK)]
OVALS += [
    (0, 0.15, 0.11, 0.04, (170, 115, 85)),
    (0, 0, 0.03, 0.15, (205, 150, 120)),
    (0, 0.45, 0.28, 0.05, (165, 65, 60)),
]


def picture(colour: tuple[int, int, int], face: bool = True, height: int = 120, width: int = 160) -> np.ndarray:
    """(height, width, 3) uint8: a face in the middle of a plain colour, or the colour alone."""
    y, x = (np.mgrid[:height, :width] - np.array([height / 2, width / 2])[:, None, None]) / (height / 2.4)
    made = np.full((height, width, 3), colour, np.uint8)
    for x0, y0, a, b, of in OVALS if face else ():
        made[((x - x0) / a) ** 2 + ((y - y0) / b) ** 2 < 1] = of
    return made


def write(path: Path, rate: int, seconds: float, at: Callable[[float], np.ndarray]) -> Path:
    """A video of ``rate`` pictures a second, without loss; ``at``: time in seconds -> picture."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "bgr0"
        for i in range(round(seconds * rate)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(at(i / rate), "rgb24").reformat(format="bgr0")))
        out.mux(stream.encode())
    return path
