"""Tables 1-4: printed rows from the paper, measured rows from run records, each in a block of its own.

Tables 5 and 6 are made of the same rows by ``ablations.py``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, replace

from finelib import metrics
from finelib.baselines import SYSTEMS, references
from finelib.config import RunSpec
from finelib.data import planted, sources
from finelib.data.features import Corpus
from finelib.metrics import correlation
from finelib.paper import comparisons, significance, tables
from finelib.paper.ablations import FINE_ROW, MODALITY_ROWS, Block
from finelib.paper.table import COLUMNS, CORPUS_OF, Row, Table, write
from finelib.runs import experiment, presets, tuning
from finelib.runs.options import Options
from finelib.runs.records import RunRecord


def table_specs(number: int, options: Options) -> list[RunSpec]:
    """Every run that ``build`` needs, in the order of the rows, so that the table fills from the top."""
    return [
        spec for block in blocks(number, options) for runs in block.specs(options.seed_list).values() for spec in runs
    ]


def build_table_5_or_6(number: int, options: Options) -> Table:
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
            group,
            corpus,
            title,
            differences=compared.get(name),
            extra=beside(name) | comparisons.columns(compared.get(name)),
        )
        for name, group in runs.items()
    ]
    return rows + tables.reference_rows(corpus, title)


def _subset_columns(corpus: Corpus, block: Block, runs: dict[str, list[RunRecord]]) -> Callable[[str], dict[str, str]]:
    """Oracle Corr of a subset's factors, and how far FINE gets to it from the floor, whose Corr is 0."""
    if corpus.kind != "planted":
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


def notes(number: int, measured: list[list[Row]]) -> tuple[str, ...]:
    """What must be known to read the table."""
    said = [
        "ACC and F1 in percent, ACC-2 and F1 without utterances labelled 0. Measured: mean ± standard deviation over "
        f"seeds; run ids and all differences are in table{number}.json. Bold: best, underlined: second, within a "
        "block; the oracle is no competitor.",
        "Δ: the row minus FINE with " + ("all modalities" if number == 5 else "everything") + ", same seeds, with a "
        "95 % interval over seeds and test utterances; p of that difference after Holm's correction over the block.",
    ]
    if not measured:
        said.append("Nothing measured: the source does not have this corpus.")
    if any(row.data == "planted" for rows in measured for row in rows):
        said.append("Planted data are generated: what is true of them need not be true of a real corpus.")
    if number == 5:
        said.append("A missing modality drops its branch and its pairs; a single modality has no I_sha, I_uni, I_str.")
    return tuple(said)


DATA_NAMES = {
    "planted": "planted data (generated)",
    "public": "public features of the real corpus",
    "files": "licensed feature files",
}


def build_table(number: int, options: Options) -> Table:
    """Train what is missing, make the table, write ``figures/tableN.{json,csv,md,tex,html}`` below ``options.out``.

    Raises:
        ValueError: for a number that is not 1 to 4.
    """
    if number not in CORPUS_OF:
        raise ValueError(f"table {number}: unknown, expected one of {', '.join(map(str, CORPUS_OF))}")
    rows = printed_rows(number)
    for block in blocks(number, options):
        rows += measured_rows(number, block, block_specs(number, block, options))
    said = notes(number, rows)
    if missing := sources.available(CORPUS_OF[number], options.source):
        said += (f"Nothing measured from {options.source}: {missing}",)
    table = Table(number, tuple(rows), said)
    write(table, options.figures)
    return table


def blocks(number: int, options: Options) -> list[Options]:
    """The measured blocks: the source asked for, if it has this corpus; with planted data, Table 1 also has real
    CMU-MOSI if its public files can be had."""
    found = [options] if sources.available(CORPUS_OF[number], options.source) is None else []
    if number == 1 and options.source == "planted" and options.preset != "paper":
        found += [
            replace(options, source=source)
            for source in ("public", "public-mfn")
            if sources.available("mosi", source) is None
        ]
    return found


def block_specs(number: int, block: Options, options: Options) -> list[RunSpec]:
    """The runs of a block: FINE, and the compared systems where the block's data are those that were asked for.

    With ``options.tune`` the settings are chosen first, which trains what has no record yet.
    """
    found = presets.specs(CORPUS_OF[number], block)
    if block.source == options.source:
        found += presets.compared_specs(CORPUS_OF[number], block)
    return tuning.tuned(found, options) if options.tune else found


def table_specs(number: int, options: Options) -> list[RunSpec]:
    """Every run that ``build`` needs."""
    return [spec for block in blocks(number, options) for spec in block_specs(number, block, options)]


# --------------------------------------------------------------------------------------------------- rows


def printed_rows(number: int, name: Callable[[dict], str] = lambda record: record["model"]) -> list[Row]:
    """The paper's rows, from data/paper; ``name`` makes a row's name of a line of the file."""
    with open(Path(__file__).parent / "printed" / f"table{number}.csv", newline="") as file:
        return [
            Row(
                name(record),
                "system",
                "printed",
                "",
                "",
                "printed in the paper",
                {metric: round(float(record[metric]) / 100, 6) for metric in COLUMNS[number]},
                None,
                context=_yes(record.get("context")),
                target=_yes(record.get("target")),
            )
            for record in csv.DictReader(file)
        ]


def measured_rows(number: int, options: Options, specs: list[RunSpec]) -> list[Row]:
    """One row per system (mean over its seeds) and the references of the same corpus, as one block.

    Args:
        specs: the block's runs, FINE's first; the other systems are compared with it.
    """
    records = experiment.run(specs, options.out, options.jobs)
    corpus = experiment.load_corpus(specs[0].data)
    block = block_title(corpus)
    used = {"context": specs[0].data.context, "target": True} if number == 3 else {}
    runs = by_name(specs, records)
    compared = comparisons.compare(runs, next(iter(runs)), corpus.info.metrics) if len(runs) > 1 else {}
    rows = [
        system_row(
            group, corpus, block, differences=compared.get(name), extra=comparisons.columns(compared.get(name)), **used
        )
        for name, group in runs.items()
    ]
    return rows + reference_rows(corpus, block, **used)


def by_name(specs: list[RunSpec], records: list[RunRecord]) -> dict[str, list[RunRecord]]:
    """Row name -> its records, in the order of ``specs``."""
    runs: dict[str, list[RunRecord]] = {}
    for spec, record in zip(specs, records, strict=True):
        runs.setdefault(spec.name, []).append(record)
    return runs


def system_row(runs: list[RunRecord], corpus: Corpus, block: str, **more) -> Row:
    """The row of one system: mean over its seeds."""
    content = runs[0].content
    return Row(
        content["name"],
        "system",
        corpus.kind,
        content["encoder"],
        " + ".join(content["modalities"]),
        block,
        None,
        {metric: asdict(significance.interval([run.test[metric] for run in runs])) for metric in runs[0].test},
        tuple(run.id for run in runs),
        **more,
    )


def reference_rows(corpus: Corpus, block: str, **more) -> list[Row]:
    """Oracle, ridge and floor of a corpus."""
    label, rows = corpus.splits["test"].label, []
    for name, prediction in references.references(corpus).items():
        scores = metrics.score(corpus.info.metrics, prediction, label)
        rows.append(
            Row(
                name,
                "reference",
                corpus.kind,
                corpus.encoder,
                "",
                block,
                None,
                {metric: asdict(significance.interval([value])) for metric, value in scores.items()},
                (),
                **more,
            )
        )
    return rows


def block_title(corpus: Corpus) -> str:
    """What a block was measured on: data, encoder, modalities, sizes."""
    sizes = " / ".join(str(len(split)) for split in corpus.splits.values())
    encoder = "" if corpus.encoder == "planted" else f", text by {corpus.encoder}"
    return f"measured on {DATA_NAMES[corpus.kind]}{encoder}, {' + '.join(corpus.modalities)}, {sizes} utterances"


def _yes(value: str | None) -> bool | None:
    return None if value is None else value == "yes"


def notes(number: int, rows: list[Row]) -> tuple[str, ...]:
    """What must be known to read the table."""
    said = [
        "ACC and F1 in percent. Measured: mean ± standard deviation over seeds; n, the 95 % t interval and the run ids "
        f"are in table{number}.json. Bold: best, underlined: second, within a block; the oracle is no competitor."
    ]
    if number in (1, 2):
        said.append("ACC-2 and F1 leave out utterances labelled 0.")
    if any(row.differences for row in rows):
        said.append(
            "Δ: the row minus FINE of the same block, same seeds, with a 95 % interval over seeds and test "
            "utterances; p of that difference after Holm's correction over the block."
        )
    sources = {row.data for row in rows}
    if any(row.data == "planted" and row.name in SYSTEMS for row in rows):
        said.append(
            "All systems share one protocol: data, seeds, epochs, selection. In the smoke and demo presets all "
            "are small, and MulT, MISA and Self-MM get audio and video averaged over 24 stretches. Planted "
            "data hide the factors in few frames, which attention can find; a system that averages frames or "
            "reads the last one cannot."
        )
    if "planted" in sources:
        said.append(
            "Planted data are generated: their rows say nothing about the real corpus, only how far a method "
            "gets from the floor to the oracle, the best prediction given the true factors."
        )
    if "public" in sources:
        said.append(
            "The public block has the printed rows' test split but other features, and fewer modalities where "
            "it says so; its numbers are not comparable with the printed ones."
        )
    return tuple(said)
