"""ACCon, SupCon and the queue against plain loops, hand-worked values and collections.deque."""

import math
from collections import deque

import pytest
import torch
import torch.nn.functional as F

from finelib.contrastive import DynamicContrastiveQueue, angle_compensated_cosine, contrastive_loss, queue_capacity


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
def test_compensated_cosine_is_smallest_at_an_angle_proportional_to_label_distance(share):
    theta = torch.linspace(0.01, math.pi - 0.01, 2000, dtype=torch.float64)
    value = angle_compensated_cosine(theta.cos(), torch.full_like(theta, 6 * share), 6.0)
    assert theta[value.argmin()].item() == pytest.approx(math.pi * share, abs=0.003)
    torch.testing.assert_close(value, (theta + math.pi * (1 - share)).cos(), atol=1e-4, rtol=0)


def test_sign_of_the_label_difference_does_not_matter_and_gradient_is_finite():
    cosine = torch.tensor([-1.0, -0.3, 0.0, 0.9, 1.0], requires_grad=True)
    distance = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    a, b = (angle_compensated_cosine(cosine, d, 6.0) for d in (distance, -distance))
    assert torch.equal(a, b)
    a.sum().backward()
    assert cosine.grad.isfinite().all()


def loop_loss(z, label, classes, queued, label_range, tau, compensate):
    """Eq. 13, item by item; ``queued`` holds (z, label, class)."""
    items = [(z[i], label[i].item(), classes[i].item()) for i in range(len(z))]
    losses = []
    for i, (zi, yi, ci) in enumerate(items):
        positive, negative = [], []
        for zj, yj, cj in items[:i] + items[i + 1 :] + queued:
            cosine = float(zi @ zj)
            if ci == cj:
                positive.append(cosine)
            elif compensate:
                negative.append(math.cos(math.acos(cosine) + math.pi * (1 - abs(yi - yj) / label_range)))
            else:
                negative.append(cosine)
        if positive:
            total = sum(math.exp(c / tau) for c in positive + negative)
            losses.append(-sum(math.log(math.exp(c / tau) / total) for c in positive) / len(positive))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("compensate", [True, False])
@pytest.mark.parametrize("queued", [False, True])
def test_loss_equals_eq_13_item_by_item(compensate, queued):
    z, label = unit(9, 5), torch.rand(9, dtype=torch.float64) * 6 - 3
    classes = torch.tensor([0, 0, 1, 1, 1, 2, 3, 0, 1])  # 2 and 3 are alone in the batch, 2 has a partner in the queue
    memory, held = None, []
    if queued:
        memory = DynamicContrastiveQueue([3, 4, 3, 2], 5).double()
        others, other_label, other_class = unit(4, 5), torch.tensor([-2.0, 0.5, 1.0, 1.5]).double(), [0, 1, 2, 1]
        memory.enqueue(others, other_label, torch.tensor(other_class))
        held = list(zip(others, other_label.tolist(), other_class, strict=True))
    loss = contrastive_loss(z, label, classes, memory, 6.0, tau=0.2, compensate=compensate)
    expected = loop_loss(z, label, classes, held, 6.0, 0.2, compensate)
    assert loss.item() == pytest.approx(expected, abs=1e-4)


def test_hand_worked_values():
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # the third has no positive and is skipped
    label, classes = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0, 0, 1])
    supcon = contrastive_loss(z, label, classes, None, 2.0, tau=1.0, compensate=False)
    assert supcon.item() == pytest.approx(math.log(math.e + 1) - 1)
    # theta = pi/2 and phi = pi/2: the negative counts as cos(pi) = -1
    accon = contrastive_loss(z, label, classes, None, 2.0, tau=1.0)
    assert accon.item() == pytest.approx(math.log(math.e + 1 / math.e) - 1, abs=1e-5)


def test_accon_equals_supcon_for_binary_labels():
    z, classes = unit(12, 4), torch.arange(12) % 2
    a, b = (contrastive_loss(z, classes.double(), classes, None, 1.0, compensate=c) for c in (True, False))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 3])
def test_without_any_positive_the_loss_and_its_gradient_are_zero(size):
    z = unit(size, 4).requires_grad_()
    memory = DynamicContrastiveQueue([2] * size, 4).double()
    loss = contrastive_loss(z, torch.arange(size).double(), torch.arange(size), memory, 6.0)
    loss.backward()
    assert loss.item() == 0 and (z.grad == 0).all()


def test_an_empty_queue_changes_nothing_and_a_filled_one_carries_no_gradient():
    z, label, classes = unit(6, 4).requires_grad_(), torch.arange(6).double(), torch.arange(6) % 2
    memory = DynamicContrastiveQueue([4, 4], 4).double()
    torch.testing.assert_close(
        contrastive_loss(z, label, classes, memory, 6.0), contrastive_loss(z, label, classes, None, 6.0)
    )
    memory.enqueue(z, label, classes)
    assert not any(b.requires_grad for b in memory.buffers())
    later = unit(6, 4).requires_grad_()
    contrastive_loss(later, label, classes, memory, 6.0).backward()
    assert z.grad is None and later.grad.abs().sum() > 0


@pytest.mark.parametrize("largest", [3, 40])  # batches smaller than, and several times as large as, a sub-queue
def test_queue_is_first_in_first_out_per_class(largest):
    capacity = [3, 1, 5, 2]
    memory = DynamicContrastiveQueue(capacity, 2)
    plain = [deque(maxlen=c) for c in capacity]
    stamp = 0
    for _ in range(40):
        size = int(torch.randint(1, largest + 1, ()))
        classes = torch.randint(4, (size,))
        label = torch.arange(stamp, stamp + size, dtype=torch.float32)
        stamp += size
        memory.enqueue(torch.stack([label, -label], 1), label, classes)
        for c, y in zip(classes.tolist(), label.tolist(), strict=True):
            plain[c].append(y)
        for c, expected in enumerate(plain):
            held = (memory.slot_class == c) & memory.filled
            assert sorted(memory.label[held].tolist()) == list(expected)
        filled = memory.filled
        assert torch.equal(memory.features[filled], torch.stack([memory.label, -memory.label], 1)[filled])


def test_state_goes_on_where_it_was():
    one, two = (DynamicContrastiveQueue([3, 2], 2) for _ in range(2))
    batches = [(torch.randn(4, 2), torch.randn(4), torch.randint(2, (4,))) for _ in range(4)]
    for b in batches[:2]:
        one.enqueue(*b)
    two.load_state_dict(one.state_dict())
    for b in batches[2:]:
        one.enqueue(*b)
        two.enqueue(*b)
    for a, b in zip(one.buffers(), two.buffers(), strict=True):
        assert torch.equal(a, b)


def test_capacity():
    assert queue_capacity([100, 15, 3], 0.7, 8) == [70, 10, 8]
    with pytest.raises(ValueError, match="at least 1 slot"):
        DynamicContrastiveQueue([3, 0], 2)


def test_one_anchor_against_a_queue_by_hand():
    """SupCon at tau = 0.1, one positive and one negative in the queue: log(1 + exp((s- - s+) / tau))."""
    z, kept = torch.tensor([[1.0, 2.0, 2.0]]) / 3, torch.tensor([[2.0, 2.0, 1.0], [2.0, -1.0, 2.0]]) / 3
    memory = DynamicContrastiveQueue([1, 1], 3)
    memory.enqueue(kept, torch.tensor([-1.0, 1.0]), torch.tensor([0, 1]))
    loss = contrastive_loss(z, torch.tensor([-1.0]), torch.tensor([0]), memory, 6.0, compensate=False)
    assert float(loss) == pytest.approx(math.log(1 + math.exp((4 / 9 - 8 / 9) / 0.1)), abs=1e-5)
