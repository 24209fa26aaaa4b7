"""A training split larger than memory, read a window at a time.

The split lies in contiguous chunks of ``StreamedConfig.chunk`` rows. An epoch visits the chunks in random order;
windows of ``WINDOW`` chunks' rows are shuffled and cut into batches. Only the window in use and the next one, which a
thread reads meanwhile, are in memory, each copied in long pieces.

What this cannot mix: rows of one chunk stay within one window (two at a border). Where neighbouring rows are alike,
a batch is a sample of its window's 16 chunks, not of the corpus.
"""

import logging
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import psutil
import torch
from jaxtyping import Int
from torch import Tensor

from finelib.config import TrainConfig
from finelib.data.features import Batch, Corpus, ResidentSplit, Split, cut_batches
from finelib.inputs import resident
from finelib.training import Splits, Trainer

WINDOW = 16  # chunks whose rows are shuffled together
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamedConfig(TrainConfig):
    """How a run is trained whose corpus is larger than memory; ``chunk`` utterances are read and shuffled together.

    Raises:
        ValueError: fewer than one.
    """

    chunk: int = 64

    def __post_init__(self):
        if self.chunk < 1:
            raise ValueError(f"chunk: found {self.chunk}, expected a number of rows, at least 1")

    @property
    def window_batches(self) -> int:
        """Batches of a window: only the last one of an epoch can be smaller than the others, as without chunks."""
        return max(1, WINDOW * self.chunk // self.batch_size)


class StreamedTrainer(Trainer):
    """A Trainer whose training split is read a window at a time; its config is a StreamedConfig."""

    def splits_of(self, corpus: Corpus) -> Splits:
        valid = resident(self.model, corpus.splits["valid"], self.device)
        train = StreamedSplit(corpus.splits["train"], tuple(valid.length), self.device, self.config.window_batches)
        return {"train": train, "valid": valid}

    def epoch_batches(self) -> list[Int[Tensor, "B"]]:
        """Chunks in random order, each window of them shuffled and cut."""
        c, length = self.config, sum(self.splits["train"].length.values())
        chunks = torch.arange(len(length)).split(c.chunk)
        order = torch.cat([chunks[i] for i in torch.randperm(len(chunks), generator=self.order)])
        windows = order.split(c.window_batches * c.batch_size)
        shuffled = [window[torch.randperm(len(window), generator=self.order)] for window in windows]
        cut = [cut_batches(window, length, c.batch_size, c.bucket, self.order) for window in shuffled]
        return [batch for batches in cut for batch in batches]


def warn_if_large(split: Split, modalities: tuple[str, ...], device: torch.device) -> None:
    """Say that a training split takes more than half the memory.

    Streaming is never chosen here, since the order of the batches depends on it and a record must not depend on the
    memory of the machine.
    """
    needed = sum(split.frames[m].values.nbytes for m in modalities)
    memory = psutil.virtual_memory().total
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    mapped = device.type != "cpu" or any(_mapping(split.frames[m].values) for m in modalities)
    if mapped and needed > memory / 2:
        log.warning(
            f"training split: {needed / 2**30:.1f} GiB of features for {memory / 2**30:.1f} GiB of memory ({device}); "
            "StreamedConfig(chunk=64) reads a part at a time, in another order of the utterances"
        )


class StreamedSplit:
    """A split of which a window of batches at a time is on the device, the next being read by a thread."""

    def __init__(self, split: Split, modalities: tuple[str, ...], device: torch.device, window: int):
        self.device, self._window = device, window
        self.length = {m: torch.from_numpy(split.frames[m].length) for m in modalities}
        unimodal = split.unimodal_labels and {m: split.unimodal_labels[m] for m in modalities}
        self._split = replace(split, frames={m: split.frames[m] for m in modalities}, unimodal_labels=unimodal)

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, order: list[Int[Tensor, "B"]]) -> Iterator[Batch]:
        """The batches of ``order``, in that order."""
        windows = [order[i : i + self._window] for i in range(0, len(order), self._window)]
        with ThreadPoolExecutor(1, thread_name_prefix="window") as reader:
            coming = windows and reader.submit(self._read, windows[0])
            for window, following in zip_longest(windows, windows[1:]):
                rows, resident = coming.result()
                coming = following and reader.submit(self._read, following)
                for index in window:
                    batch = resident.batch(torch.searchsorted(rows, index))
                    yield replace(batch, index=index.to(self.device))

    def _read(self, window: list[Tensor]) -> tuple[Tensor, ResidentSplit]:
        """The window's rows in order, and their utterances."""
        rows = torch.cat(window).sort().values
        part = self._split.take(rows.numpy())
        for frames in self._split.frames.values():
            if mapping := _mapping(frames.values):  # what was read is copied; unmapped, it does not count as ours
                mapping.madvise(mmap.MADV_DONTNEED)
        return rows, ResidentSplit(part, tuple(part.frames), self.device)


def _mapping(values: np.ndarray) -> mmap.mmap | None:
    """The file mapping behind an array of a store; None for an array in ordinary memory."""
    return values.base.base if isinstance(values.base, np.memmap) else None
