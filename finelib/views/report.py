"""figures/report.html: one page with every table, figure, claim and run that lies below an output folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from markdown_it import MarkdownIt

from finelib.paper.table import COLUMNS, Table, cells, heads, read
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, git_revision, read_record, versions, write_atomically
from finelib.views import figures, style

# picture -> title, what it shows (None: the text beside it), and its interactive pages
PICTURES = {
    "figure1": ("Figure 1: one utterance", None, {}),
    "figure2": ("Figure 2: FINE, with the shapes of one batch", None, {}),
    "figure3": ("Figure 3: the factorisation, measured", None, {}),
    "figure4": ("Figure 4: the factorised task-relevant encoder", None, {}),
    "figure5": (
        "Figure 5: STR and UTR features",
        None,
        {"figure5a": "turn panel (a) in the browser", "figure5b": "turn panel (b) in the browser"},
    ),
    "table5_forest": (
        "Table 5: differences to all modalities",
        "Each row minus FINE with everything its block has; 95 % intervals over seeds and utterances.",
        {"table5_forest": "with numbers under the pointer"},
    ),
    "table6_components": (
        "Table 6: where a component should matter",
        "Planted data made for one component each: FINE without it, minus FINE.",
        {"table6_components": "with numbers under the pointer"},
    ),
    "table6_forest": (
        "Table 6: differences to FINE",
        "Each row minus FINE of the same block; 95 % intervals over seeds and utterances.",
        {"table6_forest": "with numbers under the pointer"},
    ),
    "estimators": (
        "The estimators against known answers",
        "InfoNCE and NCE-CLUB on distributions whose mutual information is known; notebook 10_mutual_information.",
        {},
    ),
    "estimators_conditional": (
        "Conditional estimators",
        "The label beside both sides: negatives from the batch, and from the same label.",
        {},
    ),
    "identifiability": (
        "Does the factorisation find the factors?",
        "Probes for the factors of planted data, in the features of several models; notebook 11_identifiability.",
        {},
    ),
    "audit": (
        "The printed numbers, audited",
        "Which printed accuracies can be counts of utterances, and gaps in standard errors; notebook 12_audit.",
        {},
    ),
}


@dataclass(frozen=True)
class Picture:
    """An embedded picture: anchor, title, data URI, alternative text, caption in HTML, pages that go with it."""

    anchor: str
    title: str
    uri: str
    alt: str
    caption: str
    links: dict[str, str]


def write_report(options: Options) -> Path:
    """Write ``options.out``/figures/report.html from what lies there; nothing is trained.

    Returns:
        The page.

    Raises:
        ValueError: a table or a run record that cannot be read.
    """
    folder = options.figures
    tables = [read(path) for n in COLUMNS if (path := folder / f"table{n}.json").exists()]
    records = _records(tables, options)
    text = style.render(
        "report.html",
        options=options,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        revision=git_revision(),
        versions=versions(),
        tables=[_table(table, records) for table in tables],
        pictures=_pictures(folder),
        curves=_curves(tables, records),
        runs=[_run(record, folder) for record in records.values()],
        blocks=_blocks(tables),
        claims=_claims(folder),
        notebooks=_notebooks(options),
    )
    path = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return path


def _records(tables: list[Table], options: Options) -> dict[str, RunRecord]:
    """The records behind the tables, by id; those that have been deleted are left out."""
    wanted = dict.fromkeys(run for table in tables for row in table.rows for run in row.runs)
    folders = {run: Path(options.out) / "runs" / run for run in wanted}
    return {run: read_record(f) for run, f in folders.items() if (f / "record.json").exists()}


def _table(table: Table, records: dict[str, RunRecord]) -> dict:
    places = {run: i for i, run in enumerate(records)}
    blocks = []
    for block in dict.fromkeys(row.block for row in table.rows):
        rows = cells(table, block)
        for row in rows:
            row["runs"] = [places[run] for run in row["runs"] if run in places]
        blocks.append({"title": block, "rows": rows})
    return {
        "number": table.number,
        "title": table.title,
        "heads": heads(table),
        "blocks": blocks,
        "text_columns": table.text_columns,
        "notes": table.notes,
    }


def _run(record: RunRecord, folder: Path) -> dict:
    """What the page says of a run, and a link to its record."""
    return {
        "id": record.id,
        "name": record.name,
        "seed": record.seed,
        "corpus": record.corpus,
        "data": record.data,
        "encoder": record.encoder,
        "modalities": " + ".join(record.modalities),
        "parameters": record.parameters,
        "corr": round(record.test["corr"], 4),
        "mae": round(record.test["mae"], 4),
        "epoch": record.selected_epoch + 1,
        "seconds": round(record.timing["seconds"], 1),
        "finished": record.timing["finished"],
        "device": record.timing["device"],
        "config_hash": record.config_hash[:12],
        "data_hash": record.data_hash[:12],
        "code_hash": record.code_hash[:12],
        "git_revision": record.git_revision[:12],
        "versions": ", ".join(f"{name} {number}" for name, number in record.versions.items()),
        "record": Path(os.path.relpath(record.folder / "record.json", folder)).as_posix(),
    }


def _blocks(tables: list[Table]) -> list[dict]:
    """What was measured: table, block, systems, seeds."""
    found = []
    for table in tables:
        measured = [row for row in table.rows if row.runs]
        for block in dict.fromkeys(row.block for row in measured):
            runs = [row.runs for row in measured if row.block == block]
            found.append({"table": table.number, "block": block, "systems": len(runs), "seeds": max(map(len, runs))})
    return found


def _curves(tables: list[Table], records: dict[str, RunRecord]) -> list[Picture]:
    """Training curves of FINE in each measured block of Tables 1 to 4."""
    found = []
    for table in (table for table in tables if table.number <= 4):
        for place, row in enumerate(row for row in table.rows if row.name.startswith("FINE")):
            runs = [records[run] for run in row.runs if run in records]
            if runs:
                title = f"Table {table.number}, {row.block}"
                picture = style.png(figures.training_curves(runs))
                alt = f"Loss terms on train, MAE and Corr on dev over epochs, one line for each of {len(runs)} seeds."
                found.append(Picture(f"curves-{table.number}-{place}", title, style.data_uri(picture), alt, "", {}))
    return found


def _pictures(folder: Path) -> list[Picture]:
    found = []
    for name, (title, said, pages) in PICTURES.items():
        if (folder / f"{name}.png").exists():
            caption = said or (folder / f"{name}.md").read_text()
            html = MarkdownIt("commonmark", {"html": False}).enable("table").render(caption)
            links = {f"{page}.html": text for page, text in pages.items() if (folder / f"{page}.html").exists()}
            uri = style.data_uri((folder / f"{name}.png").read_bytes())
            found.append(Picture(name, title, uri, f"{title}; the text below says what it shows.", html, links))
    return found


def _claims(folder: Path) -> dict | None:
    """The content of claims.json, None if it has not been made."""
    path = folder / "claims.json"
    return json.loads(path.read_text()) if path.exists() else None


def _notebooks(options: Options) -> dict[str, str]:
    """Executed notebooks: name -> link."""
    folder = Path(options.out) / "runs" / "notebooks"
    found = sorted(folder.glob("*.ipynb"))
    return {path.stem: Path(os.path.relpath(path, options.figures)).as_posix() for path in found}
