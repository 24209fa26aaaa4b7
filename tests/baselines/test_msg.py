"""MSG's shift, attention and order of steps, by loops."""

import pytest
import torch
import torch.nn.functional as F
from systems import batch_of, demo, fill

from finelib.baselines import msg
from finelib.layers import masked_mean


def test_a_shift_is_bounded_at_every_step():
    shift = fill(msg.Shift(6, {"A": 3, "V": 4}))
    shift.mu.data.fill_(0.4)
    x, others = torch.randn(2, 5, 6), {"A": torch.randn(2, 5, 3), "V": torch.randn(2, 5, 4)}
    found, gate, to = shift(x, others), shift.displacement.gate, shift.displacement.map
    for b in range(2):
        for t in range(5):
            h = torch.zeros(6)
            for m, y in others.items():
                opened = gate[m].weight @ torch.cat([y[b, t], x[b, t]]) + gate[m].bias
                h += torch.relu(opened) * (to[m].weight @ y[b, t])
            eta = min(0.4 * x[b, t].norm() / h.norm(), torch.tensor(1.0)) if h.any() else 0.0
            torch.testing.assert_close(found[b, t], x[b, t] + eta * h, rtol=1e-4, atol=1e-5)
            assert (found[b, t] - x[b, t]).norm() <= 0.4001 * x[b, t].norm()
    for opened in gate.values():  # shut gates
        opened.bias.data.fill_(-1e3)
    assert torch.equal(shift(x, others), x)


@pytest.mark.parametrize("scaled", [True, False])
def test_attention_by_loops(scaled):
    attend = fill(msg.Attention(6, msg.Config(hidden=4, scaled=scaled)))
    text, other, lengths = torch.randn(2, 5, 6), torch.randn(2, 5, 4), (5, 3)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    weights = attend.weights(text, other, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5))
    assert not weights[1, :, 3:].any()
    p, q = attend.text(text), attend.other(other)
    for b, length in enumerate(lengths):
        for i in range(length):
            alike = [torch.tanh(z[b, i] @ z[b, :length].T * (0.5 if scaled else 1)) for z in (p, q)]
            row = torch.softmax(alike[0] * alike[1] + alike[0], -1)
            torch.testing.assert_close(weights[b, i, :length], row)
            expected = row @ text[b, :length] + text[b, i]
            torch.testing.assert_close(attend(text, other, mask)[b, i], expected, rtol=1e-4, atol=1e-5)


def test_without_the_other_modality_text_attends_to_itself():
    attend = fill(msg.Attention(6, msg.Config(hidden=4)))
    attend.other.weight.data.zero_()
    attend.other.bias.data.zero_()  # p_m = 0
    text, mask = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    p = attend.text(text)
    expected = torch.softmax(torch.tanh(p @ p.transpose(1, 2) / 2), -1)
    torch.testing.assert_close(attend.weights(text, torch.randn(2, 5, 4), mask), expected)


def test_audio_is_shifted_by_what_text_is_beside_video(corpus):
    """The whole way of one utterance after the other, audio by M_tv and F_v, video by M_ta and F_a."""
    model, batch = fill(demo("MSG", corpus)), batch_of(corpus)
    found = model(batch).prediction
    for i in range(len(batch)):
        one = batch_of(corpus, [i])
        mask = one.mask["T"]
        read = {m: model.inputs.sequence(one.features[m], one.mask[m], m) for m in "TAV"}
        f = {m: model.read[m](x)[0] for m, x in msg.on_steps(mask, {m: read[m] for m in "AV"}).items()}
        text = model.shift_text(model.project(read["T"][0]), f)
        beside = {m: model.attend[m](text, f[m], mask) for m in "AV"}
        audio = model.shift["A"](f["A"], {"T": beside["V"], "V": f["V"]})
        video = model.shift["V"](f["V"], {"T": beside["A"], "A": f["A"]})
        ends = torch.cat([masked_mean(x, mask) for x in (text, audio, video)], -1)
        torch.testing.assert_close(found[i], model.head(ends)[0, 0], rtol=1e-3, atol=1e-3)


def test_one_other_modality_is_shifted_by_text_alone(corpus):
    model = demo("MSG", corpus, "TA")
    assert set(model.shift["A"].displacement.map) == {"T"} and set(model.shift_text.displacement.map) == {"A"}


@pytest.mark.parametrize("layer", [0, 1])
def test_text_is_shifted_inside_the_encoder(tokens, layer):
    model, batch = demo("MSG", tokens, layer=layer).eval(), batch_of(tokens, [0, 3])
    fill(model.shift_text)
    bert, mask = model.inputs.text_encoder.bert, batch.mask["T"]
    frames = {m: torch.randn(2, mask.shape[1], 32) for m in "AV"}
    found = model.text(batch.features["T"], mask, frames)
    for i, length in enumerate(mask.sum(1)):
        h = bert.embeddings(batch.features["T"][i : i + 1, :length])
        for place, each in enumerate(bert.encoder.layer):
            if place == layer:
                h = model.shift_text(h, {m: x[i : i + 1, :length] for m, x in frames.items()})
            h = each(h)
        torch.testing.assert_close(found[i, :length], h[0], rtol=1e-3, atol=1e-4)
    assert not found[~mask].any()


def test_loss_is_hubers(corpus):
    model = demo("MSG", corpus)
    prediction, label = torch.tensor([0.0, 0.5, 3.0, -2.0]), torch.zeros(4)
    expected = (0 + 0.5 * 0.25 + (3 - 0.5) + (2 - 0.5)) / 4
    assert model.prediction_loss(prediction, label).item() == pytest.approx(expected)
    other = demo("MSG", corpus, loss="l1")
    torch.testing.assert_close(other.prediction_loss(prediction, label), F.l1_loss(prediction, label))
