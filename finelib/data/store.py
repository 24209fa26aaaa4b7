"""The converted form of a corpus that was read from files: arrays that are memory-mapped and one JSON file.

A store lies in a folder of its own under the cache. The hash of what it was made from is its name, and it gets
that name only when it is whole, so a conversion that was interrupted is never read. Checksums tell what was
damaged later.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_dir

from finelib.data.corpora import CorpusInfo
from finelib.data.features import SPLITS, Corpus, Frames, Split

VERSION = 4  # to be raised when a reader's result for the same file changes
INDEX, CHECKSUMS = "index.json", "checksums.json"
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The environment's FINE_CACHE, or the user's cache folder."""
    return Path(os.environ.get("FINE_CACHE") or user_cache_dir("finelib"))


def key(corpus: str, sha256: dict[str, str], **options: object) -> str:
    """The name of a store: SHA-256 over the corpus, its files' hashes, reader options and the store version."""
    content = [VERSION, corpus, sorted(sha256.values()), sorted(options.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def open_or_convert(
    name: str, info: CorpusInfo, convert: Callable[[Path], object], cache: Path | None = None
) -> Corpus:
    """The corpus from its store (``key`` gives its name), memory-mapped, copy on write.

    If there is no whole store, ``convert`` is called, which reads the source and calls ``write`` on the folder given.

    Raises:
        OSError: the cache cannot be written.
        Whatever ``convert`` raises.
    """
    folder = Path(cache or cache_folder()) / "corpora" / name

    def fill(partial: Path) -> None:
        log.warning("%s: first use, converting to %s", info.title, folder)
        convert(partial)

    keep(folder, fill)
    return _read(folder, info)


def keep(folder: Path, fill: Callable[[Path], object]) -> None:
    """Have ``folder``, two levels below the cache, filled by ``fill`` unless it is there and whole.

    It is filled under another name, by one process at a time, and gets its own name after the checksums are noted.

    Raises:
        OSError: the cache cannot be written.
        Whatever ``fill`` raises; nothing is left then.
    """
    if whole(folder):
        return
    cache = folder.parents[1]
    with writable(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(f"{folder}.lock").acquire()
    with held:
        if not whole(folder):  # another process may have filled it meanwhile
            for abandoned in folder.parent.glob(f"{folder.name}.partial-*"):  # by a process that was killed
                shutil.rmtree(abandoned, ignore_errors=True)
            _fill(folder, fill, cache)


def _fill(folder: Path, fill: Callable[[Path], object], cache: Path) -> None:
    with writable(cache):
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        fill(partial)
        with writable(cache):
            checksums = {path.name: checksum(path) for path in sorted(partial.iterdir())}
            (partial / CHECKSUMS).write_text(json.dumps(checksums), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def whole(folder: Path) -> bool:
    """Whether a folder of ``keep`` is there and each file in it is, bit for bit, what was written."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return all(checksum(folder / name) == known for name, known in checksums.items())
    except (OSError, ValueError, AttributeError):
        return False


def checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file: gigabytes a second, and no single flipped bit escapes it."""
    value = 0
    with path.open("rb") as stream:
        while part := stream.read(1 << 22):
            value = zlib.crc32(part, value)
        return [stream.tell(), value]


def stamp(path: Path) -> str:
    """A text that changes whenever a file does: its path, size, times of change and place on the disk.

    Raises:
        OSError: there is no such file.
    """
    stat = path.stat()
    # the time of the last change of the inode too: it cannot be set, where a copy may keep the file's own time
    return f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}"


def file_sha256(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file, remembered by path, size and times of change: hashing gigabytes takes seconds.

    Raises:
        OSError: the file cannot be read.
    """
    memory = Path(cache or cache_folder()) / "hashes" / hashlib.sha256(stamp(path).encode()).hexdigest()
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
def writable(cache: Path) -> Iterator[None]:
    """Say which folder is full or may not be written, and what to do."""
    try:
        yield
    except OSError as error:
        found = f"cache: cannot be written to {cache} ({error.strerror or error})"
        raise OSError(f"{found}; set FINE_CACHE to a folder with room") from error


def write(folder: Path, corpus: Corpus) -> None:
    """Write the arrays and texts of a corpus as the files of a store; the factors of planted data are left out.

    Raises:
        OSError: the folder cannot be written.
    """
    index = {"data": corpus.kind, "sha256": corpus.sha256, "encoder": corpus.encoder, "card": corpus.card}
    index["splits"] = {s: _about(split) for s, split in corpus.splits.items()}
    with writable(folder.parents[1]):
        for s, split in corpus.splits.items():
            for name, array in _arrays(split).items():
                np.save(folder / f"{s}-{name}.npy", array)
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _arrays(split: Split) -> dict[str, np.ndarray]:
    arrays = {"label": split.label}
    for m, frames in split.frames.items():
        arrays |= {m: frames.values, f"{m}-length": frames.length}
        arrays |= {} if frames.sentence is None else {f"{m}-sentence": frames.sentence}
    return arrays | {f"label-{m}": values for m, values in (split.unimodal_labels or {}).items()}


def _about(split: Split) -> dict:
    about = {"ids": split.ids, "text": split.text, "modalities": list(split.frames)}
    about["sentences"] = [m for m, frames in split.frames.items() if frames.sentence is not None]
    return about | {"unimodal": list(split.unimodal_labels or ())}


def _read(folder: Path, info: CorpusInfo) -> Corpus:
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    splits = {s: _read_split(folder, s, index["splits"][s]) for s in SPLITS}
    return Corpus(info, index["data"], splits, index["sha256"], index["encoder"], index["card"])


def _read_split(folder: Path, s: str, about: dict) -> Split:
    def array(name: str, mmap_mode: str | None = None) -> np.ndarray:
        return np.asarray(np.load(folder / f"{s}-{name}.npy", mmap_mode, allow_pickle=False))

    # copy on write: torch takes only writable arrays without complaint, and the file is never changed
    told = {m: array(f"{m}-sentence") for m in about["sentences"]}
    frames = {m: Frames.from_lengths(array(m, "c"), array(f"{m}-length"), told.get(m)) for m in about["modalities"]}
    unimodal = {m: array(f"label-{m}") for m in about["unimodal"]} or None
    return Split(frames, array("label"), about["ids"], about["text"], unimodal)
