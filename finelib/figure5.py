"""Figure 5: the STR and UTR features of the test split in three dimensions, drawn, made interactive, and measured."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

from finelib import experiment, factors, metrics, presets, representations
from finelib.config import RunSpec
from finelib.data.features import Corpus
from finelib.data.planted import FACTORS
from finelib.figure5_views import CLASSES, SEED, Page, draw, page, thinned
from finelib.figures import NAMES
from finelib.presets import Options
from finelib.records import RunRecord, git_revision, versions, write_atomically
from finelib.representations import SAMPLE, Representations
from finelib.rows import templates

NEIGHBOURS = 15
MEASURES = {
    "spearman": "sentiment: rank correlation with a principal axis", "label_r2": "sentiment: R² of a linear probe",
    "neutral_between": "neutral points between the two centroids", "others_between": "other points between them",
    "modality_silhouette": "modalities apart: silhouette", "modality_accuracy": "modality: accuracy of a linear probe",
    "kind_silhouette": "STR and UTR apart: silhouette", "kind_accuracy": "STR or UTR: accuracy of a linear probe",
    "cka_within": "CKA of STR and UTR of one modality", "cka_across": "CKA of groups of two modalities",
    "participation": "directions a group fills", "neighbour_distance": "distance to the nearest neighbour",
}  # fmt: skip


@dataclass(frozen=True)
class Projection:
    """Three dimensions: ``joined`` (N, 3), the points of panel (a); ``groups`` (G, N, 3), those of panel (b)."""

    joined: Float[np.ndarray, "N 3"]
    groups: Float[np.ndarray, "G N 3"]


@dataclass(frozen=True)
class Figure5:
    """The best run's features and projections, and the numbers of all runs.

    Attributes:
        record: the run whose features are drawn: smallest dev MAE.
        projections: "UMAP" and "PCA" -> Projection of every test utterance.
        numbers: what figure5.json holds.
    """

    corpus: Corpus
    record: RunRecord
    features: Representations
    projections: dict[str, Projection]
    numbers: dict

    @cached_property
    def page_a(self) -> Page:
        """One point per utterance."""
        return Page(page(self, "a"))

    @cached_property
    def page_b(self) -> Page:
        """One point per utterance and group."""
        return Page(page(self, "b"))

    @property
    def caption(self) -> str:
        """Markdown, every number taken from ``numbers``."""
        return (
            templates(html=False)
            .get_template("figure5.md")
            .render(n=self.numbers, names=NAMES, measures=MEASURES, classes=CLASSES)
        )

    def static(self) -> Figure:
        """All panels on one page of 7.2 inches."""
        return draw(self)


def build(options: Options) -> Figure5:
    """Measure every seed's features, project the best run's, write figure5* below ``options.out``/figures.

    Nothing is trained if the records are there.
    """
    chosen = presets.figure5_specs(options)
    records = experiment.run(chosen, options.out, options.jobs)
    best = min(range(len(records)), key=lambda i: records[i].content["valid"]["mae"])
    corpus = experiment.load_corpus(chosen[best].data)
    features = representations.extract(records[best], chosen[best])
    projections = {"UMAP": _project(features, umap), "PCA": _project(features, pca)}
    figure = Figure5(corpus, records[best], features, projections, numbers(chosen, records, best, corpus))
    write(figure, options.figures)
    return figure


def write(figure: Figure5, folder: Path) -> None:
    """figure5.png, .pdf, .json, .md, figure5a.html and figure5b.html."""
    folder.mkdir(parents=True, exist_ok=True)
    static = figure.static()
    for form in ("png", "pdf"):
        static.savefig(folder / f"figure5.{form}", dpi=200)
    texts = {
        "figure5.json": json.dumps(figure.numbers, indent=1), "figure5.md": figure.caption,
        "figure5a.html": figure.page_a.html, "figure5b.html": figure.page_b.html,
    }  # fmt: skip
    for name, text in texts.items():
        write_atomically(folder / name, text)


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
            n_components=3, n_neighbors=count, random_state=SEED, precomputed_knn=(neighbours, distances),
            force_approximation_algorithm=True,
        )  # fmt: skip
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
        "corpus": corpus.info.title, "data": corpus.data, "split": "test", "utterances": len(corpus.splits["test"]),
        "measured_on": min(SAMPLE, len(corpus.splits["test"])), "groups": [list(g) for g in features.groups],
        "classes": {
            name: int((representations.sentiment_class(corpus.splits["test"].label) == c).sum())
            for c, (name, _, _) in CLASSES.items()
        },
        "drawn_run": content["id"], "runs": [r.id for r in records], "seeds": [s.seed for s in chosen],
        "test_corr": content["test"]["corr"],
        "projection": {"method": "UMAP", "neighbours": NEIGHBOURS, "seed": SEED},
        "provenance": {"git_revision": git_revision(), "versions": versions(),
                       "data_hash": corpus.sha256, "config_hash": content["config_hash"]},
        "measures": measured,
    }  # fmt: skip
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
    difference, _ = metrics.paired(values, control)
    beyond = None
    if difference.low is not None and math.isfinite(difference.mean):
        beyond = "above" if difference.low > 0 else "below" if difference.high < 0 else "no"
    row = asdict(metrics.interval(values)) | {"control": float(np.mean(control)), "beyond_control": beyond}
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
