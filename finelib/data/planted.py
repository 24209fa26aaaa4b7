"""Planted data: generated utterances whose factors, and so the best possible prediction, are known.

Each utterance has hidden factors, all standard normal:

    s        shared by text, audio and video            ta tv av  shared by two modalities
    t a v    unique to one modality                     r         shared by all, irrelevant to the label
    rt ra rv irrelevant, one modality's own noise

A modality sees the factors that name it. A few of its frames, at places of their own in every modality, are
*cues*: they carry a marker direction and a mix of the seen factors. All other frames carry the same mix of
factors drawn afresh, without the marker, so that averaging over frames drowns the cue but attending to the
marker finds it. The label is a saturating function of the relevant factors with two interactions, plus noise,
put on the corpus's annotation scale. Sizes, widths and lengths are those of the real corpus.
"""

from __future__ import annotations

import hashlib

import numpy as np

from finelib.data.card import describe
from finelib.data.corpora import CorpusInfo
from finelib.data.features import MODALITIES, SPLITS, Corpus, Frames, Split

VERSION = 1  # part of the data hash; raise it whenever a change below changes a number
FACTORS = ("s", "ta", "tv", "av", "t", "a", "v", "r", "rt", "ra", "rv")
SEEN = {
    "T": ("s", "ta", "tv", "t", "r", "rt"), "A": ("s", "ta", "av", "a", "r", "ra"),
    "V": ("s", "tv", "av", "v", "r", "rv"),
}  # fmt: skip
# text carries most, as in the real corpora
WEIGHT = {"s": 0.75, "t": 0.65, "a": 0.3, "v": 0.35, "ta": 0.2, "tv": 0.2, "av": 0.15}
CUE_SHARE = 0.12
MARKER, CONTENT, NOISE = 3.0, 1.0, 0.3
LABEL_NOISE = 0.3
OFFSET = {"mosi": 0.15, "sims": -0.1, "humor": 0.0}
SMALLEST = 32


def generate(info: CorpusInfo, scale: float = 1.0, seed: int = 0) -> Corpus:
    """Planted data in the shape of a corpus.

    Args:
        info: the corpus whose sizes, widths, lengths and label range are taken.
        scale: share of its split sizes, in (0, 1]; a split keeps at least 32 utterances.
        seed: same corpus, scale and seed give the same arrays.

    Raises:
        ValueError: if the scale is not in (0, 1].
    """
    if not 0 < scale <= 1:
        raise ValueError(f"planted data: scale is {scale}, expected more than 0 and at most 1")
    rng = np.random.default_rng([VERSION, seed, info.table])
    world = {m: _world(rng, width, len(SEEN[m])) for m, width in zip(MODALITIES, info.widths, strict=True)}
    splits = {
        name: _split(rng, info, world, name, max(SMALLEST, round(size * scale)))
        for name, size in zip(SPLITS, info.sizes, strict=True)
    }
    digest = hashlib.sha256(f"planted {VERSION} {info.name} {scale} {seed}".encode())
    for split in splits.values():
        digest.update(split.label.tobytes())
        for m in MODALITIES:  # the ends are enough to notice a generator that changed
            digest.update(split.frames[m].length.tobytes())
            digest.update(np.ascontiguousarray(split.frames[m].values[[0, -1]]).tobytes())
    return Corpus(info, "planted", splits, digest.hexdigest(), "planted", describe(info, splits))


def _world(rng: np.random.Generator, width: int, factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Marker direction (d,) and mixing matrix (factors, d), of orthonormal rows where the width allows it."""
    basis = rng.standard_normal((width, width))
    basis = np.linalg.qr(basis)[0].astype(np.float32)
    rows = basis[1 : 1 + factors] if width > factors else _spread(rng, factors, basis[1:])
    return basis[0], rows


def _spread(rng: np.random.Generator, factors: int, rows: np.ndarray) -> np.ndarray:
    """Unit rows for more factors than there are directions: the first keep one each, the irrelevant ones share."""
    extra = rng.standard_normal((factors - len(rows), len(rows))).astype(np.float32)
    extra /= np.linalg.norm(extra, axis=1, keepdims=True)
    return np.concatenate([rows, extra @ rows])


def _split(rng: np.random.Generator, info: CorpusInfo, world: dict, name: str, size: int) -> Split:
    factors = {f: rng.standard_normal(size).astype(np.float32) for f in FACTORS}
    frames = {
        m: _frames(rng, np.stack([factors[f] for f in SEEN[m]], 1), *world[m], longest)
        for m, longest in zip(MODALITIES, info.max_frames, strict=True)
    }
    clean = _response(factors, FACTORS)
    label, oracle = _label(rng, info, clean)
    unimodal = None
    if info.unimodal_labels:
        unimodal = {m: _label(rng, info, _response(factors, SEEN[m]))[0] for m in MODALITIES}
    ids = [f"planted_{name}$_${i}" for i in range(size)]
    return Split(frames, label, ids, [""] * size, unimodal, {**factors, "oracle": oracle})


def _frames(rng: np.random.Generator, seen: np.ndarray, marker: np.ndarray, mix: np.ndarray, longest: int) -> Frames:
    """Cue and other frames of one modality; ``seen`` (N, k) are the factors it sees."""
    # lengths: from 5 frames up, a third of the longest on average
    length = np.clip(np.round(longest * rng.beta(1.5, 3.0, len(seen))), min(5, longest), longest).astype(np.int64)
    cues = np.maximum(1, np.round(CUE_SHARE * length)).astype(np.int64)
    owner = np.repeat(np.arange(len(seen)), length)
    total = len(owner)
    # the cues of an utterance are the frames with the smallest random keys
    key = rng.random(total, dtype=np.float32)
    order = np.lexsort((key, owner))
    start = np.cumsum(length) - length
    rank = np.empty(total, dtype=np.int64)
    rank[order] = np.arange(total) - start[owner]
    is_cue = (rank < cues[owner])[:, None]
    content = np.where(is_cue, seen[owner], rng.standard_normal((total, seen.shape[1]), dtype=np.float32))
    values = rng.standard_normal((total, len(marker)), dtype=np.float32)
    values *= NOISE
    values += CONTENT * content @ mix
    values += np.where(is_cue, np.float32(MARKER), 0) * marker
    return Frames.from_lengths(values, length)


def _response(factors: dict[str, np.ndarray], seen: tuple[str, ...]) -> np.ndarray:
    """The label before noise and scaling, in (-1, 1), from the factors that are seen."""
    total = sum(WEIGHT[f] * factors[f] for f in seen if f in WEIGHT)
    if "s" in seen and "v" in seen:
        total = total + 0.15 * factors["s"] * factors["v"]
    if "t" in seen and "a" in seen:
        total = total + 0.15 * factors["t"] * factors["a"]
    return np.tanh(0.6 * total)


def _label(rng: np.random.Generator, info: CorpusInfo, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels on the corpus's scale, and the best prediction of them from the factors."""
    if info.metric == "humor":
        # a steep logistic keeps the classes nearly, not wholly, determined by the factors
        oracle = 1 / (1 + np.exp(-12 * clean))
        return (rng.random(len(clean)) < oracle).astype(np.float32), oracle.astype(np.float32)
    noisy = clean + OFFSET[info.metric] + LABEL_NOISE * rng.standard_normal(len(clean))
    half = (info.label_high - info.label_low) / 2
    label = np.round(np.clip(noisy, -1, 1) * half / info.label_step) * info.label_step
    oracle = half * (clean + OFFSET[info.metric])
    return label.astype(np.float32), oracle.astype(np.float32)
