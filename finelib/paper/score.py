"""Somebody's own predictions, and measured rows, in one table: ``python -m finelib score mine.csv --corpus mosi``."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from finelib import metrics
from finelib.data.corpora import ALL_CORPORA
from finelib.data.own_labels import NAME
from finelib.paper import comparisons, own_predictions, scored_against
from finelib.paper.notes import OWN
from finelib.paper.own_predictions import Line, Seeds
from finelib.paper.scored_against import Target
from finelib.paper.table import Row, Table, render, write
from finelib.paper.tables import intervals
from finelib.runs.groups import measured, run_folder
from finelib.runs.options import Options
from finelib.runs.records import RunRecord

PLANTED = "planted_"  # what every id of planted data begins with
TWO_CLASSES = {"acc2": "ACC-2", "f1": "F1"}
COLUMNS = {  # kind of metric -> metric -> title of its column
    "mosi": {
        **{f"{metric}_nonzero": f"{title} (non-zero)" for metric, title in TWO_CLASSES.items()},
        **{f"{metric}_has_zero": f"{title} (has-zero)" for metric, title in TWO_CLASSES.items()},
        "acc7": "ACC-7",
        "acc5": "ACC-5",
    },
    "sims": TWO_CLASSES | {"acc3": "ACC-3", "acc5": "ACC-5"},
    "humor": TWO_CLASSES,
}
ABOUT = {
    "mosi": "non-zero: without utterances labelled 0, and positive is > 0; has-zero: all, and >= 0 is not negative.",
    "sims": "Predictions are clipped to -1..1; a value on the edge of a class, 0 for ACC-2, is of the class below.",
    "humor": "Predictions above .5 are of the second class.",
}
NOTES = (
    "ACC and F1 (weighted by class) in percent. Mean ± standard deviation over seeds; n and the 95 % t interval are in "
    "the JSON and csv beside this table. Bold: best, underlined: second."
)
DIFFERENCE = (
    "Δ: the row minus {}, with a 95 % interval over seeds and test utterances; p of that difference after Holm's "
    "correction over the rows with several seeds, and apart from them over those with one prediction an utterance."
)
PLANTED_NOTE = "Planted data are generated: these scores say nothing about the real corpus."


@dataclass(frozen=True)
class Scored:
    """A row to be: its predictions, one array (N,) for each seed, and the records behind them, if any."""

    name: str
    predictions: list[np.ndarray]
    records: list[RunRecord] = field(default_factory=list)


def build(
    names: Sequence[str], corpus: str, source: str | None = None, against: str | None = None, out: Path | None = None
) -> tuple[Table, Target]:
    """A table of one's own predictions and of measured rows.

    Args:
        names: csv files (``own_predictions``), folders of runs, or names of systems that have runs below ``out``.
        corpus: a known one's name; or the path of an own corpus, as ``finelib.load`` takes it.
        source: of a known corpus, as ``sources.load`` takes it; default: with a measured row that row's, else planted
            or public, as the ids say.
        against: the measured row that all others are compared with.
        out: where runs are looked for, in out/runs; default as of ``Options``.

    Returns:
        The table, and what its rows are scored against.

    Raises:
        ValueError: DataError for a file that is wrong; no such corpus; a row that there is none or more than one of.
        OSError: a corpus cannot be read.
        ImportError: a package that an own corpus needs is missing.
    """
    corpus, source = scored_against.meant(corpus, source)
    runs = Options(out=out).out / "runs"
    files = {name: own_predictions.read(Path(name)) for name in names if is_file(name)}
    ids = {line.id for lines in files.values() for line in lines}
    others = [name for name in ([against] if against else []) + list(names) if name not in files]
    groups = {name: measured(name, corpus, source, runs, ids) for name in dict.fromkeys(others)}
    if groups and corpus != NAME:
        target = scored_against.of_records(list(groups.values()))
    else:
        usual = "planted" if any(i.startswith(PLANTED) for i in ids) else "public"
        target = scored_against.of_source(corpus, source or usual, list(groups.values()))
    rows = {name: _of_runs(group) for name, group in groups.items()}
    own = [row for name, lines in files.items() for row in _of_file(Path(name), lines, target)]
    scored = _distinct([*rows.values(), *own])
    return _table(scored, target, rows[against].name if against else None), target


def is_file(name: str) -> bool:
    """Whether a row's name means a csv file: something that is there and no run's folder, or ends as one."""
    return run_folder(name) is None and (Path(name).exists() or Path(name).suffix.lower() == ".csv")


# ----------------------------------------------------------------------------------------------------- the table


def _of_runs(group: list[RunRecord]) -> Scored:
    return Scored(group[0].name, [run.predictions()["test"] for run in group], group)


def _of_file(path: Path, lines: list[Line], target: Target) -> list[Scored]:
    """The rows of a file; one without a column of systems is called by the file's name."""
    named = target.kind in ("planted", "own")
    target.check_unit(np.array([line.prediction for line in lines]), path)
    systems = own_predictions.arranged(lines, path, target.ids, target.called, target.elsewhere, named)
    return [Scored(system or path.stem, _by_seed(seeds)) for system, seeds in systems.items()]


def _by_seed(seeds: Seeds) -> list[np.ndarray]:
    return [seeds[seed] for seed in sorted(seeds)] if None not in seeds else list(seeds.values())


def _distinct(rows: list[Scored]) -> list[Scored]:
    """The rows, one's own of a name that is taken marked as such.

    Raises:
        ValueError: two of one's own, or two measured ones, have one name.
    """
    taken = {row.name for row in rows if row.records}
    marked = [
        Scored(f"{row.name} (own)", row.predictions) if not row.records and row.name in taken else row for row in rows
    ]
    twice = [name for name, count in Counter(row.name for row in marked).items() if count > 1]
    if twice:
        raise ValueError(f"score: found {twice[0]!r} twice, expected a name of its own for each row")
    return marked


def _table(rows: list[Scored], target: Target, whole: str | None) -> Table:
    kind = target.info.metrics
    compared, notes = _compared(rows, whole, target.label, kind) if whole else ({}, [])
    found = []
    for row in rows:
        scores = intervals([metrics.score(kind, prediction, target.label) for prediction in row.predictions])
        difference = compared.get(row.name)
        told = {"encoder": "", "modalities": "", "block": target.block, "corpus": target.info.name, "measured": scores}
        if row.records:
            first = row.records[0]
            told |= {"encoder": first.encoder, "modalities": " + ".join(first.modalities)}
            told["runs"] = tuple(run.id for run in row.records)
        told |= {"differences": difference, "extra": comparisons.columns(difference)}
        found.append(Row(row.name, "system", target.kind, **told))
    about = [NOTES, ABOUT[kind], *notes, f"Scored against {target.called}."]
    if target.scale:
        about.append(f"Of the data: {target.scale.says(told=False)}.")
    else:
        about += {"planted": [PLANTED_NOTE], "own": [OWN]}.get(target.kind, [])
    return Table(0, tuple(found), tuple(about), f"{target.info.title}: scores of the predictions given", COLUMNS[kind])


def _compared(
    rows: list[Scored], whole: str, label: np.ndarray, kind: str
) -> tuple[dict[str, dict[str, dict]], list[str]]:
    """The rows compared with the one named ``whole`` (``comparisons.of_predictions``), and what must be said of it.

    A row with one prediction an utterance meets each seed of ``whole``, as the tables' references do; of rows with
    several seeds as many are compared as all of them have.
    """
    each = {row.name: row.predictions for row in rows}
    other = each.pop(whole)
    single = [name for name, predictions in each.items() if len(predictions) == 1]
    several = [name for name in each if name not in single]
    count = min(len(each.get(name, other)) for name in [whole, *several])
    families = [{name: each[name][:count] for name in several}, {name: each[name] * count for name in single}]
    notes = [DIFFERENCE.format(whole)]
    if shortened := [name for name in [*several, whole] if len(each.get(name, other)) > count]:
        notes.append(f"Compared by the first {count} seeds of {', '.join(shortened)}, as many as every row has.")
    if single and count > 1:
        lacks = "what another training of the same system would give is not in their intervals"
        notes.append(f"One prediction an utterance: {', '.join(single)}; {lacks}.")
    if count == 1:
        notes.append("Without a second seed there is no interval and no p.")
    return comparisons.of_predictions(families, other[:count], label, kind), notes


# ---------------------------------------------------------------------------------------------------- the command


def main(arguments: list[str]) -> int:
    """Exit status: 0; 2 for wrong arguments, files or rows."""
    parser = argparse.ArgumentParser("python -m finelib score", description=__doc__.split(":")[0], allow_abbrev=False)
    rows = "csv files with the columns id, prediction and, if wanted, seed, system; or measured rows: folders of runs, "
    parser.add_argument("rows", nargs="+", metavar="ROW", help=rows + "or systems that have runs in DIR of --out")
    said = f"{', '.join(ALL_CORPORA)}, or the path of an own corpus: a folder of recordings, a file of features"
    parser.add_argument("--corpus", required=True, metavar="CORPUS", help=said)
    said = "planted, public, or the folder or file that run_all.sh takes (default: that of the measured rows, or else "
    parser.add_argument("--source", metavar="NAME", help=said + "planted or public, as the ids say)")
    said = "compare all rows with this measured one: the name of a system that has runs in DIR, or a run's folder"
    parser.add_argument("--against", metavar="ROW", help=said)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where run_all.sh wrote (default: as of run_all.sh)")
    given = parser.parse_args(arguments)
    source = given.source
    if source and Path(source).exists():
        source = str(Path(source).resolve())  # as records name it
    try:
        table, target = build(given.rows, given.corpus, source, given.against, given.out)
        files, out = [Path(name) for name in given.rows if is_file(name)], Options(out=given.out).out
        folder, name = (files[0].parent, files[0].stem) if files else (out, Path(given.corpus).stem)
        write(table, folder, f"{name}.scores")
    except (ValueError, OSError, ImportError) as error:
        print(f"score: {error}", file=sys.stderr)
        return 2
    print(f"{render(table, 'md')}\nwritten: {folder / name}.scores.md, .csv, .tex (booktabs), .json, .html")
    return 0
