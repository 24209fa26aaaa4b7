"""TODO."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from finelib.paper import significance, tables
from finelib.paper.ablations import FINE_ROW, blocks
from finelib.paper.table import Row
from finelib.runs import experiment
from finelib.runs.options import Options


def paper_gaps(options: Options, utterances: int = 3634) -> pd.DataFrame:
    """How many seeds the paper's gaps in ACC-2 ask for, given the variances measured on our first Table 6 block.

    The variance between seeds, between utterances and the rest are medians over the rows of that block; a gap is
    found with 80 % power at 5 %, two-sided, without correction for the number of rows.

    Args:
        utterances: of the test split; 3,634 is CMU-MOSEI's without labels 0.
    """
    block = blocks(6, options)[0]
    specs = block.specs(options.seed_list)
    runs = {
        name: [r.predictions() for r in experiment.run(group, options.out, options.jobs, progress=False)]
        for name, group in specs.items()
    }
    right = {
        name: np.stack([significance.contributions("acc2_nonzero", a["test"], a["test_label"]) for a in group])
        for name, group in runs.items()
    }
    fine = right.pop(FINE_ROW.name)
    found = [significance.components(x - fine) for x in right.values()]
    typical = significance.Components(*(float(np.median([vars(c)[k] for c in found])) for k in vars(found[0])))
    printed = {row.name: row.printed["acc2_nonzero"] for row in tables.printed_rows(6, lambda record: record["config"])}
    whole, lines = printed.pop("FINE"), []
    for name, value in sorted(printed.items(), key=lambda item: item[1]):
        gap = whole - value
        needed = significance.seeds_needed(gap, typical, utterances)
        lines.append(
            {
                "row": name,
                "printed gap (points)": round(100 * gap, 2),
                "in samples": round(gap * utterances),
                **{f"power, {s} seeds": round(significance.power(gap, typical, s, utterances), 2) for s in (3, 5, 10)},
                "seeds for 80 %": f"more than {significance.MOST_SEEDS}" if needed is None else str(needed),
            }
        )
    return pd.DataFrame(lines)


def order_of_subsets(rows: list[Row]) -> pd.DataFrame:
    """Every pair of Table 5's planted rows: which has the better oracle, and whether the measured intervals agree.

    "right" or "wrong" where the 95 % intervals of the two mean Corr do not overlap, else "open".
    """
    rows = [row for row in rows if "oracle Corr" in row.extra and row.measured["corr"]["low"] is not None]
    lines = []
    for a, b in combinations(sorted(rows, key=lambda row: float(row.extra["oracle Corr"])), 2):
        worse, better = a.measured["corr"], b.measured["corr"]
        verdict = "right" if worse["high"] < better["low"] else "wrong" if better["high"] < worse["low"] else "open"
        lines.append(
            {
                "better": b.name,
                "worse": a.name,
                "oracle Corr": f"{b.extra['oracle Corr']}, {a.extra['oracle Corr']}",
                "measured Corr": f"{better['mean']:.3f}, {worse['mean']:.3f}",
                "verdict": verdict,
            }
        )
    return pd.DataFrame(lines)
