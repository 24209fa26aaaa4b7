"""L_MI as printed and in three other forms: does it matter what the paper leaves open, and which of its terms matters?

Eq. 3-5 sum the terms over pairs and modalities; the averaged form is ours. The paper does not say how fast the critics
of NCE-CLUB learn. In each form every row of Table 6 that takes terms out of L_MI is trained again.
"""

from collections.abc import Iterable
from dataclasses import replace

from finelib.config import RunSpec, TrainConfig
from finelib.paper import ablations, significance, tables
from finelib.paper.ablations import FINE_ROW, Block, Variant
from finelib.paper.comparisons import p_text
from finelib.paper.significance import Interval
from finelib.paper.table import Row, Table, write
from finelib.runs import experiment
from finelib.runs.options import Options
from finelib.runs.records import write_atomically

NAME, SUBJECT = "objective", "L_MI as printed, and in three other forms: measured results"
COEFFICIENTS = {"weight_sha", "weight_uni", "weight_str", "weight_utr", "beta_mi"}
SLOW = {"critic_speed": 1.0}
SPEEDS = {f"critics at {TrainConfig().critic_speed:g} x the model's rate": {}, "critics at the model's rate": SLOW}
SUMS = {"summed over pairs": {}, "averaged over pairs": {"average_terms": True}}
FORMS = {f"{s}, {v}": (model, train) for s, model in SUMS.items() for v, train in SPEEDS.items()}  # FINE's own first
LOSS = 0.02  # of dev Corr: what the summed form may lose against the averaged one without a word
BETWEEN = "FINE itself in the four forms"


def of_l_mi(row: Variant) -> bool:
    """Whether a row is FINE, or FINE with terms of L_MI left out and nothing else."""
    return row is FINE_ROW or (row.loss_only and row.change.keys() <= COEFFICIENTS)


def in_form(block: Block, form: str) -> Block:
    """The block's rows that are about L_MI, in a form of it."""
    model, train = FORMS[form]
    base = replace(block.base, model_config=replace(block.base.model_config, **model))
    rows = tuple(row for row in block.variants if of_l_mi(row))
    return replace(block, variants=rows, base=replace(base, train=replace(base.train, **train)))


def blocks(options: Options) -> dict[tuple[str, str], dict[str, list[RunSpec]]]:
    """(form, what the data are made for) -> row -> its runs; the first design of each form has all rows."""
    found = {}
    for block in ablations.blocks(6, options):
        for form in FORMS:
            runs = in_form(block, form).specs(options.seed_list)
            if len(runs) > 1:
                found[form, block.about] = runs
    return found


def specs(options: Options) -> list[RunSpec]:
    """Every run that ``build`` needs; those of FINE's own form are Table 6's."""
    return [spec for rows in blocks(options).values() for runs in rows.values() for spec in runs]


def build(options: Options) -> Table:
    """Train what is missing; write ``figures/objective.{json,csv,md,tex,html}`` below ``options.out``, and what they
    say by rule into ``figures/objective_in_short.md``.

    Raises:
        training.Diverged: a run diverged; its name says in which form.
    """
    found = blocks(options)
    main = next(iter(found))[1]
    forms = {form: found[form, main][FINE_ROW.name] for form in FORMS}
    rows = tables.measure(6, forms, options, headed(BETWEEN, main))
    for (form, about), runs in found.items():
        rows += tables.measure(6, runs, options, headed(form, about))
    rows = [row for row in rows if row.kind == "system"]
    records = experiment.run_groups(forms, options.out, options.jobs)
    dev = {form: [record.valid["corr"] for record in group] for form, group in records.items()}
    said = [*dev_sentences(dev), row_sentence("other forms of L_MI", rows_of(rows, BETWEEN, main))]
    said += [row_sentence(f"rows without terms of L_MI ({form})", rows_of(rows, form, main)) for form in FORMS]
    table = Table(6, tuple(rows), tuple(said), SUBJECT)
    write(table, options.figures, NAME)
    write_atomically(options.figures / f"{NAME}_in_short.md", "".join(f"- {sentence}\n" for sentence in said))
    return table


def headed(form: str, about: str) -> str:
    """How the title of a block ends: the form, and what planted data are made for."""
    return f"{form}: {about}" if about else form


def rows_of(rows: Iterable[Row], form: str, about: str) -> list[Row]:
    """The rows of a form on one design."""
    return [row for row in rows if row.block.endswith(f": {headed(form, about)}")]


# ------------------------------------------------------------------------------------------ what is said, by rule


def dev_sentences(dev: dict[str, list[float]]) -> list[str]:
    """For each speed of the critics, whether the printed sum costs more than ``LOSS`` of dev Corr.

    Args:
        dev: form -> Corr of FINE on dev, one value per seed.
    """
    found = []
    for speed in SPEEDS:
        summed, averaged = (dev[f"{sums}, {speed}"] for sums in SUMS)
        difference, _ = significance.paired(summed, averaged)
        numbers = f"{difference.mean:+.3f}{_spread(difference)}, {difference.n} seeds"
        found.append(f"With {speed}, the printed sum {_loses(difference)} on dev against the average ({numbers}).")
    return found


def _loses(difference: Interval) -> str:
    if difference.low is not None and difference.low > -LOSS:
        return f"loses no more than {LOSS:g} of Corr"
    if difference.high is not None and difference.high < -LOSS:
        return f"loses more than {LOSS:g} of Corr"
    return f"may lose more or less than {LOSS:g} of Corr"


def row_sentence(what: str, rows: list[Row]) -> str:
    """Which rows of a block are shown to differ from its FINE in test Corr; ``what`` they are."""
    corr = {row.name: row.differences["corr"] for row in rows if row.differences}
    clear = [name for name, d in corr.items() if d["p_holm"] is not None and d["p_holm"] < significance.LEVEL]
    start = f"Of {len(corr)} {what}"
    if clear:
        says = [f"{name} ({corr[name]['mean']:+.3f}, p {p_text(corr[name]['p_holm'])})" for name in clear]
        return f"{start}, shown to differ from FINE in Corr: {', '.join(says)}."
    most = max(corr, key=lambda name: abs(corr[name]["mean"]))
    return f"{start}, none is shown to differ from FINE in Corr; most does {most}, by {corr[most]['mean']:+.3f}."


def _spread(difference: Interval) -> str:
    return "" if difference.low is None else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
