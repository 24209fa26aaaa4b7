"""Estimators against closed forms and hand-worked values; critics against plain layers."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from finelib.mutual_information import ConcatCritic, DotCritic, frozen, info_nce, nce_club


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def gaussians(shape, d, mutual_information):
    """Pairs x, y of d independent dimensions, correlated so that their MI is as asked; and the correlation."""
    rho = math.sqrt(1 - math.exp(-2 * mutual_information / d))
    x = torch.randn(*shape, d)
    return x, rho * x + math.sqrt(1 - rho**2) * torch.randn(*shape, d), rho


@pytest.fixture(scope="module")
def exact_scores():
    """log p(x, y) / p(x) p(y) of Gaussians with d = 20 and MI = 2, in 200 batches of 64."""
    torch.manual_seed(1)
    x, y, rho = gaussians((200, 64), 20, 2.0)
    x, y = x[:, :, None], y[:, None]
    log_ratio = Normal(rho * x, math.sqrt(1 - rho**2)).log_prob(y) - Normal(0.0, 1.0).log_prob(y)
    return log_ratio.sum(-1), 20 * rho**2 / (1 - rho**2)


def test_exact_gaussian_critic_gives_the_closed_forms(exact_scores):
    scores, jeffreys = exact_scores
    assert jeffreys == pytest.approx(4.428, abs=1e-3)
    assert info_nce(scores).mean().item() == pytest.approx(1.82, abs=0.03)
    # the standard error of the mean over 200 batches is about 0.03
    assert nce_club(scores).mean().item() == pytest.approx(jeffreys, abs=0.09)
    with_diagonal = nce_club(scores, include_diagonal=True)
    torch.testing.assert_close(with_diagonal, nce_club(scores) * 63 / 64, atol=1e-4, rtol=1e-4)


def test_info_nce_by_hand():
    scores = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    rows = (1 - math.log((math.e + 1) / 2) + 3 - math.log((math.e**2 + math.e**3) / 2)) / 2
    columns = (1 - math.log((math.e + math.e**2) / 2) + 3 - math.log((1 + math.e**3) / 2)) / 2
    assert info_nce(scores).item() == pytest.approx(rows)
    assert info_nce(scores, symmetric=True).item() == pytest.approx((rows + columns) / 2)


def test_nce_club_by_hand():
    scores = torch.tensor([[5.0, 1.0, 3.0], [0.0, 6.0, 2.0], [4.0, 4.0, 7.0]])
    assert nce_club(scores).item() == pytest.approx(6 - (2 + 1 + 4) / 3)
    assert nce_club(scores, include_diagonal=True).item() == pytest.approx(6 - 32 / 9)


@pytest.mark.parametrize("size", [1, 2, 7, 50])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e4])
def test_info_nce_is_at_most_log_n(size, scale):
    scores = torch.randn(20, size, size, dtype=torch.float64) * scale
    for s in (scores, scores + 10 * scale * torch.eye(size)):
        assert info_nce(s).max() <= math.log(size) + 1e-9
        assert info_nce(s, symmetric=True).max() <= math.log(size) + 1e-9


def test_all_candidates_equal_none():
    scores, everyone = torch.randn(3, 6, 6), torch.ones(6, 6, dtype=torch.bool)
    for symmetric in (False, True):
        torch.testing.assert_close(info_nce(scores, everyone, symmetric), info_nce(scores, None, symmetric))
    for diagonal in (False, True):
        torch.testing.assert_close(nce_club(scores, everyone, diagonal), nce_club(scores, None, diagonal))


def test_same_bin_estimates_equal_a_plain_loop():
    bins = [0, 1, 0, 2, 1, 0]  # the one of bin 2 has no partner and is skipped
    scores = torch.randn(6, 6, dtype=torch.float64)
    candidates = torch.tensor(bins)[:, None] == torch.tensor(bins)
    nce, club, club_diagonal = [], [], []
    for i in range(6):
        same = [j for j in range(6) if bins[j] == bins[i]]
        if len(same) == 1:
            continue
        f = [scores[i, j].item() for j in same]
        others = [scores[i, j].item() for j in same if j != i]
        positive = scores[i, i].item()
        nce.append(positive - math.log(sum(map(math.exp, f)) / len(f)))
        club.append(positive - sum(others) / len(others))
        club_diagonal.append(positive - sum(f) / len(f))
    assert len(nce) == 5
    assert info_nce(scores, candidates).item() == pytest.approx(sum(nce) / 5)
    assert nce_club(scores, candidates).item() == pytest.approx(sum(club) / 5)
    assert nce_club(scores, candidates, include_diagonal=True).item() == pytest.approx(sum(club_diagonal) / 5)


def test_no_anchor_with_a_partner_gives_zero():
    scores = torch.randn(4, 4, requires_grad=True)
    alone = torch.eye(4, dtype=torch.bool)
    value = info_nce(scores, alone) + nce_club(scores, alone)
    value.backward()
    assert value.item() == 0 and (scores.grad == 0).all()


def plain_stack(stack, index):
    """One problem of a stacked MLP, from nn.Linear."""
    parts = []
    for part in stack:
        if hasattr(part, "weight"):
            linear = nn.Linear(*part.weight.shape[1:])
            linear.weight.data, linear.bias.data = part.weight[index].T, part.bias[index, 0]
            part = linear
        parts.append(part)
    return nn.Sequential(*parts)


def test_dot_critic_equals_plain_layers():
    critic = DotCritic(2, 3, 4, width=8, layers=2)
    x, y = torch.randn(2, 5, 3), torch.randn(2, 6, 4)
    for p in range(2):
        g, h = plain_stack(critic.g, p)(x[p]), plain_stack(critic.h, p)(y[p])
        torch.testing.assert_close(critic(x, y)[p], g @ h.T / math.sqrt(8))


def test_problems_with_masks_of_their_own_are_as_each_alone():
    """In the first three anchors have a candidate besides their own, in the second two."""
    scores = torch.randn(2, 5, 5)
    bins = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 3]])
    masks = bins[:, :, None] == bins[:, None]
    together = info_nce(scores, masks)
    torch.testing.assert_close(together, torch.stack([info_nce(scores[p], masks[p]) for p in range(2)]))
    kept = [3, 4]  # the second by hand
    expected = torch.stack([scores[1, i, i] - scores[1, i, kept].exp().mean().log() for i in kept]).mean()
    torch.testing.assert_close(together[1], expected)


def test_concat_critic_equals_concatenated_pairs():
    critic = ConcatCritic(2, 3, 4, width=8, layers=2)
    x, y = torch.randn(2, 5, 3), torch.randn(2, 6, 4)
    scores = critic(x, y)
    assert scores.shape == (2, 5, 6)
    for p in range(2):
        first = nn.Linear(7, 8)
        first.weight.data = torch.cat([critic.first_x.weight[p], critic.first_y.weight[p]]).T
        first.bias.data = (critic.first_x.bias + critic.first_y.bias)[p, 0]
        plain = nn.Sequential(first, plain_stack(critic.rest, p))
        for i in range(5):
            pairs = torch.stack([torch.cat([x[p, i], y[p, j]]) for j in range(6)])
            torch.testing.assert_close(scores[p, i], plain(pairs)[:, 0])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_critics_have_the_hidden_layers_that_are_asked_for(layers):
    """An activation after each, then the last linear map; the first layer of the concat critic lies apart."""
    concat, dot = ConcatCritic(1, 3, 4, width=8, layers=layers), DotCritic(1, 3, 4, width=8, layers=layers)
    names = [[type(part).__name__ for part in net] for net in (concat.rest, dot.g, dot.h)]
    assert names[0] == [*(["StackedLinear", "ReLU"] * layers)[1:], "StackedLinear"]
    assert names[1] == names[2] == [*["StackedLinear", "GELU"] * layers, "StackedLinear"]


@pytest.mark.parametrize("kind", [DotCritic, ConcatCritic])
def test_frozen_critic_scores_alike_and_keeps_gradient_from_its_parameters(kind):
    critic = kind(1, 3, 3, width=8)
    x, y = torch.randn(1, 5, 3, requires_grad=True), torch.randn(1, 5, 3, requires_grad=True)
    scores = frozen(critic, x, y)
    torch.testing.assert_close(scores, critic(x, y))
    scores.sum().backward()
    assert x.grad.abs().sum() > 0 and y.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())


def test_learned_critics_find_the_mutual_information_of_gaussians():
    """Side by side: MI 1 (below log N) and MI 0."""
    critic = DotCritic(2, 5, 5, width=64)
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)

    def draw(size):
        pairs = [gaussians((size,), 5, mi) for mi in (1.0, 0.0)]
        return torch.stack([x for x, _, _ in pairs]), torch.stack([y for _, y, _ in pairs])

    for _ in range(300):
        optimiser.zero_grad()
        (-info_nce(critic(*draw(128))).sum()).backward()
        optimiser.step()
    with torch.no_grad():
        dependent, independent = info_nce(critic(*draw(1000))).tolist()
    assert dependent == pytest.approx(1.0, abs=0.15)
    assert independent == pytest.approx(0.0, abs=0.05)


def test_conditional_estimate_needs_negatives_of_the_same_bin():
    """x1 and x2 share only the bin, so I(x1; x2 | bin) = 0; negatives of other bins measure its entropy, log 4."""
    estimate = {}
    for same_bin in (True, False):
        critic = DotCritic(1, 5, 5, width=32)
        optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
        for step in range(250):
            bins = torch.randint(4, (128 if step < 249 else 1500,))
            code = nn.functional.one_hot(bins, 4).float()
            x, y = (torch.cat([bins[:, None] + torch.randn(len(bins), 1), code], -1)[None] for _ in range(2))
            candidates = bins[:, None] == bins if same_bin else None
            value = info_nce(critic(x, y), candidates).sum()
            if step < 249:
                optimiser.zero_grad()
                (-value).backward()
                optimiser.step()
        estimate[same_bin] = value.item()
    assert estimate[True] == pytest.approx(0, abs=0.05)
    assert estimate[False] == pytest.approx(math.log(4), abs=0.15)


def test_both_directions_of_one_mask_each_are_the_mean_of_plain_loops():
    torch.manual_seed(0)
    scores, bins = torch.randn(5, 5), torch.tensor([0, 0, 1, 1, 1])
    mask = bins[:, None] == bins

    def loop(f):
        rows = [f[i, i] - f[i][mask[i]].exp().mean().log() for i in range(5)]
        return torch.stack(rows).mean()

    expected = (loop(scores) + loop(scores.T)) / 2
    assert float(info_nce(scores, mask, symmetric=True)) == pytest.approx(float(expected), abs=1e-6)
    assert float(info_nce(scores, symmetric=True)) != pytest.approx(float(expected), abs=1e-3)
