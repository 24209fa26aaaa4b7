"""Pictures of notebooks 12 and 13: the estimators against known answers, and what the factorisation finds."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from finelib.estimation import BINS, jeffreys
from finelib.figures import _finish

BLUE, ORANGE, GREEN, RED, PURPLE = sns.color_palette("colorblind")[:5]
ESTIMATOR = {"InfoNCE": BLUE, "NCE-CLUB": ORANGE}
CRITIC = {"optimal": "o", "dot": "^", "concat": "s"}
SCORE = {
    "shared_in_str": "shared factors: STR minus UTR", "unique_in_utr": "own factors: UTR minus STR",
    "noise_in_neither": "relevant minus irrelevant factors",
}  # fmt: skip
ORDER = ("perfect", "FINE", "MISA-style", "none", "untrained", "chance")


def save(figure: Figure, name: str, folder: Path) -> Figure:
    """Write folder/NAME.png and .pdf, and return the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    for form in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{form}", dpi=150)
    return figure


# ------------------------------------------------------------------------------------- notebook 12: estimators


def against_truth(lines: pd.DataFrame) -> Figure:
    """Estimate over true mutual information of Gaussian pairs, one panel for each of three dimensions."""
    pairs = lines[(lines.toy == "Gaussian") & lines.estimator.isin(ESTIMATOR)]
    batch = int(pairs.N.mode()[0])
    pairs = pairs[(pairs.N == batch) & (pairs.steps.isna() | (pairs.steps == pairs.steps.max()))]
    every = sorted(pairs.d.unique())
    shown = sorted({every[0], every[len(every) // 3], every[-1]})
    figure, axes = plt.subplots(1, len(shown), figsize=(3.1 * len(shown) + 1.6, 3.6), layout="constrained",
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, d in zip(axes.flat, shown, strict=True):
        truth = np.linspace(0, pairs.truth.max(), 100)
        axis.plot(truth, truth, color="0.3", linewidth=1, label="truth")
        axis.plot(truth, [jeffreys(t, int(d)) for t in truth], color=ORANGE, linewidth=1, label="Jeffreys divergence")
        axis.axhline(math.log(batch), color=BLUE, linestyle="--", linewidth=1, label=f"log N, N = {batch}")
        for (name, critic), group in pairs[pairs.d == d].groupby(["estimator", "critic"]):
            filled = ESTIMATOR[name] if critic == "optimal" else "none"
            axis.plot(group.truth, group["mean"], CRITIC[critic], color=ESTIMATOR[name], markerfacecolor=filled,
                      markersize=5, label=f"{name}, {critic} critic")  # fmt: skip
        axis.set(title=f"d = {d:.0f}", xlabel="true I(X;Y) in nats", yscale="symlog")
        axis.set_yticks([0, 1, 2, 5, 10, 30, 100], ["0", "1", "2", "5", "10", "30", "100"])
    axes[0, 0].set_ylabel("estimate in nats")
    handles = {label: h for axis in axes.flat for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0, -1].legend(handles.values(), handles, frameon=False, fontsize="small", loc="upper left",
                       bbox_to_anchor=(1, 1))  # fmt: skip
    return _finish(figure)


def over_batch_size(lines: pd.DataFrame) -> Figure:
    """Bias and standard deviation of one batch's estimate over the batch size; optimal critic, d = 20."""
    pairs = lines[(lines.critic == "optimal") & (lines.d == 20) & lines.truth.isin([2.0, 6.0])]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for (name, truth), group in pairs.groupby(["estimator", "truth"]):
        group, style = group.sort_values("N"), "o-" if truth == 2 else "s--"
        label = f"{name}, I = {truth:g}"
        axes[0].plot(group.N, group["mean"] - group.truth, style, color=ESTIMATOR[name], label=label)
        axes[1].plot(group.N, group.sd, style, color=ESTIMATOR[name], label=label)
    axes[0].axhline(0, color="0.6", linewidth=1)
    for axis, title in zip(axes, ("bias in nats", "standard deviation in nats"), strict=True):
        axis.set(xscale="log", xlabel="batch size N", title=title)
        axis.set_xticks(sizes := sorted(pairs.N.unique()), [f"{n:.0f}" for n in sizes])
        axis.xaxis.set_minor_locator(plt.NullLocator())
    axes[1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


def over_steps(lines: pd.DataFrame) -> Figure:
    """Estimates of learned critics over their training, for a small and a large mutual information."""
    pairs = lines[(lines.steps > 0) & (lines.toy != "conditional") & lines.truth.isin([2.0, 8.0])]
    panels = list(dict.fromkeys(zip(pairs.d, pairs.toy, strict=True)))
    figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels) + 1.4, 3.2), layout="constrained",
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, (d, toy) in zip(axes.flat, panels, strict=True):
        for (name, critic, truth), group in pairs[(pairs.d == d) & (pairs.toy == toy)].groupby(
            ["estimator", "critic", "truth"]
        ):
            axis.plot(group.steps, group["mean"], CRITIC[critic] + ("-" if truth == 8 else ":"), markersize=4,
                      color=ESTIMATOR[name], label=f"{name}, {critic}, I = {truth:g}")  # fmt: skip
        for truth in (2.0, 8.0):
            axis.axhline(truth, color="0.4", linewidth=0.8)
        axis.set(yscale="symlog", title=f"{toy}, d = {d:.0f}")
        axis.set_yticks([0, 1, 2, 4, 8, 30], ["0", "1", "2", "4", "8", "30"])
        _step_axis(axis, pairs)
    axes[0, 0].set_ylabel("estimate in nats")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


def with_label_beside(lines: pd.DataFrame) -> Figure:
    """Conditional estimates over the critic's steps: negatives from the batch and of the same label."""
    pairs = lines[lines.toy == "conditional"]
    values = sorted(pairs.rho_e.unique())
    figure, axes = plt.subplots(1, len(values), figsize=(2.9 * len(values) + 1.8, 3.2), layout="constrained",
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, rho in zip(axes.flat, values, strict=True):
        here = pairs[pairs.rho_e == rho]
        truth = here.truth.iloc[0]
        for (name, negatives), group in here.groupby(["estimator", "negatives"]):
            axis.plot(group.steps, group["mean"], "o-" if negatives == "batch" else "s:", color=ESTIMATOR[name],
                      markersize=4, label=f"{name}, negatives of the {negatives}")  # fmt: skip
        axis.axhline(truth, color="0.3", linewidth=1, label="I(X1;X2|Y)")
        axis.axhline(truth + math.log(BINS), color="0.3", linewidth=1, linestyle="--", label="I(X1;X2|Y) + H(Y)")
        axis.set(yscale="symlog", title=f"I(X1;X2|Y) = {truth:.2f}")
        axis.set_yticks([0, 1, 2, 5, 10, 40], ["0", "1", "2", "5", "10", "40"])
        _step_axis(axis, pairs)
    axes[0, 0].set_ylabel("estimate in nats")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


def _step_axis(axis: plt.Axes, lines: pd.DataFrame) -> None:
    axis.set(xscale="log", xlabel="steps of the critic")
    axis.set_xticks(steps := sorted(lines.steps.unique()), [f"{step:.0f}" for step in steps])
    axis.xaxis.set_minor_locator(plt.NullLocator())


def referees(lines: pd.DataFrame) -> pd.DataFrame:
    """Discrete pairs, and the k-nearest-neighbour estimator where it is valid: estimate beside what is expected."""
    shown = lines[lines.toy.str.startswith("discrete") | (lines.critic == "none")]
    return shown[["toy", "d", "estimator", "truth", "expected", "mean", "se", "N"]].round(3).reset_index(drop=True)


# --------------------------------------------------------------------------------- notebook 13: identifiability


def scores(compared: dict[str, dict], names: tuple[str, ...] = ORDER) -> Figure:
    """The three scores: a small dot per seed, the mean, its 95 % interval."""
    names = [name for name in names if name in compared]
    found = [s for s in SCORE if s in compared[names[0]]]
    figure, axes = plt.subplots(1, len(found), figsize=(3.1 * len(found) + 0.6, 0.9 + 0.34 * len(names)),
                                layout="constrained", sharey=True, squeeze=False)  # fmt: skip
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
    return _finish(figure)


def leakage(content: dict, which: str = "leakage") -> Figure:
    """R2 of every factor in every group: of the label on the left of the line, irrelevant on the right."""
    names = [n for n in ORDER if n in content[which]][:4]
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names) + 0.8, 2.7), layout="constrained", sharey=True,
                                squeeze=False)  # fmt: skip
    relevant = sum(not f.startswith("r") for f in content["names"])
    for axis, name in zip(axes.flat, names, strict=True):
        sns.heatmap(np.clip(content[which][name], 0, 1), vmin=0, vmax=1, cmap="Blues", ax=axis, linewidths=0.4,
                    xticklabels=content["names"], yticklabels=content["groups"], cbar=name == names[-1],
                    cbar_kws={"label": "R2"})  # fmt: skip
        axis.axvline(relevant, color="black", linewidth=1)
        axis.set(title=name)
        axis.tick_params(axis="x", rotation=0, labelsize="small")
        axis.tick_params(axis="y", rotation=0)
    return _finish(figure)


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
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False,
                  fontsize="small")  # fmt: skip
    return _finish(figure)


def equal_losses(found: dict[str, dict]) -> Figure:
    """Every term of the objective, and the scores, of solutions in a world with closed forms."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", width_ratios=[6, 3])
    for axis, part in zip(axes, ("terms", "scores"), strict=True):
        table = pd.DataFrame({name: solution[part] for name, solution in found.items()}).T
        table = table.rename(columns={s: s.replace("_", " ") for s in SCORE})
        shade = table.round(6).rank(axis=0, method="dense") if part == "terms" else table
        sns.heatmap(shade, annot=table, fmt=".2f", cbar=False, cmap="Greys" if part == "terms" else "Blues", vmin=0,
                    vmax=5 if part == "terms" else 1.6, yticklabels=part == "terms", ax=axis, linewidths=1)  # fmt: skip
        axis.set_title({"terms": "the objective, term by term", "scores": "what the features hold"}[part])
        axis.tick_params(axis="x", rotation=0, labelsize="small")
        axis.set_xticks(axis.get_xticks(), [t.get_text().replace(" in ", "\nin ") for t in axis.get_xticklabels()])
    return _finish(figure)
