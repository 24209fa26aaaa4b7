"""What must be known to read a table: the sentences below it."""

from finelib.baselines import SYSTEMS
from finelib.config import TrainConfig
from finelib.paper.table import Row

DIFFERENCE = (
    "Δ: the row minus FINE{of}, same seeds, with a 95 % interval over seeds and test utterances; p of that difference "
    "after Holm's correction over the block."
)


def notes(number: int, rows: list[Row]) -> tuple[str, ...]:
    """The notes of a table with these rows, printed and measured."""
    return _of_corpora(number, rows) if number <= 4 else _of_ablations(number, rows)


def _of_corpora(number: int, rows: list[Row]) -> tuple[str, ...]:
    """Tables 1 to 4."""
    said = [
        "ACC and F1 in percent. Measured: mean ± standard deviation over seeds; n, the 95 % t interval and the run ids "
        f"are in table{number}.json. Bold: best, underlined: second, within a block; the oracle is no competitor."
    ]
    if number in (1, 2):
        said.append("ACC-2 and F1 leave out utterances labelled 0.")
    if any(row.differences for row in rows):
        said.append(DIFFERENCE.format(of=" of the same block"))
    if any(row.data == "planted" and row.name in SYSTEMS for row in rows):
        said.append(
            "All systems share one protocol: data, seeds, epochs, selection. In the smoke and demo presets all "
            "are small, and MulT, MISA and Self-MM get audio and video averaged over 24 stretches. Planted "
            "data hide the factors in few frames, which attention can find; a system that averages frames or "
            "reads the last one cannot."
        )
    kinds = {row.data for row in rows}
    if "planted" in kinds:
        said.append(
            "Planted data are generated: their rows say nothing about the real corpus, only how far a method "
            "gets from the floor to the oracle, the best prediction given the true factors."
        )
    if "public" in kinds:
        said.append(
            "The public block has the printed rows' test split but other features, and fewer modalities where "
            "it says so; its numbers are not comparable with the printed ones."
        )
    return tuple(said)


def _of_ablations(number: int, rows: list[Row]) -> tuple[str, ...]:
    """Tables 5 and 6."""
    said = [
        "ACC and F1 in percent, ACC-2 and F1 without utterances labelled 0. Measured: mean ± standard deviation over "
        f"seeds; run ids and all differences are in table{number}.json. Bold: best, underlined: second, within a "
        "block; the oracle is no competitor.",
        DIFFERENCE.format(of=" with all modalities" if number == 5 else " with everything"),
    ]
    if not any(row.measured for row in rows):
        said.append("Nothing measured: the source does not have this corpus.")
    if any(row.data == "planted" for row in rows):
        said.append("Planted data are generated: what is true of them need not be true of a real corpus.")
    if number == 5:
        said.append("A missing modality drops its branch and its pairs; a single modality has no I_sha, I_uni, I_str.")
    else:
        said.append(
            "The terms of L_MI are summed over pairs and modalities, as Eq. 3-5 write them, but for the row that says "
            f"otherwise; NCE-CLUB's critics learn at {TrainConfig().critic_speed:g} times the model's rate."
        )
    return tuple(said)
