"""The pairs with known information: their answers by integration, by hand and from samples."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from finelib.mutual_information import nce_club
from finelib.study import known_answers
from finelib.study.known_answers import correlation_of, gaussian_jeffreys, gaussian_pairs, gaussian_scores


def test_gaussian_answers_by_integration(mi=0.3):
    rho = correlation_of(torch.tensor([mi], dtype=torch.float64), 1).item()
    joint = stats.multivariate_normal(cov=[[1, rho], [rho, 1]])

    def ratio(x, y):
        return joint.logpdf([x, y]) + (x**2 + y**2) / 2 + math.log(2 * math.pi)

    options = {"epsabs": 1e-4, "epsrel": 1e-4}
    known = integrate.dblquad(lambda y, x: joint.pdf([x, y]) * ratio(x, y), -6, 6, -6, 6, **options)[0]
    reverse = integrate.dblquad(
        lambda y, x: -stats.norm.pdf(x) * stats.norm.pdf(y) * ratio(x, y), -6, 6, -6, 6, **options
    )[0]
    assert known == pytest.approx(mi, abs=2e-3) and known + reverse == pytest.approx(gaussian_jeffreys(mi, 1), rel=5e-3)
    pair = torch.tensor([[[0.4], [-1.1]]], dtype=torch.float64), torch.tensor([[[0.9], [0.2]]], dtype=torch.float64)
    scores = gaussian_scores(*pair, torch.tensor([rho], dtype=torch.float64))[0]
    assert scores[0, 1].item() == pytest.approx(ratio(0.4, 0.2))
    assert scores[1, 0].item() == pytest.approx(ratio(-1.1, 0.9))


def test_discrete_answers():
    table = np.array([[0.4, 0.1], [0.1, 0.4]])
    mi, both = known_answers.discrete_information(table)
    assert mi == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4))
    assert both == pytest.approx(mi - 0.5 * math.log(1.6) - 0.5 * math.log(0.4))
    scores = known_answers.discrete_scores(table, 64, 500, 0)
    assert nce_club(scores).mean().item() == pytest.approx(both, abs=0.02)


def test_conditional_pairs_depend_as_they_should():
    generator = torch.Generator().manual_seed(0)
    x, y, same = known_answers.conditional_pairs(torch.tensor([0.0, 0.8]), 20000, generator)
    label = x[0, :, 1:].argmax(1)
    assert same.diagonal().all() and torch.equal(same[0], label == label[0])
    for p, rho in enumerate((0.0, 0.8)):
        within = [torch.corrcoef(torch.stack([x[p, label == k, 0], y[p, label == k, 0]]))[0, 1] for k in range(4)]
        assert torch.stack(within).sub(rho).abs().max() < 0.05
        assert torch.corrcoef(torch.stack([x[p, :, 0], y[p, :, 0]]))[0, 1] > 0.85


def test_pairs_have_the_information_asked_for():
    x, y = gaussian_pairs(correlation_of(torch.tensor([2.0]), 5), 5, 20000, torch.Generator().manual_seed(1))
    rho = torch.stack([torch.corrcoef(torch.stack([x[0, :, k], y[0, :, k]]))[0, 1] for k in range(5)])
    assert (-0.5 * torch.log(1 - rho**2)).sum().item() == pytest.approx(2, abs=0.05)
