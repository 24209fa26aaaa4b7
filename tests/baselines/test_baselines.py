"""The compared systems: one contract for all, and for each what defines it against something independent."""

import re
import sys
from dataclasses import replace
from itertools import product
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from finelib import models, training
from finelib.baselines import SYSTEMS, bbfn, common, confede, lmf, mfn, misa, mult, self_mm, tfn
from finelib.config import TrainConfig
from finelib.data.features import Batch, ResidentSplit
from finelib.inputs import Inputs
from finelib.paper import tables
from finelib.runs import tuning
from finelib.runs.options import ROOT, Options

SUBSETS = ["TAV", "TA", "AV", "T", "V"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def demo(name, corpus, modalities="TAV", **changes):
    system = SYSTEMS[name]
    return models.build(system.Config(**system.DEMO | {"modalities": tuple(modalities)} | changes), corpus)


def batch_of(corpus, rows=range(6), split="train"):
    resident = ResidentSplit(corpus.splits[split], corpus.modalities, torch.device("cpu"))
    return resident.batch(torch.tensor(list(rows)))


def fill(module):
    """Random weights everywhere, biases too, so that nothing is hidden by a zero."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


# -------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize(("name", "modalities"), list(product(SYSTEMS, SUBSETS)))
def test_any_subset_of_the_modalities(name, modalities, corpus):
    if name == "BBFN" and len(modalities) == 1:
        with pytest.raises(ValueError, match="found . alone; expected two or three"):
            demo(name, corpus, modalities)
        return
    model = demo(name, corpus, modalities)
    for rows in (range(5), [3]):  # the last batch of an epoch may hold one utterance
        batch = batch_of(corpus, rows)
        output = model(batch)
        assert output.prediction.shape == (len(batch),)
        model.zero_grad()
        model.losses(output, batch)["total"].backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SYSTEMS)
def test_labels_do_not_reach_the_prediction_and_padding_changes_nothing(name, corpus):
    model, batch = demo(name, corpus, frames=0).eval(), batch_of(corpus)
    padded = Batch(
        {m: F.pad(x, (0, 0, 0, 3)) for m, x in batch.features.items()},
        {m: F.pad(x, (0, 3)) for m, x in batch.mask.items()},
        -batch.label,
        None,
        batch.index,
    )
    if name == "ConFEDE":  # has a learned position for every frame, and none beyond the longest
        padded = replace(batch, label=-batch.label)
    torch.testing.assert_close(model(padded).prediction, model(batch).prediction, rtol=1e-4, atol=1e-5)
    alone = torch.cat([model(batch_of(corpus, [i])).prediction for i in range(6)])
    torch.testing.assert_close(alone, model(batch).prediction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_modality_without_frames_is_finite(name, corpus):
    model, batch = demo(name, corpus), batch_of(corpus)
    mask = {m: there.clone() for m, there in batch.mask.items()}
    features = {m: x.clone() for m, x in batch.features.items()}
    mask["V"][:] = False
    features["V"][:] = 0
    mask["A"][2] = False
    features["A"][2] = 0
    empty = replace(batch, features=features, mask=mask)
    output = model(empty)
    model.losses(output, empty)["total"].backward()
    assert output.prediction.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_learns(name, corpus):
    """Forty utterances can be learned by heart."""
    splits = dict(corpus.splits)
    rows = {m: replace(f, start=f.start[:40], length=f.length[:40]) for m, f in splits["train"].frames.items()}
    few = replace(
        splits["train"],
        frames=rows,
        label=splits["train"].label[:40],
        ids=splits["train"].ids[:40],
        text=splits["train"].text[:40],
    )
    small = replace(corpus, splits=splits | {"train": few, "valid": few})
    system = SYSTEMS[name]
    dropped = {
        field: value
        for field, value in {
            "dropout": 0.0,
            "post_dropout": 0.0,
            "text_dropout": 0.0,
            "embed_dropout": 0.0,
            "output_dropout": 0.0,
            "relu_dropout": 0.0,
        }.items()
        if isinstance(getattr(system.Config(), field, None), float)
    }
    model = models.build(system.Config(**system.DEMO | dropped), small)
    config = TrainConfig(epochs=30, patience=30, batch_size=16, lr=3e-3, bucket=True, weight_decay=0.0)
    curves = training.fit(model, small, config, seed=0).curves
    assert min(curve["dev_mae"] for curve in curves) < 0.7 * np.abs(few.label - np.median(few.label)).mean()


def test_sizes_are_those_of_the_published_versions(corpus):
    """Parameters of MMSA 2.2.1's models on CMU-MOSI's widths (768, 5, 20), counted there."""
    assert corpus.widths == {"T": 768, "A": 5, "V": 20}
    for name, millions in {"LF-DNN": 0.60, "TFN": 9.50, "LMF": 0.51, "MFN": 2.17, "MulT": 2.57}.items():
        model = models.build(SYSTEMS[name].Config(), corpus)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.02), name


@pytest.mark.parametrize("name", SYSTEMS)
def test_published_settings_are_fields(name):
    system = SYSTEMS[name]
    assert replace(TrainConfig(), **system.TRAIN).bucket
    for field, values in system.SPACE.items():
        assert [replace(system.Config(), **{field: value}) for value in values]


# ------------------------------------------------------------------------------------ the shared parts


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
    inputs = Inputs({"A": 1}, {}, frames=2)
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


def test_buckets_hold_every_utterance_once_and_like_lengths(corpus):
    length = sum(torch.from_numpy(frames.length) for frames in corpus.splits["train"].frames.values())

    def spread(bucket):
        config = TrainConfig(batch_size=8, bucket=bucket)
        batches = training.epoch(length, config, torch.Generator().manual_seed(0))
        assert sorted(torch.cat(batches).tolist()) == list(range(len(length)))
        return np.mean([float(length[rows].float().std()) for rows in batches if len(rows) > 1])

    assert spread(True) < 0.3 * spread(False)


# ------------------------------------------------------------------------- what defines each system


def test_tfn_is_an_outer_product():
    t, a, v = torch.randn(2, 3), torch.randn(2, 2), torch.randn(2, 4)
    fused = tfn.tensor_fusion([t, a, v])
    for b in range(2):
        one = [[*z[b].tolist(), 1.0] for z in (t, a, v)]
        expected = [x * y * z for x in one[0] for y in one[1] for z in one[2]]
        np.testing.assert_allclose(fused[b].numpy(), expected, rtol=1e-5)


def test_lmf_is_tfn_with_a_weight_of_low_rank(corpus):
    model, batch = fill(demo("LMF", corpus)), batch_of(corpus)
    factors = [model.factor[m] for m in model.modalities]
    weight = torch.einsum("r,rt,ra,rv->tav", model.weight, *factors)
    embedded = [model.nets[m](x, mask) for m, (x, mask) in model.inputs(batch).items()]
    expected = tfn.tensor_fusion(embedded) @ weight.flatten() + model.bias
    torch.testing.assert_close(model(batch).prediction, expected, rtol=1e-3, atol=1e-4)
    assert model.weight.shape == (lmf.Config().rank,)


def test_mfn_step_by_step(corpus):
    """Every equation of the paper as a loop over utterances and steps, with LSTM cells."""
    model, batch = fill(demo("MFN", corpus)), batch_of(corpus, range(3))
    frames, mask = common.aligned(model.inputs(batch))
    cells = {}
    for m, lstm in model.cells.lstm.items():
        cells[m] = nn.LSTMCell(lstm.input_size, lstm.hidden_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(cells[m], name, getattr(lstm, name + "_l0"))
    hidden = model.gates.hidden
    for b in range(3):
        h, c = ({m: torch.zeros(1, cell.hidden_size) for m, cell in cells.items()} for _ in range(2))
        u = torch.zeros(1, model.config.memory)
        for t in range(int(mask[b].sum())):
            before = torch.cat(list(c.values()), 1)
            for m, cell in cells.items():
                h[m], c[m] = cell(frames[m][b, t][None], (h[m], c[m]))
            window = torch.cat([before, *c.values()], 1)
            attended = model.attention(window).softmax(-1) * window
            candidate = torch.tanh(model.candidate(attended))
            inner = torch.relu(model.gates.read(attended) + u @ model.gates.recur)
            retain = torch.sigmoid(model.gates.out[0](inner[:, : hidden[0]]))
            update = torch.sigmoid(model.gates.out[1](inner[:, hidden[0] :]))
            u = retain * u + update * candidate
        expected = model.out(torch.cat([*h.values(), u], 1))[0, 0]
        torch.testing.assert_close(model(batch).prediction[b], expected, rtol=1e-3, atol=1e-4)


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
    expected = new + block.narrow(torch.relu(block.wide(block.norm_ff(new))))
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


def test_misa_losses_by_hand(corpus):
    model, batch = demo("MISA", corpus), batch_of(corpus)
    with torch.no_grad():
        output = model(batch)
    shared, private = (
        {m: x.detach().numpy().astype(float) for m, x in kind.items()} for kind in (output.shared, output.private)
    )

    def cmd(x, y):
        total = np.linalg.norm(x.mean(0) - y.mean(0))
        for k in range(2, 6):
            moment = [((z - z.mean(0)) ** k).mean(0) for z in (x, y)]
            total += np.linalg.norm(moment[0] - moment[1])
        return total

    def overlap(x, y):
        x, y = (z - z.mean(0) for z in (x, y))
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        return ((x.T @ y) ** 2).mean()

    pairs = [("T", "A"), ("T", "V"), ("A", "V")]
    assert float(misa.similarity(output.shared)) == pytest.approx(
        np.mean([cmd(shared[m], shared[n]) for m, n in pairs]), rel=1e-3
    )
    expected = sum(overlap(private[m], shared[m]) for m in "TAV")
    expected += sum(overlap(private[m], private[n]) for m, n in pairs)
    assert float(misa.difference(output)) == pytest.approx(expected, rel=1e-3)
    terms, c = model.losses(output, batch), model.config
    weighted = terms["L_MP"] + c.difference * terms["diff"] + c.similarity * terms["cmd"]
    weighted += c.reconstruction * terms["L_recon"]
    torch.testing.assert_close(terms["total"], weighted)
    assert terms["L_recon"] > 0 and (c.difference, c.similarity, c.reconstruction) == (0.3, 1.0, 1.0)


def test_misa_has_one_shared_encoder_and_a_private_one_each(corpus):
    model, batch = fill(demo("MISA", corpus)), batch_of(corpus)
    output = model(batch)
    for m in "TAV":
        torch.testing.assert_close(output.shared[m], model.shared(output.common[m]))
        torch.testing.assert_close(output.private[m], model.private[m](output.common[m]))


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
        assert float(terms["L_UP"]) == 0  # all labels are still alike
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
    assert float(terms["L_UP"]) > 0 and any(not torch.equal(own[m], batch.label) for m in own)


def test_self_mm_weighs_unimodal_errors_by_the_distance_of_the_labels(corpus):
    model, batch = demo("Self-MM", corpus).train(), batch_of(corpus, range(4))
    model.met += len(corpus.splits["train"])
    for m in "TAV":
        model.memory[m].met[:] = True
        model.memory[m].label[:] = 1.5
    output = model(batch)
    expected = sum((torch.tanh((1.5 - batch.label).abs()) * (p - 1.5).abs()).mean() for p in output.unimodal.values())
    torch.testing.assert_close(model.losses(output, batch)["L_UP"], expected)


def test_bbfn_gates_weigh_old_and_new():
    layer = fill(bbfn.Gated(bbfn.Config(width=8, heads=2)))
    x, y, control = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.randn(2, 16)
    mask = torch.ones(2, 5, dtype=torch.bool)
    new = layer.attention(layer.norm(x), layer.norm(y), mask)
    retain, compound = (1 / (1 + torch.exp(-(control @ g.weight.T + g.bias))) for g in (layer.retain, layer.compound))
    mixed = torch.stack([retain * x[:, t] + compound * new[:, t] for t in range(5)], 1)
    expected = mixed + layer.narrow(torch.relu(layer.wide(layer.norm_ff(mixed))))
    torch.testing.assert_close(layer(x, y, control, mask), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # gates shut: neither the old nor the new passes
        for gate in (layer.retain, layer.compound):
            gate.weight.zero_()
            gate.bias.fill_(-50)
        layer.narrow.weight.zero_()
        layer.narrow.bias.zero_()
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


def test_confede_pairs_by_hand():
    similar, dissimilar = ({m: torch.randn(5, 3) for m in "TAV"} for _ in range(2))
    like, unlike = torch.zeros(5, 5, dtype=torch.bool), torch.zeros(5, 5, dtype=torch.bool)
    like[0, 1] = like[1, 0] = like[0, 2] = True
    unlike[0, 3] = unlike[0, 4] = unlike[3, 0] = True

    def score(x, y):
        return float(F.cosine_similarity(x, y, dim=0)) / 0.5

    losses = []
    for i in range(5):
        for m in "TAV":
            s = similar[m]
            positive = [score(s[i], s[j]) for j in range(5) if like[i, j]]
            negative = [score(s[i], s[j]) for j in range(5) if unlike[i, j]]
            if m == "T":
                positive += [score(s[i], similar[n][i]) for n in "AV"]
                negative += [score(s[i], dissimilar[n][i]) for n in "TAV"]
            against = sum(np.exp(n) for n in negative)
            losses += [-np.log(np.exp(p) / (np.exp(p) + against)) for p in positive]
    found = confede.contrastive_loss(similar, dissimilar, like, unlike, temperature=0.5)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-4)


def test_confede_partners_are_the_nearest_of_the_class_and_both_ends_of_the_others():
    angle = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.5])
    pooled, classes = torch.stack([angle.cos(), angle.sin()], 1), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    like, unlike = confede.partners(pooled, classes, count=1)
    assert like[0].nonzero()[:, 0].tolist() == [1]
    assert unlike[0].nonzero()[:, 0].tolist() == [4, 7]
    alone = confede.partners(pooled, torch.arange(8), count=2)[0]
    assert not alone.any()


def test_confede_counts_single_features_and_takes_unimodal_labels(corpus):
    model, batch = demo("ConFEDE", corpus).eval(), batch_of(corpus)
    output = model(batch)
    own = {m: torch.full_like(batch.label, float(i)) for i, m in enumerate("TAV")}
    terms = model.losses(output, replace(batch, unimodal_labels=own))
    errors = [(model.mono(x)[:, 0] - batch.label).square().mean() for x in output.similar.values()]
    errors += [(model.mono(output.dissimilar[m])[:, 0] - own[m]).square().mean() for m in "TAV"]
    torch.testing.assert_close(terms["L_UP"], torch.stack(errors).mean())
    torch.testing.assert_close(terms["total"], terms["L_MP"] + 0.1 * terms["L_CL"] + 0.01 * terms["L_UP"])


def test_confede_reads_the_cls_row_of_a_transformer():
    read = fill(confede.Read(5, 9, confede.Config(width=8, heads=2, layers=2)))
    x, mask = torch.randn(3, 9, 5), torch.arange(9) < torch.tensor([9, 4, 0])[:, None]
    whole = torch.cat([read.cls.expand(3, -1, -1), read.project(x)], 1) + read.position
    for layer in read.layers:
        whole = layer(whole, src_key_padding_mask=F.pad(~mask, (1, 0)))
    torch.testing.assert_close(read(x, mask), whole[:, 0], rtol=1e-4, atol=1e-5)


def test_mfn_memory_is_gated(corpus):
    model = fill(mfn.Model(mfn.Config(hidden=(4, 4, 4), memory=5), demo("MFN", corpus).inputs, corpus))
    with torch.no_grad():  # the retain gate open and the update gate shut: the memory stays at 0
        for out, bias in zip(model.gates.out, (50, -50), strict=True):
            out.weight.zero_()
            out.bias.fill_(bias)
    assert model.memory(torch.randn(2, 6, 12)).abs().max() < 1e-6


def test_the_readme_system_is_a_tenth_row(corpus, monkeypatch):
    """The file and the line that README shows: it trains, is in the tables, and can be tuned."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = next(block for block in blocks if block.startswith("# finelib/baselines/mean_pool.py"))
    module = ModuleType("mean_pool")
    monkeypatch.setitem(sys.modules, "mean_pool", module)
    exec(file, module.__dict__)
    line = next(block for block in blocks if block.startswith("# finelib/baselines/__init__.py"))
    monkeypatch.setitem(SYSTEMS, *eval("{" + line.split("\n", 1)[1] + "}", {"mean_pool": module}).popitem())
    options = Options(preset="smoke", n_seeds=1)
    spec = next(s for s in tables.block_specs(1, options, options) if s.name == "Mean pool")
    model = models.build(spec.model_config, corpus)
    assert training.fit(model, corpus, spec.train, 0).curves[-1]["dev_mae"] < 3
    assert len(tuning.candidates(spec, 4)) == 4
