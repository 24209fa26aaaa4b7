"""What every model is fed: ragged frames, splits, batches.

An utterance is three sequences of frames (text tokens, audio frames, video frames) of different
lengths. They are kept ragged (all real frames of a split one after another, no padding), so a
corpus costs what it holds, and padded only when a batch is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from finelib.data.corpora import CorpusInfo, called

MODALITIES = ("T", "A", "V")
SPLITS = ("train", "valid", "test")
POOL_BATCHES = 16  # batches that are cut from one pool of random utterances, sorted by length


@dataclass(frozen=True)
class Frames:
    """One modality of one split, without padding.

    Attributes:
        values: (S, d) float32 features, or (S,) int64 token ids; S is the sum of the lengths.
        start: (N,) int64, the row of ``values`` at which each utterance begins.
        length: (N,) int64, its number of frames; may be 0.
        sentence: (S,) int64, the sentence of each frame, where the source has a context and tells its sentences apart:
            1, 2, ... in the context, 0 in the utterance itself.
    """

    values: np.ndarray
    start: np.ndarray
    length: np.ndarray
    sentence: np.ndarray | None = None

    def __repr__(self) -> str:
        kind = f"{self.values.shape[1]} features" if self.values.ndim == 2 else "token ids"
        return f"Frames({len(self.length)} utterances, {len(self.values)} frames of {kind})"

    @classmethod
    def from_lengths(cls, values: np.ndarray, length: np.ndarray, sentence: np.ndarray | None = None) -> Frames:
        """Frames already concatenated in order; ``length`` (N,) sums to ``len(values)``."""
        length = np.asarray(length, dtype=np.int64)
        if int(length.sum()) != len(values):
            raise ValueError(f"frames: lengths sum to {int(length.sum())}, but there are {len(values)} frames")
        return cls(values, np.cumsum(length) - length, length, sentence)

    @property
    def width(self) -> int:
        """Features per frame, d (1 for token ids)."""
        return self.values.shape[1] if self.values.ndim == 2 else 1

    def take(self, rows: np.ndarray) -> Frames:
        """The frames of the utterances ``rows`` (n,), copied; neighbouring rows in one piece."""
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        pieces = [slice(self.start[run[0]], self.start[run[-1]] + self.length[run[-1]]) for run in runs]

        def taken(array: np.ndarray) -> np.ndarray:
            return np.concatenate([array[:0], *(array[piece] for piece in pieces)])

        sentence = None if self.sentence is None else taken(self.sentence)
        return Frames.from_lengths(taken(self.values), self.length[rows], sentence)

    def mean(self) -> np.ndarray:
        """Mean over each utterance's real frames, (N, d); zeros for an utterance without frames."""
        out = np.zeros((len(self.length), self.width))
        filled = np.flatnonzero(self.length)
        for part in np.array_split(filled, max(1, len(filled) // 1000)):  # in parts, for large memory-mapped values
            if len(part):
                first, last = self.start[part[0]], self.start[part[-1]] + self.length[part[-1]]
                values = np.asarray(self.values[first:last], dtype=np.float64)
                out[part] = np.add.reduceat(values, self.start[part] - first, axis=0) / self.length[part, None]
        return out


@dataclass(frozen=True)
class Split:
    """One split of a corpus: N utterances.

    Attributes:
        frames: modality ("T", "A", "V") -> Frames; only the modalities the source has.
        label: (N,) float32.
        ids: N utterance ids.
        text: N raw texts ("" where the source has none).
        unimodal_labels: modality -> (N,) float32 where the corpus is labelled per modality (CH-SIMS).
        factors: planted data only: factor name -> (N,) true value, and "oracle" -> the best
            prediction of the label from the true factors.
    """

    frames: dict[str, Frames]
    label: np.ndarray
    ids: list[str]
    text: list[str]
    unimodal_labels: dict[str, np.ndarray] | None = None
    factors: dict[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        frames = [f"{m} {len(f.values)} frames of width {f.width}" for m, f in self.frames.items()]
        return f"Split({len(self)} utterances: {', '.join(frames) or 'text alone'})"

    def take(self, rows: np.ndarray) -> Split:
        """The utterances ``rows`` (n,), copied to ordinary memory."""
        frames = {m: frames.take(rows) for m, frames in self.frames.items()}
        ids, text = ([values[row] for row in rows] for values in (self.ids, self.text))
        own = [known and {name: y[rows] for name, y in known.items()} for known in (self.unimodal_labels, self.factors)]
        return Split(frames, self.label[rows], ids, text, *own)


@dataclass(frozen=True)
class Corpus:
    """A loaded corpus: what it is, its three splits, and where they came from.

    Attributes:
        info: names, label range, sizes (``corpora.CorpusInfo``).
        kind: "planted", "public", "files" (the licensed ones, ``identity``) or "own" (somebody's own).
        splits: "train", "valid", "test" -> Split.
        sha256: hash of the source, so that a run record names exactly what it was trained on.
        encoder: what made the text features ("planted", "bert-base-uncased", "all-MiniLM-L6-v2", ...).
        card: the data card: shapes, lengths, NaN counts, label histogram, duplicates, checksums.
    """

    info: CorpusInfo
    kind: str
    splits: dict[str, Split]
    sha256: str
    encoder: str
    card: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        splits = "".join(f"\n  {s}: {split!r}" for s, split in self.splits.items())
        return f"Corpus({self.info.title}, {self.kind}, text: {self.encoder or 'raw'}){splits}"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities this source has, in the order T, A, V."""
        return tuple(m for m in MODALITIES if m in self.splits["train"].frames)

    @property
    def called(self) -> str:
        """What it is, for a title: "CMU-MOSI, planted data"."""
        return called(self.info, self.kind)

    @property
    def widths(self) -> dict[str, int]:
        """Features per frame of each modality."""
        return {m: self.splits["train"].frames[m].width for m in self.modalities}

    def batch(
        self, rows: Iterable[int], split: str = "test", modalities: tuple[str, ...] | None = None, device: str = "cpu"
    ) -> Batch:
        """The utterances ``rows`` of a split as a model reads them; default modalities are all that the split has."""
        wanted = torch.tensor(list(rows))
        part = self.splits[split].take(wanted.numpy())  # so that a large split is not moved as a whole
        batch = ResidentSplit(part, modalities or tuple(part.frames), torch.device(device)).batch(
            torch.arange(len(part))
        )
        return replace(batch, index=wanted.to(device))


@dataclass(frozen=True)
class Batch:
    """B utterances, padded to the longest of the batch.

    Attributes:
        features: modality -> (B, T_m, d_m) float32, zeros on padding; text may be (B, T) int64 token ids.
        mask: modality -> (B, T_m), True on real frames.
        label: (B,).
        unimodal_labels: modality -> (B,), or None.
        index: (B,) rows of the split, to look up ids and text.
        sentence: modality -> (B, T_m) ``Frames.sentence``, -1 on padding; of the modalities that have it.
    """

    features: dict[str, Float[Tensor, "B T d"]]
    mask: dict[str, Bool[Tensor, "B T"]]
    label: Float[Tensor, "B"]
    unimodal_labels: dict[str, Float[Tensor, "B"]] | None
    index: Int[Tensor, "B"]
    sentence: dict[str, Int[Tensor, "B T"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        shapes = [f"{m} {tuple(x.shape)}" for m, x in self.features.items()]
        return f"Batch({len(self)} utterances: {', '.join(shapes)})"


class ResidentSplit:
    """A split as tensors on the device, from which batches are gathered without a copy from the host.

    On a CPU the tensors share memory with the arrays, so a memory-mapped corpus is read as it is used.
    Lengths are kept on the host too: the padded length of a batch is known without asking the device.
    """

    def __init__(self, split: Split, modalities: tuple[str, ...], device: torch.device):
        self.device = device
        self.length = {m: torch.from_numpy(split.frames[m].length) for m in modalities}
        start = {m: torch.from_numpy(split.frames[m].start) for m in modalities}
        self._rows = {m: (start[m].to(device), self.length[m].to(device)) for m in modalities}
        self._values = {m: torch.from_numpy(_never_empty(split.frames[m].values)).to(device) for m in modalities}
        told = {m: split.frames[m].sentence for m in modalities if split.frames[m].sentence is not None}
        self._sentence = {m: torch.from_numpy(_never_empty(number)).to(device) for m, number in told.items()}
        as_label = partial(torch.as_tensor, dtype=torch.float32, device=device)
        self.label, unimodal = as_label(split.label), split.unimodal_labels
        self.unimodal_labels = unimodal and {m: as_label(unimodal[m]) for m in modalities}

    def __len__(self) -> int:
        return len(self.label)

    def batches(self, order: list[Int[Tensor, "B"]]) -> Iterator[Batch]:
        """The batches of ``order``, in that order."""
        return map(self.batch, order)

    def batch(self, index: Int[Tensor, "B"]) -> Batch:
        """Gather the utterances ``index`` (host tensor of rows), padded to their longest sequence."""
        # from pageable memory the copy could wait for the device
        here = (index.pin_memory() if self.device.type == "cuda" else index).to(self.device, non_blocking=True)
        features, mask, sentence = {}, {}, {}
        for m, (start, length) in self._rows.items():
            longest = max(int(self.length[m][index].max()), 1)
            steps = torch.arange(longest, device=self.device)
            mask[m] = steps < length[here, None]
            # rows past an utterance's end are read from the utterance that follows and zeroed
            rows = (start[here, None] + steps).clamp_(max=len(self._values[m]) - 1)
            values = self._values[m].index_select(0, rows.flatten()).unflatten(0, rows.shape)
            features[m] = values.masked_fill_(~mask[m] if values.ndim == 2 else ~mask[m][..., None], 0)
            if m in self._sentence:
                sentence[m] = self._sentence[m][rows].masked_fill_(~mask[m], -1)
        unimodal = self.unimodal_labels and {m: y[here] for m, y in self.unimodal_labels.items()}
        return Batch(features, mask, self.label[here], unimodal, here, sentence)


def cut_batches(
    order: Int[Tensor, "N"], length: Int[Tensor, "N"], size: int, bucket: bool, generator: torch.Generator
) -> list[Int[Tensor, "B"]]:
    """Rows in order, cut into batches of a size.

    Args:
        length: frames of each utterance, all modalities together.
        bucket: cut them from pools that are sorted by length, and give the batches in random order.
    """
    if not bucket:
        return list(order.split(size))
    sorted_pools = [pool[length[pool].argsort()] for pool in order.split(size * POOL_BATCHES)]
    batches = torch.cat(sorted_pools).split(size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


def _never_empty(values: np.ndarray) -> np.ndarray:
    return values if len(values) else np.zeros((1, *values.shape[1:]), dtype=values.dtype)
