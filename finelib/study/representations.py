"""The STR and UTR features behind Figure 5, and numbers for what the paper reads off the picture.

The paper's statements are about clouds of points: sentiment runs through them, neutral lies between negative and
positive, modalities are apart while STR and UTR of one modality are alike, clouds are dense. ``measure`` puts a number
on each, in any space; ``controls`` gives the same numbers where there is nothing to find.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from finelib.config import RunSpec
from finelib.data.features import ResidentSplit, Split
from finelib.models import build
from finelib.runs import experiment
from finelib.runs.records import RunRecord
from finelib.study.seeding import seeded
from finelib.training import EVALUATION_BATCH

KINDS = ("STR", "UTR")
SAMPLE = 1000  # utterances on which spaces are measured
ALPHAS = np.logspace(-2, 4, 7)
FOLDS = 5
Groups = tuple[tuple[str, str], ...]  # modality and kind of each, as ("T", "STR")
Points, Values, Label = Float[np.ndarray, "N D"], Float[np.ndarray, "G N w"], Float[np.ndarray, "N"]


@dataclass(frozen=True)
class Representations:
    """Features of N utterances in G groups, one for each modality and kind."""

    groups: Groups
    values: Values  # float32, averaged over tokens
    label: Label

    @property
    def joined(self) -> Float[np.ndarray, "N Gw"]:
        """All groups of an utterance side by side."""
        return np.concatenate(list(self.values), -1)

    def rows(self, index: np.ndarray) -> Representations:
        """Those of some utterances."""
        return Representations(self.groups, self.values[:, index], self.label[index])


def extract(record: RunRecord, spec: RunSpec, split: str = "test", trained: bool = True) -> Representations:
    """STR and UTR features of a split by a run's model, or by the same model before training (``features_of``)."""
    return features_of(model_of(record, spec, trained), experiment.load_corpus(spec.data).splits[split])


def model_of(record: RunRecord, spec: RunSpec, trained: bool = True) -> nn.Module:
    """A run's model, or the same model before training, in evaluation mode."""
    with seeded(spec.seed):
        if trained:
            return experiment.load_model(record, spec)
        return build(spec.model_config, experiment.load_corpus(spec.data)).eval()


@torch.no_grad()
def features_of(model: nn.Module, part: Split, one_for_both: bool = False) -> Representations:
    """STR and UTR features of a split by a model; with ``one_for_both``, one that has a single kind shows it as both.

    Raises:
        ValueError: the model has none.
    """
    resident = ResidentSplit(part, model.modalities, torch.device("cpu"))
    batches = []
    for rows in torch.arange(len(resident)).split(EVALUATION_BATCH):
        features = model(resident.batch(rows)).features
        kinds = {"STR": features.str_, "UTR": features.utr}  # modality -> (B, l, w), or empty
        if one_for_both:
            kinds = {"STR": kinds["STR"] or kinds["UTR"], "UTR": kinds["UTR"] or kinds["STR"]}
        if not all(kinds.values()):
            raise ValueError("STR and UTR features: this model has none, expected FINE or one of its variants")
        batches.append(torch.stack([kinds[kind][m].mean(1) for m in model.modalities for kind in KINDS]))  # (G, B, w)
    groups = tuple((m, kind) for m in model.modalities for kind in KINDS)
    return Representations(groups, torch.cat(batches, 1).numpy(), part.label)


def sentiment_class(label: np.ndarray) -> np.ndarray:
    """-1, 0, 1: negative, neutral, positive."""
    return np.sign(label).astype(int)


def measure(joined: Points, groups: Groups, values: Values, label: Label) -> dict[str, float]:
    """Every number of Figure 5 in one space, the features' own or a projection: of panel (a)'s points, ``joined``, and
    of panel (b)'s, ``values``."""
    return sentiment(joined, label) | neutral_between(joined, label) | separation(groups, values) | density(values)


def controls(joined: Points, groups: Groups, values: Values, label: Label, seed: int = 0) -> dict[str, float]:
    """``measure`` where there is nothing to find: labels shuffled over utterances, group names shuffled within each
    utterance, and for the density every feature shuffled over the points of its group."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(label)
    mixed = rng.permuted(np.arange(len(values))[:, None].repeat(values.shape[1], 1), axis=0)
    mixed = np.take_along_axis(values, mixed[..., None], 0)
    found = sentiment(joined, shuffled) | neutral_between(joined, shuffled) | separation(groups, mixed)
    return found | density(rng.permuted(values, axis=1))


def sentiment(points: Points, label: Label) -> dict[str, float]:
    """``spearman``: the largest rank correlation (absolute) of the label with one of the first three principal axes;
    ``label_r2``: R2 of a cross-validated linear probe."""
    axes = PCA(min(3, *points.shape), random_state=0).fit_transform(points)
    rank = max(abs(spearmanr(axis, label).statistic) for axis in axes.T)
    probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    return {"spearman": float(rank), "label_r2": float(cross_val_score(probe, points, label, cv=folds).mean())}


def neutral_between(points: Points, label: Label) -> dict[str, float]:
    """``neutral_between``, ``others_between``: the share of neutral, and of other, points between the centroids of the
    negative and the positive ones. NaN where a class is missing.

    A point lies between if its foot on the line through the centroids falls between them and if it is no further
    from that line than 95 % of the negative and positive points are.
    """
    classes = sentiment_class(label)
    if set(classes) != {-1, 0, 1}:
        return {"neutral_between": math.nan, "others_between": math.nan}
    low, high = points[classes < 0].mean(0), points[classes > 0].mean(0)
    along = (points - low) @ (high - low) / max(float((high - low) @ (high - low)), 1e-12)
    off = np.linalg.norm(points - low - along[:, None] * (high - low), axis=1)
    between = (along > 0) & (along < 1) & (off <= np.quantile(off[classes != 0], 0.95))
    neutral, others = between[classes == 0].mean(), between[classes != 0].mean()
    return {"neutral_between": float(neutral), "others_between": float(others)}


def separation(groups: Groups, values: Values) -> dict[str, float]:
    """Whether modalities are apart, and STR and UTR of one modality alike.

    ``modality_silhouette`` and ``modality_accuracy`` (cross-validated linear probe, folds by utterance) are of all
    points, ``kind_silhouette`` and ``kind_accuracy`` within each modality, averaged; ``cka_within`` is the linear CKA
    of the two groups of a modality, ``cka_across`` of groups of two modalities, averaged. Of a single modality: NaN
    where two are needed.
    """
    size = values.shape[1]
    utterance = np.tile(np.arange(size), len(groups))
    modality, kind = (np.repeat([group[i] for group in groups], size) for i in (0, 1))
    points = values.reshape(-1, values.shape[-1])
    found = dict.fromkeys(("modality_silhouette", "modality_accuracy"), math.nan)
    if len(set(modality)) > 1:
        found["modality_silhouette"] = _silhouette(points, modality)
        found["modality_accuracy"] = _accuracy(points, modality, utterance)
    here = [modality == m for m in dict.fromkeys(modality)]
    found["kind_silhouette"] = float(np.mean([_silhouette(points[i], kind[i]) for i in here]))
    found["kind_accuracy"] = float(np.mean([_accuracy(points[i], kind[i], utterance[i]) for i in here]))
    alike = cka_matrix(values)
    pairs = {True: [], False: []}  # of one modality, of two
    for a, b in combinations(range(len(groups)), 2):
        pairs[groups[a][0] == groups[b][0]].append(alike[a, b])
    within, across = (float(np.mean(pairs[same])) if pairs[same] else math.nan for same in (True, False))
    return found | {"cka_within": within, "cka_across": across}


def cka_matrix(values: Values) -> Float[np.ndarray, "G G"]:
    """Linear CKA of every two groups (Kornblith et al. 2019): 1 for the same cloud up to rotation and scale.

    ||X'Y||_F^2 / (||X'X||_F ||Y'Y||_F) of centred X and Y.
    """
    x = values.astype(np.float64) - values.mean(1, keepdims=True)
    cross = np.array([[np.linalg.norm(a.T @ b) ** 2 for b in x] for a in x])
    own = np.sqrt(np.diag(cross))
    return cross / np.maximum(own[:, None] * own, 1e-12)


def density(values: Values) -> dict[str, float]:
    """Averages over groups: ``participation``, the participation ratio (tr C)^2 / tr C^2 of the covariance, the number
    of directions a cloud fills; ``neighbour_distance``, the mean distance to the nearest point of the same group
    over the root mean squared distance of two points."""
    ratios, distances = [], []
    for points in values.astype(np.float64):
        covariance = np.cov(points.T)
        ratios.append(np.trace(covariance) ** 2 / max(float((covariance**2).sum()), 1e-24))
        nearest = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points)[0][:, 1]
        distances.append(nearest.mean() / max(np.sqrt(2 * np.trace(covariance)), 1e-12))
    return {"participation": float(np.mean(ratios)), "neighbour_distance": float(np.mean(distances))}


def _silhouette(points: np.ndarray, names: np.ndarray) -> float:
    return float(silhouette_score(points, names, sample_size=min(len(points), 3000), random_state=0))


def _accuracy(points: np.ndarray, names: np.ndarray, utterance: np.ndarray) -> float:
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS))
    return float(cross_val_score(probe, points, names, groups=utterance, cv=GroupKFold(FOLDS)).mean())
