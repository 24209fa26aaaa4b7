"""Rows compared by their run records: what Tables 1, 5 and 6 say about a row beside its scores."""

from __future__ import annotations

from dataclasses import asdict

from finelib import statistics
from finelib.experiment import RunRecord

METRICS = ("corr", "acc2_nonzero", "acc7", "mae")


def compare(runs: dict[str, list[RunRecord]], whole: str) -> dict[str, dict[str, dict]]:
    """row -> metric -> difference to the row ``whole``, by ``statistics.differences``; the other rows are one family.

    For corpora with the metrics of CMU-MOSI; all rows have the same seeds and test split.
    """
    predicted = {name: [run.predictions() for run in group] for name, group in runs.items()}
    label = predicted[whole][0]["test_label"]
    tests = {name: [arrays["test"] for arrays in group] for name, group in predicted.items()}
    other = tests.pop(whole)
    out: dict[str, dict[str, dict]] = {name: {} for name in tests}
    for metric in METRICS:
        for name, found in statistics.differences(metric, tests, other, label).items():
            out[name][metric] = asdict(found)
    return out


def columns(found: dict[str, dict] | None) -> dict[str, str]:
    """Column -> text for a row of ``compare``; none for the row that the others are compared with."""
    if found is None:
        return {}
    corr, accuracy = found["corr"], found["acc2_nonzero"]
    spread = "" if corr["low"] is None else f" [{corr['low']:+.3f}, {corr['high']:+.3f}]"
    return {
        "Δ Corr": f"{corr['mean']:+.3f}{spread}", "p (Holm)": p_text(corr["p_holm"]),
        "Δ ACC-2 (samples)": f"{100 * accuracy['mean']:+.2f} ({accuracy['mean'] * accuracy['utterances']:+.0f})",
    }  # fmt: skip


def p_text(p: float | None) -> str:
    """A p value as tables show it."""
    if p is None:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0")
