"""Tables of somebody's own corpus as CSV: every row is looked at, and each wrong one gets a sentence."""

import csv
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from finelib.data import foreign
from finelib.data.forms import SPLIT_NAMES
from finelib.data.safe_pickle import DataError

SHOWN = 20  # wrong rows that are said one by one
MODALITY = {"text": "text", "audio": "audio", "vision": "vision", "video": "vision"}
FEATURE = re.compile(rf"({'|'.join(MODALITY)})[_.]?(\d+)")
TOLD = ("label", "split", "text", "file")  # what all rows of an utterance must agree on
SPLIT_OF = {name: s for s, names in SPLIT_NAMES.items() for name in names}


@dataclass
class Table:
    """A CSV file.

    Attributes:
        columns: their names in small letters.
        rows: line of the file -> column -> cell, without blanks at its ends.
        wrong: line and sentence of each wrong row so far.
    """

    path: Path
    columns: list[str]
    rows: dict[int, dict[str, str]]
    wrong: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, line: int, found: str, expected: str) -> None:
        """Note a wrong row."""
        self.wrong.append((line, f"{self.path}, line {line}: found {found}, expected {expected}"))

    def check(self) -> None:
        """Raises: DataError: there are wrong rows, each a line of the message; 20 of them are said."""
        if self.wrong:
            more = len(self.wrong) - SHOWN
            said = [sentence for _, sentence in sorted(self.wrong)[:SHOWN]]
            raise DataError("\n".join(said + [f"{self.path}: {more} more such rows"] * (more > 0)))

    def number(self, line: int, column: str, otherwise: str = "") -> float | None:
        """A cell as a finite number; None, and noted, where it is none."""
        cell = self.rows[line][column]
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.refuse(line, f"{cell!r} as {column}", f"a finite number{otherwise}")
            return None
        return value

    def label(self, line: int) -> float | None:
        """The label; None where the cell is empty, or where it is none, which is noted."""
        return self.number(line, "label", ", or nothing") if self.rows[line].get("label") else None

    def split(self, line: int) -> str:
        """The split by its usual name, "" where the cell is empty; another name is noted."""
        cell = self.rows[line].get("split", "").lower()
        if cell and cell not in SPLIT_OF:
            self.refuse(line, f"{cell!r} as split", "train, valid or test, or nothing in every row")
        return SPLIT_OF.get(cell, "")


def read(path: Path, needed: tuple[str, ...] = ()) -> Table:
    """A CSV file in UTF-8 with a header.

    Raises:
        DataError: it is no such file, lacks a column, or has no rows or rows of another number of cells.
        OSError: it cannot be opened.
    """
    with path.open("rb") as stream:
        known = foreign.of_start(path, start := stream.read(foreign.START))
    if known or b"\0" in start:
        found = known.found if known else "bytes that are no text"
        raise DataError(f"{path}: found {found}, expected a CSV file in UTF-8")
    rows, wrong = {}, []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            columns = [name.strip().lower() for name in next(lines, [])]
            for cells in lines:
                if len(cells) == len(columns):
                    rows[lines.line_num] = dict(zip(columns, map(str.strip, cells), strict=True))
                elif cells:
                    found = f"found {len(cells)} cells, expected {len(columns)} as in the header"
                    wrong.append((lines.line_num, f"{path}, line {lines.line_num}: {found}"))
    except UnicodeDecodeError as error:
        found = f"bytes that are not UTF-8 (byte {error.object[error.start]:#x})"
        raise DataError(f"{path}: found {found}, expected a CSV file in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: found {error}, expected a row of a CSV file") from None
    _check_header(path, columns, needed)
    table = Table(path, columns, rows, wrong)
    if not rows and not wrong:
        raise DataError(f"{path}: found no rows, expected one for each utterance")
    return table


def _check_header(path: Path, columns: list[str], needed: tuple[str, ...]) -> None:
    listed = ", ".join(map(repr, columns[:20])) or "nothing"
    if missing := [name for name in needed if name not in columns]:
        between = "; commas must stand between them" if len(columns) == 1 and re.search(r"[;\t|]", columns[0]) else ""
        raise DataError(f"{path}: found the columns {listed}, expected also {', '.join(missing)}{between}")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise DataError(f"{path}: found the column {twice[0]!r} twice, expected each once")


def features(path: Path, labelled: bool = True) -> tuple[dict, dict[str, str]]:
    """A table of features as fields of MMSA's names, one entry an utterance; and what is unusual in the file.

    A row is a frame: rows of one ``id`` are the frames of an utterance, in order; without that column each row is an
    utterance. Columns audio_0, audio_1, ... (text_, video_) are features; where all of a modality's cells are empty the
    row has no frame of it. The other columns: label (needed if ``labelled``), split, text (as spoken), file (of which
    recording).

    Raises:
        DataError: as ``read``, or rows are wrong.
    """
    table = read(path, ("label",) if labelled else ())
    columns = {m: _feature_columns(table, m) for m in ("text", "audio", "vision")}
    found = {m: {} for m in columns}  # modality -> utterance -> frames
    first: dict[str, int] = {}  # utterance -> line
    for line, row in table.rows.items():
        name = row.get("id", f"line {line}")
        if not name:
            table.refuse(line, "no id", "one")
        begun = first.setdefault(name, line)
        if other := [c for c in TOLD if row.get(c, "") != table.rows[begun].get(c, "")]:
            table.refuse(line, f"another {other[0]} than in line {begun}", f"the same in all rows of {name!r}")
        for m, names in columns.items():
            found[m].setdefault(name, [])
            if any(row[c] for c in names):
                found[m][name].append([table.number(line, c) for c in names])
    fields = {"id": list(first), "regression_labels": [table.label(line) for line in first.values()]}
    fields["split"] = [table.split(line) for line in first.values()]
    for column, name in (("text", "raw_text"), ("file", "file")):
        if column in table.columns:
            fields[name] = [table.rows[line][column] for line in first.values()]
    table.check()
    for m, names in columns.items():
        if names:
            fields[m] = [np.array(frames, np.float64).reshape(-1, len(names)) for frames in found[m].values()]
    unread = [c for c in table.columns if c not in (*TOLD, "id") and c not in sum(columns.values(), [])]
    return fields, {"columns": f"not read: {', '.join(unread)}"} if unread else {}


def _feature_columns(table: Table, modality: str) -> list[str]:
    """A modality's columns in the order of their numbers."""
    found = {c: match for c in table.columns if (match := FEATURE.fullmatch(c)) and MODALITY[match[1]] == modality}
    return sorted(found, key=lambda c: int(found[c][2]))
