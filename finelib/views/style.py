"""What all pictures have in common: one palette, one way to save, names of the modalities, the pages' templates."""

import base64
import io
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from finelib.data.features import MODALITIES
from finelib.runs.records import write_atomically

# colour-blind safe (seaborn's "colorblind")
BLUE, ORANGE, GREEN, RED, PURPLE = sns.color_palette("colorblind").as_hex()[:5]
GREY = "#808080"
COLOURS = dict(zip(MODALITIES, (BLUE, ORANGE, GREEN), strict=True))
NAMES = {"T": "text", "A": "audio", "V": "video"}
# blue, grey, red as in the paper's Figure 5; dark, light and middling when printed in grey
SENTIMENT = {-1: "#0b4f9e", 0: "#b4b4b4", 1: "#e0533d"}

_TEMPLATES = Environment(
    loader=PackageLoader("finelib.views"),
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=select_autoescape(["html"], default=False),
)


def save(figure: Figure, name: str, folder: Path, caption: str | None = None, dpi: int = 170) -> Figure:
    """Write folder/NAME.png and .pdf, with a caption also .md, each in one move, and return the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    for form in ("png", "pdf"):
        partial = folder / f".{name}.{form}.{os.getpid()}.partial"
        figure.savefig(partial, format=form, dpi=dpi)
        os.replace(partial, folder / f"{name}.{form}")
    if caption is not None:
        write_atomically(folder / f"{name}.md", caption + "\n")
    return figure


def panels(
    count: int, width: float, height: float, beside: float = 0.0, sharey: bool = True
) -> tuple[Figure, np.ndarray]:
    """A row of panels, each of this width (inches), with room ``beside`` it for a legend: the figure, axes (count,)."""
    size = (count * width + beside, height)
    figure, axes = plt.subplots(1, count, figsize=size, layout="constrained", sharey=sharey, squeeze=False)
    return figure, axes[0]


def legend_beside(axes: np.ndarray) -> None:
    """One legend at the right of the last panel for what is drawn in all of them."""
    handles = {}
    for axis in axes:
        handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    axes[-1].legend(handles.values(), handles, frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


def finish(figure: Figure) -> Figure:
    """Take off the upper and right frame, and close: a notebook shows what a cell returns, and an open figure twice."""
    sns.despine(figure)
    plt.close(figure)
    return figure


def tint(colour: str, share: float = 0.18) -> str:
    """A pale form of a colour: that share of it, the rest white."""
    return to_hex([1 - share * (1 - part) for part in to_rgb(colour)])


def png(figure: Figure, dpi: int = 110, metadata: dict | None = None) -> bytes:
    """The figure as a PNG file, with ``metadata`` in its text fields."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata=metadata)
    return out.getvalue()


def data_uri(picture: bytes) -> str:
    """A PNG file as the address of an image in a self-contained page."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def shortened(text: str, most: int = 300) -> str:
    """A text as it is, or its first ``most`` characters and an ellipsis."""
    return text if len(text) <= most else text[:most] + "…"


def render(template: str, **values: object) -> str:
    """A template of ``views/templates``; in .html what is filled in is escaped."""
    return _TEMPLATES.get_template(template).render(**values)
