"""Scores against the share of frames that is missing, and with whole modalities missing: every system."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from finelib.inputs import NAMES
from finelib.paper.comparisons import p_text
from finelib.study.losses import WHOLE, frames_name, subset_name
from finelib.study.missing import FINE
from finelib.study.missing_said import better_without
from finelib.views.style import BLUE, ORANGE, RED, finish

LABELS = {"corr": "Corr", "acc2_nonzero": "ACC-2", "acc2": "ACC-2"}
COLUMNS = 4


def curves(content: dict, metric: str = "corr", trained: dict | None = None) -> Figure:
    """Of each system a panel, best mean over the rates first: its score at every rate with the interval, and FINE's.

    Args:
        content: ``missing.measure_missing``'s.
        trained: ``summarise`` of the same systems trained with losses, drawn beside.
    """
    scores, rates = content["scores"][metric], np.array(content["rates"])
    order = ordered(content, metric)
    columns = min(COLUMNS, len(order))
    size = (2.1 * columns, 1.65 * math.ceil(len(order) / columns) + 0.7)
    figure, axes = plt.subplots(
        math.ceil(len(order) / columns), columns, figsize=size, layout="constrained", sharex=True, sharey=True
    )
    axes = np.atleast_1d(axes).ravel()
    for axis, s in zip(axes, order, strict=False):
        if FINE in scores and s != FINE:
            axis.plot(rates, _means(scores[FINE], rates), color=RED, linewidth=1, linestyle=":", label="FINE")
        _draw(axis, scores[s], rates, RED if s == FINE else BLUE, "losses at test only")
        if trained:
            _draw(axis, trained["scores"][metric][s], rates, ORANGE, "losses in training too")
        axis.set_title(s, fontsize="medium")
    for axis in axes[len(order) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(order) - columns) : len(order)]:
        axis.set_xlabel("share of frames lost", fontsize="small")
        axis.tick_params(labelbottom=True)
    axes[0].set(xticks=(0, 0.3, 0.6, 0.9))
    shown = axes[order.index(next((s for s in order if s != FINE), FINE))]
    handles, labels = shown.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    figure.supylabel(f"{LABELS[metric]} (test)", fontsize="medium")
    figure.suptitle(title(content))
    return finish(figure)


def title(content: dict) -> str:
    """What was measured on what, and by how many draws."""
    seeds = f"{content['seeds']} seed{'s' if content['seeds'] > 1 else ''}"
    return f"{content['called']}, {content['sizes']['test']} test utterances, {seeds}, one draw of losses"


def ordered(content: dict, metric: str = "corr") -> list[str]:
    """Systems by their mean over all rates, best first."""
    average = content["average"][metric]
    return sorted(average, key=lambda s: -average[s]["mean"])


def _means(scores: dict, rates: np.ndarray) -> list[float]:
    return [scores[frames_name(rate)]["mean"] for rate in rates]


def _draw(axis: plt.Axes, scores: dict, rates: np.ndarray, colour: str, label: str) -> None:
    found = [scores[frames_name(rate)] for rate in rates]
    axis.plot(rates, _means(scores, rates), color=colour, label=label)
    if found[0]["low"] is not None:
        low, high = ([each[end] for each in found] for end in ("low", "high"))
        axis.fill_between(rates, low, high, color=colour, alpha=0.18, linewidth=0)


def subsets(content: dict) -> Figure | None:
    """Corr of every system with every subset of the modalities left; None where there is one modality alone.

    A triangle: shown to be higher than with all modalities.
    """
    if not content["subsets"]:
        return None
    scores, whole = content["scores"]["corr"], list(content["modalities"])
    names = [WHOLE, *content["subsets"][::-1]]
    values = pd.DataFrame({s: {n: scores[s][n]["mean"] if n in scores[s] else np.nan for n in names} for s in scores}).T
    values = values.sort_values(WHOLE, ascending=False)
    better = {(s, n) for n, m in _without(whole).items() for s in better_without(content, m)}
    cells = [[_cell(values.loc[s, n], (s, n) in better) for n in names] for s in values.index]
    figure, axis = plt.subplots(figsize=(1.15 * len(names) + 1.6, 0.32 * len(values) + 1.3), layout="constrained")
    look = {"cmap": "Blues", "vmin": 0, "vmax": 1, "linewidths": 1, "cbar_kws": {"label": "Corr (test)"}}
    sns.heatmap(values, annot=cells, fmt="", ax=axis, **look)
    axis.set_facecolor("0.92")
    for row, column in np.argwhere(values.isna().to_numpy()):  # seaborn writes nothing there
        axis.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color="0.4")
    axis.set_xticklabels(["all", *(_named(n.split(" + ")) for n in names[1:])], rotation=0, fontsize="small")
    axis.tick_params(axis="y", rotation=0)
    axis.set(title=title(content), xlabel="modalities that are left")
    axis.title.set_fontsize("medium")
    return finish(figure)


def _without(modalities: list[str]) -> dict[str, str]:
    """Condition -> the modality that is missing in it."""
    return {subset_name(tuple(n for n in modalities if n != m)): m for m in modalities}


def _cell(value: float, better: bool) -> str:
    return f"{value:z.2f}{' ▲' if better else ''}"


def _named(modalities: list[str]) -> str:
    return " +\n".join(NAMES[m] for m in modalities)


def averages(content: dict) -> pd.DataFrame:
    """Mean over the ten rates of each metric with its interval; of Corr also minus FINE's with p (Holm)."""
    lines = {}
    for s in ordered(content):
        lines[s] = {LABELS[metric]: _span(content["average"][metric][s]) for metric in content["metrics"]}
        difference = content["average"]["corr"][s].get("minus_fine")
        lines[s] |= (
            {"Corr minus FINE": _span(difference, "+"), "p (Holm)": p_text(difference["p_holm"])} if difference else {}
        )
    return pd.DataFrame(lines).T.fillna("–")


def _span(found: dict, sign: str = "") -> str:
    spread = "" if found["low"] is None else f" [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
    return f"{found['mean']:{sign}.3f}{spread}"
