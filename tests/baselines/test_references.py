"""Reference rows against scikit-learn used plainly."""

from dataclasses import replace

import numpy as np
from sklearn.linear_model import Ridge

from finelib.baselines import references
from finelib.data import sources


def test_ridge_is_scikit_learns_on_standardised_means_for_some_penalty():
    corpus = sources.load("mosi", scale=0.1)
    train, test = (
        np.array(
            [
                corpus.splits[s].frames["A"].values[a : a + n].mean(0)
                for a, n in zip(corpus.splits[s].frames["A"].start, corpus.splits[s].frames["A"].length, strict=True)
            ]
        )
        for s in ("train", "test")
    )
    mean, sd = train.mean(0), train.std(0)
    found = references.ridge(corpus, ("A",))
    plain = [
        Ridge(alpha).fit((train - mean) / sd, corpus.splits["train"].label).predict((test - mean) / sd)
        for alpha in references.PENALTIES
    ]
    assert min(np.abs(found - p).max() for p in plain) < 1e-3


def test_floor_is_constant_and_the_majority_for_two_classes():
    mosi, humor = sources.load("mosi", scale=0.05), sources.load("ur_funny", scale=0.01)
    assert set(references.floor(mosi)) == {np.float32(mosi.splits["train"].label.mean())}
    share = humor.splits["train"].label.mean()
    assert set(references.floor(humor)) == {float(share > 0.5)}


def test_token_ids_are_not_pooled():
    corpus = sources.load("mosi", scale=0.05)
    splits = {}
    for name, split in corpus.splits.items():
        text = split.frames["T"]
        ids = replace(text, values=np.zeros(len(text.values), dtype=np.int64))
        splits[name] = replace(split, frames={**split.frames, "T": ids})
    assert "ridge (A + V)" in references.references(replace(corpus, splits=splits))
