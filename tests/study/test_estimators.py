"""The estimators at settings that no notebook uses, against closed forms; the toys' known answers by other ways."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from finelib.mutual_information import info_nce
from finelib.runs.options import Options
from finelib.study import estimators, known_answers
from finelib.study.known_answers import gaussian_jeffreys

ELSEWHERE = [(3, 0.8, 24), (12, 1.3, 48), (30, 3.0, 96)]  # d, I, N: none of them in estimators.SETTINGS


@pytest.mark.parametrize(("d", "mi", "n"), ELSEWHERE)
def test_nce_club_with_the_optimal_critic_is_the_jeffreys_divergence(d, mi, n):
    """Within Monte-Carlo error, which is small enough to see the diagonal counted among the negatives."""
    lines = {line["estimator"]: line for line in estimators.with_optimal_critic(d, (mi,), n, 1500, seed=5)}
    club = lines["NCE-CLUB"]
    assert club["expected"] == pytest.approx(gaussian_jeffreys(mi, d)) and club["expected"] > mi
    assert abs(club["mean"] - club["expected"]) < 4 * club["se"] < 0.6 * club["expected"] / n * 4
    assert club["expected"] / n > 4 * club["se"], "too few batches to tell (N - 1) / N from 1"


@pytest.mark.parametrize(("d", "mi", "n"), ELSEWHERE)
def test_info_nce_with_the_optimal_critic(d, mi, n):
    """Against the mean over pairs written as loops in numpy, on batches of its own."""
    rho, rng = math.sqrt(1 - math.exp(-2 * mi / d)), np.random.default_rng(8)
    joint = stats.norm(0, math.sqrt(1 - rho**2))
    values = []
    for _ in range(150):
        x = rng.standard_normal((n, d))
        y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))
        ratio = (joint.logpdf(y[None] - rho * x[:, None]) - stats.norm.logpdf(y)[None]).sum(-1)
        values.append(np.mean([ratio[i, i] - math.log(np.mean(np.exp(ratio[i]))) for i in range(n)]))
    lines = {line["estimator"]: line for line in estimators.with_optimal_critic(d, (mi,), n, 400, seed=6)}
    ours, theirs = lines["InfoNCE"], np.std(values) / math.sqrt(len(values))
    assert abs(ours["mean"] - np.mean(values)) < 4 * math.hypot(ours["se"], theirs) < 0.2
    assert ours["mean"] < min(mi, math.log(n))


def test_the_sum_runs_over_y_for_each_x():
    """Scores that depend on x alone say nothing of y: InfoNCE is 0; of y alone they shift each term. So the two
    arguments cannot be swapped unnoticed."""
    by_x = torch.randn(7, 1).expand(7, 7)
    assert info_nce(by_x).item() == pytest.approx(0, abs=1e-6)
    by_y = by_x.T
    expected = by_y[0].mean() - by_y[0].logsumexp(0) + math.log(7)
    assert info_nce(by_y).item() == pytest.approx(expected.item(), abs=1e-6) and expected < -0.01


def test_discrete_pairs_by_their_batches():
    """A joint distribution without symmetry: InfoNCE of batches of two, by enumeration of all batches."""
    table = known_answers.discrete_table(2, 3, 1.5, seed=4)
    ratio = np.log(table / np.outer(table.sum(1), table.sum(0)))
    cells = [(a, b) for a in range(2) for b in range(3)]
    expected = sum(
        table[p] * table[q] * (ratio[p] - math.log((math.exp(ratio[p]) + math.exp(ratio[p[0], q[1]])) / 2))
        for p in cells
        for q in cells
    )
    values = info_nce(known_answers.discrete_scores(table, 2, 40000, seed=1))
    se = values.std().item() / 200
    assert abs(values.mean().item() - expected) < 4 * se
    swapped = info_nce(known_answers.discrete_scores(table, 2, 40000, seed=1).transpose(1, 2))
    assert swapped.mean().item() != pytest.approx(values.mean().item(), abs=1e-4)


def test_labels_beside_both_sides():
    """In-batch negatives: InfoNCE nears I(X1;X2|Y) + H(Y) and NCE-CLUB passes both; same label: neither is biased."""
    s = replace(estimators.SETTINGS["smoke"], steps=150, rho_e=(0.0,))
    batch, same = (pd.DataFrame(estimators.with_labels(b, s)).query("steps == 150") for b in (False, True))
    batch, same = (lines.set_index("estimator")["mean"] for lines in (batch, same))
    assert batch["InfoNCE"] == pytest.approx(math.log(estimators.BINS), abs=0.15) and batch["NCE-CLUB"] > 3
    assert abs(same["InfoNCE"]) < 0.05 and abs(same["NCE-CLUB"]) < 0.05


def test_referee_agrees_with_the_truth():
    for line in estimators.referee(replace(estimators.SETTINGS["demo"], samples=1500), repeats=2):
        assert line["mean"] == pytest.approx(line["truth"], abs=0.15)


def line(**more):
    return {
        "toy": "Gaussian",
        "critic": "optimal",
        "estimator": "InfoNCE",
        "truth": 1.0,
        "mean": 0.9,
        "se": 0.01,
        "N": 64,
        "steps": None,
        "rho_e": None,
        "negatives": None,
    } | more


LABELLED = [
    line(toy="conditional", critic="dot", estimator=e, negatives=n, rho_e=0.0, truth=0.0, mean=m, steps=100)
    for e, n, m in (
        ("InfoNCE", "batch", 1.4),
        ("InfoNCE", "same label", 0.0),
        ("NCE-CLUB", "batch", 9.0),
        ("NCE-CLUB", "same label", 0.0),
    )
]
CLUB = [line(estimator="NCE-CLUB", mean=2.0), line(estimator="NCE-CLUB", critic="dot", mean=1.5, steps=100)]


@pytest.mark.parametrize(
    ("change", "name", "holds"),
    [
        ({}, "infonce_lower_bound", True),
        ({"mean": 1.1}, "infonce_lower_bound", False),
        ({"mean": 1.03}, "infonce_lower_bound", True),
        ({"mean": 4.3, "truth": 9.0}, "infonce_below_log_n", False),
        ({}, "infonce_below_log_n", True),
        ({}, "club_optimal_is_bound", True),
        ({"estimator": "NCE-CLUB", "mean": 0.5}, "club_optimal_is_bound", False),
        ({}, "club_trained_is_bound", True),
        ({"estimator": "NCE-CLUB", "critic": "dot", "mean": 0.5, "steps": 100}, "club_trained_is_bound", False),
        ({"estimator": "NCE-CLUB", "critic": "dot", "mean": 0.5, "steps": 50}, "club_trained_is_bound", True),
        ({"estimator": "NCE-CLUB", "critic": "dot", "mean": 0.5, "steps": 50}, "club_learning_is_bound", False),
        ({}, "conditional_club_in_batch_unbiased", False),
        ({}, "conditional_infonce_same_bin_unbiased", True),
    ],
)
def test_findings_on_constructed_lines(change, name, holds):
    lines = pd.DataFrame([line(), *CLUB, *LABELLED, line(**change)]).astype({"steps": float, "rho_e": float})
    found = estimators.judge_estimators(lines)[name]
    assert found["holds"] is holds and found["low"] <= found["value"] <= found["high"] and "nats" in found["says"]


def test_results_are_kept_until_settings_change(tmp_path, monkeypatch):
    small = replace(
        estimators.SETTINGS["smoke"], dimensions=(5,), batches=3, steps=8, truths=(0.0, 2.0), samples=100, sizes=(16,)
    )
    monkeypatch.setitem(estimators.SETTINGS, "smoke", small)
    options = Options("smoke", out=tmp_path)
    lines, found = estimators.measure_estimators(options)
    path = options.figures / "estimators.json"
    assert json.loads(path.read_text())["data"] == "planted" and len(lines) and "infonce_lower_bound" in found
    monkeypatch.setattr(estimators, "_content", lambda s: pytest.fail("computed again"))
    assert len(estimators.measure_estimators(options)[0]) == len(lines)
    monkeypatch.setitem(estimators.SETTINGS, "smoke", replace(small, batches=4))
    with pytest.raises(pytest.fail.Exception):
        estimators.measure_estimators(options)
