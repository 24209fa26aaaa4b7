"""EUAR's experts by loops, its terms against torch.distributions and closed forms."""

import pytest
import torch
from systems import batch_of, demo, fill
from torch.distributions import Normal, kl_divergence

from finelib.baselines import euar

SMALL = euar.Config(width=3, heads=1)


def test_euar_uses_the_most_probable_experts_of_each_utterance():
    experts, x = fill(euar.Experts(SMALL)), torch.randn(5, 3)
    routed = experts(x)
    weight, bias = experts.gaussian.weight.view(2, 4, 3, 3), experts.gaussian.bias.view(2, 4, 3)
    for b in range(5):
        score = torch.exp(experts.route.weight @ x[b] + experts.route.bias).detach()
        p = score / score.sum()
        best = sorted(range(4), key=lambda e: -float(p[e]))[:3]
        expected = torch.zeros(3)
        for e in best:
            expected += p[e] / p[best].sum() * (weight[0, e] @ x[b] + bias[0, e])
        torch.testing.assert_close(routed.output[b], expected)
        torch.testing.assert_close(routed.log_variance[b, 2], weight[1, 2] @ x[b] + bias[1, 2])
        assert set(routed.gate[b].nonzero()[:, 0].tolist()) == set(best)
    torch.testing.assert_close(routed.gate.sum(1), torch.ones(5))


def test_euar_draws_with_half_the_log_variance_in_training():
    experts, x = fill(euar.Experts(SMALL)), torch.randn(1, 3)
    routed = experts.train()(x.expand(100_000, -1))
    gate, sd = routed.gate[0], torch.exp(routed.log_variance[0] / 2)
    expected = ((gate[:, None] * sd) ** 2).sum(0).sqrt()  # experts are independent
    assert (routed.output.std(0) / expected - 1).abs().max() < 0.02
    assert (routed.output.mean(0) - gate @ routed.mean[0]).abs().max() < 0.02
    still = euar.Experts(euar.Config(width=3, heads=1, sample=False)).train()
    torch.testing.assert_close(still(x).output, still(x).output)


def test_euar_divergence_is_that_of_gaussians():
    mean, log_variance = torch.randn(6, 4, 3), torch.randn(6, 4, 3)
    found = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(euar.divergence(mean, log_variance), found)
    assert euar.divergence(torch.zeros(2, 4, 3), torch.zeros(2, 4, 3)) == 0


def test_euar_balance_is_least_where_all_experts_are_used_alike():
    kept = torch.tensor([[True, True, True, False], [True, True, False, True]] * 2)
    kept[2:] = kept[2:].flip(1)
    assert euar.balance(torch.full((4, 4), 0.25), kept) == pytest.approx(3)
    one = torch.zeros(4, 4)
    one[:, 1] = 1
    assert euar.balance(one, one.bool()) == pytest.approx(4)
    even = torch.eye(4)
    assert euar.balance(even, even.bool()) == pytest.approx(1)


def test_euar_router_learns_to_leave_out_an_uncertain_expert():
    experts, x = euar.Experts(euar.Config(width=3, heads=1, top_k=4)), torch.randn(64, 3)
    with torch.no_grad():
        experts.gaussian.weight.zero_()
        experts.gaussian.bias.zero_()
        experts.gaussian.bias[12 + 3 : 12 + 6] = 3.0  # log variance of the second expert
    optimiser = torch.optim.Adam(experts.route.parameters(), lr=0.05)
    before = experts(x).gate.mean(0)
    for _ in range(60):
        optimiser.zero_grad()
        routed = experts(x)
        euar.uncertainty(routed.gate, routed.log_variance).backward()
        optimiser.step()
    after = experts(x).gate.mean(0)
    assert after[1] < 0.1 * before[1] and (after[[0, 2, 3]] > before[[0, 2, 3]]).all()
    loop = sum((routed.gate[b, e] * routed.log_variance[b, e].exp().sum()).item() for b in range(64) for e in range(4))
    assert euar.uncertainty(routed.gate, routed.log_variance).item() == pytest.approx(loop / 64, rel=1e-4)


def test_euar_loss_by_hand(corpus):
    model, batch = demo("EUAR", corpus, weight=0.01).eval(), batch_of(corpus)
    output = model(batch)
    expected = 10 * (output.prediction - batch.label).abs().mean()
    for r in output.routed.values():
        p, kept = r.probability.mean(0), (r.gate > 0).float().mean(0)
        kl = kl_divergence(Normal(r.mean, torch.exp(r.log_variance / 2)), Normal(0.0, 1.0)).sum(-1).mean()
        expected += 0.01 * (4 * (p @ kept) + kl + (r.gate * r.log_variance.exp().sum(-1)).sum(-1).mean())
    torch.testing.assert_close(model.losses(output, batch)["total"], expected)
    assert euar.Config().weight == 1e-5 and euar.Config().error == 10
