"""One learning rate for every system of the home worlds, chosen among the same three for each, at home on dev.

    python benchmarks/home_rates.py [--jobs N] [--systems GFN,ConFEDE]

Seeds 10 and 11, which the matrix does not report. Writes home_rates.json: for each system and rate the dev Corr of the
selected epoch; the largest mean chooses ("chosen", which ``home_runs.RATES`` has). With ``--systems`` the others stay.
"""

import argparse
import json
from pathlib import Path
from statistics import mean

from joblib import Parallel, delayed

from finelib.runs.records import write_atomically
from finelib.study import home_runs
from finelib.study.home_runs import Cell
from finelib.study.home_worlds import HOME

RATES, SEEDS = (1e-3, 2e-3, 4e-3), (10, 11)
PATH = Path(__file__).with_suffix(".json")


def dev_corr(system: str, rate: float, seed: int) -> float:
    """Of the system at home, trained with this rate."""
    home_runs.RATES[system] = rate  # of this process, where every run sets its own
    return round(home_runs.measure(Cell(HOME[system], system, seed), "demo")["dev"], 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--systems", default=",".join(HOME))
    given = parser.parse_args()
    jobs, systems = given.jobs, given.systems.split(",")
    tasks = [(system, rate, seed) for system in systems for rate in RATES for seed in SEEDS]
    scores = dict(zip(tasks, Parallel(jobs, verbose=5)(delayed(dev_corr)(*t) for t in tasks), strict=True))
    found = json.loads(PATH.read_text())["systems"] if PATH.exists() else {}
    for system in systems:
        by_rate = {rate: [scores[system, rate, seed] for seed in SEEDS] for rate in RATES}
        found[system] = {"chosen": max(RATES, key=lambda rate: mean(by_rate[rate])), "dev_corr": by_rate}
        print(system, found[system])
    write_atomically(PATH, json.dumps({"data": "planted", "seeds": SEEDS, "systems": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
