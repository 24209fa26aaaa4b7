"""The leak, on features whose leak is known."""

import numpy as np

from finelib.data.public import LeakedFeatures
from finelib.study import leak


def test_a_leak_shows_where_the_features_were_learned_and_nowhere_else(monkeypatch):
    rng, n = np.random.default_rng(0), 400
    label = rng.uniform(-3, 3, n).astype(np.float32)
    inside = np.arange(n) < 240
    values = rng.standard_normal((n, 6)).astype(np.float32)
    values[inside, 0] += 2 * label[inside]
    ids = [f"a_video_{i // 20}_{i}" for i in range(n)]  # 20 utterances of each of 20 videos, 12 of them inside
    monkeypatch.setattr(
        leak.public, "leaked_video_features", lambda: LeakedFeatures(ids, values, label, np.full(n, "train"), inside)
    )
    table = leak.leak_of_video_features()
    assert list(table.index) == ["the 12 videos they were learned on", "the other videos"]
    assert table["Corr"].iloc[0] > 0.9 and abs(table["Corr"].iloc[1]) < 0.3
    assert list(table["utterances"]) == [240, 160]


def test_folds_never_part_a_video(monkeypatch):
    """Features that name the video tell its mean label only to those who have seen the video."""
    rng, n = np.random.default_rng(1), 300
    video = np.arange(n) // 10
    label = rng.choice([-2.0, 2.0], 30)[video].astype(np.float32)
    values = np.eye(30, dtype=np.float32)[video]
    ids = [f"v{v}_{i}" for i, v in enumerate(video)]
    monkeypatch.setattr(
        leak.public, "leaked_video_features", lambda: LeakedFeatures(ids, values, label, None, video < 15)
    )
    assert leak.leak_of_video_features()["Corr"].max() < 0.1
