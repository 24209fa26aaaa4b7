"""Losses of frames and of whole modalities, and what a model predicts with them.

A lost frame is taken out of the sequence, nothing stands in its place; a modality may have no frame left.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from torch import nn

from finelib import training
from finelib.data.features import MODALITIES, Corpus, Frames, Split
from finelib.metrics import correlation

RATES = tuple(step / 10 for step in range(10))
DRAW = 0  # seed of the losses at test
WHOLE = "0.0"  # the condition in which nothing is lost
Rates = dict[str, float | np.ndarray]  # modality -> share lost, of each utterance (N,) or of all
Predicted = dict[str, np.ndarray | None]  # condition -> predictions (N,); None: the system cannot do without


def lose(split: Split, rates: Rates, seed: int = DRAW) -> Split:
    """The split without the frames that are lost; what is left keeps its order, a modality may have no frame left.

    Args:
        rates: modality -> probability with which each of its frames is lost; 0 loses none, 1 all.
        seed: the same seed and split lose the same frames, and at a higher rate these and others.
    """
    return replace(split, frames={m: _left(frames, rates[m], m, seed) for m, frames in split.frames.items()})


def _left(frames: Frames, rate: float | np.ndarray, m: str, seed: int) -> Frames:
    n, length = len(frames.length), frames.length
    drawn = np.random.default_rng([seed, MODALITIES.index(m)]).random(int(length.sum()))  # in [0, 1)
    stays = drawn >= np.repeat(np.broadcast_to(rate, n), length)
    owner, within = np.repeat(np.arange(n), length), np.arange(len(drawn)) - np.repeat(length.cumsum() - length, length)
    rows = (frames.start[owner] + within)[stays]
    sentence = None if frames.sentence is None else frames.sentence[rows]
    return Frames.from_lengths(frames.values[rows], np.bincount(owner[stays], minlength=n), sentence)


def subsets(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What may be left when something is missing: all subsets but the empty one and the whole, small ones first."""
    return [left for size in range(1, len(modalities)) for left in combinations(modalities, size)]


def only(left: tuple[str, ...]) -> Rates:
    """Rates at which these modalities alone are left."""
    return {m: 0.0 if m in left else 1.0 for m in MODALITIES}


def frames_name(rate: float) -> str:
    """The condition in which this share of the frames is lost."""
    return f"{rate:.1f}"


def subset_name(left: tuple[str, ...]) -> str:
    """The condition in which these modalities are left."""
    return " + ".join(left)


def conditions(modalities: tuple[str, ...]) -> dict[str, Rates]:
    """Everything that may happen to a test split with these modalities."""
    found = {frames_name(rate): dict.fromkeys(MODALITIES, rate) for rate in RATES}
    return found | {subset_name(left): only(left) for left in subsets(modalities)}


# ------------------------------------------------------------------------------------------------ predictions


def predict_with_losses(model: nn.Module, split: Split, modalities: tuple[str, ...], threads: int) -> Predicted:
    """Predictions in every condition; None where all of a modality is lost that the system cannot do without."""
    found, needs = {}, getattr(model, "needs", ())
    with training.cpu_threads(threads):
        for name, rates in conditions(modalities).items():
            impossible = any(rates[m] == 1 for m in needs)
            found[name] = None if impossible else training.predict(model, lose(split, rates))
    return found


def memory(model: nn.Module, corpus: Corpus, threads: int) -> dict[str, float]:
    """Corr on the training split itself: with everything, and with each modality alone that the model can do with."""
    train, found = corpus.splits["train"], {}
    alone = {m: (m,) for m in corpus.modalities if set(getattr(model, "needs", ())) <= {m}}
    with training.cpu_threads(threads):
        for name, left in ({WHOLE: corpus.modalities} | alone).items():
            found[name] = correlation(training.predict(model, lose(train, only(left))), train.label)
    return found


def as_lists(predicted: Predicted) -> dict[str, list[float] | None]:
    """For JSON, which keeps every bit of a float32."""
    return {name: None if x is None else x.tolist() for name, x in predicted.items()}
