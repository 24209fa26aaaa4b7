"""Tables 5 and 6: FINE on every subset of the modalities, and FINE without each of its components.

A row is FINE with a few settings changed (``MODALITY_ROWS``, ``COMPONENT_ROWS``). To add one, add a line there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from finelib import comparisons, data, experiment, presets, statistics, tables
from finelib.config import DataConfig, FineConfig, RunSpec
from finelib.data import planted
from finelib.data.features import Corpus
from finelib.metrics import correlation
from finelib.presets import Options
from finelib.records import RunRecord
from finelib.rows import Row, Table, write

CORPUS = "mosei"  # the paper's Tables 5 and 6 are on CMU-MOSEI
PRINTED, ARCHITECTURE, BEYOND = "printed in the paper", "the other reading", "beyond the paper"


@dataclass(frozen=True)
class Variant:
    """A row: FINE with ``change`` made to its FineConfig.

    Attributes:
        kind: whether the paper prints it, whether it is the other reading of a row that is ambiguous, or ours.
        loss_only: only the objective differs, so that the untrained models predict the same.
    """

    name: str
    change: dict[str, object] = field(default_factory=dict)
    kind: str = PRINTED
    loss_only: bool = False


MODALITY_ROWS = [
    Variant(" + ".join(subset), {"modalities": tuple(m for m in "TAV" if m in subset)})
    for subset in ("V", "A", "T", "VA", "VT", "AT", "VAT")
]
FINE_ROW = Variant("FINE")
COMPONENT_ROWS = [
    Variant("w/o L_UP", {"lambda_up": 0.0}, loss_only=True),
    *(
        Variant(name, {"encoder": encoder, "lambda_aux": 0.0})
        for name, encoder in (
            ("w/o MoQ", "linear"), ("w/o MoQ + TE", "te"), ("w/o MoQ + TCN", "tcn"), ("w/o MoQ + LSTM", "lstm"),
            ("w/o MoQ + MLPs", "mlp"),
        )
    ),
    Variant("w/o I_str, I_utr", {"weight_str": 0.0, "weight_utr": 0.0}, loss_only=True),
    Variant("w/o I_sha, I_uni", {"weight_sha": 0.0, "weight_uni": 0.0}, loss_only=True),
    Variant("w/o I_sha, I_str", {"weight_sha": 0.0, "weight_str": 0.0}, loss_only=True),
    Variant("w/o I_uni, I_utr", {"weight_uni": 0.0, "weight_utr": 0.0}, loss_only=True),
    Variant("w/o I_sha", {"weight_sha": 0.0}, loss_only=True),
    Variant("w/o FTRE", {"factorisation": "none", "beta_mi": 0.0}),
    Variant("w/o FTRE + MISA", {"factorisation": "misa", "beta_mi": 1.0}),
    Variant("w/o DCQ", {"lambda_cl": 0.0}, loss_only=True),
    Variant("w/o DCQ + ACCon", {"queue_alpha": 0.0}, loss_only=True),
    Variant("w/o DCQ + SCL", {"queue_alpha": 0.0, "contrast": "supcon"}, loss_only=True),
    Variant("DCQ (SCL)", {"contrast": "supcon"}, loss_only=True),
    FINE_ROW,
    Variant("unique branch only", {"factorisation": "unique"}, ARCHITECTURE),
    Variant("shared branch only", {"factorisation": "shared"}, ARCHITECTURE),
    Variant("1 expert", {"experts": 1, "top_k": 1}, BEYOND),
    Variant("2 experts", {"experts": 2, "top_k": 2}, BEYOND),
    Variant("8 experts", {"experts": 8}, BEYOND),
    Variant("w/o L_aux", {"lambda_aux": 0.0}, BEYOND, loss_only=True),
    Variant("w/o reconstruction", {"weight_recon": 0.0}, BEYOND, loss_only=True),
    Variant("w/o I_uni", {"weight_uni": 0.0}, BEYOND, loss_only=True),
    Variant("w/o I_str", {"weight_str": 0.0}, BEYOND, loss_only=True),
    Variant("w/o I_utr", {"weight_utr": 0.0}, BEYOND, loss_only=True),
    Variant("I_str with in-batch negatives", {"str_negatives": "batch"}, BEYOND, loss_only=True),
    Variant("concat critics", {"critic": "concat", "critic_layers": 2}, BEYOND, loss_only=True),
    Variant("queue of 0.25 n_c", {"queue_alpha": 0.25}, BEYOND, loss_only=True),
    Variant("queue of 0.5 n_c", {"queue_alpha": 0.5}, BEYOND, loss_only=True),
    Variant("queue of 1 n_c", {"queue_alpha": 1.0}, BEYOND, loss_only=True),
]
# planted designs in which one component should matter by construction, and what is left out there
SHOULD_MATTER = {
    "cues": ("w/o MoQ",), "redundancy": ("w/o I_uni, I_str",), "complementary": ("w/o I_utr",),
    "imbalance": ("w/o DCQ",),
}  # fmt: skip
PANEL_ROWS = {
    "w/o I_uni, I_str": Variant("w/o I_uni, I_str", {"weight_uni": 0.0, "weight_str": 0.0}, BEYOND, loss_only=True),
    **{row.name: row for row in COMPONENT_ROWS if row.name in ("w/o MoQ", "w/o I_utr", "w/o DCQ")},
}


@dataclass(frozen=True)
class Block:
    """Rows that can be compared with each other: variants of one FINE on one corpus."""

    variants: tuple[Variant, ...]
    base: RunSpec
    about: str = ""

    def specs(self, seeds: tuple[int, ...]) -> dict[str, list[RunSpec]]:
        """Row name -> its runs; the change of a row must name settings of FineConfig."""
        return {
            v.name: [replace(self.base, name=v.name, model=replace(self.base.model, **v.change), seed=s) for s in seeds]
            for v in self.variants
        }


def blocks(number: int, options: Options) -> list[Block]:
    """The measured blocks of Table 5 or 6: all rows, and for planted Table 6 the designs made for one component."""
    rows = MODALITY_ROWS if number == 5 else COMPONENT_ROWS
    if options.source == "planted":
        found = [_planted_block("modalities" if number == 5 else "components", rows, options)]
        if number == 6:
            found += [_planted_block(d, [FINE_ROW, *(PANEL_ROWS[n] for n in names)], options)
                      for d, names in SHOULD_MATTER.items()]  # fmt: skip
            found.append(_planted_block("plain", [FINE_ROW, *PANEL_ROWS.values()], options))
        return found
    corpus = "mosi" if options.source.startswith("public") else CORPUS
    return [_real_block(rows, options)] if data.available(corpus, options.source) is None else []


def _planted_block(design: str, rows: list[Variant], options: Options) -> Block:
    data_config = DataConfig(CORPUS, scale=presets.GRID_SCALE[options.preset], design=design)
    train = presets.GRID_TRAIN[options.preset]
    if design == "imbalance":
        train = replace(train, **presets.SMALL_BATCHES)
    base = RunSpec("FINE", data_config, presets.GRID, train, 0)
    return Block(tuple(rows), base, planted.DESIGNS[design].about)


def _real_block(rows: list[Variant], options: Options) -> Block:
    """The corpus's own experiment; rows that need a modality the source lacks are left out."""
    corpus = "mosi" if options.source.startswith("public") else CORPUS
    base = next(spec for spec in presets.specs(corpus, options) if isinstance(spec.model, FineConfig))
    kept = [v for v in rows if set(v.change.get("modalities", ())) <= set(base.model.modalities)]
    return Block(tuple(kept), base)


def table_specs(number: int, options: Options) -> list[RunSpec]:
    """Every run that ``build`` needs, in the order of the rows, so that the table fills from the top."""
    return [
        spec for block in blocks(number, options) for runs in block.specs(options.seed_list).values() for spec in runs
    ]


def build(number: int, options: Options) -> Table:
    """Train what is missing, make the table, write ``figures/tableN.{json,csv,md,tex,html}`` below ``options.out``.

    Raises:
        ValueError: for a number that is not 5 or 6.
    """
    if number not in (5, 6):
        raise ValueError(f"table {number}: unknown, expected 5 or 6")
    rows = tables.printed_rows(number, modalities_printed if number == 5 else lambda record: record["config"])
    measured = [measure(number, block, options) for block in blocks(number, options)]
    table = Table(number, tuple(rows + [row for block in measured for row in block]), notes(number, measured))
    write(table, options.figures)
    return table


def design_of(row: Row) -> str:
    """Name of the planted design that a row was measured on; "" for real data."""
    return next((name for name, plan in planted.DESIGNS.items() if row.block.endswith(f": {plan.about}")), "")


def modalities_printed(record: dict[str, str]) -> str:
    """A printed row's modalities as the paper names them, for example "V + T"."""
    return " + ".join(m for m in "VAT" if record[m] == "yes")


# --------------------------------------------------------------------------------------------------- rows


def measure(number: int, block: Block, options: Options) -> list[Row]:
    """The rows of a block, trained where they have no record, and the references of its corpus."""
    specs = block.specs(options.seed_list)
    records = iter(experiment.run([spec for runs in specs.values() for spec in runs], options.out, options.jobs))
    runs = {name: [next(records) for _ in group] for name, group in specs.items()}
    corpus = experiment.load_corpus(block.base.data)
    whole = list(specs)[-1] if number == 5 else FINE_ROW.name
    compared = comparisons.compare(runs, whole)
    title = tables.block_title(corpus) + (f": {block.about}" if block.about else "")
    beside = _subset_columns(corpus, block, runs) if number == 5 else _size_column(runs)
    rows = [
        tables.system_row(
            group, corpus, title, differences=compared.get(name),
            beside=beside(name) | comparisons.columns(compared.get(name)),
        )
        for name, group in runs.items()
    ]  # fmt: skip
    return rows + tables.reference_rows(corpus, title)


def _subset_columns(
    corpus: Corpus, block: Block, runs: dict[str, list[RunRecord]]
) -> Callable[[str], dict[str, str]]:
    """Oracle Corr of a subset's factors, and how far FINE gets to it from the floor, whose Corr is 0."""
    if corpus.data != "planted":
        return lambda name: {}
    oracle = subset_oracles(corpus, block.base.data.design)

    def columns(name: str) -> dict[str, str]:
        best = oracle[tuple(sorted(name.split(" + ")))]
        reached = sum(run.test["corr"] for run in runs[name]) / len(runs[name])
        return {"oracle Corr": f"{best:.3f}", "of the way": f"{100 * reached / best:.0f} %"}

    return columns


def _size_column(runs: dict[str, list[RunRecord]]) -> Callable[[str], dict[str, str]]:
    """Trained parameters, critics included."""
    return lambda name: {"parameters": f"{runs[name][0].content['parameters'] / 1e6:.2f} M"}


def subset_oracles(corpus: Corpus, design: str) -> dict[tuple[str, ...], float]:
    """Sorted subset of modalities -> test Corr of the best prediction from the factors that they see."""
    split = corpus.splits["test"]
    return {
        tuple(sorted(v.change["modalities"])): correlation(
            planted.best_prediction(corpus.info, design, split.factors, v.change["modalities"]), split.label
        )
        for v in MODALITY_ROWS
    }


def paper_gaps(options: Options, utterances: int = 3634) -> pd.DataFrame:
    """How many seeds the paper's gaps in ACC-2 ask for, given the variances measured on our first Table 6 block.

    The variance between seeds, between utterances and the rest are medians over the rows of that block; a gap is
    found with 80 % power at 5 %, two-sided, without correction for the number of rows.

    Args:
        utterances: of the test split; 3,634 is CMU-MOSEI's without labels 0.
    """
    block = blocks(6, options)[0]
    specs = block.specs(options.seed_list)
    runs = {name: [r.predictions() for r in experiment.run(group, options.out, options.jobs, progress=False)]
            for name, group in specs.items()}  # fmt: skip
    right = {
        name: np.stack([statistics.contributions("acc2_nonzero", a["test"], a["test_label"]) for a in group])
        for name, group in runs.items()
    }
    fine = right.pop(FINE_ROW.name)
    found = [statistics.components(x - fine) for x in right.values()]
    typical = statistics.Components(*(float(np.median([vars(c)[k] for c in found])) for k in vars(found[0])))
    printed = {row.name: row.printed["acc2_nonzero"] for row in tables.printed_rows(6, lambda record: record["config"])}
    whole, lines = printed.pop("FINE"), []
    for name, value in sorted(printed.items(), key=lambda item: item[1]):
        gap = whole - value
        needed = statistics.seeds_needed(gap, typical, utterances)
        lines.append({
            "row": name, "printed gap (points)": round(100 * gap, 2), "in samples": round(gap * utterances),
            **{f"power, {s} seeds": round(statistics.power(gap, typical, s, utterances), 2) for s in (3, 5, 10)},
            "seeds for 80 %": f"more than {statistics.MOST_SEEDS}" if needed is None else str(needed),
        })  # fmt: skip
    return pd.DataFrame(lines)


def notes(number: int, measured: list[list[Row]]) -> tuple[str, ...]:
    """What must be known to read the table."""
    said = [
        "ACC and F1 in percent, ACC-2 and F1 without utterances labelled 0. Measured: mean ± standard deviation over "
        f"seeds; run ids and all differences are in table{number}.json. Bold: best, underlined: second, within a "
        "block; the oracle is no competitor.",
        "Δ: the row minus FINE with " + ("all modalities" if number == 5 else "everything") + ", same seeds, with a "
        "95 % interval over seeds and test utterances; p of that difference after Holm's correction over the block.",
    ]  # fmt: skip
    if not measured:
        said.append("Nothing measured: the source does not have this corpus.")
    if any(row.data == "planted" for rows in measured for row in rows):
        said.append("Planted data are generated: what is true of them need not be true of a real corpus.")
    if number == 5:
        said.append("A missing modality drops its branch and its pairs; a single modality has no I_sha, I_uni, I_str.")
    return tuple(said)


def order_of_subsets(rows: list[Row]) -> pd.DataFrame:
    """Every pair of Table 5's planted rows: which has the better oracle, and whether the measured intervals agree.

    "right" or "wrong" where the 95 % intervals of the two mean Corr do not overlap, else "open".
    """
    rows = [row for row in rows if "oracle Corr" in row.beside and row.measured["corr"]["low"] is not None]
    lines = []
    for a, b in combinations(sorted(rows, key=lambda row: float(row.beside["oracle Corr"])), 2):
        worse, better = a.measured["corr"], b.measured["corr"]
        verdict = "right" if worse["high"] < better["low"] else "wrong" if better["high"] < worse["low"] else "open"
        lines.append({
            "better": b.name, "worse": a.name,
            "oracle Corr": f"{b.beside['oracle Corr']}, {a.beside['oracle Corr']}",
            "measured Corr": f"{better['mean']:.3f}, {worse['mean']:.3f}", "verdict": verdict,
        })  # fmt: skip
    return pd.DataFrame(lines)
