"""BBFN's gates and discriminator by hand."""

import torch
from systems import batch_of, demo, fill

from finelib.baselines import bbfn


def test_bbfn_gates_weigh_old_and_new():
    layer = fill(bbfn.Gated(bbfn.Config(width=8, heads=2)))
    x, y, control = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.randn(2, 16)
    mask = torch.ones(2, 5, dtype=torch.bool)
    new = layer.attention(layer.norm(x), layer.norm(y), mask)
    retain, compound = (1 / (1 + torch.exp(-(control @ g.weight.T + g.bias))) for g in (layer.retain, layer.compound))
    mixed = torch.stack([retain * x[:, t] + compound * new[:, t] for t in range(5)], 1)
    expected = mixed + layer.feed_forward[3](torch.relu(layer.feed_forward[0](layer.norm_ff(mixed))))
    torch.testing.assert_close(layer(x, y, control, mask), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # gates shut: neither the old nor the new passes
        for gate in (layer.retain, layer.compound):
            gate.weight.zero_()
            gate.bias.fill_(-50)
        layer.feed_forward[3].weight.zero_()
        layer.feed_forward[3].bias.zero_()
    assert layer(x, y, control, mask).abs().max() < 1e-6


def test_bbfn_discriminator_must_tell_the_modalities_apart(corpus):
    model, batch = demo("BBFN", corpus, layers=2), batch_of(corpus)
    output = model(batch)
    assert len(output.belief) == 4 and set(model.pairs) == {"A", "V"}
    p = torch.stack(output.belief).sigmoid()
    expected = -(p[..., 0].log().mean() + (1 - p[..., 1]).log().mean()) / 2
    terms = model.losses(output, batch)
    torch.testing.assert_close(terms["disc"], expected)
    torch.testing.assert_close(terms["total"], terms["L_MP"] + 0.1 * expected)
