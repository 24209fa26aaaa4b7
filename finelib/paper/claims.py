"""The claims table: what the paper says, and what is known about it from four kinds of evidence.

``data/paper/claims.csv`` holds each claim, its place, what would settle it, and its two tests, written as calls of the
rules in ``claims_printed.py`` and ``claims_measured.py``. To add a claim, add a line there.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from finelib.paper import claims_measured, claims_printed
from finelib.paper.claims_measured import Results
from finelib.paper.claims_printed import NOT_RUN, OPEN, VERDICTS, Verdict
from finelib.paper.table import templates
from finelib.runs.options import Options
from finelib.runs.records import git_revision, write_atomically

COLUMNS = {"printed": "printed tables", "planted": "planted data", "public": "public MOSI", "files": "licensed files"}
SILENT = Verdict(OPEN, "the printed tables do not speak of it")
UNTESTED = Verdict(NOT_RUN, "no experiment here tests it")


@dataclass(frozen=True)
class Claim:
    """A line of claims.csv; ``printed`` and ``measured`` are calls of rules, "" where there is none."""

    id: str
    claim: str
    place: str
    settled_by: str
    printed: str
    measured: str


def read() -> list[Claim]:
    """The paper's claims that can be checked."""
    with open(Path(__file__).parent / "printed" / "claims.csv", newline="") as file:
        return [Claim(**line) for line in csv.DictReader(file)]


def apply(call: str, rules: dict[str, Callable[..., Verdict]], *arguments: Results) -> Verdict:
    """The verdict of a rule written as a call with literal arguments, as ``rank(table=4, metric='acc5', place=2)``.

    Raises:
        ValueError: it is not such a call, or there is no rule of that name.
    """
    try:
        tree = ast.parse(call, mode="eval").body
        rule, options = rules[tree.func.id], {k.arg: ast.literal_eval(k.value) for k in tree.keywords}
    except (SyntaxError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"claims.csv: {call!r} is not a test, expected one of {', '.join(rules)}") from error
    return rule(*arguments, **options)


def verdicts(claim: Claim, options: Options) -> dict[str, Verdict]:
    """Column -> verdict, from the printed tables and from what lies in ``options.out``."""
    found = {"printed": apply(claim.printed, claims_printed.RULES) if claim.printed else SILENT}
    for data in list(COLUMNS)[1:]:
        results = Results(options, data)
        found[data] = apply(claim.measured, claims_measured.RULES, results) if claim.measured else UNTESTED
    return found


def printed() -> pd.DataFrame:
    """The claims that the printed tables decide, with the numbers: for a notebook."""
    decided = [(claim, apply(claim.printed, claims_printed.RULES)) for claim in read() if claim.printed]
    return pd.DataFrame(
        [
            {"claim": claim.claim, "by the printed tables": found.verdict, "because": found.says, "place": claim.place}
            for claim, found in decided
        ]
    )


def write_claims(options: Options) -> Path:
    """Write figures/claims.{json,md,html} below ``options.out`` from what lies there; nothing is trained.

    A column that this folder has no results for any more keeps the verdict of an earlier claims.json, with the revision
    that gave it: planted and public results of one folder do not stand in the same tables at the same time.

    Returns:
        The page.
    """
    path = options.figures / "claims.json"
    earlier = {c["id"]: c for c in json.loads(path.read_text())["claims"]} if path.exists() else {}
    content = [_entry(claim, options, earlier.get(claim.id)) for claim in read()]
    options.figures.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"columns": COLUMNS, "claims": content}, indent=1))
    counts = {column: {v: sum(c["verdicts"][column] == v for c in content) for v in VERDICTS} for column in COLUMNS}
    for form in ("md", "html"):
        text = (
            templates(html=form == "html")
            .get_template(f"claims.{form}")
            .render(claims=content, columns=COLUMNS, counts=counts, margin=claims_measured.MARGIN)
        )
        write_atomically(options.figures / f"claims.{form}", text)
    return options.figures / "claims.html"


def _entry(claim: Claim, options: Options, earlier: dict | None) -> dict:
    revision = git_revision()
    behind = {column: asdict(found) | {"revision": revision} for column, found in verdicts(claim, options).items()}
    for column, found in behind.items():
        if found["verdict"] == NOT_RUN and earlier and earlier["verdicts"][column] != NOT_RUN:
            behind[column] = earlier["behind"][column]
    return {
        "id": claim.id,
        "claim": claim.claim,
        "place": claim.place,
        "settled_by": claim.settled_by,
        "tests": {"printed": claim.printed, "measured": claim.measured},
        "verdicts": {column: found["verdict"] for column, found in behind.items()},
        "behind": behind,
    }
