"""MuLOT's transport against linear programming, and by properties that any plan has."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from systems import batch_of, demo, fill

from finelib.baselines import mulot
from finelib.layers import masked_mean


def masks(*lengths, steps):
    return torch.arange(steps) < torch.tensor(lengths)[:, None]


def test_plan_has_the_masses_of_real_frames_and_none_on_padding():
    rows, columns = masks(6, 2, 0, 4, steps=6), masks(7, 5, 3, 0, steps=7)
    found = mulot.plan(torch.rand(4, 6, 7) * 2, rows, columns, 0.1, 300)
    filled = found[:2]  # the other two have a side without frames
    torch.testing.assert_close(filled.sum(2), rows[:2] / rows[:2].sum(1, keepdim=True), atol=1e-5, rtol=0)
    torch.testing.assert_close(filled.sum(1), columns[:2] / columns[:2].sum(1, keepdim=True), atol=1e-5, rtol=0)
    assert not found[2:].any() and not found[1, 2:].any() and not found[1, :, 5:].any()


def test_cost_is_that_of_linear_programming():
    cost = torch.rand(1, 6, 7, dtype=torch.float64)
    rows, columns = masks(6, steps=6), masks(7, steps=7)
    found = (mulot.plan(cost, rows, columns, 0.005, 2000) * cost).sum().item()
    sums = np.concatenate([np.kron(np.eye(6), np.ones(7)), np.kron(np.ones(6), np.eye(7))])
    best = linprog(cost[0].flatten().numpy(), A_eq=sums, b_eq=np.repeat([1 / 6, 1 / 7], [6, 7])).fun
    independent = cost.mean().item()
    assert best - 1e-6 <= found <= best + 0.03 * (independent - best)


def test_plan_follows_its_frames():
    x, y, all_real = torch.randn(1, 5, 8), torch.randn(1, 6, 8), (masks(5, steps=5), masks(6, steps=6))
    order = torch.randperm(5)
    found = mulot.plan(mulot.distance(x, y), *all_real, 0.1, 30)
    torch.testing.assert_close(mulot.plan(mulot.distance(x[:, order], y), *all_real, 0.1, 30), found[:, order])
    same = mulot.plan(mulot.distance(x, x[:, order]), all_real[0], all_real[0], 0.05, 200)
    torch.testing.assert_close(same[0], torch.eye(5)[order].T / 5, atol=1e-3, rtol=0)


def test_padding_changes_nothing_about_a_plan():
    cost, rows, columns = torch.rand(1, 4, 5), masks(4, steps=4), masks(5, steps=5)
    alone = mulot.plan(cost, rows, columns, 0.1, 1)
    wide = torch.rand(1, 6, 9)
    wide[:, :4, :5] = cost
    found = mulot.plan(wide, masks(4, steps=6), masks(5, steps=9), 0.1, 1)
    torch.testing.assert_close(found[:, :4, :5], alone)


def test_frames_get_means_of_the_others_frames(corpus):
    """By loops over frames; and their mean over a modality is the other's mean, whatever the plan."""
    model = demo("MuLOT", corpus, iterations=60)
    states = {m: torch.randn(2, n, 32) for m, n in (("T", 4), ("A", 6), ("V", 5))}
    mask = {"T": masks(4, 2, steps=4), "A": masks(6, 3, steps=6), "V": masks(5, 5, steps=5)}
    received, cost = model.transported(states, mask)
    assert cost.shape == (3, 2) and all(len(got) == 2 for got in received.values())
    sent = mulot.plan(mulot.distance(states["T"], states["A"]), mask["T"], mask["A"], 0.1, 60)
    for b, length in enumerate((4, 2)):
        for i in range(length):
            weighted = sum(sent[b, i, j] * states["A"][b, j] for j in range(int(mask["A"][b].sum())))
            torch.testing.assert_close(received["T"][0][b, i], length * weighted, rtol=1e-4, atol=1e-5)
    other = masked_mean(states["T"], mask["T"])
    torch.testing.assert_close(masked_mean(received["A"][0], mask["A"]), other, rtol=1e-3, atol=1e-3)


def test_which_frames_meet_matters(corpus):
    """With so much entropy that every frame gets the other's mean, the prediction is another.

    So many iterations that the plans have their masses: a mean right after the transport would be the same for both.
    """
    found = []
    for epsilon in (0.1, 1e4):
        torch.manual_seed(1)
        found.append(demo("MuLOT", corpus, epsilon=epsilon, iterations=100).eval()(batch_of(corpus)).prediction)
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_attention_weighs_the_modalities(corpus):
    model, batch = fill(demo("MuLOT", corpus)), batch_of(corpus)
    vectors, read = [], []
    model.score.register_forward_pre_hook(lambda _, given: vectors.append(given[0]))
    model.head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    model(batch)
    score = [torch.tanh(model.score[0](vectors[0][:, m])) @ model.score[3].weight[0] for m in range(3)]
    weight = torch.stack(score, 1).exp()
    expected = sum(weight[:, m, None] * vectors[0][:, m] for m in range(3)) / weight.sum(1, keepdim=True)
    torch.testing.assert_close(read[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("through", [True, False])
def test_gradient_passes_the_iterations_or_not(corpus, through):
    """Of the cost alone: with the plan as given it is that of P times the distances."""
    model = demo("MuLOT", corpus, through=through)
    states = {m: torch.randn(1, 4, 8, requires_grad=True) for m in "TA"}
    real = masks(4, steps=4)
    received, _ = model.transported(states, dict.fromkeys("TA", real))
    received["T"][0][0, 0, 0].backward()
    assert bool(states["T"].grad is not None and states["T"].grad.any()) == through


def test_the_transport_cost_can_be_a_loss(corpus):
    model, batch = demo("MuLOT", corpus, transport=0.5), batch_of(corpus)
    output = model(batch)
    terms = model.losses(output, batch)
    torch.testing.assert_close(terms["total"], terms["L_MP"] + 0.5 * output.cost.mean())
    assert (output.cost > 0).all() and (output.cost < 2).all()


def test_an_epsilon_too_small_for_single_precision_is_refused(corpus):
    with pytest.raises(ValueError, match=r"MuLOT: found epsilon = 0.01, expected at least 0.03"):
        demo("MuLOT", corpus, epsilon=0.01)
