"""The estimators of mutual information against known answers (notebook ``10_mutual_information``)."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finelib.study.known_answers import BINS, gaussian_jeffreys
from finelib.views.style import BLUE, ORANGE, finish, legend_beside, panels

ESTIMATOR = {"InfoNCE": BLUE, "NCE-CLUB": ORANGE}
CRITIC = {"optimal": "o", "dot": "^", "concat": "s"}
LOWEST = 0.2  # nats, where the logarithmic axes of ``against_truth`` begin


def against_truth(lines: pd.DataFrame) -> Figure:
    """Estimate over true mutual information of Gaussian pairs, one panel for each of three dimensions.

    Both axes are logarithmic, so that the line of the truth is straight: pairs without information are left out, and
    a mark at the lower edge stands for an estimate below it.
    """
    pairs = lines[(lines.toy == "Gaussian") & lines.estimator.isin(ESTIMATOR) & (lines.truth > 0)]
    batch = int(pairs.N.mode()[0])
    pairs = pairs[(pairs.N == batch) & (pairs.steps.isna() | (pairs.steps == pairs.steps.max()))]
    dimensions = sorted(pairs.d.unique())
    shown = sorted({dimensions[0], dimensions[len(dimensions) // 3], dimensions[-1]})
    figure, axes = panels(len(shown), 3.1, 3.6, beside=1.6)
    truth = np.geomspace(pairs.truth.min() / 1.15, pairs.truth.max() * 1.15, 100)
    for axis, d in zip(axes, shown, strict=True):
        axis.plot(truth, truth, color="0.3", linewidth=1, label="truth")
        jeffreys = [gaussian_jeffreys(mi, int(d)) for mi in truth]
        axis.plot(truth, jeffreys, color=ORANGE, linewidth=1, label="Jeffreys divergence")
        axis.axhline(math.log(batch), color=BLUE, linestyle="--", linewidth=1, label=f"log N, N = {batch}")
        for (name, critic), group in pairs[pairs.d == d].groupby(["estimator", "critic"]):
            look = {"color": ESTIMATOR[name], "markerfacecolor": ESTIMATOR[name] if critic == "optimal" else "none"}
            estimate, label = group["mean"].clip(lower=LOWEST), f"{name}, {critic} critic"
            axis.plot(group.truth, estimate, CRITIC[critic], markersize=5, label=label, clip_on=False, **look)
        axis.set(title=f"d = {d:.0f}", xlabel="true I(X;Y) in nats", xscale="log", yscale="log", ylim=(LOWEST, 400))
        axis.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        axis.set_yticks([0.2, 1, 10, 100], ["0.2", "1", "10", "100"])
        axis.xaxis.set_minor_locator(plt.NullLocator())
    axes[0].set_ylabel("estimate in nats")
    legend_beside(axes)
    return finish(figure)


def over_batch_size(lines: pd.DataFrame) -> Figure:
    """Bias and standard deviation of one batch's estimate over the batch size; optimal critic, d = 20."""
    pairs = lines[(lines.critic == "optimal") & (lines.d == 20) & lines.truth.isin([2.0, 6.0])]
    figure, axes = panels(2, 4, 3, sharey=False)
    for (name, truth), group in pairs.groupby(["estimator", "truth"]):
        group, style = group.sort_values("N"), "o-" if truth == 2 else "s--"
        label = f"{name}, I = {truth:g}"
        axes[0].plot(group.N, group["mean"] - group.truth, style, color=ESTIMATOR[name], label=label)
        axes[1].plot(group.N, group.sd, style, color=ESTIMATOR[name], label=label)
    axes[0].axhline(0, color="0.6", linewidth=1)
    for axis, title in zip(axes, ("bias in nats", "standard deviation in nats"), strict=True):
        axis.set_title(title)
        _log_ticks(axis, "batch size N", pairs.N)
    legend_beside(axes)
    return finish(figure)


def over_steps(lines: pd.DataFrame) -> Figure:
    """Estimates of learned critics over their training, for a small and a large mutual information."""
    learned = lines[(lines.steps > 0) & (lines.toy != "conditional") & lines.truth.isin([2.0, 8.0])]
    shown = list(dict.fromkeys(zip(learned.d, learned.toy, strict=True)))
    figure, axes = panels(len(shown), 3, 3.2, beside=1.4)
    for axis, (d, toy) in zip(axes, shown, strict=True):
        here = learned[(learned.d == d) & (learned.toy == toy)]
        for (name, critic, truth), group in here.groupby(["estimator", "critic", "truth"]):
            style, label = CRITIC[critic] + ("-" if truth == 8 else ":"), f"{name}, {critic}, I = {truth:g}"
            axis.plot(group.steps, group["mean"], style, markersize=4, color=ESTIMATOR[name], label=label)
        for truth in (2.0, 8.0):
            axis.axhline(truth, color="0.4", linewidth=0.8)
        axis.set(yscale="symlog", title=f"{toy}, d = {d:.0f}")
        axis.set_yticks([0, 1, 2, 4, 8, 30], ["0", "1", "2", "4", "8", "30"])
        _log_ticks(axis, "steps of the critic", learned.steps)
    axes[0].set_ylabel("estimate in nats")
    legend_beside(axes)
    return finish(figure)


def with_label_beside(lines: pd.DataFrame) -> Figure:
    """Conditional estimates over the critic's steps: negatives from the batch and of the same label."""
    pairs = lines[lines.toy == "conditional"]
    values = sorted(pairs.rho_e.unique())
    figure, axes = panels(len(values), 2.9, 3.2, beside=1.8)
    for axis, rho in zip(axes, values, strict=True):
        here = pairs[pairs.rho_e == rho]
        truth = here.truth.iloc[0]
        for (name, negatives), group in here.groupby(["estimator", "negatives"]):
            style, label = "o-" if negatives == "batch" else "s:", f"{name}, negatives of the {negatives}"
            axis.plot(group.steps, group["mean"], style, markersize=4, color=ESTIMATOR[name], label=label)
        axis.axhline(truth, color="0.3", linewidth=1, label="I(X1;X2|Y)")
        axis.axhline(truth + math.log(BINS), color="0.3", linewidth=1, linestyle="--", label="I(X1;X2|Y) + H(Y)")
        axis.set(yscale="symlog", title=f"I(X1;X2|Y) = {truth:.2f}")
        axis.set_yticks([0, 1, 2, 5, 10, 40], ["0", "1", "2", "5", "10", "40"])
        _log_ticks(axis, "steps of the critic", pairs.steps)
    axes[0].set_ylabel("estimate in nats")
    legend_beside(axes)
    return finish(figure)


def _log_ticks(axis: Axes, label: str, values: pd.Series) -> None:
    """A logarithmic x axis with a tick at each value that occurs."""
    axis.set(xscale="log", xlabel=label)
    ticks = sorted(values.unique())
    axis.set_xticks(ticks, [f"{value:.0f}" for value in ticks])
    axis.xaxis.set_minor_locator(plt.NullLocator())


def referees(lines: pd.DataFrame) -> pd.DataFrame:
    """Discrete pairs, and the k-nearest-neighbour estimator where it is valid: estimate beside what is expected."""
    shown = lines[lines.toy.str.startswith("discrete") | (lines.critic == "none")]
    return shown[["toy", "d", "estimator", "truth", "expected", "mean", "se", "N"]].round(3).reset_index(drop=True)
