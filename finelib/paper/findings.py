"""What the results say, in five sentences with their numbers: for README and for the first screen of the report.

Every sentence is put together by rule from the files of a figures folder, so that other results give other sentences.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from finelib.data.corpora import ALL_CORPORA, CORPORA, KINDS
from finelib.paper import ablations, audit, objective, significance
from finelib.paper.table import Row, read
from finelib.paper.verdict import DOES_NOT, HOLDS

FINE, VARIANT = "FINE", "FINE with subset codes"
SCORES = ("shared_in_str", "unique_in_utr", "noise_in_neither")
PUBLIC = "public_table"  # what tables made by --source public are called where they are published
FINETUNED = "finetuned_table"  # and those whose text encoder was trained too
NO_RIVALS = ("floor", "oracle")  # references that are bounds, not models
FOUND = 0.5  # a score above it is called found
ENCODER_ALONE = "text encoder alone"
SURE = 1.96  # standard errors on either side of a printed gap


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        name: for an anchor.
        title: what was found, a sentence without numbers.
        says: the numbers, with 95 % intervals.
        notebook: the one that shows it.
        picture: figures/PICTURE.png shows it; "" if none does.
    """

    name: str
    title: str
    says: str
    notebook: str
    picture: str


def findings(folder: Path) -> list[Finding]:
    """The findings that the files in a figures folder allow.

    Raises:
        ValueError: a file is not what its name says.
    """
    found = (_real(folder), _factorised(folder), _terms(folder), _bound(folder), _printed())
    return [finding for finding in found if finding]


def _real(folder: Path) -> Finding | None:
    """FINE beside the best linear model, in the first block of each corpus that was measured on real recordings.

    Then, where the text encoder was fine-tuned, beside that encoder alone.
    """
    told: dict[str, list[str]] = {}
    for title, rows in _first_blocks(folder):
        fine = next((row for row in rows if row.name == FINE), None)
        if rows[0].data == "public" and fine and (linear := _linear(rows)):
            best = max(linear, key=_corr)
            numbers = f"{_span(fine.measured['corr'])}, {best.name} {_corr(best):.3f}"
            told.setdefault(_side(best), []).append(f"{title} ({fine.modalities}): {numbers}")
    if not told:
        return None
    shown = [corpora[0] for corpora in told.values()]
    said = f"Test Corr: {'; '.join(shown)}."
    said += _over_finetuned(folder)
    return Finding("real", _beside_linear(told), said, "06_real_mosi", "")


def _over_finetuned(folder: Path) -> str:
    """FINE minus a fine-tuned encoder alone, on the first corpus whose table of fine-tuned systems there is."""
    paths = [folder / f"{FINETUNED}{number}.json" for number in range(1, 5)]
    rows = [row for path in paths if path.exists() for row in read(path).rows if row.differences]
    alone = next((row for row in rows if row.name.startswith(ENCODER_ALONE)), None)
    if not alone:
        return ""
    of_it = alone.differences["corr"]  # the encoder minus FINE
    over = {"mean": -of_it["mean"], "low": None, "high": None}
    if of_it["low"] is not None:
        over |= {"low": -of_it["high"], "high": -of_it["low"]}
    return f" Over a fine-tuned encoder ({ALL_CORPORA[alone.corpus].title}): {_span(over, sign='+')}."


ABOVE, BELOW, OPEN = "above", "below", "not told apart from"


def _side(linear: Row) -> str:
    """Where FINE lies, by the interval of the paired difference to a linear model; an unknown one tells nothing."""
    difference = (linear.differences or {}).get("corr")
    if difference is None or difference["low"] is None:
        return OPEN
    return ABOVE if difference["high"] < 0 else BELOW if difference["low"] > 0 else OPEN


def _beside_linear(told: dict[str, list[str]]) -> str:
    """The title, from the corpora on each side."""
    if len(told) == 1:
        return f"On real recordings FINE is {next(iter(told))} a linear model"
    counts = ", ".join(f"{side} it on {len(told[side])}" for side in (ABOVE, BELOW, OPEN) if side in told)
    return f"Beside a linear model on {sum(map(len, told.values()))} real corpora, FINE is {counts}"


def _factorised(folder: Path) -> Finding | None:
    """The three scores of FINE and of the variant: over planted worlds if they were measured, else over seeds."""
    worlds, seeds = _json(folder / "subset_codes.json"), _json(folder / "identifiability.json")
    if worlds:
        systems = {name: found["linear"] for name, found in worlds["cases"]["worlds"]["systems"].items()}
        over = f"{systems[FINE]['shared_in_str']['n']} planted worlds"
    elif seeds:
        systems, over = seeds["compared"], "planted data"
    else:
        return None
    fine, ours = ([systems[name][score] for score in SCORES] for name in (FINE, VARIANT))
    title = f"FINE {_separates(fine)[0]} shared from unique information"
    title += f"; our variant with subset codes {_separates(ours)[1]}"
    highest, lowest = max(fine, key=lambda score: score["mean"]), min(ours, key=lambda score: score["mean"])
    said = f"Scores (1: perfect) on {over}: FINE at most {_span(highest, 2)}, variant at least {_span(lowest, 2)}."
    if real := _json(folder / "subset_codes_real.json"):
        minus_fine = [each["minus_fine"][VARIANT] for each in real["compared"]]  # the row that was stated first
        lost = [each["high"] is not None and each["high"] < 0 for each in minus_fine]
        said += f" It loses Corr on {sum(lost)} of {len(lost)} real corpora."
    return Finding("factors", title, said, "11_identifiability", "identifiability_factors")


def _separates(scores: list[dict]) -> tuple[str, str]:
    """Whether all scores of a system lie above ``FOUND``, as a verb in full and in short."""
    if all(score["low"] is not None and score["low"] > FOUND for score in scores):
        return "separates", "does"
    if any(score["high"] is not None and score["high"] < FOUND for score in scores):
        return "does not separate", "does not"
    return "is not shown to separate", "is not shown to"


def _terms(folder: Path) -> Finding | None:
    """Rows of Table 6 that leave terms of L_MI out, also in its other forms where they were measured."""
    path, forms = folder / "table6.json", folder / f"{objective.NAME}.json"
    planted = [rows for rows in read(path).measured if rows[0].data == "planted"] if path.exists() else []
    main = planted[0] if planted else []
    names = {row.name for row in ablations.COMPONENT_ROWS if objective.of_l_mi(row)}
    without = [row for row in main if row.differences and row.name in names]
    if not without:
        return None
    others = [row for row in read(forms).rows if row.differences] if forms.exists() else []
    own = (next(iter(objective.FORMS)), objective.BETWEEN)
    others = [row for row in others if not any(form in row.block for form in own)]
    clear = sum(map(_clear, without + others))
    most = max(without, key=lambda row: abs(row.differences["corr"]["mean"]))
    title = "No term of L_MI is shown to matter for the prediction"
    if clear:
        title = f"Terms of L_MI are shown to matter in {clear} of {len(without + others)} comparisons"
    said = f"Planted data, {len(without)} ablations: Corr changes at most by {_change(most)}"
    said += f"; in other forms, {sum(map(_clear, others))} of {len(others)} are." if others else "."
    losses = [row for row in main if row.differences and _clear(row) and row.name not in names]
    if losses:
        worst = min(losses, key=lambda row: row.differences["corr"]["mean"])
        said += f" {worst.name[0].upper()}{worst.name[1:]} costs {_change(worst)}."
    said += _components_on_real(folder)
    return Finding("terms", title, said, "08_table_6_ablations", "table6_forest")


def _components_on_real(folder: Path) -> str:
    """Of how many rows of Table 6, over all real corpora, a difference to FINE is shown."""
    path = folder / f"{PUBLIC}6.json"
    found = read(path).rows if path.exists() else []
    rows = [row for row in found if row.kind == "system" and row.differences]
    return f" On real data, {sum(map(_clear, rows))} of {len(rows)} changes are." if rows else ""


def _clear(row: Row) -> bool:
    p = row.differences["corr"]["p_holm"]
    return p is not None and p < significance.LEVEL


def _change(row: Row) -> str:
    return _span(row.differences["corr"], sign="+")


def _bound(folder: Path) -> Finding | None:
    """What was found of NCE-CLUB where mutual information is known."""
    content = _json(folder / "claims.json")
    found = {claim["id"]: claim["behind"]["planted"] for claim in content["claims"]} if content else {}
    below = found.get("club_upper_bound", {})
    if below.get("verdict") not in (HOLDS, DOES_NOT):
        return None
    is_bound = "is" if below["verdict"] == HOLDS else "is not"
    title = f"NCE-CLUB (Eq. 8) {is_bound} an upper bound while its critic learns"
    said = f"Where mutual information is known, it is at worst {_span(_interval(below), 2, '+')} nats off."
    beside = found.get("club_conditional", {})
    if beside.get("verdict") == DOES_NOT:
        number = _span(_interval(beside), 2)
        said += f" Given the label, with negatives from the batch, it reads {number} where the truth is 0."
    return Finding("bound", title, said, "10_mutual_information", "estimators")


def _interval(behind: dict) -> dict:
    return {"mean": behind["value"], "low": behind["low"], "high": behind["high"]}


def _printed() -> Finding:
    """The smallest printed lead in ACC-2 of each corpus and the printed ablations, with their sampling error."""
    gaps = audit.gaps().query("metric == 'ACC-2'")
    spread = SURE * gaps["s.e. middle"]
    gaps = gaps.assign(mean=gaps["gap"], low=gaps["gap"] - spread, high=gaps["gap"] + spread)
    leads = gaps[gaps.table <= 4].sort_values("gap").drop_duplicates("table").sort_values("table")
    ablated = gaps[gaps.table == 6]
    title = f"The printed lead is within sampling error on {(leads.low <= 0).sum()} of {len(leads)} corpora"
    first = leads.iloc[0]
    said = (
        f"Points of ACC-2 over the next method on {_corpus(first.table)}: {_span(first, 2, '+')}, if both agree on "
        f"{100 * audit.AGREE:.0f} % of the utterances. So are {(ablated.low <= 0).sum()} of {len(ablated)} ablations."
    )
    return Finding("printed", title, said, "12_audit", "audit")


# ------------------------------------------------------------------------------------------ every block in one line

IN_SHORT = ["test Corr", "FINE", "best other system minus FINE", "best linear model", "oracle"]


def in_short(folder: Path) -> list[list[str]]:
    """A line for each corpus and kind of data of Tables 1 to 4: the columns of ``IN_SHORT``, "–" where there is none.

    Of a corpus's blocks on one kind of data the first that has FINE is shown.
    """
    return [_line(title, rows) for title, rows in _first_blocks(folder)]


def _first_blocks(folder: Path) -> list[tuple[str, list[Row]]]:
    """Title of a corpus, and its first measured block with FINE on each kind of data, in Tables 1 to 4.

    Where a table of real corpora alone (``PUBLIC``) was published beside the demo's, its blocks count.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for number, start in itertools.product(range(1, 5), ("table", PUBLIC)):
        path, first = folder / f"{start}{number}.json", {}
        for rows in read(path).measured if path.exists() else []:
            corpus = rows[0].corpus
            title = ALL_CORPORA[corpus].title if corpus else _corpus(number)
            if _fine(rows):
                first.setdefault((title, rows[0].data), rows)
        found |= first
    return [(title, rows) for (title, _), rows in found.items()]


def _fine(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row.name.startswith(FINE)), None)


def _line(title: str, rows: list[Row]) -> list[str]:
    fine, others, linear = _fine(rows), [row for row in rows if row.differences], _linear(rows)
    oracle = next((row for row in rows if row.name.startswith("oracle")), None)
    used = "" if fine.modalities == "T + A + V" else f" ({fine.modalities})"
    cells = [f"{title}, {KINDS[fine.data]}{used}", _span(fine.measured["corr"]), "–", "–", "–"]
    if others:
        best = max(others, key=_corr)
        cells[2] = f"{best.name} {_span(best.differences['corr'], sign='+')}"
    if linear:
        best = max(linear, key=_corr)
        cells[3] = f"{best.name} {_corr(best):.3f}"
    if oracle:
        cells[4] = f"{_corr(oracle):.3f}"
    return cells


def _linear(rows: list[Row]) -> list[Row]:
    """The references of a block that are models, all of them linear."""
    return [row for row in rows if row.kind == "reference" and not row.name.startswith(NO_RIVALS)]


def _corr(row: Row) -> float:
    return row.value("corr")


# ------------------------------------------------------------------------------------------------ shared


def _corpus(table: int) -> str:
    """Title of the corpus of a table."""
    return next(info.title for info in CORPORA.values() if info.table == table)


def _json(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.exists() else None


def _span(found: dict, digits: int = 3, sign: str = "") -> str:
    """A mean with its interval, where there is one."""
    form = f"{sign}.{digits}f"
    spread = "" if found["low"] is None else f" [{found['low']:{form}}, {found['high']:{form}}]"
    return f"{found['mean']:{form}}{spread}"
