"""The claims table: what the paper says, and what is known about it from each kind of evidence.

``data/claims.csv`` holds the claims, ``RULES`` how each is tested; to add one, add a line to both.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from inspect import signature
from pathlib import Path

import pandas as pd

from finelib.data.corpora import ALL_CORPORA
from finelib.paper import claims_measured as measured
from finelib.paper import claims_printed as by_print
from finelib.paper.claims_measured import Results
from finelib.paper.printed import lines
from finelib.paper.table import templates
from finelib.paper.verdict import NOT_RUN, OPEN, VERDICTS, Verdict
from finelib.runs.options import Options
from finelib.runs.records import git_revision, write_atomically

# kind of evidence -> title of its column
EVIDENCE = {"printed": "printed tables", "planted": "planted data"}
EVIDENCE |= {name: f"{info.title}, public" for name, info in ALL_CORPORA.items()}
EVIDENCE |= {"files": "licensed files", "variant": "planted data, FINE with subset codes (ours)"}
SILENT = Verdict(OPEN, "the printed tables do not speak of it")
UNTESTED = Verdict(NOT_RUN, "no experiment here tests it")
OF_FINE = Verdict(NOT_RUN, "asked of FINE alone")


# ---------------------------------------------------------------------------------------------- the rules


def ask(rule: Callable[..., Verdict], *settings: object) -> partial:
    """A rule with its settings, given in the order of its parameters."""
    names = [name for name in signature(rule).parameters if name != "results"]
    return partial(rule, **dict(zip(names[: len(settings)], settings, strict=True)))


def best(*settings: object) -> tuple:
    """FINE is ahead of the other methods, in the tables and metrics named."""
    return ask(by_print.best, *settings), ask(measured.best, *settings)


def above(*settings: object) -> tuple:
    """In a table a row is above others."""
    return ask(by_print.above, *settings), ask(measured.higher, *settings)


def loses(*without: str) -> tuple:
    """FINE is above these rows of Table 6, by more than sampling error where printed."""
    return ask(by_print.drop, 6, list(without)), ask(measured.higher, 6, "FINE", list(without))


def loses_terms(*without: str) -> tuple:
    """``loses``, of rows that leave terms of L_MI out: measured in each form of L_MI."""
    return ask(by_print.drop, 6, list(without)), ask(measured.higher_in_each_form, list(without))


ACC2_F1, PARTS = ["acc2_nonzero", "f1_nonzero"], ["V", "A", "T", "V + A", "V + T", "A + T"]
# id of a claim -> its rule on the printed tables, and its rule on what was measured, to be given ``Results``
RULES: dict[str, tuple[partial | None, partial | None]] = {
    "outperforms_everywhere": best([1, 2, 3, 4]),
    "best_mosi": best([1]),
    "best_mosei": best([2]),
    "mosei_one_point": (ask(by_print.margin, 2, ACC2_F1, 1, 0), None),
    "mosei_acc7": (ask(by_print.margin, 2, ["acc7"], 0.7, 1), None),
    "best_ur_funny": best([3]),
    "ur_funny_margin": (ask(by_print.margin, 3, ["acc2"], 2.5, 1), None),
    "best_ch_sims": best([4], ["acc2", "f1"]),
    "ch_sims_second": (ask(by_print.rank, 4, "acc5", 2), None),
    "leads_beyond_sampling": (ask(by_print.lead, [1, 2, 3, 4]), None),
    "robust": (None, ask(measured.ahead_under_losses)),
    "more_modalities": (ask(by_print.added_modality), ask(measured.added_modality)),
    "all_three_best": above(5, "V + A + T", PARTS),
    "text_most": above(5, "T", ["V", "A"]),
    "audio_video_worst": (
        ask(by_print.lowest, 5, ["V", "A"]),
        ask(measured.lower_than_all, 5, ["V", "A"], ["T", "V + A", "V + T", "A + T", "V + A + T"]),
    ),
    "audio_text_sota": (ask(by_print.above_existing, 5, "A + T", ACC2_F1), None),
    "every_component": (ask(by_print.above, 6, "FINE", "all"), ask(measured.higher, 6, "FINE", "printed")),
    "moq_essential": loses("w/o MoQ"),
    "moq_replacements": loses("w/o MoQ + TE", "w/o MoQ + TCN", "w/o MoQ + LSTM", "w/o MoQ + MLPs"),
    "moq_asynchronous": (None, ask(measured.higher, 6, "FINE", ["w/o MoQ"], "cues")),
    "load_balance": (None, ask(measured.higher, 6, "FINE", ["w/o L_aux"])),
    "padding": (None, None),
    "misa_drop": loses("w/o FTRE + MISA"),
    "ftre_needed": loses("w/o FTRE"),
    "sota_without_task": (ask(by_print.above_existing, 6, "w/o I_str, I_utr", [*ACC2_F1, "acc7"]), None),
    "task_terms_alone": (ask(by_print.above_existing, 6, "w/o I_sha, I_uni", [*ACC2_F1, "acc7"], False), None),
    "both_branches": loses_terms("w/o I_sha, I_str", "w/o I_uni, I_utr"),
    "redundancy": (None, ask(measured.higher_in_each_form, ["w/o I_uni, I_str"], "redundancy")),
    "complementarity": (None, ask(measured.higher_in_each_form, ["w/o I_utr"], "complementary")),
    "queue_over_batch": above(6, "DCQ (SCL)", ["w/o DCQ + SCL"]),
    "accon_over_supcon": above(6, "FINE", ["DCQ (SCL)"]),
    "queue_contributes": loses("w/o DCQ"),
    "queue_imbalance": (None, ask(measured.higher, 6, "FINE", ["w/o DCQ"], "imbalance")),
    "sentiment_in_features": (None, ask(measured.figure5, "label_r2")),
    "neutral_between": (None, ask(measured.figure5_above, "neutral_between", 0.5)),
    "modalities_apart": (None, ask(measured.figure5, "modality_silhouette")),
    "kinds_alike": (None, ask(measured.figure5_order, "cka_within", "cka_across")),
    "dense": (None, ask(measured.figure5, "neighbour_distance", "below")),
    "infonce_lower_bound": (None, ask(measured.finding, "estimators", ["infonce_lower_bound"])),
    "club_upper_bound": (None, ask(measured.finding, "estimators", ["club_learning_is_bound"])),
    "club_conditional": (None, ask(measured.finding, "estimators", ["conditional_club_in_batch_unbiased"])),
    "shared_in_str": (None, ask(measured.finding, "identifiability", ["shared_in_str"])),
    "unique_in_utr": (None, ask(measured.finding, "identifiability", ["unique_in_utr"])),
    "noise_removed": (None, ask(measured.finding, "identifiability", ["noise_in_neither"])),
    "principled": (None, ask(measured.finding, "identifiability", ["fine_over_misa"])),
    "objective_identifies": (None, ask(measured.finding, "identifiability", ["objective_identifies"])),
}
# id of a claim about STR and UTR -> its rule on what was measured of FINE with subset codes
OF_VARIANT = {
    "shared_in_str": ask(measured.finding, "subset_codes", ["codes_shared_in_str"]),
    "unique_in_utr": ask(measured.finding, "subset_codes", ["codes_unique_in_utr"]),
    "noise_removed": ask(measured.finding, "subset_codes", ["codes_noise_in_neither"]),
    "objective_identifies": ask(measured.finding, "identifiability", ["codes_identify"]),
}


@dataclass(frozen=True)
class Claim:
    """What the paper says, in our words.

    Attributes:
        id: its name in claims.json and on the page.
        place: where the paper says it.
        settled_by: what would settle it.
        printed, measured: its ``RULES``; None if the printed tables do not speak of it, or no experiment tests it.
    """

    id: str
    claim: str
    place: str
    settled_by: str
    printed: partial | None
    measured: partial | None


CLAIMS = [Claim(**line, printed=RULES[line["id"]][0], measured=RULES[line["id"]][1]) for line in lines("claims")]


def as_text(rule: partial | None) -> str:
    """A rule as it is written, for example "rank(table=4, metric='acc5', place=2)"; "" for None."""
    if rule is None:
        return ""
    return f"{rule.func.__name__}({', '.join(f'{name}={value!r}' for name, value in rule.keywords.items())})"


# ---------------------------------------------------------------------------------------------- the table


def verdicts(claim: Claim, options: Options) -> dict[str, Verdict]:
    """Kind of evidence -> verdict, from the printed tables and from what lies in ``options.out``."""
    found = {"printed": claim.printed() if claim.printed else SILENT}
    kinds = {"planted": Results(options, "planted")}
    kinds |= {corpus: Results(options, "public", corpus) for corpus in ALL_CORPORA}
    for kind, results in (kinds | {"files": Results(options, "files")}).items():
        found[kind] = claim.measured(results) if claim.measured else UNTESTED
    of_variant = OF_VARIANT.get(claim.id)
    return found | {"variant": of_variant(Results(options, "planted", published=True)) if of_variant else OF_FINE}


def printed() -> pd.DataFrame:
    """The claims that the printed tables decide, with the numbers: for a notebook."""
    judged = [(claim.claim, claim.printed(), claim.place) for claim in CLAIMS if claim.printed]
    shown = [(claim, found.verdict, found.says, place) for claim, found, place in judged]
    return pd.DataFrame(shown, columns=["claim", "by the printed tables", "because", "place"])


def write_claims(options: Options) -> Path:
    """Write figures/claims.{json,md,html} below ``options.out`` from what lies there; nothing is trained.

    A column that this folder has no results for any more keeps the verdict that the same rules gave in an earlier
    claims.json, with its revision: planted and public results of one folder do not stand in the same tables at the
    same time.

    Returns:
        The page.
    """
    path = options.figures / "claims.json"
    earlier = {c["id"]: c for c in json.loads(path.read_text())["claims"]} if path.exists() else {}
    content = [_entry(claim, options, earlier.get(claim.id)) for claim in CLAIMS]
    options.figures.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"columns": EVIDENCE, "claims": content}, indent=1))
    counts = {kind: {v: sum(c["verdicts"][kind] == v for c in content) for v in VERDICTS} for kind in EVIDENCE}
    shown = {
        "claims": content,
        "columns": EVIDENCE,
        "counts": counts,
        "margin": measured.MARGIN,
        "rules": _rules(content),
    }
    for form in ("md", "html"):
        text = templates(html=form == "html").get_template(f"claims.{form}").render(shown)
        write_atomically(options.figures / f"claims.{form}", text)
    return options.figures / "claims.html"


def _rules(content: list[dict]) -> dict[str, list[str]]:
    """A rule that is not the usual one -> the claims that it judges in some column."""
    found: dict[str, list[str]] = {}
    for entry in content:
        for rule in {behind.get("rule") for behind in entry["behind"].values()} - {None, ""}:
            found.setdefault(rule, []).append(entry["claim"])
    return found


def _entry(claim: Claim, options: Options, earlier: dict | None) -> dict:
    """A claim as claims.json holds it."""
    revision = git_revision()
    behind = {kind: asdict(found) | {"revision": revision} for kind, found in verdicts(claim, options).items()}
    tests = {"printed": as_text(claim.printed), "measured": as_text(claim.measured)}
    tests["variant"] = as_text(OF_VARIANT.get(claim.id))
    if earlier and earlier["tests"] == tests:
        for kind, found in behind.items():
            if found["verdict"] == NOT_RUN and not found["runs"]:  # runs: there are results, too few to judge by
                behind[kind] = earlier["behind"].get(kind, found)
    return {name: getattr(claim, name) for name in ("id", "claim", "place", "settled_by")} | {
        "tests": tests,
        "verdicts": {kind: found["verdict"] for kind, found in behind.items()},
        "behind": behind,
    }
