"""Figure 5 in numbers: the STR and UTR features of the test split, projected to three dimensions and measured.

What is drawn of it stands in ``views/figure5.py``.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
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
from finelib.training import cpu_threads

SEED = 0  # of thinning and of the projections
NEIGHBOURS = 15
CLASSES = {-1: "negative", 0: "neutral", 1: "positive"}
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


def thinned(size: int, most: int) -> np.ndarray:
    """Rows of at most ``most`` utterances, chosen with SEED, in order."""
    return np.sort(np.random.default_rng(SEED).permutation(size)[:most])


def project(features: Representations, method: Callable[[np.ndarray], np.ndarray]) -> Projection:
    """Both kinds of points by ``umap`` or ``pca``; all groups share one space."""
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
    exact = {"precomputed_knn": (neighbours, distances), "force_approximation_algorithm": True}
    # UMAP's threads are OpenMP's, as PyTorch's are: it would leave all that follows as many as there are CPUs
    with cpu_threads(torch.get_num_threads()), warnings.catch_warnings():
        # that a fixed seed asks for one thread, and that new points cannot be added
        warnings.filterwarnings("ignore", message="n_jobs value|precomputed_knn")
        return package.UMAP(n_neighbors=count, n_components=3, random_state=SEED, **exact).fit_transform(points)


def pca(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """The first three principal axes."""
    return PCA(3, random_state=SEED).fit_transform(points)


def measure_figure5(specs: list[RunSpec], records: list[RunRecord], best: int, corpus: Corpus) -> dict:
    """What figure5.json holds: every measure in the feature space and in the projections, and where it comes from.

    A measure is an interval over seeds beside its control and the untrained model. The run in place ``best`` is drawn.
    """
    test, drawn = corpus.splits["test"], records[best]
    classes = representations.sentiment_class(test.label)
    came_from = {"git_revision": git_revision(), "versions": versions()}
    content = {
        "corpus": corpus.info.title,
        "data": corpus.kind,
        "split": "test",
        "utterances": len(test),
        "measured_on": min(SAMPLE, len(test)),
        "groups": [[m, kind] for m in drawn.modalities for kind in representations.KINDS],
        "classes": {name: int((classes == value).sum()) for value, name in CLASSES.items()},
        "drawn_run": drawn.id,
        "runs": [record.id for record in records],
        "seeds": [spec.seed for spec in specs],
        "test_corr": drawn.test["corr"],
        "projection": {"method": "UMAP", "neighbours": NEIGHBOURS, "seed": SEED},
        "provenance": came_from | {"data_hash": corpus.sha256, "config_hash": drawn.config_hash},
        "measures": _measures(specs, records, corpus),
    }
    if test.factors:
        content["factors"] = factor_numbers(specs, records, corpus)
    return content


def _measures(specs: list[RunSpec], records: list[RunRecord], corpus: Corpus) -> dict[str, dict[str, dict]]:
    """space -> measure -> interval over seeds; the spaces: features, those before training, and the projections."""
    few = thinned(len(corpus.splits["test"]), SAMPLE)
    spaces: dict[str, list[tuple[dict, dict]]] = {"features": [], "untrained": [], "UMAP": [], "PCA": []}
    for spec, record in tqdm(list(zip(specs, records, strict=True)), desc="measuring features", unit="run"):
        features, untrained = (representations.extract(record, spec, trained=t).rows(few) for t in (True, False))
        for space, shown in (("features", features), ("untrained", untrained)):
            spaces[space].append(_measured(shown, shown.joined, shown.values, spec.seed))
        for space, method in (("UMAP", umap), ("PCA", pca)):
            points = project(features, method)
            spaces[space].append(_measured(features, points.joined, points.groups, spec.seed))
    rows = {}
    for space, pairs in spaces.items():
        found, control = (pd.DataFrame(side).to_dict("list") for side in zip(*pairs, strict=True))
        rows[space] = {key: _row(found[key], control[key]) for key in MEASURES}
    return rows


def factor_numbers(specs: list[RunSpec], records: list[RunRecord], corpus: Corpus) -> dict:
    """R2 of every group for every planted factor, and the contrasts the paper's claim is about, over seeds."""
    truth = {split: {f: corpus.splits[split].factors[f] for f in FACTORS} for split in ("train", "test")}
    found: dict[str, list] = {"r2": [], "control": [], "untrained": []}
    for spec, record in zip(specs, records, strict=True):
        order = np.random.default_rng(spec.seed).permutation(len(corpus.splits["train"]))
        shuffled = {f: values[order] for f, values in truth["train"].items()}
        asked = {True: {"r2": truth["train"], "control": shuffled}, False: {"untrained": truth["train"]}}
        for trained, cases in asked.items():
            train, test = (representations.extract(record, spec, split, trained) for split in ("train", "test"))
            for name, values in cases.items():
                found[name].append(factors.factor_r2(train, values, test, truth["test"]))
    contrasts = {}
    for name, matrices in found.items():
        lines = [factors.factor_contrasts(train.groups, r2, list(FACTORS)) for r2 in matrices]
        contrasts[name] = pd.DataFrame(lines).to_dict("list")
    rows = {key: _row(values, contrasts["control"][key]) for key, values in contrasts["r2"].items()}
    rows = {key: row | {"untrained": float(np.mean(contrasts["untrained"][key]))} for key, row in rows.items()}
    return {"names": list(FACTORS), **{k: np.mean(v, 0).round(4).tolist() for k, v in found.items()}, "contrasts": rows}


def _measured(features: Representations, joined: np.ndarray, groups: np.ndarray, seed: int) -> tuple[dict, dict]:
    arguments = (joined, features.groups, groups, features.label)
    return representations.measure(*arguments), representations.controls(*arguments, seed)


def _row(values: list[float], control: list[float]) -> dict:
    """Interval over seeds, mean control, and whether the difference is beyond it: its interval leaves out 0.

    Values that are not finite become None, for JSON has none.
    """
    difference, _ = significance.paired(values, control)
    beyond = None
    if difference.low is not None and math.isfinite(difference.mean):
        beyond = "above" if difference.low > 0 else "below" if difference.high < 0 else "no"
    row = asdict(significance.interval(values)) | {"control": float(np.mean(control)), "beyond_control": beyond}
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
