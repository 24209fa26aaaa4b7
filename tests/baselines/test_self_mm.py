"""Self-MM's generated labels by hand."""

import pytest
import torch
from systems import batch_of, demo

from finelib.baselines import self_mm


def test_self_mm_generates_labels_by_hand(corpus):
    # features on a line, centres at 1 and -1: at 0.5 the distances are 0.5 and 1.5, so alpha = 2
    positive, negative = torch.tensor([1.0]), torch.tensor([-1.0])
    alpha = self_mm.relative_distance(torch.tensor([[0.5]]), positive, negative)
    assert float(alpha) == pytest.approx(2, rel=1e-4)
    # y_m = 1, alpha_s = 2, alpha_m = 4: (1 * 2 / 4 + 1 + 2 - 4) / 2 = -0.25
    made = self_mm.generated_label(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([4.0]))
    assert float(made) == pytest.approx(-0.25, rel=1e-4)
    # in epoch 3: 2/4 of the label before, 2/4 of the new one
    assert float(self_mm.momentum(torch.tensor(1.0), torch.tensor(-0.25), 3)) == pytest.approx(0.375)


def test_self_mm_updates_the_labels_of_a_batch_from_the_second_epoch_on(corpus):
    model = demo("Self-MM", corpus, frames=0)
    size = len(corpus.splits["train"])
    rows = torch.arange(size).split(16)
    batches = [batch_of(corpus, part.tolist()) for part in rows]
    label = torch.from_numpy(corpus.splits["train"].label)
    for batch in batches:
        terms = model.losses(model(batch), batch)
        assert terms["L_UP"] == 0  # all labels are still alike
    for m in "TAV":
        torch.testing.assert_close(model.memory[m].label, label)
    features = {s: model.memory[s].features.clone() for s in "MTAV"}
    batch = batches[0]
    output = model(batch)
    model.losses(output, batch)
    with torch.no_grad():
        alpha = {}
        for s in "MTAV":
            own = [features[s][label > 0].mean(0), features[s][label < 0].mean(0)]
            alpha[s] = self_mm.relative_distance(output.features[s], *own)
        for m in "TAV":
            new = (label[:16] * alpha[m] / (alpha["M"] + 1e-6) + label[:16] + alpha[m] - alpha["M"]) / 2
            expected = label[:16] / 3 + 2 / 3 * new.clamp(-3, 3)
            torch.testing.assert_close(model.memory[m].label[:16], expected, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(model.memory[m].label[16:], label[16:])
    torch.testing.assert_close(model.memory["M"].label, label)
    terms = model.losses(model(batch), batch)
    own = {m: model.memory[m].labels_of(batch.index, batch.label) for m in "TAV"}
    assert terms["L_UP"] > 0 and any(not torch.equal(own[m], batch.label) for m in own)


def test_self_mm_weighs_unimodal_errors_by_the_distance_of_the_labels(corpus):
    model, batch = demo("Self-MM", corpus).train(), batch_of(corpus, range(4))
    model.met += len(corpus.splits["train"])
    for m in "TAV":
        model.memory[m].met[:] = True
        model.memory[m].label[:] = 1.5
    output = model(batch)
    expected = sum((torch.tanh((1.5 - batch.label).abs()) * (p - 1.5).abs()).mean() for p in output.unimodal.values())
    torch.testing.assert_close(model.losses(output, batch)["L_UP"], expected)
