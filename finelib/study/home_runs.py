"""One cell of the matrix of home worlds: a system, whole or without its part, trained in a world with one seed.

The seed is that of the world's data too. Every system has one setting for all worlds, chosen at home with seeds from 10
on, which are not reported; docs/home_worlds.md says how.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finelib import models
from finelib.baselines import SYSTEMS, references
from finelib.baselines.variants import VariantConfig
from finelib.config import TrainConfig
from finelib.data import worlds
from finelib.data.features import Corpus
from finelib.metrics import correlation
from finelib.runs.checkpoint import Stopped
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.presets import DEMO
from finelib.runs.records import digest
from finelib.scale import processes
from finelib.study.taken_out import TAKEN_OUT
from finelib.training import Trainer, cpu_threads, predict

MODELS = "finelib.models"  # imports every system, so of it its own code counts alone
NAME, FINE, RIDGE = "home_worlds", "FINE", "ridge"
EPOCHS = {"smoke": 2, "demo": 30, "paper": 30}
TRAIN = TrainConfig(patience=20, batch_size=64, device="cpu")  # so small, they are quicker there than on a GPU
# Learning rates: for each system the best of the same three at home on dev (benchmarks/home_rates.py).
RATES = {"FINE": 1e-3} | dict.fromkeys(("LF-DNN", "TFN", "LMF", "MulT", "BBFN", "C-MFN"), 2e-3)
RATES |= dict.fromkeys(("MFN", "GFN", "CubeMLP", "MISA", "Self-MM", "C-MIB", "ConFEDE", "MSG", "DMD", "EUAR"), 4e-3)
RATES |= dict.fromkeys(("MAG-BERT", "MuLOT", "Coupled Mamba"), 4e-3)
# what differs from the demo's sizes (``DEMO`` of each file)
SETTINGS: dict[str, dict[str, Any]] = {
    "TFN": dict(dropout=0.0, post_dropout=0.1),
    "LMF": dict(dropout=0.0, rank=8, loss="mse"),
    "MFN": dict(hidden=(16, 16, 16), memory=32),
    "CubeMLP": dict(steps=8, width=32, blocks=((8, 16),)),
    "MISA": dict(width=32, lstm=8),
    "ConFEDE": dict(contrast=0.5),
    "DMD": dict(steps=6, width=16),
}


@dataclass(frozen=True)
class Cell:
    """``without``: the system lacks its part (``taken_out.TAKEN_OUT``)."""

    world: str
    system: str
    seed: int
    without: bool = False


def settings(system: str, without: bool = False) -> Any:
    """A system's configuration in every world."""
    if system == FINE:
        config = replace(DEMO, **SETTINGS.get(FINE, {}))
        return VariantConfig(**vars(config) | TAKEN_OUT[FINE].change) if without else config
    own = SYSTEMS[system]
    config = own.Config(**own.DEMO | SETTINGS.get(system, {}))
    return replace(config, **TAKEN_OUT[system].change) if without else config


def train_settings(system: str, preset: str) -> TrainConfig:
    """How a system is trained in every world."""
    return replace(TRAIN, epochs=EPOCHS[preset], lr=RATES[system])


def build(cell: Cell, corpus: Corpus) -> nn.Module:
    """The cell's model, drawn with its seed."""
    config = settings(cell.system, cell.without)
    torch.manual_seed(cell.seed)
    lacking = TAKEN_OUT[cell.system].model if cell.without else None
    if lacking is None:
        return models.build(config, corpus)
    inputs = models.make_inputs(corpus, config.modalities, frames=getattr(config, "frames", 0))
    return lacking(config, inputs, corpus)


def score(cell: Cell, preset: str, out: Path, stop: processes.Stop = processes.never) -> dict:
    """Test Corr of a cell ("corr") and of its world's oracle, and what training took; kept below ``out``.

    Raises:
        checkpoint.Stopped: ``stop`` said so.
        training.Diverged: a loss term was not finite.
    """
    corpus = worlds.generate(cell.world, cell.seed)  # what a cell depends on; the code of other worlds it does not
    data = [corpus.sha256, asdict(corpus.info)]
    told = {"cell": asdict(cell), "data": data, "code": _code(cell.system, cell.without), "epochs": EPOCHS[preset]}
    if cell.system != RIDGE:
        told |= {
            "model": asdict(settings(cell.system, cell.without)),
            "train": asdict(train_settings(cell.system, preset)),
        }
    name = f"{cell.world}-{cell.system.replace(' ', '_')}{'-without' if cell.without else ''}-s{cell.seed}-{preset}"
    return kept(out / "runs" / "kept" / NAME / f"{name}.json", digest(told), partial(measure, cell, preset, stop))


def _code(system: str, without: bool) -> str:
    roots = ["finelib.training", "finelib.data.moments", MODELS]
    if system == RIDGE:
        return code_hash("finelib.baselines.references")
    roots.append("finelib.fine" if system == FINE else SYSTEMS[system].__name__)
    roots += ["finelib.study.taken_out"] if without else []
    return code_hash(*roots, without=(MODELS,))


def measure(cell: Cell, preset: str, stop: processes.Stop = processes.never) -> dict:
    """``score``, kept nowhere; and the dev Corr ("dev") of what is trained."""
    corpus = worlds.generate(cell.world, cell.seed)
    test = corpus.splits["test"]
    found = {"oracle": correlation(test.factors["oracle"], test.label)}
    if cell.system == RIDGE:
        return found | {"corr": correlation(references.ridge(corpus, corpus.modalities), test.label)}
    model = build(cell, corpus)

    def after_update(_trainer: object) -> None:
        if stop():
            raise Stopped

    train = train_settings(cell.system, preset)
    history = Trainer(model, corpus, train, cell.seed).run(after_update)
    with cpu_threads(train.threads):
        found["corr"] = correlation(predict(model, test), test.label)
    found["dev"] = history.curves[history.best_epoch]["dev_corr"]
    found |= {"seconds": history.seconds, "epochs": len(history.curves)}
    return found | {"parameters": sum(p.numel() for p in model.parameters())}


def score_and_advance(cell: Cell, preset: str, out: Path, advance: Any, stop: processes.Stop) -> None:
    """``score`` as a task of ``execute``."""
    score(cell, preset, out, stop)
    advance(1)
