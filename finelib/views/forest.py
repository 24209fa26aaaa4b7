"""TODO."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import plotly.graph_objects
import plotly.subplots
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finelib.paper import comparisons
from finelib.paper.table import Row
from finelib.views.style import COLOURS, finish

FOREST = (("corr", 1, "Δ Corr"), ("acc2_nonzero", 100, "Δ ACC-2 (points)"))  # metric, factor, axis title


def forest(rows: list[Row], printed: list[Row] = ()) -> Figure:
    """Each row's difference to FINE with its 95 % interval, in Corr and in points of ACC-2.

    Filled: still different from 0 after Holm's correction. Diamonds: the gap printed in the paper, on another corpus.
    """
    rows = [row for row in rows if row.differences]
    figure, axes = plt.subplots(1, 2, figsize=(9, 1.1 + 0.27 * len(rows)), layout="constrained", sharey=True)
    gaps, blue = _printed_gaps(printed), COLOURS["T"]
    for axis, (metric, factor, title) in zip(axes, FOREST, strict=True):
        axis.axvline(0, color="grey", linewidth=1)
        for place, row in enumerate(reversed(rows)):
            found = row.differences[metric]
            clear = found["p_holm"] is not None and found["p_holm"] < 0.05
            if found["low"] is not None:
                axis.plot([factor * found["low"], factor * found["high"]], [place] * 2, color=blue, linewidth=1.4)
            axis.plot(factor * found["mean"], place, "o", color=blue, markerfacecolor=blue if clear else "white")
            if metric == "acc2_nonzero" and row.name in gaps:
                axis.plot(gaps[row.name], place, "D", color=COLOURS["A"], markerfacecolor="none", markersize=5)
        axis.set(xlabel=title, ylim=(-0.7, len(rows) - 0.3))
    axes[0].set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    marks = [("o", blue, blue, "differs, p (Holm) < .05"), ("o", blue, "white", "not shown to differ")]
    marks += [("D", COLOURS["A"], "none", "gap printed in the paper")] if gaps else []
    handles = [
        Line2D([], [], linestyle="", marker=m, color=c, markerfacecolor=f, label=text) for m, c, f, text in marks
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize="small")
    return finish(figure)


def forest_interactive(rows: list[Row], printed: list[Row] = ()) -> plotly.graph_objects.Figure:
    """The same as ``forest`` for a browser: hover shows difference, interval, p and seeds."""
    rows = [row for row in rows if row.differences]
    figure = plotly.subplots.make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03)
    gaps, names = _printed_gaps(printed), [row.name for row in reversed(rows)]
    for column, (metric, factor, title) in enumerate(FOREST, 1):
        found = [row.differences[metric] for row in reversed(rows)]
        mean = [factor * f["mean"] for f in found]
        up, down = (
            [0 if f[side] is None else factor * abs(f[side] - f["mean"]) for f in found] for side in ("high", "low")
        )
        figure.add_scatter(
            x=mean,
            y=names,
            mode="markers",
            marker={"color": "#0173b2", "size": 8},
            name=title,
            row=1,
            col=column,
            error_x={"type": "data", "array": up, "arrayminus": down},
            text=[
                f"p (Holm) {comparisons.p_text(f['p_holm'])}, {f['seeds']} seeds, {f['utterances']} utterances"
                for f in found
            ],
        )
        figure.add_vline(0, line_color="grey", line_width=1, row=1, col=column)
        figure.update_xaxes(title=title, row=1, col=column)
    shown = [name for name in names if name in gaps]
    if shown:
        figure.add_scatter(
            x=[gaps[name] for name in shown],
            y=shown,
            mode="markers",
            name="gap printed in the paper",
            row=1,
            col=2,
            marker={"symbol": "diamond-open", "color": "#de8f05", "size": 8},
        )
    return figure.update_layout(
        template="plotly_white", height=160 + 26 * len(rows), showlegend=False, margin={"t": 20}, hovermode="closest"
    )


def save_forest(name: str, rows: list[Row], printed: list[Row], folder: Path) -> Figure:
    """Write folder/NAME.png, .pdf and .html (self-contained), and return the static figure."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = forest(rows, printed)
    for form in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{form}", dpi=150)
    forest_interactive(rows, printed).write_html(folder / f"{name}.html", include_plotlyjs=True)
    return figure


def _printed_gaps(printed: list[Row]) -> dict[str, float]:
    """row -> printed ACC-2 minus FINE's, in points; FINE is the last printed row of Table 5 and of Table 6."""
    if not printed:
        return {}
    return {row.name: 100 * (row.printed["acc2_nonzero"] - printed[-1].printed["acc2_nonzero"]) for row in printed[:-1]}
