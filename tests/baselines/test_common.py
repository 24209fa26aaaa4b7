"""The parts that several systems are made of, against PyTorch's own or by hand."""

import torch
from torch import nn

from finelib.baselines import common
from finelib.inputs import Inputs


def test_the_state_at_the_end_is_that_of_a_packed_sequence():
    x, mask = torch.randn(4, 9, 3), torch.arange(9) < torch.tensor([9, 4, 1, 6])[:, None]
    x = x * mask[..., None]
    both = common.BothWays(nn.LSTM, 3, 5)
    reference = nn.LSTM(3, 5, batch_first=True, bidirectional=True)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        setattr(reference, name, getattr(both.ahead, name))
        setattr(reference, name + "_reverse", getattr(both.back, name))
    packed = nn.utils.rnn.pack_padded_sequence(x, mask.sum(1), batch_first=True, enforce_sorted=False)
    out, (last, _) = reference(packed)
    states, end = both(x, mask)
    expected = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)[0]
    torch.testing.assert_close(states * mask[..., None], expected)
    torch.testing.assert_close(end, last.transpose(0, 1).flatten(1))


def test_aligned_averages_stretches_and_keeps_what_is_aligned():
    text, there = torch.randn(2, 3, 4), torch.tensor([[True, True, True], [True, True, False]])
    audio = torch.arange(12.0).view(2, 6, 1)
    out, mask = common.aligned({"T": (text, there), "A": (audio, torch.ones(2, 6, dtype=torch.bool))})
    assert mask is there and out["T"] is text
    assert out["A"][..., 0].tolist() == [[0.5, 2.5, 4.5], [7, 10, 0]]
    same = torch.randn(2, 3, 2) * there[..., None]
    torch.testing.assert_close(common.aligned({"T": (text, there), "V": (same, there)})[0]["V"], same)


def test_frames_are_averaged_over_stretches_only_where_there_are_more():
    inputs = Inputs({"T": 1, "A": 1}, {}, frames=2)
    x = torch.tensor([[[1.0], [3], [5], [7]], [[4.0], [0], [0], [0]]])
    mask = torch.tensor([[True] * 4, [True] + [False] * 3])
    y, there = inputs.sequence(x, mask, "A")
    assert y[..., 0].tolist() == [[2, 6], [4, 0]] and there.tolist() == [[True, True], [True, False]]
    assert inputs.sequence(x, mask, "T")[0] is x


def test_convolution_is_that_of_pytorch():
    own, x = common.Convolution(7, 4, 5), torch.randn(2, 9, 7)
    reference = nn.Conv1d(7, 4, 5, padding=2, bias=False)
    reference.weight = nn.Parameter(own.weight.permute(2, 0, 1))
    mask = torch.ones(2, 9, dtype=torch.bool)
    torch.testing.assert_close(own(x, mask), reference(x.transpose(1, 2)).transpose(1, 2))
    mask[1, 6:] = False
    assert not own(x, mask)[1, 6:].any()


def test_recurrence_in_closed_form():
    """With constant factors a geometric sum; from a start that decays."""
    keep, add, start = torch.full((2, 6, 3), 0.5), torch.full((2, 6, 3), 2.0), torch.full((2, 3), 8.0)
    t = torch.arange(1, 7.0)
    found = common.recurrence(keep, add)
    torch.testing.assert_close(found, (4 * (1 - 0.5**t))[None, :, None].expand(2, 6, 3))
    torch.testing.assert_close(common.recurrence(keep, add, start) - found, (8 * 0.5**t)[None, :, None].expand(2, 6, 3))
    assert common.recurrence(keep[:, :1], add[:, :1]).tolist() == [[[2.0] * 3]] * 2


def test_steps_of_a_mask():
    audio, mask = torch.arange(12.0).view(2, 6, 1), torch.tensor([[True, True, True], [True, True, False]])
    found = common.on_steps(mask, {"A": (audio, torch.ones(2, 6, dtype=torch.bool))})
    assert found["A"][..., 0].tolist() == [[0.5, 2.5, 4.5], [7, 10, 0]]
