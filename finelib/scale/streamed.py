"""How a training split is passed over: the order of an epoch's batches, and reading a split larger than memory.

With ``TrainConfig.chunk`` the split lies in contiguous chunks of that many rows. An epoch visits the chunks in
random order; windows of ``WINDOW`` chunks' rows are shuffled and cut into batches. Only the window in use and the
next one, which a thread reads meanwhile, are in memory, each copied in long pieces.

What this cannot mix: rows of one chunk stay within one window (two at a border). Where neighbouring rows are alike,
a batch is a sample of its window's 16 chunks, not of the corpus.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from finelib.config import TrainConfig
from finelib.data.features import Batch, ResidentSplit, Split

WINDOW = 16  # chunks whose rows are shuffled together
log = logging.getLogger(__name__)


def window_batches(config: TrainConfig) -> int:
    """Batches of a window: only the last one of an epoch can be smaller than the others, as without chunks."""
    return max(1, WINDOW * config.chunk // config.batch_size)


def training_split(
    split: Split, modalities: tuple[str, ...], device: torch.device, config: TrainConfig
) -> ResidentSplit | StreamedSplit:
    """The split as training reads it: resident, or with ``chunk`` a window at a time.

    That is never chosen here, since the order of the batches depends on it and a record must not depend on the
    memory of the machine; a split that is too large for it is told in a warning.

    Raises:
        ValueError: ``chunk`` is negative.
    """
    if config.chunk < 0:
        raise ValueError(f"chunk: found {config.chunk}, expected a number of rows, or 0 for none")
    if config.chunk:
        return StreamedSplit(split, modalities, device, window_batches(config))
    needed, memory = sum(split.frames[m].values.nbytes for m in modalities), _memory(device)
    mapped = device.type != "cpu" or any(_mapping(split.frames[m].values) for m in modalities)
    if mapped and needed > memory / 2:
        log.warning(
            "training split: %.1f GiB of features for %.1f GiB of memory (%s); TrainConfig(chunk=64) reads a part at "
            "a time, in another order of the utterances",
            needed / 2**30,
            memory / 2**30,
            device,
        )
    return ResidentSplit(split, modalities, device)


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


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
