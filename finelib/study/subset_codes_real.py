"""FINE with subset codes on real corpora: its Corr beside FINE's, and what UTR of text tells of the label of text.

Of each corpus FINE has the recipe of the tables of real corpora (``runs.real``), and the variant the same model, rate
and batches with the settings that it has everywhere (``study.starts``): nothing of it was chosen on these corpora. One
start each. A row more keeps the epoch with the best dev score, as FINE does; it was thought of after the test results
had been seen, so it stands beside the first one and decides nothing.

CH-SIMS and its second version have a label of every modality: UTR_T is meant to hold what text alone has, so it should
tell label_T minus the label better than a ridge does on the encoding that it is made of; L_UP has taught [STR_T; UTR_T]
label_T there.
``run_all.sh --only subset_codes_real`` makes it, for the corpora that can be had.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import numpy as np
from jaxtyping import Float

from finelib.baselines import references
from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.baselines.subset_codes import SubsetCodesConfig
from finelib.config import RunSpec
from finelib.data.corpora import ALL_CORPORA
from finelib.data.features import SPLITS, Corpus, Frames
from finelib.paper import comparisons, significance
from finelib.runs import experiment, presets
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import Options
from finelib.runs.real import ENCODED, RealBlock
from finelib.runs.records import RunRecord, digest, write_atomically
from finelib.study.missing_said import span
from finelib.study.representations import features_of, model_of
from finelib.study.starts import Run, with_subset_codes
from finelib.study.subset_codes_said import FINE, LOST, goals_table

NAME = "subset_codes_real"
CHOSEN = f"{VARIANT}, epoch chosen on dev"
COMPARED = (RealBlock("mosi"), RealBlock("ict_mmmo"), ENCODED)
TEXT_ALONE = (RealBlock("ch_sims"), RealBlock("ch_sims_v2"))  # which the variant cannot do with
ENCODING, BOTH = "encoding", "encoding and UTR_T"
READERS = ("UTR_T", "STR_T", BOTH)
NO_EVIDENCE = (
    "pred_a and pred_v of CH-SIMS v2 were trained on label_A and label_V, so what features made of them tell of those "
    "labels is no evidence, and is not measured."
)
AFTERWARDS = (
    f"*{CHOSEN}* was thought of after the test results of the other rows had been seen, so no goal is judged by it. It "
    "is the same training, of which the epoch with the smallest dev MAE is kept, as FINE's is, in place of the last "
    f"one; the weight of the label rises over the first {SubsetCodesConfig.ramp:.0f} epochs. The smaller agreement + "
    "outside (on train, mean over seeds), the better the codes of different sets are apart."
)
Features = dict[str, Float[np.ndarray, "N d"]]  # split -> features of its utterances


def run_specs(options: Options) -> dict[tuple[str, str, str], list[RunSpec]]:
    """(corpus, modalities, system) -> its runs with every seed, of the corpora that can be had."""
    found = {}
    for block in (*COMPARED, *TEXT_ALONE):
        if not block.missing():
            fine = [s for s in presets.specs_of(block.data(options)[0], options) if s.name.startswith(FINE)]
            place = (block.corpus, " + ".join(fine[0].model_config.modalities))
            found[(*place, FINE)] = fine
            if block in COMPARED:
                found[(*place, VARIANT)] = [with_subset_codes(spec, VARIANT) for spec in fine]
                found[(*place, CHOSEN)] = [epoch_chosen(spec) for spec in found[(*place, VARIANT)]]
    return found


def epoch_chosen(spec: RunSpec) -> RunSpec:
    """The same training, of which the epoch is kept that FINE's would be: the one with the smallest dev MAE."""
    train = replace(spec.train, keep_last=False, patience=spec.train.epochs)  # all epochs, so the same ones
    return replace(spec, name=CHOSEN, train=train)


def specs(options: Options) -> list[RunSpec]:
    """Every run that ``measure_on_real`` needs."""
    return [spec for group in run_specs(options).values() for spec in group]


def measure_on_real(options: Options) -> dict:
    """Train what is missing and measure; write figures/subset_codes_real.{json,md}, kept while runs and code stay.

    Raises:
        ValueError: none of the corpora can be had.
    """
    wanted = run_specs(options)
    if not wanted:
        raise ValueError(f"{NAME}: {COMPARED[0].missing()}")
    records = experiment.run_groups(wanted, options.out, options.jobs)
    ids = [record.id for group in records.values() for record in group]
    key = digest({"runs": ids, "code": code_hash("finelib.study.subset_codes_real")})
    runs = {place: list(zip(records[place], group, strict=True)) for place, group in wanted.items()}
    content = kept(options.figures / f"{NAME}.json", key, partial(_content, runs))
    write_atomically(options.figures / f"{NAME}.md", as_text(content))
    return content


def _content(runs: dict[tuple[str, str, str], list[Run]]) -> dict:
    compared, own = [], []
    for (corpus, modalities, system), group in runs.items():
        place = {"corpus": ALL_CORPORA[corpus].title, "modalities": modalities}
        if system == VARIANT:
            rows = {name: [r for r, _ in runs[corpus, modalities, name]] for name in (FINE, VARIANT, CHOSEN)}
            compared.append(place | beside_fine(rows))
        if system != CHOSEN and "T" in modalities and has_own_labels(group[0][1]):
            own.append(place | {"system": system} | own_label_told(group))
    return {"data": "public", "compared": compared, "own_label": own, "findings": judge(compared, own)}


# ------------------------------------------------------------------------------------------------------- Corr


def beside_fine(records: dict[str, list[RunRecord]]) -> dict:
    """Of each system test and dev Corr, the best dev Corr of all epochs, the epochs kept, agreement + outside on train
    there, seconds and size; and of each but FINE its Corr minus FINE's: over seeds and utterances ("minus_fine",
    ``significance.differences``, each a family of its own), and over seeds of this test split alone."""
    kind, fine = ALL_CORPORA[records[FINE][0].corpus].metrics, records[FINE]
    systems, minus, over_seeds = {}, {}, {}
    for name, group in records.items():
        corr = {split: [getattr(record, split)["corr"] for record in group] for split in ("test", "valid")}
        systems[name] = {split: asdict(significance.interval(values)) for split, values in corr.items()}
        structure = [record.curves[record.selected_epoch].get("structure") for record in group]
        systems[name] |= {
            "best_dev": float(np.mean([max(curve["dev_corr"] for curve in record.curves) for record in group])),
            "epochs": [record.selected_epoch + 1 for record in group],
            "structure": None if None in structure else float(np.mean(structure)),
            "seconds": float(np.mean([record.timing["seconds"] for record in group])),
            "parameters": group[0].parameters,
            "runs": [record.id for record in group],
        }
        if name != FINE:
            minus[name] = comparisons.compare({FINE: fine, name: group}, FINE, kind)[name]["corr"]
            over_seeds[name] = asdict(significance.paired(corr["test"], [r.test["corr"] for r in fine])[0])
    return {"systems": systems, "minus_fine": minus, "minus_fine_over_seeds": over_seeds}


# -------------------------------------------------------------------------------------- label_T minus the label


def own_label_told(runs: list[Run]) -> dict:
    """R2 on test of label_T minus the label, by ridges fitted on train: on the mean encoding of the text, on a run's
    UTR_T and STR_T, on encoding and UTR_T; means over seeds, and each minus the encoding's with its interval."""
    corpus = experiment.load_corpus(runs[0][1].data)
    of_text = {name: corpus.splits[name].frames["T"].mean() for name in SPLITS}
    told: dict[str, list[np.ndarray]] = {name: [] for name in (ENCODING, *READERS)}
    for record, spec in runs:
        utr, str_ = (text_features(record, spec, corpus, kind) for kind in ("UTR", "STR"))
        given = {ENCODING: [of_text], "UTR_T": [utr], "STR_T": [str_], BOTH: [of_text, utr]}
        for name, features in given.items():
            told[name].append(predicted_gap(corpus, features))
    truth = text_label_gap(corpus, "test")
    error = {name: (truth - np.stack(each)) ** 2 / truth.var() for name, each in told.items()}  # (S, N)
    return {
        "utterances": len(truth),
        "r2": {name: float(1 - each.mean()) for name, each in error.items()},
        "minus_encoding": _minus(1 - np.stack([error[name] for name in READERS]), 1 - error[ENCODING]),
        "runs": [record.id for record, _ in runs],
    }


def has_own_labels(spec: RunSpec) -> bool:
    """Whether a run's corpus has a label of every modality."""
    return bool(experiment.load_corpus(spec.data).splits["train"].unimodal_labels)


def text_features(record: RunRecord, spec: RunSpec, corpus: Corpus, kind: str) -> Features:
    """Text's STR or UTR features (N, w) of each split by a run's model, averaged over tokens."""
    model, found = model_of(record, spec), {}
    for name in SPLITS:
        features = features_of(model, corpus.splits[name])
        found[name] = features.values[features.groups.index(("T", kind))]
    return found


def text_label_gap(corpus: Corpus, split: str) -> Float[np.ndarray, "N"]:
    """label_T minus the label."""
    part = corpus.splits[split]
    return part.unimodal_labels["T"] - part.label


def predicted_gap(corpus: Corpus, features: list[Features]) -> Float[np.ndarray, "N"]:
    """``text_label_gap`` of the test split by ``references.ridge`` on some features side by side."""
    names, splits = [str(i) for i in range(len(features))], {}
    for s in SPLITS:
        one = np.ones(len(corpus.splits[s]), np.int64)
        frames = {name: Frames.from_lengths(x[s], one) for name, x in zip(names, features, strict=True)}
        splits[s] = replace(corpus.splits[s], frames=frames, label=text_label_gap(corpus, s))
    return references.ridge(replace(corpus, splits=splits), tuple(names))


def _minus(readers: Float[np.ndarray, "K S N"], encoding: Float[np.ndarray, "S N"]) -> dict[str, dict]:
    """Difference of R2 with its interval over seeds and utterances; without one for a single seed."""
    if len(encoding) < 2:
        means = (readers - encoding).mean((1, 2))
        return {name: {"mean": float(m), "low": None, "high": None} for name, m in zip(READERS, means, strict=True)}
    found = significance.family_intervals(readers, encoding)
    ends = zip(found.mean, found.low, found.high, strict=True)
    return {
        name: dict(zip(("mean", "low", "high"), map(float, each), strict=True))
        for name, each in zip(READERS, ends, strict=True)
    }


# ------------------------------------------------------------------------------------------------- what is said


def judge(compared: list[dict], own: list[dict]) -> dict[str, dict]:
    """Corr is kept if the interval of its difference lies above ``LOST``, judged by the row that was stated first;
    UTR_T tells more than the encoding if the interval of what it adds lies above 0. Neither is so if the interval lies
    below, else it is open (None)."""
    found = {}
    for each in compared:
        says = f"{each['corpus']} ({each['modalities']}): Corr of {VARIANT} minus FINE's"
        ids = [i for name in (FINE, VARIANT) for i in each["systems"][name]["runs"]]
        judged = _finding(each["minus_fine"][VARIANT], LOST, ids, says)
        found[f"real_corr_{len(found)}"] = judged | {"why": epochs_said(each)}
    for each in own:
        says = (
            f"{each['corpus']} ({each['modalities']}), label_T minus the label: R2 that UTR_T of {each['system']} adds"
        )
        judged = _finding(each["minus_encoding"][BOTH], 0.0, each["runs"], says)
        why = f"the encoding itself tells {each['r2'][ENCODING]:.2f} of it, though L_UP has label_T to learn"
        found[f"real_own_{len(found)}"] = judged | {"why": why}
    return found


def _finding(found: dict, above: float, runs: list[str], says: str) -> dict:
    low, high, holds = found["low"], found["high"], None
    if low is not None:
        holds = True if low > above else False if high < above else None
    says = f"{says}: {span(found)}"
    value = {"value": found["mean"], "low": low, "high": high, "goal": above}
    return value | {"holds": holds, "runs": runs, "says": says}


COLUMNS = (
    "corpus",
    "modalities",
    "system",
    "test Corr",
    "minus FINE",
    "dev Corr",
    "epochs kept",
    "agreement + outside",
)
COLUMNS += ("seconds", "parameters")


def as_text(content: dict) -> str:
    """What was measured of Corr, what was to be reached and is, and what was measured of label_T, in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for each in content["compared"]:
        for name, system in each["systems"].items():
            difference = span(each["minus_fine"][name]) if name in each["minus_fine"] else ""
            structure = "" if system["structure"] is None else f"{system['structure']:.2f}"
            cells = [each["corpus"], each["modalities"], name, _span(system["test"]), difference]
            cells += [_span(system["valid"]), ", ".join(map(str, system["epochs"])), structure]
            lines.append(f"| {' | '.join(cells)} | {system['seconds']:.0f} | {system['parameters']:,} |")
    lines += ["", AFTERWARDS, "", *goals_table(content["findings"])]
    if content["own_label"]:
        about = "R2 on test of label_T minus the label, each with what is more than the encoding's"
        lines += [f"{about}. {NO_EVIDENCE}", ""]
        lines += [f"| corpus | modalities | features of | {ENCODING} | {' | '.join(READERS)} |", "|---" * 7 + "|"]
        for each in content["own_label"]:
            cells = [each["corpus"], each["modalities"], each["system"], f"{each['r2'][ENCODING]:.3f}"]
            cells += [f"{each['r2'][r]:.3f}; {span(each['minus_encoding'][r])}" for r in READERS]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def epochs_said(compared: dict) -> str:
    """Dev Corr at the variant's last epoch, which it keeps, and at the best one of each system; and the difference
    with its epoch chosen on dev."""
    fine, mine = (compared["systems"][name] for name in (FINE, VARIANT))
    said = f"{mine['valid']['mean']:.3f} at the last epoch, which is kept, and {mine['best_dev']:.3f} at its best one"
    chosen = f"with the epoch chosen on dev, tried afterwards, the difference is {span(compared['minus_fine'][CHOSEN])}"
    return f"dev Corr of {VARIANT} is {said}; FINE's best one has {fine['best_dev']:.3f}; {chosen}"


def _span(found: dict) -> str:
    """A mean with its interval, where there is one."""
    spread = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['mean']:.3f}{spread}"
