"""Systems and references side by side: score against size and training time, over seeds, and as tables."""

import json
import math
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from finelib import metrics
from finelib.data.corpora import ALL_CORPORA
from finelib.data.features import Corpus
from finelib.data.own_labels import title_of
from finelib.paper import comparisons, significance
from finelib.runs.options import Options
from finelib.runs.records import RunRecord
from finelib.views.style import BLUE, RED, finish, panels

LABELS = {"corr": "Corr (test)", "mae": "MAE (test)", "acc2_nonzero": "ACC-2 (test)", "acc2": "ACC-2 (test)"}
COSTS = {"parameters": "parameters", "seconds": "training seconds of one run"}
BUDGETS = {"epochs": "epoch", "seconds": "training seconds"}
PANELS_BESIDE = 4
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.5", "shrinkA": 1, "shrinkB": 3}
# places of a name beside its point, in points of the page, the nearest first
PLACES = sorted(
    ((side * across, up) for across in (7, 35, 70) for up in range(-63, 64, 9) for side in (1, -1)),
    key=lambda place: (abs(place[0]) + abs(place[1]), -place[0]),
)


def frame(records: list[RunRecord]) -> pd.DataFrame:
    """One line per run: system, seed, its test metrics, parameters, training seconds, epochs, samples per second."""
    lines = []
    for record in records:
        seconds, speed = record.timing["seconds"], record.timing["samples_per_second"]
        cost = {"parameters": record.parameters, "seconds": seconds, "epochs": len(record.curves)}
        lines.append({"system": record.name, "seed": record.seed} | record.test | cost | {"samples per second": speed})
    return pd.DataFrame(lines)


def summary(runs: pd.DataFrame, metric: str = "corr") -> pd.DataFrame:
    """Mean and standard deviation over seeds of a metric, median cost; best system first."""
    columns = {metric: (metric, "mean"), "sd": (metric, "std"), "seeds": (metric, "size")}
    columns |= {"parameters": ("parameters", "first"), "seconds": ("seconds", "median")}
    columns |= {"samples per second": ("samples per second", "median")}
    table = runs.groupby("system", sort=False).agg(**columns)
    return table.sort_values(metric, ascending=metric == "mae")


def reference_scores(corpus: Corpus, record: RunRecord | None = None) -> dict[str, dict[str, float]]:
    """name -> test scores of every reference of a corpus, and before them those of a run."""
    label = corpus.splits["test"].label
    scores = {} if record is None else {record.name: record.test}
    for name, prediction in comparisons.references_of(corpus).items():
        scores[name] = metrics.score(corpus.info.metrics, prediction, label)
    return scores


def reference_table(corpora: Iterable[Corpus], metric: str = "corr") -> pd.DataFrame:
    """A metric of every reference (rows) on the test split of every corpus (columns)."""
    columns = {}
    for corpus in corpora:
        title = corpus.called if corpus.kind == "own" else corpus.info.title
        columns[title] = {name: found[metric] for name, found in reference_scores(corpus).items()}
    return pd.DataFrame(columns)


def minus_references(
    records: list[RunRecord], corpus: Corpus, names: tuple[str, ...] = ("acc2_nonzero", "corr", "mae")
) -> pd.DataFrame:
    """Test scores of some runs minus those of each reference: mean over the runs with its 95 % t interval."""
    lines = []
    for reference, scores in reference_scores(corpus).items():
        for metric in names:
            gap = significance.interval([record.test[metric] - scores[metric] for record in records])
            lines.append((reference, metric, gap.mean, gap.low, gap.high))
    return pd.DataFrame(lines, columns=["reference", "metric", "mean", "low", "high"])


def tuning_log(options: Options, corpus: str = "mosi") -> pd.DataFrame | None:
    """Every setting that ``--tune`` tried on a corpus, by system, smallest dev error first; None without tuning."""
    if not options.tune:
        return None
    tried = json.loads((options.figures / "tuning.json").read_text())[f"{corpus}, {options.source}"]
    error = f"dev_{metrics.DEV_ERROR[ALL_CORPORA[corpus].metrics]}"
    parts = {system: pd.DataFrame(lines).drop(columns="run").sort_values(error) for system, lines in tried.items()}
    return pd.concat(parts, names=["system", None]).reset_index("system").reset_index(drop=True)


def against_cost(runs: pd.DataFrame, corpus: Corpus, metric: str = "corr") -> Figure:
    """Score against parameters and against training seconds: mean and standard deviation of each system."""
    table = summary(runs, metric)
    figure, axes = panels(2, 5.5, 4.4)
    for axis, (cost, title) in zip(axes, COSTS.items(), strict=True):
        for name, row in table.iterrows():
            axis.errorbar(row[cost], row[metric], yerr=row["sd"], fmt="o", color=_colour(name), capsize=3)
        axis.set(xscale="log", xlabel=title)
        axis.margins(x=0.16)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(EngFormatter(sep="") if cost == "parameters" else "{x:g}")  # 50m are no minutes
        axis.xaxis.set_minor_formatter(NullFormatter())
        _draw_references(axis, corpus, metric, horizontal=True)
    axes[0].set_ylabel(LABELS[metric])
    figure.suptitle(f"{title_of(corpus.info, corpus.kind)}, {' + '.join(corpus.modalities)}: what a score costs")
    figure.draw_without_rendering()  # lays the axes out, so that names can be measured
    for axis, cost in zip(axes, COSTS, strict=True):
        _name_points(axis, table[cost], table[metric], table["sd"].fillna(0))
    plt.close(figure)
    return figure


def over_seeds(runs: pd.DataFrame, corpus: Corpus, metric: str = "corr") -> Figure:
    """Every seed of every system as a dot, best system on top, with the ridge as a line."""
    means = summary(runs, metric)[metric]
    order = list(means.index)
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(order) + 1.4), layout="constrained")
    look = {"palette": {name: _colour(name) for name in order}, "jitter": False, "alpha": 0.6, "size": 7}
    sns.stripplot(runs, x=metric, y="system", order=order, hue="system", legend=False, ax=axis, **look)
    axis.scatter(means, range(len(order)), marker="|", s=350, color="black", zorder=3)
    _draw_references(axis, corpus, metric, horizontal=False)
    axis.set(xlabel=f"{LABELS[metric]}; dot: a seed, bar: their mean", ylabel="")
    axis.grid(axis="x", alpha=0.3)
    plt.close(figure)
    return figure


def budget(records: list[RunRecord], against: str = "epochs", metric: str = "corr") -> Figure:
    """The dev score after every epoch of every run, a panel for each system, against one of ``BUDGETS``.

    A dot marks the epoch that is kept, a diamond its test score, which is the only one there is. FINE's runs stand in
    grey in every other panel. A record has the seconds of all epochs together, so an epoch takes its share of them.
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: not record.name.startswith("FINE")):
        groups.setdefault(record.name, []).append(record)
    fine = [record for name, group in groups.items() if name.startswith("FINE") for record in group]
    rows = math.ceil(len(groups) / PANELS_BESIDE)
    look = {"figsize": (10.6, 1.75 * rows + 0.9), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(rows, PANELS_BESIDE, sharex=True, sharey=True, **look)
    for axis, group in zip(axes.flat, groups.values(), strict=False):
        for record in fine if group[0] not in fine else ():
            axis.plot(*_dev(record, against, metric), color="0.8", linewidth=1, zorder=0)
        _budget_panel(axis, group, against, metric)
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    if against == "seconds":
        axes[0, 0].set_xscale("log")
        axes[0, 0].xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.supxlabel(BUDGETS[against])
    figure.supylabel(LABELS[metric].replace("test", "dev"))
    marks = [("o", BLUE, BLUE, "the epoch that is kept"), ("D", "black", "none", "its test score")]
    handles = [Line2D([], [], ls="", marker=m, color=c, markerfacecolor=f, label=text) for m, c, f, text in marks]
    handles.append(Line2D([], [], color="0.8", label="FINE"))
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    return finish(figure)


def _budget_panel(axis: Axes, group: list[RunRecord], against: str, metric: str) -> None:
    """The runs of one system."""
    colour = _colour(group[0].name)
    for record in group:
        cost, dev = _dev(record, against, metric)
        kept = record.selected_epoch
        axis.plot(cost, dev, color=colour, linewidth=1.2, alpha=0.7)
        axis.plot(cost[kept], dev[kept], "o", color=colour, markersize=4)
        axis.plot(cost[kept], record.test[metric], "D", color="black", markerfacecolor="none", markersize=4)
    axis.set_title(f"{group[0].name}, {group[0].parameters / 1e6:.2f} M", fontsize="medium")
    axis.tick_params(labelbottom=True)


def _dev(record: RunRecord, against: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """What an epoch's end cost, and the dev score there, for each epoch."""
    dev = np.array([curve[f"dev_{metric}"] for curve in record.curves])
    cost = np.arange(1.0, len(dev) + 1)
    return cost if against == "epochs" else cost * record.timing["seconds"] / len(dev), dev


def _colour(system: str) -> str:
    return RED if system.startswith("FINE") else BLUE


def _name_points(axis: Axes, cost: pd.Series, score: pd.Series, spread: pd.Series) -> None:
    """Write each system's name beside its point, where no point, error bar or other name stands."""
    low = axis.transData.transform(np.stack([cost, score - spread], 1))
    high = axis.transData.transform(np.stack([cost, score + spread], 1))
    # what is taken, in pixels: each point with its error bar, and the names of the references
    taken = [Bbox([a - 5, b + 5]) for a, b in zip(low, high, strict=True)]
    taken += [text.get_window_extent() for text in axis.texts]
    for name in score.sort_values(ascending=False).index:
        point = (cost[name], score[name])
        for offset in PLACES:
            look = {"ha": "left" if offset[0] > 0 else "right", "va": "center", "fontsize": 9}
            text = axis.annotate(name, point, offset, textcoords="offset points", **look)
            box = text.get_window_extent()
            free = box.count_overlaps(taken) == 0 and axis.bbox.containsx(box.x0) and axis.bbox.containsx(box.x1)
            if free or offset == PLACES[-1]:
                taken.append(box)
                break
            text.remove()
        if abs(offset[0]) + abs(offset[1]) > 20:  # far away: a line leads to the point
            axis.annotate("", point, offset, textcoords="offset points", arrowprops=LEADER)


def _draw_references(axis: Axes, corpus: Corpus, metric: str, horizontal: bool) -> None:
    """The ridge regressions on mean features as dashed lines, where there are any."""
    for name, scores in reference_scores(corpus).items():
        if name.startswith("ridge"):
            value, look = scores[metric], {"color": "grey", "ls": "--", "lw": 1, "zorder": 0}
            if horizontal:
                axis.axhline(value, **look)
                place = {"x": 0.99, "y": value, "transform": axis.get_yaxis_transform(), "ha": "right"}
            else:
                axis.axvline(value, **look)
                place = {"x": value, "y": 1.0, "transform": axis.get_xaxis_transform(), "ha": "center"}
            axis.text(**place, s=name, va="bottom", color="grey", fontsize=8)
