"""The systems of a table side by side: score against size, against training time, over seeds (notebook 15)."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from finelib import metrics
from finelib.baselines import references
from finelib.data.features import Corpus
from finelib.runs.records import RunRecord

LABELS = {"corr": "Corr (test)", "mae": "MAE (test)", "acc2_nonzero": "ACC-2 (test)", "acc2": "ACC-2 (test)"}
COSTS = {"parameters": "parameters", "seconds": "training seconds of one run"}
FINE, OTHER = "#d55e00", "#0072b2"


def frame(records: list[RunRecord]) -> pd.DataFrame:
    """One line per run: system, seed, its test metrics, parameters, training seconds, epochs, samples per second."""
    return pd.DataFrame(
        [
            {
                "system": r.content["name"],
                "seed": r.content["seed"],
                **r.test,
                "parameters": r.content["parameters"],
                "seconds": r.content["timing"]["seconds"],
                "epochs": len(r.curves),
                "samples per second": r.content["timing"]["samples_per_second"],
            }
            for r in records
        ]
    )


def summary(runs: pd.DataFrame, metric: str = "corr") -> pd.DataFrame:
    """Mean and standard deviation over seeds of a metric, median cost; best system first."""
    grouped = runs.groupby("system", sort=False)
    table = pd.DataFrame(
        {
            metric: grouped[metric].mean(),
            "sd": grouped[metric].std(),
            "seeds": grouped.size(),
            "parameters": grouped["parameters"].first(),
            "seconds": grouped["seconds"].median(),
            "samples per second": grouped["samples per second"].median(),
        }
    )
    return table.sort_values(metric, ascending=metric == "mae")


def against_cost(runs: pd.DataFrame, corpus: Corpus, metric: str = "corr") -> Figure:
    """Score against parameters and against training seconds: mean and standard deviation of each system."""
    table = summary(runs, metric)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    for axis, (cost, title) in zip(axes, COSTS.items(), strict=True):
        for name, row in table.iterrows():
            colour = FINE if name.startswith("FINE") else OTHER
            axis.errorbar(row[cost], row[metric], yerr=row["sd"], fmt="o", color=colour, capsize=3)
        _names(axis, table, cost, metric)
        _reference(axis, corpus, metric, horizontal=True)
        axis.set(xscale="log", xlabel=title)
        axis.margins(x=0.16)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel(LABELS[metric])
    figure.suptitle(f"{corpus.info.title}, {corpus.kind} data, {' + '.join(corpus.modalities)}: what a score costs")
    plt.close(figure)
    return figure


def over_seeds(runs: pd.DataFrame, corpus: Corpus, metric: str = "corr") -> Figure:
    """Every seed of every system as a dot, best system on top, with the ridge as a line."""
    order = list(summary(runs, metric).index)
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(order) + 1.4), layout="constrained")
    colours = {name: FINE if name.startswith("FINE") else OTHER for name in order}
    sns.stripplot(
        runs,
        x=metric,
        y="system",
        order=order,
        hue="system",
        palette=colours,
        legend=False,
        jitter=False,
        alpha=0.6,
        size=7,
        ax=axis,
    )
    means = runs.groupby("system")[metric].mean()
    axis.scatter([means[name] for name in order], range(len(order)), marker="|", s=350, color="black", zorder=3)
    _reference(axis, corpus, metric, horizontal=False)
    axis.set(xlabel=f"{LABELS[metric]}; dot: a seed, bar: their mean", ylabel="")
    axis.grid(axis="x", alpha=0.3)
    plt.close(figure)
    return figure


def _names(axis: Axes, table: pd.DataFrame, cost: str, metric: str) -> None:
    """Write each system's name beside its point; names of points that lie together are moved apart."""
    low, high = table[metric].min(), table[metric].max()
    step, taken = 0.045 * max(high - low, 1e-6), []
    for name, row in table.sort_values(metric).iterrows():
        y = row[metric]
        while any(abs(y - other) < step and abs(_log_gap(row[cost], x)) < 0.5 for x, other in taken):
            y += step / 2
        taken.append((row[cost], y))
        axis.annotate(name, (row[cost], y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9)


def _log_gap(a: float, b: float) -> float:
    """Powers of ten between two costs."""
    return math.log10(a / b)


def _reference(axis: Axes, corpus: Corpus, metric: str, horizontal: bool) -> None:
    """The ridge regressions on mean features as dashed lines, where there are any."""
    label = corpus.splits["test"].label
    for name, prediction in references.references(corpus).items():
        if not name.startswith("ridge"):
            continue
        value = metrics.score(corpus.info.metrics, prediction, label)[metric]
        (axis.axhline if horizontal else axis.axvline)(value, color="grey", ls="--", lw=1, zorder=0)
        if horizontal:
            axis.text(0.01, value, name, transform=axis.get_yaxis_transform(), va="bottom", color="grey", fontsize=8)
        else:
            axis.text(
                value,
                1.0,
                name,
                transform=axis.get_xaxis_transform(),
                ha="center",
                va="bottom",
                color="grey",
                fontsize=8,
            )
