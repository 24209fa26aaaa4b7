"""Figures 1 to 4 carry the shapes and values of the model and data they are drawn from."""

import numpy as np
import pytest
import torch

from finelib.metrics import correlation
from finelib.runs import experiment, presets
from finelib.study import factors
from finelib.views import diagrams


@pytest.fixture
def batch(model, corpus):
    return corpus.batch(range(5), modalities=model.modalities)


def texts(figure) -> str:
    return "\n".join(text.get_text() for axis in figure.axes for text in axis.texts)


def test_architecture_shows_the_batchs_shapes(model, batch):
    figure, caption = diagrams.architecture(model, batch)
    said = texts(figure)
    for m in model.modalities:
        assert "(" + ", ".join(map(str, batch.features[m].shape)) + ")" in said
    assert "(5, 3, 32)" in said and "(5,)" in said and "4 Q-Formers of 4 queries" in said
    assert f"{sum(p.numel() for p in model.parameters()):,}" in caption


def test_factorised_encoder_shows_widths(model, batch):
    with torch.no_grad():
        figure, _ = diagrams.factorised_encoder(model, model(batch))
    assert "(5, 4, 16)" in texts(figure) and "dot, 3 pairs" in texts(figure)


def test_cues_of_planted_data_stand_out(corpus):
    figure, caption = diagrams.utterance(corpus, 0)
    heights = np.array([bar.get_height() for bar in figure.axes[1].patches])  # audio
    cues = round(0.12 * len(heights))
    ordered = np.sort(heights)
    assert ordered[-cues] > ordered[-cues - 1] + 0.5  # a gap between the cues and all other frames
    assert corpus.splits["test"].ids[0] in caption


def test_true_factors_of_figure_3_are_the_oracles(results):
    specs = presets.figure5_specs(results)
    values = factors.information_values(specs, experiment.run(specs, results.out))
    assert list(values) == ["true factors", "STR and UTR", "STR", "UTR"]
    test = experiment.load_corpus(specs[0].data).splits["test"]
    expected = -0.5 * np.log(1 - correlation(test.factors["oracle"], test.label) ** 2)
    assert values["true factors"]["I(T,A,V;Y)"] == [pytest.approx(expected, abs=1e-3)]
    figure, caption = diagrams.factorisation(values, "planted data")
    assert len(figure.axes[0].patches) == 4 * 8 and f"true factors {expected:.2f}" in caption
