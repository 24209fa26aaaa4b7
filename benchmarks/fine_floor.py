"""Home worlds in which FINE stays at the floor: which of its losses, or its reading of frames, keeps it there?

    python benchmarks/fine_floor.py [--jobs N] [--worlds turned,graph]

FINE as in the home worlds, without some of its losses; and, since its Q-Formers have no positions, with the place of a
frame said beside its features, or with an LSTM in the place of the Q-Formers.
Dev Corr as a share of the oracle's, seeds 10 and 11, which are not reported there. Writes fine_floor.json; with
``--worlds`` the others stay.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from joblib import Parallel, delayed
from public_recipes import without_test
from torch import nn

from finelib.baselines.variants import VariantConfig
from finelib.config import FineConfig
from finelib.data import worlds
from finelib.fine import FINE
from finelib.layers import positions
from finelib.metrics import correlation
from finelib.models import build, class_counts, make_inputs
from finelib.moq import FramesOf, MaskOf, MoQ, MoQOutput
from finelib.runs.presets import DEMO
from finelib.runs.records import write_atomically
from finelib.study.home_runs import train_settings
from finelib.training import Trainer

SEEDS = (10, 11)
WORLDS = ("products", "steps", "order", "lookup", "turned", "graph", "grid", "shifts", "matching")
LABELS = {"beta_mi": 0.0, "lambda_cl": 0.0, "lambda_aux": 0.0, "queue_alpha": 0.0}
ALONE = LABELS | {"lambda_up": 0.0}
FORMS = {
    "FINE": {},
    "without L_UP": {"lambda_up": 0.0},
    "L_MP and L_UP alone": LABELS,
    "L_MP alone": ALONE,
    "L_MP alone, places said": ALONE,
    "L_MP alone, LSTM for MoQ": ALONE | {"variant": "w/o MoQ + LSTM"},
}
PLACE_WIDTH = 8
PATH = Path(__file__).with_suffix(".json")


class PlacedMoQ(nn.Module):
    """The Mixture of Q-Formers on frames with the sine and cosine of their place beside them."""

    def __init__(self, frame_widths: dict[str, int], token_widths: dict[str, int], config: FineConfig):
        super().__init__()
        self.moq = MoQ({m: width + PLACE_WIDTH for m, width in frame_widths.items()}, token_widths, config)

    def forward(self, frames: FramesOf, mask: MaskOf) -> dict[str, MoQOutput]:
        placed = {}
        for m, x in frames.items():
            place = positions(x.shape[1], PLACE_WIDTH, x).expand(len(x), -1, -1) * mask[m][..., None]
            placed[m] = torch.cat([x, place], -1)
        return self.moq(placed, mask)


class PlacedFINE(FINE):
    """FINE that is told the place of each frame."""

    def make_moq(self, frame_widths: dict[str, int], token_widths: dict[str, int]) -> nn.Module:
        return PlacedMoQ(frame_widths, token_widths, self.config)


def share(world: str, form: str, seed: int) -> float:
    """Dev Corr at the epoch that dev chose, as a share of the oracle's."""
    corpus = without_test(worlds.generate(world, seed))
    settings = vars(DEMO) | FORMS[form]
    config = VariantConfig(**settings) if "variant" in settings else FineConfig(**settings)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    if form.endswith("places said"):
        inputs = make_inputs(corpus, config.modalities)
        model = PlacedFINE(config, corpus.info, inputs, class_counts(corpus))
    else:
        model = build(config, corpus)
    history = Trainer(model, corpus, train_settings("FINE", "demo"), seed).run()
    dev = corpus.splits["valid"]
    return round(history.curves[history.best_epoch]["dev_corr"] / correlation(dev.factors["oracle"], dev.label), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--worlds", default=",".join(WORLDS))
    given = parser.parse_args()
    cells = [(world, form) for world in given.worlds.split(",") for form in FORMS]
    found = Parallel(given.jobs, verbose=5)(delayed(share)(*cell, seed) for cell in cells for seed in SEEDS)
    before = json.loads(PATH.read_text())["dev_share"] if PATH.exists() else {}
    told = {world: before.get(world, {}) for world in WORLDS}
    for i, (world, form) in enumerate(cells):
        told[world][form] = found[i * len(SEEDS) : (i + 1) * len(SEEDS)]
        print(world, form, told[world][form])
    write_atomically(PATH, json.dumps({"data": "planted", "seeds": SEEDS, "dev_share": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
