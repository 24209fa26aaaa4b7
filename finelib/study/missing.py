"""What is left of a score when frames, or whole modalities, are missing at test: two protocols, trained models.

Frames: every frame of every modality is lost with the same probability, .0, .1, ... .9, whatever becomes of the others.
These are the rates of LNLN (Zhang, Wang, Yu 2024, arXiv:2409.20012), which puts zeros, or in text an unknown word, in a
lost frame's place. Here a lost frame is taken out: the sequence is shorter, so no system is shown a number that was
never measured. Modalities: all frames of all modalities but a subset's are lost, for every subset.

The draw depends on its own seed alone, so it is the same for all systems, seeds and rates: what is lost at one rate is
lost at every higher one. Intervals are over seeds and test utterances, as in the tables.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from tqdm.auto import tqdm

from finelib.baselines import references
from finelib.config import RunSpec
from finelib.data.features import Corpus
from finelib.metrics import correlation
from finelib.paper import comparisons, significance, tables
from finelib.runs import experiment
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, digest
from finelib.study.losses import (
    RATES,
    WHOLE,
    as_lists,
    conditions,
    frames_name,
    memory,
    predict_with_losses,
    subset_name,
    subsets,
)

NAME, FINE = "missing", "FINE"
Run = tuple[RunRecord, RunSpec]


def predictions_of(record: RunRecord, spec: RunSpec, options: Options, remembered: bool = False) -> dict:
    """``predict_with_losses`` of a run on its test split as "test"; if wanted, ``memory`` as "train".

    Kept beside the run records while the run and the code stay the same.
    """
    told = {"run": record.files, "code": code_hash("finelib.study.losses", "finelib.models"), "train": remembered}
    path = options.out / "runs" / "kept" / NAME / f"{record.id}.json"
    return kept(path, digest(told), partial(_of_record, record, spec, remembered))


def _of_record(record: RunRecord, spec: RunSpec, remembered: bool) -> dict:
    model, corpus = experiment.load_model(record, spec), experiment.load_corpus(spec.data)
    predicted = predict_with_losses(model, corpus.splits["test"], corpus.modalities, spec.train.threads)
    found = {"test": as_lists(predicted)}
    return found | ({"train": memory(model, corpus, spec.train.threads)} if remembered else {})


# ----------------------------------------------------------------------------------------------------- scores


def summarise(predicted: dict[str, list[dict]], corpus: Corpus) -> dict:
    """Scores of systems in every condition, from their test predictions.

    Args:
        predicted: system -> for each seed, condition -> predictions (N,), or None.

    Returns:
        "scores": metric -> system -> condition -> mean, low, high; "average": metric -> system -> the same of the
        mean over all rates, with "minus_fine"; "without": modality -> system -> Corr without it minus Corr with all;
        "refused": system -> conditions that it cannot do. p is Holm's over the systems.
    """
    found: dict = {"scores": {}, "average": {}}
    for metric in metrics_of(corpus):
        parts = contributions(metric, predicted, corpus)
        by_condition = {name: over_seeds_and_utterances(rows) for name, rows in parts.items()}
        found["scores"][metric] = {
            s: {name: _interval(rows[s]) for name, rows in by_condition.items() if s in rows} for s in predicted
        }
        found["average"][metric] = _averages(parts)
        if metric == "corr":
            found["without"] = _without(parts, corpus.modalities)
            found["refused"] = {s: those for s in predicted if (those := [n for n, x in parts.items() if s not in x])}
    return found


def metrics_of(corpus: Corpus) -> tuple[str, str]:
    """Corr, and ACC-2 of the kind that the corpus has."""
    return "corr", "acc2_nonzero" if corpus.info.metrics == "mosi" else "acc2"


def contributions(metric: str, predicted: dict[str, list[dict]], corpus: Corpus) -> dict[str, dict[str, np.ndarray]]:
    """Condition -> system -> (S, N), what each test utterance adds to the metric of each seed; without the systems that
    cannot do the condition.

    Args:
        predicted: system -> for each seed, condition -> predictions (N,), or None.
    """
    kind, label = corpus.info.metrics, comparisons.as_scored(corpus.splits["test"].label, corpus.info.metrics)

    def of(x: list[float]) -> np.ndarray:
        scored = comparisons.as_scored(np.asarray(x, dtype=np.float32), kind)
        return significance.contributions(metric, scored, label)

    names = conditions(corpus.modalities)
    able = {name: {s: seeds for s, seeds in predicted.items() if seeds[0][name] is not None} for name in names}
    return {n: {s: np.stack([of(seed[n]) for seed in seeds]) for s, seeds in able[n].items()} for n in names}


def _interval(found: dict) -> dict:
    return {name: found[name] if found[name] is None else round(found[name], 6) for name in ("mean", "low", "high")}


def over_seeds_and_utterances(rows: dict[str, np.ndarray], other: np.ndarray | None = None) -> dict[str, dict]:
    """Each system's mean, 95 % interval and p (Holm), of contributions (S, N), or of these minus ``other``'s (S, N).

    One seed has no interval. Without ``other`` seeds are crossed with utterances, both at random; with it, its seeds
    are others' than the rows' (``significance.family_intervals``).
    """
    if not rows:
        return {}
    values = np.stack(list(rows.values()))
    base = np.zeros(values.shape[1:]) if other is None else other
    if values.shape[1] < 2:
        none = dict.fromkeys(("low", "high", "p_holm"))
        return {s: {"mean": float(x.mean() - base.mean()), **none} for s, x in rows.items()}
    found = significance.family_intervals(values, base)
    p = significance.holm(found.p)
    numbers = {"mean": found.mean, "low": found.low, "high": found.high, "p_holm": p}
    return {s: {name: float(x[i]) for name, x in numbers.items()} for i, s in enumerate(rows)}


def _averages(parts: dict[str, dict[str, np.ndarray]]) -> dict[str, dict]:
    """The mean over all rates, LNLN's summary, of each system, and minus FINE's."""
    curves = {s: np.mean([parts[frames_name(rate)][s] for rate in RATES], 0) for s in parts[WHOLE]}
    found = over_seeds_and_utterances(curves)
    if FINE in curves:
        others = {s: x for s, x in curves.items() if s != FINE}
        for s, difference in over_seeds_and_utterances(others, curves[FINE]).items():
            found[s]["minus_fine"] = difference
    return found


def _without(parts: dict[str, dict[str, np.ndarray]], modalities: tuple[str, ...]) -> dict[str, dict]:
    found = {}
    for m in modalities if len(modalities) > 1 else ():
        rest, whole = parts[subset_name(tuple(n for n in modalities if n != m))], parts[WHOLE]
        found[m] = over_seeds_and_utterances({s: rest[s] - whole[s] for s in rest})
    return found


# ------------------------------------------------------------------------------------------------------ study


def measure_missing(options: Options) -> dict:
    """Losses at test only, for the runs of Table 1 from the options' source; what has no record is trained first.

    Kept in figures/missing.json while the runs and the code stay the same.
    """
    runs = runs_of(tables.own_specs(1, options), options)
    ids = [record.id for group in runs.values() for record, _ in group]
    key = digest({"runs": ids, "code": code_hash("finelib.study.missing")})
    return kept(options.figures / f"{NAME}.json", key, partial(at_test, runs, options))


def runs_of(specs: list[RunSpec], options: Options) -> dict[str, list[Run]]:
    """System -> its runs, one for each seed."""
    records = experiment.run_groups(tables.by_name(specs), options.out, options.jobs)
    return {s: list(zip(records[s], group, strict=True)) for s, group in tables.by_name(specs).items()}


def at_test(runs: dict[str, list[Run]], options: Options) -> dict:
    """What is measured of runs on one corpus: ``summarise``, what they remember of training data, a linear model."""
    corpus = experiment.load_corpus(next(iter(runs.values()))[0][1].data)
    found = ask(runs, options)
    remembered = {s: group[0]["train"] for s, group in found.items()}
    told = about(corpus, len(next(iter(runs.values())))) | summarise(tests(found), corpus)
    return told | {"remembered": remembered, "linear": linear(corpus)}


def ask(runs: dict[str, list[Run]], options: Options) -> dict[str, list[dict]]:
    """System -> ``predictions_of`` each run; the first one's with ``memory``."""
    found: dict[str, list[dict]] = {s: [] for s in runs}
    with tqdm(total=sum(map(len, runs.values())), desc="losses at test", unit="run") as bar:
        for s, group in runs.items():
            for record, spec in group:
                found[s].append(predictions_of(record, spec, options, remembered=not found[s]))
                bar.update()
    return found


def tests(found: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Of ``ask`` the test predictions."""
    return {s: [each["test"] for each in group] for s, group in found.items()}


def about(corpus: Corpus, seeds: int) -> dict:
    """What was measured on what."""
    sizes = {name: len(split) for name, split in corpus.splits.items()}
    told = {"data": corpus.kind, "corpus": corpus.info.title, "called": corpus.called, "sizes": sizes}
    told |= {"modalities": list(corpus.modalities), "seeds": seeds, "draws": 1, "metrics": metrics_of(corpus)}
    return told | {"rates": RATES, "subsets": [subset_name(left) for left in subsets(corpus.modalities)]}


def linear(corpus: Corpus) -> dict[str, float]:
    """Test Corr of a ridge regression on mean features, trained with all modalities (``WHOLE``) and without each."""
    modalities, label = corpus.modalities, corpus.splits["test"].label
    if len(modalities) < 2 or set(references.pooled_modalities(corpus)) != set(modalities):
        return {}
    rest = {m: tuple(n for n in modalities if n != m) for m in modalities}
    return {n: correlation(references.ridge(corpus, left), label) for n, left in ({WHOLE: modalities} | rest).items()}
