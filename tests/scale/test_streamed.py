"""Chunked shuffle, and reading in windows."""

import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import planted_parts
import pytest
import torch
from test_training import Linear

from finelib import metrics, training
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data.corpora import CORPORA
from finelib.data.features import MODALITIES, ResidentSplit
from finelib.inputs import Inputs
from finelib.models import build
from finelib.runs import checkpoint, one
from finelib.scale import streamed

CPU = torch.device("cpu")
SIMS = replace(CORPORA["ch_sims"], sizes=(403, 33, 65), widths=(20, 16, 24), max_frames=(9, 40, 12))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A small planted CH-SIMS, written in parts and memory-mapped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted_parts, "PART", 50)
        return planted_parts.stored(SIMS, seed=1, cache=tmp_path_factory.mktemp("cache"))


class Order(streamed.StreamedTrainer):
    """The order of the batches alone."""

    def __init__(self, length, config, seed=0):
        self.config, self.order = config, torch.Generator().manual_seed(seed)
        self.splits = {"train": SimpleNamespace(length={"T": length})}


def epoch(length, seed=0, chunk=0, **settings):
    config = streamed.StreamedConfig(chunk=chunk, **settings) if chunk else TrainConfig(**settings)
    trainer = Order(length, config, seed)
    return trainer.epoch_batches() if chunk else training.Trainer.epoch_batches(trainer)


# The order of an epoch


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize(
    ("rows", "chunk", "batch"), [(1000, 7, 32), (1000, 1, 32), (129, 8, 16), (5, 100, 2), (96, 4, 1)]
)
def test_every_row_once_an_epoch_in_as_many_batches_as_without_chunks(rows, chunk, batch, bucket):
    length = torch.randint(1, 100, (rows,), generator=torch.Generator().manual_seed(0))
    batches = epoch(length, chunk=chunk, batch_size=batch, bucket=bucket)
    assert sorted(torch.cat(batches).tolist()) == list(range(rows))
    assert len(batches) == -(-rows // batch) and sorted(map(len, batches))[1:] == [batch] * (len(batches) - 1)
    window = streamed.StreamedConfig(chunk=chunk, batch_size=batch).window_batches
    for i in range(
        0, len(batches), window
    ):  # a window holds whole chunks, but for two at its borders and the short one
        chunks, counts = np.unique(torch.cat(batches[i : i + window]) // chunk, return_counts=True)
        assert (counts < chunk).sum() <= 3 and len(chunks) <= max(streamed.WINDOW, batch) + 2


def test_without_chunks_the_order_is_one_permutation():
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.cat(epoch(torch.ones(1000), 3)), order)


def test_order_is_given_by_the_seed_and_new_in_each_epoch():
    length, trainer = torch.ones(500), Order(torch.ones(500), streamed.StreamedConfig(chunk=5))
    first, second = (torch.cat(trainer.epoch_batches()) for _ in range(2))
    assert torch.equal(first, torch.cat(epoch(length, chunk=5))) and not torch.equal(first, second)
    assert not torch.equal(first, torch.cat(epoch(length, 1, chunk=5)))


def test_sorted_rows_are_mixed_as_well_as_sixteen_chunks_can_be():
    """Rows that are sorted by what they hold, the worst case: a batch's mean varies as its window's 16 chunks do.

    Var = s2 / B (1 - B/W) + s2 / 16 (1 - 16/C) of rows with variance s2, batches B, windows of W rows, C chunks.
    """
    rows, chunk, batch = 2**16, 64, 32
    spread, trend = {0: [], chunk: []}, {0: [], chunk: []}
    for setting, seed in ((setting, seed) for setting in spread for seed in range(16)):
        order = torch.cat(epoch(torch.ones(rows), seed, chunk=setting, batch_size=batch)).double() / rows
        spread[setting].append(float(order.view(-1, batch).mean(1).var()))
        trend[setting].append(abs(metrics.correlation(np.arange(rows), order.numpy())))
    chunks, variance = rows // chunk, 1 / 12
    expected = variance / batch * (1 - batch / (16 * chunk)) + variance / 16 * (1 - 16 / chunks)
    assert np.mean(spread[chunk]) == pytest.approx(expected, rel=0.1)
    assert np.mean(spread[0]) == pytest.approx(variance / batch, rel=0.1)
    # no drift over the epoch beyond chance: positions of C chunks, or of all rows
    assert np.mean(trend[chunk]) < 1.5 / chunks**0.5 and np.mean(trend[0]) < 1.5 / rows**0.5


# Reading in windows


@pytest.mark.parametrize("window", [1, 3, 1000])
def test_streamed_batches_are_those_of_the_resident_split(mapped, window):
    split = mapped.splits["train"]
    order = epoch(torch.ones(len(split)), chunk=4, batch_size=16)
    resident = ResidentSplit(split, MODALITIES, CPU)
    in_windows = streamed.StreamedSplit(split, MODALITIES, CPU, window)
    found = list(in_windows.batches(order))
    assert len(found) == len(order) and list(in_windows.batches([])) == []
    for index, batch in zip(order, found, strict=True):
        expected = resident.batch(index)
        assert torch.equal(batch.index, index) and torch.equal(batch.label, expected.label)
        for name in ("features", "mask", "unimodal_labels"):
            for m in MODALITIES:
                assert torch.equal(getattr(batch, name)[m], getattr(expected, name)[m])


def test_two_windows_at_most_are_in_memory(mapped):
    split, window = mapped.splits["train"], 2
    order = epoch(torch.ones(len(split)), chunk=2, batch_size=8)
    total = sum(frames.values.nbytes for frames in split.frames.values())
    in_windows = streamed.StreamedSplit(split, MODALITIES, CPU, window)
    tracemalloc.start()
    for _ in in_windows.batches(order):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(order) / window > 20 and peak < total * 4 * window / len(order)  # twice as much as two windows take


def test_a_reader_that_fails_is_heard_of(mapped):
    in_windows = streamed.StreamedSplit(mapped.splits["train"], MODALITIES, CPU, 1)
    in_windows._split = None
    with pytest.raises(AttributeError):
        next(in_windows.batches([torch.arange(3)]))


def test_training_from_a_store_equals_training_from_memory_and_resumes_exactly(mapped, tmp_path):
    """Stopped after each of several updates in turn: within a window, at its end, at the end of an epoch."""
    whole = replace(mapped, splits={s: split.take(np.arange(len(split))) for s, split in mapped.splits.items()})
    config = streamed.StreamedConfig(
        epochs=2, batch_size=16, chunk=2, accumulate=2
    )  # 26 batches an epoch, 2 in a window

    class Video(Linear):
        def __init__(self):
            super().__init__()
            self.weight, self.inputs = torch.nn.Parameter(torch.zeros(24, 1)), Inputs({"V": 24})

    def run(corpus, path=None, stop=lambda: False):
        model = Video()
        trainer = streamed.StreamedTrainer(model, corpus, config, 3)
        history = checkpoint.run(trainer, path, None, stop) if path else trainer.run()
        return history.curves, model.weight, model.seen

    curves, weight, seen = run(whole)
    assert sorted(seen) == sorted(2 * list(range(403)))
    assert run(mapped)[0] == curves
    path = tmp_path / "checkpoint.pt"
    for updates in (1, 2, 9, 1, 6):
        done = iter(range(1, 100))
        with pytest.raises(checkpoint.Stopped):
            run(mapped, path, stop=lambda done=done, last=updates: next(done) == last)
    resumed = run(mapped, path)
    assert resumed[0] == curves and torch.equal(resumed[1], weight)


def test_a_split_that_is_too_large_is_told_and_streaming_is_never_chosen(mapped, caplog, monkeypatch):
    split = mapped.splits["train"]
    size = sum(frames.values.nbytes for frames in split.frames.values())
    spec = RunSpec("FINE", DataConfig("ch_sims"), FineConfig(), TrainConfig(), 0)
    model = build(spec.model_config, mapped)
    monkeypatch.setattr(streamed.psutil, "virtual_memory", lambda: SimpleNamespace(total=2 * size - 1))
    streamed.warn_if_large(split.take(np.arange(len(split))), MODALITIES, CPU)  # it is in memory already
    one.make_trainer(model, mapped, replace(spec, train=streamed.StreamedConfig()))
    assert not caplog.text
    assert isinstance(one.make_trainer(model, mapped, spec).splits["train"], ResidentSplit)
    assert "training split: 0.0 GiB of features" in caplog.text and "StreamedConfig(chunk=64)" in caplog.text
    with pytest.raises(ValueError, match="chunk: found 0, expected a number of rows"):
        streamed.StreamedConfig(chunk=0)
