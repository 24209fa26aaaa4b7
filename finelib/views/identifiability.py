"""TODO."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from finelib.views.estimators import BLUE, GREEN, ORANGE
from finelib.views.style import finish

SCORE = {
    "shared_in_str": "shared factors: STR minus UTR",
    "unique_in_utr": "own factors: UTR minus STR",
    "noise_in_neither": "relevant minus irrelevant factors",
}
ORDER = ("perfect", "FINE", "MISA-style", "none", "untrained", "chance")


# --------------------------------------------------------------------------------- notebook 13: identifiability


def scores(compared: dict[str, dict], names: tuple[str, ...] = ORDER) -> Figure:
    """The three scores: a small dot per seed, the mean, its 95 % interval."""
    names = [name for name in names if name in compared]
    found = [s for s in SCORE if s in compared[names[0]]]
    figure, axes = plt.subplots(
        1,
        len(found),
        figsize=(3.1 * len(found) + 0.6, 0.9 + 0.34 * len(names)),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axis, score in zip(axes.flat, found, strict=True):
        for place, name in enumerate(names):
            line = compared[name][score]
            colour = "0.5" if name in ("perfect", "chance", "untrained") else BLUE
            axis.plot(line["values"], [place] * len(line["values"]), ".", color=colour, alpha=0.5)
            if line["low"] is not None:
                axis.plot([max(-1, line["low"]), min(1, line["high"])], [place] * 2, color=colour, linewidth=1.4)
            axis.plot(line["mean"], place, "o", color=colour)
        axis.axvline(0, color="0.8", linewidth=1, zorder=0)
        axis.set(title=SCORE[score], xlim=(-0.55, 1.08), xlabel="difference of R2")
        axis.title.set_fontsize("medium")
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].invert_yaxis()
    return finish(figure)


def leakage(content: dict, which: str = "leakage") -> Figure:
    """R2 of every factor in every group: of the label on the left of the line, irrelevant on the right."""
    names = [n for n in ORDER if n in content[which]][:4]
    figure, axes = plt.subplots(
        1, len(names), figsize=(3 * len(names) + 0.8, 2.7), layout="constrained", sharey=True, squeeze=False
    )
    relevant = sum(not f.startswith("r") for f in content["names"])
    for axis, name in zip(axes.flat, names, strict=True):
        sns.heatmap(
            np.clip(content[which][name], 0, 1),
            vmin=0,
            vmax=1,
            cmap="Blues",
            ax=axis,
            linewidths=0.4,
            xticklabels=content["names"],
            yticklabels=content["groups"],
            cbar=name == names[-1],
            cbar_kws={"label": "R2"},
        )
        axis.axvline(relevant, color="black", linewidth=1)
        axis.set(title=name)
        axis.tick_params(axis="x", rotation=0, labelsize="small")
        axis.tick_params(axis="y", rotation=0)
    return finish(figure)


def sweeps(rows: dict[str, dict]) -> Figure:
    """Scores over beta_mi, the batch size and the kind of critic."""
    panels = {
        "beta_mi": {"0": "beta_mi = 0", "0.1": "beta_mi = 0.1", "0.5": "FINE", "2": "beta_mi = 2"},
        "batch size": {"32": "batch of 32", "64": "FINE", "128": "batch of 128"},
        "critic": {"dot": "FINE", "concat": "concat critics"},
    }
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 2.8), layout="constrained", sharey=True, width_ratios=[4, 3, 2])
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        for score, marker, colour in zip(SCORE, "osD", (BLUE, ORANGE, GREEN), strict=True):
            values = [rows[name][score]["values"] for name in points.values()]
            axis.plot([np.mean(v) for v in values], marker + "-", color=colour, label=SCORE[score])
            for place, each in enumerate(values):
                axis.plot([place] * len(each), each, ".", color=colour, alpha=0.4)
        axis.axhline(0, color="0.8", linewidth=1, zorder=0)
        axis.set(xlabel=title, ylim=(-0.3, 1.02))
        axis.set_xticks(range(len(points)), points)
    axes[0].set_ylabel("difference of R2")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize="small"
    )
    return finish(figure)


def equal_losses(found: dict[str, dict]) -> Figure:
    """Every term of the objective, and the scores, of solutions in a world with closed forms."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", width_ratios=[6, 3])
    for axis, part in zip(axes, ("terms", "scores"), strict=True):
        table = pd.DataFrame({name: solution[part] for name, solution in found.items()}).T
        table = table.rename(columns={s: s.replace("_", " ") for s in SCORE})
        shade = table.round(6).rank(axis=0, method="dense") if part == "terms" else table
        sns.heatmap(
            shade,
            annot=table,
            fmt=".2f",
            cbar=False,
            cmap="Greys" if part == "terms" else "Blues",
            vmin=0,
            vmax=5 if part == "terms" else 1.6,
            yticklabels=part == "terms",
            ax=axis,
            linewidths=1,
        )
        axis.set_title({"terms": "the objective, term by term", "scores": "what the features hold"}[part])
        axis.tick_params(axis="x", rotation=0, labelsize="small")
        axis.set_xticks(axis.get_xticks(), [t.get_text().replace(" in ", "\nin ") for t in axis.get_xticklabels()])
    return finish(figure)
