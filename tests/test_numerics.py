"""Unusual numbers: whatever a batch holds, losses and gradients are finite and within their bounds."""

import math
from dataclasses import replace

import pytest
import torch
from test_fine import SMALL, WIDTHS, make, make_batch
from torch.autograd import gradcheck

from finelib.contrastive import DynamicContrastiveQueue, angle_compensated_cosine, contrastive_loss
from finelib.data.corpora import CORPORA
from finelib.mutual_information import CRITICS, frozen, info_nce, nce_club

MOSI = CORPORA["mosi"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scaled(factor):
    return lambda b: replace(b, features={m: x * factor for m, x in b.features.items()})


def frames(count, size=4):
    """A batch of utterances with ``count`` frames in each modality."""
    features = {m: torch.randn(size, count, d) for m, d in WIDTHS.items()}
    mask = {m: torch.ones(size, count, dtype=torch.bool) for m in WIDTHS}
    return lambda b: replace(b, features=features, mask=mask, label=b.label[:size], index=b.index[:size])


def nothing_but_padding(b):
    return replace(
        b,
        features={m: torch.zeros_like(x) for m, x in b.features.items()},
        mask={m: torch.zeros_like(x) for m, x in b.mask.items()},
    )


def part(b, rows):
    return replace(
        b,
        features={m: x[rows] for m, x in b.features.items()},
        index=b.index[rows],
        mask={m: x[rows] for m, x in b.mask.items()},
        label=b.label[rows],
    )


BATCHES = {
    "one utterance": lambda b: part(b, slice(0, 1)),
    "two utterances": lambda b: part(b, slice(0, 2)),
    "equal labels": lambda b: replace(b, label=torch.full_like(b.label, 1.4)),
    "labels at both ends": lambda b: replace(b, label=b.label.sign() * 3),
    "constant features": lambda b: replace(b, features={m: torch.ones_like(x) for m, x in b.features.items()}),
    "equal utterances": lambda b: part(b, [0] * 8),
    "padding alone": nothing_but_padding,
    "one frame": frames(1),
    "10,000 frames": frames(10_000),
    "features of 1e6": scaled(1e6),
    "features of 1e-30": scaled(1e-30),
}
CONFIGS = {
    "demo's parts": SMALL,
    "concat critic": replace(SMALL, critic="concat"),
    "no queue": replace(SMALL, queue_alpha=0.0),
    "supcon": replace(SMALL, contrast="supcon"),
    "negatives in batch": replace(SMALL, str_negatives="batch"),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", BATCHES)
def test_losses_and_gradients_are_finite_and_in_their_bounds(name, config):
    model, batch = make(CONFIGS[config]).train(), BATCHES[name](make_batch())
    for _ in range(2):  # the second time with a queue that is filled
        model.zero_grad()
        terms = model.losses(model(batch), batch)
        terms["total"].backward()
        assert all(bool(value.isfinite()) for value in terms.values()), terms
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
        bound = 3 * math.log(len(batch)) + 1e-4  # of InfoNCE over three pairs, and over three modalities
        assert all(float(terms[name]) <= bound for name in ("I_sha", "I_utr"))
        assert float(terms["L_aux"]) >= 1 - 1e-4 and float(terms["L_CL"]) >= -1e-4


@pytest.mark.parametrize("name", [name for name in BATCHES if name != "10,000 frames"])
def test_bfloat16_agrees_with_float32(name):
    model, batch = make().eval(), BATCHES[name](make_batch())
    exact = model.losses(model(batch), batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.losses(model(batch), batch)
    assert all(bool(value.isfinite()) for value in rounded.values())
    assert float(rounded["total"]) == pytest.approx(float(exact["total"]), rel=0.15, abs=0.15)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


same_bin = torch.tensor([0, 0, 1, 1, 1, 2])[:, None] == torch.tensor([0, 0, 1, 1, 1, 2])
GRADIENTS = {
    "InfoNCE": lambda: (info_nce, (doubles(2, 6, 6),)),
    "InfoNCE, both directions, same bin": lambda: (lambda s: info_nce(s, same_bin, True), (doubles(2, 6, 6),)),
    "NCE-CLUB": lambda: (nce_club, (doubles(2, 6, 6),)),
    "NCE-CLUB, same bin": lambda: (lambda s: nce_club(s, same_bin, True), (doubles(2, 6, 6),)),
    "compensated cosine": lambda: (
        lambda c: angle_compensated_cosine(c.tanh(), torch.linspace(-6, 6, 12, dtype=torch.float64).view(3, 4), 6.0),
        (doubles(3, 4),),
    ),
    **{
        f"critic, {kind}": lambda kind=kind: (critic_score(kind), (doubles(1, 4, 3), doubles(1, 4, 2)))
        for kind in CRITICS
    },
    **{
        f"L_CL, ACCon {accon}, queue {queued}": lambda a=accon, q=queued: (contrast(a, q), (doubles(6, 5),))
        for accon in (True, False)
        for queued in (True, False)
    },
}


def critic_score(kind):
    critic = CRITICS[kind](1, 3, 2, width=4).double()
    return lambda x, y: frozen(critic, x, y)


def contrast(accon, queued):
    label, classes = torch.tensor([-2.0, -1.8, 0.1, 0.3, 2.0, 3.0]).double(), torch.tensor([0, 0, 1, 1, 2, 2])
    memory = DynamicContrastiveQueue([2, 2, 2], 5).double() if queued else None
    if queued:
        memory.enqueue(torch.nn.functional.normalize(torch.randn(4, 5).double(), dim=1), label[:4], classes[:4])
    return lambda z: contrastive_loss(
        torch.nn.functional.normalize(z, dim=1), label, classes, memory, 6.0, compensate=accon
    )


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_the_differences_of_the_values(name):
    loss, inputs = GRADIENTS[name]()
    assert gradcheck(loss, inputs)


def test_one_class_and_an_empty_queue_of_the_others():
    z = torch.nn.functional.normalize(torch.randn(5, 4), dim=1).requires_grad_()
    memory = DynamicContrastiveQueue([3, 3], 4)
    loss = contrastive_loss(z, torch.ones(5), torch.zeros(5, dtype=torch.long), memory, 6.0)
    (gradient,) = torch.autograd.grad(loss, z)
    assert math.log(4) - 1e-5 <= float(loss.detach()) < 30 and bool(gradient.isfinite().all())


def test_cosines_a_rounding_error_beyond_one():
    cosine = torch.tensor([[1 + 1e-6, -1 - 1e-6]], dtype=torch.float64, requires_grad=True)
    value = angle_compensated_cosine(cosine, torch.tensor([[3.0, 3.0]]).double(), 6.0)
    assert value.tolist() == [pytest.approx([-1e-3, -1e-3], abs=1e-9)]  # cos(pi / 2) = 0, sine of the small constant
    (gradient,) = torch.autograd.grad(value.sum(), cosine)
    assert bool(gradient.isfinite().all())
