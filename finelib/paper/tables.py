"""Tables 1-6: the paper's printed rows, and rows measured here, each kind in blocks of its own.

Tables 1-4 compare FINE with other systems on one corpus each; 5 and 6 are FINE's own variants (``ablations.py``).
"""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import NamedTuple, TypeVar

import numpy as np

from finelib import metrics
from finelib.baselines import SYSTEMS, references
from finelib.config import DataConfig, RunSpec
from finelib.data import planted, sources
from finelib.data.card import said
from finelib.data.features import Corpus
from finelib.data.own_labels import NAME
from finelib.metrics import correlation
from finelib.paper import ablations, comparisons, printed, significance
from finelib.paper.notes import budget, notes
from finelib.paper.printed import COLUMNS, CORPUS_OF
from finelib.paper.table import Row, Table, in_millions, write
from finelib.runs import experiment, presets, real, tuning
from finelib.runs.options import Options
from finelib.runs.records import RunRecord

AS_SPOKEN = "as spoken"  # what a card says of text that is no translation
DATA_NAMES = {"planted": "planted data (generated)", "files": "licensed feature files", "own": "your file"}
Named = TypeVar("Named", RunSpec, RunRecord)


class BlockRuns(NamedTuple):
    """The runs of rows that may be compared with each other.

    Attributes:
        runs: row name -> its runs, one for each seed.
        about: what the planted design is made for; "" for a corpus's usual one.
        tried: at most so many settings of each system, of which the best on dev is run.
    """

    runs: dict[str, list[RunSpec]]
    about: str = ""
    tried: int = 1


def build_table(number: int, options: Options) -> Table:
    """Train what is missing, make the table, write ``figures/tableN.{json,csv,md,tex,html}`` below ``options.out``.

    Raises:
        ValueError: for a number that is not 1 to 6.
    """
    rows, of_data = printed_rows(number), []
    for block in measured_blocks(number, options):
        rows += measure(number, block.runs, options, block.about)
        of_data += data_notes(block.runs)
        of_data += [budget_note(block, options)] if number in CORPUS_OF else []
    told = notes(number, rows) + tuple(dict.fromkeys(of_data))
    told += tuple(f"Nothing measured from {options.source}: {sentence}" for sentence in missing(number, options))
    if number in CORPUS_OF and options.systems:
        left_out = [name for name in SYSTEMS if name not in presets.compared_systems(options)]
        told += (f"Compared systems that were not run, since --systems left them out: {', '.join(left_out)}.",)
    table = Table(number, tuple(rows), told)
    write(table, options.figures)
    return table


def table_specs(number: int, options: Options) -> list[RunSpec]:
    """Every run that ``build_table`` needs, in the order of the rows, so that the table fills from the top."""
    return [spec for block in measured_blocks(number, options) for specs in block.runs.values() for spec in specs]


# ---------------------------------------------------------------------------------------------------- runs


def measured_blocks(number: int, options: Options) -> list[BlockRuns]:
    """The blocks of a table that are measured: of the source asked for, if it has the corpus, and of real corpora.

    Which of these stand in a table, in the demo beside planted data, ``real.BLOCKS`` says; what cannot be had is left
    out.

    Raises:
        ValueError: for a number that is not 1 to 6.
    """
    if number not in COLUMNS:
        raise ValueError(f"table {number}: unknown, expected one of {', '.join(map(str, COLUMNS))}")
    if number not in CORPUS_OF:
        return [BlockRuns(b.specs(options.seed_list), b.about) for b in ablations.blocks(number, options)]
    found = []
    if options.source != "public" and not sources.available(CORPUS_OF[number], options.source):
        found.append(BlockRuns(by_name(own_specs(number, options)), tried=options.tune or 1))
    return found + [_real_runs(block, options) for block in real.blocks(number, options) if not block.missing()]


def _real_runs(block: real.RealBlock, options: Options) -> BlockRuns:
    """The runs of a real block; compared systems stand in it where real data were asked for."""
    seeds = replace(options, n_seeds=block.short(options) or options.n_seeds)
    compared = block.compared and options.source == "public"
    found = [spec for data in block.data(options) for spec in block_specs(data, seeds, compared)]
    return BlockRuns(by_name(found), block.title(options), options.tune or block.tried if compared else 1)


def missing(number: int, options: Options) -> list[str]:
    """What a table lacks because the source asked for does not have it, one sentence for each corpus."""
    if options.source == "public":
        found = [block.missing() for block in real.blocks(number, options)]
    else:
        found = [sources.available(CORPUS_OF[number], options.source)] if number in CORPUS_OF else []
    return [sentence for sentence in dict.fromkeys(found) if sentence]


def own_specs(number: int, options: Options) -> list[RunSpec]:
    """The runs of Tables 1-4 on their corpus from the source asked for."""
    return block_specs(presets.data_config(CORPUS_OF[number], options), options)


def block_specs(data: DataConfig, options: Options, compared: bool = True) -> list[RunSpec]:
    """The runs of a block of Tables 1-4: FINE, on real data the text encoder alone, and the compared systems.

    With ``options.tune`` the settings are chosen first, which trains what has no record yet.
    """
    found = presets.specs_of(data, options)
    if not compared:
        return found
    found += presets.compared_specs(data, options)
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

    Every row is compared with FINE, in Table 5 with the last row, which has all modalities. Runs on the folds of a
    cross-validation have a test split each: their mean is over folds, and no row is compared with another.

    Args:
        runs: row name -> its runs, all with the same seeds and data.
        about: what the data are made for; it ends the block's title.
    """
    records = experiment.run_groups(runs, options.out, options.jobs)
    folds = list(dict.fromkeys(spec.data for spec in next(iter(runs.values()))))  # one, but for a cross-validation
    data, corpora = folds[0], [experiment.load_corpus(fold) for fold in folds]
    corpus = corpora[0]
    title = block_title(corpus) + (f": {about}" if about else "")
    used = {"context": data.context, "target": True} if number == 3 else {}
    whole = _compared_with(number, list(runs))
    known = [comparisons.references_of(fold) for fold in corpora]
    compared = {}
    if len(folds) == 1:
        fixed = known[0] if _is_real(corpus) else {}
        compared = comparisons.compare(records, whole, corpus.info.metrics, fixed)
    extra = _extra_columns(number, records, corpus, data)
    rows = []
    for name, group in records.items():
        difference = compared.get(name)
        shown = extra[name] | comparisons.columns(difference)
        rows.append(system_row(name, group, corpus, title, differences=difference, extra=shown, **used))
    return rows + reference_rows(corpora, known, compared, title, **used)


def data_notes(runs: dict[str, list[RunSpec]]) -> list[str]:
    """What must be known of a block's data, one sentence each; of public data also what train and test share."""
    corpus = experiment.load_corpus(next(iter(runs.values()))[0].data)
    found = said(corpus.card)
    if corpus.kind == "public":
        found = [*found, *corpus.card["notes"].get("known", ())]
        for what, key in (("videos", "shared_videos"), ("texts", "duplicate_texts")):
            if count := corpus.card[key]["train/test"]:
                found.append(f"{what} that are in train and in test: {count}")
    return [f"{corpus.called}: {sentence}." for sentence in found]


def budget_note(block: BlockRuns, options: Options) -> str:
    """What the systems of a block were given, from the records of their runs."""
    records = experiment.run_groups(block.runs, options.out, options.jobs)
    corpus = experiment.load_corpus(next(iter(block.runs.values()))[0].data)
    about = f" ({block.about})" if block.about else ""
    return f"Budget, {corpus.called}{about}: {budget(records, block.tried)}."


def _compared_with(number: int, names: list[str]) -> str:
    """The row that the others of a block are compared with."""
    if number == 5:
        return names[-1]
    return ablations.FINE_ROW.name if ablations.FINE_ROW.name in names else names[0]


def _extra_columns(
    number: int, records: dict[str, list[RunRecord]], corpus: Corpus, data: DataConfig
) -> dict[str, dict[str, str]]:
    """Row name -> column -> text: what a table shows beside the metrics.

    Table 5 on planted data: the oracle's Corr from the subset's factors, and how far FINE gets to it from the floor,
    whose Corr is 0; on public data the Corr of a ridge on the same modalities. The other tables: trained parameters,
    critics included.
    """
    if number != 5:
        return {name: {"parameters": in_millions(runs[0].parameters)} for name, runs in records.items()}
    columns: dict[str, dict[str, str]] = {name: {} for name in records}
    if number == 5 and corpus.kind == "planted":
        oracle = subset_oracles(corpus, data.design)
        for name, runs in records.items():
            best = oracle[tuple(sorted(name.split(" + ")))]
            reached = sum(run.test["corr"] for run in runs) / len(runs)
            columns[name] = {"oracle Corr": f"{best:.3f}", "of the way": f"{100 * reached / best:.0f} %"}
    if number == 5 and _is_real(corpus):
        label, pooled = corpus.splits["test"].label, references.pooled_modalities(corpus)
        for name, (run, *_) in records.items():
            if set(run.modalities) <= set(pooled):
                ridge = references.ridge(corpus, tuple(run.modalities))
                columns[name] = {"ridge Corr": f"{correlation(ridge, label):.3f}"}
    return columns


def _is_real(corpus: Corpus) -> bool:
    """Whether rows are compared with references too: of public corpora and of somebody's own."""
    return corpus.kind == "public" or corpus.info.name == NAME


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
    scores = intervals([run.test for run in runs])
    told = {"encoder": first.encoder, "modalities": " + ".join(first.modalities), "block": block}
    told["corpus"] = corpus.info.name
    return Row(name, "system", corpus.kind, **told, measured=scores, runs=ids, **more)


def reference_rows(
    corpora: list[Corpus], known: list[dict[str, np.ndarray]], compared: dict[str, dict], block: str, **more
) -> list[Row]:
    """Oracle, linear models and floor of a corpus, or of the folds of a cross-validation, then their means.

    Args:
        known: test predictions of each reference, for each of the corpora.
        compared: row -> differences, of those rows that have them.
    """
    corpus, scores, rows = corpora[0], {}, []
    told = {"encoder": corpus.encoder, "modalities": "", "block": block, "corpus": corpus.info.name}
    for fold, predictions in zip(corpora, known, strict=True):
        label = fold.splits["test"].label
        for name, prediction in predictions.items():
            scores.setdefault(name, []).append(metrics.score(corpus.info.metrics, prediction, label))
    for name, found in scores.items():
        difference = compared.get(name)
        shown = {"differences": difference, "extra": comparisons.columns(difference)}
        rows.append(Row(name, "reference", corpus.kind, **told, measured=intervals(found), **shown, **more))
    return rows


def intervals(scores: list[dict[str, float]]) -> dict[str, dict]:
    """metric -> ``significance.Interval`` over runs, as a dict."""
    return {metric: asdict(significance.interval([run[metric] for run in scores])) for metric in scores[0]}


def block_title(corpus: Corpus) -> str:
    """What a block was measured on: data, encoder, modalities, sizes."""
    sizes = " / ".join(str(len(split)) for split in corpus.splits.values())
    encoder, text = "", corpus.splits["train"].frames.get("T")
    if text and corpus.kind != "planted" and text.values.shape[1:] != (1,):  # one number is a prediction
        language = corpus.card.get("text", AS_SPOKEN)
        encoder = f", text by {corpus.encoder}" + ("" if language == AS_SPOKEN else f" ({language})")
    data = corpus.called if corpus.kind == "public" else DATA_NAMES[corpus.kind]
    data = corpus.info.title if corpus.info.name == NAME else data
    return f"measured on {data}{encoder}, {' + '.join(corpus.modalities)}, {sizes} utterances"


def design_of(row: Row) -> str:
    """Name of the planted design that a row was measured on, read from its block's title; "" for real data."""
    return next((name for name, plan in planted.DESIGNS.items() if row.block.endswith(f": {plan.about}")), "")
