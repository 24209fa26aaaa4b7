"""A face in a picture: found, and 478 points on it, by three models of MediaPipe that LiteRT runs offline.

The steps are those of MediaPipe's face mesh for single pictures: a square round the face that the detector found,
turned so that the eyes are level, is read by the mesh model (468 points); a square round each eye by the iris model (5
points each). MediaPipe's own model of all 478 has operations that LiteRT lacks.
"""

from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import expit

POINTS, WIDTH = 478, 3 * 478
LEAST = 0.5  # probability of a face, for detector and mesh
OVERLAP = 0.3  # of two boxes that are one face
EYES = ((33, 133), (362, 263))  # mesh points at the corners, of the eye at the left of the picture first
OUTER = (33, 263)
RECIPE = "MediaPipe 0.10.21: short-range detector, face mesh, iris; 478 points about the eyes, in distances of the eyes"


class Faces:
    """The models of a folder (``face_models.folder``), loaded once for many pictures."""

    def __init__(self, folder: Path):
        from ai_edge_litert.interpreter import Interpreter

        self.models = {}
        for name in ("detection", "landmarks", "iris"):
            self.models[name] = Interpreter(model_path=str(folder / f"{name}.tflite"), num_threads=1)
            self.models[name].allocate_tensors()
        self.anchors = _anchors()

    def points(self, picture: np.ndarray) -> np.ndarray | None:
        """(478, 3) float64: x and y in pixels, z in the same unit; None where there is no face.

        Args:
            picture: (H, W, 3) uint8.
        """
        found = self._detect(picture)
        if found is None:
            return None
        box, eyes = found
        square = Square.round(box, eyes, 1.5)
        mesh, score = self._run("landmarks", square.read(picture, 192, "nearest") / 255)
        if expit(score.item()) < LEAST:
            return None
        mesh = square.placed(mesh.reshape(468, 3) / 192)
        return np.concatenate([mesh, *(self._iris(picture, mesh[list(eye)], side) for side, eye in enumerate(EYES))])

    def _iris(self, picture: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
        """(5, 3) points of an iris, centre first; the model knows one side, the other is mirrored for it."""
        low, high = corners[:, :2].min(0), corners[:, :2].max(0)
        square = Square.round((*low, *high), corners[:, :2], 2.3)
        crop = square.read(picture, 64, "nearest") / 255
        _, iris = self._run("iris", crop[:, ::-1] if side else crop)
        iris = iris.reshape(5, 3) / 64
        if side:
            iris[:, 0] = 1 - iris[:, 0]
            iris = iris[[0, 3, 2, 1, 4]]  # right and left change places
        placed = square.placed(iris)
        placed[:, 2] += corners[:, 2].mean()
        return placed

    def _detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Box (x0, y0, x1, y1) and the eyes' middles (2, 2) of the surest face, in pixels."""
        height, width = picture.shape[:2]
        whole = Square(np.array([width / 2, height / 2]), max(width, height), 0.0)
        raw, score = self._run("detection", whole.read(picture, 128, "constant") / 127.5 - 1)
        score, raw = expit(score.ravel().clip(-100, 100)), raw[0].astype(np.float64) / 128
        some = np.flatnonzero(score >= LEAST)
        if not len(some):
            return None
        centre, half = self.anchors[some] + raw[some, :2], raw[some, 2:4] / 2
        points = (raw[some, 4:8].reshape(-1, 2, 2) + self.anchors[some, None]).reshape(-1, 4)
        found = np.concatenate([centre - half, centre + half, points], 1)  # (n, 8)
        best = found[score[some].argmax()]
        same = _overlap(best[:4], found[:, :4]) > OVERLAP
        merged = np.average(found[same], 0, weights=score[some][same])  # as the detector's authors do
        corner = whole.centre - whole.side / 2
        merged = merged.reshape(4, 2) * whole.side + corner
        return merged[:2].ravel(), merged[2:]

    def _run(self, name: str, image: np.ndarray) -> list[np.ndarray]:
        model = self.models[name]
        model.set_tensor(model.get_input_details()[0]["index"], image[None].astype(np.float32))
        model.invoke()
        return [model.get_tensor(output["index"]) for output in model.get_output_details()]


class Square:
    """A square of a picture that may be turned: centre (x, y) and side in pixels, angle in radians."""

    def __init__(self, centre: np.ndarray, side: float, angle: float):
        self.centre, self.side = centre, side
        self.axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    @classmethod
    def round(cls, box: tuple | np.ndarray, eyes: np.ndarray, scale: float) -> "Square":
        """Round a box (x0, y0, x1, y1), ``scale`` times its longer side, level with a line (2, 2)."""
        low, high = np.reshape(box, (2, 2))
        across = eyes[1] - eyes[0]
        return cls((low + high) / 2, scale * (high - low).max(), float(np.arctan2(across[1], across[0])))

    def read(self, picture: np.ndarray, size: int, outside: str) -> np.ndarray:
        """(size, size, 3) float64, bilinear; ``outside`` as in ``scipy.ndimage``."""
        steps = np.arange(size) / size - 0.5
        grid = np.stack(np.meshgrid(steps, steps), -1) * self.side  # (size, size, 2), x first
        x, y = np.moveaxis(grid @ self.axes.T + self.centre, -1, 0)
        channels = [
            map_coordinates(picture[..., c].astype(np.float64), (y, x), order=1, mode=outside) for c in range(3)
        ]
        return np.stack(channels, -1)

    def placed(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the square, its side as the unit, in the picture."""
        xy = (points[:, :2] - 0.5) @ self.axes.T * self.side + self.centre
        return np.concatenate([xy, points[:, 2:] * self.side], 1)


def features(points: np.ndarray) -> np.ndarray:
    """(1434,) float32: the points (478, 3) about the middle of the eyes, level, in distances of their outer corners."""
    left, right = points[list(OUTER)]
    across = right[:2] - left[:2]
    angle, unit = np.arctan2(across[1], across[0]), max(float(np.hypot(*across)), 1e-6)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = (points - (left + right) / 2) / unit
    return np.concatenate([moved[:, :2] @ turn.T, moved[:, 2:]], 1).ravel().astype(np.float32)


def _anchors() -> np.ndarray:
    """(896, 2) centres of the detector's boxes, in shares of the picture: two a cell of 16 x 16, six of 8 x 8."""
    parts = []
    for cells, boxes in ((16, 2), (8, 6)):
        steps = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(steps, steps)
        parts.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), boxes, 0))
    return np.concatenate(parts)


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(n,) intersection over union of a box and boxes (n, 4)."""
    inner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    area = inner.clip(min=0).prod(1)
    sizes = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (box, boxes)]
    return area / (sizes[0] + sizes[1] - area)
