"""What ``finelib.load`` is given: a corpus's name and a source (``sources``), or a path of somebody's own."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from finelib.data import conversion, own_files, own_labels, recordings, sources, store
from finelib.data.card import said
from finelib.data.encoders import MINILM
from finelib.data.features import Corpus, Frames, Split
from finelib.data.own_labels import NAME, Range
from finelib.data.safe_pickle import DataError
from finelib.data.text import encode_corpus

FORMS = ".npz, .csv, .h5, a pickle in MMSA's form, a folder with clips.csv, or one with MFN's .h5 files"
log = logging.getLogger(__name__)


def load(
    corpus: str | Path,
    source: str | Path = "planted",
    *,
    text_encoder: str = "files",
    finetune_text: bool = False,
    seed: int = 0,
    label_range: Range | None = None,
    cache: Path | None = None,
    jobs: int | None = None,
    **options: Any,
) -> Corpus:
    """Load a corpus: a known one by its name, or your own by its path.

    Args:
        corpus: "mosi", "mosei", "ur_funny", "ch_sims", "ch_sims_v2", "ict_mmmo"; or a path: files that a checksum or
            a name tells to be one of these, or else an own corpus: a folder of recordings with ``clips.csv``
            (``recordings.read_clips``) or features (docs/your_files.md) in a file .npz, .csv, .h5, in an MMSA-format
            pickle of any name, widths and label range, or in a folder of MFN's .h5 files.
        source: of a known corpus: "planted" (generated here), a public source, a folder of licensed files, or one
            MMSA-format file, which is then read as that corpus (``sources.load`` says which there are). "own" as the
            corpus and a path as the source is a path of your own too.
        text_encoder: "files" for the text features of the source, or an encoder (``data.text``) for its raw text. Where
            an own corpus has raw text and no features of it, "files" means all-MiniLM-L6-v2.
        finetune_text: token ids instead of features, for an encoder that is trained with the model.
        seed: of planted data; of the splits of an own corpus that names none (70/15/15, grouped by file).
        label_range: of an own corpus: (lowest, highest); default: from its training labels (``own_labels.scale_of``).
        cache: where converted files and features are kept; default FINE_CACHE, or the user's cache folder.
        jobs: files at a time of which features are extracted; default one per core.
        options: of a known corpus: ``scale``, ``design``, ``aligned``, ``context``, see ``sources.load``.

    Returns:
        The corpus with its data card; what reading altered, decided or found missing stands there and is logged.

    Raises:
        DataError: a file is missing, not what it should be, or another corpus's; of a table each wrong row is a line.
        ValueError: an unknown name, or an option that does not apply.
        OSError: a file cannot be opened or the cache cannot be written.
    """
    path = own_path(corpus, source)
    text = {"text_encoder": text_encoder, "finetune_text": finetune_text}
    if path is None:
        if label_range is not None:
            raise ValueError(f"label_range: found {label_range!r} for {corpus}, expected it for an own corpus alone")
        return sources.load(corpus, source, seed=seed, cache=cache, **text, **options)
    if given := [name for name, value in options.items() if value not in (1.0, "corpus", False)]:
        raise ValueError(f"{given[0]}: found it for {path}, expected it for a corpus of a known name alone")
    label_range = label_range and own_labels.check_range(label_range)
    if recordings.is_folder(path):
        loaded = recordings.load(path, label_range, seed, cache, jobs)
    else:
        loaded = _features(path, label_range, seed, cache)
    log.warning("%s: %s", path, "; ".join(said(loaded.card)))
    return encoded(loaded, **text)


def own_path(corpus: str | Path, source: str | Path = "planted") -> Path | None:
    """The path of an own corpus that two arguments of ``load`` mean; None if they mean a known corpus.

    Raises:
        DataError: there is no such path.
    """
    if str(corpus) == NAME:
        if source == "planted":
            raise ValueError("load: found 'own' without a source, expected the path of your files")
        path = Path(source)
    else:
        path = Path(corpus)
        if source != "planted" or not path.exists():
            return None
        try:
            sources.default_encoder(corpus)  # what it tells by checksum or name
            return None
        except DataError:
            pass
    if not path.exists():
        raise DataError(f"{path}: found no such file or folder, expected {FORMS}")
    return path


def is_source(source: str | Path) -> bool:
    """Whether a source of ``run_all.sh`` is an own corpus: recordings, or features in .npz, .csv or .h5.

    A pickle is none: it is read as one of the four corpora.
    """
    path = Path(source)
    if path.is_dir():
        return recordings.is_folder(path) or bool(own_files.mfn_files(path))
    return path.is_file() and path.suffix.lower() in own_files.SUFFIXES and path.suffix.lower() not in own_files.PICKLES


def files(path: Path) -> list[Path]:
    """The files of an own corpus of features.

    Raises:
        DataError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    if found := own_files.mfn_files(path):
        return found
    listed = ", ".join(sorted(p.name for p in path.iterdir())[:20]) or "nothing"
    raise DataError(f"{path}: found {listed}, expected clips.csv, MFN's .h5 files, or a corpus's files by their names")


def stamp(corpus: str, source: str | Path = "planted", **options: Any) -> tuple[str, ...]:
    """``sources.stamp``, of an own corpus too."""
    path = own_path(corpus, source)
    if path is None:
        return sources.stamp(corpus, source, **options)
    found = recordings.files(path) if recordings.is_folder(path) else files(path)
    return tuple(store.stamp(file) for file in found if file.exists())


def reader(corpus: str, source: str | Path) -> str:
    """The module that reads a source."""
    return "finelib.data.own" if own_path(corpus, source) else sources.reader(corpus, source)


def encoded(corpus: Corpus, text_encoder: str = "files", finetune_text: bool = False) -> Corpus:
    """An own corpus with its raw text encoded where it has no features of it, or where an encoder is named.

    An utterance whose text is empty has no frames of text.
    """
    has_text = any(text.strip() for split in corpus.splits.values() for text in split.text)
    if text_encoder == "files":
        if any("T" in split.frames for split in corpus.splits.values()) or not has_text:
            return corpus
        text_encoder = MINILM
    some = {s: _said(split) for s, split in corpus.splits.items()}  # an encoder refuses a split without any text
    made = encode_corpus(replace(corpus, splits=some), text_encoder, finetune_text)
    splits = {s: _with_text(corpus.splits[s], split) for s, split in made.splits.items()}
    return replace(made, splits=splits)


def _said(split: Split) -> Split:
    return split if any(text.strip() for text in split.text) else replace(split, text=["."] * len(split))


def _with_text(split: Split, made: Split) -> Split:
    """The split with the encoded text, without frames where there is none."""
    spoken, frames = np.array([bool(text.strip()) for text in split.text]), made.frames["T"]
    if not spoken.all():
        keep = np.repeat(spoken, frames.length)
        frames = Frames.from_lengths(frames.values[keep], frames.length * spoken)
    return replace(split, frames={"T": frames, **{m: f for m, f in split.frames.items() if m != "T"}})


def _features(path: Path, label_range: Range | None, seed: int, cache: Path | None) -> Corpus:
    """An own corpus of features, through its store."""
    paths = files(path)
    sha256 = {file.name: store.file_sha256(file, cache) for file in paths}
    name = store.key(NAME, sha256, names=sorted(sha256), title=path.name, label_range=label_range, seed=seed)
    convert = partial(conversion.convert_own, paths, sha256, name, label_range, seed)
    found = store.open_or_convert(name, replace(own_files.ANY, title=path.name), convert, cache)
    return replace(found, info=own_labels.from_json(found.card["own"])[0])
