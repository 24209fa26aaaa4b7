"""Sound and pictures of recordings, decoded by PyAV (extra ``recordings``)."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RATE = 22050  # Hz, of the sound
FPS = 5.0  # pictures a second
ROUNDING = 0.0005  # seconds: Matroska tells times in milliseconds


def sound(path: Path, start: float = 0.0, end: float = np.inf) -> np.ndarray | None:
    """Samples (S,) float32 of all channels' mean at 22,050 Hz, from ``start`` to ``end`` seconds; None without a track.

    Raises:
        OSError, ValueError: it cannot be decoded (PyAV's errors are of these classes).
    """
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        resampler, parts, begun = av.AudioResampler("flt", "mono", RATE), [], None
        for frame in container.decode(container.streams.audio[0]):
            if frame.time is not None and frame.time >= end:
                break
            begun = frame.time or 0.0 if begun is None else begun
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        parts += [part.to_ndarray()[0] for part in resampler.resample(None)] if parts else []
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    first, last = (min(max(t - (begun or 0.0), 0) * RATE, len(samples)) for t in (start, end))
    return samples[round(first) : round(last)]


def pictures(path: Path, start: float = 0.0, end: float = np.inf) -> Iterator[tuple[float, np.ndarray]]:
    """Time in the file (seconds) and picture (H, W, 3) uint8, upright; none without a track.

    Five a second as far as there are as many: of each fifth of a second from ``start`` the first picture.

    Raises:
        OSError, ValueError: they cannot be decoded.
    """
    import av

    with av.open(str(path)) as container:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        last = -1
        for frame in container.decode(streams[0]) if streams else ():
            time = frame.time or 0.0
            if time >= end:
                break
            fifth = math.floor((time - start + ROUNDING) * FPS)
            if fifth > last:
                last = fifth
                yield time, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
