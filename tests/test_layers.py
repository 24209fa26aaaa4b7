"""Layers that several models share."""

import pytest
import torch

from finelib.layers import FastDropout


def test_fast_dropout_drops_a_share_p_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    layer, x = FastDropout(0.25), torch.ones(1000, 1001)
    y = layer.train()(x)
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.003)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    # columns and rows are independent: the share of pairs dropped together is p squared
    for shifted in (y.roll(1, 0), y.roll(1, 1), y.roll(8, 1)):
        assert ((y == 0) & (shifted == 0)).float().mean().item() == pytest.approx(0.0625, abs=0.003)
    assert torch.equal(layer.eval()(x), x)
