"""How long each system is trained on CMU-MOSEI's frozen text: its own most epochs or three, by the dev split.

    python benchmarks/mosei_epochs.py [--out DIR] [--jobs N]

Every row of Table 2's public block with both, the table's first seed; the smaller dev error chooses
(``real.THREE_EPOCHS``). Runs lie in DIR/runs, where ``run_all.sh --source public --only table2`` finds those it needs.
Writes mosei_epochs.json.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from finelib.config import RunSpec
from finelib.paper import tables
from finelib.runs import experiment, presets, real
from finelib.runs.options import ROOT, Options
from finelib.runs.records import RunRecord, git_revision, write_atomically

FEW = 3
OWN = {"FINE": real.FROZEN[1].epochs, "text encoder alone": real.HEAD_TRAIN.epochs}  # the others: COMPARED_TRAIN's
PATH = Path(__file__).with_suffix(".json")


def candidates(options: Options) -> list[RunSpec]:
    """Every row's run with its own most epochs, then with three."""
    rows = tables.table_specs(2, options)
    most = [OWN.get(spec.name, presets.COMPARED_TRAIN.epochs) for spec in rows]
    both = [(spec, epochs) for spec, own in zip(rows, most, strict=True) for epochs in (own, FEW)]
    return [replace(spec, train=replace(spec.train, epochs=epochs)) for spec, epochs in both]


def told(record: RunRecord) -> dict:
    """What dev says of a run."""
    dev = {f"dev_{name}": round(record.valid[name], 4) for name in ("mae", "corr", "acc2_nonzero")}
    return dev | {"selected_epoch": record.selected_epoch + 1, "epochs": len(record.curves)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT)
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    specs = candidates(Options(out=given.out, source="public", n_seeds=1))
    found: dict[str, dict] = {}
    for spec, record in zip(specs, experiment.run(specs, given.out, given.jobs), strict=True):
        found.setdefault(spec.name, {})[str(spec.train.epochs)] = told(record)
    what = "CMU-MOSEI, text alone, frozen: dev scores of the epoch kept, seed 0, by the most epochs of a run"
    chosen = {name: int(min(of, key=lambda most, of=of: of[most]["dev_mae"])) for name, of in found.items()}
    rows = {name: {"chosen": chosen[name], "by_most_epochs": of} for name, of in found.items()}
    write_atomically(PATH, json.dumps({"what": what, "revision": git_revision(), "systems": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
