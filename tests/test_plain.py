"""FINE as plain.py writes it and as the library computes it: from the same weights the same numbers, in float64."""

import ast
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from finelib import plain
from finelib.config import FineConfig, TrainConfig
from finelib.data.corpora import CORPORA
from finelib.data.features import Batch
from finelib.fine import FINE
from finelib.inputs import Inputs
from finelib.training import Trainer

MOSI = CORPORA["mosi"]
FRAME_WIDTHS = {"T": 12, "A": 5, "V": 7}
CLASS_COUNTS = [3, 5, 20, 30, 20, 5, 3]  # sub-queues of 8, 8, 14, 21, 14, 8, 8
SMALL = {"W": 16, "D_Y": 4, "D_CRITIC": 16, "HEADS": 2}  # constants of plain.py, made small for quick tests
WIDTHS = {"one width": (16, 16, 16), "two widths": (32, 16, 32)}  # d'_m; the paper's are 256, 128, 256


@pytest.fixture(params=WIDTHS)
def models(request, monkeypatch):
    """The library's model, and the plain one with its weights."""
    for name, value in SMALL.items():
        monkeypatch.setattr(plain, name, value)
    return make_models(WIDTHS[request.param], task_width=16, label_width=4, critic_width=16, heads=2)


def make_models(width, **settings):
    """The same FINE twice, without dropout."""
    torch.manual_seed(0)
    config = FineConfig(width=width, dropout=0.0, **settings)
    library = FINE(config, MOSI, Inputs(FRAME_WIDTHS), CLASS_COUNTS).double()
    for p in library.parameters():  # else biases would be 0, and the gains of norms 1
        p.data += 0.05 * torch.randn_like(p)
    for p in library.information.parameters():  # else all scores would be about 0
        p.data *= 4
    d = dict(zip(plain.MODALITIES, width, strict=True))
    ours = plain.FINE(FRAME_WIDTHS, d, CLASS_COUNTS, MOSI.class_edges, MOSI.label_low, MOSI.label_high).double()
    for module in ours.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ours.load_state_dict(as_plain(dict(library.named_parameters()), library))
    return library, ours


def make_batch(size=32, seed=1):
    """Sequences of unlike length, some utterances without any frame of a modality, half of the labels of one class."""
    draw = torch.Generator().manual_seed(seed)
    features, mask = {}, {}
    for place, (m, longest) in enumerate({"T": 7, "A": 12, "V": 9}.items()):
        length = torch.randint(1, longest + 1, (size,), generator=draw)
        length[0], length[1 + place] = longest, 0
        mask[m] = torch.arange(longest) < length[:, None]
        x = torch.randn(size, longest, FRAME_WIDTHS[m], generator=draw, dtype=torch.float64)
        features[m] = x * mask[m][..., None]
    label = 6 * torch.rand(size, generator=draw, dtype=torch.float64) - 3
    label[::2] = label[::2] / 8
    return Batch(features, mask, label, None, torch.arange(size))


# ------------------------------------------------------------------------------ the library's weights under plain names


def as_plain(tensors, library):
    """The library's tensors (weights, or their gradients), by its names, as plain.py names and shapes them."""

    def rows(name, s):
        """Copy s of a stacked linear layer, as nn.Linear has it: (in, out) -> (out, in)."""
        return {"weight": tensors[f"{name}.weight"][s].T, "bias": tensors[f"{name}.bias"][s, 0]}

    def norm(name, s):
        return {"weight": tensors[f"{name}.weight"][s, 0], "bias": tensors[f"{name}.bias"][s, 0]}

    def mlp(name, s):
        return {"0": rows(f"{name}.0", s), "2": rows(f"{name}.2", s)}

    def part(prefix):
        """Whatever has the same names on both sides."""
        return {name.removeprefix(f"{prefix}."): x for name, x in tensors.items() if name.startswith(f"{prefix}.")}

    def attention(name, s, m, e):
        query, value_bias = rows(f"{name}.cross_query", s), tensors[f"{name}.cross_value_bias"][s, 0]
        inside, out = rows(f"{name}.self_in", s), rows(f"{name}.self_out", s)
        return {
            "self_attention": {"in_proj_weight": inside["weight"], "in_proj_bias": inside["bias"], "out_proj": out},
            "cross_attention": {
                "q_proj_weight": query["weight"],
                "k_proj_weight": tensors[f"{name}.cross_key.{m}"][e].flatten(0, 1),  # (H, c, f) -> (d, f)
                "v_proj_weight": tensors[f"{name}.cross_value.{m}"][e].transpose(1, 2).flatten(0, 1),
                # the library has no key bias, since the softmax drops it
                "in_proj_bias": torch.cat([query["bias"], torch.zeros_like(value_bias), value_bias]),
                "out_proj": rows(f"{name}.cross_out", s),
            },
        }

    def expert(name, s, m, e):
        layer = f"{name}.layers.0"
        norms = {"0": norm(f"{name}.norm", s)} | {str(i + 1): norm(f"{layer}.norms.{i}", s) for i in range(3)}
        first = {"query": tensors[f"{name}.query"][s], "norms": norms, "feed_forward": mlp(f"{layer}.feed_forward", s)}
        return first | attention(layer, s, m, e)

    def critic(term, i, widths):
        """Narrower features stand before zeros in the library; the weights of those places are left out."""
        found = {side: mlp(f"information.critics.{term}.{side}", i) for side in "gh"}
        for side, width in zip("gh", widths, strict=True):
            found[side]["0"]["weight"] = found[side]["0"]["weight"][:, :width]
        return found

    half, w, d_y = library.ftre.factor_widths, plain.W, plain.D_Y
    found = {"moq": {}, "ftre": {}, "cls": tensors["fusion.cls"], "group": tensors["fusion.group"]}
    for i, moq in enumerate(library.moq.stacks):
        name = f"moq.stacks.{i}"
        for j, m in enumerate(moq.router):
            experts = {str(e): expert(name, j * plain.EXPERTS + e, m, e) for e in range(plain.EXPERTS)}
            found["moq"][m] = {"experts": experts, "router": part(f"{name}.router.{m}")}
    for i, ftre in enumerate(library.ftre.stacks):
        name, size = f"ftre.stacks.{i}", len(ftre.modalities)
        for j, m in enumerate(ftre.modalities):
            found["ftre"][m] = {
                "shared": mlp(f"{name}.factorise", j),
                "unique": mlp(f"{name}.factorise", size + j),
                "decoder": mlp(f"{name}.decoder", j),
                "str_": mlp(f"{name}.task", j),
                "utr": mlp(f"{name}.task", size + j),
            }
    found |= {"fusion": part("fusion.layers.0"), "norm": part("fusion.norm"), "head": part("head")}
    found["unimodal"] = {m: mlp("unimodal", j) for j, m in enumerate(plain.MODALITIES)}
    pairs = list(enumerate(plain.PAIRS))
    found["information"] = {
        "sha": {m + n: critic("I_sha", i, (half[m], half[n])) for i, (m, n) in pairs},
        "uni": {m + n: critic("I_uni", i, (half[m], half[n])) for i, (m, n) in pairs},
        "str_": {m + n: critic("I_str", i, (w + d_y, w + d_y)) for i, (m, n) in pairs},
        "utr": {m: critic("I_utr", j, (w, d_y)) for j, m in enumerate(plain.MODALITIES)},
        "label_shared": part("information.label_shared"),
        "label_unique": {m: mlp("information.label_unique", j) for j, m in enumerate(plain.MODALITIES)},
    }
    return flat(found)


def flat(tree, prefix=""):
    """{"a": {"b": x}} -> {"a.b": x}."""
    found = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value.detach().clone()}
    return found


def run(model, batch):
    """Output and loss terms of either model."""
    if isinstance(model, plain.FINE):
        out = model(batch.features, batch.mask)
        return out, model.losses(out, batch.label)
    out = model(batch)
    return out, model.losses(out, batch)


def same(ours, theirs, what):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11, msg=lambda text: f"{what}: {text}")


def gradients(model):
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


# --------------------------------------------------------------------------------------------------------------- tests


def test_plain_imports_torch_and_the_standard_library_alone():
    tree = ast.parse(Path(plain.__file__).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"torch"}


def test_constants_are_the_defaults_of_the_library():
    c, t = FineConfig(), TrainConfig()
    assert (plain.EXPERTS, plain.QUERIES, plain.TOP_K, plain.HEADS) == (c.experts, c.queries, c.top_k, c.heads)
    assert (plain.W, plain.D_Y, plain.D_CRITIC, plain.DROPOUT) == (
        c.task_width,
        c.label_width,
        c.critic_width,
        c.dropout,
    )
    assert (plain.TAU, plain.ALPHA, plain.MINIMUM) == (c.tau, c.queue_alpha, c.queue_minimum)
    assert (plain.LAMBDA_UP, plain.LAMBDA_CL, plain.LAMBDA_AUX, plain.BETA_MI) == (
        c.lambda_up,
        c.lambda_cl,
        c.lambda_aux,
        c.beta_mi,
    )
    assert (plain.LR, plain.CRITIC_SPEED, plain.WEIGHT_DECAY, plain.CLIP) == (
        t.lr,
        t.critic_speed,
        t.weight_decay,
        t.clip,
    )


def test_sizes_of_the_demo_configuration():
    """Every number of the library is in the plain model, and the key biases that the softmax drops."""
    library, ours = (model.eval() for model in make_models(FineConfig().width))
    key_biases = len(plain.MODALITIES) * plain.EXPERTS * 128
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in library.parameters()) + key_biases
    with torch.no_grad():
        (mine, my_terms), (out, terms) = run(ours, make_batch(8)), run(library, make_batch(8))
    same(mine.prediction, out.prediction, "prediction")
    same(my_terms["total"], terms["total"], "total")


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_predictions_and_features_are_equal(models, training):
    library, ours = (model.train(training) for model in models)
    batch = make_batch()
    (mine, _), (out, _) = run(ours, batch), run(library, batch)
    same(mine.prediction, out.prediction, "prediction")
    same(mine.cls, out.cls.flatten(1), "[CLS]")
    for m in plain.MODALITIES:
        same(mine.tokens[m], out.moq[m].tokens, f"tokens {m}")
        same(mine.gate[m], out.moq[m].gate, f"gate {m}")
        same(mine.unimodal[m], out.unimodal[m][:, 0], f"unimodal prediction {m}")
        for kind in ("shared", "unique", "str_", "utr"):
            same(getattr(mine, kind)[m], getattr(out.features, kind)[m], f"{kind} {m}")


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_every_loss_term_and_every_gradient_is_equal(models, training):
    library, ours = (model.train(training) for model in models)
    signs = set()
    for seed in (1, 2, 4):  # in training, the later batches meet a queue that is not empty
        batch = make_batch(seed=seed)
        (_, mine), (_, terms) = run(ours, batch), run(library, batch)
        assert set(mine) == set(terms)
        for name, value in terms.items():
            same(mine[name], value, name)
        signs.add(bool(terms["I_uni"] > 0))
        for model, total in ((ours, mine["total"]), (library, terms["total"])):
            model.zero_grad()
            total.backward()
        expected = as_plain(gradients(library), library)
        assert expected.keys() == dict(ours.named_parameters()).keys()
        for name, gradient in gradients(ours).items():
            same(gradient, expected[name], f"gradient of {name}")
    assert signs == {True, False}  # with the gradient of I_uni, and without it


def test_terms_are_equal_where_no_class_has_two_utterances(models):
    library, ours = (model.eval() for model in models)
    batch = make_batch(4)
    batch.label[:] = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    (_, mine), (_, terms) = run(ours, batch), run(library, batch)
    assert mine["I_str"] == terms["I_str"] == 0 and mine["L_CL"] == terms["L_CL"] == 0
    for name, value in terms.items():
        same(mine[name], value, name)


def test_queues_hold_the_same_after_batches_that_overflow_them(models):
    library, ours = (model.train() for model in models)
    assert [q.maxlen for q in ours.queue] == [8, 8, 14, 21, 14, 8, 8] == library.queue.capacity.tolist()
    within = across = False
    for seed in range(1, 7):
        batch = make_batch(48, seed)
        if seed == 3:
            batch.label[:30] = torch.linspace(-0.4, 0.4, 30)  # 30 of class 3 at once
        arriving = torch.bincount(MOSI.class_of(batch.label), minlength=7)
        filled = torch.tensor([len(q) for q in ours.queue])
        within |= bool((arriving > library.queue.capacity).any())
        across |= bool(((filled > 0) & (filled + arriving > library.queue.capacity)).any())
        (_, mine), (_, terms) = run(ours, batch), run(library, batch)
        same(mine["L_CL"], terms["L_CL"], "L_CL")
        for c, (z, label) in enumerate(in_order(library.queue)):
            rows = ours.queue[c]
            assert all(row[2] == c for row in rows)
            same(torch.stack([row[0] for row in rows]), z, f"z of class {c}")
            assert [row[1].item() for row in rows] == label.tolist()
    assert within and across


def in_order(queue):
    """z and label of each sub-queue of the library, oldest first."""
    for start, size, following in zip(queue.start, queue.capacity, queue.next_slot, strict=True):
        slots = start + (following + torch.arange(int(size))) % size
        slots = slots[queue.filled[slots]]
        yield queue.features[slots], queue.label[slots]


def test_evaluation_leaves_the_queue_alone(models):
    ours = models[1].eval()
    run(ours, make_batch())
    assert not any(ours.queue)


def test_training_steps_are_equal(models):
    """Loss, backward, clip by role, AdamW: three steps of ``step`` and of the library's Trainer."""
    library, ours = (model.train() for model in models)
    config = TrainConfig(epochs=10**9, warmup=0.0, weight_decay=0.0, device="cpu")  # the rate stays at its peak
    trainer = Trainer(library, SimpleNamespace(info=MOSI), config, 0, splits={"train": range(64)})
    optimisers = plain.make_optimisers(ours)
    for group in (group for optimiser in optimisers for group in optimiser.param_groups):
        group["weight_decay"] = 0.0
    for seed in (1, 2, 3):
        batch = make_batch(seed=seed)
        terms = trainer.losses(batch)
        terms["total"].backward()
        norms = clipped_norms(trainer)
        trainer.step()
        mine = plain.step(ours, optimisers, batch.features, batch.mask, batch.label)
        same(mine["total"], terms["total"], "total")
        expected = as_plain(dict(library.named_parameters()), library)
        for name, p in ours.named_parameters():
            same(p.detach(), expected[name], f"{name} after a step")
    assert min(norms.values()) > plain.CLIP  # both clips do something


def clipped_norms(trainer):
    """Role -> norm of its gradients."""
    found = {}
    for group in trainer.optimiser.param_groups:
        squares = sum(float(p.grad.square().sum()) for p in group["params"] if p.grad is not None)
        found[group["role"]] = found.get(group["role"], 0.0) + squares
    return {role: math.sqrt(total) for role, total in found.items()}


def test_weight_decay_acts_on_matrices(models):
    """One step with decay, which the library's stacked biases and norms, of three axes, do not have."""
    library, ours = (model.train() for model in models)
    config = TrainConfig(epochs=10**9, warmup=0.0, device="cpu")
    trainer = Trainer(library, SimpleNamespace(info=MOSI), config, 0, splits={"train": range(64)})
    batch = make_batch()
    trainer.losses(batch)["total"].backward()
    trainer.step()
    plain.step(ours, plain.make_optimisers(ours), batch.features, batch.mask, batch.label)
    expected = as_plain(dict(library.named_parameters()), library)
    for name, p in ours.named_parameters():
        same(p.detach(), expected[name], f"{name} after a step")
