"""DMD's margin, graphs and factorisation by loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from systems import batch_of, demo, fill

from finelib.baselines import dmd
from finelib.baselines.common import aligned
from finelib.layers import stretches


def cosine(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def test_dmd_margin_by_a_triple_loop():
    x, label = torch.randn(7, 3), torch.tensor([1.0, 1, 2, -1, 1, 2, 0])
    anchors = []
    for i in range(7):
        terms = [
            max(0.0, 0.15 * abs(float(label[i] - label[n])) - cosine(x[i], x[p]) + cosine(x[i], x[n]))
            for p in range(7)
            for n in range(7)
            if p != i and label[p] == label[i] and label[n] != label[i]
        ]
        anchors += [sum(terms) / len(terms)] if terms else []
    assert len(anchors) == 5  # two labels occur once
    assert float(dmd.margin_loss(x, label)) == pytest.approx(sum(anchors) / 5, rel=1e-4)
    assert dmd.margin_loss(x, torch.ones(7)) == 0


@torch.no_grad()
def test_dmd_graph_by_loops():
    graph = fill(dmd.Distillation(("T", "A", "V"), 4, 3, dmd.COMMON_PRIOR))
    prediction, rep = torch.randn(3, 5), torch.randn(3, 5, 4)
    weight, terms = graph(prediction, rep)
    edges = [(j, i) for j in range(3) for i in range(3) if i != j]
    gap, apart, uneven = 0.0, 0.0, 0.0
    for e, (j, i) in enumerate(edges):
        favoured = ("TAV"[j], "TAV"[i]) in {("A", "T"), ("V", "T")}
        prior = math.exp(4 * favoured) / (4 + 2 * math.exp(4))
        assert float(graph.prior[e]) == pytest.approx(prior, rel=1e-4)
        alike = sum(max(0.0, cosine(rep[j, b], rep[i, b])) for b in range(5)) / 5
        for b in range(5):
            gap += float((weight[e, b] + prior) * (prediction[j, b] - prediction[i, b]).abs()) / 5
            apart += float(weight[e, b] + prior) * alike / 5
        uneven += 10 * float(weight[e].mean() - prior) ** 2
    for b in range(5):
        node = [torch.cat([graph.predicted(prediction[m, b : b + 1]), graph.represented(rep[m, b])]) for m in range(3)]
        raw = torch.stack([graph.weigh(torch.cat([node[j], node[i]]))[0] for j, i in edges]) / 8
        torch.testing.assert_close(weight[:, b], torch.exp(raw) / torch.exp(raw).sum())
    torch.testing.assert_close(weight.sum(0), torch.ones(5))
    for name, expected in {"prediction": gap, "apart": apart, "prior": uneven}.items():
        assert float(terms[name]) == pytest.approx(expected, rel=1e-4), name


def test_dmd_priors_are_the_printed_ones_and_cost_nothing_when_met():
    homo, hetero = (dmd.Distillation(("T", "A", "V"), 4, 3, p) for p in (dmd.COMMON_PRIOR, dmd.PRIVATE_PRIOR))
    assert sorted(round(float(p), 4) for p in homo.prior) == [0.0088] * 4 + [0.4823] * 2
    assert sorted(round(float(p), 4) for p in hetero.prior) == [0.006] * 3 + [0.3273] * 3
    with torch.no_grad():
        homo.weigh.weight.zero_()
        homo.weigh.bias.zero_()
        assert homo(torch.randn(3, 5), torch.randn(3, 5, 4))[1]["prior"] > 1
        homo.prior.fill_(1 / 6)
        assert homo(torch.randn(3, 5), torch.randn(3, 5, 4))[1]["prior"] < 1e-9


def test_dmd_teacher_gets_no_gradient():
    graph = fill(dmd.Distillation(("T", "A"), 4, 3, dmd.COMMON_PRIOR))
    torch.nn.init.zeros_(graph.weigh.weight)  # edges do not depend on predictions
    prediction, rep = torch.randn(2, 5, requires_grad=True), torch.randn(2, 5, 4, requires_grad=True)
    graph(prediction, rep)[1]["prediction"].backward()
    for student, e in ((0, 0), (1, 1)):  # edges: T from A, A from T
        sign = torch.sign(prediction[student] - prediction[1 - student]).detach()
        torch.testing.assert_close(prediction.grad[student], (0.5 + graph.prior[e]) * sign / 5)


def test_dmd_orthogonality_of_planted_parts():
    private, shared = torch.zeros(3, 2, 4, 6), torch.zeros(3, 2, 4, 6)
    private[..., :3], shared[..., 3:] = torch.randn(3, 2, 4, 3), torch.randn(3, 2, 4, 3)
    assert float(dmd.orthogonality(private, shared)) == pytest.approx(0, abs=1e-6)
    assert float(dmd.orthogonality(private, 2 * private)) == pytest.approx(3, rel=1e-4)
    assert float(dmd.orthogonality(private, -private)) == 0


def test_dmd_splits_each_step_into_a_private_and_a_common_part(corpus):
    model, batch = fill(demo("DMD", corpus)), batch_of(corpus)
    output, (sequences, mask) = model(batch), aligned(model.inputs(batch))
    for i, m in enumerate("TAV"):
        steps = stretches(sequences[m], mask, model.config.steps)
        x = model.convolve[m](steps, torch.ones(steps.shape[:2], dtype=torch.bool))
        torch.testing.assert_close(output.x[i], x, rtol=1e-3, atol=1e-3)
        private, shared = output.x[i] @ model.private[i, 0], output.x[i] @ model.shared
        torch.testing.assert_close(output.private[i], private, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(output.shared[i], shared, rtol=1e-3, atol=1e-3)
        decoded = torch.cat([private, shared], -1) @ model.decode[i, 0]
        torch.testing.assert_close(output.decoded[i], decoded, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(output.again[i], decoded @ model.private[i, 0], rtol=1e-3, atol=1e-1)
    assert not torch.allclose(model.private[0], model.private[1])


def test_dmd_every_stack_matters(corpus):
    model, batch = fill(demo("DMD", corpus)), batch_of(corpus)
    assert set(model.cross) == {"TA", "TV", "AT", "AV", "VT", "VA"} and set(model.read) == set("TAV") == set(
        model.memory
    )
    before = model(batch)
    for stack in (*model.cross.values(), *model.memory.values(), *model.read.values()):
        stack.norm.weight.data.mul_(2)
        assert not torch.allclose(model(batch).prediction, before.prediction)
        stack.norm.weight.data.mul_(0.5)
    seen = {}
    for name, stack in model.cross.items():
        stack.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given}))
    for name, stack in model.read.items():
        stack.last = lambda x, mask, name=name, last=stack.last: seen.update({name: x}) or last(x, mask)
    model(batch)
    place = {m: i for i, m in enumerate("TAV")}
    for own, other in model.cross:
        torch.testing.assert_close(seen[own + other][0], before.private[place[own]])
        torch.testing.assert_close(seen[own + other][1], before.private[place[other]])
    for m in "TAV":
        torch.testing.assert_close(seen[m], before.shared[place[m]])


def test_dmd_loss_is_the_weighted_sum(corpus):
    model, batch = demo("DMD", corpus).eval(), batch_of(corpus, range(12))
    output, label, mse = model(batch), batch.label, F.mse_loss
    predictions = [output.prediction, output.common, *output.homo, *output.hetero]
    assert len(predictions) == 8
    expected = sum((p - label).abs().mean() for p in predictions)
    pairs = [(output.decoded, output.x), (output.again, output.private)]
    expected += 0.1 * sum(mse(a[m], b[m]) for a, b in pairs for m in range(3))
    expected += 0.01 * dmd.orthogonality(output.private, output.shared)
    expected += 0.01 * dmd.margin_loss(output.similar.flatten(0, 1), torch.cat([label] * 3))
    homo = model.homo_graph(output.homo, output.homo_rep)[1]
    hetero = model.hetero_graph(output.hetero, output.hetero_rep)[1]
    expected += 0.05 * (
        homo["prediction"] + homo["prior"] + hetero["prediction"] + hetero["prior"] + 10 * hetero["apart"]
    )
    terms = model.losses(output, batch)
    torch.testing.assert_close(terms["total"], expected)
    assert terms["margin"] > 0 and terms["ort"] > 0
