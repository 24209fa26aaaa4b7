"""Figure 5 as a person sees it: the printed panels and the interactive pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs
from sklearn.manifold import TSNE

from finelib.data.features import Corpus
from finelib.paper.table import templates
from finelib.runs import experiment, presets
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, write_atomically
from finelib.study import representations
from finelib.study.figure5 import CLASSES, MEASURES, SEED, Projection, _project, numbers, pca, thinned, umap
from finelib.study.representations import Representations
from finelib.views.style import COLOURS, NAMES, data_uri, png, shortened


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


def make_figure5(options: Options) -> Figure5:
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


def write_figure5(figure: Figure5, folder: Path) -> None:
    """figure5.png, .pdf, .json, .md, figure5a.html and figure5b.html."""
    folder.mkdir(parents=True, exist_ok=True)
    static = figure.static()
    for form in ("png", "pdf"):
        static.savefig(folder / f"figure5.{form}", dpi=200)
    texts = {
        "figure5.json": json.dumps(figure.numbers, indent=1),
        "figure5.md": figure.caption,
        "figure5a.html": figure.page_a.html,
        "figure5b.html": figure.page_b.html,
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)


if TYPE_CHECKING:
    from finelib.views.figure5 import Figure5

DRAWN = 2000  # utterances in the interactive page
SHOWN = 160  # characters of an utterance under the pointer
TSNE_POINTS = 600
SENTIMENT = LinearSegmentedColormap.from_list("sentiment", [colour for _, colour, _ in CLASSES.values()])
MARKERS = {"T": "o", "A": "s", "V": "^"}
LINES = {"grid.color": "0.88", "grid.linewidth": 0.4}


class Page:
    """A self-contained page that shows itself in a notebook, in a frame of its own."""

    def __init__(self, html: str, height: int = 640):
        self.html, self.height = html, height

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{escape(self.html)}" style="width: 100%; height: {self.height}px; border: 0" '
            'title="interactive Figure 5"></iframe>'
        )


def draw(figure: Figure5) -> Figure:
    """Panels (a) by class and by label, (b) by group, the PCA check below them, and the factors of planted data."""
    planted = "factors" in figure.numbers
    sheet = plt.figure(figsize=(7.2, 7.4 if planted else 5.2), layout="constrained")
    parts = sheet.subfigures(2, 1, height_ratios=[5, 2.2]) if planted else [sheet]
    with plt.rc_context(LINES):
        axes = parts[0].subplots(2, 3, subplot_kw={"projection": "3d"})
    for row, (name, projection) in zip(axes, figure.projections.items(), strict=True):
        _classes(row[0], projection.joined, figure.features.label)
        mappable = _continuous(row[1], projection.joined, figure.features.label, figure.corpus)
        _groups(row[2], projection.groups, figure.features.groups)
        for axis, title in zip(row, ("(a) by class", "(a) by label", "(b) by group"), strict=True):
            axis.set_title(f"{title}, {name}", fontsize=8, pad=0)
            _bare(axis)
    bar = parts[0].colorbar(mappable, ax=axes[:, 1], orientation="horizontal", shrink=0.8, aspect=25, pad=0.02)
    bar.ax.tick_params(labelsize=6)
    for column in (0, 2):
        handles, labels = axes[0, column].get_legend_handles_labels()
        axes[1, column].legend(
            handles,
            labels,
            fontsize=6,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.02),
            frameon=False,
            ncols=3,
            handletextpad=0.1,
            columnspacing=0.8,
        )
    if planted:
        _factors(parts[1], figure.numbers)
    plt.close(sheet)
    return sheet


def _classes(axis, points: np.ndarray, label: np.ndarray) -> None:
    classes = representations.sentiment_class(label)
    for value, (name, colour, marker) in CLASSES.items():
        axis.scatter(
            *points[classes == value].T,
            s=_size(len(points)),
            c=colour,
            marker=marker,
            label=name,
            alpha=0.8,
            linewidths=0,
            depthshade=False,
        )


def _continuous(axis, points: np.ndarray, label: np.ndarray, corpus: Corpus):
    bound = max(abs(corpus.info.label_low), abs(corpus.info.label_high))
    return axis.scatter(
        *points.T,
        s=_size(len(points)),
        c=label,
        cmap=SENTIMENT,
        vmin=-bound,
        vmax=bound,
        linewidths=0,
        alpha=0.9,
        depthshade=False,
    )


def _groups(axis, points: np.ndarray, groups: tuple[tuple[str, str], ...]) -> None:
    for cloud, (m, kind) in zip(points, groups, strict=True):
        face = COLOURS[m] if kind == "STR" else "none"
        axis.scatter(
            *cloud.T,
            s=_size(len(cloud)),
            facecolors=face,
            edgecolors=COLOURS[m],
            marker=MARKERS[m],
            linewidths=0.5,
            label=f"{m} {kind}",
            alpha=0.7,
            depthshade=False,
        )
        # named at its outermost point: where points lie dense, a hollow marker cannot be told from a filled one
        end = cloud[np.argmax(np.linalg.norm(cloud - points.mean((0, 1)), axis=1))]
        axis.text(*end, f" {m} {kind}", fontsize=5.5, zorder=5)
    axis.computed_zorder = False  # names above points


def _factors(sheet, found: dict) -> None:
    axis = sheet.subplots()
    factors = found["factors"]
    sns.heatmap(
        np.array(factors["r2"]),
        annot=True,
        fmt=".2f",
        cmap="Blues",
        vmin=0,
        vmax=1,
        ax=axis,
        annot_kws={"fontsize": 6},
        xticklabels=factors["names"],
        yticklabels=[f"{m} {kind}" for m, kind in found["groups"]],
    )
    axis.tick_params(labelsize=7)
    axis.collections[0].colorbar.ax.tick_params(labelsize=6)
    axis.collections[0].colorbar.ax.set_ylabel("R²", fontsize=7)
    axis.set_yticklabels(axis.get_yticklabels(), rotation=0)
    axis.set_title("(c) planted factors in each group: R² of a linear probe on the test split", fontsize=8)


def _size(points: int) -> float:
    return 7 if points < 500 else 3 if points < 2000 else 1.2


def _bare(axis) -> None:
    axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
    axis.tick_params(length=0, pad=-5)
    axis.set_box_aspect(None, zoom=1.15)


def tsne(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """t-SNE with a fixed seed."""
    return TSNE(3, random_state=SEED, init="pca", perplexity=min(30, len(points) // 4)).fit_transform(points)


def page(figure: Figure5, panel: str) -> str:
    """Panel "a" or "b" as one self-contained page."""
    rows = thinned(len(figure.features.label), DRAWN)
    test, arrays = figure.corpus.splits["test"], figure.record.predictions()
    content = {
        "panel": panel,
        "ids": [shortened(str(test.ids[i]), SHOWN) for i in rows],
        "text": [shortened(test.text[i], SHOWN) for i in rows],
        "label": arrays["test_label"][rows].astype(float).round(3).tolist(),
        "prediction": arrays["test"][rows].astype(float).round(3).tolist(),
        "bound": max(abs(figure.corpus.info.label_low), abs(figure.corpus.info.label_high)),
        "classes": [{"value": v, "name": name, "colour": colour} for v, (name, colour, _) in CLASSES.items()],
        "clouds": (clouds := _clouds(figure, panel, rows)),
        "projections": list(clouds),
        "groups": [
            {"name": f"{NAMES[m]} {kind}", "colour": to_hex(COLOURS[m]), "hollow": kind == "UTR", "modality": m}
            for m, kind in figure.features.groups
        ],
    }
    shown = f"{len(rows)} of {len(test)} test utterances"
    shown += "" if len(rows) == len(test) else f", chosen with seed {SEED}"
    return (
        templates(html=True)
        .get_template("figure5.html")
        .render(
            panel=panel,
            corpus=figure.corpus,
            run=figure.record.id,
            shown=shown,
            plotly=get_plotlyjs(),
            poster=_poster(figure, panel),
            content=content,
            tsne=min(TSNE_POINTS, len(rows)),
        )
    )


def _poster(figure: Figure5, panel: str) -> str:
    """A still of the panel as a data URI, for the moment before the cloud is drawn, and where it cannot be."""
    name, projection = next(iter(figure.projections.items()))
    still = plt.figure(figsize=(4.7, 4.7), layout="constrained")
    with plt.rc_context(LINES):
        axis = still.add_subplot(projection="3d")
    if panel == "a":
        _classes(axis, projection.joined, figure.features.label)
    else:
        _groups(axis, projection.groups, figure.features.groups)
    _bare(axis)
    plt.close(still)
    return data_uri(png(still, 90))


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
