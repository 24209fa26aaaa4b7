"""Tables with made-up measured rows in a results folder, for what is judged by them."""

import json

from finelib.paper import printed, table
from finelib.paper.claims_measured import Results
from finelib.paper.table import Row, Table
from finelib.runs.options import Options


def measured(name, low=None, high=None, data="files", runs=("run",), block="measured on files", **more):
    """A row, with the interval of its Corr minus FINE's."""
    corr = {"mean": -1.0 if low is None else (low + high) / 2, "low": low, "high": high}
    differences = None if name == "FINE" else {"corr": corr}
    told = {"encoder": "", "modalities": "T", "runs": runs, "differences": differences}
    return Row(name, "system", data, block=block, measured={}, **told | more)


def folder(tmp_path, *found, number=6, name="table"):
    """A results folder with one table of these rows, NAMEn.json."""
    options = Options(out=tmp_path)
    table.write(Table(number, (), ()), options.figures)  # the empty table's other forms are of no interest
    content = {"table": number, "notes": [], "rows": [table._json_row(row) for row in found]}
    (options.figures / f"{name}{number}.json").write_text(json.dumps(content))
    return options


def measure(rule, options, data="files", **settings):
    """The verdict of a rule."""
    return rule(Results(options, data), **settings)


def put(monkeypatch, tables: dict[int, dict[str, tuple[float, ...]]]):
    """Put constructed tables in the place of the paper's: number -> name -> percentages."""

    def rows(number):
        columns = printed.COLUMNS[number]
        return tuple(
            printed.PrintedRow(name, dict(zip(columns, map(str, values), strict=True)))
            for name, values in tables[number].items()
        )

    monkeypatch.setattr(printed, "rows", rows)
