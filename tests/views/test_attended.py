"""The picture at the frame attended most: the right one out of the user's file, or a sentence."""

import shutil
from dataclasses import replace

import drawn_faces
import numpy as np
import pytest
import torch

import finelib
from finelib.data.face_frames import FaceFrame
from finelib.models import build
from finelib.runs import presets
from finelib.views import attended, explorer

pytest.importorskip("av", reason="extra 'recordings' is not installed")
pytest.importorskip("librosa", reason="extra 'recordings' is not installed")
pytest.importorskip("ai_edge_litert", reason="extra 'recordings' is not installed")

COLOURS = [(200, 30, 30), (30, 160, 30), (30, 30, 200)]  # of the background, second by second
CLIPS = """file,text,label,split,start,end
a.mkv,one,-1,train,,
a.mkv,two,1.5,train,1,3
b.mkv,three,1,valid,,
a.mkv,four,1,test,0.5,2.5
away.mkv,five,-1,test,,
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, face_cache):
    """A folder, its corpus and an untrained model. Tested: a stretch, and a recording in which no face is found."""
    folder = tmp_path_factory.mktemp("drawn")
    drawn_faces.write(folder / "a.mkv", 10, 3, lambda s: drawn_faces.picture(COLOURS[int(s)], face=s >= 0.85))
    drawn_faces.write(folder / "b.mkv", 10, 1, lambda _: drawn_faces.picture(COLOURS[0]))
    drawn_faces.write(folder / "away.mkv", 10, 1, lambda _: drawn_faces.picture(COLOURS[0], face=False))
    (folder / "clips.csv").write_text(CLIPS)
    corpus = finelib.load(folder, cache=face_cache, jobs=1)
    torch.manual_seed(0)
    return folder, corpus, build(replace(presets.DEMO, modalities=corpus.modalities), corpus)


@pytest.fixture
def shown(made, face_cache, monkeypatch):
    """Function: the frame that is attended to -> the explorer, and a list of what it drew as the picture."""
    _, corpus, model = made
    look, drawn = explorer.look, []
    monkeypatch.setattr(explorer, "draw", lambda *args: drawn.append(args[-1]))
    monkeypatch.setattr(explorer, "png", lambda *_: b"")

    def run(folder, k):
        def looked(*args):
            seen = look(*args)
            attention = torch.zeros_like(seen.attention["V"])
            attention[:, min(k, attention.shape[1] - 1)] = 1
            return replace(seen, attention=seen.attention | {"V": attention})

        monkeypatch.setattr(explorer, "look", looked)
        return explorer.explorer(model, corpus, folder=folder, cache=face_cache), drawn

    return run


def copied(folder, to):
    return shutil.copytree(folder, to / "copy")


def test_attention_is_averaged_over_experts_and_queries():
    attention = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]])  # means .3, .37, .33
    assert attended.most(attention) == 1


@pytest.mark.parametrize(("k", "seconds"), [(0, 0.9), (1, 1.1), (5, 1.9), (6, 2.1), (7, 2.3)])
def test_the_picture_is_that_of_the_attended_frame(made, shown, k, seconds):
    """Of 0.5 to 2.5 s are looked at 0.5, 0.7, which have no face, 0.9, 1.1, ...: its colour is that second's."""
    _, (frame,) = shown(made[0], k)
    assert frame.seconds == pytest.approx(seconds, abs=1e-3)
    assert tuple(frame.picture[2, 2].tolist()) == COLOURS[int(seconds)]
    assert frame.points.shape == (478, 3)


def test_without_a_folder_no_recording_is_opened(shown, monkeypatch):
    monkeypatch.setattr(attended, "Pictures", None)
    assert shown(None, 0)[1] == [None]


def test_what_stands_in_place_of_a_picture(made, shown, tmp_path):
    folder = copied(made[0], tmp_path)
    box, drawn = shown(folder, 3)
    which, muted = box.children[:2]
    muted.value = "video"
    assert drawn[-1] == "video is muted"
    muted.value = "text"
    assert isinstance(drawn[-1], FaceFrame)
    which.value = 1
    assert drawn[-1] == "the clip has no picture with a face"
    which.value = 0
    with (folder / "a.mkv").open("ab") as file:
        file.write(bytes(1))
    muted.value = explorer.EVERYTHING
    assert drawn[-1] == "a.mkv is not the file that the features were made of"
    (folder / "a.mkv").unlink()
    assert shown(folder, 3)[1][-1] == "a.mkv is no longer there"
    (folder / "clips.csv").write_text("file,label\nb.mkv,1")
    assert shown(folder, 3)[1][-1] == "no such clip in clips.csv"


def test_a_model_without_video_says_so(made, face_cache, monkeypatch):
    folder, corpus, _ = made
    drawn = []
    monkeypatch.setattr(explorer, "draw", lambda *args: drawn.append(args[-1]))
    monkeypatch.setattr(explorer, "png", lambda *_: b"")
    explorer.explorer(build(replace(presets.DEMO, modalities=("T",)), corpus), corpus, folder=folder, cache=face_cache)
    assert drawn == ["the model reads no video"]


def test_the_picture_is_drawn_beside_the_attention_and_marked_in_it(made, face_cache):
    folder, corpus, model = made
    seen, k = explorer.look(model, corpus.batch([0], "test", model.modalities)), 2
    seen.attention["V"][:, k] = 1
    frame = attended.Pictures(folder, corpus, face_cache).at(corpus.splits["test"].ids[0], k)
    figure = explorer.draw(seen, 1.0, -1, 1, model.config.queries, frame)
    (axis,) = (axis for axis in figure.axes if axis.get_title() == f"most attended picture, {frame.seconds:.2f} s")
    assert np.array_equal(axis.images[0].get_array(), frame.picture)
    assert np.allclose(axis.collections[0].get_offsets(), frame.points[:, :2])
    marks = [line.get_xdata()[0] for axis in figure.axes for line in axis.lines if line.get_linestyle() == ":"]
    assert marks == [k]
    told = explorer.draw(seen, 1.0, -1, 1, model.config.queries, "video is muted")
    assert "video is muted" in [text.get_text() for axis in told.axes for text in axis.texts]
