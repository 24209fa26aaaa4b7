"""On a GPU: the numbers of the CPU, and a step that never waits for the device.

Where there is no GPU a step runs on the meta device instead, whose tensors have shapes but no values: whatever would
read one on the host, or mix host and device, fails there as well.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from finelib import training
from finelib.baselines import SYSTEMS, subset_codes
from finelib.baselines.variants import VARIANTS, VariantConfig
from finelib.config import DataConfig, FineConfig, TrainConfig
from finelib.contrastive import DynamicContrastiveQueue
from finelib.models import build
from finelib.runs import experiment, one

SMALL = FineConfig(width=(16, 16, 16), task_width=16, heads=2, critic_width=16, label_width=8)
DROPLESS = replace(SMALL, dropout=0.0)
CHANGES = {
    "FINE": {},
    "concat critic": {"critic": "concat", "width": (32, 16, 32), "qformer_layers": 2},
    "batch negatives, SupCon": {"str_negatives": "batch", "contrast": "supcon"},
    "l1, no queue": {"loss": "l1", "queue_alpha": 0.0},
}
LSTM = "w/o MoQ + LSTM"  # packs its sequences, which needs their lengths on the host
CONFIGS = {name: replace(SMALL, **changes) for name, changes in CHANGES.items()}
CONFIGS |= {row: VariantConfig(**vars(SMALL), variant=row) for row in VARIANTS if row != LSTM}
CONFIGS[subset_codes.NAME] = subset_codes.subset_codes_of(SMALL)
CONFIGS |= {name: system.Config(**system.DEMO) for name, system in SYSTEMS.items()}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def small_corpus():
    return experiment.load_corpus(DataConfig("mosi", scale=0.05))


def start(config, corpus, device, **train):
    """The state of a training on a device, and its training split."""
    torch.manual_seed(0)
    trainer = training.Trainer(build(config, corpus), corpus, TrainConfig(batch_size=16, device=device, **train), 0)
    return trainer, trainer.splits["train"]


def on_meta(config, corpus, **train):
    """Two updates on the meta device."""
    run, _ = start(config, corpus, "meta", **train)
    for group in run.optimiser.param_groups:
        group.update(fused=False, foreach=True)  # there is no fused kernel for it
    updates = run.updates()
    with FromTheHost():
        for _ in range(2):
            next(updates)
    return run


class FromTheHost(TorchFunctionMode):
    """Refuses what the meta device takes and a GPU waits for: ``x[i] = 1``, ``x[:, [0, 2]]``, a checked solution."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].device.type != "cpu":
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(place, list) for place in places):
                raise RuntimeError("an index is made on the host; a buffer is on the device")
            if any(isinstance(place, Tensor) for place in places) and not all(isinstance(x, Tensor) for x in args[2:]):
                raise RuntimeError("a number is assigned to indexed places; index_fill_ does not wait")
        if func is torch.linalg.solve:
            raise RuntimeError("a solution is checked; solve_ex does not wait")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CONFIGS)
def test_no_value_is_read_on_the_host_in_a_step(name, small_corpus):
    assert on_meta(CONFIGS[name], small_corpus).update == 2


def test_accumulated_and_bucketed_steps_read_none_either(small_corpus):
    assert on_meta(SMALL, small_corpus, accumulate=2, bucket=True).update == 2


def test_the_lstm_of_table_6_alone_asks_for_lengths(small_corpus):
    with pytest.raises(NotImplementedError, match="no data"):
        on_meta(VariantConfig(**vars(SMALL), variant=LSTM), small_corpus)


HABITS = {
    "item": lambda x: x.sum().item(),
    "if": lambda x: bool(x.sum() > 0),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "list": lambda x: x + torch.tensor([1.0] * x.shape[-1]),
    "cpu": lambda x: x.cpu(),
    "assign": lambda x: x.clone().__setitem__(torch.arange(1, device=x.device), 0),
    "host index": lambda x: x[[0, 1]],
    "solve": lambda x: torch.linalg.solve(torch.eye(2, device=x.device), torch.eye(2, device=x.device)),
}


@pytest.mark.parametrize("habit", HABITS)
def test_what_would_wait_is_noticed(habit, small_corpus, monkeypatch):
    real = nn.functional.layer_norm
    monkeypatch.setattr(nn.functional, "layer_norm", lambda x, *rest: (HABITS[habit](x), real(x, *rest))[1])
    with pytest.raises((RuntimeError, NotImplementedError)):
        on_meta(SMALL, small_corpus)


# --------------------------------------------------------------------------------------------- on a GPU


@pytest.fixture
def no_tf32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@needs_cuda
@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("changes", [{}, CHANGES["concat critic"]], ids=["dot", "concat"])
def test_predictions_terms_and_gradients_agree_with_the_cpu(changes, small_corpus):
    found = []
    for device in ("cpu", "cuda"):
        run, split = start(replace(DROPLESS, **changes), small_corpus, device)
        model = run.model.train()
        for rows in (torch.arange(16), torch.arange(16, 32)):  # the second time with a queue
            model.zero_grad()
            batch = split.batch(rows)
            output = model(batch)
            terms = model.losses(output, batch)
            terms["total"].backward()
        gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
        found.append((output.prediction.detach().cpu(), {k: v.detach().cpu() for k, v in terms.items()}, gradients))
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


@needs_cuda
@pytest.mark.parametrize("precision", training.PRECISIONS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_never_waits_for_the_device(name, precision, small_corpus):
    run, _ = start(CONFIGS[name], small_corpus, "cuda", precision=precision)
    updates = run.updates()
    next(updates)
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(updates)
        next(updates)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite().all() for value in run.model.state_dict().values())


@needs_cuda
def test_more_items_than_slots_on_a_gpu():
    z, label = torch.randn(20, 4), torch.arange(20.0)
    classes = torch.tensor([0, 1] * 10)
    queues = [DynamicContrastiveQueue([3, 2], 4).to(device) for device in ("cpu", "cuda")]
    for queue, device in zip(queues, ("cpu", "cuda"), strict=True):
        queue.enqueue(z.to(device), label.to(device), classes.to(device))
        queue.enqueue(z[:3].to(device), label[:3].to(device), classes[:3].to(device))
    for key, value in queues[0].state_dict().items():
        torch.testing.assert_close(queues[1].state_dict()[key].cpu(), value)
    assert queues[0].label.sort().values.tolist() == [0, 1, 2, 18, 19]


@needs_cuda
def test_peak_memory_is_the_devices_and_does_not_grow(small_corpus):
    run, _ = start(SMALL, small_corpus, "cuda")
    peaks = []
    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        for _ in run.updates():
            pass
        run.end_epoch()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[2] <= 1.05 * peaks[1]
    assert 0 < one.memory_mib(torch.device("cuda")) < 2048
