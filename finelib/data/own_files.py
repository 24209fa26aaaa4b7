"""Feature files of somebody's own: .npz, .csv, .h5, a pickle in MMSA's form, or a folder of MFN's .h5 files.

One reader each brings a file into fields of MMSA's names, one entry an utterance, or split by split; ``mmsa`` then
makes the same checks of all. What runs here is run in a process that is bounded (``conversion``).
"""

import re
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from finelib.data import checks, foreign, mmsa, outliers, own_splits, own_table, raw_text, store
from finelib.data.card import describe
from finelib.data.corpora import CorpusInfo
from finelib.data.features import SPLITS, Corpus, Split
from finelib.data.own_labels import LARGEST, NAME, Range, Scale, as_json, info_of, scale_of
from finelib.data.public_mfn import MOST_COMPRESSED
from finelib.data.safe_pickle import DataError, load_pickle

PICKLES = (".pkl", ".pickle")
SUFFIXES = (".npz", ".csv", ".h5", ".hdf5", *PICKLES)
FEATURES = ("text", "audio", "vision")
SAME = {"label": "regression_labels", "labels": "regression_labels", "y": "regression_labels", "ids": "id"}
SAME |= {"video": "vision", "video_lengths": "vision_lengths", "texts": "raw_text"}
OF_SPLIT = re.compile(rf"({'|'.join(own_table.SPLIT_OF)})[_/.](.+)", re.IGNORECASE)
MFN = re.compile(r"(text|audio|video|vision|y)_(train|valid|test)(?:_emb)?\.h5", re.IGNORECASE)
ANY = CorpusInfo(NAME, "own corpus", None, "mosi", -LARGEST, LARGEST, 1.0, (), (0,) * 3, (0,) * 3, (0,) * 3, {})


def write_store(
    paths: list[str], sha256: dict[str, str], name: str, label_range: Range | None, seed: int, folder: str
) -> None:
    """Read one file, or the files of a folder, and write the store ``name`` into ``folder``.

    Raises:
        DataError: a file is not what it should be; a wrong row is a line of the message.
        OSError: a file cannot be opened, or the folder cannot be written.
    """
    files = [Path(path) for path in paths]
    where = files[0] if len(files) == 1 else files[0].parent
    content, unusual = fields_of(files)
    label_range = label_range and tuple(label_range)
    corpus = corpus_of(content, str(where), where.name, label_range, seed, unusual, sha256, name)
    store.write(Path(folder), corpus)


def corpus_of(
    content: dict,
    where: str,
    title: str,
    label_range: Range | None,
    seed: int,
    unusual: dict[str, str],
    sha256: dict[str, str],
    name: str,
) -> Corpus:
    """A corpus from the fields of all utterances, or of each split.

    Args:
        where, title: name the source in sentences, and the corpus.
        seed: of the splits, where the source has none.
        unusual: what must be known of the source -> a sentence, for the data card.
        sha256: file name -> hash, for the data card.
        name: the corpus's own hash.
    """
    unusual, notes = dict(unusual), {}
    if not _has_splits(content):
        content = own_splits.split_rows(_named(content), where, seed, unusual)
    else:
        content = {_split_name(s): _named(fields) for s, fields in content.items() if _split_name(s)}
    if missing := [s for s in SPLITS if s not in content]:
        raise DataError(f"{where}: found the splits {', '.join(content)}, expected also {', '.join(missing)}")
    own_splits.prune(content, FEATURES, unusual)
    splits, notes = mmsa.of_content(content, ANY, where, raw_text_alone=True)
    if not splits["train"].frames and not any(text.strip() for text in splits["train"].text):
        raise DataError(f"{where}: found neither features nor raw text in train, expected some")
    for s in SPLITS:  # what an own corpus does not have is its owner's choice
        told = notes[s].get("fields", {})
        notes[s]["fields"] = {name: what for name, what in told.items() if not what.startswith("missing")}
    splits = raw_text.mend(splits, notes)
    outliers.clip(splits, notes)
    scale = scale_of(splits["train"].label, where, label_range)
    says = [f"own corpus {title}", scale.says(label_range is not None)]
    splits = {s: _held(split, scale, f"{where}, {s}", says, s) for s, split in splits.items()}
    info = info_of(scale, splits, f"own corpus {title}")
    files = [{"name": n, "sha256": digest, "compared": "your own"} for n, digest in sha256.items()]
    says += [f"{what} {sentence}" for what, sentence in unusual.items()]
    card = describe(info, splits, files, notes) | {"identity": {"kind": "own", "says": says}}
    card |= {"text": "as spoken", "own": as_json(info, scale)}
    encoder = "own features" if "T" in splits["train"].frames else ""
    return Corpus(info, "own", splits, name, encoder, card)


def _held(split: Split, scale: Scale, where: str, says: list[str], s: str) -> Split:
    """The split with its labels on the scale; what is outside the range is said, or of two classes refused."""
    label = split.label
    outside = np.flatnonzero((label < scale.low - 1e-6) | (label > scale.high + 1e-6))
    if scale.classes:
        outside = np.flatnonzero(~np.isin(label, (scale.low, scale.high)))
        if len(outside):
            found = f"found the label {label[outside[0]]:g} in row {outside[0]}"
            raise DataError(f"{where}: {found}, expected {scale.low:g} or {scale.high:g}, the two classes of train")
    elif len(outside):
        says.append(f"{len(outside)} labels of {s} lie outside that range")
    return replace(split, label=scale.held(label))


# -------------------------------------------------------------------------------------------------- readers


def fields_of(files: list[Path], labelled: bool = True) -> tuple[dict, dict[str, str]]:
    """What a file, or MFN's files of a folder, hold; and what is unusual in it. ``labelled``: it must have labels.

    Raises:
        DataError: not a file of a form that is read, or damaged.
        OSError: a file cannot be opened.
    """
    if len(files) > 1:
        return _mfn(files, labelled), {}
    (path,) = files
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return own_table.features(path, labelled)
    readers = {".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5}
    content = readers.get(suffix, load_pickle)(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: found {checks.kind_of(content)}, expected a dictionary of fields or of splits")
    if suffix in readers:
        return _by_split(content, path), {}
    return {(k.decode("latin-1") if isinstance(k, bytes) else str(k)): v for k, v in content.items()}, {}


def unlabelled(files: list[Path]) -> list[Split]:
    """Every utterance of a file, or of MFN's files of a folder, its labels left out (NaN): one split, or one of each.

    Raises:
        DataError: as ``fields_of``, or a field is not what it should be.
        OSError: a file cannot be opened.
    """
    content, _ = fields_of(files, labelled=False)
    where = str(files[0] if len(files) == 1 else files[0].parent)
    parts = content if _has_splits(content) else {"row": content}
    found = []
    for s, fields in parts.items():
        fields = _named(checks.field(parts, s, where))
        counts = [len(value) for value in fields.values() if hasattr(value, "__len__")]
        split, _ = mmsa.read_split(fields | {"regression_labels": np.zeros(max(counts, default=0))}, ANY, s, where)
        found.append(replace(split, label=np.full(len(split), np.nan, np.float32)))
    return found


def _npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as stream:
        known = foreign.of_start(path, stream.read(foreign.START))
    if known and known.found != "NumPy arrays (.npz)":
        raise DataError(f"{path}: found {known.found}, expected NumPy arrays (.npz)")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"{path}: found no readable arrays ({reason}), expected numbers and texts (.npz)") from error
    except OSError as error:
        raise DataError(f"{path}: found no readable file ({error.strerror or error}), expected .npz") from error


def _hdf5(path: Path) -> dict[str, np.ndarray]:
    """Every dataset of an HDF5 file, GROUP/NAME -> array."""
    found, size = {}, path.stat().st_size

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.nbytes > MOST_COMPRESSED * size:
                raise DataError(f"{path}, {name}: found a declared size of {item.shape}, more than this file can hold")
            found[name] = item[()]

    with path.open("rb") as stream:
        try:
            with h5py.File(stream, "r") as file:
                file.visititems(visit)
        except DataError:
            raise
        except Exception as error:  # h5py raises almost any class on a damaged file
            reason = " ".join(str(error).split())[:100]
            raise DataError(f"{path}: found no readable HDF5 file ({reason}), expected datasets") from error
    return found


def mfn_files(folder: Path) -> list[Path]:
    """The files of a folder that are named as MFN's are: audio_train.h5, text_test_emb.h5, y_valid.h5, ..."""
    return sorted(path for path in folder.iterdir() if MFN.fullmatch(path.name))


def _mfn(files: list[Path], labelled: bool) -> dict[str, dict[str, np.ndarray]]:
    content: dict[str, dict] = {}
    for path in files:
        what, s = (part.lower() for part in MFN.fullmatch(path.name).groups())
        arrays = list(_hdf5(path).values())
        if len(arrays) != 1:
            raise DataError(f"{path}: found {len(arrays)} datasets, expected one")
        content.setdefault(s, {})[what] = arrays[0]
    for s in SPLITS if labelled else ():
        if "y" not in content.get(s, {}):
            raise DataError(f"{files[0].parent}: found no y_{s}.h5, expected the labels of {s}")
    return content


def _by_split(arrays: dict[str, np.ndarray], path: Path) -> dict:
    """Arrays called SPLIT_NAME or SPLIT/NAME as split -> NAME -> array, others as they are."""
    matched = {name: match for name in arrays if (match := OF_SPLIT.fullmatch(name))}
    if not matched:
        return arrays
    if other := [name for name in arrays if name not in matched]:
        raise DataError(f"{path}: found {other[0]!r} beside {next(iter(matched))!r}, expected a split in every name")
    content: dict[str, dict] = {}
    for name, match in matched.items():
        content.setdefault(match[1].lower(), {})[match[2]] = arrays[name]
    return content


# --------------------------------------------------------------------------------------------------- names


def _split_name(name: str) -> str:
    return own_table.SPLIT_OF.get(name.lower(), "")


def _has_splits(content: dict) -> bool:
    return any(_split_name(name) and isinstance(fields, dict) for name, fields in content.items())


def _named(fields: dict) -> dict:
    """The fields by MMSA's names; one vector an utterance as a sequence of one frame; texts as raw text."""
    if not isinstance(fields, dict):
        return fields  # refused by the reader with the split's name
    names = {name: (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower() for name in fields}
    found = {SAME.get(names[name], names[name]): value for name, value in fields.items()}
    words = found.get("text")
    if isinstance(words, np.ndarray) and words.dtype.kind in "USO" and words.ndim == 1 and _are_texts(words):
        found["raw_text"] = found.pop("text")
    for name in FEATURES:
        value = found.get(name)
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "fiu":
            found[name] = value[:, None]
    return found


def _are_texts(values: np.ndarray) -> bool:
    return all(isinstance(value, (str, bytes)) for value in values)
