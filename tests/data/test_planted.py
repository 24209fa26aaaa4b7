"""Planted data: what is planted can be found, what is not cannot, and the oracle is the best there is."""

import numpy as np
import pytest

from finelib import metrics
from finelib.baselines import references
from finelib.data import planted, sources
from finelib.data.corpora import CORPORA
from finelib.data.features import MODALITIES
from finelib.data.planted import SEEN, WEIGHT


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request):
    return sources.load(request.param, scale=0.15 if request.param in ("mosi", "ch_sims") else 0.02)


def test_same_seed_same_arrays_another_seed_others():
    first, again, other = (sources.load("mosi", scale=0.05, seed=seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256
    for m in MODALITIES:
        np.testing.assert_array_equal(first.splits["test"].frames[m].values, again.splits["test"].frames[m].values)


def test_shapes_are_the_corpus_own(corpus):
    assert tuple(corpus.widths.values()) == corpus.info.widths
    train = corpus.splits["train"]
    for m, longest in zip(MODALITIES, corpus.info.max_frames, strict=True):
        length = train.frames[m].length
        assert length.min() >= 5 and length.max() <= longest
        assert length.mean() == pytest.approx(longest / 3, rel=0.2)
    assert (train.unimodal_labels is not None) == corpus.info.unimodal_labels


def test_full_sizes():
    info = CORPORA["mosi"]
    assert tuple(len(s) for s in sources.load("mosi").splits.values()) == info.sizes


def test_labels_lie_on_the_annotation_scale(corpus):
    label, info = corpus.splits["train"].label, corpus.info
    assert label.min() >= info.label_low and label.max() <= info.label_high
    steps = (label - info.label_low) / info.label_step
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)


def test_oracle_is_good_but_not_perfect_and_leaves_nothing_of_the_factors():
    split = sources.load("mosi").splits["train"]
    oracle = split.factors["oracle"]
    assert 0.80 < metrics.correlation(oracle, split.label) < 0.92
    # where labels were not clipped, what the oracle leaves is noise
    inside = np.abs(oracle) < 1.5
    for name, values in split.factors.items():
        if name != "oracle":
            assert abs(metrics.correlation(values[inside], (split.label - oracle)[inside])) < 0.1


def test_irrelevant_factors_do_not_go_with_the_label_and_relevant_ones_do():
    split = sources.load("mosi").splits["train"]
    for name, values in split.factors.items():
        if name != "oracle":
            r = abs(metrics.correlation(values, split.label))
            assert r > 0.08 if WEIGHT.get(name, 0) > 0.15 else r < 0.2
            assert r < 0.08 if name.startswith("r") else True


def test_a_modality_holds_the_factors_it_sees_and_no_others():
    split = sources.load("mosi", scale=0.3).splits["train"]
    mean = np.c_[split.frames["V"].mean(), np.ones(len(split))]

    def linear_corr(factor):
        weights, *_ = np.linalg.lstsq(mean, split.factors[factor], rcond=None)
        return metrics.correlation(mean @ weights, split.factors[factor])

    assert min(linear_corr(factor) for factor in SEEN["V"]) > 0.3
    assert max(linear_corr(factor) for factor in ("t", "a", "ta", "rt", "ra")) < 0.3


def test_ridge_gets_at_most_seventy_percent_of_the_way():
    corpus = sources.load("mosi")
    label = corpus.splits["test"].label
    corr = {name: metrics.correlation(p, label) for name, p in references.references(corpus).items()}
    assert corr["floor (constant)"] == 0 and 0.2 < corr["ridge (T + A + V)"] / corr["oracle (true factors)"] < 0.7


def test_scale_out_of_range_is_refused():
    with pytest.raises(ValueError, match="scale is 0, expected more than 0"):
        sources.load("mosi", scale=0)


def test_in_the_world_of_the_tables_some_factors_stand_in_every_frame_and_others_in_cues_alone():
    split = planted.generate(CORPORA["mosi"], design="several").splits["train"]
    frames = split.frames["V"]
    owner = np.repeat(np.arange(len(split)), frames.length)
    each = np.c_[frames.values, np.ones(len(owner))]
    for factor, low, high in (("s", 0.95, 1), ("v", 0.95, 1), ("tv", 0.2, 0.5), ("av", 0.2, 0.5), ("t", 0, 0.2)):
        value = split.factors[factor][owner]
        weights, *_ = np.linalg.lstsq(each, value, rcond=None)
        assert low <= metrics.correlation(each @ weights, value) <= high, factor


def test_in_the_world_of_the_tables_each_of_three_ideas_has_a_share_of_the_label():
    plan = planted.DESIGNS["several"]
    means = sum(w**2 for f, w in plan.weight.items() if f in plan.held)
    cues = sum(w**2 for f, w in plan.weight.items() if f not in plan.held)
    products = sum(w**2 for w, *_ in plan.products)  # of independent factors of variance 1
    assert min(means, cues, products) / (means + cues + products) > 0.15
    for corpus in CORPORA:
        made = planted.generate(CORPORA[corpus], design="several")
        label = made.splits["test"].label
        corr = {name: metrics.correlation(p, label) for name, p in references.references(made).items()}
        assert 0.4 < corr["ridge (T + A + V)"] / corr["oracle (true factors)"] < 0.85
