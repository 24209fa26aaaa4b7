"""Rows compared by their run records: the differences that a table shows next to the scores."""

from dataclasses import asdict, replace

import numpy as np

from finelib.baselines import references
from finelib.data.features import Corpus
from finelib.paper import significance
from finelib.runs.records import RunRecord

# of each kind of metric (``CorpusInfo.metrics``)
COMMON = ("corr", "acc2", "mae")
METRICS = {"mosi": ("corr", "acc2_nonzero", "acc7", "mae"), "sims": COMMON, "humor": COMMON}


def compare(
    runs: dict[str, list[RunRecord]], whole: str, kind: str = "mosi", references: dict[str, np.ndarray] | None = None
) -> dict[str, dict[str, dict]]:
    """row -> metric -> difference to the row ``whole``, by ``significance.differences``; the other rows are one family.

    All rows have the same seeds and test split; ``kind`` says how the corpus's metrics read predictions. References,
    name -> test predictions (N,), have no seeds: the same prediction meets every seed of ``whole``. They are a family
    of their own.
    """
    predicted = {name: [run.predictions() for run in group] for name, group in runs.items()}
    tests = {name: [arrays["test"] for arrays in group] for name, group in predicted.items()}
    other, label = tests.pop(whole), predicted[whole][0]["test_label"]
    fixed = {name: [prediction] * len(other) for name, prediction in (references or {}).items()}
    return of_predictions([tests, fixed], other, label, kind)


def of_predictions(
    families: list[dict[str, list[np.ndarray]]], other: list[np.ndarray], label: np.ndarray, kind: str
) -> dict[str, dict[str, dict]]:
    """``compare`` of predictions themselves.

    Args:
        families: each row name -> test predictions (N,), as many as ``other`` has; p values are corrected within one.
        label: (N,).
    """
    label, other = as_scored(label, kind), [as_scored(prediction, kind) for prediction in other]
    scored = [{name: [as_scored(x, kind) for x in group] for name, group in family.items()} for family in families]
    out: dict[str, dict[str, dict]] = {name: {} for family in scored for name in family}
    for metric in METRICS[kind]:
        for family in scored:
            for name, found in significance.differences(metric, family, other, label).items():
                out[name][metric] = asdict(found)
    return out


def as_scored(x: np.ndarray, kind: str) -> np.ndarray:
    """Predictions or labels as the metrics of ``kind`` take them, with the two classes parted at 0."""
    if kind == "sims":
        return x.clip(-1, 1)
    return x - 0.5 if kind == "humor" else x


def columns(found: dict[str, dict] | None) -> dict[str, str]:
    """Column -> text for a row of ``compare``; none for the row that the others are compared with."""
    if found is None:
        return {}
    corr, accuracy = found["corr"], accuracy_of(found)
    spread = "" if corr["low"] is None else f" [{corr['low']:+.3f}, {corr['high']:+.3f}]"
    return {
        "Δ Corr": f"{corr['mean']:+.3f}{spread}",
        "p (Holm)": p_text(corr["p_holm"]),
        "Δ ACC-2 (samples)": f"{100 * accuracy['mean']:+.2f} ({accuracy['mean'] * accuracy['utterances']:+.0f})",
    }


def accuracy_of(found: dict[str, dict]) -> dict:
    """The difference in ACC-2, of the kind that the corpus has."""
    return found.get("acc2_nonzero") or found["acc2"]


def p_text(p: float | None) -> str:
    """A p value as tables show it."""
    if p is None:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def references_of(corpus: Corpus) -> dict[str, np.ndarray]:
    """``references.references``, without TF-IDF where no word stands in two training texts."""
    try:
        return references.references(corpus)
    except ValueError:  # of the vectors without a term; any other comes again
        train = replace(corpus.splits["train"], text=[""] * len(corpus.splits["train"]))
        return references.references(replace(corpus, splits=corpus.splits | {"train": train}))
