"""The converted form of a licensed corpus: arrays that are memory-mapped and one JSON file.

A store lies in its own folder under the cache, named by the hash of what it was made from. It gets that name
only when it is whole, so whatever was interrupted is never read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_dir

from finelib.data.corpora import CorpusInfo
from finelib.data.features import SPLITS, Corpus, Frames, Split

VERSION = 1  # to be raised when a reader's result for the same file changes
INDEX = "index.json"
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The environment's FINE_CACHE, or the user's cache folder."""
    return Path(os.environ.get("FINE_CACHE") or user_cache_dir("finelib"))


def key(corpus: str, sha256: dict[str, str], **options: object) -> str:
    """The name of a store: SHA-256 over the corpus, its files' hashes, reader options and the store version."""
    content = [VERSION, corpus, sorted(sha256.values()), sorted(options.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def open_or_convert(name: str, info: CorpusInfo, convert: Callable[[], Corpus], cache: Path | None = None) -> Corpus:
    """The corpus from its store; at first use, or where the store is damaged, from ``convert``.

    Args:
        name: see ``key``.
        info: what the corpus is.
        convert: reads the source files; called only if there is no whole store.
        cache: default ``cache_folder()``.

    Returns:
        A corpus whose features are memory-mapped, copy on write.

    Raises:
        OSError: the cache cannot be written.
        Whatever ``convert`` raises.
    """
    cache = Path(cache or cache_folder())
    folder = cache / "corpora" / name
    corpus = _read(folder, info)
    if corpus is not None:
        return corpus
    with _writable(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        lock.acquire()
    try:
        if (corpus := _read(folder, info)) is None:  # another process may have converted it meanwhile
            for abandoned in folder.parent.glob(f"{name}.partial-*"):  # of a conversion that was killed
                shutil.rmtree(abandoned, ignore_errors=True)
            log.warning("%s: first use, converting to %s", info.title, folder)
            converted = convert()
            with _writable(cache):
                _write(folder, converted)
            del converted
            corpus = _read(folder, info)
    finally:
        lock.release()
    if corpus is None:
        raise OSError(f"{folder}: found a store that cannot be read although it was just written")
    return corpus


def file_sha256(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file, remembered by path, size and time of change: hashing gigabytes takes seconds.

    Raises:
        OSError: the file cannot be read.
    """
    stat = path.stat()
    identity = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    memory = Path(cache or cache_folder()) / "hashes" / hashlib.sha256(identity.encode()).hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        known = memory.read_text()
        if len(known) == 64:
            return known
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with suppress(OSError):  # a cache that cannot be written costs time, not correctness
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(digest)
    return digest


@contextmanager
def _writable(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cache: cannot be written to {cache} ({error.strerror or error}); set FINE_CACHE to a folder with room"
        ) from error


def _arrays(split: Split) -> dict[str, np.ndarray]:
    arrays = {"label": split.label}
    for m, frames in split.frames.items():
        arrays |= {m: frames.values, f"{m}-length": frames.length}
    return arrays | {f"label-{m}": values for m, values in (split.unimodal_labels or {}).items()}


def _write(folder: Path, corpus: Corpus) -> None:
    """Write into a folder beside ``folder`` and give it its name when it is whole."""
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        files = {}
        for s, split in corpus.splits.items():
            for name, array in _arrays(split).items():
                path = partial / f"{s}-{name}.npy"
                np.save(path, array)
                files[path.name] = _state(path)
        index = {
            "data": corpus.data,
            "sha256": corpus.sha256,
            "encoder": corpus.encoder,
            "card": corpus.card,
            "splits": {
                s: {"ids": split.ids, "text": split.text, "modalities": list(split.frames),
                    "unimodal": list(split.unimodal_labels or ())}
                for s, split in corpus.splits.items()
            },
            "files": files,
        }
        (partial / INDEX).write_text(json.dumps(index), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _state(path: Path) -> list[int]:
    """Size and time of change: what can be compared without reading the file."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _read(folder: Path, info: CorpusInfo) -> Corpus | None:
    """The store, or None if there is none or it is not as it was written."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if any(_state(folder / name) != state for name, state in index["files"].items()):
            return None
        splits = {s: _read_split(folder, s, index["splits"][s]) for s in SPLITS}
        return Corpus(info, index["data"], splits, index["sha256"], index["encoder"], index["card"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_split(folder: Path, s: str, about: dict) -> Split:
    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{s}-{name}.npy", allow_pickle=False)

    frames = {}
    for m in about["modalities"]:
        # copy on write: torch takes only writable arrays without complaint, and the file is never changed
        values = np.load(folder / f"{s}-{m}.npy", mmap_mode="c", allow_pickle=False)
        frames[m] = Frames.from_lengths(np.asarray(values), array(f"{m}-length"))
    unimodal = {m: array(f"label-{m}") for m in about["unimodal"]} or None
    return Split(frames, array("label"), about["ids"], about["text"], unimodal)
