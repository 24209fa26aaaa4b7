"""Planted data of any size, made a part at a time, kept on disk and memory-mapped: for what is larger than memory.

The folder is filled and checked by ``store.keep``. Its files: ``SPLIT-MODALITY.f4``, all frames of a split one after
another, and ``SPLIT.npz``, everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from finelib.data import planted, store
from finelib.data.card import describe
from finelib.data.corpora import CorpusInfo
from finelib.data.features import MODALITIES, SPLITS, Corpus, Frames, Split

PART = 1000  # utterances made at a time; with MOSEI's widths and lengths some 120 MB
DESIGN = planted.DESIGNS["corpus"]


def stored(info: CorpusInfo, seed: int = 0, cache: Path | None = None) -> Corpus:
    """Planted data, design "corpus".

    The utterances are others than those of ``planted.generate``: each part of a split has a generator of its own.

    Args:
        info: a corpus with the sizes, widths and lengths that are wanted.
        seed: same info and seed give the same arrays.
        cache: default ``store.cache_folder()``.

    Raises:
        OSError: the cache cannot be written.
    """
    wanted = {"sizes": info.sizes, "widths": info.widths, "max_frames": info.max_frames}
    name = store.key(info.name, {}, planted=planted.VERSION, part=PART, seed=seed, **wanted)
    folder = Path(cache or store.cache_folder()) / "corpora" / name
    store.keep(folder, partial(_fill, info=info, seed=seed))
    splits = {s: _read(folder, s, info.widths) for s in SPLITS}
    return Corpus(info, "planted", splits, name, "planted", describe(info, splits))


def _fill(folder: Path, info: CorpusInfo, seed: int) -> None:
    for s in SPLITS:
        rest: dict[str, list[np.ndarray]] = {}
        for part in _parts(info, seed, s):
            arrays = {"label": part.label, "ids": np.array(part.ids)}
            arrays |= {f"factor-{f}": values for f, values in part.factors.items()}
            arrays |= {f"label-{m}": values for m, values in (part.unimodal_labels or {}).items()}
            for m, frames in part.frames.items():
                arrays[f"length-{m}"] = frames.length
                with (folder / f"{s}-{m}.f4").open("ab") as stream, store.writable(folder.parents[1]):
                    stream.write(np.ascontiguousarray(frames.values).data)
            for name, array in arrays.items():
                rest.setdefault(name, []).append(array)
        with store.writable(folder.parents[1]):
            np.savez(folder / f"{s}.npz", **{name: np.concatenate(parts) for name, parts in rest.items()})


def _parts(info: CorpusInfo, seed: int, split: str) -> Iterator[Split]:
    world = planted.make_world(np.random.default_rng([planted.VERSION, seed, info.table]), info, DESIGN)
    number = SPLITS.index(split)
    for first in range(0, info.sizes[number], PART):
        rng = np.random.default_rng([planted.VERSION, seed, info.table, number, first])
        size = min(PART, info.sizes[number] - first)
        yield planted.make_split(rng, info, DESIGN, world, split, size, first)


def _read(folder: Path, split: str, widths: tuple[int, ...]) -> Split:
    with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
        rest = dict(file)
    frames = {}
    for m, width in zip(MODALITIES, widths, strict=True):
        length = rest[f"length-{m}"]
        # copy on write: torch takes only writable arrays without complaint, and the file is never changed
        values = np.memmap(folder / f"{split}-{m}.f4", np.float32, "c", shape=(int(length.sum()), width))
        frames[m] = Frames.from_lengths(np.asarray(values), length)

    def named(prefix: str) -> dict[str, np.ndarray] | None:
        return {n.removeprefix(prefix): values for n, values in rest.items() if n.startswith(prefix)} or None

    ids = rest["ids"].tolist()
    return Split(frames, rest["label"], ids, [""] * len(ids), named("label-"), named("factor-"))
