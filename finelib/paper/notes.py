"""What must be known to read a table: the sentences below it."""

from statistics import median

from finelib import metrics
from finelib.baselines import SYSTEMS
from finelib.data.corpora import ALL_CORPORA, CORPORA
from finelib.paper.table import Row, in_millions
from finelib.runs import presets, real
from finelib.runs.records import RunRecord

OWN = (
    "Your file is not the published one of the corpus it was read as: its rows are no result on that corpus and not "
    "comparable with the printed ones, and no claim is judged by them."
)
PUBLIC = (
    "Public blocks are measured on recordings of people, with other features than the printed rows and with the "
    "modalities that they name; their numbers are not comparable with the printed ones. Penalties of ridge, logistic "
    "and TF-IDF are chosen on train or dev, and so were FINE's settings (benchmarks/public_recipes.json); compared "
    "systems have their published ones unless --tune asks for more."
)
EPOCHS = (
    "On CMU-MOSEI every system, FINE and the encoder alone too, was tried with its own most epochs and with three, "
    "with the first seed, and has what dev prefers (benchmarks/mosei_epochs.json). FINE had more settings to choose "
    "from on dev before (benchmarks/public_recipes.json)."
)
TEXT_ALONE = (
    "With one modality FINE has no pairs, so I_sha, I_uni and I_str do not exist. What is left: the Mixture of "
    "Q-Formers with L_aux, the reconstruction, I_utr, the unimodal head with L_UP, the fusion of that modality's own "
    "features and the contrastive queue."
)
AVERAGE = (
    "Where each modality is one published number, a plain average of the numbers, nothing fitted, is a row: this block "
    "shows that modalities add, and it cannot rank ways of fusing them. Its rows, and those with the text encoded, are "
    "trained on some 517 of the official dev utterances and selected on the others, split by video, because the "
    "numbers are over-fitted on train."
)
SAME = "Without a context C-MFN is MFN: where both rows have none, they are one model, trained alike."
BELOW = (
    "Not above ridge on planted data: {}. What was found out about it, with the demo's data: benchmarks/README.md, "
    '"Below ridge on planted data".'
)
SIMS = "On CH-SIMS v2 ACC-2 and F1 are those of Table 4: all utterances, 0 counts as negative; it has no ACC-7."
DIFFERENCE = (
    "Δ: the row minus FINE{of}, same seeds, with a 95 % interval over seeds and test utterances; p of that difference "
    "after Holm's correction over the block's systems, on public data also over its references."
)


def notes(number: int, rows: list[Row]) -> tuple[str, ...]:
    """The notes of a table with these rows, printed and measured."""
    return (_of_corpora(number, rows) if number <= 4 else _of_ablations(number, rows)) + _of_public(number, rows)


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
        averaging = [f"{name} ({system.DEMO['frames']})" for name, system in SYSTEMS.items() if "frames" in system.DEMO]
        stepped = [f"{name} ({system.DEMO['steps']})" for name, system in SYSTEMS.items() if "steps" in system.DEMO]
        said.append(
            "All systems share one protocol: data, seeds, most epochs, selection. In the smoke and demo presets each "
            "has the best of the same three learning rates on dev (benchmarks/demo_rates.json), and all are small; "
            f"some get audio and video averaged over stretches: {', '.join(averaging)}; some every modality: "
            f"{', '.join(stepped)}. CubeMLP's demo size was the best of four on dev in another planted world. "
            "They train a system for the tables that print it. "
            "In planted data every frame carries four factors of the label, two products of them count as well, and a "
            "quarter of the frames, marked, carry three more factors: means, products and attention all help. This "
            "design was chosen on data of a seed that no table reports, so that most systems come above the linear "
            "models."
        )
    measured = [row for row in rows if row.name in SYSTEMS and row.corpus in CORPORA]
    if beside := dict.fromkeys(row.name for row in measured if row.name not in presets.printed_for(row.corpus)):
        said.append(f"Not printed in this table: {', '.join(beside)}.")
    alone = {(row.block, row.name) for row in rows if row.measured and not row.context}
    if any({(block, "MFN"), (block, "C-MFN")} <= alone for block, _ in alone):
        said.append(SAME)
    kinds = {row.data for row in rows}
    if "planted" in kinds:
        said.append(
            "Planted data are generated: their rows say nothing about the real corpus, only how far a method "
            "gets from the floor to the oracle, the best prediction given the true factors."
        )
    if below := _below_ridge([row for row in rows if row.data == "planted" and row.value("corr") is not None]):
        said.append(BELOW.format(", ".join(below)))
    if "own" in kinds:
        said.append(OWN)
    return tuple(said)


def _below_ridge(rows: list[Row]) -> list[str]:
    """Systems whose Corr is not above that of the best ridge of their block."""
    best: dict[str, float] = {}
    for row in rows:
        if row.name.startswith("ridge"):
            best[row.block] = max(row.value("corr"), best.get(row.block, -1.0))
    return [row.name for row in rows if row.kind == "system" and row.value("corr") <= best.get(row.block, -1.0)]


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
    if any(row.data == "own" for row in rows):
        said.append(OWN)
    if number == 5:
        said.append("A missing modality drops its branch and its pairs; a single modality has no I_sha, I_uni, I_str.")
    else:
        said.append(
            "The terms of L_MI are summed over pairs and modalities, as Eq. 3-5 write them, but for the row that says "
            "otherwise; NCE-CLUB's critics learn at the model's rate."
        )
    return tuple(said)


def _of_public(number: int, rows: list[Row]) -> tuple[str, ...]:
    """What the blocks of real, public corpora need to be read."""
    public = [row for row in rows if row.data == "public"]
    said = [PUBLIC] if public else []
    if any(row.corpus == "mosei" and row.name in SYSTEMS for row in public):
        said.append(EPOCHS)
    for (corpus, modalities), why in real.UNRANKED.items():
        block = [row.kind for row in public if row.corpus == corpus and row.modalities == modalities]
        if number != 5 and block.count("system") > 2:  # more than FINE and the encoder alone
            said.append(f"{ALL_CORPORA[corpus].title}, public data: {why}.")
    if number != 5 and any(row.modalities == "T" and row.name.startswith("FINE") for row in public):
        said.append(TEXT_ALONE)
    if any(row.name.startswith("plain average") for row in public):
        said.append(AVERAGE)
    if number in (5, 6) and any(row.corpus == "ch_sims_v2" for row in public):
        said.append(SIMS)
    return tuple(said)


def budget(runs: dict[str, list[RunRecord]], tried: int) -> str:
    """Settings, epochs and parameters of a block's systems, in one sentence.

    Args:
        runs: system -> its runs.
        tried: at most so many settings of each system.
    """
    error = next(iter(runs.values()))[0].dev_error
    limits: dict[tuple[int, int], list[str]] = {}
    for name, (first, *_) in runs.items():
        train = first.config["train"]
        limits.setdefault((train["epochs"], train["patience"]), []).append(name)
    said = [
        f"{'every system' if len(limits) == 1 else ', '.join(names)} at most {epochs} epochs, ended by "
        f"{patience} without a better dev {metrics.ERRORS[error]}"
        for (epochs, patience), names in limits.items()
    ]
    found = [run for group in runs.values() for run in group]
    said.append(f"{sum(map(_ended_by_the_limit, found))} of {len(found)} runs ended at their limit instead")
    said.append(f"up to {tried} settings tried of each on dev" if tried > 1 else "one setting of each")
    sizes = {name: group[0].parameters for name, group in runs.items()}
    fine = next((name for name in sizes if name.startswith("FINE")), None)
    others = [size for name, size in sizes.items() if name != fine]
    if fine and others:
        said.append(
            f"trained parameters: {fine} {in_millions(sizes[fine])}, median of the others {in_millions(median(others))}"
        )
    return "; ".join(said)


def _ended_by_the_limit(run: RunRecord) -> bool:
    """Whether the run would have gone on, had it been given more epochs."""
    train, done = run.config["train"], len(run.curves)
    return done == train["epochs"] and done - 1 - run.selected_epoch < train["patience"]
