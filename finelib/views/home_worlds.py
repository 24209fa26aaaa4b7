"""All systems by all home worlds, and what each system loses at home without its part."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from finelib.study.home_worlds import LOSES, REACHES, RIDGE_BELOW
from finelib.views.style import BLUE, GREY, ORANGE, finish


def matrix(content: dict) -> Figure:
    """Shares of the way to the oracle in percent, systems in the order of their homes; a frame marks each home."""
    worlds = list(content["worlds"])
    homes = [s for made in content["worlds"].values() for s in made["homes"]]
    rows = [s for s in content["matrix"] if s not in homes] + [s for s in homes if s in content["matrix"]]
    means = pd.DataFrame({s: {w: found["mean"] for w, found in content["matrix"][s].items()} for s in rows}).T
    means = (100 * means.reindex(index=rows, columns=worlds)).round() + 0.0  # no -0
    figure, axis = plt.subplots(figsize=(2.2 + 0.52 * len(worlds), 1.4 + 0.27 * len(rows)), layout="constrained")
    look = {"vmin": 0, "vmax": 100, "cmap": "Blues", "annot": True, "fmt": ".0f", "annot_kws": {"fontsize": 8}}
    sns.heatmap(means, ax=axis, linewidths=0.4, cbar_kws={"label": "% of the way to the oracle (test Corr)"}, **look)
    for column, world in enumerate(worlds):
        for system in content["worlds"][world]["homes"]:
            if system in rows:
                place = (column, rows.index(system))
                axis.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=ORANGE, linewidth=2, clip_on=False))
    axis.tick_params(axis="x", rotation=40, labelsize="small", length=0)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    axis.tick_params(axis="y", rotation=0, labelsize="small", length=0)
    axis.set_title("Home worlds, planted data: each system's home is framed", fontsize="medium")
    return finish(figure)


def at_home(content: dict) -> Figure:
    """Every system at home: ridge, the system without its part, the whole system; a dot per seed, means larger."""
    verdicts = content["verdicts"]
    figure, axis = plt.subplots(figsize=(6.4, 1.2 + 0.27 * len(verdicts)), layout="constrained")
    for place, (system, found) in enumerate(verdicts.items()):
        own = content["matrix"][system][found["world"]]["values"]
        without = found.get("without", {"values": []})["values"]
        for values, colour, mark in ((without, GREY, "s"), (own, BLUE, "o")):
            axis.plot(values, [place] * len(values), ".", color=colour, alpha=0.4)
            if values:
                axis.plot(np.mean(values), place, mark, color=colour, markersize=6)
        axis.plot(found["ridge"], place, "|", color=ORANGE, markersize=10, markeredgewidth=2)
    axis.axvline(REACHES, color="0.6", linestyle=":", linewidth=1)
    axis.axvline(RIDGE_BELOW, color=ORANGE, linestyle=":", linewidth=1)
    named = [f"{s} ({v['world']}){' *' if v['holds'] is False else ''}" for s, v in verdicts.items()]
    axis.set_yticks(range(len(named)), named, fontsize="small")
    axis.invert_yaxis()
    axis.set(xlim=(-0.15, 1.05), xlabel="share of the way from a constant to the oracle (test Corr)")
    marks = [(BLUE, "o", "whole"), (GREY, "s", "without its part"), (ORANGE, "|", "ridge on averaged frames")]
    if not any("without" in found for found in verdicts.values()):
        del marks[1]
    for colour, mark, label in marks:
        axis.plot([], [], mark, color=colour, label=label)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    missed = (
        f"* less than {REACHES:.0%}, or ridge not below {RIDGE_BELOW:.0%}, or a loss below {LOSES:.0%} or not shown"
    )
    axis.set_title(
        "At home" + (f"\n{missed}" if any(v["holds"] is False for v in verdicts.values()) else ""), fontsize="small"
    )
    return finish(figure)
