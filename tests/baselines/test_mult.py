"""MulT against PyTorch's multi-head attention."""

import torch
from systems import batch_of, demo, fill
from torch import nn

from finelib.baselines import common, mult


def test_mult_attends_across_modalities_as_multi_head_attention():
    config = mult.Config(width=8, heads=2, residual_dropout=0.0)
    block = fill(mult.Block(8, 2, 0.0))
    x, keys = torch.randn(3, 4, 8), torch.randn(3, 6, 8)
    mask = torch.arange(6) < torch.tensor([6, 2, 5])[:, None]
    reference, own = nn.MultiheadAttention(8, 2, batch_first=True), block.attention
    reference.in_proj_weight = nn.Parameter(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
    reference.in_proj_bias = nn.Parameter(torch.cat([own.query.bias, own.key.bias, own.value.bias]))
    reference.out_proj = own.out
    k = block.norm(keys)
    new = x + reference(block.norm(x), k, k, key_padding_mask=~mask)[0]
    expected = new + block.feed_forward[-1](torch.relu(block.feed_forward[0](block.norm_ff(new))))
    torch.testing.assert_close(block(x, keys, mask), expected, rtol=1e-4, atol=1e-5)
    stack = fill(mult.Stack(8, config, 2))  # the last row alone is the last row of all
    whole = stack.embed(keys)
    for block in stack.blocks:
        whole = block(whole, whole, mask)
    torch.testing.assert_close(stack.last(keys, mask), common.at_end(stack.norm(whole), mask), rtol=1e-4, atol=1e-5)


def test_mult_has_a_stack_for_every_ordered_pair_and_each_matters(corpus):
    model, batch = fill(demo("MulT", corpus)), batch_of(corpus)
    assert set(model.cross) == {"TA", "TV", "AT", "AV", "VT", "VA"}
    before = model(batch).prediction
    for stack in model.cross.values():
        stack.norm.weight.data.mul_(2)
        assert not torch.allclose(model(batch).prediction, before)
        stack.norm.weight.data.mul_(0.5)


def test_mult_queries_come_from_one_modality_and_keys_from_the_other(corpus):
    model, batch, seen = demo("MulT", corpus, frames=0).eval(), batch_of(corpus), {}
    for name, stack in model.cross.items():
        stack.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given}))
    model(batch)
    for (own, other), (x, keys, mask) in seen.items():
        assert x.shape[1] == batch.mask[own].shape[1] and torch.equal(mask, batch.mask[other])
        torch.testing.assert_close(keys, model.convolve[other](*model.inputs(batch)[other]))
    assert len(seen) == 6
