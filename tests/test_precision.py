"""The option ``precision``."""

from dataclasses import replace

import pytest
import torch

from finelib import training
from finelib.config import FineConfig, TrainConfig
from finelib.models import build

SMALL = FineConfig(width=(16, 16, 16), task_width=16, heads=2, critic_width=16, label_width=8, dropout=0.0)


def train(corpus, config, **changes):
    torch.manual_seed(0)
    model = build(config, corpus)
    return model, training.fit(model, corpus, replace(TrainConfig(epochs=2, batch_size=16), **changes), 0)


def test_training_in_bfloat16_ends_where_training_in_float32_does(corpus):
    (_, exact), (model, rounded) = (
        train(corpus, SMALL, epochs=6, lr=4e-3, precision=name) for name in ("float32", "bfloat16")
    )
    first, last = exact.curves[0], exact.curves[-1]
    assert rounded.curves[-1] != last  # it did something
    assert last["L_MP"] < 0.9 * first["L_MP"]
    assert rounded.curves[-1]["L_MP"] == pytest.approx(last["L_MP"], rel=0.1)
    assert rounded.curves[-1]["dev_mae"] == pytest.approx(last["dev_mae"], rel=0.05)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_losses_are_of_float32_and_little_else_than_rounding_differs(corpus):
    torch.manual_seed(0)
    model = build(SMALL, corpus).eval()
    batch, products = corpus.batch(range(16), "train"), []
    model.head[0].register_forward_hook(lambda _module, _args, out: products.append(out.dtype))
    found = []
    for precision in training.PRECISIONS:
        run = training.Trainer(model, corpus, TrainConfig(precision=precision), 0)
        output = run.forward(batch)
        assert output.prediction.dtype == output.features.tokens["T"].dtype == torch.float32
        found.append(model.losses(output, batch))
        assert all(value.dtype == torch.float32 for value in found[-1].values())
    assert products == [torch.float32, torch.bfloat16]
    for name, value in found[0].items():
        assert float(found[1][name]) == pytest.approx(float(value), rel=0.02, abs=0.02), name


def test_an_unknown_precision_is_refused(corpus):
    with pytest.raises(ValueError, match="precision: found 'float16', expected one of float32, bfloat16"):
        train(corpus, SMALL, precision="float16")
