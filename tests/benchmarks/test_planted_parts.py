"""Planted data that are made in parts: one corpus, the same as in memory but for the draws."""

from dataclasses import replace

import numpy as np
import planted_parts
import pytest

from finelib import metrics
from finelib.data.corpora import CORPORA
from finelib.data.features import MODALITIES, SPLITS

SIMS = replace(CORPORA["ch_sims"], sizes=(403, 33, 65), widths=(20, 16, 24), max_frames=(9, 40, 12))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(planted_parts, "PART", 50)


@pytest.fixture
def mapped(tmp_path):
    return planted_parts.stored(SIMS, seed=1, cache=tmp_path)


def test_stored_planted_data_are_one_corpus(mapped, tmp_path):
    """One world in all parts, every part its own utterances; oracle and card as with ``generate``."""
    for s, size in zip(SPLITS, SIMS.sizes, strict=True):
        split = mapped.splits[s]
        assert len(split) == len(set(split.ids)) == size and isinstance(split.frames["V"].values.base, np.memmap)
        assert 0.75 < metrics.correlation(split.factors["oracle"], split.label) < 0.97
        assert len(np.unique(split.factors["s"])) == size and set(split.unimodal_labels) == set(MODALITIES)
        assert mapped.card["splits"][s]["modalities"]["A"]["frames"] == len(split.frames["A"].values)
    again = planted_parts.stored(SIMS, seed=1, cache=tmp_path / "again")
    other = planted_parts.stored(replace(SIMS, sizes=(40, 33, 65)), seed=2, cache=tmp_path)
    assert again.sha256 == mapped.sha256 != other.sha256
    for m in MODALITIES:
        np.testing.assert_array_equal(again.splits["train"].frames[m].values, mapped.splits["train"].frames[m].values)


def test_files_hold_the_parts_one_after_another(mapped):
    parts = list(planted_parts._parts(SIMS, 1, "train"))
    split = mapped.splits["train"]
    assert len(parts) == 9 and split.ids == [i for part in parts for i in part.ids]
    np.testing.assert_array_equal(split.label, np.concatenate([part.label for part in parts]))
    for m in MODALITIES:
        np.testing.assert_array_equal(split.frames[m].values, np.concatenate([part.frames[m].values for part in parts]))
        np.testing.assert_array_equal(split.frames[m].length, np.concatenate([part.frames[m].length for part in parts]))


def test_a_direction_learnt_on_the_first_part_holds_in_the_others(mapped):
    split = mapped.splits["train"]
    mean = np.c_[split.frames["A"].mean(), np.ones(len(split))]
    first, rest = slice(0, 50), slice(50, None)
    weights, *_ = np.linalg.lstsq(mean[first], split.factors["s"][first], rcond=None)
    assert metrics.correlation(mean[rest] @ weights, split.factors["s"][rest]) > 0.2
