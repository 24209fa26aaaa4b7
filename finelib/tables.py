"""Tables 1-4: printed rows from the paper, measured rows from run records, each in a block of its own.

Tables 5 and 6 are made of the same rows by ``ablations.py``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader

from finelib import comparisons, data, experiment, metrics, presets, references
from finelib.config import RunSpec
from finelib.data.corpora import CORPORA
from finelib.data.features import Corpus
from finelib.experiment import RunRecord
from finelib.presets import ROOT, Options

SENTIMENT = {"acc2_nonzero": "ACC-2", "f1_nonzero": "F1", "acc7": "ACC-7"}
COLUMNS = {
    1: SENTIMENT, 2: SENTIMENT, 3: {"acc2": "ACC-2"}, 4: {"acc2": "ACC-2", "f1": "F1", "acc5": "ACC-5"},
    5: SENTIMENT, 6: SENTIMENT,
}  # fmt: skip
TITLES = {5: "Subsets of the modalities", 6: "FINE without its components"}
BEYOND_THE_PAPER = {"corr": "Corr", "mae": "MAE"}
CORPUS_OF = {info.table: name for name, info in CORPORA.items()}
DATA_NAMES = {
    "planted": "planted data (generated)", "public": "public features of the real corpus",
    "files": "licensed feature files",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row; exactly one of ``printed`` and ``measured`` is set. Metrics are fractions.

    Attributes:
        name: the system or reference.
        kind: "system" or "reference".
        data: "printed", "planted", "public" or "files".
        encoder: text encoder, "" where the paper does not say.
        modalities: those used, "" where printed.
        block: rows of one block may be compared with each other.
        printed: metric -> value.
        measured: metric -> {"mean", "sd", "low", "high", "n"}.
        runs: ids of the run records behind it; none for a reference.
        context, target: Table 3 only: what of an utterance was used.
        beside: Tables 5 and 6: column -> text, what stands beside the metrics.
        differences: Tables 5 and 6: metric -> ``statistics.Difference`` to the block's FINE, as a dict.
    """

    name: str
    kind: str
    data: str
    encoder: str
    modalities: str
    block: str
    printed: dict[str, float] | None
    measured: dict[str, dict] | None
    runs: tuple[str, ...] = ()
    context: bool | None = None
    target: bool | None = None
    beside: dict[str, str] = field(default_factory=dict)
    differences: dict[str, dict] | None = None

    def value(self, metric: str) -> float | None:
        """The printed or the mean measured value, None if the row lacks the metric."""
        if self.printed is not None:
            return self.printed.get(metric)
        return self.measured[metric]["mean"] if metric in self.measured else None


@dataclass(frozen=True)
class Table:
    """A table of the paper with what was measured beside it."""

    number: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        subject = TITLES.get(self.number) or CORPORA[CORPUS_OF[self.number]].title
        return f"{subject}: printed and measured results"

    @property
    def beside(self) -> list[str]:
        """Columns beside the metrics."""
        return list(dict.fromkeys(name for row in self.rows for name in row.beside))

    def _repr_html_(self) -> str:
        return render(self, "html")


def build(number: int, options: Options) -> Table:
    """Train what is missing, make the table, write ``figures/tableN.{json,csv,md,tex,html}`` below ``options.out``.

    Raises:
        ValueError: for a number that is not 1 to 4.
    """
    if number not in CORPUS_OF:
        raise ValueError(f"table {number}: unknown, expected one of {', '.join(map(str, CORPUS_OF))}")
    rows = printed_rows(number)
    for block in blocks(number, options):
        rows += measured_rows(number, block)
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


def table_specs(number: int, options: Options) -> list[RunSpec]:
    """Every run that ``build`` needs."""
    return [spec for block in blocks(number, options) for spec in presets.specs(CORPUS_OF[number], block)]


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


def measured_rows(number: int, options: Options) -> list[Row]:
    """One row per system (mean over its seeds) and the references of the same corpus, as one block."""
    specs = presets.specs(CORPUS_OF[number], options)
    records = experiment.run(specs, options.out, options.jobs)
    corpus = experiment.load_corpus(specs[0].data)
    block = block_title(corpus)
    used = {"context": specs[0].data.context, "target": True} if number == 3 else {}
    names = dict.fromkeys(spec.name for spec in specs)
    runs = {name: [r for r in records if r.content["name"] == name] for name in names}
    compared = comparisons.compare(runs, next(iter(runs))) if len(runs) > 1 else {}
    rows = [
        system_row(group, corpus, block, differences=compared.get(name), beside=comparisons.columns(compared.get(name)),
                   **used)
        for name, group in runs.items()
    ]  # fmt: skip
    return rows + reference_rows(corpus, block, **used)


def system_row(runs: list[RunRecord], corpus: Corpus, block: str, **more) -> Row:
    """The row of one system: mean over its seeds."""
    content = runs[0].content
    return Row(
        content["name"], "system", corpus.data, corpus.encoder, " + ".join(content["modalities"]), block, None,
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
    if "planted" in sources:
        said.append("Planted data are generated: their rows say nothing about the real corpus, only how far a method "
                    "gets from the floor to the oracle, the best prediction given the true factors.")  # fmt: skip
    if "public" in sources:
        said.append("The public block has the printed rows' test split but other features, and fewer modalities where "
                    "it says so; its numbers are not comparable with the printed ones.")  # fmt: skip
    return tuple(said)


# -------------------------------------------------------------------------------------------------- output


def write(table: Table, folder: Path) -> None:
    """Write all five forms; each file is replaced in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "table": table.number, "title": table.title, "notes": table.notes,
        "provenance": {"git_revision": experiment.git_revision(), "versions": experiment.versions()},
        "rows": [_json_row(row) for row in table.rows],
    }  # fmt: skip
    texts = {"json": json.dumps(content, indent=1), "csv": _csv(table)}
    texts |= {form: render(table, form) for form in ("md", "tex", "html")}
    for form, text in texts.items():
        experiment.write_atomically(folder / f"table{table.number}.{form}", text)


def render(table: Table, form: str) -> str:
    """The table as "md", "tex" or "html"."""
    templates = Environment(
        loader=PackageLoader("finelib"), trim_blocks=True, lstrip_blocks=True, autoescape=form == "html"
    )
    templates.filters["tex"] = _tex
    text_heads = ["Model", *(["Context", "Target"] if table.number == 3 else [])]
    columns = COLUMNS[table.number] | BEYOND_THE_PAPER
    named = dict.fromkeys(row.block for row in table.rows)
    return templates.get_template(f"table.{form}").render(
        number=table.number, title=table.title, notes=table.notes, text_columns=len(text_heads),
        heads=text_heads + list(columns.values()) + table.beside,
        blocks=[{"title": block, "rows": _cells(table, block, columns)} for block in named],
    )  # fmt: skip


def _cells(table: Table, block: str, columns: dict[str, str]) -> list[dict]:
    rows = [row for row in table.rows if row.block == block]
    marks = {metric: _marks(rows, metric) for metric in columns}
    return [
        {
            "text": [row.name, *(["✓" if row.context else "", "✓" if row.target else ""] if table.number == 3 else [])],
            "cells": [
                {"text": _format(row, metric), "mark": marks[metric].get(i), "title": _interval_text(row, metric)}
                for metric in columns
            ]
            + [{"text": row.beside.get(name, "–"), "mark": None, "title": ""} for name in table.beside],
        }
        for i, row in enumerate(rows)
    ]  # fmt: skip


def _marks(rows: list[Row], metric: str) -> dict[int, str]:
    """Row index -> "best" or "second" of a block, ties included; the oracle takes no part."""
    values = {
        i: row.value(metric) for i, row in enumerate(rows)
        if row.value(metric) is not None and not row.name.startswith("oracle")
    }  # fmt: skip
    ranked = sorted(set(values.values()), reverse=metric != "mae")[:2]
    return {i: ("best", "second")[ranked.index(value)] for i, value in values.items() if value in ranked}


def _format(row: Row, metric: str) -> str:
    value = row.value(metric)
    if value is None:
        return "–"
    percent = metric not in BEYOND_THE_PAPER
    factor, digits = (100, 2) if percent else (1, 3)
    spread = row.measured[metric]["sd"] if row.measured else None
    return f"{factor * value:.{digits}f}" + ("" if spread is None else f" ± {factor * spread:.{digits}f}")


def _interval_text(row: Row, metric: str) -> str:
    cell = (row.measured or {}).get(metric)
    if not cell or cell["low"] is None:
        return ""
    return f"95 % interval {cell['low']:.4f} to {cell['high']:.4f}, n = {cell['n']}"


def _json_row(row: Row) -> dict:
    left_out = [key for key in ("context", "target", "differences") if getattr(row, key) is None]
    left_out += [] if row.beside else ["beside"]
    return {key: value for key, value in asdict(row).items() if key not in left_out}


def _csv(table: Table) -> str:
    columns = COLUMNS[table.number] | BEYOND_THE_PAPER
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", "kind", "data", "encoder", "modalities", "block", "n",
                     *(f"{metric}{part}" for metric in columns for part in ("", "_sd", "_low", "_high")),
                     *table.beside])  # fmt: skip
    for row in table.rows:
        cells = []
        for metric in columns:
            spread = (row.measured or {}).get(metric, {})
            cells += [row.value(metric), spread.get("sd"), spread.get("low"), spread.get("high")]
        n = next(iter(row.measured.values()))["n"] if row.measured else None
        writer.writerow([row.name, row.kind, row.data, row.encoder, row.modalities, row.block, n, *cells,
                         *(row.beside.get(name) for name in table.beside)])  # fmt: skip
    return out.getvalue()


def _tex(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash{}"), ("%", r"\%"), ("&", r"\&"), ("_", r"\_"), ("#", r"\#"),
                           ("±", r"$\pm$"), ("–", "--"), ("✓", r"\checkmark")):  # fmt: skip
        text = text.replace(plain, escaped)
    return text
