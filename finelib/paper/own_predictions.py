"""Somebody's predictions in a csv file: read line by line, and arranged as a test split has its utterances.

The first line names the columns: id and prediction, and if there are several of them seed and system.
"""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finelib.data.corpora import nearest
from finelib.data.safe_pickle import DataError

NEEDED, OPTIONAL = ("id", "prediction"), ("seed", "system")
SHOWN, LONGEST = 3, 40  # how many wrong things a sentence names, and how many characters of each
Seeds = dict[int | None, np.ndarray]


@dataclass(frozen=True)
class Line:
    """One prediction: ``number`` is its line in the file, ``seed`` None and ``system`` "" where there is no column."""

    number: int
    id: str
    prediction: np.float32
    seed: int | None
    system: str


def read(path: Path) -> list[Line]:
    """The predictions of a file.

    They are held in single precision, as those of run records are: what was exported from a record is the same again.

    Raises:
        DataError: it cannot be read, or a line is wrong: file, line, found, expected.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: found {found}, expected a csv file with the columns {_listed(NEEDED)}")
    number = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            names = _columns(next(rows, []), path)
            found = []
            for row in rows:
                number = rows.line_num
                if row:
                    found.append(_line(row, names, f"{path}, line {number}", number))
    except UnicodeDecodeError as error:
        expected = "expected UTF-8 text, commas between the columns"
        raise DataError(f"{path}, after line {number}: found no UTF-8 ({error.reason}), {expected}") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {number + 1}: found no csv ({error}), expected it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected a csv file") from error
    if not found:
        raise DataError(f"{path}: found a header and no predictions, expected one line for each test utterance")
    return found


def _columns(header: Sequence[str], path: Path) -> list[str]:
    """The names in the first line."""
    names = [name.strip() for name in header]
    if not any(names):
        raise DataError(f"{path}: found no header in line 1, expected the columns {_listed(NEEDED)}")
    known = (*NEEDED, *OPTIONAL)
    wrong = [name for name in names if name not in known]
    missing = [name for name in NEEDED if name not in names]
    if wrong or missing or len(set(names)) < len(names):
        hint = nearest(wrong[0].lower(), known) if wrong else ""
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            hint = ", separated by commas"
        expected = f"expected {_listed(NEEDED)} and, if wanted, {_listed(OPTIONAL)}, each once"
        raise DataError(f"{path}: found the columns {_named(names)} in line 1, {expected}{hint}")
    return names


def _line(row: list[str], names: list[str], where: str, number: int) -> Line:
    if len(row) != len(names):
        raise DataError(f"{where}: found {len(row)} values, expected {len(names)}: {', '.join(names)}")
    value = dict(zip(names, row, strict=True))
    if not (utterance := value["id"].strip()):
        raise DataError(f"{where}: found no id, expected one")
    system = value.get("system", "").strip()
    if "system" in names and not (system and system.isprintable()):
        raise DataError(f"{where}: found the system {_short(system)}, expected a name")
    seed = value.get("seed", "").strip()
    if "seed" in names and not (seed.isascii() and seed.isdecimal() and len(seed) < 20):
        raise DataError(f"{where}: found the seed {_short(seed)}, expected a whole number of at least 0")
    prediction = _number(value["prediction"])
    if prediction is None:
        expected = "expected a finite number, as 0.25 or -1.5e-3"
        raise DataError(f"{where}: found the prediction {_short(value['prediction'])}, {expected}")
    return Line(number, utterance, prediction, int(seed) if seed else None, system)


def _number(text: str) -> np.float32 | None:
    """None for what is no finite number in single precision."""
    if not text.isascii() or "_" in text:
        return None
    try:
        with np.errstate(over="ignore"):
            value = np.float32(float(text))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


# ------------------------------------------------------------------------------------- against a test split


def arranged(
    lines: list[Line], path: Path, ids: Sequence[str], called: str, elsewhere: Collection[str] = (), named: bool = False
) -> dict[str, Seeds]:
    """System -> seed -> predictions (N,) in the order of a test split.

    Args:
        ids: the split's.
        called: what it is, for a refusal.
        elsewhere: ids of the corpus's other splits.
        named: name missing ids in a refusal; else their places in the split are named, because ids of recordings of
            people are not shown to who does not have them.

    Raises:
        DataError: ids are foreign, doubled or missing: a few of them, and how many.
    """
    place = {utterance: i for i, utterance in enumerate(ids)}
    groups: dict[tuple[str, int | None], dict[str, Line]] = {}
    foreign, doubled = [], []
    for line in lines:
        group = groups.setdefault((line.system, line.seed), {})
        if line.id not in place:
            foreign.append(line)
        elif line.id in group:
            doubled.append((line, group[line.id]))
        else:
            group[line.id] = line
    missing = [(key, utterance) for key, group in groups.items() for utterance in ids if utterance not in group]
    said = []
    if foreign:
        others = sum(line.id in elsewhere for line in foreign)
        among = f", {others:,} of them of train or valid" if others else ""
        said.append(f"{len(foreign):,} ids of no test utterance{among} ({_some([_at(line) for line in foreign])})")
    if doubled:
        twice = [f"{_at(line)} as line {first.number}" for line, first in doubled]
        said.append(f"{len(doubled):,} ids again ({_some(twice)})")
    if missing:
        shown = [(_short(i) if named else f"number {place[i] + 1} of the split") + _of(key) for key, i in missing]
        said.append(f"{len(missing):,} of {len(groups) * len(ids):,} missing ({_some(shown)})")
    if said:
        once = "once" + (" for each system and seed" if len(groups) > 1 else "")
        raise DataError(f"{path}: found {', '.join(said)}; expected each id {once} of {called}")
    systems: dict[str, Seeds] = {}
    for (system, seed), group in groups.items():
        systems.setdefault(system, {})[seed] = np.array([group[i].prediction for i in ids], dtype=np.float32)
    return systems


def _at(line: Line) -> str:
    return f"line {line.number} {_short(line.id)}"


def _of(key: tuple[str, int | None]) -> str:
    system, seed = key
    parts = [system and f"system {_short(system)}", "" if seed is None else f"seed {seed}"]
    return "".join(f", {part}" for part in parts if part)


def _some(things: list[str]) -> str:
    """The first few."""
    return "; ".join(things[:SHOWN]) + ("; ..." if len(things) > SHOWN else "")


def _short(text: str) -> str:
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "...")


def _named(names: list[str]) -> str:
    return ", ".join(_short(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
