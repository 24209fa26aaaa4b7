"""What a feature file or folder is, and what reading it changes: ``python -m finelib check FILE_OR_FOLDER``."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from finelib.data import own, sources
from finelib.data.card import NAMES, changes
from finelib.data.corpora import CORPORA
from finelib.data.encoders import MINILM, encoder_folder
from finelib.data.features import SPLITS, Corpus
from finelib.data.identity import unusual_ranges
from finelib.data.real_frames import ZERO
from finelib.data.safe_pickle import DataError
from finelib.data.tokens import NOTICEABLE, token_ids

# notes of a reader that contradict what the file states, or make a modality useless
DOUBTFUL = {"stated_drops": "its lengths or masks contradict its frames", "all_zero": "it is all zero"}

SHOWN = 10  # files that are listed, of a folder of recordings
COUNTS = {"NaN": "nan", "infinite": "inf", "outliers": "clipped"}


def examine(path: Path, corpus: str | None = None, cache: Path | None = None) -> tuple[list[str], list[str]]:
    """Read a file, a folder of a corpus's files, or an own corpus (``own.is_source``), and say what it is.

    Args:
        corpus: what to read it as; default: what its checksum, its path or its labels tell, and of a folder each corpus
            that has files there.

    Returns:
        The lines of a description, and one sentence for each thing that somebody should decide before the file is
        used: that it cannot be read, or how something in it is meant.

    Raises:
        ValueError: an unknown corpus.
        OSError: a file cannot be opened, or the cache cannot be written.
    """
    if corpus is None and own.is_source(path):
        return _of_own(path, cache)
    there = [name for name, info in CORPORA.items() if any((path / file).exists() for file in info.files)]
    if corpus is None and len(there) > 1:
        each = [examine(path, name, cache) for name in there]
        return [line for lines, _ in each for line in lines], [doubt for _, doubts in each for doubt in doubts]
    try:
        loaded = sources.load(corpus, path, cache=cache) if corpus else _guessed(path, cache)
    except DataError as error:
        return [str(path)], [str(error)]
    words, doubt = _words(loaded)
    return [str(path), *_described(loaded), *words], [*_decisions(loaded), *doubt]


def _of_own(path: Path, cache: Path | None) -> tuple[list[str], list[str]]:
    """What an own corpus is; a row that is wrong is a decision."""
    try:
        loaded = own.load(path, cache=cache)
    except (DataError, ImportError) as error:
        return [str(path)], str(error).splitlines()
    decided = [row("decided", sentence) for sentence in loaded.card["identity"]["says"][1:]]
    words, doubt = _words(loaded)
    return [str(path), *_described(loaded), *words, *decided], [*_doubts(loaded), *_shared(loaded), *doubt]


def _guessed(path: Path, cache: Path | None) -> Corpus:
    """Read as the corpus that checksum or path tell, else as the first whose label range its labels use."""
    try:
        return sources.load(str(path), cache=cache)
    except DataError:
        if not path.is_file():
            raise
    found, refused = [], []
    for name in ("mosi", "mosei", "ch_sims"):
        try:
            found.append(sources.load(name, path, cache=cache))
        except DataError as error:
            refused.append(error)
            continue
        if not unusual_ranges(found[-1].info, found[-1].splits):
            return found[-1]
    if not found:
        raise refused[0]
    return found[0]


def _described(corpus: Corpus) -> Iterator[str]:
    card, splits = corpus.card, corpus.splits
    yield row("what it is", corpus.called)
    for file in card["files"][:SHOWN]:
        yield row("file", f"{file['name']}, SHA-256 {file['sha256'][:12]}..., {file['compared']}")
    if more := len(card["files"][SHOWN:]):
        yield row("file", f"and {more} more")
    yield row("utterances", ", ".join(f"{s} {len(split):,}" for s, split in splits.items()))
    for s, split in splits.items():
        low, middle, high = np.min(split.label), np.median(split.label), np.max(split.label)
        yield row(f"labels, {s}", f"{low:.3g} to {high:.3g}, median {middle:.3g}")
    for m in card["splits"]["train"]["modalities"]:  # as read: text that is encoded later is not among them
        for s in splits:
            yield row(f"{NAMES[m]}, {s}", _of_modality(card, s, m))
    for what in ("ids", "texts"):
        yield row(f"{what} in two splits", _listed(card[f"duplicate_{what}"]))
    yield row("videos in two splits", _listed(card["shared_videos"]))
    for sentence in changes(card) or ["nothing"]:
        yield row("changed on reading", sentence)


def _of_modality(card: dict, s: str, m: str) -> str:
    told, notes = card["splits"][s]["modalities"][m], card["notes"].get(s, {}).get(m, {})
    length = told["length_quantiles"]
    said = f"width {told['width']:,}; {told['frames']:,} frames, {length['0']:g} to {length['1']:g} an utterance"
    said += f" (median {length['0.5']:g}, {told['empty']:,} without any)"
    if "padding" in notes:
        said += f"; padding {notes['padding']}"
    counts = {name: notes.get(kind, 0) for name, kind in COUNTS.items()}
    return f"{said}; {_listed(counts)}"


def _decisions(corpus: Corpus) -> list[str]:
    found = [] if corpus.kind == "files" else list(corpus.card["identity"]["says"][1:])
    found += _doubts(corpus)
    return found if corpus.kind == "files" else found + _shared(corpus)


def _doubts(corpus: Corpus) -> list[str]:
    """What is strange in the frames."""
    card, found = corpus.card, []
    for s in SPLITS:
        for m in card["splits"][s]["modalities"]:
            notes, kept = card["notes"].get(s, {}).get(m, {}), card["splits"][s]["modalities"][m]["frames"]
            where = f"{s}, {NAMES[m]}"
            found += [f"{where}: {sentence}" for kind, sentence in DOUBTFUL.items() if notes.get(kind)]
            if notes.get("zero_frames_kept", 0) > ZERO * kept:
                found.append(f"{where}: {notes['zero_frames_kept']:,} of {kept:,} frames are all zero")
            if notes.get("clipped"):
                found.append(f"{where}: {notes['clipped']:,} values are far outside what is usual in their columns")
    return found


def _shared(corpus: Corpus) -> list[str]:
    """Recordings that are in two splits."""
    shared = {pair: count for pair, count in corpus.card["shared_videos"].items() if count}
    return [f"{pair}: {count:,} videos are in both" for pair, count in shared.items()]


def _words(corpus: Corpus) -> tuple[list[str], list[str]]:
    """What the default text encoder makes of the raw text, and whether it is in doubt; nothing without either."""
    if not any(text.strip() for split in corpus.splits.values() for text in split.text):
        return [], []
    try:
        notes = token_ids(corpus.splits, encoder_folder(MINILM)[1])[1]
    except FileNotFoundError:  # the extra "text" is not installed
        return [], []
    except ValueError as error:
        return [], [str(error)]
    unknown, total = (sum(counts[kind] for counts in notes.values()) for kind in ("unknown_tokens", "tokens"))
    said = f"{unknown / max(total, 1):.1%} of {total:,} tokens unknown ([UNK]) to {MINILM}"
    return [row("raw text", said)], [f"raw text: {said}"] if unknown > NOTICEABLE * total else []


def row(name: str, said: str) -> str:
    """A line of the description."""
    return f"  {name:<22}{said}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{pair} {count:,}" for pair, count in counts.items())


def main(arguments: list[str]) -> int:
    """Exit status: 0; 1 if something needs a decision; 2 for wrong arguments."""
    parser = argparse.ArgumentParser("python -m finelib check", description=__doc__.split(":")[0])
    parser.add_argument("path", type=Path, help="a feature file, the folder of a corpus's files, or your own corpus")
    parser.add_argument("--corpus", choices=CORPORA, help="read it as this corpus (default: as what it tells)")
    given = parser.parse_args(arguments)
    try:
        lines, decisions = examine(given.path, given.corpus)
    except OSError as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    print("\n".join([*lines, *(row("TO DECIDE", sentence) for sentence in decisions)]))
    return 1 if decisions else 0
