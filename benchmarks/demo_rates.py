"""One learning rate for every system of the demo, chosen among the same three for each, on the dev split.

    python benchmarks/demo_rates.py [--out DIR]

Planted data of the demo's size, seed 10, which no table reports; the smallest dev MAE chooses. The last
line is JSON: for each system its parameters, and by rate the dev MAE and Corr, the epoch that is kept and
how many were trained (at most the demo's).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean

from finelib.config import RunSpec
from finelib.data.corpora import CORPORA
from finelib.runs import experiment, presets
from finelib.runs.options import ROOT, Options
from finelib.runs.records import RunRecord, git_revision

RATES = (1e-3, 2e-3, 4e-3)
SEEDS = (10,)


def specs(corpus: str) -> list[RunSpec]:
    """FINE and the systems that the demo trains for a corpus, with every rate and seed."""
    options = Options(preset="demo", n_seeds=1)
    data = presets.data_config(corpus, options)
    every = presets.specs(corpus, options) + presets.compared_specs(data, options)
    return [replace(s, train=replace(s.train, lr=rate), seed=seed) for s in every for rate in RATES for seed in SEEDS]


def told(records: list[RunRecord]) -> dict:
    """What the dev split says of the runs with one rate."""
    return {
        "dev_mae": [round(r.valid["mae"], 4) for r in records],
        "dev_corr": [round(r.valid["corr"], 4) for r in records],
        "selected_epoch": [r.selected_epoch + 1 for r in records],
        "epochs": [len(r.curves) for r in records],
        "seconds": [round(r.timing["seconds"], 1) for r in records],
    }


def measure(corpus: str, names: set[str], out: Path) -> dict:
    """System -> parameters, rate -> what dev says, and the rate with the smallest mean dev MAE."""
    wanted = [spec for spec in specs(corpus) if spec.name in names]
    records = dict(zip(wanted, experiment.run(wanted, out), strict=True))
    found = {}
    for name in dict.fromkeys(spec.name for spec in wanted):
        of = {rate: [r for s, r in records.items() if s.name == name and s.train.lr == rate] for rate in RATES}
        rates = {f"{rate:g}": told(group) for rate, group in of.items()}
        best = min(rates, key=lambda rate: mean(rates[rate]["dev_mae"]))
        parameters = of[RATES[0]][0].parameters
        found[name] = {"corpus": corpus, "parameters": parameters, "chosen": float(best), "rates": rates}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT)
    out, found = parser.parse_args().out, {}
    for corpus in CORPORA:
        found |= measure(corpus, {spec.name for spec in specs(corpus)} - found.keys(), out)
    print(json.dumps({"data": "planted", "seeds": SEEDS, "systems": found, "git_revision": git_revision()}))


if __name__ == "__main__":
    main()
