"""What ``benchmarks/*.json`` hold, drawn for ``performance.ipynb``: where a step's time goes, what grows with what.

Nothing is measured here. Every figure names the machine's load or threads where they matter; the commands that made
the files stand in benchmarks/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from finelib.data.corpora import CORPORA
from finelib.views.style import BLUE, GREY, ORANGE, finish

BENCHMARKS = Path(__file__).resolve().parent
HERE, OTHER, FINE = BLUE, GREY, ORANGE
PEERS = {"tfn": "TFN", "lmf": "LMF", "lf_dnn": "LF-DNN", "mfn": "MFN", "mult": "MulT"}  # key of mmsa.json -> name
GROWTH = {  # growth.json: what grows -> its axis, and the curves that are drawn
    "rows": ("training utterances", {"cpu_seconds": "CPU seconds of an epoch"}),
    "frames": ("length of the sequences, MOSEI's = 1", {"cpu_seconds": "CPU seconds of a step"}),
    "batch": ("batch size", {"cpu_seconds": "CPU seconds of a step"}),
    "seeds": ("seeds, one after another", {"cpu_seconds": "CPU seconds"}),
}


def read(name: str, folder: Path = BENCHMARKS) -> Any:
    """A benchmark's figures.

    Raises:
        FileNotFoundError: it was not run; says how to run it.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; benchmarks/README.md says what makes it")
    return json.loads(path.read_text())


# ------------------------------------------------------------------------------------------------- a step


def step_frame(found: dict) -> pd.DataFrame:
    """step.json as a table: one line per corpus, configuration and number of threads."""
    return pd.DataFrame(
        [
            {
                "corpus": CORPORA[row["corpus"]].title,
                "configuration": row["configuration"],
                "threads": row["threads"],
                "parameters": row["parameters"],
                "GFLOP": row["gflop"],
                "GB moved": row["gbyte"],
                "ms": row["ms"],
                "samples per second": row["samples_per_second"],
                "of product rate": row["share_of_product_rate"],
                "of attainable": row["share_of_attainable"],
            }
            for row in found["rows"]
        ]
    )


def step_parts(found: dict, threads: int = 1) -> Figure:
    """Where a step's time goes, by kind of operation, while each is timed (which "between the operations" holds too).

    A dot marks the time that the operations need at least, a diamond the step without the timing.
    """
    rows = [row for row in found["rows"] if row["threads"] == threads]
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["ms_by_kind"]))
    palette = dict(zip(kinds, sns.color_palette("tab20", len(kinds)), strict=True))
    names = list(dict.fromkeys(row["configuration"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(3 + 4 * len(names), 3.4), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        group = [row for row in rows if row["configuration"] == name]
        left = np.zeros(len(group))
        for kind in kinds:
            width = np.array([row["ms_by_kind"].get(kind, 0.0) for row in group])
            axis.barh(range(len(group)), width, left=left, color=palette[kind], label=kind)
            left += width
        axis.plot([row["attainable_ms"] for row in group], range(len(group)), "ko", label="attainable")
        axis.plot([row["ms"] for row in group], range(len(group)), "kD", mfc="w", label="the step, nothing timed")
        axis.set(xlabel="milliseconds, operations timed", title=f"{name} configuration, {threads} thread")
        axis.set_yticks(range(len(group)), [CORPORA[row["corpus"]].title for row in group])
        axis.invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return finish(figure)


def beside_mmsa(folder: Path = BENCHMARKS) -> Figure:
    """Training samples per second: MMSA's model, ours, and FINE (default) in the same run, for each compared system."""
    content = read("mmsa", folder)
    found = {name: content[key] for key, name in PEERS.items() if key in content}
    sides = {"peer": ("MMSA's", OTHER), "ours": ("ours", HERE), "fine": ("FINE, default", FINE)}
    figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
    for i, (side, (label, colour)) in enumerate(sides.items()):
        height = [one[f"{side}_samples_per_s"] for one in found.values()]
        bars = axis.bar(np.arange(len(found)) + 0.27 * (i - 1), height, 0.26, label=label, color=colour)
        axis.bar_label(bars, fmt=lambda x: f"{x:,.0f}" if x >= 10 else f"{x:.1f}", fontsize=8)
    axis.set_xticks(range(len(found)), found)
    axis.set(ylabel="training samples per second", yscale="log", title="Beside MMSA, CMU-MOSI's shapes, two threads")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return finish(figure)


# ---------------------------------------------------------------------------------------------- many runs


def scaling(found: dict) -> Figure:
    """Speed-up of the grid by workers: simulated from measured durations and Ray's measured overhead."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, preset in zip(axes, ("demo", "paper"), strict=True):
        grid = found[preset]
        curve = pd.DataFrame(grid["curve"])
        axis.plot(curve["workers"], curve["workers"], color=OTHER, ls=":", label="as many times as workers")
        axis.plot(curve["workers"], curve["speed_up"], "o-", color=HERE, label="in the order of the tables")
        longest_first, most = grid["work"] / curve["longest_first"], grid["work"] / grid["bounds"]["longest_task"]
        axis.plot(curve["workers"], longest_first, "s--", color=FINE, ms=4, label="longest first")
        axis.axhline(most, color="black", lw=0.8)
        axis.text(1, most, "as long as the longest run", va="bottom", fontsize=8)
        axis.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up")
        hours = grid["work"] / 3600
        about = f"{grid['runs']} runs, {hours:,.{0 if hours > 10 else 1}f} hours of one worker"
        axis.set_title(f"{preset} preset: {about}", fontsize=10)
    axes[0].legend(fontsize=8)
    return finish(figure)


def together(found: dict) -> Figure:
    """Milliseconds per step and seed, seeds trained together (vmapped) and one after another."""
    names = list(dict.fromkeys(row["configuration"] for row in found["rows"]))
    figure, axes = plt.subplots(1, len(names), figsize=(4.5 * len(names), 3.2), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        rows = pd.DataFrame([row for row in found["rows"] if row["configuration"] == name])
        axis.plot(rows["seeds"], rows["ms_per_step_and_seed_separate"], "o-", color=OTHER, label="one after another")
        axis.plot(rows["seeds"], rows["ms_per_step_and_seed_together"], "o-", color=HERE, label="together")
        axis.set(xlabel="seeds", ylabel="ms per step and seed", title=f"{name} configuration, one thread")
        axis.set_ylim(0)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    return finish(figure)


# -------------------------------------------------------------------------------------------------- growth


def growth(found: dict) -> Figure:
    """Time against rows, frames, batch size and seeds in log-log, with the fitted exponents."""
    figure, axes = plt.subplots(1, len(GROWTH), figsize=(13, 3.2), layout="constrained")
    for axis, (name, (label, curves)) in zip(axes, GROWTH.items(), strict=True):
        for key, title in curves.items():
            _power(axis, found["growth"][name], key, title)
        axis.set(xlabel=label, xscale="log", yscale="log")
        axis.set_xticks(x := found["growth"][name]["x"], [f"{size:g}" for size in x])
        for each in (axis.xaxis, axis.yaxis):
            each.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    return finish(figure)


def memory_growth(found: dict) -> Figure:
    """Anonymous memory against rows, held in memory and streamed."""
    figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, quantity, title, colour in (
        ("rows", "in_memory_mib", "in memory", OTHER),
        ("streamed", "streamed_mib", "streamed", HERE),
    ):
        one = found["growth"][name]
        axis.plot(one["x"], one["curves"][quantity]["y"], "o-", label=title, color=colour)
    axis.set(xlabel="training utterances", ylabel="anonymous memory, MiB", ylim=(0, None))
    axis.legend()
    return finish(figure)


def _power(axis: Axes, found: dict, key: str, title: str) -> None:
    x, curve = np.array(found["x"], float), found["curves"][key]
    y, b, error = np.array(curve["y"]), curve["exponent"], curve["standard_error"]
    axis.plot(x, y, "o", color=HERE)
    axis.plot(x, np.exp(np.log(y).mean() + b * (np.log(x) - np.log(x).mean())), "-", color=HERE, lw=1)
    axis.set_title(f"{title}\nexponent {b:.2f} ± {error:.2f}", fontsize=10)


def streamed(found: dict) -> pd.DataFrame:
    """larger_than_memory.json as a table: rate, share of the in-memory rate and memory, for each queue."""
    lines = []
    for queue in ("queue_as_configured", "queue_of_mosei"):
        part = found[queue]
        for arm, figures in part["arms"].items():
            lines.append(
                {
                    "queue slots": part["queue_slots"],
                    "data": arm.replace("_", " "),
                    "samples per second": figures["utterances_per_second_total"],
                    "of the in-memory rate": figures["utterances_per_second_median_ratio"],
                    "GB read": figures["read_gb"],
                    "anonymous MiB": part["peak_anonymous_mib"] if arm == "streamed" else np.nan,
                }
            )
    return pd.DataFrame(lines)
