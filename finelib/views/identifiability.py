"""What the factorisation finds: scores, probe matrices, sweeps, and solutions with equal losses."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finelib.views.style import BLUE, GREEN, ORANGE, finish, panels

SCORE = {
    "shared_in_str": "shared factors: STR minus UTR",
    "unique_in_utr": "own factors: UTR minus STR",
    "noise_in_neither": "relevant minus irrelevant factors",
}
VARIANT = "FINE with subset codes"
ORDER = ("perfect", VARIANT, "FINE", "MISA-style", "none", "untrained", "chance")
LINES = {VARIANT: "FINE with\nsubset codes"}  # names too long for one line


def scores(compared: dict[str, dict], names: tuple[str, ...] = ORDER) -> Figure:
    """The three scores: a small dot per seed, the mean, its 95 % interval."""
    names = [name for name in names if name in compared]
    found = [s for s in SCORE if s in compared[names[0]]]
    figure, axes = panels(len(found), 3.1, 0.9 + 0.36 * len(names), beside=0.6)
    for axis, score in zip(axes, found, strict=True):
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
    axes[0].set_yticks(range(len(names)), [LINES.get(name, name) for name in names])
    axes[0].invert_yaxis()
    return finish(figure)


def leakage(content: dict, which: str = "leakage") -> Figure:
    """R2 of every factor in every group: of the label on the left of the line, irrelevant on the right."""
    names = [n for n in ORDER if n in content[which]][:5]
    figure, axes = panels(len(names), 2.6, 2.5, beside=0.8)
    relevant = sum(not f.startswith("r") for f in content["names"])
    look = {"vmin": 0, "vmax": 1, "cmap": "Blues", "linewidths": 0.4, "cbar_kws": {"label": "R2"}}
    for axis, name in zip(axes, names, strict=True):
        r2 = pd.DataFrame(np.clip(content[which][name], 0, 1), content["groups"], content["names"])
        sns.heatmap(r2, ax=axis, cbar=name == names[-1], **look)
        axis.axvline(relevant, color="black", linewidth=1)
        axis.set_title(name)
        axis.tick_params(axis="x", rotation=0, labelsize="small")
        axis.tick_params(axis="y", rotation=0)
    return finish(figure)


def who_holds_what(content: dict, names: tuple[str, ...] = ("FINE", VARIANT)) -> Figure:
    """Which group holds which factor: the third panel of Figure 5 for FINE and for the variant, one above the other."""
    figure, axes = plt.subplots(len(names), 1, figsize=(7.2, 2.3 * len(names)), layout="constrained", sharex=True)
    relevant = sum(not f.startswith("r") for f in content["names"])
    for axis, name in zip(axes, names, strict=True):
        r2 = pd.DataFrame(np.clip(content["leakage"][name], 0, 1), content["groups"], content["names"])
        look = {"vmin": 0, "vmax": 1, "cmap": "Blues", "annot": True, "fmt": ".2f", "annot_kws": {"fontsize": 7}}
        sns.heatmap(r2, ax=axis, linewidths=0.4, cbar_kws={"label": "R2"}, **look)
        for line in range(2, len(content["groups"]), 2):  # between modalities
            axis.axhline(line, color="white", linewidth=3)
        axis.axvline(relevant, color="black", linewidth=1)
        axis.set_title(name, fontsize="medium")
        axis.tick_params(axis="both", rotation=0, labelsize="small")
    axes[-1].set_xlabel("factors of the label, and behind the line irrelevant ones", fontsize="small")
    return finish(figure)


def worlds(case: dict) -> Figure:
    """Of each world the mean over seeds of a score, FINE beside the variant; interval over worlds above; Corr last."""
    places = [*SCORE, "corr"]
    figure, axes = panels(len(places), 2.3, 2.6, sharey=False)
    for axis, score in zip(axes, places, strict=True):
        for place, (system, colour) in enumerate((("FINE", "0.4"), (VARIANT, BLUE))):
            rows = pd.DataFrame(
                [
                    (r["world"], r["corr"] if score == "corr" else r["linear"][score])
                    for r in case["runs"]
                    if r["system"] == system
                ],
                columns=["world", "value"],
            )
            means = rows.groupby("world")["value"].mean()
            axis.plot([place] * len(rows), rows["value"], ".", color=colour, alpha=0.25)
            axis.plot([place - 0.12] * len(means), means, "_", color=colour, markersize=9)
            found = case["systems"][system]["corr"] if score == "corr" else case["systems"][system]["linear"][score]
            low, high = (found[end] if found[end] is not None else found["mean"] for end in ("low", "high"))
            axis.errorbar(
                place + 0.15, found["mean"], [[found["mean"] - low], [high - found["mean"]]], fmt="o", color=colour
            )
        axis.set(xlim=(-0.5, 1.5), title=SCORE.get(score, "Corr on test"))
        axis.title.set_fontsize("small")
        axis.set_xticks((0, 1), ("FINE", LINES[VARIANT]), fontsize="small")
        if score != "corr":
            axis.set_ylim(-0.2, 1.02)
            axis.axhline(0.5, color="0.8", linewidth=1, zorder=0)
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
    shown = axes[0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    return finish(figure)


def equal_losses(solved: dict[str, dict]) -> Figure:
    """Every term of the objective, and the scores, of solutions in a world with closed forms."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", width_ratios=[6, 3])
    terms = pd.DataFrame({name: solution["terms"] for name, solution in solved.items()}).T
    ranks = terms.round(6).rank(axis=0, method="dense")  # equal values of a term have one shade
    _heatmap(left, ranks, terms, cmap="Greys", vmax=5)
    left.set_title("the objective, term by term")
    held = pd.DataFrame({name: solution["scores"] for name, solution in solved.items()}).T
    held = held.rename(columns={name: name.replace("_", " ").replace(" in ", "\nin ") for name in SCORE})
    _heatmap(right, held, held, cmap="Blues", vmax=1.6, yticklabels=False)
    right.set_title("what the features hold")
    return finish(figure)


def _heatmap(axis: Axes, shade: pd.DataFrame, values: pd.DataFrame, **look) -> None:
    sns.heatmap(shade, annot=values, fmt=".2f", cbar=False, vmin=0, linewidths=1, ax=axis, **look)
    axis.tick_params(axis="x", rotation=0, labelsize="small")
