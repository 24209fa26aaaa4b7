"""Reference rows that every table shows: what is possible, what is trivial, what a linear model does.

A penalty is chosen inside the training split or on the dev split; the test split takes no part.
"""

from collections.abc import Callable

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import StandardScaler

from finelib.data import videos
from finelib.data.features import Corpus, Split

PENALTIES = np.logspace(-1, 6, 29)
TFIDF_PENALTIES = np.logspace(-1.5, 1.5, 7)
INVERSE_PENALTIES = np.logspace(-4, 1, 11)  # of a logistic regression
CHINESE = ("\u4e00", "\u9fff")  # first and last of the common characters


def references(corpus: Corpus) -> dict[str, np.ndarray]:
    """Test predictions (N,) of each reference, by row name."""
    rows, two_classes = {}, corpus.info.metrics == "humor"
    if corpus.kind == "planted":
        rows["oracle (true factors)"] = oracle(corpus)
    if len(corpus.modalities) > 1 and set(corpus.widths.values()) == {1}:  # each modality is a prediction
        rows["plain average (nothing fitted)"] = average(corpus.splits["test"])
    pooled = pooled_modalities(corpus)
    if pooled:
        rows["ridge (" + " + ".join(pooled) + ")"] = ridge(corpus, pooled)
    if len(pooled) > 1 and "T" in pooled:
        rows["ridge (T)"] = ridge(corpus, ("T",))
    if pooled and two_classes:
        rows["logistic (" + " + ".join(pooled) + ")"] = logistic(corpus, pooled)
    if any(corpus.splits["train"].text):
        rows["TF-IDF + logistic" if two_classes else "TF-IDF + ridge"] = tfidf(corpus)
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


def average(split: Split) -> np.ndarray:
    """The mean of an utterance's one-number modalities, of those that it has."""
    values = np.concatenate([frames.mean() for frames in split.frames.values()], 1)  # (N, modalities)
    there = np.stack([frames.length > 0 for frames in split.frames.values()], 1)
    return ((values * there).sum(1) / there.sum(1).clip(min=1)).astype(np.float32)


def pooled_modalities(corpus: Corpus) -> tuple[str, ...]:
    """The modalities with features, which can be averaged over frames; token ids cannot."""
    return tuple(m for m in corpus.modalities if corpus.splits["train"].frames[m].values.ndim == 2)


def ridge(corpus: Corpus, modalities: tuple[str, ...]) -> np.ndarray:
    """Ridge regression on standardised mean-pooled features.

    The penalty is chosen on train: by five folds in which no video is in two, or, where the ids name no videos, by
    leave-one-out.
    """
    train, _, test = _standardised(corpus, modalities)
    ids, label = corpus.splits["train"].ids, corpus.splits["train"].label
    try:
        how = {"cv": PredefinedSplit(videos.folds(ids)), "scoring": "neg_mean_squared_error"}
    except ValueError:  # the ids name none, or too few
        how = {}
    return RidgeCV(PENALTIES, **how).fit(train, label).predict(test).astype(np.float32)


def logistic(corpus: Corpus, modalities: tuple[str, ...]) -> np.ndarray:
    """Logistic regression on the same features: the probability of the second class; the penalty is the dev split's."""
    return _best_on_dev(corpus, *_standardised(corpus, modalities), _logistic, INVERSE_PENALTIES)


def tfidf(corpus: Corpus) -> np.ndarray:
    """Ridge, for two classes logistic, on TF-IDF of one and two words, of Chinese of one to three characters.

    The penalty is chosen on the dev split.
    """
    texts = {name: split.text for name, split in corpus.splits.items()}
    chinese = any(CHINESE[0] <= c <= CHINESE[1] for text in texts["train"][:100] for c in text)
    unit = {"analyzer": "char", "ngram_range": (1, 3)} if chinese else {"ngram_range": (1, 2)}
    vectors = TfidfVectorizer(min_df=2, **unit)
    train = vectors.fit_transform(texts["train"])
    others = (vectors.transform(texts[name]) for name in ("valid", "test"))
    if corpus.info.metrics == "humor":
        return _best_on_dev(corpus, train, *others, _logistic, 100 * INVERSE_PENALTIES)
    return _best_on_dev(corpus, train, *others, Ridge, TFIDF_PENALTIES)


def _logistic(inverse_penalty: float) -> LogisticRegression:
    return LogisticRegression(C=inverse_penalty, max_iter=1000)


def _best_on_dev(
    corpus: Corpus,
    train: np.ndarray,
    valid: np.ndarray,
    test: np.ndarray,
    make: Callable[[float], RegressorMixin | ClassifierMixin],
    penalties: np.ndarray,
) -> np.ndarray:
    """Test predictions (N,) of the model with the smallest dev MAE, which of two classes is the share of wrong ones."""
    label = {name: corpus.splits[name].label for name in ("train", "valid")}
    fitted = [make(penalty).fit(train, label["train"]) for penalty in penalties]
    best = min(fitted, key=lambda model: np.abs(model.predict(valid) - label["valid"]).mean())
    found = best.predict_proba(test)[:, 1] if isinstance(best, ClassifierMixin) else best.predict(test)
    return found.astype(np.float32)


def _standardised(corpus: Corpus, modalities: tuple[str, ...]) -> list[np.ndarray]:
    """Mean-pooled features (N, d) of train, valid and test, standardised with those of train."""
    pooled = [
        np.concatenate([split.frames[m].mean() for m in modalities], 1)
        for split in (corpus.splits[name] for name in ("train", "valid", "test"))
    ]
    scaler = StandardScaler().fit(pooled[0])
    return [scaler.transform(x) for x in pooled]
