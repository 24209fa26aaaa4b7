"""A folder of recordings with ``clips.csv``: features of sound and faces are extracted here, once, and stay here.

Recordings of other people need their consent. No clip and no feature is sent anywhere.
"""

import importlib.util
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import joblib
import numpy as np
from tqdm.auto import tqdm

from finelib.data import audio, face_frames, faces, media, own_files, own_table, store
from finelib.data.features import Corpus, Frames, Split
from finelib.data.own_labels import NAME, Range
from finelib.data.safe_pickle import DataError

TABLE = "clips.csv"
VERSION = 2  # to be raised when the features of the same clip change
RECIPE = {"version": VERSION, "A": audio.RECIPE, "V": f"{faces.RECIPE}; {media.FPS:g} pictures a second"}
WIDTHS = {"A": audio.WIDTH, "V": faces.WIDTH}
PACKAGES = {"av": "av", "librosa": "librosa", "ai_edge_litert": "ai-edge-litert"}
CONSENT = "recordings of other people need their consent"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A recording or a stretch of one.

    Attributes:
        name: its id, the file with the stretch.
        file: path below the folder; ``path`` is the whole path.
        start, end: seconds; 0 and infinity for all of it.
        text: what was said, "" where that is not known.
        label: None where it is not known.
        split: "train", "valid", "test", or "".
    """

    name: str
    file: str
    path: Path
    start: float = 0.0
    end: float = np.inf
    text: str = ""
    label: float | None = None
    split: str = ""


@dataclass(frozen=True)
class Features:
    """What was extracted of a clip: modality "A", "V" -> frames (T, d); and modality -> what it lacks, in words."""

    frames: dict[str, np.ndarray]
    lacks: dict[str, str]


def is_folder(path: Path) -> bool:
    """Whether a path is a folder with ``clips.csv``."""
    return (path / TABLE).is_file()


def files(folder: Path) -> list[Path]:
    """The table and the recordings that it names, each once."""
    return [folder / TABLE, *dict.fromkeys(clip.path for clip in read_clips(folder))]


def read_clips(folder: Path, there: bool = True) -> list[Clip]:
    """The clips of a folder's ``clips.csv``, which is all that may be read of it; ``there``: each file must be there.

    Columns: file (below the folder), text, label, split, and start and end in seconds where a file holds several
    clips; only file must be there. An empty label: the clip can be predicted and no more. An empty split, in every
    row: they are drawn.

    Raises:
        DataError: the table is not what it should be; each wrong row is a line of the message.
        OSError: it cannot be opened.
    """
    table = own_table.read(folder / TABLE, ("file",))
    unknown = [c for c in table.columns if c not in ("file", "text", "label", "split", "start", "end")]
    if unknown:
        expected = "file, text, label, split, start and end alone"
        raise DataError(f"{folder / TABLE}: found the column {unknown[0]!r}, expected {expected}")
    clips: dict[str, Clip] = {}
    for line in table.rows:
        clip = _clip(table, line, folder, there)
        if clip.name in clips:
            table.refuse(line, f"{clip.name!r} a second time", "each clip once")
        clips[clip.name] = clip
    table.check()
    return list(clips.values())


def _clip(table: own_table.Table, line: int, folder: Path, there: bool) -> Clip:
    row = table.rows[line]
    file = row["file"].replace("\\", "/")
    path = folder / file
    if not file:
        table.refuse(line, "no file", "one")
    elif PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or ":" in file[:2]:
        table.refuse(line, f"the path {file!r}", "one below the folder")
    elif there and not path.is_file():
        table.refuse(line, f"no file {file!r} in the folder", "a recording")
    start, end = _seconds(table, line, "start", 0.0), _seconds(table, line, "end", np.inf)
    if start is not None and end is not None and not 0 <= start < end:
        table.refuse(line, f"start {start:g} and end {end:g}", "0 or more, and more than that")
    name = file if not (row.get("start") or row.get("end")) else f"{file}$_${start}-{end}"
    return Clip(name, file, path, start, end, row.get("text", ""), table.label(line), table.split(line))


def _seconds(table: own_table.Table, line: int, column: str, otherwise: float) -> float | None:
    return table.number(line, column, ", in seconds") if table.rows[line].get(column) else otherwise


def load(folder: Path, label_range: Range | None, seed: int, cache: Path | None, jobs: int | None) -> Corpus:
    """The labelled clips of a folder as an own corpus, its text not encoded (``own.load``).

    Raises:
        DataError: as ``read_clips``; no clip has a label; the face models cannot be had.
        ImportError: a package of the extra is missing.
        OSError: the cache cannot be written.
    """
    log.warning("%s: %s; their features stay on this machine", folder, CONSENT)
    clips = read_clips(folder)
    labelled = [clip for clip in clips if clip.label is not None]
    if not labelled:
        raise DataError(f"{folder / TABLE}: found no label, expected some to train on")
    unusual = {}
    if len(labelled) < len(clips):
        unusual["labels"] = (
            f"missing in {len(clips) - len(labelled)} clips, which are left out: they can only be predicted"
        )
    found = extract(labelled, cache, jobs)
    held = [(clip, f) for clip, f in zip(labelled, found, strict=True) if clip.text or any(map(len, f.frames.values()))]
    unusual |= {f"clips {what}:": names for what, names in lacking(labelled, found).items()}
    if not held:
        raise DataError(f"{folder}: found neither sound, faces nor text in any clip, expected some")
    fields = {
        "id": [clip.name for clip, _ in held],
        "file": [clip.file for clip, _ in held],
        "split": [clip.split for clip, _ in held],
        "regression_labels": [clip.label for clip, _ in held],
        "raw_text": [clip.text for clip, _ in held],
        "audio": [f.frames["A"] for _, f in held],
        "vision": [f.frames["V"] for _, f in held],
    }
    sha256 = {clip.file: store.file_sha256(clip.path, cache) for clip in labelled}
    rows = [[clip.name, sha256[clip.file], clip.text, clip.label, clip.split] for clip in labelled]
    name = store.key(NAME, {}, rows=rows, recipe=RECIPE, label_range=label_range, seed=seed)
    title = folder.resolve().name
    corpus = own_files.corpus_of(fields, str(folder), title, label_range, seed, unusual, sha256, name)
    corpus.card["own"]["recipe"] = RECIPE
    return corpus


def lacking(clips: list[Clip], found: list[Features]) -> dict[str, str]:
    """What clips lack -> how many and which, for the data card."""
    names: dict[str, list[str]] = {}
    for clip, features in zip(clips, found, strict=True):
        for what in dict.fromkeys(features.lacks.values()):
            names.setdefault(what, []).append(clip.name)
        if not clip.text:
            names.setdefault("without text", []).append(clip.name)
        if not clip.text and not any(map(len, features.frames.values())):
            names.setdefault("of which nothing is left", []).append(clip.name)
    return {what: f"{len(those)} ({', '.join(those[:5])}{', ...' * (len(those) > 5)})" for what, those in names.items()}


def split_of(clips: list[Clip], found: list[Features]) -> Split:
    """Clips as a split without labels (NaN)."""
    frames = {}
    for m, width in WIDTHS.items():
        arrays = [features.frames[m] for features in found]
        values = np.concatenate([np.zeros((0, width), np.float32), *arrays])
        frames[m] = Frames.from_lengths(values, np.array([len(array) for array in arrays]))
    label = np.full(len(clips), np.nan, np.float32)
    return Split(frames, label, [clip.name for clip in clips], [clip.text for clip in clips])


# ----------------------------------------------------------------------------------------------- extraction


def extract(clips: list[Clip], cache: Path | None = None, jobs: int | None = None) -> list[Features]:
    """Features of each clip, from the cache or extracted into it, some clips at a time; an interruption loses none.

    Raises:
        DataError: a clip has pictures, and the face models cannot be had.
        ImportError: a package of the extra is missing.
        OSError: the cache cannot be written.
    """
    check_packages()
    cache = Path(cache or store.cache_folder())
    folders = [_folder(clip, cache) for clip in clips]
    missing = [(clip, folder) for clip, folder in zip(clips, folders, strict=True) if not store.whole(folder)]
    if missing:
        jobs = min(jobs or os.cpu_count() or 1, len(missing))
        run = joblib.Parallel(jobs, return_as="generator_unordered")
        tasks = (joblib.delayed(_extract)(clip, folder, cache) for clip, folder in missing)
        for _ in tqdm(run(tasks), total=len(missing), desc="features of recordings", unit=" clips"):
            pass
    return [_read(folder) for folder in folders]


def check_packages() -> None:
    """Raises: ImportError: a package of the extra is missing, with the command that installs it."""
    if missing := [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]:
        raise ImportError(f"recordings: {', '.join(missing)} not installed; run pip install {' '.join(missing)}")


def _folder(clip: Clip, cache: Path) -> Path:
    """Where the features of a clip are kept: the name is the hash of its content, its stretch and the recipe."""
    content = {"file": store.file_sha256(clip.path, cache), "start": clip.start, "end": str(clip.end), **RECIPE}
    return cache / "recordings" / store.key("recordings", {}, **content)


def _extract(clip: Clip, folder: Path, cache: Path) -> None:
    store.keep(folder, lambda partial: _fill(partial, clip, cache))


def _fill(folder: Path, clip: Clip, cache: Path) -> None:
    frames, lacks = {}, {}
    for m, of in (("A", _sound), ("V", _faces)):
        try:
            frames[m], lacks[m] = of(clip, cache)
        except DataError:  # of the face models
            raise
        except (OSError, ValueError) as error:  # PyAV's errors are of these classes
            frames[m] = np.zeros((0, WIDTHS[m]), np.float32)
            lacks[m] = f"that cannot be decoded ({_reason(error)})"
    with store.writable(folder.parents[1]):
        for m, values in frames.items():
            np.save(folder / f"{m}.npy", values)
        (folder / "lacks.json").write_text(json.dumps({m: what for m, what in lacks.items() if what}))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _sound(clip: Clip, _cache: Path) -> tuple[np.ndarray, str]:
    samples = media.sound(clip.path, clip.start, clip.end)
    values = np.zeros((0, audio.WIDTH), np.float32) if samples is None else audio.features(samples)
    return values, "" if len(values) else "without sound"


def _faces(clip: Clip, cache: Path) -> tuple[np.ndarray, str]:
    found, count = [], 0
    for frame in face_frames.read(clip.path, clip.start, clip.end, cache):
        count += 1
        if frame.points is not None:
            found.append(faces.features(frame.points))
    values = np.array(found, np.float32).reshape(-1, faces.WIDTH)
    return values, "" if found else ("without a face" if count else "without pictures")


def _read(folder: Path) -> Features:
    frames: dict[str, Any] = {m: np.load(folder / f"{m}.npy", allow_pickle=False) for m in WIDTHS}
    return Features(frames, json.loads((folder / "lacks.json").read_text()))
