"""Figure 5: the STR and UTR features of the test split in three dimensions, drawn, made interactive, and measured."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from jaxtyping import Float
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from finelib import experiment, metrics, presets, representations
from finelib.config import FineConfig, RunSpec
from finelib.data.features import Corpus
from finelib.data.planted import FACTORS
from finelib.experiment import RunRecord
from finelib.figures import NAMES
from finelib.presets import Options
from finelib.representations import SAMPLE, Representations

CORPUS = "mosei"  # the paper's
DRAWN = 2000  # utterances in the interactive page; its seed is SEED
TSNE_POINTS = 600
SEED = 0
NEIGHBOURS = 15
# blue, grey, red as in the paper; dark, light and middling when printed in grey, and a marker each
CLASSES = {-1: ("negative", "#0b4f9e", "v"), 0: ("neutral", "#b4b4b4", "o"), 1: ("positive", "#e0533d", "^")}
MODALITY_STYLE = {"T": ("#0173b2", "o"), "A": ("#de8f05", "s"), "V": ("#029e73", "^")}
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


class Page:
    """A self-contained page that shows itself in a notebook, in a frame of its own."""

    def __init__(self, html: str, height: int = 640):
        self.html, self.height = html, height

    def _repr_html_(self) -> str:
        return (f'<iframe srcdoc="{escape(self.html)}" style="width: 100%; height: {self.height}px; border: 0" '
                'title="interactive Figure 5"></iframe>')  # fmt: skip


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
        return Page(_page(self, "a"))

    @cached_property
    def page_b(self) -> Page:
        """One point per utterance and group."""
        return Page(_page(self, "b"))

    @property
    def caption(self) -> str:
        """Markdown, every number taken from ``numbers``."""
        return _templates(False).get_template("figure5.md").render(
            n=self.numbers, names=NAMES, measures=MEASURES, classes=CLASSES
        )

    def static(self) -> Figure:
        """All panels on one page of 7.2 inches."""
        return draw(self)


def specs(options: Options) -> list[RunSpec]:
    """The runs that Figure 5 reads: FINE on CMU-MOSEI as in the paper, on CMU-MOSI where the source is its public
    features."""
    corpus = "mosi" if options.source.startswith("public") else CORPUS
    return [spec for spec in presets.specs(corpus, options) if isinstance(spec.model, FineConfig)]


def build(options: Options) -> Figure5:
    """Measure every seed's features, project the best run's, write figure5* below ``options.out``/figures.

    Nothing is trained if the records are there.
    """
    chosen = specs(options)
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
        experiment.write_atomically(folder / name, text)


# ---------------------------------------------------------------------------------------------- projections


def _project(features: Representations, method) -> Projection:
    groups = method(np.concatenate(list(features.values)))
    return Projection(method(features.joined), groups.reshape(*features.values.shape[:2], 3))


def umap(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """UMAP with a fixed seed; of fewer than 10 points PCA, for UMAP needs neighbours."""
    if len(points) < 10:
        return pca(points)
    import umap as package  # slow to import

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")  # a fixed seed asks for one thread
        model = package.UMAP(n_components=3, n_neighbors=min(NEIGHBOURS, len(points) - 1), random_state=SEED)
        return model.fit_transform(points)


def pca(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """The first three principal axes."""
    return PCA(3, random_state=SEED).fit_transform(points)


def tsne(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """t-SNE with a fixed seed."""
    return TSNE(3, random_state=SEED, init="pca", perplexity=min(30, len(points) // 4)).fit_transform(points)


def thinned(size: int, most: int) -> np.ndarray:
    """Rows of at most ``most`` utterances, chosen with SEED, in order."""
    return np.sort(np.random.default_rng(SEED).permutation(size)[:most])


# -------------------------------------------------------------------------------------------------- numbers


def numbers(chosen: list[RunSpec], records: list[RunRecord], best: int, corpus: Corpus) -> dict:
    """Every measure in the feature space and in the projections: interval over seeds, controls, the untrained model."""
    spaces: dict[str, list[dict]] = {}
    for spec, record in zip(chosen, records, strict=True):
        features = representations.extract(record, spec)
        features = features.rows(thinned(len(features.label), SAMPLE))
        blank = representations.extract(record, spec, trained=False)
        _append(spaces, "features", *_measured(features, features.joined, features.values, spec.seed))
        _append(spaces, "untrained", *_measured(
            blank := blank.rows(thinned(len(blank.label), SAMPLE)), blank.joined, blank.values, spec.seed
        ))  # fmt: skip
        for name, method in (("UMAP", umap), ("PCA", pca)):
            shown = _project(features, method)
            _append(spaces, name, *_measured(features, shown.joined, shown.groups, spec.seed))
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
        "provenance": {"git_revision": experiment.git_revision(), "versions": experiment.versions(),
                       "data_hash": corpus.sha256, "config_hash": content["config_hash"]},
        "measures": measured,
    }  # fmt: skip
    if corpus.splits["test"].factors:
        found["factors"] = factor_numbers(chosen, records, corpus)
    return found


def factor_numbers(chosen: list[RunSpec], records: list[RunRecord], corpus: Corpus) -> dict:
    """R2 of every group for every planted factor, and the contrasts the paper's claim is about, over seeds."""
    truth = {split: {f: corpus.splits[split].factors[f] for f in FACTORS} for split in ("train", "test")}
    found: dict[str, list] = {"r2": [], "control": [], "contrasts": [], "control_contrasts": []}
    for spec, record in zip(chosen, records, strict=True):
        train, test = (representations.extract(record, spec, split) for split in ("train", "test"))
        order = np.random.default_rng(spec.seed).permutation(len(train.label))
        shuffled = {f: values[order] for f, values in truth["train"].items()}
        for name, factors in (("", truth["train"]), ("control", shuffled)):
            r2 = representations.factor_r2(train, factors, test, truth["test"])
            found[name or "r2"].append(r2)
            found["control_contrasts" if name else "contrasts"].append(
                representations.factor_contrasts(train.groups, r2, list(FACTORS))
            )
    contrasts = {
        key: _row([c[key] for c in found["contrasts"]], [c[key] for c in found["control_contrasts"]])
        for key in found["contrasts"][0]
    }
    mean = {key: np.mean(found[key], 0).round(4).tolist() for key in ("r2", "control")}
    return {"names": list(FACTORS), **mean, "contrasts": contrasts}


def _measured(features: Representations, joined: np.ndarray, groups: np.ndarray, seed: int) -> tuple[dict, dict]:
    arguments = (joined, features.groups, groups, features.label)
    return representations.measure(*arguments), representations.controls(*arguments, seed)


def _append(spaces: dict[str, list], name: str, values: dict, control: dict) -> None:
    spaces.setdefault(name, []).append((values, control))


def _row(values: list[float], control: list[float]) -> dict:
    """Interval over seeds, mean control, and whether the difference is beyond it: its interval leaves out 0."""
    difference, _ = metrics.paired(values, control)
    beyond = None
    if difference.low is not None and math.isfinite(difference.mean):
        beyond = "above" if difference.low > 0 else "below" if difference.high < 0 else "no"
    row = asdict(metrics.interval(values)) | {"control": float(np.mean(control)), "beyond_control": beyond}
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


# -------------------------------------------------------------------------------------------------- drawing


def draw(figure: Figure5) -> Figure:
    """Panels (a) by class and on a continuous scale, (b) by group, the PCA check, and the factors of planted data."""
    planted = "factors" in figure.numbers
    page = plt.figure(figsize=(7.2, 7.4 if planted else 5.2), layout="constrained")
    top, *below = page.subfigures(2 if planted else 1, 1, height_ratios=[5, 2.2] if planted else None, squeeze=False)[:, 0]
    axes = top.subplots(2, 3, subplot_kw={"projection": "3d"})
    for row, (name, projection) in zip(axes, figure.projections.items(), strict=True):
        _classes(row[0], projection.joined, figure.features.label)
        mappable = _continuous(row[1], projection.joined, figure.features.label, figure.corpus)
        _groups(row[2], projection.groups, figure.features.groups)
        for axis, title in zip(row, ("(a) by class", "(a) by label", "(b) by group"), strict=True):
            axis.set_title(f"{title}, {name}", fontsize=8, pad=0)
            _bare(axis)
    top.colorbar(mappable, ax=axes[:, 1], orientation="horizontal", shrink=0.8, aspect=25, pad=0.02).ax.tick_params(labelsize=6)
    for column in (0, 2):
        handles, labels = axes[0, column].get_legend_handles_labels()
        axes[1, column].legend(handles, labels, fontsize=6, loc="upper center", bbox_to_anchor=(0.5, 0.02), frameon=False,
                               ncols=3, handletextpad=0.1, columnspacing=0.8)  # fmt: skip
    if planted:
        _factors(below[0], figure.numbers)
    plt.close(page)
    return page


def _classes(axis, points: np.ndarray, label: np.ndarray) -> None:
    classes = representations.sentiment_class(label)
    for value, (name, colour, marker) in CLASSES.items():
        axis.scatter(*points[classes == value].T, s=_size(len(points)), c=colour, marker=marker, label=name, alpha=0.8,
                     linewidths=0)  # fmt: skip


def _continuous(axis, points: np.ndarray, label: np.ndarray, corpus: Corpus):
    bound = max(abs(corpus.info.label_low), abs(corpus.info.label_high))
    return axis.scatter(*points.T, s=_size(len(points)), c=label, cmap="RdYlBu_r", vmin=-bound, vmax=bound, linewidths=0,
                        alpha=0.9)  # fmt: skip


def _groups(axis, points: np.ndarray, groups: tuple[tuple[str, str], ...]) -> None:
    for cloud, (m, kind) in zip(points, groups, strict=True):
        colour, marker = MODALITY_STYLE[m]
        face = colour if kind == "STR" else "none"
        axis.scatter(*cloud.T, s=_size(len(cloud)), facecolors=face, edgecolors=colour, marker=marker, linewidths=0.5,
                     label=f"{m} {kind}", alpha=0.7)  # fmt: skip


def _factors(page, found: dict) -> None:
    axis = page.subplots()
    factors = found["factors"]
    sns.heatmap(np.array(factors["r2"]), annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, ax=axis,
                annot_kws={"fontsize": 6}, xticklabels=factors["names"],
                yticklabels=[f"{m} {kind}" for m, kind in found["groups"]], cbar_kws={"label": "R²"})  # fmt: skip
    axis.tick_params(labelsize=7)
    axis.set_yticklabels(axis.get_yticklabels(), rotation=0)
    axis.set_title("(c) planted factors in each group: R² of a linear probe on the test split", fontsize=8)


def _size(points: int) -> float:
    return 7 if points < 500 else 3 if points < 2000 else 1.2


def _bare(axis) -> None:
    axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
    axis.tick_params(length=0, pad=-5)
    axis.grid(alpha=0.3)
    axis.set_box_aspect(None, zoom=1.15)


# ---------------------------------------------------------------------------------------------------- pages


def _page(figure: Figure5, panel: str) -> str:
    """Panel "a" or "b" as one self-contained page."""
    rows = thinned(len(figure.features.label), DRAWN)
    test, arrays = figure.corpus.splits["test"], figure.record.predictions()
    content = {
        "panel": panel, "ids": [str(test.ids[i]) for i in rows], "text": [test.text[i] for i in rows],
        "label": arrays["test_label"][rows].round(3).tolist(), "prediction": arrays["test"][rows].round(3).tolist(),
        "bound": max(abs(figure.corpus.info.label_low), abs(figure.corpus.info.label_high)),
        "classes": [{"value": v, "name": name, "colour": colour} for v, (name, colour, _) in CLASSES.items()],
        "clouds": _clouds(figure, panel, rows),
        "groups": [{"name": f"{NAMES[m]} {kind}", "colour": MODALITY_STYLE[m][0], "hollow": kind == "UTR",
                    "modality": m} for m, kind in figure.features.groups],
    }  # fmt: skip
    shown = f"{len(rows)} of {len(test)} test utterances" + ("" if len(rows) == len(test) else f", chosen with seed {SEED}")
    return _templates(True).get_template("figure5.html").render(
        panel=panel, corpus=figure.corpus, run=figure.record.id, shown=shown, plotly=get_plotlyjs(), content=content,
        tsne=min(TSNE_POINTS, len(rows)),
    )


def _clouds(figure: Figure5, panel: str, rows: np.ndarray) -> dict[str, list]:
    """projection -> one list of x, y, z for (a), one for each group for (b); t-SNE of panel (a) has a subsample, None
    elsewhere."""
    found = {}
    for name, projection in figure.projections.items():
        clouds = projection.joined[None, rows] if panel == "a" else projection.groups[:, rows]
        found[name] = [cloud.T.round(3).tolist() for cloud in clouds]
    if panel == "a" and len(rows) >= 20:
        some = thinned(len(rows), TSNE_POINTS)
        points = tsne(figure.features.joined[rows[some]]).round(3)
        columns = [[None] * len(rows) for _ in range(3)]
        for place, point in zip(some, points.tolist(), strict=True):
            for column, value in zip(columns, point, strict=True):
                column[place] = value
        found["t-SNE"] = [columns]
    return found


def _templates(html: bool) -> Environment:
    return Environment(loader=PackageLoader("finelib"), trim_blocks=True, lstrip_blocks=True, autoescape=html)
