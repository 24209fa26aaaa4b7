"""Coupled Mamba against its equations as loops, against transformers' Mamba, and in closed form."""

import pytest
import torch
import torch.nn.functional as F
from systems import batch_of, demo, fill
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from finelib.baselines import common, coupled_mamba


def block(count, **changes):
    return fill(coupled_mamba.Block(count, coupled_mamba.Config(width=8, states=3, **changes)))


@pytest.mark.parametrize(("coupling", "share"), [("mean", 1 / 3), ("sum", 1.0)])
def test_states_are_coupled_step_by_step(coupling, share):
    """h of every modality in a loop over modalities and steps: each reads the states of all."""
    own, x = block(3, coupling=coupling), torch.randn(3, 2, 6, 16)
    h, found = torch.zeros(3, 2, 3, 16), torch.empty(3, 2, 6, 16)  # (M, B, N, i)
    for t in range(6):
        before = share * h.sum(0)
        for m in range(3):
            rate, b, c = (x[m, :, t] @ own.select[m]).split((own.rank, 3, 3), -1)
            delta = F.softplus(rate @ own.rate[m] + own.rate_shift[m, 0])
            keep = torch.exp(-delta[:, None] * own.decay[m, 0, 0].exp())
            h[m] = keep * before + delta[:, None] * b[:, :, None] * x[m, :, t, None]
            found[m, :, t] = (c[:, :, None] * h[m]).sum(1) + own.through[m, 0, 0] * x[m, :, t]
    torch.testing.assert_close(own.scan(x), found, rtol=1e-4, atol=1e-4)


def test_one_modality_is_mamba():
    """The whole block against the plain path of transformers' mixer with the same weights."""
    own, x = block(1), torch.randn(1, 2, 7, 8)
    config = MambaConfig(hidden_size=8, state_size=3, expand=2, conv_kernel=4, time_step_rank=own.rank)
    mixer = MambaMixer(config, 0)
    mixer.in_proj.weight.data = own.enter[0].T
    mixer.conv1d.weight.data = own.kernel[0, :, 0, 0].T[:, None]
    mixer.conv1d.bias.data = own.shift[0, 0, 0]
    mixer.x_proj.weight.data = own.select[0].T
    mixer.dt_proj.weight.data, mixer.dt_proj.bias.data = own.rate[0].T, own.rate_shift[0, 0, 0]
    mixer.A_log.data, mixer.D.data = own.decay[0, 0, 0].T, own.through[0, 0, 0]
    mixer.out_proj.weight.data = own.leave[0].T
    expected = x + mixer(own.norm(x.flatten(1, 2)).view(2, 7, 8))
    torch.testing.assert_close(own(x), expected, rtol=1e-4, atol=1e-4)


def test_a_step_changes_nothing_before_it():
    own, x = block(3), torch.randn(3, 2, 6, 8)
    other = x.clone()
    other[1, :, 4] = torch.randn(2, 8)
    before, after = own(x), own(other)
    torch.testing.assert_close(after[:, :, :4], before[:, :, :4])
    changed = (after - before).abs().amax((1, 3))  # (M, n): the step reaches all modalities, one step later the others
    assert changed[1, 4] > 1e-4 and changed[0, 4] < 1e-6 and (changed[:, 5] > 1e-5).all()


def test_the_sum_of_states_grows_as_powers_of_three_and_their_mean_stays(monkeypatch):
    """What one step puts in, where Delta is so small that every S is 1."""
    kept = []

    def keeping(*given):
        kept.append(common.recurrence(*given))
        return kept[-1]

    for coupling, factor in (("sum", 3.0), ("mean", 1.0)):
        own = block(3, coupling=coupling)
        own.rate.data.zero_()
        own.rate_shift.data.fill_(-12)
        x = torch.zeros(3, 1, 9, 16)
        x[:, :, 0] = torch.randn(3, 1, 16)
        with monkeypatch.context() as patch:  # the states themselves
            patch.setattr(
                coupled_mamba, "recurrence", lambda *given: kept.append(common.recurrence(*given)) or kept[-1]
            )
            own.scan(x)
        size = kept[-1].abs().amax((0, 2, 3))
        assert (size / size[0]).tolist() == pytest.approx([factor**t for t in range(9)], rel=1e-2)


def test_rates_and_decays_start_as_mambas_do():
    own = coupled_mamba.Block(2, coupled_mamba.Config(width=128))
    rate = F.softplus(own.rate_shift)
    assert 0.001 <= rate.min() < 0.002 and 0.05 < rate.max() <= 0.1001
    assert own.decay.exp()[1, 0, 0, :, 5].tolist() == pytest.approx(list(range(1, 17)))


def test_the_largest_real_step_is_read(corpus):
    x, mask = torch.tensor([[[1.0], [-3], [9]], [[-2.0], [5], [5]]]), torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()
    assert coupled_mamba.largest(x, mask).tolist() == [[1], [0]]
    model, batch = fill(demo("Coupled Mamba", corpus)), batch_of(corpus)
    before = model(batch).prediction
    model.weight.data = torch.tensor([50.0, 0, 0])  # all weight on text
    assert not torch.allclose(model(batch).prediction, before)


def kept_and_gradients(own, x):
    """Bytes that a block keeps for the way back, and the gradients of its input and parameters."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        y = own(x)
    return sum(kept), torch.autograd.grad(y.square().sum(), [x, *own.parameters()])


def test_no_layer_keeps_its_states_for_the_way_back(monkeypatch):
    """It keeps less than half of what it would; the gradients are those of keeping all."""
    own, x = block(2), torch.randn(2, 4, 50, 8, requires_grad=True)
    kept, found = kept_and_gradients(own, x)
    monkeypatch.setattr(coupled_mamba, "checkpoint", lambda f, *given, **_: f(*given))
    all_kept, expected = kept_and_gradients(own, x)
    assert kept < all_kept / 2
    assert all(map(torch.equal, found, expected))
