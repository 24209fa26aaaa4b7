"""Pictures of notebooks 12 and 13: the estimators against known answers, and what the factorisation finds."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from finelib.study.estimators import BINS, jeffreys
from finelib.views.style import finish

BLUE, ORANGE, GREEN, RED, PURPLE = sns.color_palette("colorblind")[:5]
ESTIMATOR = {"InfoNCE": BLUE, "NCE-CLUB": ORANGE}
CRITIC = {"optimal": "o", "dot": "^", "concat": "s"}


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
    figure, axes = plt.subplots(
        1, len(shown), figsize=(3.1 * len(shown) + 1.6, 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for axis, d in zip(axes.flat, shown, strict=True):
        truth = np.linspace(0, pairs.truth.max(), 100)
        axis.plot(truth, truth, color="0.3", linewidth=1, label="truth")
        axis.plot(truth, [jeffreys(t, int(d)) for t in truth], color=ORANGE, linewidth=1, label="Jeffreys divergence")
        axis.axhline(math.log(batch), color=BLUE, linestyle="--", linewidth=1, label=f"log N, N = {batch}")
        for (name, critic), group in pairs[pairs.d == d].groupby(["estimator", "critic"]):
            filled = ESTIMATOR[name] if critic == "optimal" else "none"
            axis.plot(
                group.truth,
                group["mean"],
                CRITIC[critic],
                color=ESTIMATOR[name],
                markerfacecolor=filled,
                markersize=5,
                label=f"{name}, {critic} critic",
            )
        axis.set(title=f"d = {d:.0f}", xlabel="true I(X;Y) in nats", yscale="symlog")
        axis.set_yticks([0, 1, 2, 5, 10, 30, 100], ["0", "1", "2", "5", "10", "30", "100"])
    axes[0, 0].set_ylabel("estimate in nats")
    handles = {label: h for axis in axes.flat for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0, -1].legend(
        handles.values(), handles, frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1)
    )
    return finish(figure)


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
    return finish(figure)


def over_steps(lines: pd.DataFrame) -> Figure:
    """Estimates of learned critics over their training, for a small and a large mutual information."""
    pairs = lines[(lines.steps > 0) & (lines.toy != "conditional") & lines.truth.isin([2.0, 8.0])]
    panels = list(dict.fromkeys(zip(pairs.d, pairs.toy, strict=True)))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3 * len(panels) + 1.4, 3.2), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (d, toy) in zip(axes.flat, panels, strict=True):
        for (name, critic, truth), group in pairs[(pairs.d == d) & (pairs.toy == toy)].groupby(
            ["estimator", "critic", "truth"]
        ):
            axis.plot(
                group.steps,
                group["mean"],
                CRITIC[critic] + ("-" if truth == 8 else ":"),
                markersize=4,
                color=ESTIMATOR[name],
                label=f"{name}, {critic}, I = {truth:g}",
            )
        for truth in (2.0, 8.0):
            axis.axhline(truth, color="0.4", linewidth=0.8)
        axis.set(yscale="symlog", title=f"{toy}, d = {d:.0f}")
        axis.set_yticks([0, 1, 2, 4, 8, 30], ["0", "1", "2", "4", "8", "30"])
        _step_axis(axis, pairs)
    axes[0, 0].set_ylabel("estimate in nats")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return finish(figure)


def with_label_beside(lines: pd.DataFrame) -> Figure:
    """Conditional estimates over the critic's steps: negatives from the batch and of the same label."""
    pairs = lines[lines.toy == "conditional"]
    values = sorted(pairs.rho_e.unique())
    figure, axes = plt.subplots(
        1, len(values), figsize=(2.9 * len(values) + 1.8, 3.2), layout="constrained", sharey=True, squeeze=False
    )
    for axis, rho in zip(axes.flat, values, strict=True):
        here = pairs[pairs.rho_e == rho]
        truth = here.truth.iloc[0]
        for (name, negatives), group in here.groupby(["estimator", "negatives"]):
            axis.plot(
                group.steps,
                group["mean"],
                "o-" if negatives == "batch" else "s:",
                color=ESTIMATOR[name],
                markersize=4,
                label=f"{name}, negatives of the {negatives}",
            )
        axis.axhline(truth, color="0.3", linewidth=1, label="I(X1;X2|Y)")
        axis.axhline(truth + math.log(BINS), color="0.3", linewidth=1, linestyle="--", label="I(X1;X2|Y) + H(Y)")
        axis.set(yscale="symlog", title=f"I(X1;X2|Y) = {truth:.2f}")
        axis.set_yticks([0, 1, 2, 5, 10, 40], ["0", "1", "2", "5", "10", "40"])
        _step_axis(axis, pairs)
    axes[0, 0].set_ylabel("estimate in nats")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return finish(figure)


def _step_axis(axis: plt.Axes, lines: pd.DataFrame) -> None:
    axis.set(xscale="log", xlabel="steps of the critic")
    axis.set_xticks(steps := sorted(lines.steps.unique()), [f"{step:.0f}" for step in steps])
    axis.xaxis.set_minor_locator(plt.NullLocator())


def referees(lines: pd.DataFrame) -> pd.DataFrame:
    """Discrete pairs, and the k-nearest-neighbour estimator where it is valid: estimate beside what is expected."""
    shown = lines[lines.toy.str.startswith("discrete") | (lines.critic == "none")]
    return shown[["toy", "d", "estimator", "truth", "expected", "mean", "se", "N"]].round(3).reset_index(drop=True)
