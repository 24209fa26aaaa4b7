"""What measured results say about the paper's claims: rules that give a verdict from tables, figures and run records.

A rule looks at a 95 % interval: the claim *holds* if the interval lies on the claimed side of 0, it *does not hold* if
the interval lies below ``MARGIN``, which is less than anyone would claim, and else it *cannot be told*. Of several
comparisons all must hold, and one that does not decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from finelib.baselines import SYSTEMS
from finelib.paper import ablations, significance, tables
from finelib.paper.claims_printed import DOES_NOT, HOLDS, NOT_RUN, OPEN, Verdict, one_more, printed_rows, together
from finelib.paper.table import COLUMNS, Row, read
from finelib.runs.options import Options
from finelib.runs.records import read_record

MARGIN = 0.02  # of Corr
MAIN_DESIGN = {5: "modalities", 6: "components"}  # planted block of the table's own rows


@dataclass(frozen=True)
class Results:
    """What lies in an output folder, seen as results on one kind of data ("planted", "public" or "files")."""

    options: Options
    data: str

    def rows(self, number: int, design: str | None = None) -> dict[str, Row]:
        """name -> measured row of a table; of planted tables those of one design, else of the table's own."""
        path = self.options.figures / f"table{number}.json"
        if not path.exists():
            return {}
        wanted = MAIN_DESIGN.get(number, "") if design is None and self.data == "planted" else design or ""
        return {
            row.name: row
            for row in read(path).rows
            if row.data == self.data and row.kind == "system" and tables.design_of(row) == wanted
        }

    def read(self, name: str) -> dict | None:
        """The content of figures/NAME.json if it is of this kind of data."""
        path = self.options.figures / f"{name}.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        return content if content.get("data") == self.data else None


def beats_others(results: Results, tables: list[int], metrics: list[str] | None = None) -> Verdict:
    """On the licensed files: FINE's interval over seeds lies above the best other printed row, in every metric. Other
    data cannot be compared with the printed rows: there FINE's Corr is above that of every compared system run here."""
    if results.data != "files":
        found = [_beats_compared(results, number) for number in tables]
        return next((part for part in found if part.verdict == NOT_RUN), None) or together(found)
    parts = []
    for number in tables:
        measured = results.rows(number).get("FINE")
        if measured is None:
            return Verdict(NOT_RUN, f"Table {number} has not been measured")
        for m in metrics or COLUMNS[number]:
            bar = max(values[m] for name, values in printed_rows(number) if name != "FINE") / 100
            found = {k: None if (v := measured.measured[m][k]) is None else v - bar for k in ("mean", "low", "high")}
            parts.append(_by_interval(f"Table {number} {COLUMNS[number][m]}", found, measured.runs, 0.0))
    return together(parts)


def _beats_compared(results: Results, table: int) -> Verdict:
    others = [name for name in results.rows(table) if name in SYSTEMS]
    if not others:
        return Verdict(NOT_RUN, f"no other method has been run for Table {table} on these data")
    return _pairs(results, table, [("FINE", other) for other in others])


def higher(results: Results, table: int, row: str, than: list[str] | str, design: str | None = None) -> Verdict:
    """A row's Corr is above that of others; "printed" names Table 6's printed rows."""
    if than == "printed":
        than = [v.name for v in ablations.COMPONENT_ROWS if v.kind == ablations.PRINTED and v.name != row]
    return _pairs(results, table, [(row, other) for other in than], design)


def lower_than_all(results: Results, table: int, rows: list[str], others: list[str]) -> Verdict:
    """Rows' Corr is below that of others."""
    return _pairs(results, table, [(other, row) for row in rows for other in others])


def added_modality_measured(results: Results) -> Verdict:
    """Corr rises with every modality that is added."""
    return _pairs(results, 5, one_more())


def figure5(results: Results, measure: str, side: str = "above") -> Verdict:
    """A measure of the trained features is beyond its control over seeds, on the side named."""
    content = results.read("figure5")
    if content is None:
        return Verdict(NOT_RUN, "Figure 5 has not been measured")
    row = content["measures"]["features"][measure]
    verdict = {None: OPEN, "no": OPEN, side: HOLDS}.get(row["beyond_control"], DOES_NOT)
    blank = content["measures"]["untrained"][measure]["mean"]
    said = f"{_number(row)}, control {row['control']:.3f}, before training {blank:.3f}"
    return Verdict(verdict, said, row["mean"], row["low"], row["high"], tuple(content["runs"]))


def figure5_above(results: Results, measure: str, threshold: float) -> Verdict:
    """A measure of the trained features lies above a threshold."""
    content = results.read("figure5")
    if content is None or (row := content["measures"]["features"][measure])["mean"] is None:
        return Verdict(NOT_RUN, "Figure 5 has not been measured")
    shifted = {k: None if row[k] is None else row[k] - threshold for k in ("mean", "low", "high")}
    found = _by_interval("", shifted, tuple(content["runs"]), 0.0)
    return replace(found, says=_number(row), value=row["mean"], low=row["low"], high=row["high"])


def figure5_order(results: Results, larger: str, smaller: str) -> Verdict:
    """Of two measures of the trained features one is larger: their intervals do not overlap."""
    content = results.read("figure5")
    if content is None:
        return Verdict(NOT_RUN, "Figure 5 has not been measured")
    a, b = (content["measures"]["features"][name] for name in (larger, smaller))
    verdict = OPEN
    if None not in (a["low"], b["low"]):
        verdict = HOLDS if a["low"] > b["high"] else DOES_NOT if a["high"] < b["low"] else OPEN
    said = f"{_number(a)} against {_number(b)}"
    return Verdict(verdict, said, a["mean"], a["low"], a["high"], tuple(content["runs"]))


def finding(results: Results, file: str, names: list[str]) -> Verdict:
    """What figures/FILE.json says under "findings": true, false, or by its interval."""
    content = results.read(file)
    if content is None:
        return Verdict(NOT_RUN, f"{file}.json has not been made")
    parts = []
    for name in names:
        found = content["findings"][name]
        numbers = (found["value"], found["low"], found["high"])
        verdict = {True: HOLDS, False: DOES_NOT, None: OPEN}[found["holds"]]
        parts.append(Verdict(verdict, found["says"], *numbers, tuple(found.get("runs", ()))))
    return together(parts)


def _pairs(results: Results, table: int, pairs: list[tuple[str, str]], design: str | None = None) -> Verdict:
    measured = results.rows(table, design)
    if not measured:
        return Verdict(NOT_RUN, f"not measured in Table {table}")
    missing = [name for pair in pairs for name in pair if name not in measured]
    if missing:
        return Verdict(NOT_RUN, f"Table {table} has no measured row {missing[0]}")
    parts = []
    for better, worse in pairs:
        found = _difference(results.options, measured[better], measured[worse])
        if found is None:
            return Verdict(NOT_RUN, f"the run records of {better} or {worse} are gone")
        runs = measured[better].runs + measured[worse].runs
        parts.append(_by_interval(f"{better} over {worse}", found, runs, MARGIN))
    return together(parts)


def _difference(options: Options, better: Row, worse: Row) -> dict | None:
    """Corr of one row minus another's over seeds and utterances: the table's, or from the records if it has none."""
    if worse.differences and not better.differences:
        found, turned = worse.differences["corr"], {"mean": "mean", "low": "high", "high": "low"}
        return {key: None if found[other] is None else -found[other] for key, other in turned.items()}
    folders = {row.name: [Path(options.out) / "runs" / run for run in row.runs] for row in (better, worse)}
    if not all((folder / "record.json").exists() for group in folders.values() for folder in group):
        return None
    arrays = {name: [read_record(f).predictions() for f in group] for name, group in folders.items()}
    tests = {name: [a["test"] for a in group] for name, group in arrays.items()}
    label, one = arrays[worse.name][0]["test_label"], {better.name: tests[better.name]}
    return asdict(significance.differences("corr", one, tests[worse.name], label)[better.name])


def _by_interval(name: str, found: dict, runs: tuple[str, ...], margin: float) -> Verdict:
    """Above 0, below the margin, or neither."""
    low, high = found["low"], found["high"]
    verdict = OPEN if low is None else HOLDS if low > 0 else DOES_NOT if high < max(margin, 1e-12) else OPEN
    return Verdict(verdict, f"{name} {_number(found, '+')}".strip(), found["mean"], low, high, runs)


def _number(found: dict, sign: str = "") -> str:
    spread = "" if found["low"] is None else f" [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
    return f"{found['mean']:{sign}.3f}{spread}"


RULES: dict[str, Callable[..., Verdict]] = {
    rule.__name__: rule
    for rule in (beats_others, higher, lower_than_all, figure5, figure5_above, figure5_order, finding)
} | {"added_modality": added_modality_measured}
