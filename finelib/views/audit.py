"""The audit of the printed numbers as pictures, and its files (notebook ``12_audit``)."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finelib.paper.audit import AGREE, OFF, ON, SILENT, false_alarms, gaps, lattice, lattice_summary
from finelib.runs.options import Options
from finelib.runs.records import write_atomically
from finelib.views import style
from finelib.views.style import BLUE, GREEN, ORANGE, PURPLE, RED

DRAWS = {"smoke": 2000, "demo": 20000, "paper": 20000}
VERDICTS = {ON: ("o", BLUE), OFF: ("X", ORANGE), SILENT: ("o", "none")}  # marker, colour


def write_audit(options: Options) -> dict[str, pd.DataFrame]:
    """cells, summary, false_alarms, gaps; written to figures/audit.{json,png,pdf} below ``options.out``."""
    cells, alarms = lattice(), false_alarms(DRAWS[options.preset])
    found = {"cells": cells, "summary": lattice_summary(cells), "false_alarms": alarms, "gaps": gaps()}
    style.save(overview(found), "audit", options.figures)
    content = {name: json.loads(frame.to_json(orient="records")) for name, frame in found.items()}
    write_atomically(options.figures / "audit.json", json.dumps(content, indent=1))
    return found


def overview(found: dict[str, pd.DataFrame]) -> Figure:
    """Left: which accuracies of the paper's own runs are on the lattice. Right: gaps to FINE in standard errors."""
    cells = found["cells"]
    own = cells[(cells.row == "FINE") | (cells.table >= 5)]
    names = list(dict.fromkeys(f"{t}: {r}" for t, r in zip(own.table, own.row, strict=True)))
    size = (8.6, 0.9 + 0.235 * len(names))
    sheet, (left, right) = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True, width_ratios=[1, 2])
    for cell in own.itertuples():
        marker, colour = VERDICTS[cell.verdict]
        column = (cell.metric != "ACC-2") + 0.22 * (cell.n == 3290)  # two test splits side by side
        place, edge = names.index(f"{cell.table}: {cell.row}"), {"markeredgecolor": "0.4", "markeredgewidth": 0.5}
        left.plot(column, place, marker, color=colour, markersize=7, **edge)
    left.set(xticks=[0, 1], xticklabels=["ACC-2", "finer"], xlim=(-0.5, 1.5), title="one run's count?")
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    for line in found["gaps"].query("metric == 'ACC-2' and table >= 5").to_dict("records"):
        place = names.index(f"{line['table']}: {line['row']}")
        ends = [line["gap"] / line[f"s.e. {end}"] for end in ("least", "most")]
        right.plot(ends, [place, place], color="0.6", linewidth=1.5)
        right.plot(line["in s.e."], place, "o", color=BLUE, markersize=5)
    right.set(xlabel="ACC-2 below FINE, in standard errors", xscale="symlog", title="more than the split's accident?")
    right.set_xticks([0, 1, 2, 5, 10, 20, 40], ["0", "1", "2", "5", "10", "20", "40"])
    right.axvspan(-0.2, 2, color="0.93", zorder=0)
    right.set_xlim(-0.1, 100)
    handles = [
        *(Line2D([], [], ls="", marker=m, color=c, markeredgecolor="0.4", label=v) for v, (m, c) in VERDICTS.items()),
        Line2D([], [], marker="o", color=BLUE, linestyle="", label=f"methods agree on {AGREE:.0%}"),
        Line2D([], [], color="0.6", label="least possible disagreement to independent errors"),
    ]
    sheet.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return style.finish(sheet)


def alarm_rates(rates: pd.DataFrame) -> Figure:
    """How often the lattice test says "off", by what the number is and by the size of the split."""
    sheet, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    sizes = sorted(set(rates.n))
    for place, (what, group) in enumerate(rates.groupby("what", sort=False)):
        ends = np.clip([group.off - group.low, group.high - group.off], 0, None)  # an end may miss 0 by rounding
        look = {"fmt": "osD^v"[place], "color": (BLUE, ORANGE, GREEN, RED, PURPLE)[place]}
        places = np.arange(len(sizes)) + 0.12 * (place - 2)
        axis.errorbar(places, group.off, ends, label=what, markersize=5, linewidth=1, **look)
    axis.axhline(0, color="0.8", linewidth=1, zorder=0)
    axis.set(xlabel="test utterances n", ylabel='share found "off the lattice"', ylim=(-0.03, 1.03))
    axis.set_xticks(range(len(sizes)), [str(n) for n in sizes])
    style.legend_beside([axis])
    return style.finish(sheet)
