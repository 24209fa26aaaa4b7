"""Tables 1-6: the paper's printed rows, and rows measured here, each kind in blocks of its own.

Tables 1-4 compare FINE with other systems on one corpus each; 5 and 6 are FINE's own variants (``ablations.py``).
"""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import NamedTuple, TypeVar

from finelib import metrics
from finelib.baselines import references
from finelib.config import DataConfig, RunSpec
from finelib.data import planted, sources
from finelib.data.features import Corpus
from finelib.metrics import correlation
from finelib.paper import ablations, comparisons, printed, significance
from finelib.paper.notes import notes
from finelib.paper.printed import COLUMNS, CORPUS_OF
from finelib.paper.table import Row, Table, write
from finelib.runs import experiment, presets, tuning
from finelib.runs.options import Options
from finelib.runs.records import RunRecord

DATA_NAMES = {
    "planted": "planted data (generated)",
    "public": "public features of the real corpus",
    "files": "licensed feature files",
}
Named = TypeVar("Named", RunSpec, RunRecord)


class BlockRuns(NamedTuple):
    """The runs of rows that may be compared with each other.

    Attributes:
        runs: row name -> its runs, one for each seed.
        about: what the planted design is made for; "" for a corpus's usual one.
    """

    runs: dict[str, list[RunSpec]]
    about: str = ""


def build_table(number: int, options: Options) -> Table:
    """Train what is missing, make the table, write ``figures/tableN.{json,csv,md,tex,html}`` below ``options.out``.

    Raises:
        ValueError: for a number that is not 1 to 6.
    """
    rows = printed_rows(number)
    for runs, about in measured_blocks(number, options):
        rows += measure(number, runs, options, about)
    said = notes(number, rows)
    if number in CORPUS_OF and (missing := sources.available(CORPUS_OF[number], options.source)):
        said += (f"Nothing measured from {options.source}: {missing}",)
    table = Table(number, tuple(rows), said)
    write(table, options.figures)
    return table


def table_specs(number: int, options: Options) -> list[RunSpec]:
    """Every run that ``build_table`` needs, in the order of the rows, so that the table fills from the top."""
    return [spec for block in measured_blocks(number, options) for specs in block.runs.values() for spec in specs]


# ---------------------------------------------------------------------------------------------------- runs


def measured_blocks(number: int, options: Options) -> list[BlockRuns]:
    """The blocks of a table that are measured.

    Tables 1-4: the source asked for, if it has this corpus; with planted data, Table 1 also has real CMU-MOSI if its
    public files can be had.

    Raises:
        ValueError: for a number that is not 1 to 6.
    """
    if number not in COLUMNS:
        raise ValueError(f"table {number}: unknown, expected one of {', '.join(map(str, COLUMNS))}")
    if number not in CORPUS_OF:
        return [BlockRuns(b.specs(options.seed_list), b.about) for b in ablations.blocks(number, options)]
    wanted = [options]
    if number == 1 and options.source == "planted" and options.preset != "paper":
        wanted += [replace(options, source=source) for source in ("public", "public-mfn")]
    found = [source for source in wanted if sources.available(CORPUS_OF[number], source.source) is None]
    return [BlockRuns(by_name(block_specs(number, source, options))) for source in found]


def block_specs(number: int, source: Options, options: Options) -> list[RunSpec]:
    """The runs of one source in Tables 1-4: FINE, and the compared systems if it is the source asked for.

    With ``options.tune`` the settings are chosen first, which trains what has no record yet.

    Args:
        source: ``options`` with the block's own source.
    """
    found = presets.specs(CORPUS_OF[number], source)
    if source.source == options.source:
        found += presets.compared_specs(CORPUS_OF[number], source)
    return tuning.tuned(found, options) if options.tune else found


def by_name(found: Iterable[Named]) -> dict[str, list[Named]]:
    """Row name -> its specs, or its records, in their order."""
    groups: dict[str, list[Named]] = {}
    for run in found:
        groups.setdefault(run.name, []).append(run)
    return groups


# ---------------------------------------------------------------------------------------------------- rows


def printed_rows(number: int) -> list[Row]:
    """The paper's rows, as fractions."""
    found = []
    for row in printed.rows(number):
        values = {metric: round(percent / 100, 6) for metric, percent in row.percent.items()}
        told = {"encoder": "", "modalities": "", "context": row.context, "target": row.target}
        found.append(Row(row.name, "system", "printed", **told, block="printed in the paper", printed=values))
    return found


def measure(number: int, runs: dict[str, list[RunSpec]], options: Options, about: str = "") -> list[Row]:
    """The rows of a block, trained where they have no record, and the references of its corpus.

    Every row is compared with FINE, in Table 5 with the last row, which has all modalities.

    Args:
        runs: row name -> its runs, all with the same seeds and data.
        about: what the data are made for; it ends the block's title.
    """
    records = experiment.run_groups(runs, options.out, options.jobs)
    data = next(iter(runs.values()))[0].data
    corpus = experiment.load_corpus(data)
    title = block_title(corpus) + (f": {about}" if about else "")
    used = {"context": data.context, "target": True} if number == 3 else {}
    compared = comparisons.compare(records, _compared_with(number, list(runs)), corpus.info.metrics)
    extra = _extra_columns(number, records, corpus, data)
    rows = []
    for name, group in records.items():
        difference = compared.get(name)
        shown = extra[name] | comparisons.columns(difference)
        rows.append(system_row(name, group, corpus, title, differences=difference, extra=shown, **used))
    return rows + reference_rows(corpus, title, **used)


def _compared_with(number: int, names: list[str]) -> str:
    """The row that the others of a block are compared with."""
    if number == 5:
        return names[-1]
    return ablations.FINE_ROW.name if ablations.FINE_ROW.name in names else names[0]


def _extra_columns(
    number: int, records: dict[str, list[RunRecord]], corpus: Corpus, data: DataConfig
) -> dict[str, dict[str, str]]:
    """Row name -> column -> text: what Tables 5 and 6 show beside the metrics.

    Table 5 on planted data: the oracle's Corr from the subset's factors, and how far FINE gets to it from the floor,
    whose Corr is 0. Table 6: trained parameters, critics included.
    """
    if number == 6:
        return {name: {"parameters": f"{runs[0].parameters / 1e6:.2f} M"} for name, runs in records.items()}
    columns: dict[str, dict[str, str]] = {name: {} for name in records}
    if number == 5 and corpus.kind == "planted":
        oracle = subset_oracles(corpus, data.design)
        for name, runs in records.items():
            best = oracle[tuple(sorted(name.split(" + ")))]
            reached = sum(run.test["corr"] for run in runs) / len(runs)
            columns[name] = {"oracle Corr": f"{best:.3f}", "of the way": f"{100 * reached / best:.0f} %"}
    return columns


def subset_oracles(corpus: Corpus, design: str) -> dict[tuple[str, ...], float]:
    """Sorted subset of modalities -> test Corr of the best prediction from the factors that they see."""
    split, found = corpus.splits["test"], {}
    for row in ablations.MODALITY_ROWS:
        subset = row.change["modalities"]
        best = planted.best_prediction(corpus.info, design, split.factors, subset)
        found[tuple(sorted(subset))] = correlation(best, split.label)
    return found


def system_row(name: str, runs: list[RunRecord], corpus: Corpus, block: str, **more) -> Row:
    """The row of one system: mean over its seeds."""
    first, ids = runs[0], tuple(run.id for run in runs)
    scores = _intervals([run.test for run in runs])
    told = {"encoder": first.encoder, "modalities": " + ".join(first.modalities), "block": block}
    return Row(name, "system", corpus.kind, **told, measured=scores, runs=ids, **more)


def reference_rows(corpus: Corpus, block: str, **more) -> list[Row]:
    """Oracle, ridge and floor of a corpus."""
    label, rows = corpus.splits["test"].label, []
    told = {"encoder": corpus.encoder, "modalities": "", "block": block}
    for name, prediction in references.references(corpus).items():
        scores = _intervals([metrics.score(corpus.info.metrics, prediction, label)])
        rows.append(Row(name, "reference", corpus.kind, **told, measured=scores, **more))
    return rows


def _intervals(scores: list[dict[str, float]]) -> dict[str, dict]:
    """metric -> ``significance.Interval`` over runs, as a dict."""
    return {metric: asdict(significance.interval([run[metric] for run in scores])) for metric in scores[0]}


def block_title(corpus: Corpus) -> str:
    """What a block was measured on: data, encoder, modalities, sizes."""
    sizes = " / ".join(str(len(split)) for split in corpus.splits.values())
    encoder = "" if corpus.encoder == "planted" else f", text by {corpus.encoder}"
    return f"measured on {DATA_NAMES[corpus.kind]}{encoder}, {' + '.join(corpus.modalities)}, {sizes} utterances"


def design_of(row: Row) -> str:
    """Name of the planted design that a row was measured on, read from its block's title; "" for real data."""
    return next((name for name, plan in planted.DESIGNS.items() if row.block.endswith(f": {plan.about}")), "")
