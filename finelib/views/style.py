"""TODO."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from finelib.data.features import MODALITIES
from finelib.runs.records import write_atomically


def save(name: str, figure: Figure, caption: str, folder: Path) -> Figure:
    """Write folder/NAME.png, .pdf and .md (the caption), and return the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    for form in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{form}", dpi=170)
    write_atomically(folder / f"{name}.md", caption + "\n")
    return figure


NAMES = {"T": "text", "A": "audio", "V": "video"}
COLOURS = dict(zip(MODALITIES, sns.color_palette("colorblind", 3), strict=True))


def shortened(text: str, most: int = 300) -> str:
    """A text as it is, or its first ``most`` characters and an ellipsis."""
    return text if len(text) <= most else text[:most] + "…"


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def data_uri(picture: bytes) -> str:
    """A PNG file as the address of an image in a self-contained page."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def finish(figure: Figure) -> Figure:
    sns.despine(figure)
    plt.close(figure)  # a notebook shows what a cell returns; an open figure would be shown a second time
    return figure
