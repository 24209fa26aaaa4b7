"""Tables 1-4: printed rows from the paper, measured rows from run records, each in a block of its own.

Tables 5 and 6 are made of the same rows by ``ablations.py``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, replace

from finelib import comparisons, data, experiment, metrics, presets, references, tuning
from finelib.baselines import SYSTEMS
from finelib.config import RunSpec
from finelib.data.features import Corpus
from finelib.presets import ROOT, Options
from finelib.records import RunRecord
from finelib.rows import COLUMNS, CORPUS_OF, Row, Table, write

DATA_NAMES = {
    "planted": "planted data (generated)", "public": "public features of the real corpus",
    "files": "licensed feature files",
}  # fmt: skip


def build(number: int, options: Options) -> Table:
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
    if missing := data.available(CORPUS_OF[number], options.source):
        said += (f"Nothing measured from {options.source}: {missing}",)
    table = Table(number, tuple(rows), said)
    write(table, options.figures)
    return table


def blocks(number: int, options: Options) -> list[Options]:
    """The measured blocks: the source asked for, if it has this corpus; with planted data, Table 1 also has real
    CMU-MOSI if its public files can be had."""
    found = [options] if data.available(CORPUS_OF[number], options.source) is None else []
    if number == 1 and options.source == "planted" and options.preset != "paper":
        found += [
            replace(options, source=source) for source in ("public", "public-mfn")
            if data.available("mosi", source) is None
        ]  # fmt: skip
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
    with open(ROOT / "data" / "paper" / f"table{number}.csv", newline="") as file:
        return [
            Row(
                name(record), "system", "printed", "", "", "printed in the paper",
                {metric: round(float(record[metric]) / 100, 6) for metric in COLUMNS[number]}, None,
                context=_yes(record.get("context")), target=_yes(record.get("target")),
            )
            for record in csv.DictReader(file)
        ]  # fmt: skip


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
    compared = comparisons.compare(runs, next(iter(runs)), corpus.info.metric) if len(runs) > 1 else {}
    rows = [
        system_row(group, corpus, block, differences=compared.get(name), beside=comparisons.columns(compared.get(name)),
                   **used)
        for name, group in runs.items()
    ]  # fmt: skip
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
        content["name"], "system", corpus.data, content["encoder"], " + ".join(content["modalities"]), block, None,
        {metric: asdict(metrics.interval([run.test[metric] for run in runs])) for metric in runs[0].test},
        tuple(run.id for run in runs), **more,
    )  # fmt: skip


def reference_rows(corpus: Corpus, block: str, **more) -> list[Row]:
    """Oracle, ridge and floor of a corpus."""
    label, rows = corpus.splits["test"].label, []
    for name, prediction in references.references(corpus).items():
        scores = metrics.score(corpus.info.metric, prediction, label)
        rows.append(Row(
            name, "reference", corpus.data, corpus.encoder, "", block, None,
            {metric: asdict(metrics.interval([value])) for metric, value in scores.items()}, (), **more,
        ))  # fmt: skip
    return rows


def block_title(corpus: Corpus) -> str:
    """What a block was measured on: data, encoder, modalities, sizes."""
    sizes = " / ".join(str(len(split)) for split in corpus.splits.values())
    encoder = "" if corpus.encoder == "planted" else f", text by {corpus.encoder}"
    return f"measured on {DATA_NAMES[corpus.data]}{encoder}, {' + '.join(corpus.modalities)}, {sizes} utterances"


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
        said.append("Δ: the row minus FINE of the same block, same seeds, with a 95 % interval over seeds and test "
                    "utterances; p of that difference after Holm's correction over the block.")  # fmt: skip
    sources = {row.data for row in rows}
    if any(row.data == "planted" and row.name in SYSTEMS for row in rows):
        said.append("All systems share one protocol: data, seeds, epochs, selection. In the smoke and demo presets all "
                    "are small, and MulT, MISA and Self-MM get audio and video averaged over 24 stretches. Planted "
                    "data hide the factors in few frames, which attention can find; a system that averages frames or "
                    "reads the last one cannot.")  # fmt: skip
    if "planted" in sources:
        said.append("Planted data are generated: their rows say nothing about the real corpus, only how far a method "
                    "gets from the floor to the oracle, the best prediction given the true factors.")  # fmt: skip
    if "public" in sources:
        said.append("The public block has the printed rows' test split but other features, and fewer modalities where "
                    "it says so; its numbers are not comparable with the printed ones.")  # fmt: skip
    return tuple(said)
