"""C-MIB's bottlenecks against torch.distributions, its loss by hand."""

import math

import pytest
import torch
from systems import batch_of, demo, fill
from torch.distributions import Normal, kl_divergence

from finelib.baselines import c_mib, common


def test_c_mib_divergence_is_that_of_gaussians():
    mean, sd = torch.randn(7, 4), torch.rand(7, 4) + 0.1
    found = c_mib.divergence(c_mib.Gaussian(mean, sd))
    torch.testing.assert_close(found, kl_divergence(Normal(mean, sd), Normal(0.0, 1.0)).mean())
    z = Normal(mean, sd).sample((100_000,))
    drawn = Normal(mean, sd).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    assert float(found) == pytest.approx(float(drawn.mean()), abs=0.01)
    assert c_mib.divergence(c_mib.Gaussian(torch.zeros(3, 2), torch.ones(3, 2))) == 0


def test_c_mib_draws_in_training_and_takes_the_mean_in_evaluation():
    squeeze, x = fill(c_mib.Bottleneck(4, 6)), torch.randn(1, 4)
    hidden = torch.relu(squeeze.hidden(x))
    mean, raw = squeeze.mean(hidden)[0], squeeze.spread(hidden)[0]
    sd = torch.log1p(torch.exp(raw - 5))
    torch.testing.assert_close(squeeze(x)[0][0], mean)
    z, gaussian = squeeze.train()(x.expand(100_000, -1))
    torch.testing.assert_close(gaussian.sd[0], sd)
    assert ((z.mean(0) - mean) / (sd / math.sqrt(len(z)))).abs().max() < 5  # standard errors
    assert (z.std(0) / sd - 1).abs().max() < 0.02


def test_c_mib_predictions_repeat_in_evaluation_alone(corpus):
    none = dict.fromkeys(("residual_dropout", "relu_dropout", "embed_dropout"), 0.0)
    model, batch = demo("C-MIB", corpus, **none), batch_of(corpus)
    assert not torch.equal(model.train()(batch).prediction, model(batch).prediction)
    torch.testing.assert_close(model.eval()(batch).prediction, model(batch).prediction)
    still = demo("C-MIB", corpus, unimodal=False, fused=False, **none).train()
    torch.testing.assert_close(still(batch).prediction, still(batch).prediction)


def test_c_mib_counts_the_fused_error_twice_and_each_bottleneck_once(corpus):
    model, batch = demo("C-MIB", corpus, beta=0.1).eval(), batch_of(corpus)
    output = model(batch)
    assert set(output.unimodal) == set("TAV") and set(output.bottleneck) == set("TAVM")
    expected = 2 * (output.prediction - batch.label).abs().mean()
    expected += sum((p - batch.label).abs().mean() for p in output.unimodal.values())
    for gaussian in output.bottleneck.values():
        expected += 0.1 * kl_divergence(Normal(gaussian.mean, gaussian.sd), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(model.losses(output, batch)["total"], expected)
    for changes, squeezed in (({"unimodal": False}, {"M"}), ({"fused": False}, set("TAV"))):
        part = demo("C-MIB", corpus, **changes).eval()(batch)
        assert set(part.bottleneck) == squeezed and set(part.unimodal) == squeezed - {"M"}


def test_c_mib_fuses_what_the_bottlenecks_keep(corpus):
    model, batch = fill(demo("C-MIB", corpus)), batch_of(corpus)
    output = model(batch)
    kept = torch.cat([output.bottleneck[m].mean for m in "TAV"], 1)
    fused = torch.relu(model.fuse(kept))
    torch.testing.assert_close(output.bottleneck["M"].mean, model.squeeze["M"](fused)[0])
    torch.testing.assert_close(output.prediction, model.head(output.bottleneck["M"].mean)[:, 0])
    torch.testing.assert_close(output.unimodal["A"], model.single["A"](output.bottleneck["A"].mean)[:, 0])


def test_summary_reads_the_last_real_frame(corpus):
    model, batch = fill(demo("C-MIB", corpus, text_mean=False)), batch_of(corpus)
    x, mask = model.inputs(batch)["T"]
    weight, found = model.summary.convolve["T"].weight, model.summary(model.inputs(batch))
    for b in range(len(batch)):
        end = int(mask[b].sum()) - 1
        expected = x[b, end - 1] @ weight[:, 0] + x[b, end] @ weight[:, 1]  # beyond the end there are zeros
        torch.testing.assert_close(found["T"][b], expected, rtol=1e-3, atol=1e-3)
    x, mask = model.inputs(batch)["A"]
    read, x = model.summary.read["A"], model.summary.convolve["A"](x, mask)
    whole = read.embed(x)
    for block in read.blocks:
        whole = block(whole, whole, mask)
    torch.testing.assert_close(found["A"], common.at_end(read.norm(whole), mask), rtol=1e-4, atol=1e-4)
