"""The numbers of Figure 5 on constructed clouds and hand-worked values."""

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

from finelib.runs import experiment, presets
from finelib.study import representations
from finelib.study.representations import cka_matrix, controls, density, measure, neutral_between, sentiment, separation

GROUPS = tuple((m, kind) for m in "TAV" for kind in ("STR", "UTR"))
RNG = np.random.default_rng(0)


def clouds(modality: float, kind: float, n: int = 120, width: int = 8) -> np.ndarray:
    """Six clouds of unit variance, centres apart by these distances."""
    values = RNG.standard_normal((6, n, width))
    for i in range(6):
        values[i, :, i // 2] += modality
        values[i, :, 4 + i % 2] += kind
    return values


def test_modalities_apart_and_kinds_mixed():
    found = separation(GROUPS, clouds(modality=30, kind=0))
    assert found["modality_silhouette"] > 0.8 and found["modality_accuracy"] == 1
    assert abs(found["kind_silhouette"]) < 0.1 and 0.35 < found["kind_accuracy"] < 0.65


def test_kinds_apart_and_modalities_mixed():
    found = separation(GROUPS, clouds(modality=0, kind=30))
    assert found["kind_silhouette"] > 0.8 and found["kind_accuracy"] == 1
    assert abs(found["modality_silhouette"]) < 0.1 and 0.2 < found["modality_accuracy"] < 0.5


def three_classes(aside: float, between: bool = True) -> tuple[np.ndarray, np.ndarray]:
    label = np.repeat([-2.0, 0.0, 2.0], 100)
    points = RNG.standard_normal((300, 6)) * 0.3
    points[:, 0] += 3 * label if between else 3 * label * (label < 0) - 12 * (label == 0)
    points[label == 0, 1] += aside
    return points, label


def test_neutral_between_the_others():
    assert neutral_between(*three_classes(aside=0))["neutral_between"] > 0.9


@pytest.mark.parametrize(("aside", "between"), [(8, True), (0, False)])
def test_neutral_aside_or_beyond(aside, between):
    assert neutral_between(*three_classes(aside, between))["neutral_between"] < 0.05


def test_others_between_is_half_of_one_cloud_cut_in_the_middle():
    """Two uniform halves of a line that meet at 0: centroids at -1/2 and 1/2, half of all points between them."""
    x = np.linspace(-1, 1, 4001)
    points = np.stack([x, np.zeros_like(x), np.zeros_like(x)], 1)
    label = np.where(np.abs(x) < 1e-9, 0, x)
    assert neutral_between(points, label)["others_between"] == pytest.approx(0.5, abs=0.01)


def test_a_missing_class_cannot_be_told():
    points, label = three_classes(0)
    keep = label != 0
    assert np.isnan(neutral_between(points[keep], label[keep])["neutral_between"])


def test_sentiment_along_an_axis_or_nowhere():
    label = RNG.uniform(-3, 3, 300)
    points = RNG.standard_normal((300, 5)) * 0.1
    assert sentiment(points, RNG.permutation(label))["label_r2"] < 0.1
    points[:, 3] += label
    found = sentiment(points, label)
    assert found["label_r2"] > 0.98 and found["spearman"] > 0.98


def test_cka_is_squared_correlation_in_one_dimension_and_blind_to_rotation():
    x, y = RNG.standard_normal((2, 200, 1))
    y = 0.6 * x + 0.8 * y
    expected = np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2
    assert cka_matrix(np.stack([x, y]))[0, 1] == pytest.approx(expected)
    cloud = RNG.standard_normal((200, 4))
    turned = 3 * cloud @ ortho_group.rvs(4, random_state=0) + 7
    assert cka_matrix(np.stack([cloud, turned]))[0, 1] == pytest.approx(1)


def test_density_by_hand():
    """0, 1, 2, 3 on a line: one direction, neighbours at 1, variance 5/3, so typical distance sqrt(10/3)."""
    line = np.zeros((1, 4, 3))
    line[0, :, 0] = range(4)
    found = density(line)
    assert found["participation"] == pytest.approx(1)
    assert found["neighbour_distance"] == pytest.approx(1 / np.sqrt(10 / 3))
    round_cloud = RNG.standard_normal((1, 20000, 5))
    assert density(round_cloud)["participation"] == pytest.approx(5, rel=0.01)


def test_controls_find_nothing_where_measure_finds_all():
    label = np.repeat([-2.0, 0.0, 2.0], 60)
    values = clouds(modality=20, kind=10, n=180)
    values += 4 * label[:, None]
    joined = np.concatenate(list(values), -1)
    found, control = measure(joined, GROUPS, values, label), controls(joined, GROUPS, values, label)
    assert found["label_r2"] > 0.9 > 0.1 > control["label_r2"]
    assert found["modality_accuracy"] == 1 and control["modality_accuracy"] < 0.5
    assert found["kind_accuracy"] == 1 and control["kind_accuracy"] < 0.65
    assert found["participation"] < 0.5 * control["participation"]


def test_extracted_features_are_the_models(results):
    spec = presets.figure5_specs(results)[0]
    (record,) = experiment.run([spec], results.out)
    found = representations.extract(record, spec)
    model, corpus = experiment.load_model(record, spec), experiment.load_corpus(spec.data)
    batch = corpus.batch(range(3), modalities=model.modalities)
    with torch.no_grad():
        features = model(batch).features
    for i, (m, kind) in enumerate(found.groups):
        own = {"STR": features.str_, "UTR": features.utr}[kind][m].mean(1).numpy()
        np.testing.assert_allclose(found.values[i, :3], own, atol=1e-5)
    assert found.joined.shape == (len(corpus.splits["test"]), 6 * model.config.task_width)
    blank = representations.extract(record, spec, trained=False)
    assert np.abs(blank.values - found.values).max() > 1e-2
