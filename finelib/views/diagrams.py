"""Figures 1 to 4 of the paper, redrawn from the code as it runs: an utterance, the model, the factorisation, FTRE.

Boxes carry the shapes of a real batch and the sizes of a real configuration; nothing in them is typed by hand.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from finelib.data import planted
from finelib.data.features import Batch, Corpus, Frames
from finelib.fine import FINE, FineOutput
from finelib.paper import significance
from finelib.views.style import BLUE, COLOURS, GREEN, GREY, NAMES, ORANGE, PURPLE, finish, render, tint

STAGES = {"input": tint(GREY), "moq": tint(BLUE), "ftre": tint(GREEN), "fusion": tint(ORANGE), "loss": tint(PURPLE)}


def utterance(corpus: Corpus, row: int = 0, split: str = "test") -> tuple[Figure, str]:
    """One utterance as FINE sees it: how much each frame stands out, and on planted data what made its label."""
    part, count = corpus.splits[split], len(corpus.modalities)
    rows, size = count + bool(part.factors), (7.2, 1.15 * count + 1.7 * bool(part.factors))
    figure, axes = plt.subplots(rows, 1, figsize=size, layout="constrained", squeeze=False)
    for axis, m in zip(axes[:, 0], corpus.modalities, strict=False):
        frames = part.frames[m]
        values = np.asarray(frames.values[frames.start[row] : frames.start[row] + frames.length[row]])
        if values.ndim == 2:
            axis.bar(np.arange(len(values)), values @ _mean_direction(frames), color=COLOURS[m], width=0.9)
            axis.set(ylabel=NAMES[m], xlim=(-1, max(len(values), 2)), yticks=[])
            axis.set_title(f"{len(values)} frames of {frames.width} numbers", fontsize=7, loc="right", pad=2)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right", "left"]].set_visible(False)
    if part.factors:
        _factor_bars(axes[-1, 0], part.factors, row)
    plt.close(figure)
    return figure, render("figure1.md", corpus=corpus, part=part, row=row)


def _mean_direction(frames: Frames) -> np.ndarray:
    """(d,), the unit vector of the mean frame; on planted data that is the cues' marker, all else has mean 0."""
    mean = np.asarray(frames.values[:20000], dtype=np.float64).mean(0)
    return mean / max(np.linalg.norm(mean), 1e-12)


def _factor_bars(axis, values: dict[str, np.ndarray], row: int) -> None:
    named = {f: w * values[f][row] for f, w in planted.DESIGNS["corpus"].weight.items()}
    axis.bar(list(named), list(named.values()), color=[COLOURS.get(f.upper(), "0.55") for f in named])
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_ylabel("adds to the label", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def architecture(model: FINE, batch: Batch) -> tuple[Figure, str]:
    """The model from frames to prediction with the shapes of one batch, and the losses that hang off it."""
    model.eval()
    with torch.no_grad():
        out = model(batch)
    c, ms = model.config, model.modalities
    figure, axis = _canvas(7.2, 5.6)
    step = 0.76 / len(ms)
    for i, m in enumerate(ms):
        x, w = 0.01 + i * step, step - 0.02
        _box(axis, x, 0.03, w, 0.09, f"{NAMES[m]} frames\n{_shape(batch.features[m])}", "input")
        experts = f"MoQ: {c.experts} Q-Formers of {c.queries} queries,\ntop {c.top_k} by the router"
        _box(axis, x, 0.19, w, 0.13, f"{experts}\n{_shape(out.moq[m].tokens)}", "moq")
        right, half = x + w / 2 + 0.005, w / 2 - 0.005
        _box(axis, x, 0.39, half, 0.09, f"shared\n{_shape(out.features.shared[m])}", "ftre")
        _box(axis, right, 0.39, half, 0.09, f"unique\n{_shape(out.features.unique[m])}", "ftre")
        _box(axis, x, 0.54, half, 0.09, f"STR\n{_shape(out.features.str_[m])}", "ftre")
        _box(axis, right, 0.54, half, 0.09, f"UTR\n{_shape(out.features.utr[m])}", "ftre")
        _arrow(axis, x + w / 2, 0.12, x + w / 2, 0.19)
        for side in (x + w / 4, x + 3 * w / 4):
            _arrow(axis, side, 0.32, side, 0.39)
            _arrow(axis, side, 0.48, side, 0.54)
            _arrow(axis, side, 0.63, side, 0.70)
    fusion = f"Transformer, {c.fusion_layers} layer{'s' if c.fusion_layers > 1 else ''}"
    tokens = f"{len(ms)} [CLS] and {2 * len(ms)} groups of {c.queries} tokens → [CLS] {_shape(out.cls)}"
    _box(axis, 0.01, 0.70, 0.74, 0.09, f"{fusion}: {tokens}", "fusion")
    _arrow(axis, 0.38, 0.79, 0.38, 0.86)
    _box(axis, 0.2, 0.86, 0.36, 0.09, f"head → prediction {_shape(out.prediction)}", "fusion")
    queue = "none" if model.queue is None else f"{len(model.queue.filled)} vectors"
    for y, text in (
        (0.905, f"L_MP  ({c.loss.upper()})"),
        (0.745, f"L_CL  {c.contrast}, queue of\n{queue}"),
        (0.585, "L_UP  from each\nmodality's STR, UTR"),
        (0.435, "L_MI  (Figure 4)"),
        (0.255, "L_aux  load balance"),
    ):
        _box(axis, 0.79, y - 0.045, 0.2, 0.09, text, "loss")
        _arrow(axis, 0.56 if y > 0.86 else 0.752, y, 0.79, y, dashed=True)
    total = sum(p.numel() for p in model.parameters())
    return figure, render("figure2.md", size=len(batch), title=model.info.title, total=total)


def overview(axis: Axes, model: FINE, batch: Batch, fontsize: float) -> None:
    """``architecture`` in short, for a small picture: one row for a modality, no losses, no shapes but the frames'."""
    c, ms, text = model.config, model.modalities, {"fontsize": fontsize}
    axis.set(xlim=(-0.005, 1.005), ylim=(-0.01, 1))
    axis.axis("off")
    row = 1 / len(ms)
    tall, half = row - 0.04, (row - 0.06) / 2
    for i, m in enumerate(ms):
        low = 1 - (i + 1) * row
        frames = " × ".join(map(str, batch.features[m].shape[1:]))
        _box(axis, 0, low, 0.15, tall, f"{NAMES[m]}\n{frames}", "input", **text)
        _box(axis, 0.19, low, 0.2, tall, f"top {c.top_k} of {c.experts}\nQ-Formers", "moq", **text)
        for x, lower, upper in ((0.43, "unique", "shared"), (0.6, "UTR", "STR")):
            _box(axis, x, low, 0.13, half, lower, "ftre", **text)
            _box(axis, x, low + half + 0.02, 0.13, half, upper, "ftre", **text)
        for x0, x1 in ((0.15, 0.19), (0.39, 0.43), (0.56, 0.6), (0.73, 0.77)):
            _arrow(axis, x0, low + tall / 2, x1, low + tall / 2)
    _box(axis, 0.77, 0, 0.23, 1 - 0.04, "Transformer\n\n↓\n\nsentiment", "fusion", **text)


def factorised_encoder(model: FINE, output: FineOutput) -> tuple[Figure, str]:
    """FTRE of one modality and the four estimates that shape it, with shapes and critics."""
    c, f, m = model.config, output.features, model.modalities[0]
    pairs, count = len(model.information.left), len(model.modalities)
    figure, axis = _canvas(7.2, 4.2)
    _box(axis, 0.01, 0.40, 0.15, 0.2, f"tokens of {NAMES[m]}\n{_shape(f.tokens[m])}", "moq")
    for y, name, part in ((0.66, "shared E^s", f.shared), (0.2, "unique E^u", f.unique)):
        _box(axis, 0.24, y, 0.15, 0.15, f"{name}\n{_shape(part[m])}", "ftre")
        _arrow(axis, 0.16, 0.5, 0.24, y + 0.075)
        _arrow(axis, 0.39, y + 0.075, 0.49, y + 0.075)
        _arrow(axis, 0.315, y if y > 0.5 else y + 0.15, 0.315, 0.57 if y > 0.5 else 0.44)
    _box(axis, 0.24, 0.44, 0.15, 0.13, f"decoder, L_recon\n{_shape(f.reconstruction[m])}", "ftre")
    _box(axis, 0.49, 0.66, 0.15, 0.15, f"STR  E^str\n{_shape(f.str_[m])}", "ftre")
    _box(axis, 0.49, 0.2, 0.15, 0.15, f"UTR  E^utr\n{_shape(f.utr[m])}", "ftre")
    _box(axis, 0.49, 0.44, 0.15, 0.13, f"label encoders\n1 → {c.label_width}: one shared,\n{count} unique", "input")
    critic = f"{c.critic}, {pairs} pairs"
    for y, text, x0, y0 in (
        (0.86, f"I_sha  InfoNCE ↑\n{critic}", 0.315, 0.81),
        (0.66, f"I_str  NCE-CLUB ↓ given Y\n{critic}", 0.64, 0.735),
        (0.2, f"I_utr  InfoNCE ↑ with Y\n{c.critic}, {count} modalities", 0.64, 0.275),
        (0.0, f"I_uni  NCE-CLUB ↓\n{critic}", 0.315, 0.2),
    ):
        _box(axis, 0.74, y, 0.25, 0.12, text, "loss")
        _arrow(axis, x0, y0, 0.74, y + 0.06, dashed=True)
    _arrow(axis, 0.64, 0.54, 0.74, 0.68, dashed=True)
    _arrow(axis, 0.64, 0.47, 0.74, 0.3, dashed=True)
    return figure, render("figure4.md", modality=NAMES[m])


def factorisation(values: dict[str, dict[str, list[float]]], title: str) -> tuple[Figure, str]:
    """Figure 3 as bars: areas of a Venn diagram cannot show that co-information may be negative."""
    parts, sources = list(next(iter(values.values()))), list(values)
    figure, axis = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    colours = dict(zip(sources[::-1], (GREEN, ORANGE, BLUE, "0.35"), strict=False))
    width = 0.8 / len(sources)
    for i, (source, by_part) in enumerate(values.items()):
        spans = [significance.interval(by_part[part]) for part in parts]
        half = [0 if s.low is None else s.mean - s.low for s in spans]
        place = np.arange(len(parts)) + (i - (len(sources) - 1) / 2) * width
        look = {"color": colours[source], "label": source, "error_kw": {"linewidth": 0.8}}
        axis.bar(place, [s.mean for s in spans], width, yerr=half if any(half) else None, **look)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xticks(range(len(parts)), parts, rotation=30, ha="right", fontsize=8)
    axis.set_ylabel("nats")
    axis.legend(frameon=False, fontsize=8)
    finish(figure)
    wholes = {source: by_part[parts[0]] for source, by_part in values.items()}
    said = "; ".join(f"{source} {np.mean(whole):.2f}" for source, whole in wholes.items())
    runs = max(map(len, wholes.values()))
    return figure, render("figure3.md", title=title, runs=runs, whole=parts[0], said=said)


def _canvas(width: float, height: float):
    figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
    axis.set(xlim=(0, 1), ylim=(-0.01, 1))
    axis.axis("off")
    plt.close(figure)
    return figure, axis


def _box(axis, x: float, y: float, width: float, height: float, text: str, stage: str, fontsize: float = 6.5) -> None:
    look = {"facecolor": STAGES[stage], "edgecolor": "0.35", "linewidth": 0.7}
    axis.add_patch(FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.012", **look))
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=fontsize, linespacing=1.35)


def _arrow(axis, x0: float, y0: float, x1: float, y1: float, dashed: bool = False) -> None:
    style = {"arrowstyle": "-|>", "linewidth": 0.8, "color": "0.25", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    axis.annotate("", (x1, y1), (x0, y0), arrowprops=style | ({"linestyle": (0, (3, 2))} if dashed else {}))


def _shape(x: torch.Tensor) -> str:
    return "(" + ", ".join(map(str, x.shape)) + ("," if x.ndim == 1 else "") + ")"
