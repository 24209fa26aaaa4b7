"""The claims table: what the paper says, and what is known about it from four kinds of evidence.

The claims stand in ``claims_of_tables.py`` and ``claims_of_method.py``; to add one, add a ``Claim`` there.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from finelib.paper import claims_measured, claims_of_method, claims_of_tables
from finelib.paper.claim import NOT_RUN, OPEN, VERDICTS, Claim, Verdict, as_text
from finelib.paper.claims_measured import Results
from finelib.paper.table import templates
from finelib.runs.options import Options
from finelib.runs.records import git_revision, write_atomically

CLAIMS = [*claims_of_tables.CLAIMS, *claims_of_method.CLAIMS]
# kind of evidence -> title of its column
EVIDENCE = {"printed": "printed tables", "planted": "planted data", "public": "public MOSI", "files": "licensed files"}
SILENT = Verdict(OPEN, "the printed tables do not speak of it")
UNTESTED = Verdict(NOT_RUN, "no experiment here tests it")


def verdicts(claim: Claim, options: Options) -> dict[str, Verdict]:
    """Kind of evidence -> verdict, from the printed tables and from what lies in ``options.out``."""
    found = {"printed": claim.printed() if claim.printed else SILENT}
    for data in ("planted", "public", "files"):
        found[data] = claim.measured(Results(options, data)) if claim.measured else UNTESTED
    return found


def printed() -> pd.DataFrame:
    """The claims that the printed tables decide, with the numbers: for a notebook."""
    judged = [(claim, claim.printed()) for claim in CLAIMS if claim.printed]
    return pd.DataFrame(
        [
            {"claim": claim.claim, "by the printed tables": found.verdict, "because": found.says, "place": claim.place}
            for claim, found in judged
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
    content = [_entry(claim, options, earlier.get(claim.id)) for claim in CLAIMS]
    options.figures.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"columns": EVIDENCE, "claims": content}, indent=1))
    counts = {kind: {v: sum(c["verdicts"][kind] == v for c in content) for v in VERDICTS} for kind in EVIDENCE}
    shown = {"claims": content, "columns": EVIDENCE, "counts": counts, "margin": claims_measured.MARGIN}
    for form in ("md", "html"):
        text = templates(html=form == "html").get_template(f"claims.{form}").render(shown)
        write_atomically(options.figures / f"claims.{form}", text)
    return options.figures / "claims.html"


def _entry(claim: Claim, options: Options, earlier: dict | None) -> dict:
    """A claim as claims.json holds it."""
    revision = git_revision()
    behind = {kind: asdict(found) | {"revision": revision} for kind, found in verdicts(claim, options).items()}
    for kind, found in behind.items():
        if found["verdict"] == NOT_RUN and earlier and earlier["verdicts"][kind] != NOT_RUN:
            behind[kind] = earlier["behind"][kind]
    return {
        "id": claim.id,
        "claim": claim.claim,
        "place": claim.place,
        "settled_by": claim.settled_by,
        "tests": {"printed": as_text(claim.printed), "measured": as_text(claim.measured)},
        "verdicts": {kind: found["verdict"] for kind, found in behind.items()},
        "behind": behind,
    }
