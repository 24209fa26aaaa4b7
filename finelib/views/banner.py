"""README's picture: FINE as the code builds it, beside which of its branches hold which factor, and the variant's."""

import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle

import finelib
from finelib.data.features import Batch
from finelib.data.planted import SEEN
from finelib.fine import FINE
from finelib.paper.findings import VARIANT
from finelib.study.factors import roles
from finelib.views import diagrams
from finelib.views.style import BLUE, NAMES, ORANGE, finish, png

WIDE, NARROW = (8.9, 2.45), (3.6, 4.9)  # inches; a page shows 100 pixels of an inch
TEXT = 7.6  # points, 11 pixels as a page shows them
SOURCE = "identifiability.json"
IN_PLACE, OUT_OF_PLACE = BLUE, ORANGE
BELONGS = {"STR": "shared", "UTR": "own"}  # branch -> the role (``factors.roles``) of what belongs in it
ROWS = [(m, branch) for branch in BELONGS for m in SEEN]
KINDS = {"shared": "shared", "unique": "own", "noise": "noise"}  # what columns are called -> role


def digest(content: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(content.encode()).hexdigest()


def write_banners(folder: Path) -> None:
    """Write folder/banner.png and, for a telephone, folder/banner_narrow.png, from folder/identifiability.json.

    The files' "Source" is ``digest`` of what they were made from.
    """
    content = (folder / SOURCE).read_text()
    made = {"Software": None, "Source": digest(content)}
    torch.manual_seed(0)
    corpus = finelib.load("mosi", scale=0.1)
    model, batch = finelib.build(finelib.FineConfig(), corpus), corpus.batch(range(16), split="train")
    for name, size in {"banner": WIDE, "banner_narrow": NARROW}.items():
        (folder / f"{name}.png").write_bytes(png(banner(model, batch, json.loads(content), size), 200, made))


def banner(model: FINE, batch: Batch, probed: dict, size: tuple[float, float]) -> Figure:
    """Both panels, side by side, or one above the other where the picture is higher than wide.

    Args:
        probed: what identifiability.json holds.
        size: inches.
    """
    across = size[0] > size[1]
    figure = plt.figure(figsize=size, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(0.94, 1)) if across else figure.subfigures(2, 1)
    axis = left.subplots()
    axis.set_title("FINE, as the code builds it", fontsize=TEXT + 1, loc="left")
    diagrams.overview(axis, model, batch, TEXT)
    _who_holds_what(right, probed)
    return finish(figure)


def _who_holds_what(sheet: SubFigure, probed: dict) -> None:
    """A matrix of FINE beside the variant's: rows are groups of features, columns factors."""
    runs = probed["compared"]["FINE"]["shared_in_str"]["n"]
    sheet.suptitle(f"What do STR and UTR hold? (one planted world, {runs} runs)", fontsize=TEXT + 1, x=0.01, ha="left")
    for axis, system in zip(sheet.subplots(1, 2), ("FINE", VARIANT), strict=True):
        _matrix(axis, probed, system)
        axis.set_yticks([])
        axis.set_title(system, fontsize=TEXT, pad=3)
    named = [f"{branch} {NAMES[m]}" for m, branch in ROWS]
    sheet.axes[0].set_yticks(range(len(ROWS)), named, fontsize=TEXT)
    colours = {"in its place": IN_PLACE, "out of place": OUT_OF_PLACE, "darker: higher R²": "none"}
    shown = [Patch(color=colour, label=name) for name, colour in colours.items()]
    look = {"frameon": False, "borderpad": 0, "handlelength": 1, "handleheight": 0.9, "handletextpad": 0.4}
    sheet.legend(handles=shown, fontsize=TEXT, loc="outside lower center", ncols=3, columnspacing=0.9, **look)


def _matrix(axis: Axes, probed: dict, system: str) -> None:
    """R2 of a linear probe as the depth of a cell, whose colour says whether the factor belongs there."""
    r2, belongs, of_kind = arranged(probed, system)
    deep = np.where(belongs[..., None], to_rgb(IN_PLACE), to_rgb(OUT_OF_PLACE))
    axis.imshow(1 - r2[..., None] * (1 - deep), aspect="auto")
    for row, column in np.argwhere(belongs):
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="0.35", linewidth=0.6))
    ends, line = np.cumsum([0, *of_kind.values()]), {"color": "0.6", "linewidth": 0.8, "clip_on": False}
    for end in ends:
        axis.axvline(end - 0.5, **line)
    for end in (0, len(SEEN), len(ROWS)):
        axis.axhline(end - 0.5, **line)
    axis.spines[:].set_color("0.6")
    axis.set_xticks((ends[1:] + ends[:-1]) / 2 - 0.5, of_kind, fontsize=TEXT)
    axis.tick_params(length=0, pad=2)


def arranged(probed: dict, system: str) -> tuple[Float[np.ndarray, "G F"], Bool[np.ndarray, "G F"], dict[str, int]]:
    """R2, from 0 to 1, of every group (``ROWS``) and factor, factors of a kind together; whether the factor belongs
    in the group; and how many factors each kind has."""
    role, names = {m: roles(m) for m in SEEN}, probed["names"]
    factors = {shown: [f for f in names if any(f in role[m][kind] for m in SEEN)] for shown, kind in KINDS.items()}
    columns = [f for each in factors.values() for f in each]
    place = np.ix_([probed["groups"].index(" ".join(row)) for row in ROWS], [names.index(f) for f in columns])
    belongs = np.array([[f in role[m][BELONGS[branch]] for f in columns] for m, branch in ROWS])
    r2 = np.clip(np.array(probed["leakage"][system])[place], 0, 1)
    return r2, belongs, {kind: len(each) for kind, each in factors.items()}
