"""Public CMU-MOSI: downloads, checksums, and both readers, on the real files where they are."""

import csv
import hashlib
import http.server
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from make_files import write_mfn

from finelib.data import download, public, public_mfn, sources
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS, Frames
from finelib.data.safe_pickle import DataError

MOSI = CORPORA["mosi"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mirror(monkeypatch):
    folder = Path(os.environ.get("FINE_DATA_MIRROR") or ROOT.parent / "shared" / "data")
    if not (folder / "mosi_public" / "label.csv").is_file():
        pytest.skip("the public files are not here: set FINE_DATA_MIRROR")
    monkeypatch.setenv("FINE_DATA_MIRROR", str(folder))
    return folder


def frames_of(frames: Frames, row: int) -> np.ndarray:
    return frames.values[frames.start[row] : frames.start[row] + frames.length[row]]


def test_git_blob_ids():
    # `git hash-object` of an empty file and of "hello\n"
    for content, blob in (
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ):
        path = Path(os.environ["FINE_CACHE"]).parent / "blob"
        path.write_bytes(content)
        assert download._checksum(path, "git-blob:") == f"git-blob:{blob}"


def test_download_is_verified_and_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("FINE_DATA_MIRROR", raising=False)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.txt").write_bytes(b"hello\n")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.txt"
    blob = "git-blob:ce013625030ba8dba906f756967f9e9ca394464a"
    try:
        with pytest.raises(DataError, match="a.txt: found git-blob:ce01.*, expected git-blob:0000"):
            download.obtain(download.PublicFile("f/a.txt", url, "git-blob:" + "0" * 40))
        assert list((tmp_path / "cache").rglob("*.txt")) == []  # nothing unverified is left
        path = download.obtain(download.PublicFile("f/a.txt", url, blob))
        assert path.read_bytes() == b"hello\n" and list(path.parent.iterdir()) == [path]
    finally:
        server.shutdown()
        server.server_close()
    assert download.obtain(download.PublicFile("f/a.txt", url, blob)) == path  # no network needed any more
    path.write_bytes(b"hell")
    with pytest.raises(DataError, match="could not be downloaded.*FINE_DATA_MIRROR to a folder that holds f/a.txt"):
        download.obtain(download.PublicFile("f/a.txt", url, blob))


class Unruly(http.server.BaseHTTPRequestHandler):
    """What a server or a network may do: each path is one fault."""

    def do_GET(self):
        fault, body = self.path.strip("/"), b"hello\n"
        if fault == "error":
            self.send_error(503)
        elif fault == "elsewhere":  # to the same bytes on another host
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/whole")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write({"partial": body[:3], "altered": b"hellO\n", "login": b"<html>"}.get(fault, body))

    def log_message(self, *_):
        pass


@pytest.fixture
def unruly(monkeypatch):
    monkeypatch.delenv("FINE_DATA_MIRROR", raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unruly)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("error", "error: could not be downloaded .HTTPError."),
        ("partial", "could not be downloaded"),
        ("altered", "altered: found git-blob:.*, expected git-blob:ce01"),
        ("login", "login: found git-blob:.*, expected"),
        ("elsewhere", "elsewhere: found git-blob:.*, expected git-blob:ce01"),
    ],
)
def test_nothing_half_or_wrong_is_ever_used(unruly, fault, sentence):
    """Every fault is one sentence, leaves no file, and once the server is well again the file comes."""
    blob, cache = "git-blob:ce013625030ba8dba906f756967f9e9ca394464a", Path(os.environ["FINE_CACHE"])
    with pytest.raises(DataError, match=sentence) as error:
        download.obtain(download.PublicFile("f/a.txt", unruly + fault, blob))
    assert "\n" not in str(error.value) and not [path for path in cache.rglob("*") if path.is_file()]
    path = download.obtain(download.PublicFile("f/a.txt", unruly + "whole", blob))
    assert path.read_bytes() == b"hello\n"


def test_public_mosi(mirror):
    paths = public.paths()
    splits, _ = public.read(paths, MOSI)
    assert [len(splits[s]) for s in SPLITS] == [1284, 229, 686]
    train = splits["train"]
    assert set(train.frames) == {"A"} and train.frames["A"].values.shape == (1284, 73)
    row = train.ids.index("03bSnISJMiM_1")
    assert train.label[row] == np.float32(2.4)
    assert hashlib.sha256(train.text[row].encode()).hexdigest().startswith("3f802f034eb4482d")
    assert sum((train.label == 0).tolist()) == 53
    added = {"2WGyTLYerpo_44": 0.2, "BioHAh1qJAQ_30": -2.0, "5W7Z1C_fDaE_24": 2.4}  # the first source lacks them
    assert {i: train.label[train.ids.index(i)] for i in added} == {i: np.float32(v) for i, v in added.items()}
    test = splits["test"]
    assert test.label[test.ids.index("lXPQBPVc5Cw_30")] == np.float32(-2.0)
    assert all(t.strip() and t == t.lower() for s in splits.values() for t in s.text)
    audio = {i: values for s in splits.values() for i, values in zip(s.ids, s.frames["A"].values, strict=True)}
    tables = {name: path for name, path in paths.items() if path.suffix == ".csv"}
    cells = {name: list(csv.reader(path.read_text().splitlines())) for name, path in tables.items()}
    joined = 0
    for part in ("train", "test"):  # the join again, row by row
        for text, line in zip(cells[f"text_{part}.csv"], cells[f"audio_{part}0.csv"], strict=True):
            name = cells["transcripts.csv"][int(text[0])][0]
            if name in audio:
                assert np.array_equal(audio[name], np.array(line[:73], dtype=np.float64).astype(np.float32))
                joined += 1
    assert joined == 2199
    for s in splits.values():  # the binary label of the audio files is not among the features
        assert not any(np.array_equal(column, s.label >= 0) for column in s.frames["A"].values.T)


def test_public_mosi_refuses_another_file(mirror, tmp_path, monkeypatch):
    shutil.copytree(mirror / "mosi_public", tmp_path / "m" / "mosi_public")
    shutil.copytree(mirror / "mosi_mertools", tmp_path / "m" / "mosi_mertools")
    label = tmp_path / "m" / "mosi_public" / "label.csv"
    label.chmod(0o644)
    label.write_bytes(label.read_bytes().replace(b",2.4,", b",2.5,", 1))
    monkeypatch.setenv("FINE_DATA_MIRROR", str(tmp_path / "m"))
    with pytest.raises(DataError, match="label.csv: found sha256:.*expected sha256:74c52aba"):
        sources.load("mosi", "public")
    assert "label.csv: found" in sources.available("mosi", "public")


def test_leaked_features_know_their_videos(mirror):
    leaked = public.leaked_video_features()
    assert leaked.values.shape == (2195, 100)
    video = np.array([i.rsplit("_", 1)[0] for i in leaked.ids])
    assert (len(set(video[leaked.learned_from])), len(set(video[~leaked.learned_from]))) == (62, 31)
    assert not set(video[leaked.learned_from]) & set(video[~leaked.learned_from])
    assert leaked.learned_from[leaked.split == "test"].mean() > 0.5  # most of the test split is in it


@pytest.mark.parametrize("front", [True, False])
def test_mfn_finds_the_padding(tmp_path, front):
    folder = write_mfn(tmp_path, front=front)
    splits, notes = public_mfn.read({name: folder / name for name in public_mfn.FILES}, MOSI)
    with h5py.File(folder / "X_train.h5") as file:
        array = file["data"][()].astype(np.float32)
    some = np.abs(array).sum(2) > 0
    train = splits["train"]
    assert np.array_equal(train.frames["T"].length, some.sum(1))
    for m, (low, high) in {"T": (0, 300), "A": (300, 305), "V": (305, 325)}.items():
        for row in range(len(train)):
            assert np.array_equal(frames_of(train.frames[m], row), array[row, some[row], low:high])
    padded = int((some.sum(1) < 20).sum())
    assert notes["train"]["padding"] == {"front": padded * front, "behind": padded * (not front), "empty": 0}


def test_mfn_keeps_zero_steps_inside(tmp_path):
    folder = write_mfn(tmp_path)
    with h5py.File(folder / "X_test.h5", "a") as file:
        array = np.zeros((6, 20, 325))
        array[0, [3, 7], 10] = 1
        file["data"][()] = array
    splits, notes = public_mfn.read({name: folder / name for name in public_mfn.FILES}, MOSI)
    assert splits["test"].frames["V"].length.tolist() == [5, 0, 0, 0, 0, 0]
    assert notes["test"]["padding"] == {"front": 1, "behind": 1, "empty": 5}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("X_test", np.ones((6, 20, 324)), r"X_test.h5, data: found shape \(6, 20, 324\), expected \(6, any, 325\)"),
        ("X_test", np.ones((5, 20, 325)), r"found shape \(5, 20, 325\)"),
        ("X_test", np.zeros((6, 20, 325)), "found only zeros"),
        ("X_test", np.full((6, 20, 325), np.nan), "found no finite value"),
        ("y_test", np.full(6, 4.0), "y_test.h5, data: found 4 in row 0"),
        ("y_test", np.zeros(0), "found no rows"),
        ("y_test", None, "y_test.h5: found other, expected a dataset 'data'"),
    ],
)
def test_mfn_broken_files_are_named(tmp_path, name, value, sentence):
    folder = write_mfn(tmp_path)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["other" if value is None else "data"] = 0 if value is None else value
    with pytest.raises(DataError, match=sentence):
        public_mfn.read({name: folder / name for name in public_mfn.FILES}, MOSI)


def test_mfn_truncated_file(tmp_path):
    folder = write_mfn(tmp_path)
    os.truncate(folder / "X_test.h5", 1000)
    with pytest.raises(DataError, match="X_test.h5: found no readable HDF5 file"):
        public_mfn.read({name: folder / name for name in public_mfn.FILES}, MOSI)


def test_mfn_with_the_real_labels(mirror, tmp_path):
    if not (mirror / "mosi_mfn" / "y_train.h5").is_file():
        pytest.skip("the label files of MFN are not here")
    paths = {
        name: download.obtain(public_mfn.FILES[name]) for name in ("y_train.h5", "y_valid.h5", "y_test.h5")
    }  # verified
    generated = write_mfn(tmp_path, MOSI.sizes, steps=4)
    paths |= {f"X_{s}.h5": generated / f"X_{s}.h5" for s in SPLITS}
    splits, _ = public_mfn.read(paths, MOSI)
    assert [len(splits[s]) for s in SPLITS] == [1284, 229, 686]
    assert splits["train"].label[:3].tolist() == np.float32([-0.5, -1.2, 1.8]).tolist()
    non_zero = (splits["test"].label != 0).sum()
    assert non_zero == 656  # as published for this test split
