"""An explorer for one utterance at a time, for notebooks: what FINE sees, where it looks, what a modality is worth."""

from dataclasses import dataclass, replace
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from finelib.data.face_frames import FaceFrame
from finelib.data.features import Batch, Corpus
from finelib.fine import FINE
from finelib.views import attended
from finelib.views.style import COLOURS, NAMES, png, shortened

EVERYTHING = "nothing muted"


@dataclass(frozen=True)
class Look:
    """One utterance through the model."""

    frames: dict[str, Float[Tensor, "T d"]]  # of each modality, standardised
    attention: dict[str, Float[Tensor, "R T"]]  # of each modality, R = E * l rows by expert, then query
    router: dict[str, Float[Tensor, "E"]]  # probabilities of each modality
    norms: dict[str, float]  # "T STR" and so on -> norm of the averaged features
    prediction: float  # with everything that is not muted
    without: dict[str, float]  # modality -> prediction when that one is muted too


def mute(batch: Batch, m: str) -> Batch:
    """The batch with no real frame left in a modality: the model is given padding in its place."""
    features = batch.features | {m: torch.zeros_like(batch.features[m])}
    return replace(batch, features=features, mask=batch.mask | {m: torch.zeros_like(batch.mask[m])})


@torch.no_grad()
def look(model: FINE, batch: Batch, muted: tuple[str, ...] = ()) -> Look:
    """Run a batch of one utterance and keep what a person would look at.

    Raises:
        ValueError: the batch holds more than one utterance.
    """
    if len(batch) != 1:
        raise ValueError(f"explorer: found a batch of {len(batch)}, expected one utterance")
    model.eval()
    for m in muted:
        batch = mute(batch, m)
    inputs, output = model.inputs(batch), model(batch)
    frames = {m: inputs[m][0] for m in model.modalities}  # each (1, T, d)
    attention = model.moq.attention(frames, {m: inputs[m][1] for m in model.modalities})  # each (1, E, l, T)
    kinds = {"STR": output.features.str_, "UTR": output.features.utr}
    return Look(
        {m: x[0] for m, x in frames.items()},
        {m: attention[m][0].flatten(0, 1) for m in model.modalities},
        {m: output.moq[m].router[0] for m in model.modalities},
        {f"{m} {kind}": float(x[m].mean(1).norm()) for m in model.modalities for kind, x in kinds.items()},
        float(output.prediction),
        {m: float(model(mute(batch, m)).prediction) for m in model.modalities if m not in muted},
    )


def draw(
    seen: Look, label: float, low: float, high: float, queries: int, shown: FaceFrame | str | None = None
) -> Figure:
    """Frames and attention over time, then router weights, feature norms, and predictions.

    Args:
        shown: the picture at the video frame that is attended most, which is marked then, or why there is none.
    """
    count, beside = len(seen.frames), 0 if shown is None else 3.2  # inches
    figure = plt.figure(figsize=(9 + beside, 1.9 * count + 2.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.9 * count, 2.2])
    if shown is not None:
        top, right = top.subfigures(1, 2, width_ratios=[9, beside])
        attended.draw(right.subplots(), shown)
    axes = top.subplots(count, 2, squeeze=False)
    for row, m in zip(axes, seen.frames, strict=True):
        frames, experts = seen.frames[m].T.numpy(), len(seen.router[m])
        row[0].imshow(frames, aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, interpolation="nearest")
        row[0].set(ylabel=NAMES[m], yticks=[])
        row[1].imshow(seen.attention[m].numpy(), aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
        middles = np.arange(experts) * queries + (queries - 1) / 2
        row[1].set_yticks(middles, [f"expert {e}" for e in range(experts)])
        if m == "V" and isinstance(shown, FaceFrame):
            row[1].axvline(attended.most(seen.attention[m]), color="white", linestyle=":", linewidth=1.2)
    for column, title in zip(axes.T, ("features over time", "attention of each expert's queries"), strict=True):
        column[0].set_title(title)
        column[-1].set_xlabel("frame")
        for axis in column:
            axis.tick_params(labelsize=7)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _summary(bottom.subplots(1, 3, width_ratios=[1, 1.2, 1.4]), seen, label, low, high)
    plt.close(figure)
    return figure


def _summary(axes, seen: Look, label: float, low: float, high: float) -> None:
    width = 0.8 / len(seen.router)
    for i, (m, router) in enumerate(seen.router.items()):
        axes[0].bar(np.arange(len(router)) + i * width, router.numpy(), width, color=COLOURS[m], label=NAMES[m])
    axes[0].set(title="router", xlabel="expert", ylim=(0, 1), xticks=range(len(next(iter(seen.router.values())))))
    axes[0].legend(frameon=False, fontsize=7)
    axes[1].bar(list(seen.norms), list(seen.norms.values()), color=[COLOURS[name[0]] for name in seen.norms])
    axes[1].set_title("norm of each feature group")
    axes[1].tick_params(axis="x", rotation=40)
    names = ["label", "prediction", *(f"without {NAMES[m]}" for m in seen.without)]
    values = [label, seen.prediction, *seen.without.values()]
    bars = axes[2].barh(names, values, color=["0.4", "0.65", *(COLOURS[m] for m in seen.without)])
    axes[2].bar_label(bars, fmt="%+.2f", padding=3, fontsize=7)
    axes[2].axvline(0, color="black", linewidth=0.6)
    span = 1.25 * max(abs(low), abs(high), *map(abs, values))
    axes[2].set(title="prediction, and with one more muted", xlim=(-span if low < 0 else 0, span))
    axes[2].invert_yaxis()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
        axis.title.set_fontsize(9)


def explorer(
    model: FINE, corpus: Corpus, split: str = "test", folder: Path | str | None = None, cache: Path | None = None
) -> ipywidgets.VBox:
    """Choose an utterance and mute a modality of a model with Q-Formers; the picture below follows.

    Args:
        folder: of a corpus made from recordings: where they lie. The picture that is attended most is shown then, and
            is in whatever is published of the notebook.
        cache: as in ``finelib.load``.

    Raises:
        DataError, OSError: ``clips.csv`` of the folder cannot be read.
    """
    pictures = None if folder is None else attended.Pictures(folder, corpus, cache)
    part = corpus.splits[split]
    hidden = corpus.kind == "public"  # recordings of people, and executed notebooks are published
    named = [(f"{i}" if hidden else f"{i}: {name}", i) for i, name in enumerate(part.ids)]
    which = ipywidgets.Dropdown(options=named, description="utterance")
    muted = ipywidgets.ToggleButtons(options=[EVERYTHING, *(NAMES[m] for m in model.modalities)], description="mute")
    said, picture = ipywidgets.Label(), ipywidgets.Image(format="png", layout={"max_width": "100%"})

    def shown(seen: Look, chosen: tuple[str, ...]) -> FaceFrame | str | None:
        if pictures is None:
            return None
        if "V" not in model.modalities:
            return "the model reads no video"
        if "V" in chosen:
            return "video is muted"
        if not part.frames["V"].length[which.value]:
            return "the clip has no picture with a face"
        return pictures.at(part.ids[which.value], attended.most(seen.attention["V"]))

    def show(_change: object = None) -> None:
        chosen = tuple(m for m in model.modalities if NAMES[m] == muted.value)
        seen = look(model, corpus.batch([which.value], split, model.modalities), chosen)
        label, text = float(part.label[which.value]), "" if hidden else shortened(part.text[which.value])
        said.value = f"{text} label {label:+.2f}, prediction {seen.prediction:+.2f}".strip()
        about = label, corpus.info.label_low, corpus.info.label_high, model.config.queries
        picture.value = png(draw(seen, *about, shown(seen, chosen)), 90)

    for widget in (which, muted):
        widget.observe(show, "value")
    show()
    return ipywidgets.VBox([which, muted, said, picture])
