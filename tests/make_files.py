"""Files in the formats of the real corpora, filled with generated numbers, for tests of readers and of whole runs.

``python tests/make_files.py FOLDER`` writes a small set of all of them.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import h5py
import numpy as np

from finelib.data import conversion, own_files
from finelib.data.corpora import CORPORA, CorpusInfo

SMALL = (12, 6, 6)
WORDS = "this film was really good but the end made no sense to me at all".split()


def read_here(patch) -> None:
    """Have files read in this process, by pytest's MonkeyPatch: one of their own takes two seconds to start.

    That one is held by ``data/test_hostile.py``, ``data/test_readers.py`` and ``data/test_own.py``.
    """

    def convert(info, paths, sha256, name, context, folder):
        conversion._read(info.name, [str(path.resolve()) for path in paths], sha256, name, context, str(folder))

    def convert_own(paths, sha256, name, label_range, seed, folder):
        own_files.write_store([str(path.resolve()) for path in paths], sha256, name, label_range, seed, str(folder))

    patch.setattr(conversion, "convert", convert)
    patch.setattr(conversion, "convert_own", convert_own)


class _NumPy1Pickler(pickle._Pickler):
    """Names NumPy's functions as NumPy 1 did."""

    def save_global(self, obj: object, name: str | None = None) -> None:
        module = getattr(obj, "__module__", "") or ""
        if not module.startswith("numpy._core"):
            return super().save_global(obj, name)
        module, name = module.replace("numpy._core", "numpy.core"), name or obj.__name__
        if self.proto >= 4:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)

    dispatch = {**pickle._Pickler.dispatch}


_NumPy1Pickler.dispatch[type(np.array)] = _NumPy1Pickler.save_global
_NumPy1Pickler.dispatch[type(lambda: 0)] = _NumPy1Pickler.save_global


def dump(content: object, path: Path, layout: int = 2, protocol: int = 4) -> Path:
    """Pickle ``content`` as NumPy ``layout`` (1 or 2) would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        if layout == 1:
            _NumPy1Pickler(stream, protocol).dump(content)
        else:
            pickle.dump(content, stream, protocol)
    return path


def mmsa_content(
    info: CorpusInfo,
    n: tuple[int, int, int] = SMALL,
    aligned: bool = False,
    seed: int = 0,
    widths: tuple[int, int, int] | None = None,
) -> dict:
    """The content of an MMSA-format file: three splits of ``n`` rows, one -inf in the audio of each."""
    rng = np.random.default_rng(seed)
    return {
        s: _mmsa_split(info, s, rows, aligned, rng, widths or info.widths)
        for s, rows in zip(("train", "valid", "test"), n, strict=True)
    }


def write_mmsa(
    folder: Path,
    corpus: str,
    n: tuple[int, int, int] = SMALL,
    aligned: bool = False,
    layout: int = 2,
    protocol: int = 4,
    seed: int = 0,
    widths: tuple[int, int, int] | None = None,
) -> Path:
    """Write one MMSA-format file under its published path below ``folder``; returns that path."""
    info = CORPORA[corpus]
    name = next(name for name in info.files if Path(name).name.startswith("aligned") == aligned)
    return dump(mmsa_content(info, n, aligned, seed, widths), Path(folder) / name, layout, protocol)


def _mmsa_split(
    info: CorpusInfo, s: str, n: int, aligned: bool, rng: np.random.Generator, widths: tuple[int, int, int]
) -> dict:
    longest = [info.max_frames[0]] * 3 if aligned else info.max_frames
    label = _labels(info, n, rng)
    length = [rng.integers(1, t + 1, n) for t in longest]
    if aligned:
        length = [length[0]] * 3
    arrays = [_padded(rows, t, d, label, rng) for rows, t, d in zip(length, longest, widths, strict=True)]
    arrays[1][0, 0, 0] = -np.inf
    mask = np.arange(longest[0]) < length[0][:, None]
    tokens = np.where(mask, rng.integers(1000, 2000, mask.shape), 0)
    fields = {
        "raw_text": np.array([" ".join(rng.choice(WORDS, k)) for k in rng.integers(1, 20, n)], dtype=object),
        "id": np.array([f"{s}{row}$_${row % 7}" for row in range(n)]),
        "annotations": ["Positive" if y > 0 else "Negative" if y < 0 else "Neutral" for y in label],
        "text": arrays[0],
        "audio": arrays[1],
        "vision": arrays[2],
        "text_bert": np.stack([tokens, mask, np.zeros_like(tokens)], axis=1).astype(np.float32),
        "regression_labels": label.astype(np.float32),
        "classification_labels": (np.sign(label) + 1).astype(np.float32),
    }
    if not aligned:
        fields |= {"audio_lengths": length[1].tolist(), "vision_lengths": length[2]}
    if info.unimodal_labels:
        fields |= {f"regression_labels_{m}": _labels(info, n, rng).astype(np.float32) for m in "TAV"}
    return fields


def _labels(info: CorpusInfo, n: int, rng: np.random.Generator) -> np.ndarray:
    steps = round((info.label_high - info.label_low) / info.label_step)
    return info.label_low + info.label_step * rng.integers(0, steps + 1, n)


def _padded(length: np.ndarray, t: int, d: int, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise around the label, (N, t, d), zero past each length."""
    array = np.zeros((len(length), t, d), dtype=np.float32)
    for row, k in enumerate(length):
        array[row, :k] = rng.standard_normal((k, d), dtype=np.float32) + 0.3 * label[row]
    return array


def pad_in_front(fields: dict, *names: str) -> None:
    """Move the frames of "text", "audio" or "vision" of a split, and the mask of the text, to the end of their rows."""
    for name in names:
        array = fields[name]
        last = array.shape[1] - np.any(array, axis=2)[:, ::-1].argmax(1)
        fields[name] = np.stack([np.roll(row, len(row) - k, axis=0) for row, k in zip(array, last, strict=True)])
    if "text" in names and "text_bert" in fields:
        fields["text_bert"] = fields["text_bert"][:, :, ::-1]


def write_ur_funny(
    folder: Path,
    version: int = 2,
    n: tuple[int, int, int] = SMALL,
    arrays: bool = False,
    misspelt: bool = False,
    layout: int = 2,
    protocol: int = 4,
    seed: int = 0,
) -> Path:
    """Write the UR-FUNNY files below ``folder``/UR_FUNNY; features as nested lists, or as arrays."""
    rng = np.random.default_rng(seed)
    ids = np.split(np.arange(sum(n)) + 1, np.cumsum(n)[:-1])
    content: dict[str, dict] = {name: {} for name in ("humor_label_sdk", "words", "covarep", "openface")}
    for i in map(int, np.concatenate(ids)):
        label = int(rng.integers(0, 2))
        spoken = [int(k) for k in rng.integers(1, 8, rng.integers(1, 4))]  # words of each sentence, punchline last
        index = [rng.integers(0, len(WORDS), k).tolist() for k in spoken]
        content["humor_label_sdk"][i] = label
        entry = {"punchline_embedding_indexes": index[-1], "context_embedding_indexes": index[:-1]}
        if version == 2:
            sentences = [" ".join(WORDS[w] for w in sentence) for sentence in index]
            entry |= {"punchline_sentence": sentences[-1], "context_sentences": sentences[:-1]}
            entry |= {"punchline_intervals": [[0, 1]] * spoken[-1], "context_intervals": []}
        content["words"][i] = entry
        for name, d in (("covarep", 81), ("openface", 371 if version == 2 else 75)):
            features = [rng.standard_normal((k, d)).astype(np.float32) + label for k in spoken]
            features = features if arrays else [f.tolist() for f in features]
            content[name][i] = {"punchline_features": features[-1], "context_features": features[:-1]}
    vectors = rng.standard_normal((len(WORDS), 300))
    language = "langauge_sdk" if misspelt else "language_sdk"
    files = {
        "data_folds": {fold: part.tolist() for fold, part in zip(("train", "dev", "test"), ids, strict=True)},
        "humor_label_sdk": content["humor_label_sdk"],
        "word_embedding_list": list(vectors) if arrays else vectors.tolist(),
        language if version == 2 else "word_embedding_indexes_sdk": content["words"],
        "covarep_features_sdk": content["covarep"],
        "openface_features_sdk": content["openface"],
    }
    for name, value in files.items():
        dump(value, Path(folder) / "UR_FUNNY" / f"{name}.pkl", layout, protocol)
    return Path(folder) / "UR_FUNNY"


def write_mfn(
    folder: Path, n: tuple[int, int, int] = SMALL, steps: int = 20, front: bool = True, seed: int = 0
) -> Path:
    """Write X_*.h5 and y_*.h5 of the MFN form below ``folder``/mosi_mfn, padded in front or behind."""
    rng = np.random.default_rng(seed)
    folder = Path(folder) / "mosi_mfn"
    folder.mkdir(parents=True, exist_ok=True)
    for s, rows in zip(("train", "valid", "test"), n, strict=True):
        label = _labels(CORPORA["mosi"], rows, rng)
        array = _padded(rng.integers(1, steps + 1, rows), steps, 325, label, rng).astype(np.float64)
        for name, value in ((f"X_{s}", array[:, ::-1] if front else array), (f"y_{s}", label)):
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file["data"] = value
    return folder


if __name__ == "__main__":
    for corpus_name in ("mosi", "mosei", "ch_sims"):
        print(write_mmsa(Path(sys.argv[1]), corpus_name))
    print(write_ur_funny(Path(sys.argv[1])))
    print(write_mfn(Path(sys.argv[1])))
