"""FINE against floor, ridge and oracle on planted data of a corpus's full size.

    python benchmarks/planted_size.py mosi mosei [--seeds N] [--epochs N] [--out DIR]

The last line is JSON. "share" is FINE's Corr over the oracle's on the test split, the floor being 0.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from finelib import metrics
from finelib.baselines import references
from finelib.config import DataConfig, FineConfig, RunSpec
from finelib.data.corpora import CORPORA
from finelib.runs import experiment, presets
from finelib.runs.options import ROOT
from finelib.runs.records import git_revision


def measure(corpus_name: str, seeds: int, epochs: int, out: Path) -> dict:
    """Corr of every reference and of FINE (default configuration), and FINE's share of the oracle's."""
    train = replace(presets.TRAIN["demo"], epochs=epochs)
    specs = [RunSpec("FINE", DataConfig(corpus_name), FineConfig(), train, seed) for seed in range(seeds)]
    records = experiment.run(specs, out)
    corpus = experiment.load_corpus(specs[0].data)
    label = corpus.splits["test"].label
    corr = {name: metrics.correlation(p, label) for name, p in references.references(corpus).items()}
    fine = [record.test["corr"] for record in records]
    oracle = corr["oracle (true factors)"]
    return {
        "corpus": corpus_name,
        "data": "planted",
        "utterances": [len(s) for s in corpus.splits.values()],
        "corr": corr,
        "fine_corr": fine,
        "share": [value / oracle for value in fine],
        "ridge_share": corr["ridge (T + A + V)"] / oracle,
        "seconds": [record.timing["seconds"] for record in records],
        "runs": [record.id for record in records],
        "git_revision": git_revision(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", choices=CORPORA)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=ROOT)
    arguments = parser.parse_args()
    print(json.dumps([measure(c, arguments.seeds, arguments.epochs, arguments.out) for c in arguments.corpora]))


if __name__ == "__main__":
    main()
