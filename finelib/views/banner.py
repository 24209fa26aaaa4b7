"""README's picture: FINE as the code builds it, beside what probes find in its branches and in the variant's."""

import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import finelib
from finelib.data.features import Batch
from finelib.fine import FINE
from finelib.paper.findings import SCORES, VARIANT
from finelib.views import diagrams
from finelib.views.style import BLUE, finish, png

WIDE, NARROW = (8.9, 2.45), (3.6, 4.9)  # inches; a page shows 100 pixels of an inch
LOOKS = {"FINE": ("0.4", 0.16), VARIANT: (BLUE, -0.16)}  # colour, place within a row
TEXT = 7.6  # points, 11 pixels as a page shows them


SCORES_FILE = "subset_codes.json"


def digest(content: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(content.encode()).hexdigest()


def write_banners(folder: Path) -> None:
    """Write folder/banner.png and, for a telephone, folder/banner_narrow.png, from folder/subset_codes.json.

    The files' "Source" is ``digest`` of what they were made from.
    """
    content = (folder / SCORES_FILE).read_text()
    scores, made = json.loads(content)["cases"]["worlds"]["systems"], {"Software": None, "Source": digest(content)}
    torch.manual_seed(0)
    corpus = finelib.load("mosi", scale=0.1)
    model, batch = finelib.build(finelib.FineConfig(), corpus), corpus.batch(range(16), split="train")
    for name, size in {"banner": WIDE, "banner_narrow": NARROW}.items():
        (folder / f"{name}.png").write_bytes(png(banner(model, batch, scores, size), 200, made))


def banner(model: FINE, batch: Batch, scores: dict[str, dict], size: tuple[float, float]) -> Figure:
    """Both panels, side by side, or one above the other where the picture is higher than wide.

    Args:
        scores: system -> what subset_codes.json says of it on the worlds.
        size: inches.
    """
    across = size[0] > size[1]
    figure = plt.figure(figsize=size, layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=(1, 0.95)) if across else figure.subfigures(2, 1)
    left, right = (part.subplots() for part in parts)
    left.set_title("FINE, as the code builds it", fontsize=TEXT + 1, loc="left")
    diagrams.overview(left, model, batch, TEXT)
    _scores(right, scores)
    return finish(figure)


def _scores(axis: Axes, scores: dict[str, dict]) -> None:
    """The three scores with their intervals over worlds, FINE above the variant."""
    for system, (colour, above) in LOOKS.items():
        found = [scores[system]["linear"][score] for score in SCORES]
        places = [above - i for i in range(len(found))]
        means = [each["mean"] for each in found]
        spread = [[abs(each[end] - each["mean"]) for each in found] for end in ("low", "high")]
        axis.errorbar(means, places, xerr=spread, fmt="o", color=colour, markersize=5, linewidth=1.6, label=system)
    axis.set_title("Which branch holds what? (planted data)", fontsize=TEXT + 1, loc="left")
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.axvline(1, color="0.6", linewidth=0.8, linestyle="dashed")
    axis.set(xlim=(-0.2, 1.04), ylim=(0.55 - len(SCORES), 0.75))
    axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1: perfect"], fontsize=TEXT)
    axis.set_yticks([-i for i in range(len(SCORES))], SCORES.values(), fontsize=TEXT)
    axis.tick_params(left=False)
    look = {"framealpha": 1, "edgecolor": "none", "borderpad": 0.1, "handletextpad": 0.2}
    axis.legend(fontsize=TEXT, loc="upper left", ncols=2, **look)
