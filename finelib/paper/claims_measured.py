"""What measured results say about the paper's claims: rules that give a verdict from tables, figures and run records.

A rule looks at a 95 % interval: the claim *holds* if the interval lies on the claimed side of 0, it *does not hold* if
the interval lies below ``MARGIN``, which is less than anyone would claim, and else it *cannot be told*. Of several
comparisons all must hold, and one that does not decides.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from finelib.baselines import SYSTEMS
from finelib.data.corpora import ALL_CORPORA
from finelib.paper import ablations, comparisons, objective, printed, significance
from finelib.paper.claims_printed import one_more
from finelib.paper.claims_worlds import best_over_worlds
from finelib.paper.findings import PUBLIC
from finelib.paper.printed import COLUMNS
from finelib.paper.table import Row, read
from finelib.paper.tables import design_of
from finelib.paper.verdict import DOES_NOT, HOLDS, NOT_RUN, OPEN, Verdict, all_must_hold, by_interval, number
from finelib.runs import presets, real
from finelib.runs.options import ROOT, Options
from finelib.runs.records import RECORD, read_record

MARGIN = 0.02  # of Corr
PUBLISHED = ROOT / "figures" / "published"
MAIN_DESIGN = {5: "modalities", 6: "components"}  # planted block of the table's own rows


@dataclass(frozen=True)
class Results:
    """What lies in an output folder, seen as results on one kind of data.

    "planted", "public" or "files", the licensed ones: by "own", somebody's own file, no claim of the paper is judged.
    Of "public" data the results are those on one ``corpus``. ``published``: a study that this folder does not have is
    read as it is published with the checkout, for it has a command of its own.
    """

    options: Options
    data: str
    corpus: str = ""
    published: bool = False

    def rows(self, number: int, design: str | None = None, form: str = "") -> dict[str, Row]:
        """name -> measured row of a table; of planted tables those of one design, else of the table's own.

        Of a public corpus's blocks the first counts, and tables of real corpora alone (``findings.PUBLIC``) come before
        the others. With a form of L_MI (``objective.FORMS``), the rows of Table 6 that were trained in that form.
        """
        wanted = MAIN_DESIGN.get(number, "") if design is None and self.data == "planted" else design or ""
        names = [PUBLIC] if self.data == "public" else []
        paths = [self.options.figures / f"{name}{number}.json" for name in (*names, "table")]
        if form:
            paths = [self.options.figures / f"{objective.NAME}.json"]
        for path in filter(Path.exists, paths):
            rows = [row for row in read(path).rows if row.data == self.data and row.kind == "system"]
            rows = [row for row in rows if design_of(row) == wanted and form in row.block]
            if self.corpus:
                own = [row for row in rows if row.corpus == self.corpus]
                rows = [row for row in own if row.block == own[0].block]
            if rows:
                return {row.name: row for row in rows}
        return {}

    def not_measured(self, number: int) -> Verdict:
        """The verdict where a table has no rows on this kind of data."""
        path = self.options.figures / f"table{number}.json"
        own = self.data == "files" and path.exists() and any(row.data == "own" for row in read(path).rows)
        why = "has been measured on your file alone, which is not the licensed one" if own else "has not been measured"
        return Verdict(NOT_RUN, f"Table {number} {why}")

    def read(self, name: str) -> dict | None:
        """The content of figures/NAME.json if it is of this kind of data."""
        places = [self.options.figures, *[PUBLISHED] * self.published]
        path = next((path for folder in places if (path := folder / f"{name}.json").exists()), None)
        content = json.loads(path.read_text()) if path else {}
        if self.corpus and content.get("corpus") != ALL_CORPORA[self.corpus].title:
            return None
        return content if content.get("data") == self.data else None


def best(results: Results, tables: list[int], metrics: list[str] | None = None) -> Verdict:
    """FINE is ahead of the other methods of the tables.

    On the licensed files: FINE's interval over seeds lies above the best other printed row, in every metric. Other data
    cannot be compared with the printed rows. On a public corpus FINE's Corr is above that of the systems of its own
    table that were run on it. Planted data are judged by all home worlds at once (``claims_worlds``).
    """
    if results.data == "planted":
        return best_over_worlds(results.read("home_worlds"))
    if results.corpus:
        tables = [number for number in tables if results.rows(number)] or tables
    beats = _beats_printed if results.data == "files" else _beats_compared
    parts = [part for number in tables for part in beats(results, number, metrics)]
    return next((part for part in parts if part.verdict == NOT_RUN), None) or all_must_hold(parts)


def _beats_printed(results: Results, table: int, metrics: list[str] | None) -> list[Verdict]:
    fine = results.rows(table).get("FINE")
    if fine is None:
        return [results.not_measured(table)]
    parts = []
    for metric in metrics or COLUMNS[table]:
        others = [row.percent[metric] for row in printed.rows(table) if row.name != "FINE"]
        lead = _shifted(fine.measured[metric], max(others) / 100)
        parts.append(by_interval(f"Table {table} {COLUMNS[table][metric]}", lead, fine.runs))
    return parts


def _beats_compared(results: Results, table: int, metrics: list[str] | None) -> list[Verdict]:
    """Corr whatever the ``metrics``: the only one that all corpora share.

    A block that cannot rank systems (``real.UNRANKED``) judges nothing. Against the claim one system is enough. For it,
    all must have been run that the paper prints for the corpus and that can do with the block's modalities.
    """
    rows = results.rows(table)
    others = [name for name in rows if name in SYSTEMS]
    if not others:
        runs = tuple(run for row in rows.values() for run in row.runs)
        return [Verdict(NOT_RUN, f"no other method has been run for Table {table} on these data", runs=runs)]
    own = rows[others[0]].modalities
    if why := real.UNRANKED.get((results.corpus, own)):
        return [Verdict(NOT_RUN, f"Table {table}, {own}: {why}")]
    found = _pairs(results, table, [("FINE", other) for other in others])
    absent = [name for name in presets.printed_for(results.corpus) if name not in rows]
    absent = [name for name in absent if presets.can_do(name, own.split(" + "))]
    if absent and found.verdict != DOES_NOT:
        return [Verdict(NOT_RUN, f"Table {table} lacks {', '.join(absent)}", runs=found.runs)]
    return [replace(found, says=f"{own}: {found.says}")]


def higher(results: Results, table: int, row: str, than: list[str] | str, design: str | None = None) -> Verdict:
    """A row's Corr is above that of others; "printed" names Table 6's printed rows."""
    if than == "printed":
        than = [v.name for v in ablations.COMPONENT_ROWS if v.kind == ablations.PRINTED and v.name != row]
    return _pairs(results, table, [(row, other) for other in than], design)


def higher_in_each_form(results: Results, than: list[str], design: str | None = None) -> Verdict:
    """FINE's Corr is above that of these rows of Table 6, which leave terms of L_MI out.

    The verdict is on L_MI as printed. The sentence also has the verdicts on its other forms, where they were measured.
    """
    found = higher(results, 6, "FINE", than, design)
    for form in list(objective.FORMS)[1:]:
        other = _pairs(results, 6, [("FINE", row) for row in than], design, form)
        if other.verdict != NOT_RUN:
            found = replace(found, says=f"{found.says}; {form}: {other.verdict} ({other.says})")
    return found


def lower_than_all(results: Results, table: int, rows: list[str], others: list[str]) -> Verdict:
    """Rows' Corr is below that of others."""
    return _pairs(results, table, [(other, row) for row in rows for other in others])


def added_modality(results: Results) -> Verdict:
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
    said = f"{number(row)}, control {row['control']:.3f}, before training {blank:.3f}"
    return Verdict(verdict, said, row["mean"], row["low"], row["high"], tuple(content["runs"]))


def figure5_above(results: Results, measure: str, threshold: float) -> Verdict:
    """A measure of the trained features lies above a threshold."""
    content = results.read("figure5")
    if content is None or content["measures"]["features"][measure]["mean"] is None:
        return Verdict(NOT_RUN, "Figure 5 has not been measured")
    row = content["measures"]["features"][measure]
    found = by_interval("", _shifted(row, threshold), tuple(content["runs"]))
    return replace(found, says=number(row), value=row["mean"], low=row["low"], high=row["high"])


def figure5_order(results: Results, larger: str, smaller: str) -> Verdict:
    """Of two measures of the trained features one is larger: their intervals do not overlap."""
    content = results.read("figure5")
    if content is None:
        return Verdict(NOT_RUN, "Figure 5 has not been measured")
    a, b = (content["measures"]["features"][name] for name in (larger, smaller))
    verdict = OPEN
    if None not in (a["low"], b["low"]):
        verdict = HOLDS if a["low"] > b["high"] else DOES_NOT if a["high"] < b["low"] else OPEN
    said = f"{number(a)} against {number(b)}"
    return Verdict(verdict, said, a["mean"], a["low"], a["high"], tuple(content["runs"]))


def ahead_under_losses(results: Results) -> Verdict:
    """Where frames are missing at test, averaged over the rates, FINE's Corr is above every compared system's."""
    content = results.read("missing")
    if content is None:
        return Verdict(NOT_RUN, "missing.json has not been made")
    others = {name: found["minus_fine"] for name, found in content["average"]["corr"].items() if "minus_fine" in found}
    if not others:
        return Verdict(NOT_RUN, "no other method has been run with frames missing")
    parts = [by_interval(f"FINE over {name}", _turned(found), (), MARGIN) for name, found in others.items()]
    return all_must_hold(parts)


def finding(results: Results, file: str, names: list[str]) -> Verdict:
    """What figures/FILE.json says under "findings": true, false, or by its interval."""
    content = results.read(file)
    if content is None:
        return Verdict(NOT_RUN, f"{file}.json has not been made")
    source = "" if (results.options.figures / f"{file}.json").exists() else " (as published)"
    parts = []
    for name in names:
        found = content["findings"][name]
        numbers = (found["value"], found["low"], found["high"])
        verdict = {True: HOLDS, False: DOES_NOT, None: OPEN}[found["holds"]]
        parts.append(Verdict(verdict, found["says"] + source, *numbers, tuple(found.get("runs", ()))))
    return all_must_hold(parts)


def _pairs(
    results: Results, table: int, pairs: list[tuple[str, str]], design: str | None = None, form: str = ""
) -> Verdict:
    """Of each pair of rows the first has the higher Corr."""
    measured = results.rows(table, design, form)
    if not measured:
        return results.not_measured(table)
    missing = [name for pair in pairs for name in pair if name not in measured]
    if missing:
        return Verdict(NOT_RUN, f"Table {table} has no measured row {missing[0]}")
    parts = []
    for better, worse in pairs:
        found = _difference(results.options, measured[better], measured[worse])
        if found is None:
            return Verdict(NOT_RUN, f"the run records of {better} or {worse} are gone")
        runs = measured[better].runs + measured[worse].runs
        parts.append(by_interval(f"{better} over {worse}", found, runs, MARGIN))
    return all_must_hold(parts)


def _difference(options: Options, better: Row, worse: Row) -> dict | None:
    """Corr of one row minus another's over seeds and utterances; None if the run records are gone.

    The table has it if ``better`` is the row that others are compared with, else it is computed from the records.
    """
    if worse.differences and not better.differences:
        return _turned(worse.differences["corr"])
    folders = {row.name: [Path(options.out) / "runs" / run for run in row.runs] for row in (better, worse)}
    if not all((folder / RECORD).exists() for group in folders.values() for folder in group):
        return None
    records = {name: [read_record(folder) for folder in group] for name, group in folders.items()}
    kind = ALL_CORPORA[records[better.name][0].corpus].metrics
    arrays = {name: [record.predictions() for record in group] for name, group in records.items()}
    tests = {name: [comparisons.as_scored(a["test"], kind) for a in group] for name, group in arrays.items()}
    label = comparisons.as_scored(arrays[worse.name][0]["test_label"], kind)
    found = significance.differences("corr", {better.name: tests[better.name]}, tests[worse.name], label)
    return asdict(found[better.name])


def _turned(found: dict) -> dict:
    """A difference with its interval, the other way round."""
    sides = {"mean": "mean", "low": "high", "high": "low"}
    return {key: None if found[other] is None else -found[other] for key, other in sides.items()}


def _shifted(found: dict, by: float) -> dict:
    """A mean and its interval, minus a number."""
    return {key: None if found[key] is None else found[key] - by for key in ("mean", "low", "high")}
