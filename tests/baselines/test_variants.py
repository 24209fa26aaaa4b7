"""What Table 6 puts in the place of MoQ and FTRE, against plain loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_fine import SMALL, make, make_batch

from finelib import layers
from finelib.baselines import misa, variants
from finelib.fine import FINE

BODIES = list(variants.BODIES.values())


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def ragged(lengths=(7, 3, 1, 0, 10), width=16):
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), longest, width) * mask[..., None], mask


def test_stretches_are_means_of_equal_parts():
    x, mask = ragged((8, 3, 0))
    tokens = layers.stretches(x, mask, 4)
    for i in range(4):
        torch.testing.assert_close(tokens[0, i], x[0, 2 * i : 2 * i + 2].mean(0))
    # three frames for four stretches: they overlap
    for i, (first, last) in enumerate([(0, 1), (0, 2), (1, 3), (2, 3)]):
        torch.testing.assert_close(tokens[1, i], x[1, first:last].mean(0))
    assert not tokens[2].any()


@pytest.mark.parametrize("body", BODIES)
def test_padding_changes_nothing_and_an_empty_utterance_is_finite(body):
    x, mask = ragged()
    encoder = variants.FrameEncoder({"T": 16}, {"T": 16}, body, SMALL).eval()
    out = encoder({"T": x}, {"T": mask})["T"]
    more = encoder({"T": F.pad(x, (0, 0, 0, 5))}, {"T": F.pad(mask, (0, 5))})["T"]
    assert out.tokens.shape == (5, 4, 16) and out.tokens.isfinite().all()
    torch.testing.assert_close(out.tokens, more.tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [variants.FrameTransformer, variants.FrameTCN, variants.FrameLSTM])
def test_a_body_over_time_sees_the_order_of_the_frames(kind):
    x, mask = ragged((6, 6))
    body = kind(16, SMALL).eval()
    assert not torch.allclose(body(x, mask).flip(1), body(x.flip(1), mask), atol=1e-3)


def test_lstm_reads_each_utterance_alone():
    x, mask = ragged((7, 3))
    body = variants.FrameLSTM(16, SMALL)
    torch.testing.assert_close(body(x, mask)[1, :3], body.lstm(x[1:, :3])[0][0])


def test_cmd_by_hand():
    x, y = torch.rand(20, 3), torch.rand(20, 3) * 0.5
    a, b = x.double().numpy(), y.double().numpy()
    expected = np.linalg.norm(a.mean(0) - b.mean(0))
    for k in range(2, 6):
        moments = [((z - z.mean(0)) ** k).mean(0) for z in (a, b)]
        expected += np.linalg.norm(moments[0] - moments[1])
    assert float(misa.central_moment_discrepancy(x, y)) == pytest.approx(expected, rel=1e-4)
    assert float(misa.central_moment_discrepancy(x, x)) < 1e-5


def test_difference_loss_by_hand():
    x, y = torch.randn(6, 3), torch.randn(6, 4)
    a, b = (z.numpy() - z.numpy().mean(0) for z in (x, y))
    a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))
    expected = np.mean([[np.dot(a[:, i], b[:, j]) ** 2 for j in range(4)] for i in range(3)])
    assert float(misa.orthogonality(x, y)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("row", variants.VARIANTS)
@pytest.mark.parametrize("modalities", ["TAV", "A"])
def test_every_part_is_trained_in_every_variant(row, modalities):
    settings = vars(SMALL) | {"modalities": tuple(modalities), "contrast_features": "task"}
    config = variants.VariantConfig(**settings, variant=row)
    model, batch = make(config).train(), make_batch()
    terms = model.losses(model(batch), batch)
    assert all(value.isfinite() for value in terms.values())
    terms["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_a_variant_overrides_one_method_of_fine():
    for kind in variants.VARIANTS.values():
        own = {name for each in kind.__mro__ if each not in FINE.__mro__ for name in vars(each)}
        assert len(own & {"make_moq", "make_ftre"}) == 1
        assert own <= {"make_moq", "make_ftre", "__module__", "__doc__", "__annotations__"}


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant 'w/o X': unknown, expected one of w/o MoQ, "):
        variants.VariantConfig(variant="w/o X")
