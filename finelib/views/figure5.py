"""Figure 5 as a person sees it: the printed panels, the caption and the interactive pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from mpl_toolkits.mplot3d import Axes3D, proj3d
from plotly.offline import get_plotlyjs
from sklearn.manifold import TSNE

from finelib.data.features import Corpus
from finelib.runs import experiment, presets
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, write_atomically
from finelib.study import representations
from finelib.study.figure5 import CLASSES, MEASURES, SEED, Projection, measure_figure5, pca, project, thinned, umap
from finelib.study.representations import Groups, Representations
from finelib.views import style
from finelib.views.style import COLOURS, NAMES, SENTIMENT, shortened

DRAWN = 2000  # utterances in the interactive page
SHOWN = 160  # characters of an utterance under the pointer
TSNE_POINTS = 600
CLASS_MARKERS = {-1: "v", 0: "o", 1: "^"}
MODALITY_MARKERS = {"T": "o", "A": "s", "V": "^"}
SENTIMENT_SCALE = LinearSegmentedColormap.from_list("sentiment", list(SENTIMENT.values()))
GRID = {"grid.color": "0.88", "grid.linewidth": 0.4}


@dataclass(frozen=True)
class Figure5:
    """The best run's features and projections, and the numbers of all runs."""

    corpus: Corpus
    record: RunRecord  # of the run whose features are drawn: smallest dev error
    features: Representations
    projections: dict[str, Projection]  # "UMAP" and "PCA", of every test utterance
    numbers: dict  # what figure5.json holds

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
        return style.render("figure5.md", n=self.numbers, measures=MEASURES)

    def static(self) -> Figure:
        """All panels on one page of 7.2 inches."""
        return draw(self)


@dataclass(frozen=True)
class Page:
    """A self-contained page that shows itself in a notebook, in a frame of its own."""

    html: str
    height: int = 640

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}" title="interactive Figure 5"></iframe>'


def make_figure5(options: Options) -> Figure5:
    """Measure every seed's features, project the best run's, write figure5.{png,pdf,json,md} and figure5{a,b}.html.

    Nothing is trained if the records are there.
    """
    specs = presets.figure5_specs(options)
    records = experiment.run(specs, options.out, options.jobs)
    best = min(range(len(records)), key=lambda i: records[i].valid[records[i].dev_error])
    corpus = experiment.load_corpus(specs[best].data)
    features = representations.extract(records[best], specs[best])
    projections = {"UMAP": project(features, umap), "PCA": project(features, pca)}
    figure = Figure5(corpus, records[best], features, projections, measure_figure5(specs, records, best, corpus))
    folder = options.figures
    style.save(figure.static(), "figure5", folder, figure.caption, dpi=200)
    write_atomically(folder / "figure5.json", json.dumps(figure.numbers, indent=1))
    write_atomically(folder / "figure5a.html", figure.page_a.html)
    write_atomically(folder / "figure5b.html", figure.page_b.html)
    return figure


def draw(figure: Figure5) -> Figure:
    """Panels (a) by class and by label, (b) by group, the PCA check below them, and the factors of planted data."""
    planted, label = "factors" in figure.numbers, figure.features.label
    sheet = plt.figure(figsize=(7.2, 7.4 if planted else 5.2), layout="constrained")
    parts = sheet.subfigures(2, 1, height_ratios=[5, 2.2]) if planted else [sheet]
    with plt.rc_context(GRID):
        axes = parts[0].subplots(2, 3, subplot_kw={"projection": "3d"})
    for row, (name, projection) in zip(axes, figure.projections.items(), strict=True):
        _draw_classes(row[0], projection.joined, label)
        mappable = _draw_labels(row[1], projection.joined, label, figure.corpus)
        for axis, title in zip(row, ("(a) by class", "(a) by label", "(b) by group"), strict=True):
            axis.set_title(f"{title}, {name}", fontsize=8, pad=0)
            _strip(axis)
        _draw_groups(row[2], projection.groups, figure.features.groups)
    bar = parts[0].colorbar(mappable, ax=axes[:, 1], orientation="horizontal", shrink=0.8, aspect=25, pad=0.02)
    bar.ax.tick_params(labelsize=6)
    look = {"fontsize": 6, "frameon": False, "ncols": 3, "handletextpad": 0.1, "columnspacing": 0.8}
    for above, below in zip(axes[0, ::2], axes[1, ::2], strict=True):
        below.legend(*above.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0.02), **look)
    if planted:
        _draw_factors(parts[1], figure.numbers)
    plt.close(sheet)
    return sheet


def _draw_classes(axis: Axes3D, points: Float[np.ndarray, "N 3"], label: Float[np.ndarray, "N"]) -> None:
    classes = representations.sentiment_class(label)
    for value, name in CLASSES.items():
        look = {"c": SENTIMENT[value], "marker": CLASS_MARKERS[value], "label": name, "alpha": 0.8, "linewidths": 0}
        axis.scatter(*points[classes == value].T, s=_size(len(points)), depthshade=False, **look)


def _draw_labels(axis: Axes3D, points: Float[np.ndarray, "N 3"], label: Float[np.ndarray, "N"], corpus: Corpus):
    bound = _bound(corpus)
    look = {"c": label, "cmap": SENTIMENT_SCALE, "vmin": -bound, "vmax": bound, "alpha": 0.9, "linewidths": 0}
    return axis.scatter(*points.T, s=_size(len(points)), depthshade=False, **look)


def _bound(corpus: Corpus) -> float:
    """The largest label, either way."""
    return max(abs(corpus.info.label_low), abs(corpus.info.label_high))


def _draw_groups(axis: Axes3D, points: Float[np.ndarray, "G N 3"], groups: Groups) -> None:
    for cloud, (m, kind) in zip(points, groups, strict=True):
        face = COLOURS[m] if kind == "STR" else "none"
        look = {"facecolors": face, "edgecolors": COLOURS[m], "marker": MODALITY_MARKERS[m], "linewidths": 0.5}
        axis.scatter(*cloud.T, s=_size(len(cloud)), label=f"{m} {kind}", alpha=0.7, depthshade=False, **look)
    axis.computed_zorder = False  # names above points
    _name_groups(axis, points, groups)


def _name_groups(axis: Axes3D, points: Float[np.ndarray, "G N 3"], groups: Groups) -> None:
    """Names at both sides of the axes, in the order of the clouds, each with a line to its cloud's outermost point.

    Where points lie dense, a hollow marker cannot be told from a filled one, so the legend is not enough.
    """
    clouds = [proj3d.proj_transform(*cloud.T, axis.get_proj())[:2] for cloud in points]
    flat = np.stack(clouds).transpose(0, 2, 1)  # (G, N, 2)
    far = np.linalg.norm(flat - flat.mean((0, 1)), axis=-1).argmax(1)
    ends = flat[np.arange(len(flat)), far]  # (G, 2), in the plane of the page
    by_side = np.argsort(ends[:, 0], kind="stable")
    half = len(by_side) // 2
    line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.4", "shrinkA": 1, "shrinkB": 0}
    look = {"textcoords": "axes fraction", "va": "center", "fontsize": 5.5, "zorder": 5, "arrowprops": line}
    for side, places, align in ((0.0, by_side[:half], "left"), (1.0, by_side[half:], "right")):
        heights = np.linspace(0.92, 0.12, len(places)) if len(places) > 1 else [0.5]
        for place, height in zip(sorted(places, key=lambda g: -ends[g, 1]), heights, strict=True):
            axis.annotate(" ".join(groups[place]), ends[place], (side, height), ha=align, **look)


def _draw_factors(sheet: SubFigure, numbers: dict) -> None:
    axis: Axes = sheet.subplots()
    factors, groups = numbers["factors"], [f"{m} {kind}" for m, kind in numbers["groups"]]
    table = pd.DataFrame(factors["r2"], groups, factors["names"])
    sns.heatmap(table, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, ax=axis, annot_kws={"fontsize": 6})
    bar = axis.collections[0].colorbar.ax
    bar.tick_params(labelsize=6)
    bar.set_ylabel("R²", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.tick_params(axis="y", rotation=0)
    axis.set_title("(c) planted factors in each group: R² of a linear probe on the test split", fontsize=8)


def _size(points: int) -> float:
    """Area of a marker, smaller where there are more."""
    if points < 500:
        return 7
    return 3 if points < 2000 else 1.2


def _strip(axis: Axes3D) -> None:
    axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
    axis.tick_params(length=0, pad=-5)
    axis.set_box_aspect(None, zoom=1.15)


def page(figure: Figure5, panel: str) -> str:
    """Panel "a" or "b" as one self-contained page."""
    rows, corpus = thinned(len(figure.features.label), DRAWN), figure.corpus
    test, arrays, clouds = corpus.splits["test"], figure.record.predictions(), _clouds(figure, panel, rows)
    hidden = corpus.kind == "public"  # recordings of people, and the page is published
    content = {
        "panel": panel,
        "ids": ["" if hidden else shortened(str(test.ids[i]), SHOWN) for i in rows],
        "text": ["" if hidden else shortened(test.text[i], SHOWN) for i in rows],
        "label": arrays["test_label"][rows].astype(float).round(3).tolist(),
        "prediction": arrays["test"][rows].astype(float).round(3).tolist(),
        "bound": _bound(corpus),
        "scale": [[(value + 1) / 2, colour] for value, colour in SENTIMENT.items()],
        "classes": [{"value": value, "name": name, "colour": SENTIMENT[value]} for value, name in CLASSES.items()],
        "clouds": clouds,
        "projections": list(clouds),
        "groups": [
            {"name": f"{NAMES[m]} {kind}", "colour": COLOURS[m], "hollow": kind == "UTR", "modality": m}
            for m, kind in figure.features.groups
        ],
    }
    shown = f"{len(rows)} of {len(test)} test utterances"
    shown += "" if len(rows) == len(test) else f", chosen with seed {SEED}"
    about = {"panel": panel, "corpus": corpus, "run": figure.record.id, "shown": shown, "content": content}
    scripts = {"plotly": get_plotlyjs(), "poster": _poster(figure, panel), "tsne": min(TSNE_POINTS, len(rows))}
    return style.render("figure5.html", **about, **scripts)


def _poster(figure: Figure5, panel: str) -> str:
    """A still of the panel as a data URI, for the moment before the cloud is drawn, and where it cannot be."""
    projection = next(iter(figure.projections.values()))
    still = plt.figure(figsize=(4.7, 4.7), layout="constrained")
    with plt.rc_context(GRID):
        axis = still.add_subplot(projection="3d")
    _strip(axis)
    if panel == "a":
        _draw_classes(axis, projection.joined, figure.features.label)
    else:
        _draw_groups(axis, projection.groups, figure.features.groups)
    plt.close(still)
    return style.data_uri(style.png(still, 90))


def _clouds(figure: Figure5, panel: str, rows: np.ndarray) -> dict[str, list]:
    """projection -> lists of x, y, z: one for (a), one a group for (b); t-SNE in (a) is of a subsample, else None."""
    found = {}
    for name, projection in figure.projections.items():
        clouds = projection.joined[None, rows] if panel == "a" else projection.groups[:, rows]
        found[name] = [cloud.T.round(3).tolist() for cloud in clouds]
    if panel == "a" and len(rows) >= 20:
        some = thinned(len(rows), TSNE_POINTS)
        points = np.full((len(rows), 3), None, dtype=object)
        points[some] = tsne(figure.features.joined[rows[some]]).astype(float).round(3)
        found["t-SNE"] = [points.T.tolist()]
    return found


def tsne(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 3"]:
    """t-SNE with a fixed seed."""
    return TSNE(3, random_state=SEED, init="pca", perplexity=min(30, len(points) // 4)).fit_transform(points)
