"""How FINE and the encoder alone are trained on real corpora: settings tried on the dev split.

    python benchmarks/public_recipes.py ch_sims [--source public] [--encoder NAME] [--context] [--change lr=1e-3 ...]
    python benchmarks/public_recipes.py mosei --finetune-text --size 4000 [--row "text encoder alone"] [--seed 101]

Trains one model with the corpus's own settings (``runs.real``) and the changes named, on the corpus without its test
split, with a seed that no table reports, and adds a line of dev scores to public_recipes.json.
"""

from __future__ import annotations

import argparse
import ast
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from finelib.baselines.variants import VariantConfig
from finelib.config import DataConfig, RunSpec, TrainConfig
from finelib.data.encoders import MINILM
from finelib.data.features import Corpus
from finelib.models import build
from finelib.runs import experiment, real
from finelib.runs.records import write_atomically
from finelib.training import Trainer

SEED = 100
PATH = Path(__file__).with_suffix(".json")
TRAINING = {field.name for field in fields(TrainConfig)}


def without_test(corpus: Corpus) -> Corpus:
    """The corpus with nothing to look at but train and dev."""
    return replace(corpus, splits={name: corpus.splits[name] for name in ("train", "valid")})


def fewer(corpus: Corpus, size: int | None) -> Corpus:
    """The corpus with ``size`` training utterances, drawn with a seed of their own."""
    if size is None:
        return corpus
    train = corpus.splits["train"]
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[:size])
    return replace(corpus, splits=corpus.splits | {"train": train.take(rows)})


def changed(spec: RunSpec, changes: dict[str, object]) -> RunSpec:
    """A run with fields of its training or of its model changed."""
    train = {name: value for name, value in changes.items() if name in TRAINING}
    model = {name: value for name, value in changes.items() if name not in TRAINING}
    base = spec.model_config
    config = VariantConfig(**vars(base) | model) if "variant" in model else replace(base, **model)
    return replace(spec, train=replace(spec.train, **train), model_config=config)


def try_on_dev(spec: RunSpec, corpus: Corpus) -> dict:
    """Dev scores of the selected epoch, and dev errors and Corr of all."""
    torch.manual_seed(spec.seed)
    corpus = without_test(corpus)
    history = Trainer(build(spec.model_config, corpus), corpus, spec.train, spec.seed).run()
    best = {name: round(value, 4) for name, value in history.curves[history.best_epoch].items() if "dev" in name}
    told = {"selected_epoch": history.best_epoch + 1, "seconds": round(history.seconds)}
    names = [name for name in ("dev_mae", "dev_error_rate", "dev_corr") if name in best]
    by_epoch = {f"{n}_by_epoch": [round(curve[n], 4) for curve in history.curves] for n in names}
    return best | told | by_epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--source", default="public")
    parser.add_argument("--encoder", default="files")
    parser.add_argument("--context", action="store_true")
    parser.add_argument("--finetune-text", action="store_true")
    parser.add_argument("--size", type=int, help="training utterances (default: all)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--row", default="FINE")
    parser.add_argument("--change", nargs="*", default=[], help="field=value of a row's settings or TrainConfig")
    given = parser.parse_args()
    encoder = MINILM if given.finetune_text and given.encoder == "files" else given.encoder
    data = DataConfig(given.corpus, given.source, encoder, given.finetune_text, context=given.context)
    parts = (text.partition("=") for text in given.change)
    changes = {name: ast.literal_eval(value) for name, _, value in parts}
    row = given.row + (" (fine-tuned)" if given.finetune_text else "")
    spec = changed(next(s for s in real.specs(data, (given.seed,)) if s.name == row), changes)
    found = try_on_dev(spec, fewer(experiment.load_corpus(data), given.size))
    of = {name: getattr(given, name) for name in ("corpus", "source", "context", "size", "seed")}
    told = ("epochs", "patience", "batch_size", "lr", "lr_text")
    line = of | {"encoder": encoder, "row": row, "train": {name: getattr(spec.train, name) for name in told}}
    line |= {"changes": changes} | found
    content = json.loads(PATH.read_text())
    write_atomically(PATH, json.dumps(content | {"dev": [*content.get("dev", []), line]}, indent=1))
    print(json.dumps(line))


if __name__ == "__main__":
    main()
