"""FINE as a whole: what prediction may depend on, what the objective is made of, what gets a gradient."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from finelib.baselines.variants import VARIANTS, VariantConfig
from finelib.config import FineConfig
from finelib.contrastive import contrastive_loss
from finelib.data.corpora import CORPORA
from finelib.data.features import Batch
from finelib.fine import FINE
from finelib.inputs import Inputs, Standardise

WIDTHS = {"T": 6, "A": 5, "V": 3}
SMALL = FineConfig(width=(16, 8, 16), task_width=16, heads=2, critic_width=16, label_width=4)
SUBSETS = [s for n in (1, 2, 3) for s in combinations("TAV", n)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make(config=SMALL, corpus="mosi", inputs=None):
    info = CORPORA[corpus]
    kind = VARIANTS[config.variant] if isinstance(config, VariantConfig) else FINE
    inputs = inputs or Inputs({m: WIDTHS[m] for m in config.modalities})
    return kind(config, info, inputs, [20] * (len(info.class_edges) + 1)).eval()


def make_batch(size=16, corpus="mosi"):
    info, features, mask = CORPORA[corpus], {}, {}
    for m, longest in {"T": 7, "A": 12, "V": 9}.items():
        length = torch.randint(1, longest + 1, (size,))
        length[0] = longest
        mask[m] = torch.arange(longest) < length[:, None]
        features[m] = torch.randn(size, longest, WIDTHS[m]) * mask[m][..., None]
    label = info.label_low + (info.label_high - info.label_low) * torch.rand(size)
    label = label.round() if corpus == "ur_funny" else label
    return Batch(features, mask, label, None, torch.arange(size))


def perturb(module):
    """Other values in every parameter and buffer that holds real numbers."""
    for x in (*module.parameters(), *module.buffers()):
        if x.is_floating_point():
            x.data.normal_()


def test_predictions_depend_on_neither_labels_nor_critics_nor_queue():
    model, batch = make(), make_batch()
    before = model(batch)
    perturb(model.information)
    perturb(model.queue)
    model.queue.filled.fill_(True)
    after = model(replace(batch, label=-batch.label.flip(0)))
    assert torch.equal(before.prediction, after.prediction)
    assert torch.equal(before.cls, after.cls)
    perturb(model.head)  # and the test would notice
    assert not torch.equal(before.prediction, model(batch).prediction)


@pytest.mark.parametrize(("variant", "same"), [(None, True), ("w/o MoQ + LSTM", False)])
def test_the_order_of_frames_is_not_seen_where_q_formers_read_them(variant, same):
    """Eq. 1 has no positions: a modality's frames are a set. An LSTM in that place sees their order."""
    model, batch = make(VariantConfig(**vars(SMALL), variant=variant) if variant else SMALL), make_batch()
    shuffled = {m: x.clone() for m, x in batch.features.items()}
    for m, x in shuffled.items():
        for frames, real in zip(x, batch.mask[m], strict=True):
            n = int(real.sum())
            frames[:n] = frames[torch.randperm(n)]
    found = torch.allclose(model(batch).prediction, model(replace(batch, features=shuffled)).prediction, atol=1e-6)
    assert found == same


@pytest.mark.parametrize("modalities", SUBSETS, ids="".join)
def test_every_subset_of_modalities_uses_just_those(modalities):
    model, batch = make(replace(SMALL, modalities=modalities)).train(), make_batch(8)
    batch = replace(batch, features={m: batch.features[m] for m in modalities})  # a look at another would fail
    out = model(batch)
    terms = model.losses(out, batch)
    assert out.prediction.shape == (8,) and out.cls.shape == (8, len(modalities), 16)
    assert tuple(out.unimodal) == modalities
    assert all(value.isfinite() for value in terms.values())
    terms["total"].backward()
    model.eval()
    for m in modalities:  # and each of them counts
        other = replace(batch, features=batch.features | {m: -batch.features[m]})
        assert not torch.equal(model(batch).prediction, model(other).prediction)


def test_total_is_the_sum_of_eq_14():
    config = replace(
        SMALL,
        lambda_up=0.3,
        lambda_cl=0.7,
        lambda_aux=0.11,
        beta_mi=0.9,
        weight_sha=1.3,
        weight_uni=0.6,
        weight_recon=1.7,
        weight_str=0.8,
        weight_utr=0.5,
    )
    model, batch = make(config), make_batch()
    out = model(batch)
    t = {name: value.item() for name, value in model.losses(out, batch).items()}
    mp = (out.prediction - batch.label).square().mean().item()
    up = sum((x[:, 0] - batch.label).square().mean().item() for x in out.unimodal.values()) / 3
    aux = sum(x.load_balance.item() for x in out.moq.values()) / 3
    classes = batch.label.round().long() + 3
    cl = contrastive_loss(F.normalize(out.cls.flatten(1), dim=-1), batch.label, classes, None, 6.0, 0.1).item()
    mi = -1.3 * t["I_sha"] + 0.6 * max(0, t["I_uni"]) + 1.7 * t["L_recon"] + 0.8 * max(0, t["I_str"]) - 0.5 * t["I_utr"]
    for name, expected in (("L_MP", mp), ("L_UP", up), ("L_aux", aux), ("L_CL", cl), ("L_MI", mi)):
        assert t[name] == pytest.approx(expected, rel=1e-5), name
    assert t["total"] == pytest.approx(mp + 0.3 * up + 0.7 * cl + 0.11 * aux + 0.9 * mi + t["critic"], rel=1e-5)


def test_unimodal_labels_are_the_unimodal_targets_where_there_are_any():
    model, batch = make(corpus="ch_sims"), make_batch(corpus="ch_sims")
    own = {m: torch.rand(16) for m in "TAV"}
    out = model(batch)
    up = model.losses(out, replace(batch, unimodal_labels=own))["L_UP"]
    expected = sum((out.unimodal[m][:, 0] - own[m]).square().mean() for m in "TAV") / 3
    torch.testing.assert_close(up, expected)


def test_queue_is_filled_in_training_only_and_after_the_loss():
    model, batch = make(), make_batch()
    out = model(batch)
    first = model.losses(out, batch)["L_CL"]
    assert not model.queue.filled.any()
    in_training = model.train().losses(out, batch)["L_CL"]
    assert torch.equal(first, in_training)
    assert model.queue.filled.sum() == 16
    assert sorted(model.queue.label[model.queue.filled].tolist()) == sorted(batch.label.tolist())
    assert model.eval().losses(out, batch)["L_CL"] != first
    assert model.queue.filled.sum() == 16


@pytest.mark.parametrize(
    "config",
    [SMALL, replace(SMALL, qformer_layers=2, contrast_features="task", contrast="supcon", str_negatives="batch")],
)
def test_total_reaches_every_parameter(config):
    model, batch = make(config), make_batch(32)
    model.losses(model(batch), batch)["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_cross_entropy():
    model, batch = make(replace(SMALL, loss="cross_entropy"), "ur_funny"), make_batch(corpus="ur_funny")
    out = model(batch)
    assert out.logits.shape == (16, 2)
    likelihood = torch.where(batch.label == 1, out.prediction, 1 - out.prediction)
    torch.testing.assert_close(model.losses(out, batch)["L_MP"], -likelihood.log().mean())


@pytest.mark.parametrize(
    "change, message",
    [({"loss": "cross_entropy"}, "needs two classes, CMU-MOSI has 7"), ({"modalities": ()}, "non-empty subset")],
)
def test_impossible_models_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make(replace(SMALL, **change))


def test_extra_padding_does_not_change_predictions():
    scaled = {m: Standardise(torch.randn(w), torch.rand(w) + 0.5) for m, w in WIDTHS.items()}
    model = make(inputs=Inputs(WIDTHS, scaled))
    batch = make_batch()
    longer = replace(
        batch,
        features={m: F.pad(x, (0, 0, 0, 5)) for m, x in batch.features.items()},
        mask={m: F.pad(x, (0, 5)) for m, x in batch.mask.items()},
    )
    torch.testing.assert_close(model(batch).prediction, model(longer).prediction, atol=1e-6, rtol=0)


def test_standardise_is_a_clipped_z_score_with_zero_padding():
    x = torch.tensor([[[3.0, 5.0], [1.0, 500.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    out = Standardise(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.5]))(x, mask)
    torch.testing.assert_close(out, torch.tensor([[[1.0, 0.0], [0.0, 10.0], [0.0, 0.0]]]))


def test_token_ids_go_through_the_text_encoder():
    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(11, WIDTHS["T"])

        def forward(self, ids, mask):
            return self.table(ids)

    encoder = Table()
    model = make(inputs=Inputs(WIDTHS, text_encoder=encoder))
    batch = make_batch()
    ids = torch.randint(11, batch.mask["T"].shape)
    encoded = encoder(ids, None) * batch.mask["T"][..., None]
    from_ids = model(replace(batch, features=batch.features | {"T": ids}))
    model.inputs.text_encoder = None
    from_features = model(replace(batch, features=batch.features | {"T": encoded}))
    torch.testing.assert_close(from_ids.prediction, from_features.prediction)


@pytest.mark.parametrize("layers", [1, 2])
def test_fusion_equals_a_whole_transformer_read_at_the_cls_positions(layers):
    model, batch = make(replace(SMALL, fusion_layers=layers)), make_batch()
    fusion, features = model.fusion, model(batch).features
    groups = []
    for i, m in enumerate(model.modalities):
        cls = fusion.cls[i].expand(len(batch), 1, -1)
        groups += [cls, features.str_[m] + fusion.group[i, 0], features.utr[m] + fusion.group[i, 1]]
    tokens = torch.cat(groups, 1)
    for layer in fusion.layers:
        tokens = layer(tokens)
    step = 1 + 2 * model.config.queries
    torch.testing.assert_close(fusion(features), fusion.norm(tokens)[:, ::step], rtol=1e-4, atol=1e-5)


def test_prediction_loss_alone_teaches_every_part_of_the_forward_pass():
    model, batch = make().train(), make_batch()
    model.losses(model(batch), batch)["L_MP"].backward()
    encoders = [part for stack in model.ftre.stacks for part in (stack.factorise, stack.task)]
    for part in (model.moq, *encoders, model.fusion, model.head):
        silent = [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()]
        assert silent == [], silent
    for stack in model.ftre.stacks:
        of_str, of_utr = stack.task[0].weight.grad.chunk(2)
        assert of_str.any() and of_utr.any()
