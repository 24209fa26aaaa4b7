"""Reference rows that every table shows: what is possible, what is trivial, what a linear model does."""

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from finelib.data.features import Corpus

PENALTIES = np.logspace(-1, 6, 29)


def references(corpus: Corpus) -> dict[str, np.ndarray]:
    """Test predictions (N,) of each reference, by row name."""
    rows = {}
    if corpus.kind == "planted":
        rows["oracle (true factors)"] = oracle(corpus)
    pooled = tuple(m for m in corpus.modalities if corpus.splits["train"].frames[m].values.ndim == 2)
    if pooled:
        rows["ridge (" + " + ".join(pooled) + ")"] = ridge(corpus, pooled)
    if len(pooled) > 1 and "T" in pooled:
        rows["ridge (T)"] = ridge(corpus, ("T",))
    rows["floor (constant)"] = floor(corpus)
    return rows


def oracle(corpus: Corpus) -> np.ndarray:
    """Planted data: the best prediction given the true factors; nothing can be expected to beat it."""
    return corpus.splits["test"].factors["oracle"]


def floor(corpus: Corpus) -> np.ndarray:
    """The training mean; for two classes the more frequent one. Its Corr is 0 by definition."""
    label = corpus.splits["train"].label
    value = float(label.mean() > 0.5) if corpus.info.metrics == "humor" else float(label.mean())
    return np.full(len(corpus.splits["test"]), value, dtype=np.float32)


def ridge(corpus: Corpus, modalities: tuple[str, ...]) -> np.ndarray:
    """Ridge regression on standardised mean-pooled features; the penalty is chosen by leave-one-out on train."""
    splits = corpus.splits["train"], corpus.splits["test"]
    train, test = (np.concatenate([split.frames[m].mean() for m in modalities], 1) for split in splits)
    scaler = StandardScaler().fit(train)
    model = RidgeCV(PENALTIES).fit(scaler.transform(train), corpus.splits["train"].label)
    return model.predict(scaler.transform(test)).astype(np.float32)
