"""Dynamic Contrastive Queue, ACCon and SupCon (Eq. 13)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def angle_compensated_cosine(
    cosine: Float[Tensor, "N M"], distance: Float[Tensor, "N M"], label_range: float
) -> Float[Tensor, "N M"]:
    """``cos(theta + phi)``, ``phi = pi (1 - |y_i - y_m| / L)``: ACCon's similarity of a negative pair (Eq. 13).

    It is smallest at ``theta = pi |y_i - y_m| / L``, so a negative is pushed to an angle proportional to its
    label distance instead of as far as possible; at distance L it is the plain cosine.

    Args:
        cosine: cos(theta) of each pair.
        distance: label difference of each pair; its sign does not matter.
        label_range: L, the length of the label range.
    """
    phi = math.pi * (1 - distance.abs() / label_range)
    cosine = cosine.clamp(-1, 1)
    sine = (1 - cosine.square() + 1e-6).sqrt()  # the small constant keeps the gradient finite at |cos| = 1
    return cosine * phi.cos() - phi.sin() * sine


def contrastive_loss(
    z: Float[Tensor, "B d"],
    label: Float[Tensor, "B"],
    classes: Int[Tensor, "B"],
    memory: DynamicContrastiveQueue | None,
    label_range: float,
    tau: float = 0.1,
    compensate: bool = True,
) -> Float[Tensor, ""]:
    """L_CL (Eq. 13) of a batch against itself and the queue.

    Positives of an anchor are all others of its class, negatives all of other classes; the denominator holds
    both, negatives with the angle-compensated cosine. Anchors without a positive are skipped, and without any
    anchor the loss is 0.

    Args:
        z: unit vectors.
        label, classes: continuous labels (for the compensation) and class indices (for positives).
        memory: the queue, or None for the batch alone.
        label_range: L of ACCon.
        tau: temperature.
        compensate: ACCon; False gives SupCon (Khosla et al. 2020), negatives with their plain cosine.
    """
    others, other_label, other_class = z, label, classes
    usable = ~torch.eye(len(z), dtype=torch.bool, device=z.device)  # no anchor is its own positive or negative
    if memory is not None:
        others = torch.cat([z, memory.features])
        other_label = torch.cat([label, memory.label])
        other_class = torch.cat([classes, memory.slot_class])
        usable = torch.cat([usable, memory.filled.expand(len(z), -1)], 1)
    cosine = z @ others.T  # (B, B + Q)
    same = (classes[:, None] == other_class) & usable
    negative = cosine
    if compensate:
        negative = angle_compensated_cosine(cosine, label[:, None] - other_label, label_range)
    logits = torch.where(same, cosine, negative) / tau
    normaliser = logits.masked_fill(~usable, torch.finfo(logits.dtype).min).logsumexp(1)
    count = same.sum(1)
    per_anchor = normaliser - (logits * same).sum(1) / count.clamp(min=1)
    return per_anchor.masked_fill(count == 0, 0).sum() / (count > 0).sum().clamp(min=1)


class DynamicContrastiveQueue(nn.Module):
    """Class-wise first-in-first-out sub-queues of detached features and labels.

    All sub-queues lie one after another in one buffer, so that a batch is written and read without a loop and
    without a transfer to the host. Everything is a buffer: the state is saved and restored with the model.

    Args:
        capacity: slots of each class's sub-queue, at least 1 each.
        width: feature width.

    Attributes:
        features (Q, width), label (Q,), filled (Q,), slot_class (Q,): the slots and what they hold.
    """

    features: Float[Tensor, "Q d"]
    label: Float[Tensor, "Q"]
    filled: Bool[Tensor, "Q"]
    slot_class: Int[Tensor, "Q"]

    def __init__(self, capacity: list[int], width: int):
        super().__init__()
        if min(capacity) < 1:
            raise ValueError(f"queue: capacities are {capacity}, expected at least 1 slot for each class")
        size = torch.tensor(capacity)
        slots = int(size.sum())
        self.register_buffer("features", torch.zeros(slots, width))
        self.register_buffer("label", torch.zeros(slots))
        self.register_buffer("filled", torch.zeros(slots, dtype=torch.bool))
        self.register_buffer("slot_class", torch.repeat_interleave(torch.arange(len(capacity)), size))
        self.register_buffer("capacity", size)
        self.register_buffer("start", size.cumsum(0) - size)
        self.register_buffer("next_slot", torch.zeros_like(size))

    @torch.no_grad()
    def enqueue(self, z: Float[Tensor, "B d"], label: Float[Tensor, "B"], classes: Int[Tensor, "B"]) -> None:
        """Append a batch, oldest out first. Of more items than a sub-queue holds, the last are kept."""
        of_class = nn.functional.one_hot(classes, len(self.capacity))
        rank = (of_class.cumsum(0) * of_class).sum(1) - 1
        arriving, capacity = of_class.sum(0), self.capacity[classes]
        kept = rank >= arriving[classes] - capacity
        slot = self.start[classes] + (self.next_slot[classes] + rank) % capacity
        # items that are not kept share their slot with one that is; they write that one's values too, so
        # that the result does not depend on the order of the writes
        winner = torch.where(kept, torch.arange(len(z), device=z.device), 0)
        winner = torch.zeros_like(self.slot_class).scatter_reduce(0, slot, winner, "amax")[slot]
        self.features[slot] = z.detach()[winner].to(self.features.dtype)
        self.label[slot] = label[winner].to(self.label.dtype)
        self.filled.index_fill_(0, slot, True)  # a scalar that is assigned makes a GPU wait
        self.next_slot.copy_((self.next_slot + arriving) % self.capacity)


def queue_capacity(class_counts: list[int], alpha: float, minimum: int) -> list[int]:
    """Sub-queue sizes max(minimum, floor(alpha * n_c)), n_c the training utterances of class c."""
    return [max(minimum, math.floor(alpha * count)) for count in class_counts]
