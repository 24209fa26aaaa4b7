"""FactorCL's design: every modality holds what it should, linearly, and nothing else."""

import numpy as np
import pytest

from finelib import metrics
from finelib.data.planted import SEEN
from finelib.study.factorcl import make_factorcl


def test_factorcl_design():
    corpus = make_factorcl((3000, 40, 50))
    split = corpus.splits["train"]
    x = {m: split.frames[m].values for m in "TAV"}
    assert all(v.shape == (3000, 100) for v in x.values()) and set(split.label) == {0.0, 1.0}
    assert split.label.mean() == pytest.approx(0.5, abs=0.04)
    assert np.var(split.factors["t"]) == pytest.approx(0.5, abs=0.05)
    for name, value in split.factors.items():
        seen = {m for m in "TAV" if name in SEEN[m]}
        for m in "TAV":  # linear in what a modality sees, nothing of what it does not
            fit = np.linalg.lstsq(x[m][:2000], value[:2000], rcond=None)[0]
            r2 = 1 - np.var(value[2000:] - x[m][2000:] @ fit) / np.var(value[2000:])
            assert r2 > 0.99 if m in seen else r2 < 0.05
    relevant = [metrics.correlation(split.factors[f], split.label) for f in ("s", "t", "ta")]
    assert min(relevant) > 0.05 and abs(metrics.correlation(split.factors["rt"], split.label)) < 0.06
    assert make_factorcl((3000, 40, 50)).sha256 == corpus.sha256
    assert make_factorcl((3000, 40, 50), seed=1).sha256 != corpus.sha256


def test_halves_of_blocks_stand_for_what_the_label_needs_of_the_same_utterances():
    entries, halves = (make_factorcl((4000, 40, 50), halves=value) for value in (False, True))
    assert entries.sha256 == halves.sha256
    one, mean, label = (entries.splits["train"].factors, halves.splits["train"].factors, halves.splits["train"].label)
    for name in one:  # an entry is one of three that the mean is made of, whose variance is 1/2 each
        assert np.corrcoef(one[name], mean[name])[0, 1] ** 2 == pytest.approx(1 / 3, abs=0.04)
        assert np.var(mean[name]) == pytest.approx(1 / 6, abs=0.01)
    needed = [mean[name] for name in mean if not name.startswith("r")]
    assert len(needed) == 7 and np.array_equal(np.sum(needed, 0) >= 0, label == 1)
