"""The explorer's numbers against the model's own."""

from dataclasses import replace

import ipywidgets
import numpy as np
import pytest
import torch

from finelib.views import explorer


def one(model, corpus, row=2):
    return corpus.batch([row], modalities=model.modalities)


def test_shows_the_models_prediction_and_attention_that_sums_to_one(model, corpus):
    batch = one(model, corpus)
    seen = explorer.look(model, batch)
    with torch.no_grad():
        assert seen.prediction == pytest.approx(float(model.eval()(batch).prediction))
    for m, attention in seen.attention.items():
        assert attention.shape == (16, corpus.splits["test"].frames[m].length[2])
        torch.testing.assert_close(attention.sum(1), torch.ones(16))
        assert float(seen.router[m].sum()) == pytest.approx(1)


def test_a_muted_modality_no_longer_matters(model, corpus):
    batch = one(model, corpus)
    louder = one(model, corpus)
    louder.features["A"].mul_(50)
    muted, also = explorer.look(model, batch, ("A",)), explorer.look(model, louder, ("A",))
    assert muted.prediction == also.prediction != explorer.look(model, batch).prediction
    assert set(muted.without) == {"T", "V"}
    assert explorer.look(model, batch).without["A"] == pytest.approx(muted.prediction)
    empty = replace(
        batch,
        features=batch.features | {"A": torch.zeros(1, 1, batch.features["A"].shape[2])},
        mask=batch.mask | {"A": torch.zeros(1, 1, dtype=torch.bool)},
    )
    with torch.no_grad():
        assert muted.prediction == pytest.approx(float(model(empty).prediction), abs=1e-5)
    assert muted.norms["T STR"] == pytest.approx(explorer.look(model, batch).norms["T STR"])


def test_more_than_one_utterance_is_refused(model, corpus):
    with pytest.raises(ValueError, match="found a batch of 2, expected one utterance"):
        explorer.look(model, corpus.batch(range(2)))


def test_widgets_follow_the_choice(model, corpus, monkeypatch):
    drawn = []
    monkeypatch.setattr(explorer, "draw", lambda seen, *_: drawn.append(seen) or "picture")
    monkeypatch.setattr(explorer, "png", lambda *_: b"")
    box = explorer.explorer(model, corpus)
    which, muted = (w for w in box.children if isinstance(w, (ipywidgets.Dropdown, ipywidgets.ToggleButtons)))
    which.value = 3
    muted.value = "text"
    assert len(drawn) == 3 and set(drawn[-1].without) == {"A", "V"}
    expected = explorer.look(model, one(model, corpus, 3), ("T",)).prediction
    assert drawn[-1].prediction == pytest.approx(expected)
    assert np.isfinite(list(drawn[-1].norms.values())).all()
