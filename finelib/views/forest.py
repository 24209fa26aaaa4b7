"""Differences to FINE with their intervals: the forests beside Tables 5 and 6."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import plotly.graph_objects
import plotly.subplots
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finelib.paper import comparisons, tables
from finelib.paper.table import Row, Table
from finelib.runs.records import write_atomically
from finelib.views import style
from finelib.views.style import BLUE, ORANGE

FOREST = (("corr", 1, "Δ Corr"), ("acc2", 100, "Δ ACC-2 (points)"))  # metric, factor, axis title


def forest(rows: list[Row], printed: list[Row] = ()) -> Figure:
    """Each row's difference to FINE with its 95 % interval, in Corr and in points of ACC-2.

    Filled: still different from 0 after Holm's correction. Diamonds: the gap printed in the paper, on another corpus.
    """
    rows = [row for row in reversed(rows) if row.differences]  # from the bottom up
    gaps = _printed_gaps(printed)
    figure, axes = plt.subplots(1, 2, figsize=(9, 1.1 + 0.27 * len(rows)), layout="constrained", sharey=True)
    for axis, (metric, factor, title) in zip(axes, FOREST, strict=True):
        axis.axvline(0, color="grey", linewidth=1)
        for place, row in enumerate(rows):
            found = _difference(row, metric)
            clear = found["p_holm"] is not None and found["p_holm"] < 0.05
            if found["low"] is not None:
                axis.plot([factor * found["low"], factor * found["high"]], [place] * 2, color=BLUE, linewidth=1.4)
            axis.plot(factor * found["mean"], place, "o", color=BLUE, markerfacecolor=BLUE if clear else "white")
            if metric == "acc2" and row.name in gaps:
                axis.plot(gaps[row.name], place, "D", color=ORANGE, markerfacecolor="none", markersize=5)
        axis.set(xlabel=title, ylim=(-0.7, len(rows) - 0.3))
        axis.locator_params(axis="x", nbins=5)  # ten labels of five characters would touch
    axes[0].set_yticks(range(len(rows)), [row.name for row in rows])
    marks = [("o", BLUE, BLUE, "differs, p (Holm) < .05"), ("o", BLUE, "white", "not shown to differ")]
    if gaps:
        marks.append(("D", ORANGE, "none", "gap printed in the paper"))
    handles = [Line2D([], [], ls="", marker=m, color=c, markerfacecolor=f, label=text) for m, c, f, text in marks]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize="small")
    return style.finish(figure)


def forest_interactive(rows: list[Row], printed: list[Row] = ()) -> plotly.graph_objects.Figure:
    """The same as ``forest`` for a browser: hover shows difference, interval, p and seeds."""
    rows = [row for row in reversed(rows) if row.differences]
    names, gaps = [row.name for row in rows], _printed_gaps(printed)
    figure = plotly.subplots.make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03)
    for column, (metric, factor, title) in enumerate(FOREST, 1):
        found = [_difference(row, metric) for row in rows]
        up, down = ([_half(f, side, factor) for f in found] for side in ("high", "low"))
        look = {"marker": {"color": BLUE, "size": 8}, "error_x": {"type": "data", "array": up, "arrayminus": down}}
        tested = [comparisons.p_text(f["p_holm"]) for f in found]
        counts = [f"{f['seeds']} seeds, {f['utterances']} utterances" for f in found]
        look["text"] = [f"p (Holm) {p}, {n}" for p, n in zip(tested, counts, strict=True)]
        means, place = [factor * f["mean"] for f in found], {"row": 1, "col": column}
        figure.add_scatter(x=means, y=names, mode="markers", name=title, **look, **place)
        figure.add_vline(0, line_color="grey", line_width=1, **place)
        figure.update_xaxes(title=title, **place)
    shown = [name for name in names if name in gaps]
    if shown:
        look = {"marker": {"symbol": "diamond-open", "color": ORANGE, "size": 8}, "name": "gap printed in the paper"}
        figure.add_scatter(x=[gaps[name] for name in shown], y=shown, mode="markers", row=1, col=2, **look)
    figure.update_layout(template="plotly_white", showlegend=False, margin={"t": 20}, hovermode="closest")
    return figure.update_layout(height=160 + 26 * len(rows))


def table_forest(table: Table, folder: Path) -> Figure | None:
    """The forest of Table 5 or 6: its first measured block, with the printed gaps; folder/tableN_forest.*, or None."""
    return save_forest(first_block(table), f"table{table.number}_forest", folder, table.printed)


def component_forest(table: Table, folder: Path) -> Figure | None:
    """Table 6's blocks on planted data made for one component each; folder/table6_components.*, or None."""
    rest = [row for block in table.measured[1:] for row in block if row.differences]
    named = [replace(row, name=f"{row.name}: {tables.design_of(row)}") for row in rest]
    return save_forest(named, "table6_components", folder)


def first_block(table: Table) -> list[Row]:
    """The measured rows of the first block that has any."""
    return next(iter(table.measured), [])


def save_forest(rows: list[Row], name: str, folder: Path, printed: list[Row] = ()) -> Figure | None:
    """Write folder/NAME.png, .pdf and .html (self-contained), and return the static figure; None without rows."""
    if not any(row.differences for row in rows):
        return None
    figure = style.save(forest(rows, printed), name, folder)
    write_atomically(folder / f"{name}.html", forest_interactive(rows, printed).to_html(include_plotlyjs=True))
    return figure


def _difference(row: Row, metric: str) -> dict:
    return row.differences["corr"] if metric == "corr" else comparisons.accuracy_of(row.differences)


def _half(found: dict, side: str, factor: float) -> float:
    """From the mean to one end of the interval; 0 without one."""
    return 0.0 if found[side] is None else factor * abs(found[side] - found["mean"])


def _printed_gaps(printed: list[Row]) -> dict[str, float]:
    """row -> printed ACC-2 minus FINE's, in points; FINE is the last printed row of Table 5 and of Table 6."""
    if not printed:
        return {}
    whole = printed[-1].printed["acc2_nonzero"]
    return {row.name: 100 * (row.printed["acc2_nonzero"] - whole) for row in printed[:-1]}
