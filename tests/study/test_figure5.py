"""Figure 5's numbers: those of the features, against controls."""

import json

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from finelib.runs import experiment, presets
from finelib.study import figure5, representations


def two_clusters():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(40, 10)), rng.normal(size=(40, 10)) + 30])


def test_numbers_are_those_of_the_features(results):
    numbers = json.loads((results.figures / "figure5.json").read_text())
    specs = presets.figure5_specs(results)
    records = experiment.run(specs, results.out)
    found = []
    for spec, record in zip(specs, records, strict=True):
        own = representations.extract(record, spec)
        found.append(representations.sentiment(own.joined, own.label)["label_r2"])
    assert numbers["measures"]["features"]["label_r2"]["mean"] == pytest.approx(np.mean(found))
    best = min(records, key=lambda r: r.valid["mae"])
    assert numbers["drawn_run"] == best.id


def test_beyond_control_needs_an_interval_without_zero():
    assert figure5._row([0.5, 0.6, 0.55], [0.0, 0.1, 0.05])["beyond_control"] == "above"
    assert figure5._row([0.0, 0.1, 0.05], [0.5, 0.6, 0.55])["beyond_control"] == "below"
    assert figure5._row([0.5, -0.6, 0.1], [0.0, 0.1, 0.05])["beyond_control"] == "no"
    assert figure5._row([0.5], [0.0])["beyond_control"] is None
    assert figure5._row([float("nan")] * 2, [0.0, 0.0])["mean"] is None


def test_thinning_is_fixed_and_without_repetition():
    rows = figure5.thinned(1000, 200)
    assert len(set(rows)) == 200 and list(rows) == sorted(rows)
    np.testing.assert_array_equal(rows, figure5.thinned(1000, 200))
    np.testing.assert_array_equal(figure5.thinned(5, 200), range(5))


def test_projections_are_reproducible_and_keep_clusters():
    points = two_clusters()
    np.testing.assert_array_equal(figure5.umap(points), figure5.umap(points))
    for shown in (figure5.umap(points), figure5.pca(points)):
        assert shown.shape == (80, 3)
        nearest = NearestNeighbors(n_neighbors=4).fit(shown).kneighbors(shown, return_distance=False)
        assert ((nearest < 40) == (np.arange(80) < 40)[:, None]).mean() > 0.85  # mostly one's own cluster
