"""Where a frame of the video features comes from: its time in the file, its picture, the face on it."""

import drawn_faces
import numpy as np
import pytest

from finelib.data import face_frames, faces, media, recordings
from finelib.data.safe_pickle import DataError

pytest.importorskip("av", reason="extra 'recordings' is not installed")
pytest.importorskip("ai_edge_litert", reason="extra 'recordings' is not installed")

COLOURS = [(200, 30, 30), (30, 160, 30), (30, 30, 200), (200, 200, 30)]  # of the background, second by second
AWAY = ((0.0, 0.4), (1.6, 2.0))  # seconds without a face


def seen_at(seconds: float) -> np.ndarray:
    away = any(start <= seconds < end for start, end in AWAY)
    return drawn_faces.picture(COLOURS[int(seconds)], face=not away)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds, ten pictures each."""
    return drawn_faces.write(tmp_path_factory.mktemp("drawn") / "a.mkv", 10, 4, seen_at)


def colour(frame: face_frames.FaceFrame) -> tuple:
    return tuple(frame.picture[2, 2].tolist())


@pytest.mark.parametrize(
    ("rate", "expected"), [(12, [0, 3, 5, 8, 10, 12, 15]), (10, [0, 2, 4, 6, 8, 10, 12]), (5, range(7)), (2, range(3))]
)
def test_of_each_fifth_of_a_second_the_first_picture_is_looked_at(rate, expected, tmp_path):
    path = drawn_faces.write(
        tmp_path / "a.mkv", rate, 1.4, lambda s: drawn_faces.picture((round(s * rate), 0, 0), False)
    )
    times, pictures = zip(*media.pictures(path), strict=True)
    assert np.allclose(times, np.array(expected) / rate, atol=1e-3)  # the file tells milliseconds
    assert [picture[0, 0, 0] for picture in pictures] == list(expected)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, np.inf, {0: 0.4, 5: 1.4, 6: 2.0, 15: 3.8}),  # 0.4 to 1.4, then 2.0 to 3.8
        (1.0, 3.0, {0: 1.0, 2: 1.4, 3: 2.0, 7: 2.8}),
        (1.05, 2.5, {0: 1.1, 2: 1.5, 3: 2.1, 4: 2.3}),  # looked at: 1.1, 1.3, 1.5, 1.7, 1.9, ...
    ],
)
def test_a_frame_has_the_time_and_the_picture_it_was_made_of(clip, face_cache, start, end, expected):
    for k, seconds in expected.items():
        frame = face_frames.kept(clip, start, end, k, face_cache)
        assert frame.seconds == pytest.approx(seconds, abs=1e-3)
        assert colour(frame) == COLOURS[int(seconds)]
    with pytest.raises(DataError, match=rf"a.mkv: found no picture {max(expected) + 1} with a face"):
        face_frames.kept(clip, start, end, max(expected) + 1, face_cache)


def test_frames_are_those_of_the_features(clip, face_cache, tmp_path):
    (made,) = recordings.extract([recordings.Clip("a", "a.mkv", clip, 1.05, 2.5)], face_cache, jobs=1)
    assert len(made.frames["V"]) == 5
    for k, features in enumerate(made.frames["V"]):
        frame = face_frames.kept(clip, 1.05, 2.5, k, face_cache)
        assert np.array_equal(faces.features(frame.points), features)
        assert (frame.points[:, :2] > 0).all() and (frame.points[:, :2] < (160, 120)).all()
        eyes = frame.points[list(faces.OUTER), :2]  # outer corners, drawn at (80 -+ 22.5, 53.5)
        assert np.abs(eyes - [[57.5, 53.5], [102.5, 53.5]]).max() < 4
