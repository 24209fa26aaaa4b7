"""The estimators at settings that no notebook uses, against closed forms; the toys' known answers by other ways."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from finelib.mutual_information import info_nce, nce_club
from finelib.runs.options import Options
from finelib.study import estimators
from finelib.study.estimators import correlation_of, gaussian, gaussian_scores, jeffreys

ELSEWHERE = [(3, 0.8, 24), (12, 1.3, 48), (30, 3.0, 96)]  # d, I, N: none of them in estimation.SETTINGS


@pytest.mark.parametrize(("d", "mi", "n"), ELSEWHERE)
def test_nce_club_with_the_optimal_critic_is_the_jeffreys_divergence(d, mi, n):
    """Within Monte-Carlo error, which is small enough to see the diagonal counted among the negatives."""
    lines = {line["estimator"]: line for line in estimators.with_optimal_critic(d, (mi,), n, 1500, seed=5)}
    club = lines["NCE-CLUB"]
    assert club["expected"] == pytest.approx(jeffreys(mi, d)) and club["expected"] > mi
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
    table = estimators.discrete_table(2, 3, 1.5, seed=4)
    ratio = np.log(table / np.outer(table.sum(1), table.sum(0)))
    cells = [(a, b) for a in range(2) for b in range(3)]
    expected = sum(
        table[p] * table[q] * (ratio[p] - math.log((math.exp(ratio[p]) + math.exp(ratio[p[0], q[1]])) / 2))
        for p in cells
        for q in cells
    )
    values = info_nce(estimators.discrete(table, 2, 40000, seed=1))
    se = values.std().item() / 200
    assert abs(values.mean().item() - expected) < 4 * se
    swapped = info_nce(estimators.discrete(table, 2, 40000, seed=1).transpose(1, 2))
    assert swapped.mean().item() != pytest.approx(values.mean().item(), abs=1e-4)


@pytest.mark.parametrize("mi", [0.3])
def test_gaussian_answers_by_integration(mi):
    rho = correlation_of(torch.tensor([mi], dtype=torch.float64), 1).item()
    joint = stats.multivariate_normal(cov=[[1, rho], [rho, 1]])

    def ratio(x, y):
        return joint.logpdf([x, y]) + (x**2 + y**2) / 2 + math.log(2 * math.pi)

    options = {"epsabs": 1e-4, "epsrel": 1e-4}
    known = integrate.dblquad(lambda y, x: joint.pdf([x, y]) * ratio(x, y), -6, 6, -6, 6, **options)[0]
    reverse = integrate.dblquad(
        lambda y, x: -stats.norm.pdf(x) * stats.norm.pdf(y) * ratio(x, y), -6, 6, -6, 6, **options
    )[0]
    assert known == pytest.approx(mi, abs=2e-3) and known + reverse == pytest.approx(jeffreys(mi, 1), rel=5e-3)
    pair = torch.tensor([[[0.4], [-1.1]]], dtype=torch.float64), torch.tensor([[[0.9], [0.2]]], dtype=torch.float64)
    scores = gaussian_scores(*pair, torch.tensor([rho], dtype=torch.float64))[0]
    assert scores[0, 1].item() == pytest.approx(ratio(0.4, 0.2))
    assert scores[1, 0].item() == pytest.approx(ratio(-1.1, 0.9))


def test_discrete_answers():
    table = np.array([[0.4, 0.1], [0.1, 0.4]])
    mi, both = estimators.discrete_information(table)
    assert mi == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4))
    assert both == pytest.approx(mi - 0.5 * math.log(1.6) - 0.5 * math.log(0.4))
    scores = estimators.discrete(table, 64, 500, 0)
    assert nce_club(scores).mean().item() == pytest.approx(both, abs=0.02)


def test_conditional_pairs_depend_as_they_should():
    generator = torch.Generator().manual_seed(0)
    x, y, same = estimators.conditional(torch.tensor([0.0, 0.8]), 20000, generator)
    label = x[0, :, 1:].argmax(1)
    assert same.diagonal().all() and torch.equal(same[0], label == label[0])
    for p, rho in enumerate((0.0, 0.8)):
        within = [torch.corrcoef(torch.stack([x[p, label == k, 0], y[p, label == k, 0]]))[0, 1] for k in range(4)]
        assert torch.stack(within).sub(rho).abs().max() < 0.05
        assert torch.corrcoef(torch.stack([x[p, :, 0], y[p, :, 0]]))[0, 1] > 0.85


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
    found = estimators.findings(lines)[name]
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
    monkeypatch.setattr(estimators, "_all_lines", lambda s: pytest.fail("computed again"))
    assert len(estimators.measure_estimators(options)[0]) == len(lines)
    monkeypatch.setitem(estimators.SETTINGS, "smoke", replace(small, batches=4))
    with pytest.raises(pytest.fail.Exception):
        estimators.measure_estimators(options)


def test_pairs_have_the_information_asked_for():
    x, y = gaussian(correlation_of(torch.tensor([2.0]), 5), 5, 20000, torch.Generator().manual_seed(1))
    rho = torch.stack([torch.corrcoef(torch.stack([x[0, :, k], y[0, :, k]]))[0, 1] for k in range(5)])
    assert (-0.5 * torch.log(1 - rho**2)).sum().item() == pytest.approx(2, abs=0.05)
