"""The paper's printed tables: the one place that reads ``paper/data``, and what its tables and columns are called."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from finelib.data.corpora import CORPORA

DATA = Path(__file__).parent / "data"
SENTIMENT = {"acc2_nonzero": "ACC-2", "f1_nonzero": "F1", "acc7": "ACC-7"}
# table -> metric -> title of its column; the first one is an ACC-2
CH_SIMS = {"acc2": "ACC-2", "f1": "F1", "acc5": "ACC-5"}
COLUMNS = {1: SENTIMENT, 2: SENTIMENT, 3: {"acc2": "ACC-2"}, 4: CH_SIMS, 5: SENTIMENT, 6: SENTIMENT}
CORPUS_OF = {info.table: name for name, info in CORPORA.items()}
SUBJECTS = {number: CORPORA[name].title for number, name in CORPUS_OF.items()}
SUBJECTS |= {5: "Subsets of the modalities", 6: "FINE without its components"}


@dataclass(frozen=True)
class PrintedRow:
    """A row of a printed table.

    Attributes:
        name: as printed, without citations; in Table 5 the modalities, as in "V + T"; the paper's own is "FINE".
        text: metric -> percentage with the digits that are printed.
        context, target: Table 3 only: what of an utterance was used.
    """

    name: str
    text: dict[str, str]
    context: bool | None = None
    target: bool | None = None

    @property
    def percent(self) -> dict[str, float]:
        """metric -> percentage."""
        return {metric: float(text) for metric, text in self.text.items()}


@cache
def rows(number: int) -> tuple[PrintedRow, ...]:
    """The rows of a table, in its order. FINE's is the last, in Table 5 with all modalities.

    Raises:
        ValueError: the paper has no table of that number.
    """
    if number not in COLUMNS:
        raise ValueError(f"table {number}: unknown, expected one of {', '.join(map(str, COLUMNS))}")
    found = []
    for line in lines(f"table{number}"):
        used = {part: line[part] == "yes" for part in ("context", "target") if part in line}
        found.append(PrintedRow(_name(number, line), {metric: line[metric] for metric in COLUMNS[number]}, **used))
    return tuple(found)


def by_name(number: int) -> dict[str, dict[str, float]]:
    """Row name -> metric -> percentage; of the two MuLOT rows of Table 3 the last."""
    return {row.name: row.percent for row in rows(number)}


def splits(number: int, metric: str) -> dict[int, str]:
    """n -> which test split, for an accuracy of a table; UR-FUNNY has two versions."""
    found = [line for line in lines("splits") if (int(line["table"]), line["metric"]) == (number, metric)]
    return {int(line["n"]): line["what"] for line in found}


def utterances(number: int) -> int:
    """Test utterances behind a table's ACC-2; the fewer where there are two versions."""
    return min(splits(number, first_metric(number)))


def first_metric(number: int) -> str:
    """The metric of a table's first column, its ACC-2."""
    return next(iter(COLUMNS[number]))


def _name(number: int, line: dict[str, str]) -> str:
    if number == 5:
        return " + ".join(m for m in "VAT" if line[m] == "yes")
    return line["config"] if number == 6 else line["model"]


def lines(name: str) -> list[dict[str, str]]:
    """The lines of a file in ``paper/data``."""
    with open(DATA / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))
