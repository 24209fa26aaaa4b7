"""Planted data: generated utterances whose factors, and so the best possible prediction, are known.

Each utterance has hidden factors, all standard normal:

    s        shared by text, audio and video            ta tv av  shared by two modalities
    t a v    unique to one modality                     r         shared by all, irrelevant to the label
    rt ra rv irrelevant, one modality's own noise

A modality sees the factors that name it. A few of its frames, at places of their own in every modality, are
*cues*: they carry a marker direction and a mix of the seen factors. All other frames carry the same mix of
factors drawn afresh, without the marker, so that averaging over frames drowns the cue but attending to the
marker finds it. In the world of Tables 1 to 4 ("several") every frame carries s, t, a and v. The label is a
saturating function of the relevant factors with two interactions, plus noise, put on the corpus's annotation
scale. Widths are those of the real corpus; sizes and lengths too, unless a design has its own.
"""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from scipy import stats

from finelib.data.card import describe
from finelib.data.corpora import CorpusInfo
from finelib.data.features import MODALITIES, SPLITS, Corpus, Frames, Split

VERSION = 1  # part of the data hash; raise it whenever a change below changes a number
FACTORS = ("s", "ta", "tv", "av", "t", "a", "v", "r", "rt", "ra", "rv")
SEEN = {
    "T": ("s", "ta", "tv", "t", "r", "rt"),
    "A": ("s", "ta", "av", "a", "r", "ra"),
    "V": ("s", "tv", "av", "v", "r", "rv"),
}
Directions = tuple[Float[np.ndarray, "d"], Float[np.ndarray, "factors d"]]  # marker direction, mix of the factors
MARKER, NOISE = 3.0, 0.3
LABEL_NOISE = 0.3
OFFSET = {"mosi": 0.15, "sims": -0.1, "humor": 0.0}
SMALLEST = 32


@dataclass(frozen=True)
class Design:
    """What a planted corpus hides, and how.

    Attributes:
        about: one sentence for tables and notebooks.
        weight: factor -> weight in the label.
        products: (weight, factor, factor) in the label.
        cue_share: share of an utterance's frames that are cues; 1: all frames carry the factors.
        held: factors that every frame carries, cue or not.
        noise: standard deviation of what is added to every feature of a frame.
        loudness: factor -> factor by which frames carry it louder than the others.
        spread: the response is tanh(0.6 spread x weighted sum); below 1, labels crowd around the offset.
        offset: added to the response; None for the corpus's own.
        sizes, widths, max_frames: None for the corpus's own.
    """

    about: str
    weight: dict[str, float]
    products: tuple[tuple[float, str, str], ...] = ()
    cue_share: float = 0.12
    held: tuple[str, ...] = ()
    noise: float = NOISE
    loudness: dict[str, float] = field(default_factory=dict)
    spread: float = 1.0
    offset: float | None = None
    sizes: tuple[int, int, int] | None = None
    widths: tuple[int, int, int] | None = None
    max_frames: tuple[int, int, int] | None = None

    def response(self, factors: dict[str, np.ndarray], seen: tuple[str, ...] = FACTORS) -> np.ndarray:
        """The label before noise and scaling, in (-1, 1), from the factors that are seen."""
        total = sum(w * factors[f] for f, w in self.weight.items() if f in seen)
        for w, a, b in self.products:
            if a in seen and b in seen:
                total = total + w * factors[a] * factors[b]
        return np.tanh(0.6 * self.spread * total)


# text carries most, as in the real corpora
WEIGHT = {"s": 0.75, "t": 0.65, "a": 0.3, "v": 0.35, "ta": 0.2, "tv": 0.2, "av": 0.15}
PRODUCTS = ((0.15, "s", "v"), (0.15, "t", "a"))
MOSTLY_TEXT = {"t": 0.95, "s": 0.25, "a": 0.5, "v": 0.35, "ta": 0.1, "tv": 0.1, "av": 0.1}
LOUD = {"r": 3.0, "rt": 2.0, "ra": 2.0, "rv": 2.0}


def _small(about: str, weight: dict[str, float] = WEIGHT, cue_share: float = 0.3, **own: object) -> Design:
    sizes = {"sizes": (640, 160, 1000), "widths": (32, 16, 20), "max_frames": (12, 24, 24)}
    return Design(about, weight, cue_share=cue_share, **sizes | own)


DESIGNS = {
    "corpus": Design("the corpus's own sizes, widths and lengths", WEIGHT, PRODUCTS),
    "several": Design(
        "means, their products and cues each tell a part",
        {"s": 0.42, "t": 0.42, "a": 0.27, "v": 0.27, "ta": 0.3, "tv": 0.3, "av": 0.26},
        ((0.55, "t", "a"), (0.55, "s", "v")),
        cue_share=0.25,
        held=("s", "t", "a", "v"),
        noise=0.1,
        sizes=(640, 160, 640),
        max_frames=(50, 50, 50),
    ),
    "modalities": _small("text carries most, audio and video a little of their own", MOSTLY_TEXT),
    "components": _small("a little of everything", cue_share=0.12, products=PRODUCTS),
    "many": _small(
        "a little of everything, three times as many utterances",
        cue_share=0.12,
        products=PRODUCTS,
        sizes=(2000, 500, 1000),
    ),
    "cues": _small(
        "a single cue frame per modality, at a place of its own, in sequences twice as long",
        cue_share=0.02,
        max_frames=(24, 48, 48),
    ),
    "redundancy": _small(
        "a loud factor that all modalities share and that says nothing about the label", loudness=LOUD
    ),
    "complementary": _small("the label is in what each modality has to itself", {"t": 0.6, "a": 0.6, "v": 0.6}),
    "imbalance": _small(
        "two thirds of the labels in one class, few utterances, batches of 16",
        sizes=(320, 160, 1000),
        spread=0.27,
        offset=1 / 3,
    ),
    "plain": _small("text alone, the same in every frame: nothing for any component to do", {"t": 1.0}, cue_share=1.0),
}


def generate(info: CorpusInfo, scale: float = 1.0, seed: int = 0, design: str = "corpus") -> Corpus:
    """Planted data in the shape of a corpus.

    Args:
        scale: share of its split sizes, in (0, 1]; a split keeps at least 32 utterances.
        seed: same corpus, scale, seed and design give the same arrays.
        design: a key of ``DESIGNS``; all but "corpus" have sizes and lengths of their own, most of them widths too.

    Raises:
        ValueError: if the scale is not in (0, 1] or the design is unknown.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"planted data: scale is {scale}, expected more than 0 and at most 1")
    if design not in DESIGNS:
        raise ValueError(f"planted data: design is {design!r}, expected one of {', '.join(DESIGNS)}")
    plan = DESIGNS[design]
    own = {name: getattr(plan, name) for name in ("sizes", "widths", "max_frames")}
    info = replace(info, **{name: value for name, value in own.items() if value is not None})
    rng = np.random.default_rng([VERSION, seed, info.table])
    world = make_world(rng, info, plan)
    sizes = {s: max(SMALLEST, round(size * scale)) for s, size in zip(SPLITS, info.sizes, strict=True)}
    splits = {s: make_split(rng, info, plan, world, s, size) for s, size in sizes.items()}
    named = "" if design == "corpus" else f" {design}"
    digest = hashlib.sha256(f"planted {VERSION} {info.name} {scale} {seed}{named}".encode())
    for split in splits.values():
        digest.update(split.label.tobytes())
        for m in MODALITIES:  # the ends are enough to notice a generator that changed
            digest.update(split.frames[m].length.tobytes())
            digest.update(np.ascontiguousarray(split.frames[m].values[[0, -1]]).tobytes())
    return Corpus(info, "planted", splits, digest.hexdigest(), "planted", describe(info, splits))


def make_world(rng: Generator, info: CorpusInfo, plan: Design) -> dict[str, Directions]:
    """What all utterances of a corpus share: modality -> its marker direction and its mix of the factors it sees."""
    loudness = {m: [plan.loudness.get(f, 1.0) for f in SEEN[m]] for m in MODALITIES}
    return {m: _directions(rng, d, loudness[m]) for m, d in zip(MODALITIES, info.widths, strict=True)}


def make_split(
    rng: Generator, info: CorpusInfo, plan: Design, world: dict, name: str, size: int, first: int = 0
) -> Split:
    """``size`` utterances of the split ``name``, numbered from ``first``, in the world of ``make_world``."""
    factors = {f: rng.standard_normal(size).astype(np.float32) for f in FACTORS}
    seen = {m: np.stack([factors[f] for f in SEEN[m]], 1) for m in MODALITIES}
    longest = dict(zip(MODALITIES, info.max_frames, strict=True))
    frames = {m: _frames(rng, seen[m], *world[m], longest[m], plan, np.isin(SEEN[m], plan.held)) for m in MODALITIES}
    clean = plan.response(factors)
    label, oracle = _label(rng, info, plan, clean)
    unimodal = None
    if info.unimodal_labels:
        unimodal = {m: _label(rng, info, plan, plan.response(factors, SEEN[m]))[0] for m in MODALITIES}
    ids = [f"planted_{name}$_${i}" for i in range(first, first + size)]
    return Split(frames, label, ids, [""] * size, unimodal, {**factors, "oracle": oracle})


def best_prediction(
    info: CorpusInfo, design: str, factors: dict[str, np.ndarray], modalities: tuple[str, ...], draws: int = 2048
) -> np.ndarray:
    """The best prediction (N,) from the factors that the modalities see: the mean over those they do not.

    The mean is taken over a fixed low-discrepancy sample of the unseen factors.
    """
    plan = DESIGNS[design]
    seen = {f for m in modalities for f in SEEN[m]}
    unseen = [f for f in plan.weight if f not in seen]
    known = {f: factors[f][:, None] for f in seen}
    if unseen:
        sample = stats.norm.ppf(stats.qmc.Sobol(len(unseen), seed=0).random(draws)).T
        known |= {f: column[None] for f, column in zip(unseen, sample, strict=True)}
    return _on_scale(info, plan, plan.response(known).mean(1)).astype(np.float32)


def _directions(rng: Generator, width: int, loudness: list[float]) -> Directions:
    """A row of the matrix is as long as its factor is loud. The rows are orthogonal where the width allows it."""
    factors = len(loudness)
    basis = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    rows = basis[1 : 1 + factors] if width > factors else _spread(rng, factors, basis[1:])
    return basis[0], rows * np.float32(loudness)[:, None]


def _spread(rng: Generator, factors: int, rows: np.ndarray) -> np.ndarray:
    """Unit rows for more factors than there are directions: the first keep one each, the irrelevant ones share."""
    extra = rng.standard_normal((factors - len(rows), len(rows))).astype(np.float32)
    extra /= np.linalg.norm(extra, axis=1, keepdims=True)
    return np.concatenate([rows, extra @ rows])


def _frames(
    rng: Generator, seen: np.ndarray, marker: np.ndarray, mix: np.ndarray, longest: int, plan: Design, held: np.ndarray
) -> Frames:
    """Frames of one modality; ``seen`` (N, k) are the factors it sees, ``held`` (k,) says which every frame carries."""
    # lengths: from 5 frames up, a third of the longest on average
    length = np.clip(np.round(longest * rng.beta(1.5, 3.0, len(seen))), min(5, longest), longest).astype(np.int64)
    cues = np.maximum(1, np.round(plan.cue_share * length)).astype(np.int64)
    owner = np.repeat(np.arange(len(seen)), length)
    total, start = len(owner), np.cumsum(length) - length
    # the cues of an utterance are the frames with the smallest random keys
    order = np.lexsort((rng.random(total, dtype=np.float32), owner))
    rank = np.empty(total, dtype=np.int64)
    rank[order] = np.arange(total) - start[owner]
    is_cue = (rank < cues[owner])[:, None]
    content = np.where(is_cue | held, seen[owner], rng.standard_normal((total, seen.shape[1]), dtype=np.float32))
    values = rng.standard_normal((total, len(marker)), dtype=np.float32)
    values *= plan.noise
    values += content @ mix
    values += np.where(is_cue, np.float32(MARKER), 0) * marker
    return Frames.from_lengths(values, length)


def _label(rng: Generator, info: CorpusInfo, plan: Design, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels on the corpus's scale, and the best prediction of them from the factors."""
    oracle = _on_scale(info, plan, clean)
    if info.metrics == "humor":
        return (rng.random(len(clean)) < oracle).astype(np.float32), oracle.astype(np.float32)
    noisy = clean + _offset(info, plan) + LABEL_NOISE * plan.spread * rng.standard_normal(len(clean))
    half = (info.label_high - info.label_low) / 2
    label = np.round(np.clip(noisy, -1, 1) * half / info.label_step) * info.label_step
    return label.astype(np.float32), oracle.astype(np.float32)


def _on_scale(info: CorpusInfo, plan: Design, clean: np.ndarray) -> np.ndarray:
    """The expected label for a response: on the corpus's scale, or the probability of class 1."""
    if info.metrics == "humor":
        # a steep logistic keeps the classes nearly, not wholly, determined by the factors
        return 1 / (1 + np.exp(-12 * clean))
    return (info.label_high - info.label_low) / 2 * (clean + _offset(info, plan))


def _offset(info: CorpusInfo, plan: Design) -> float:
    return OFFSET[info.metrics] if plan.offset is None else plan.offset
