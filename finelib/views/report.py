"""figures/report.html: one page with every table, figure, claim and run that lies below an output folder."""

import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from markdown_it import MarkdownIt

from finelib.data.own_labels import title_of
from finelib.paper import own_corpus
from finelib.paper.findings import IN_SHORT, findings, in_short
from finelib.paper.table import COLUMNS, Table, cells, heads, read
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, git_revision, read_record, versions, write_atomically
from finelib.views import figures, style

TITLES = {
    "figure1": "Figure 1: one utterance",
    "figure2": "Figure 2: FINE, with the shapes of one batch",
    "figure3": "Figure 3: the factorisation, measured",
    "figure4": "Figure 4: the factorised task-relevant encoder",
    "figure5": "Figure 5: STR and UTR features",
    "table5_forest": "Table 5: differences to all modalities",
    "table6_components": "Table 6: where a component should matter",
    "table6_forest": "Table 6: differences to FINE",
    "estimators": "The estimators against known answers",
    "estimators_conditional": "Conditional estimators",
    "identifiability": "Does the factorisation find the factors?",
    "identifiability_factors": "Which group holds which factor, of FINE and of FINE with subset codes (ours)",
    "missing": "Frames missing at test",
    "missing_subsets": "Whole modalities missing at test",
    "home_worlds": "Home worlds: every system where its own idea is needed",
    "home_worlds_at_home": "Home worlds: each system at home, and without its part",
    "audit": "The printed numbers, audited",
    "own_systems_forest": "Every system minus FINE",
    "own_systems_cost": "What a score costs",
    "own_modalities_forest": "Subsets of the modalities minus all of them",
}
SAID = {  # what a picture without a caption of its own shows
    "table5_forest": "Each row minus FINE with everything its block has; 95 % intervals over seeds and utterances.",
    "table6_components": "Planted data made for one component each: FINE without it, minus FINE.",
    "table6_forest": "Each row minus FINE of the same block; 95 % intervals over seeds and utterances.",
    "estimators": "InfoNCE and NCE-CLUB on distributions whose mutual information is known; "
    "notebook 10_mutual_information.",
    "estimators_conditional": "The label beside both sides: negatives from the batch, and from the same label.",
    "identifiability": "Probes for the factors of planted data, in the features of several models; "
    "notebook 11_identifiability.",
    "identifiability_factors": "R2 of a linear probe on planted data, means over seeds; notebook 11_identifiability.",
    "missing": "Corr against the share of frames that is taken out; notebook 14_missing_data.",
    "missing_subsets": "Corr with the modalities that are left; a triangle: shown to be better than with all.",
    "home_worlds": "Share of the way from a constant to the oracle, planted data; notebook 16_home_worlds.",
    "home_worlds_at_home": "A part that is taken out is named in notebook 16_home_worlds.",
    "audit": "Which printed accuracies can be counts of utterances, and gaps in standard errors; notebook 12_audit.",
    "own_systems_forest": "Test Corr and accuracy, 95 % intervals over seeds and utterances.",
    "own_systems_cost": "Mean and standard deviation over seeds; dashed: ridge on mean features.",
    "own_modalities_forest": "FINE on each subset, and ridge beside it; 95 % intervals over seeds and utterances.",
}
THUMBNAILS = ("identifiability_factors", "table6_forest", "estimators", "audit", "figure5", "figure2")
# picture -> its interactive pages
PAGES = {name: {name: "with numbers under the pointer"} for name in SAID if name.startswith(("table", "own"))}
PAGES["figure5"] = {f"figure5{panel}": f"turn panel ({panel}) in the browser" for panel in "ab"}


@dataclass(frozen=True)
class Picture:
    """An embedded picture: anchor, title, PNG, alternative text, caption in HTML, pages that go with it."""

    anchor: str
    title: str
    png: bytes
    alt: str
    caption: str
    links: dict[str, str]

    @property
    def uri(self) -> str:
        return style.data_uri(self.png)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, which a page needs to keep the place of a picture that is not drawn yet."""
        return struct.unpack(">II", self.png[16:24])


def write_report(options: Options) -> Path:
    """Write ``options.out``/figures/report.html from what lies there, and return its path; nothing is trained.

    Of somebody's own corpus it shows what was measured on it, and nothing of the paper's.

    Raises:
        ValueError: a table or a run record that cannot be read.
    """
    folder = options.figures
    own = own_corpus.is_asked_for(options)
    stems = [*([] if own else (f"table{n}" for n in COLUMNS)), *own_corpus.SUBJECTS]
    tables = {stem: read(path) for stem in stems if (path := folder / f"{stem}.json").exists()}
    records = _records(tables.values(), options)
    claims, notebooks = folder / "claims.json", sorted((Path(options.out) / "runs" / "notebooks").glob("*.ipynb"))
    pictures = [p for p in _pictures(folder) if not own or p.anchor in own_corpus.PICTURES]
    links = {path.stem: _link(path, folder) for path in notebooks}
    shown = {picture.anchor: picture.title for picture in pictures}
    text = style.render(
        "report.html",
        options=options,
        own=Path(options.source).name if own else "",
        findings=[] if own else [(f, links.get(f.notebook), f.picture in shown) for f in findings(folder)],
        in_short=(IN_SHORT, in_short(folder)),
        thumbnails={name: shown[name] for name in THUMBNAILS if name in shown},
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        revision=git_revision(),
        versions=versions(),
        tables=[
            (stem, table, _label(table), heads(table), _blocks_of(table, records)) for stem, table in tables.items()
        ],
        pictures=pictures,
        curves=_curves(tables, records),
        notes=[] if own else _notes(records.values()),  # an own corpus's tables say it
        runs=[_run(record, folder) for record in records.values()],
        blocks=_blocks(tables),
        claims=json.loads(claims.read_text()) if claims.exists() and not own else None,
        notebooks={} if own else links,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    write_atomically(path, text)
    return path


def _label(table: Table) -> str:
    """What a table is called in short."""
    subject = table.subject.rpartition(": ")[2]
    return f"Table {table.number}" if table.number else subject[0].upper() + subject[1:]


def _records(tables: Iterable[Table], options: Options) -> dict[str, RunRecord]:
    """The records behind the tables, by id; those that have been deleted are left out."""
    wanted = dict.fromkeys(run for table in tables for row in table.rows for run in row.runs)
    folders = {run: Path(options.out) / "runs" / run for run in wanted}
    return {run: read_record(f) for run, f in folders.items() if (f / "record.json").exists()}


def _notes(records: Iterable[RunRecord]) -> list[str]:
    """What must be known of the data behind the runs, each sentence once."""
    return list(dict.fromkeys(f"{_data(record)}: {note}" for record in records for note in record.notes))


def _blocks_of(table: Table, records: dict[str, RunRecord]) -> dict[str, list[dict]]:
    """Title of a block -> its rows as ``cells`` gives them, with the places of their runs in the list of runs."""
    places = {run: i for i, run in enumerate(records)}
    blocks = {block: cells(table, block) for block in table.blocks}
    for row in chain.from_iterable(blocks.values()):
        row["runs"] = [places[run] for run in row["runs"] if run in places]
    return blocks


def _run(record: RunRecord, folder: Path) -> dict:
    """What the page says of a run, and a link to its record."""
    plain = ("id", "name", "seed", "encoder", "parameters")
    hashes = ("config_hash", "data_hash", "code_hash", "git_revision")
    return {name: getattr(record, name) for name in plain} | {
        "data": _data(record),
        "notes": " ".join(f"{note}." for note in record.notes),
        "modalities": " + ".join(record.modalities),
        "corr": round(record.test["corr"], 4),
        "mae": round(record.test["mae"], 4),
        "epoch": record.selected_epoch + 1,
        "seconds": round(record.timing["seconds"], 1),
        "finished": record.timing["finished"],
        "device": record.timing["device"],
        **{name: getattr(record, name)[:12] for name in hashes},
        "versions": ", ".join(f"{name} {number}" for name, number in record.versions.items()),
        "record": _link(record.folder / "record.json", folder),
    }


def _data(record: RunRecord) -> str:
    return title_of(record.info, record.data)


def _blocks(tables: dict[str, Table]) -> list[dict]:
    """What was measured: table and its anchor, block, systems, seeds."""
    found = []
    for stem, table in tables.items():
        for block, rows in table.blocks.items():
            seeds = [len(row.runs) for row in rows if row.runs]
            if seeds:
                of = {"anchor": stem, "table": table.number or _label(table), "block": block}
                found.append(of | {"systems": len(seeds), "seeds": max(seeds)})
    return found


def _curves(tables: dict[str, Table], records: dict[str, RunRecord]) -> list[Picture]:
    """Training curves of FINE in each measured block of Tables 1 to 4, and of an own corpus."""
    found = []
    for stem, table in tables.items():
        for place, row in enumerate(row for row in table.rows if row.name.startswith("FINE")):
            runs = [records[run] for run in row.runs if run in records]
            if runs and table.number <= 4:
                title = f"{_label(table)}, {row.block}"
                picture = style.png(figures.training_curves(runs))
                alt = f"Loss terms on train, MAE and Corr on dev over epochs, one line for each of {len(runs)} seeds."
                found.append(Picture(f"curves-{stem.removeprefix('table')}-{place}", title, picture, alt, "", {}))
    return found


def _pictures(folder: Path) -> list[Picture]:
    found = []
    for name, title in TITLES.items():
        if (folder / f"{name}.png").exists():
            caption = SAID[name] if name in SAID else (folder / f"{name}.md").read_text()
            html = MarkdownIt("commonmark", {"html": False}).enable("table").render(caption)
            pages = {f"{page}.html": text for page, text in PAGES.get(name, {}).items()}
            links = {page: text for page, text in pages.items() if (folder / page).exists()}
            png = (folder / f"{name}.png").read_bytes()
            found.append(Picture(name, title, png, f"{title}; the text below says what it shows.", html, links))
    return found


def _link(path: Path, folder: Path) -> str:
    """From a page in ``folder``."""
    return Path(os.path.relpath(path, folder)).as_posix()
