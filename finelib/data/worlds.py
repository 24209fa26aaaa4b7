"""Home worlds: planted designs, small and with a known oracle, in each of which one idea of the compared systems is
what is needed.

A world is a function of (rng, n) that draws, for n utterances, what each modality's frames say (``codes``: modality ->
(n, T, k), k numbers a frame) and the response, of unit variance. ``generate`` does the rest, the same in every world:
each modality writes its codes along k orthonormal directions of its own, normal noise is added to every feature, and
the label is the response plus normal noise, cut to the range of the labels. The oracle is the response. In no world but
"means" do a modality's averaged frames tell much of it; what a linear model can get of them follows from the design.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.random import Generator

from finelib.data.corpora import CorpusInfo
from finelib.data.features import MODALITIES, SPLITS, Corpus, Frames, Split

NOISE, LABEL_NOISE, LIMIT = 0.3, 0.2, 3.0
Codes = dict[str, np.ndarray]


@dataclass(frozen=True)
class Drawn:
    """What n utterances say.

    Attributes:
        codes: modality -> (n, T, k).
        response: (n,), of mean 0 and variance 1.
        sentence: (T,), the sentence of each frame, where a context comes before the utterance (``Frames.sentence``).
    """

    codes: Codes
    response: np.ndarray
    sentence: np.ndarray | None = None


@dataclass(frozen=True)
class World:
    """A design.

    Attributes:
        about: what the label is made of, for tables.
        draw: (rng, n) -> Drawn.
        homes: the systems whose idea it needs.
        train: utterances to train on.
        width: features a frame.
    """

    about: str
    draw: Callable[[Generator, int], Drawn]
    homes: tuple[str, ...]
    train: int
    width: int = 8


# ------------------------------------------------------------------------------------------------ designs


def uniform(rng: Generator, *shape: int) -> np.ndarray:
    """Uniform numbers of mean 0 and variance 1."""
    return rng.uniform(-np.sqrt(3), np.sqrt(3), shape)


def signs(rng: Generator, *shape: int) -> np.ndarray:
    """-1 or 1."""
    return rng.choice([-1.0, 1.0], shape)


def held(values: np.ndarray, steps: int = 4) -> np.ndarray:
    """(n, k) -> (n, steps, k): the same at every step."""
    return np.repeat(values[:, None], steps, 1)


def places(rng: Generator, n: int, steps: int, count: int) -> np.ndarray:
    """(n, count) different steps of each utterance, in random order."""
    return rng.random((n, steps)).argsort(1)[:, :count]


def means(rng: Generator, n: int) -> Drawn:
    """Two factors a modality, at every step; the label is their sum."""
    x = {m: uniform(rng, n, 2) for m in MODALITIES}
    return Drawn({m: held(f) for m, f in x.items()}, sum(f.sum(1) for f in x.values()) / np.sqrt(6))


def products(rng: Generator, n: int) -> Drawn:
    """Two factors a modality, at every step; the label is the product of the three first plus that of the second."""
    x = {m: uniform(rng, n, 2) for m in MODALITIES}
    return Drawn({m: held(f) for m, f in x.items()}, np.prod(list(x.values()), 0).sum(1) / np.sqrt(2))


def steps(rng: Generator, n: int, count: int = 6) -> Drawn:
    """Text marks one step, with a sign; the label is that sign times what audio said one step before."""
    at, sign = rng.integers(1, count, n), signs(rng, n)
    mark = 3.0 * sign[:, None] * (np.arange(count) == at[:, None])
    said = uniform(rng, n, count)
    codes = {"T": mark[..., None], "A": said[..., None], "V": rng.standard_normal((n, count, 1))}
    return Drawn(codes, sign * said[np.arange(n), at - 1])


def order(rng: Generator, n: int, count: int = 6) -> Drawn:
    """Text and audio mark one step each, text with a sign; it counts as it is if audio's mark is later, reversed if it
    is earlier, not at all if the two meet."""
    sign, at = signs(rng, n), {m: rng.integers(0, count, n) for m in "TA"}
    codes = {m: np.zeros((n, count, 2)) for m in MODALITIES}
    for m, where in at.items():
        codes[m][np.arange(n), where, 0] = 2.0
    codes["T"][np.arange(n), at["T"], 1] = 2.0 * sign
    return Drawn(codes, sign * np.sign(at["A"] - at["T"]) / np.sqrt(1 - 1 / count))


def lookup(rng: Generator, n: int, count: int = 5) -> Drawn:
    """Audio is a table of values that add up to 0, each frame with a mark of its own, in random order; text says one
    mark all along, and the label is the value beside it."""
    asked, value, rows = rng.integers(0, count, n), uniform(rng, n, count), np.arange(n)
    value = (value - value.mean(1, keepdims=True)) / np.sqrt(1 - 1 / count)
    table, at = np.zeros((n, count, count + 1)), places(rng, n, count, count)
    table[rows[:, None], at, np.arange(count)] = 2.0
    table[rows[:, None], at, count] = value
    codes = {"T": held(2.0 * np.eye(count)[asked], count), "A": table, "V": rng.standard_normal((n, count, 1))}
    return Drawn(codes, value[rows, asked])


def commons(rng: Generator, n: int) -> Drawn:
    """A factor that all modalities see, none of them clearly, turns the sign of what each has to itself; much else in
    each is loud and says nothing."""
    common, own, codes = signs(rng, n, 1), {m: uniform(rng, n, 1) for m in MODALITIES}, {}
    for m, x in own.items():
        seen = common + 0.7 * rng.standard_normal((n, 1))
        codes[m] = held(np.concatenate([seen, x, 1.5 * rng.standard_normal((n, 4))], 1))
    return Drawn(codes, (common * sum(own.values()))[:, 0] / np.sqrt(3))


def turned(rng: Generator, n: int) -> Drawn:
    """Two factors that all modalities see, none of them clearly, turn the sign of what each has to itself, once each;
    much else in each is loud and says nothing."""
    common, own, codes = signs(rng, n, 2), {m: uniform(rng, n, 1) for m in MODALITIES}, {}
    for m, x in own.items():
        seen = common + 0.5 * rng.standard_normal((n, 2))
        codes[m] = held(np.concatenate([seen, x, 1.5 * rng.standard_normal((n, 4))], 1))
    return Drawn(codes, common.prod(1) * sum(own.values())[:, 0] / np.sqrt(3))


def disagreeing(rng: Generator, n: int) -> Drawn:
    """Each modality has a label of its own, the product of two factors; the label is their mean."""
    x = {m: uniform(rng, n, 2) for m in MODALITIES}
    return Drawn({m: held(f) for m, f in x.items()}, sum(f.prod(1) for f in x.values()) / np.sqrt(3))


def ignored(rng: Generator, n: int) -> Drawn:
    """A mark in each modality says which of its two signals counts, with which sign, or that it is broken, and loud."""
    codes, response = {}, np.zeros(n)
    for m in MODALITIES:
        state, signal = rng.integers(0, 5, n), uniform(rng, n, 2)  # state 4: broken
        counted = np.stack([signal[:, 0], -signal[:, 0], signal[:, 1], -signal[:, 1], np.zeros(n)], 1)
        response = response + counted[np.arange(n), state]
        shown = np.where(state[:, None] == 4, 3.0 * rng.standard_normal((n, 2)), signal)
        codes[m] = held(np.concatenate([shown, 2.0 * np.eye(5)[state]], 1))
    return Drawn(codes, response / np.sqrt(3 * 0.8))


def nuisance(rng: Generator, n: int) -> Drawn:
    """Two factors of each modality, whose product counts, among many loud ones that say nothing."""
    x = {m: uniform(rng, n, 2) for m in MODALITIES}
    codes = {m: held(np.concatenate([f, 1.5 * rng.standard_normal((n, 10))], 1)) for m, f in x.items()}
    return Drawn(codes, sum(f.prod(1) for f in x.values()) / np.sqrt(3))


def graph(rng: Generator, n: int) -> Drawn:
    """Of every pair of modalities x, y the same four products count, x1 y3 + x2 y4 - x3 y1 - x4 y2, and the product of
    all three first factors."""
    x = {m: uniform(rng, n, 4) for m in MODALITIES}
    pairs = sum((p[:, :2] * q[:, 2:] - p[:, 2:] * q[:, :2]).sum(1) for p, q in combinations(x.values(), 2))
    triple = np.prod([f[:, 0] for f in x.values()], 0)
    return Drawn({m: held(f) for m, f in x.items()}, (pairs + triple) / np.sqrt(13))


def grid(rng: Generator, n: int) -> Drawn:
    """Every place of a grid of steps and modalities has a weight; those of a modality add up to 0."""
    weight = {"T": (1, -1, -1, 1, 1, -1, 1, -1), "A": (1, 1, -1, -1, 1, -1, -1, 1), "V": (1, -1, 1, -1, -1, 1, -1, 1)}
    said = {m: uniform(rng, n, 8, 1) for m in MODALITIES}
    return Drawn(said, sum(x[..., 0] @ weight[m] for m, x in said.items()) / np.sqrt(24))


def shifts(rng: Generator, n: int) -> Drawn:
    """Words have values; audio turns the sign of the word at its step; the label is their sum."""
    count = 6
    value, turn = uniform(rng, n, count), signs(rng, n, count)
    codes = {"T": value[..., None], "A": turn[..., None], "V": rng.standard_normal((n, count, 1))}
    return Drawn(codes, (value * turn).sum(1) / np.sqrt(count))


def matching(rng: Generator, n: int) -> Drawn:
    """Frames of text and audio are pairs, known by a mark, in orders of their own; the products of pairs count."""
    count = 5
    value = {m: uniform(rng, n, count) for m in "TA"}
    codes, rows = {"V": rng.standard_normal((n, count, 1))}, np.arange(n)[:, None]
    for m, x in value.items():
        codes[m] = np.zeros((n, count, count + 1))
        at = places(rng, n, count, count)
        codes[m][rows, at, np.arange(count)] = 2.0
        codes[m][rows, at, count] = x
    return Drawn(codes, np.prod(list(value.values()), 0).sum(1) / np.sqrt(count))


def context(rng: Generator, n: int) -> Drawn:
    """Three sentences of context, of which the first has a sign; it turns what the punchline's three modalities say."""
    sentence = np.repeat([1, 2, 3, 0], 4)
    sign, codes = signs(rng, n), {}
    own = {m: uniform(rng, n) for m in MODALITIES}
    for m, x in own.items():
        codes[m] = np.zeros((n, len(sentence), 2))
        codes[m][:, sentence == 1, 0] = 1.5 * sign[:, None]
        codes[m][:, sentence != 1, 0] = 1.5 * signs(rng, n, 1) * np.ones(12)
        codes[m][:, sentence == 0, 1] = x[:, None]
    return Drawn(codes, sign * sum(own.values()) / np.sqrt(3), sentence)


def cues(rng: Generator, n: int) -> Drawn:
    """One frame of twelve, at a place of its own in each modality, is marked and counts."""
    count, codes, total = 12, {}, np.zeros(n)
    for m in MODALITIES:
        said = uniform(rng, n, count)
        at = rng.integers(0, count, n)
        codes[m] = np.stack([said, 3.0 * (np.arange(count) == at[:, None])], -1)
        total = total + said[np.arange(n), at]
    return Drawn(codes, total / np.sqrt(3))


WORLDS = {
    "means": World("the sum of two factors a modality", means, ("LF-DNN",), 400),
    "products": World("products of three factors, one of each modality", products, ("TFN", "LMF"), 1200),
    "steps": World("what audio says one step before a mark of the text", steps, ("MFN",), 1200),
    "order": World("whether a mark of audio follows that of the text", order, ("Coupled Mamba",), 800),
    "lookup": World("the value that audio has beside the mark that the text says", lookup, ("MulT", "BBFN"), 1500),
    "commons": World("a common factor turns what is private", commons, ("MISA", "DMD"), 500),
    "turned": World("two common factors turn what is private", turned, ("ConFEDE",), 600),
    "disagreeing": World("each modality has a label of its own", disagreeing, ("Self-MM",), 400),
    "ignored": World("which signal of a modality counts, if any", ignored, ("EUAR",), 500),
    "nuisance": World("products among loud nuisance", nuisance, ("C-MIB",), 500, width=16),
    "graph": World("products of pairs and of all three", graph, ("GFN",), 800),
    "grid": World("a weight for each step of each modality", grid, ("CubeMLP",), 1200),
    "shifts": World("audio turns the word at its step", shifts, ("MAG-BERT", "MSG"), 600),
    "matching": World("products of paired frames in unknown orders", matching, ("MuLOT",), 1000),
    "context": World("the context turns the punchline", context, ("C-MFN",), 600),
    "cues": World("one marked frame of each modality", cues, ("FINE",), 800),
}
HELD_OUT = (200, 500)  # utterances in valid and test


def generate(name: str, seed: int = 0) -> Corpus:
    """A world's corpus; the same seed gives the same arrays."""
    world = WORLDS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    basis = {m: np.linalg.qr(rng.standard_normal((world.width, world.width)))[0] for m in MODALITIES}
    splits, digest, sizes = {}, hashlib.sha256(f"world {name} {seed}".encode()), (world.train, *HELD_OUT)
    for split, size in zip(SPLITS, sizes, strict=True):
        splits[split] = make_split(world.draw(rng, size), basis, rng, split)
        of_frames = [
            array for f in splits[split].frames.values() for array in (f.values, f.sentence) if array is not None
        ]
        for array in (splits[split].label, splits[split].factors["oracle"], *of_frames):
            digest.update(array.tobytes())
    longest = tuple(int(splits["train"].frames[m].length.max()) for m in MODALITIES)
    edges = (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)
    info = CorpusInfo(
        name, f"world {name!r}", None, "mosi", -LIMIT, LIMIT, 0.0, edges, sizes, (world.width,) * 3, longest, {}
    )
    return Corpus(info, "planted", splits, digest.hexdigest(), "planted")


def make_split(drawn: Drawn, basis: dict[str, np.ndarray], rng: Generator, name: str) -> Split:
    """Frames, labels and oracle of what was drawn."""
    n, frames = len(drawn.response), {}
    for m in MODALITIES:
        codes = drawn.codes[m]
        values = codes @ basis[m][: codes.shape[2]] + NOISE * rng.standard_normal((*codes.shape[:2], len(basis[m])))
        sentence = None if drawn.sentence is None else np.tile(drawn.sentence, n)
        values = values.reshape(-1, len(basis[m])).astype(np.float32)
        frames[m] = Frames.from_lengths(values, np.full(n, codes.shape[1]), sentence)
    label = np.clip(drawn.response + LABEL_NOISE * rng.standard_normal(n), -LIMIT, LIMIT).astype(np.float32)
    ids = [f"planted_{name}$_${i}" for i in range(n)]
    oracle = np.clip(drawn.response, -LIMIT, LIMIT).astype(np.float32)
    return Split(frames, label, ids, [""] * n, None, {"oracle": oracle})
