"""Public files: downloaded once, or taken from a folder, and never used unless their checksum is the pinned one."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finelib.data.safe_pickle import DataError
from finelib.data.store import cache_folder


@dataclass(frozen=True)
class PublicFile:
    """One pinned file.

    Attributes:
        name: below FINE_DATA_MIRROR and below the cache, ``FOLDER/NAME``.
        url: a fixed revision.
        checksum: "sha256:..." or "git-blob:..." (SHA-1 of "blob SIZE\\0" and the bytes, as git names contents).
    """

    name: str
    url: str
    checksum: str


@dataclass(frozen=True)
class PublicSource:
    """How a corpus is read from public files.

    Attributes:
        files: name -> file.
        read: (name -> path, ``CorpusInfo``) -> splits and notes for the data card.
        encoder: what made the text features it has; "" where it has raw text alone.
        text: what the text is, for a title.
    """

    files: dict[str, PublicFile]
    read: Callable
    encoder: str = ""
    text: str = "as spoken"


def github(folder: str, repository: str, commit: str, path: str, blobs: dict[str, str]) -> dict[str, PublicFile]:
    """Files (name -> git blob id) below ``path`` of a repository, by name; ``folder`` is theirs in mirror and cache."""
    base = f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"
    return {name: PublicFile(f"{folder}/{name}", base + name, f"git-blob:{blob}") for name, blob in blobs.items()}


def obtain(file: PublicFile, cache: Path | None = None) -> Path:
    """The file on this machine, verified at every call.

    Where the environment variable FINE_DATA_MIRROR names a folder, the file is taken from there and nothing is
    downloaded; else from the cache, else from its address.

    Raises:
        DataError: not in the mirror, not to be downloaded, or with another checksum than the pinned one.
        OSError: the cache cannot be written.
    """
    path, mirror = place(file, cache), os.environ.get("FINE_DATA_MIRROR")
    if mirror:
        if not path.is_file():
            raise DataError(f"{path}: found no such file, expected {file.name} below FINE_DATA_MIRROR={mirror}")
        return _verified(path, file.checksum)
    if not path.is_file() or _checksum(path, file.checksum) != file.checksum:
        _download(file, path)
    return path


def place(file: PublicFile, cache: Path | None = None) -> Path:
    """Where the file lies, or will lie, on this machine."""
    mirror = os.environ.get("FINE_DATA_MIRROR")
    return (Path(mirror) if mirror else (cache or cache_folder()) / "public") / file.name


def _download(file: PublicFile, target: Path) -> None:
    import pooch
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=target.parent) as partial:
        try:
            # pooch knows no git blob ids, so the checksum is compared here, before the file gets its name
            # and a redirection is not followed: a fixed revision has none, a network's login page does
            fetch = pooch.HTTPDownloader(timeout=30, allow_redirects=False)
            part = Path(pooch.retrieve(file.url, None, fname=target.name, path=partial, downloader=fetch))
        except (requests.RequestException, ValueError) as error:
            advice = f"where there is no network set FINE_DATA_MIRROR to a folder that holds {file.name}"
            raise DataError(f"{file.url}: could not be downloaded ({type(error).__name__}); {advice}") from error
        os.replace(_verified(part, file.checksum, file.url), target)


def _verified(path: Path, expected: str, source: str = "") -> Path:
    found = _checksum(path, expected)
    if found != expected:
        raise DataError(f"{source or path}: found {found}, expected {expected}")
    return path


def _checksum(path: Path, like: str) -> str:
    """The checksum of a file, of the same kind as ``like``."""
    content = path.read_bytes()
    if like.startswith("git-blob:"):
        return "git-blob:" + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return "sha256:" + hashlib.sha256(content).hexdigest()
