"""What a table is, and its forms: JSON, CSV, Markdown, LaTeX, HTML."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from finelib.paper.printed import COLUMNS, SUBJECTS
from finelib.runs.records import git_revision, versions, write_atomically

BEYOND_THE_PAPER = {"corr": "Corr", "mae": "MAE"}


@dataclass(frozen=True)
class Row:
    """One row; exactly one of ``printed`` and ``measured`` is set. Metrics are fractions.

    Attributes:
        name: the system or reference.
        kind: "system" or "reference".
        data: "printed", "planted", "public", "files" (licensed) or "own" (your file).
        encoder: text encoder, "" where the paper does not say.
        modalities: those used, "" where printed.
        block: rows of one block may be compared with each other.
        printed: metric -> value.
        measured: metric -> {"mean", "sd", "low", "high", "n"}.
        runs: ids of the run records behind it; none for a reference.
        context, target: Table 3 only: what of an utterance was used.
        extra: column -> text, what stands beside the metrics.
        differences: metric -> ``significance.Difference`` to the block's FINE, as a dict.
        corpus: short name of the one it was measured on, "" where printed.
    """

    name: str
    kind: str
    data: str
    encoder: str
    modalities: str
    block: str
    printed: dict[str, float] | None = None
    measured: dict[str, dict] | None = None
    runs: tuple[str, ...] = ()
    context: bool | None = None
    target: bool | None = None
    extra: dict[str, str] = field(default_factory=dict)
    differences: dict[str, dict] | None = None
    corpus: str = ""

    def value(self, metric: str) -> float | None:
        """The printed or the mean measured value, None if the row lacks the metric."""
        if self.printed is not None:
            return self.printed.get(metric)
        found = self.interval(metric)
        return found and found["mean"]

    def interval(self, metric: str) -> dict | None:
        """ "mean", "sd", "low", "high", "n" of a metric, None if the row was not measured or lacks the metric.

        A corpus without an ACC-2 that leaves out labels of 0 has its own one in the place of that.
        """
        scores = self.measured or {}
        return scores.get(metric) or scores.get(metric.removesuffix("_nonzero"))


@dataclass(frozen=True)
class Table:
    """A table of the paper with what was measured beside it, or measured rows alone under a subject of their own.

    ``columns``: metric -> title of its column, where they are not those of the paper's table.
    """

    number: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    subject: str = ""
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """What stands before the title: the number of a table of the paper, nothing before a subject of its own."""
        return "" if self.subject else f"Table {self.number}."

    @property
    def title(self) -> str:
        return self.subject or f"{SUBJECTS[self.number]}: printed and measured results"

    @property
    def blocks(self) -> dict[str, list[Row]]:
        """Title of a block -> its rows, in their order; the printed rows come first."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.block, []).append(row)
        return found

    @property
    def printed(self) -> list[Row]:
        """The paper's rows."""
        return [row for row in self.rows if row.printed is not None]

    @property
    def measured(self) -> list[list[Row]]:
        """The rows of each measured block, references included; empty if nothing was measured."""
        return [rows for rows in self.blocks.values() if rows[0].measured is not None]

    @property
    def text_columns(self) -> int:
        """How many of the first columns are text: the model, in Table 3 also context and target."""
        return 3 if self.number == 3 else 1

    @property
    def metrics(self) -> dict[str, str]:
        """metric -> title of its column."""
        return (self.columns or COLUMNS[self.number]) | BEYOND_THE_PAPER

    @property
    def extra(self) -> list[str]:
        """Columns beside the metrics."""
        return list(dict.fromkeys(name for row in self.rows for name in row.extra))

    def _repr_html_(self) -> str:
        return render(self, "html")


def write(table: Table, folder: Path, name: str = "") -> None:
    """Write all five forms, NAME.json and so on, by default tableN.json; each file is replaced in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    made_by = {"git_revision": git_revision(), "versions": versions()}
    content = {"table": table.number, "title": table.title, "notes": table.notes, "provenance": made_by}
    if table.subject:
        content |= {"subject": table.subject, "columns": table.columns}
    content["rows"] = [_json_row(row) for row in table.rows]
    texts = {"json": json.dumps(content, indent=1), "csv": _csv(table)}
    texts |= {form: render(table, form) for form in ("md", "tex", "html")}
    for form, text in texts.items():
        write_atomically(folder / f"{name or f'table{table.number}'}.{form}", text)


def read(path: Path) -> Table:
    """A table from its JSON.

    Raises:
        ValueError: the file is not a table's.
    """
    try:
        content = json.loads(path.read_text())
        found = tuple(Row(**row | {"runs": tuple(row["runs"])}) for row in content["rows"])
        own = content.get("subject", ""), content.get("columns", {})
        return Table(content["table"], found, tuple(content["notes"]), *own)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a table ({error}); delete it and build it again") from error


def render(table: Table, form: str) -> str:
    """The table as "md", "tex" or "html"."""
    environment = templates(html=form == "html")
    environment.filters |= {"tex": _tex, "md": _md}
    shown = {name: getattr(table, name) for name in ("head", "title", "notes", "text_columns")}
    blocks = [{"title": title, "rows": cells(table, title)} for title in table.blocks]
    return environment.get_template(f"table.{form}").render(shown, heads=heads(table), blocks=blocks)


def templates(html: bool) -> Environment:
    """The templates of tables and claims; what goes into HTML is escaped."""
    return Environment(loader=PackageLoader("finelib.paper"), trim_blocks=True, lstrip_blocks=True, autoescape=html)


def heads(table: Table) -> list[str]:
    """Column titles; those of text come first."""
    text = ["Model", *(["Context", "Target"] if table.number == 3 else [])]
    return text + list(table.metrics.values()) + table.extra


def cells(table: Table, block: str) -> list[dict]:
    """The rows of a block as they are shown: texts, and cells with text, mark, value (or None) and a title."""
    rows, metrics = table.blocks[block], table.metrics
    marks = {metric: _marks(rows, metric) for metric in metrics}
    shown = []
    for i, row in enumerate(rows):
        scores = [
            _cell(_format(row, metric), marks[metric].get(i), _interval_text(row, metric), row.value(metric))
            for metric in metrics
        ]
        extra = [_cell(row.extra.get(name, "–")) for name in table.extra]
        used = ["✓" if part else "" for part in (row.context, row.target)] if table.number == 3 else []
        shown.append({"text": [row.name, *used], "cells": scores + extra, "runs": row.runs})
    return shown


def _cell(text: str, mark: str | None = None, title: str = "", value: float | None = None) -> dict:
    return {"text": text, "mark": mark, "title": title, "value": value}


def _marks(rows: list[Row], metric: str) -> dict[int, str]:
    """Row index -> "best" or "second" of a block, ties included; the oracle takes no part."""
    values = {i: row.value(metric) for i, row in enumerate(rows) if not row.name.startswith("oracle")}
    values = {i: value for i, value in values.items() if value is not None}
    best_two = sorted(set(values.values()), reverse=metric != "mae")[:2]
    mark = dict(zip(best_two, ("best", "second"), strict=False))
    return {i: mark[value] for i, value in values.items() if value in mark}


def _format(row: Row, metric: str) -> str:
    value = row.value(metric)
    if value is None:
        return "–"
    percent = metric not in BEYOND_THE_PAPER
    factor, digits = (100, 2) if percent else (1, 3)
    spread = row.interval(metric)["sd"] if row.measured else None
    return f"{factor * value:.{digits}f}" + ("" if spread is None else f" ± {factor * spread:.{digits}f}")


def _interval_text(row: Row, metric: str) -> str:
    cell = row.interval(metric)
    if not cell or cell["low"] is None:
        return ""
    return f"95 % interval {cell['low']:.4f} to {cell['high']:.4f}, n = {cell['n']}"


def _json_row(row: Row) -> dict:
    left_out = [key for key in ("context", "target", "differences") if getattr(row, key) is None]
    left_out += [] if row.extra else ["extra"]
    return {key: value for key, value in asdict(row).items() if key not in left_out}


def in_millions(parameters: float) -> str:
    """A count for a table: 0.27 M; below 0.01 M the count itself."""
    return f"{parameters / 1e6:.2f} M" if parameters >= 5000 else f"{parameters:.0f}"


def _csv(table: Table) -> str:
    metrics = table.metrics
    told, parts = ("name", "kind", "data", "encoder", "modalities", "block"), ("sd", "low", "high")
    of_metrics = [column for metric in metrics for column in (metric, *(f"{metric}_{part}" for part in parts))]
    lines = []
    for row in table.rows:
        line = {column: getattr(row, column) for column in told} | row.extra
        line["n"] = next(iter(row.measured.values()))["n"] if row.measured else None
        for metric in metrics:
            spread = row.interval(metric) or {}
            line[metric] = row.value(metric)
            line |= {f"{metric}_{part}": spread.get(part) for part in parts}
        lines.append(line)
    columns = [*told, "n", *of_metrics, *table.extra]
    return pd.DataFrame(lines, columns=columns, dtype=object).to_csv(index=False, lineterminator="\n")


def _tex(text: str) -> str:
    escaped = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    escaped |= {"±": r"$\pm$", "–": "--", "✓": r"\checkmark", "Δ": r"$\Delta$", "<": "$<$", ">": "$>$"}
    return text.translate(str.maketrans(escaped | {sign: "\\" + sign for sign in "%&_#${}"}))


def _md(text: str) -> str:
    """A name as plain text in a cell of Markdown."""
    return re.sub(r"([\\`*|<>\[\]])", r"\\\1", text)
