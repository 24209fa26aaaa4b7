"""Reader of UR-FUNNY, versions 1 and 2: a folder of pickles, each a dictionary by utterance id.

The format is that of github.com/ROC-HCI/UR-FUNNY. Features are averaged per word, so the three modalities of
an utterance have as many frames as it has words.
"""

from pathlib import Path

import numpy as np

from finelib.data import checks, forms, real_frames
from finelib.data.corpora import CorpusInfo
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.safe_pickle import DataError, load_pickle

NEEDED = ("data_folds", "humor_label_sdk")
VECTORS = "word_embedding_list"
FEATURES = {"A": "covarep_features_sdk", "V": "openface_features_sdk"}
LANGUAGE = ("language_sdk", "langauge_sdk")  # the second is the spelling of version 2's own README
INDEXES = "word_embedding_indexes_sdk"
GLOVE_WIDTH = 300
Texts = dict[str, list[str]]  # split -> one of each utterance


def files(folder: Path) -> list[Path]:
    """The files that are read, in a fixed order: folds, labels, word vectors, audio, video, words.

    ``language_sdk.pkl`` makes it version 2, ``word_embedding_indexes_sdk.pkl`` version 1. One modality is enough.

    Raises:
        DataError: a file that is needed is missing, or both versions lie in one folder.
    """
    found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    missing = [f"{name}.pkl" for name in NEEDED if f"{name}.pkl" not in found]
    words = [name for name in (*LANGUAGE, INDEXES) if f"{name}.pkl" in found]
    features = [name for name in FEATURES.values() if f"{name}.pkl" in found]
    vectors = [VECTORS] if f"{VECTORS}.pkl" in found else []
    if not features and not (words and vectors):
        missing += [f"{name}.pkl" for name in (VECTORS, *FEATURES.values()) if f"{name}.pkl" not in found]
        missing += [] if words else [f"{LANGUAGE[0]}.pkl (version 2) or {INDEXES}.pkl (version 1)"]
    if missing:
        listed = ", ".join(found) or ("nothing" if folder.is_dir() else "no such folder")
        looked = f"UR-FUNNY: looked in {folder} for {', '.join(missing)}, found {listed}"
        raise DataError(f"{looked}; data/README.md says how to obtain it")
    if len(words) > 1:
        raise DataError(f"UR-FUNNY: found both {words[0]}.pkl and {words[1]}.pkl in {folder}, expected one version")
    return [folder / f"{name}.pkl" for name in (*NEEDED, *vectors, *features, *words)]


def read(folder: Path, info: CorpusInfo, context: bool = False) -> tuple[dict[str, Split], dict]:
    """Read a folder that holds the files of one version.

    A modality whose file is missing is left out; without a file of the words there is no text.

    Args:
        context: put the frames (and in version 2 the text) of the sentences before the punchline in front of it;
            ``Frames.sentence`` tells them apart, and each is a line of the text.

    Returns:
        The three splits, and notes for the data card: split -> modality -> counts of NaN and infinite values
        (set to 0) and of frames that are all zero; "version" (None without words); "file" -> which are missing; and
        per split how many utterances differ in length between modalities.

    Raises:
        DataError: a file or an utterance is missing, a feature has the wrong shape or no finite value, a split is
            empty, an id occurs twice in a split or in both train and test.
        OSError: a file cannot be opened.
    """
    path = {p.stem: p for p in files(folder)}
    ids, humour = _folds(path["data_folds"]), _by_id(path["humor_label_sdk"])
    labels = {s: _labels(humour, ids[s], path["humor_label_sdk"], info) for s in SPLITS}
    words = next((path[name] for name in (*LANGUAGE, INDEXES) if name in path), None)
    frames, notes, text = {}, {}, {s: [""] * len(ids[s]) for s in SPLITS}
    if words:
        frames, notes, text = _words(words, path.get(VECTORS), ids, context)
    for m, name in FEATURES.items():  # one file in memory at a time
        if name in path:
            frames[m], notes[m] = _features(path[name], ids, context)
    splits = {s: Split({m: frames[m][s] for m in frames}, labels[s], ids[s], text[s]) for s in SPLITS}
    by_split: dict = {s: {m: notes[m][s] for m in notes} for s in SPLITS}
    for s, split in splits.items():
        length = np.stack([f.length for f in split.frames.values()])
        by_split[s]["lengths_differ"] = int((length != length[0]).any(0).sum())
    missing = {f"{name}.pkl": "missing" for name in (VECTORS, *FEATURES.values()) if name not in path}
    missing |= {} if words else {f"{LANGUAGE[0]}.pkl": "missing"}
    version = words and (1 if words.stem == INDEXES else 2)
    return splits, {**by_split, "version": version, **({"file": missing} if missing else {})}


def _folds(path: Path) -> Texts:
    content, key, _ = forms.splits(load_pickle(path), str(path))
    ids = {}
    for s, fold in key.items():
        value = content[fold]
        if not isinstance(value, (list, tuple, np.ndarray)) or not len(value):
            raise DataError(f"{path}, {fold}: found {checks.kind_of(value)}, expected a list of at least one id")
        known = checks.items(value, f"{path}, {fold}", len(value), "ids")
        ids[s] = checks.unique([forms.id_text(i, f"{path}, {fold}") for i in known], f"{path}, {fold}")
    checks.disjoint(ids["train"], ids["test"], str(path))
    return ids


def _by_id(path: Path) -> dict[str, object]:
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: found {checks.kind_of(content)}, expected a dictionary by utterance id")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _entry(content: dict, i: str, path: Path) -> object:
    if i not in content:
        raise DataError(f"{path}: found no utterance {i}, expected every id that data_folds.pkl lists")
    return content[i]


def _labels(humour: dict, ids: list[str], path: Path, info: CorpusInfo) -> np.ndarray:
    values = checks.labels([_entry(humour, i, path) for i in ids], str(path), info)
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{path}: found a label between 0 and 1, expected 0 or 1")
    return values


def _words(
    path: Path, vectors: Path | None, ids: Texts, context: bool
) -> tuple[dict[str, dict[str, Frames]], dict, Texts]:
    """Word vectors of every utterance and their notes, by "T" if there are any; raw text, "" in version 1."""
    content = _by_id(path)
    entries = {s: [(_entry(content, i, path), f"{path}, utterance {i}") for i in ids[s]] for s in SPLITS}
    text = {s: [_raw_text(entry, context, where) for entry, where in entries[s]] for s in SPLITS}
    if vectors is None:
        return {}, {}, text
    table = checks.numbers(load_pickle(vectors), str(vectors), (None, GLOVE_WIDTH))
    frames, notes = {}, {}
    for s in SPLITS:
        rows = [_indexes(entry, context, len(table), where) for entry, where in entries[s]]
        values, notes[s] = checks.finite(table[np.concatenate(rows)], f"{vectors}, {s}")
        told = [_numbers(_sentences(entry, "embedding_indexes", context, where)) for entry, where in entries[s]]
        sentence = np.concatenate(told) if context else None
        frames[s] = Frames.from_lengths(values, np.array([len(r) for r in rows]), sentence)
    return {"T": frames}, {"T": notes}, text


def _features(path: Path, ids: Texts, context: bool) -> tuple[dict[str, Frames], dict]:
    """Audio or video features of every utterance, one width throughout the file."""
    content = _by_id(path)
    frames, notes, width = {}, {}, None
    for s in SPLITS:
        arrays, length, told = [], np.zeros(len(ids[s]), np.int64), []
        for row, i in enumerate(ids[s]):
            where = f"{path}, utterance {i}"
            sentences = _sentences(_entry(content, i, path), "features", context, where)
            told.append(_numbers(sentences))
            for sentence in filter(len, sentences):
                arrays.append(checks.numbers(sentence, where, (None, width)))
                width = arrays[-1].shape[1]
                length[row] += len(arrays[-1])
        if not arrays:
            raise DataError(f"{path}, {s}: found no frames in any utterance, expected features")
        values, notes[s] = checks.finite(np.concatenate(arrays), f"{path}, {s}")
        notes[s] |= real_frames.zeros(values)
        frames[s] = Frames.from_lengths(values, length, np.concatenate(told) if context else None)
    return frames, notes


def _sentences(entry: object, kind: str, context: bool, where: str) -> list:
    """The sentences' ``kind`` ("features" or "embedding_indexes"): the punchline's, after the context's if asked."""
    before = _sequence(checks.field(entry, f"context_{kind}", where), where) if context else []
    return [_sequence(s, where) for s in (*before, checks.field(entry, f"punchline_{kind}", where))]


def _numbers(sentences: list) -> np.ndarray:
    """Of every frame of an utterance its sentence: 1, 2, ... in the context, 0 in the punchline, which comes last."""
    return np.repeat([*range(1, len(sentences)), 0], [len(sentence) for sentence in sentences])


def _sequence(value: object, where: str) -> list | tuple | np.ndarray:
    if not isinstance(value, (list, tuple, np.ndarray)) or getattr(value, "ndim", 1) == 0:
        raise DataError(f"{where}: found {checks.kind_of(value)}, expected a list or an array")
    return value


def _indexes(entry: object, context: bool, count: int, where: str) -> np.ndarray:
    here = f"{where}, embedding indexes"
    sentences = [checks.numbers(s, here, (None,)) for s in _sentences(entry, "embedding_indexes", context, where)]
    rows = np.concatenate(sentences)
    return checks.lengths(rows, here, len(rows), count - 1)


def _raw_text(entry: dict, context: bool, where: str) -> str:
    if "punchline_sentence" not in entry:
        return ""
    before = _sequence(checks.field(entry, "context_sentences", where), where) if context else []
    sentences = [*before, entry["punchline_sentence"]]
    return "\n".join(" ".join(t.split()) for t in checks.strings(sentences, f"{where}, sentences", len(sentences)))
