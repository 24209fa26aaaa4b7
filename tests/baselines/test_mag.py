"""MAG-BERT's gate by numpy, and its place in the encoder."""

import numpy as np
import pytest
import torch
from systems import batch_of, demo, fill

from finelib.baselines import mag
from finelib.data.text import TextEncoder


def test_gate_of_one_step_by_numpy():
    gate = fill(mag.Gate(6, {"A": 3, "V": 4}, beta=0.7, dropout=0.5))
    h, others = torch.randn(2, 5, 6), {"A": torch.randn(2, 5, 3), "V": torch.randn(2, 5, 4)}
    found = gate(h, others).detach().numpy()
    for b, t in np.ndindex(2, 5):
        own, displacement = h[b, t].numpy(), np.zeros(6)
        for m, x in others.items():
            opened, mapped = gate.displacement.gate[m], gate.displacement.map[m]
            x = x[b, t].numpy()
            seen = opened.weight.detach().numpy() @ np.concatenate([x, own]) + opened.bias.detach().numpy()
            displacement += np.maximum(seen, 0) * (mapped.weight.detach().numpy() @ x + mapped.bias.detach().numpy())
        alpha = min(0.7 * np.linalg.norm(own) / (np.linalg.norm(displacement) + 1e-6), 1)
        moved = own + alpha * displacement
        normed = (moved - moved.mean()) / np.sqrt(moved.var() + 1e-5)
        expected = normed * gate.norm.weight.detach().numpy() + gate.norm.bias.detach().numpy()
        np.testing.assert_allclose(found[b, t], expected, rtol=1e-4, atol=1e-4)


def test_a_displacement_is_bounded_and_keeps_its_direction():
    h, by = torch.randn(50, 1, 6), torch.randn(50, 1, 6) * torch.logspace(-3, 3, 50)[:, None, None]
    added = mag.moved(h, by, 0.5) - h
    assert (added.norm(dim=-1) <= 0.5001 * h.norm(dim=-1)).all()
    assert torch.cosine_similarity(added, by, dim=-1).min() > 0.999
    torch.testing.assert_close(added[:10], by[:10], rtol=1e-3, atol=1e-6)  # the short ones are added whole
    zero = torch.zeros(1, 1, 6, requires_grad=True)
    mag.moved(zero, zero, 0.5).sum().backward()
    assert zero.grad.isfinite().all()


def test_gradient_on_both_sides_of_the_bound():
    for size in (0.01, 100.0):
        h, by = (torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
        assert torch.autograd.gradcheck(lambda h, by, size=size: mag.moved(h, size * by, 0.5), (h, by))


def test_a_shut_gate_leaves_the_encoder_as_it_was(tokens):
    """The embeddings are normed, so that the gate's own norm changes nothing either."""
    model, batch = demo("MAG-BERT", tokens, beta=0.0).eval(), batch_of(tokens)
    seen = []
    model.pool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(batch)
    encoder = TextEncoder(tokens.encoder).eval()
    torch.testing.assert_close(seen[0], encoder(batch.features["T"], batch.mask["T"])[:, 0], rtol=1e-3, atol=1e-3)


def test_text_is_moved_in_front_of_the_first_layer(tokens):
    """Each utterance alone, through the encoder's own parts."""
    model, batch = demo("MAG-BERT", tokens).eval(), batch_of(tokens)
    fill(model.gate)
    model.gate.beta, bert = 1.0, model.inputs.text_encoder.bert
    found, seen = model(batch).prediction, []
    for i in range(len(batch)):
        one = batch_of(tokens, [i])
        frames = {m: model.inputs.sequence(one.features[m], one.mask[m], m) for m in "AV"}
        h = model.gate(bert.embeddings(one.features["T"]), mag.on_steps(one.mask["T"], frames))
        for layer in bert.encoder.layer:
            h = layer(h)
        seen.append(model.head(model.pool(h[:, 0]))[0, 0])
    torch.testing.assert_close(found, torch.stack(seen), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["corpus", "tokens"])
def test_audio_and_video_move_text(kind, request):
    data = request.getfixturevalue(kind)
    model, batch = demo("MAG-BERT", data).eval(), batch_of(data)
    before = model(batch).prediction
    for m in "AV":
        batch.features[m].neg_()
        assert not torch.allclose(model(batch).prediction, before, atol=1e-5)
        batch.features[m].neg_()


def test_frozen_features_pass_a_transformer_of_its_own(corpus):
    """The [CLS] row of the last layer alone is that of the whole layer."""
    encode = fill(mag.Encoder(mag.Config(width=8, heads=2, layers=2)))
    x, mask = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    whole = torch.cat([encode.cls.expand(3, -1, -1), x + mag.positions(5, 8, x)], 1)
    there = torch.cat([torch.ones(3, 1, dtype=torch.bool), mask], 1)
    for block in encode.blocks:
        whole = block(whole, whole, there)
    torch.testing.assert_close(encode(x, mask), encode.norm(whole)[:, 0], rtol=1e-4, atol=1e-5)
