"""What the roofline counts, by hand."""

import pytest
import step
import torch
from torch.utils.flop_counter import FlopCounterMode

from finelib.config import FineConfig, TrainConfig
from finelib.data.corpora import CORPORA


def test_operations_and_bytes_are_counted():
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    with step.Operations() as counted, FlopCounterMode(display=False) as known:
        (a @ b).t().relu()
    product, view, relu = counted.called
    assert product[:3] == ("mm", 2 * 3 * 5 * 7, 4 * (15 + 35 + 21)) and known.get_total_flops() == product[1]
    assert view[1:3] == (0, 0)  # nothing is moved
    assert relu[:3] == ("relu", 0, 4 * (21 + 21))


def test_an_expanded_tensor_counts_what_is_there():
    row = torch.randn(1, 1000)
    assert step.moved((row.expand(50, -1),), torch.empty(2)) == 4 * (1000 + 2)


def test_attainable_time_is_the_larger_of_the_two_bounds():
    copies = {1024: 1e9, 1 << 20: 1e8}  # small ones stay in a cache
    called = [("mm", 3_000, 1_000, 0.0), ("add", 0, 1_000, 0.0), ("copy_", 0, 1_000_000, 0.0)]
    assert step.attainable(called, 1e9, copies) == pytest.approx(3e-6 + 1e-6 + 1e-2)


def test_every_kind_of_operation_is_counted_once():
    def work():
        x = torch.randn(64, 64, requires_grad=True)
        (torch.nn.functional.gelu(x @ x).softmax(-1) + 1).sum().backward()

    kinds = step.by_kind(work)
    assert all(kinds[kind] > 0 for kind in ("matrix products", "GELU and ReLU", "softmax", "between the operations"))


def test_a_made_up_step_is_of_full_length_and_has_the_queue_of_the_corpus():
    trainer, batch = step.made_up(FineConfig(), CORPORA["ch_sims"], TrainConfig(device="meta"))
    assert [x.shape[:2] for x in batch.features.values()] == [(step.BATCH, n) for n in CORPORA["ch_sims"].max_frames]
    assert len(trainer.model.queue.label) == pytest.approx(0.7 * CORPORA["ch_sims"].sizes[0], rel=0.01)
