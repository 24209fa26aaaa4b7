"""Frames, splits and the order in which their rows are cut into batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS, Corpus, Frames, Split, cut_batches
from finelib.data.moments import moments


def test_buckets_hold_every_utterance_once_and_like_lengths(corpus):
    length = sum(torch.from_numpy(frames.length) for frames in corpus.splits["train"].frames.values())

    def spread(bucket):
        generator = torch.Generator().manual_seed(0)
        batches = cut_batches(torch.randperm(len(length), generator=generator), length, 8, bucket, generator)
        assert sorted(torch.cat(batches).tolist()) == list(range(len(length)))
        return np.mean([float(length[rows].float().std()) for rows in batches if len(rows) > 1])

    assert spread(True) < 0.3 * spread(False)


def test_a_batch_holds_the_rows_that_are_asked_for(corpus):
    split = corpus.splits["train"]
    batch = corpus.batch([5, 0], "train", ("A", "V"))
    assert batch.index.tolist() == [5, 0] and batch.label.tolist() == split.label[[5, 0]].tolist()
    assert set(batch.features) == set(batch.mask) == {"A", "V"}
    for place, row in enumerate((5, 0)):
        start, length = split.frames["A"].start[row], split.frames["A"].length[row]
        assert batch.mask["A"][place].sum() == length and not batch.features["A"][place, length:].any()
        np.testing.assert_array_equal(
            batch.features["A"][place, :length].numpy(), split.frames["A"].values[start : start + length]
        )


def test_rows_are_taken_with_their_frames():
    length = np.array([2, 0, 3, 1, 0, 4])
    frames = Frames.from_lengths(np.arange(20.0).reshape(10, 2), length)
    whole = np.split(frames.values, frames.start[1:])
    for rows in ([0, 1, 2, 5], [1, 4], [5, 0, 3, 3], [], list(range(6))):
        part = frames.take(np.array(rows, dtype=np.int64))
        assert part.length.tolist() == length[rows].tolist() if rows else len(part.length) == 0
        np.testing.assert_array_equal(part.values, np.concatenate([frames.values[:0], *(whole[row] for row in rows)]))


@pytest.mark.parametrize("width", [1, 5, 64, 65, 129, 768])
def test_moments_of_some_columns_at_a_time_are_those_of_all(width):
    values = np.random.default_rng(0).normal(3, 2, (999, width)).astype(np.float32)
    mean, sd = moments(values)
    exact = values.astype(np.float64)
    np.testing.assert_array_equal(mean, exact.mean(0).astype(np.float32))
    np.testing.assert_array_equal(sd, exact.std(0).astype(np.float32))


def test_what_is_shown_of_data_is_short():
    """A notebook's cell that ends with a corpus shows what it is, not its arrays and texts."""
    length = np.array([2, 0, 3])
    frames = {"T": Frames.from_lengths(np.arange(5), length), "A": Frames.from_lengths(np.zeros((5, 4)), length)}
    split = Split(frames, np.zeros(3, np.float32), ["a", "b", "c"], ["a long text"] * 3)
    corpus = Corpus(CORPORA["mosi"], "files", dict.fromkeys(SPLITS, split), "0" * 64, "bert-base-uncased", {"x": 1})
    assert repr(frames["T"]) == "Frames(3 utterances, 5 frames of token ids)"
    assert repr(frames["A"]) == "Frames(3 utterances, 5 frames of 4 features)"
    assert repr(split) == "Split(3 utterances: T 5 frames of width 1, A 5 frames of width 4)"
    assert repr(replace(split, frames={})) == "Split(3 utterances: text alone)"
    first, *others = repr(corpus).splitlines()
    assert first == "Corpus(CMU-MOSI, files, text: bert-base-uncased)"
    assert others == [f"  {s}: {split!r}" for s in SPLITS]
    assert repr(corpus.batch([0, 2])) == "Batch(2 utterances: T (2, 3), A (2, 3, 4))"
