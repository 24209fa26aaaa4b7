"""Figure 5: the STR and UTR features of the test split in three dimensions, drawn, made interactive, and measured."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

from finelib.config import RunSpec
from finelib.data.features import Corpus
from finelib.data.planted import FACTORS
from finelib.paper import significance
from finelib.runs.records import RunRecord, git_revision, versions
from finelib.study import factors, representations
from finelib.study.representations import SAMPLE, Representations

NEIGHBOURS = 15
MEASURES = {
    "spearman": "sentiment: rank correlation with a principal axis",
    "label_r2": "sentiment: R² of a linear probe",
    "neutral_between": "neutral points between the two centroids",
    "others_between": "other points between them",
    "modality_silhouette": "modalities apart: silhouette",
    "modality_accuracy": "modality: accuracy of a linear probe",
    "kind_silhouette": "STR and UTR apart: silhouette",
    "kind_accuracy": "STR or UTR: accuracy of a linear probe",
    "cka_within": "CKA of STR and UTR of one modality",
    "cka_across": "CKA of groups of two modalities",
    "participation": "directions a group fills",
    "neighbour_distance": "distance to the nearest neighbour",
}


@dataclass(frozen=True)
class Projection:
    """Three dimensions: ``joined`` (N, 3), the points of panel (a); ``groups`` (G, N, 3), those of panel (b)."""

    joined: Float[np.ndarray, "N 3"]
    groups: Float[np.ndarray, "G N 3"]


# ---------------------------------------------------------------------------------------------- projections


def _project(features: Representations, method) -> Projection:
    groups = method(np.concatenate(list(features.values)))
    return Projection(method(features.joined), groups.reshape(*features.values.shape[:2], 3))


def umap(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """UMAP with a fixed seed; of fewer than 10 points PCA, for UMAP needs neighbours.

    The neighbours are scikit-learn's, exact: UMAP's own approximate search takes most of a minute to compile.
    """
    if len(points) < 10:
        return pca(points)
    import umap as package  # slow to import

    count = min(NEIGHBOURS, len(points) - 1)
    distances, neighbours = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points).kneighbors(points)
    with warnings.catch_warnings():
        # that a fixed seed asks for one thread, and that new points cannot be added
        warnings.filterwarnings("ignore", message="n_jobs value|precomputed_knn")
        model = package.UMAP(
            n_components=3,
            n_neighbors=count,
            random_state=SEED,
            precomputed_knn=(neighbours, distances),
            force_approximation_algorithm=True,
        )
        return model.fit_transform(points)


def pca(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """The first three principal axes."""
    return PCA(3, random_state=SEED).fit_transform(points)


# -------------------------------------------------------------------------------------------------- numbers


def numbers(chosen: list[RunSpec], records: list[RunRecord], best: int, corpus: Corpus) -> dict:
    """Every measure in the feature space and in the projections: interval over seeds, controls, the untrained model."""
    spaces: dict[str, list[tuple[dict, dict]]] = {}
    for spec, record in tqdm(list(zip(chosen, records, strict=True)), desc="measuring features", unit="run"):
        few = thinned(len(corpus.splits["test"]), SAMPLE)
        features, blank = (representations.extract(record, spec, trained=t).rows(few) for t in (True, False))
        for name, shown in (("features", features), ("untrained", blank)):
            spaces.setdefault(name, []).append(_measured(shown, shown.joined, shown.values, spec.seed))
        for name, method in (("UMAP", umap), ("PCA", pca)):
            projected = _project(features, method)
            spaces.setdefault(name, []).append(_measured(features, projected.joined, projected.groups, spec.seed))
    measured = {
        space: {key: _row([v[key] for v, _ in pairs], [c[key] for _, c in pairs]) for key in MEASURES}
        for space, pairs in spaces.items()
    }
    content = records[best].content
    found = {
        "corpus": corpus.info.title,
        "data": corpus.kind,
        "split": "test",
        "utterances": len(corpus.splits["test"]),
        "measured_on": min(SAMPLE, len(corpus.splits["test"])),
        "groups": [list(g) for g in features.groups],
        "classes": {
            name: int((representations.sentiment_class(corpus.splits["test"].label) == c).sum())
            for c, (name, _, _) in CLASSES.items()
        },
        "drawn_run": content["id"],
        "runs": [r.id for r in records],
        "seeds": [s.seed for s in chosen],
        "test_corr": content["test"]["corr"],
        "projection": {"method": "UMAP", "neighbours": NEIGHBOURS, "seed": SEED},
        "provenance": {
            "git_revision": git_revision(),
            "versions": versions(),
            "data_hash": corpus.sha256,
            "config_hash": content["config_hash"],
        },
        "measures": measured,
    }
    if corpus.splits["test"].factors:
        found["factors"] = factor_numbers(chosen, records, corpus)
    return found


def factor_numbers(chosen: list[RunSpec], records: list[RunRecord], corpus: Corpus) -> dict:
    """R2 of every group for every planted factor, and the contrasts the paper's claim is about, over seeds."""
    truth = {split: {f: corpus.splits[split].factors[f] for f in FACTORS} for split in ("train", "test")}
    found: dict[str, list] = {"r2": [], "control": [], "untrained": []}
    for spec, record in zip(chosen, records, strict=True):
        order = np.random.default_rng(spec.seed).permutation(len(corpus.splits["train"]))
        shuffled = {f: values[order] for f, values in truth["train"].items()}
        asked = {True: {"r2": truth["train"], "control": shuffled}, False: {"untrained": truth["train"]}}
        for trained, cases in asked.items():
            train, test = (representations.extract(record, spec, split, trained) for split in ("train", "test"))
            for name, values in cases.items():
                found[name].append(factors.factor_r2(train, values, test, truth["test"]))
    contrasts = {
        name: [factors.factor_contrasts(train.groups, r2, list(FACTORS)) for r2 in matrices]
        for name, matrices in found.items()
    }
    rows = {
        key: _row([c[key] for c in contrasts["r2"]], [c[key] for c in contrasts["control"]])
        | {"untrained": float(np.mean([c[key] for c in contrasts["untrained"]]))}
        for key in contrasts["r2"][0]
    }
    return {"names": list(FACTORS), **{k: np.mean(v, 0).round(4).tolist() for k, v in found.items()}, "contrasts": rows}


def _measured(features: Representations, joined: np.ndarray, groups: np.ndarray, seed: int) -> tuple[dict, dict]:
    arguments = (joined, features.groups, groups, features.label)
    return representations.measure(*arguments), representations.controls(*arguments, seed)


def _row(values: list[float], control: list[float]) -> dict:
    """Interval over seeds, mean control, and whether the difference is beyond it: its interval leaves out 0."""
    difference, _ = significance.paired(values, control)
    beyond = None
    if difference.low is not None and math.isfinite(difference.mean):
        beyond = "above" if difference.low > 0 else "below" if difference.high < 0 else "no"
    row = asdict(significance.interval(values)) | {"control": float(np.mean(control)), "beyond_control": beyond}
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


SEED = 0  # of thinning and of the projections
# blue, grey, red as in the paper; dark, light and middling when printed in grey, and a marker each
CLASSES = {-1: ("negative", "#0b4f9e", "v"), 0: ("neutral", "#b4b4b4", "o"), 1: ("positive", "#e0533d", "^")}


def thinned(size: int, most: int) -> np.ndarray:
    """Rows of at most ``most`` utterances, chosen with SEED, in order."""
    return np.sort(np.random.default_rng(SEED).permutation(size)[:most])
