"""The picture that a model looks at most, out of somebody's own recording: decoded when it is shown, never kept."""

import textwrap
from pathlib import Path

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from finelib.data import face_frames, recordings, store
from finelib.data.face_frames import FaceFrame
from finelib.data.features import Corpus
from finelib.views.style import COLOURS


class Pictures:
    """The recordings behind a corpus.

    Args:
        folder: the one with ``clips.csv`` that the corpus was loaded from.
        cache: as in ``finelib.load``.

    Raises:
        DataError: the folder's table is not what it should be.
        OSError: it cannot be opened.
    """

    def __init__(self, folder: Path | str, corpus: Corpus, cache: Path | None = None):
        self.clips = {clip.name: clip for clip in recordings.read_clips(Path(folder), there=False)}
        self.sha256 = {file["name"]: file["sha256"] for file in corpus.card["files"]}
        self.cache = cache

    def at(self, name: str, k: int) -> FaceFrame | str:
        """The picture of video frame ``k`` of a clip, or a sentence that says why there is none."""
        clip = self.clips.get(name)
        if clip is None:
            return f"no such clip in {recordings.TABLE}"
        try:
            recordings.check_packages()
            if not clip.path.is_file():
                return f"{clip.file} is no longer there"
            if store.file_sha256(clip.path, self.cache) != self.sha256.get(clip.file):
                return f"{clip.file} is not the file that the features were made of"
            return face_frames.kept(clip.path, clip.start, clip.end, k, self.cache)
        except (ImportError, OSError, ValueError) as error:
            return str(error)


def most(attention: Float[Tensor, "R T"]) -> int:
    """The frame that gets the most attention, averaged over experts and queries (rows)."""
    return int(attention.mean(0).argmax())


def draw(axis: Axes, shown: FaceFrame | str) -> None:
    """A picture with the points of the face and its time, or a sentence; at the foot, where the row of video is."""
    axis.set_axis_off()
    if isinstance(shown, str):
        axis.text(0.5, 0.15, textwrap.fill(shown, 36), ha="center", fontsize=8, color="0.35")
        return
    axis.set_anchor("S")
    axis.imshow(shown.picture)
    axis.autoscale(False)
    axis.scatter(*shown.points[:, :2].T, s=2.5, linewidths=0, color=COLOURS["V"])
    axis.set_title(f"most attended picture, {shown.seconds:.2f} s", fontsize=9)
