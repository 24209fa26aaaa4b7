"""Scores by the field's definitions, and what can be said about a mean over seeds.

The definitions follow the evaluation code that the compared papers share; every score is a fraction, not a
percentage. ACC-2 exists in two forms on CMU-MOSI and CMU-MOSEI, and both are given.
"""

import numpy as np
from jaxtyping import Float
from sklearn.metrics import f1_score

# The error on dev by which epochs and settings are compared. With labels 0 and 1 it is the share of wrong classes, as
# for the penalties of logistic and TF-IDF: the mean absolute error falls for as long as a model gets surer.
DEV_ERROR = {"mosi": "mae", "sims": "mae", "humor": "error_rate"}
ERRORS = {"mae": "MAE", "error_rate": "error rate"}
SIMS_EDGES = {"acc2": (0.0,), "acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}


def score(metric: str, prediction: Float[np.ndarray, "N"], label: Float[np.ndarray, "N"]) -> dict[str, float]:
    """All scores of a corpus.

    Args:
        metric: "mosi" (CMU-MOSI, CMU-MOSEI), "sims" (CH-SIMS) or "humor" (UR-FUNNY).

    Raises:
        ValueError: an unknown metric, lengths that differ, no rows, or values that are not finite.
    """
    if metric not in _SCORES:
        raise ValueError(f"metric {metric!r}: unknown, expected one of {', '.join(_SCORES)}")
    prediction, label = np.asarray(prediction, dtype=np.float64), np.asarray(label, dtype=np.float64)
    if prediction.shape != label.shape or prediction.ndim != 1 or not len(label):
        raise ValueError(f"scores: found shapes {prediction.shape} and {label.shape}, expected two equal (N,), N > 0")
    for name, values in (("predictions", prediction), ("labels", label)):
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"scores: {bad} of {len(values)} {name} are not finite")
    return _SCORES[metric](prediction, label)


def mosi_scores(prediction: Float[np.ndarray, "N"], label: Float[np.ndarray, "N"]) -> dict[str, float]:
    """CMU-MOSI and CMU-MOSEI, labels in [-3, 3].

    acc2_nonzero, f1_nonzero: rows with label 0 dropped, positive is > 0. acc2_has_zero, f1_has_zero: all rows,
    non-negative is >= 0. F1 is weighted by class support. acc7 and acc5: equal after clipping to +-3 (+-2) and
    rounding half to even. mae and corr (Pearson) on unclipped values.
    """
    nonzero = label != 0
    scores = {}
    if nonzero.any():
        scores |= _two_class(prediction[nonzero] > 0, label[nonzero] > 0, "_nonzero")
    scores |= _two_class(prediction >= 0, label >= 0, "_has_zero")
    scores["acc7"] = _rounded_accuracy(prediction, label, 3)
    scores["acc5"] = _rounded_accuracy(prediction, label, 2)
    return scores | _regression(prediction, label)


def sims_scores(prediction: Float[np.ndarray, "N"], label: Float[np.ndarray, "N"]) -> dict[str, float]:
    """CH-SIMS, labels in [-1, 1]: both are clipped to that range first, for mae and corr too.

    Classes are right-closed intervals, so 0 counts as negative: acc2 cut at 0 with its weighted F1, acc3 cut at
    -.1 and .1, acc5 cut at -.7, -.1, .1 and .7.
    """
    prediction, label = prediction.clip(-1, 1), label.clip(-1, 1)
    scores = _two_class(prediction > 0, label > 0, "")
    for name, edges in SIMS_EDGES.items():
        # in float32 on both sides: labels are, and one on an edge belongs to the class below
        found, true = (np.searchsorted(np.float32(edges), np.float32(x)) for x in (prediction, label))
        scores[name] = float(np.mean(found == true))
    return scores | _regression(prediction, label)


def humor_scores(prediction: Float[np.ndarray, "N"], label: Float[np.ndarray, "N"]) -> dict[str, float]:
    """UR-FUNNY, labels 0 and 1: acc2 and weighted F1 at the threshold .5, and its error_rate; mae and corr."""
    scores = _two_class(prediction > 0.5, label > 0.5, "") | _regression(prediction, label)
    return scores | {"error_rate": 1 - scores["acc2"]}


_SCORES = {"mosi": mosi_scores, "sims": sims_scores, "humor": humor_scores}


def _two_class(prediction: np.ndarray, label: np.ndarray, suffix: str) -> dict[str, float]:
    f1 = f1_score(label, prediction, average="weighted", zero_division=0)
    return {f"acc2{suffix}": float(np.mean(prediction == label)), f"f1{suffix}": float(f1)}


def _rounded_accuracy(prediction: np.ndarray, label: np.ndarray, bound: int) -> float:
    return float(np.mean(np.round(prediction.clip(-bound, bound)) == np.round(label.clip(-bound, bound))))


def _regression(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    return {"mae": float(np.mean(np.abs(prediction - label))), "corr": correlation(prediction, label)}


def correlation(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> float:
    """Pearson's r; 0 by definition when one side is constant."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
