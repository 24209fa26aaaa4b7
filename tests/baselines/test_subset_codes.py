"""FINE with subset codes: its terms by hand and against other code, what gets which gradient, what predictions need."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from test_fine import SMALL, WIDTHS, make_batch, perturb

from finelib import models
from finelib.baselines import subset_codes
from finelib.baselines.subset_codes import FineWithSubsetCodes, Outside, SubsetCodesConfig, code_places, subset_codes_of
from finelib.config import DataConfig, TrainConfig
from finelib.data.corpora import CORPORA
from finelib.inputs import Inputs
from finelib.mutual_information import nce_club
from finelib.runs import experiment


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make(modalities="TAV", **change):
    config = replace(subset_codes_of(SMALL), modalities=tuple(modalities), **change)
    inputs, info = Inputs({m: WIDTHS[m] for m in modalities}), CORPORA["mosi"]
    return FineWithSubsetCodes(config, info, inputs, [20] * (len(info.class_edges) + 1)).train()


def test_places_of_two_and_three_modalities():
    assert code_places(("T", "A")) == [("TA", "T"), ("T", "T"), ("TA", "A"), ("A", "A")]
    assert code_places(("T", "A", "V")) == [
        *(("TAV", "T"), ("TA", "T"), ("TV", "T"), ("T", "T")),
        *(("TAV", "A"), ("TA", "A"), ("AV", "A"), ("A", "A")),
        *(("TAV", "V"), ("TV", "V"), ("AV", "V"), ("V", "V")),
    ]
    with pytest.raises(ValueError, match="found modalities A, expected two or three"):
        make("A")


@pytest.mark.parametrize("modalities", ["TAV", "TV"])
def test_codes_are_standardised_and_are_all_that_str_and_utr_hold(modalities):
    model, batch = make(modalities), make_batch(64)
    features = model(batch).features
    codes = features.codes[..., 0]
    assert codes.mean(0).abs().max() < 1e-5 and (codes.var(0, unbiased=False) - 1).abs().max() < 1e-4
    places = code_places(tuple(modalities))
    for m in modalities:
        for kind, token in (("STR", features.str_[m]), ("UTR", features.utr[m])):
            mine = [
                i for i, (subset, owner) in enumerate(places) if owner == m and (len(subset) > 1) == (kind == "STR")
            ]
            assert token.shape == (64, 1, 16)
            x, y = codes[:, mine].detach().numpy(), token[:, 0].detach().numpy()
            assert LinearRegression().fit(x, y).score(x, y) > 1 - 1e-6


def test_agreement_by_hand():
    model = make()
    codes = torch.randn(10, 12, 1)
    of = {place: codes[:, i, 0] for i, place in enumerate(code_places(("T", "A", "V")))}

    def apart(subset, m, n):
        return float((of[subset, m] - of[subset, n]).square().mean())

    pairs = sum(apart(f"{m}{n}", m, n) for m, n in ("TA", "TV", "AV"))
    expected = pairs + sum(apart("TAV", m, n) for m, n in ("TA", "TV", "AV")) / 3
    assert float(model.agreement(codes)) == pytest.approx(expected, rel=1e-5)


def outside_of(ridge=0.3, decay=0.8):
    return Outside({"T": 3, "A": 4}, SubsetCodesConfig(modalities=("T", "A"), ridge=ridge, decay=decay)).train()


def tokens_of(n):
    return {"T": torch.randn(n, 2, 3), "A": torch.randn(n, 2, 4)}


def pooled(x):
    x = x.mean(1).numpy()
    return (x - x.mean(0)) / x.std(0)


def test_outside_is_the_r2_of_a_regression_on_the_outsiders_tokens():
    tokens, n = tokens_of(4000), 4000
    codes = torch.randn(n, 4, 1)
    codes[:, 1, 0] += tokens["A"].mean(1) @ torch.tensor([1.0, 0.5, 0, 0])  # T's own code knows of A
    codes = (codes - codes.mean(0)) / codes.std(0, unbiased=False)
    shared = [0, 2]  # places of the code of both: no outsider
    expected = sum(
        LinearRegression().fit(pooled(tokens[n]), codes[:, i, 0]).score(pooled(tokens[n]), codes[:, i, 0])
        for i, n in ((1, "A"), (3, "T"))
    )
    value = float(outside_of(ridge=0.0)(codes, tokens))
    assert value == pytest.approx(expected, rel=1e-3) and value > 0.3
    codes[:, shared] = codes[:, [1, 1]]
    assert float(outside_of(ridge=0.0)(codes, tokens)) == pytest.approx(expected, rel=1e-3)


def test_outside_is_nce_club_with_the_ridge_regressions_bilinear_critic():
    tokens, codes, n = tokens_of(50), torch.randn(50, 4, 1), 50
    codes = (codes - codes.mean(0)) / codes.std(0, unbiased=False)
    expected = 0.0
    for place, outsider in ((1, "A"), (3, "T")):
        z, c = pooled(tokens[outsider]), codes[:, place, 0].numpy()
        w = Ridge(alpha=0.3 * n, fit_intercept=False).fit(z, c).coef_  # sklearn's loss is a sum over the batch
        expected += float(nce_club(torch.from_numpy(np.outer(c, z @ w)), include_diagonal=True))
    assert float(outside_of()(codes, tokens)) == pytest.approx(expected, rel=1e-4)


def test_moments_are_averages_over_batches_of_which_older_ones_count_less():
    outside, batches = outside_of(ridge=0.0), [(torch.randn(20, 4, 1), tokens_of(20)) for _ in range(3)]
    for codes, tokens in batches:
        outside(codes, tokens)
    weight = np.array([0.8**2, 0.8, 1])
    moments = [pooled(tokens["A"]).T @ pooled(tokens["A"]) / 20 for _, tokens in batches]
    expected = np.einsum("b,bij->ij", weight / weight.sum(), moments)
    assert (outside.tokens_A / outside.mass).numpy() == pytest.approx(expected, abs=1e-5)
    before = outside.tokens_A.clone()
    outside.eval()(*batches[0])
    assert torch.equal(outside.tokens_A, before)


def gradients(term, module):
    found = torch.autograd.grad(term, list(module.parameters()), retain_graph=True, allow_unused=True)
    return sum(0.0 if g is None else float(g.abs().sum()) for g in found)


def test_outside_of_unique_codes_sends_no_gradient_to_the_tokens():
    model, batch = make("TA"), make_batch(32)  # of two modalities the unique codes alone have an outsider
    term = model.losses(model(batch), batch)["outside"]
    assert gradients(term, model.moq) == 0
    assert gradients(term, model.ftre.unique_code) > 0 and gradients(term, model.ftre.stacks) > 0
    model = make("TAV")
    term = model.losses(model(batch), batch)["outside"]
    assert gradients(term, model.moq) > 0  # of the pairs' codes


def test_sparing_codes_are_the_codes():
    model, batch = make(), make_batch(32)
    features = model(batch).features
    running = model.ftre.norm.running_mean.clone()
    torch.testing.assert_close(model.ftre.sparing_codes(features.tokens), features.codes, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.ftre.norm.running_mean, running)


def test_at_weight_0_the_parts_vanish():
    parts = {"weight_agreement": 0.0, "weight_outside": 0.0, "weight_codes": 0.0, "ramp": 0.0}
    model, batch = make(**parts), make_batch(32)
    terms, c = model.losses(model(batch), batch), model.config
    fine = terms["L_MP"] + c.lambda_up * terms["L_UP"] + c.lambda_cl * terms["L_CL"] + c.lambda_aux * terms["L_aux"]
    torch.testing.assert_close(terms["total"], fine + c.beta_mi * terms["L_MI"])
    for name in ("agreement", "outside", "L_codes"):
        other = make(**parts | {f"weight_{name.removeprefix('L_')}": 3.0})
        other.load_state_dict(model.state_dict())
        more = other.losses(other.eval()(batch), batch)
        less = model.losses(model.eval()(batch), batch)
        torch.testing.assert_close(more["total"] - less["total"], 3 * more[name], rtol=1e-4, atol=1e-4)


def test_label_terms_rise_over_the_first_passes():
    model, batch = make(ramp=2.0, weight_codes=0.0), make_batch(32)
    size = model.training_size
    for passes, share in ((0, 0), (1, 0.5), (2, 1), (5, 1)):
        model.seen.fill_(passes * size)
        terms, c = model.losses(model(batch), batch), model.config
        late = terms["L_MP"] + c.lambda_up * terms["L_UP"] + c.lambda_cl * terms["L_CL"]
        early = c.lambda_aux * terms["L_aux"] + c.beta_mi * terms["L_MI"]
        early = early + c.weight_agreement * terms["agreement"] + c.weight_outside * terms["outside"]
        torch.testing.assert_close(terms["total"], early + share * late)
    assert float(model.seen) == 5 * size + len(batch.label)


@pytest.mark.parametrize("modalities", ["TAV", "AV"])
def test_predictions_depend_on_neither_labels_nor_what_only_training_needs(modalities):
    model, batch = make(modalities).eval(), make_batch()
    before = model(batch).prediction
    for part in (model.information, model.outside, model.from_codes, model.queue):
        perturb(part)
    model.seen.fill_(1e6)
    after = model(replace(batch, label=-batch.label.flip(0))).prediction
    assert torch.equal(before, after)


@pytest.mark.parametrize("modalities", ["TAV", "TA"])
@pytest.mark.parametrize("width", [1, 2])
def test_every_part_is_trained(modalities, width):
    model, batch = make(modalities, code_width=width, contrast_features="task"), make_batch(32)
    model.seen.fill_(1.0 * model.training_size)
    terms = model.losses(model(batch), batch)
    assert all(value.isfinite() for value in terms.values())
    terms["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_starts_are_compared_by_structure_or_else_by_dev():
    good, bad = (
        [{"structure": 3.0, "dev_mae": 9.0}, {"structure": 1.1, "dev_mae": 9.0}],
        [{"structure": 1.5, "dev_mae": 1.0}],
    )
    assert models.start_error(good, "mosi") < models.start_error(bad, "mosi")
    fine = [{"dev_mae": 0.7, "dev_error_rate": 0.6}, {"dev_mae": 0.9, "dev_error_rate": 0.5}]
    assert models.start_error(fine, "mosi") == 0.7 and models.start_error(fine, "humor") == 0.5


def test_the_better_of_two_starts_is_returned():
    corpus = experiment.load_corpus(DataConfig("mosi", scale=0.05, design="components"))
    train = TrainConfig(epochs=1, keep_last=True)
    both = models.fit(subset_codes.NAME, corpus, train, seed=3, starts=2)
    alone = [models.fit(subset_codes.NAME, corpus, train, seed=s) for s in (3, 4)]
    found = [m.history.curves[-1]["structure"] for m in (both, *alone)]
    assert isinstance(both, FineWithSubsetCodes) and found[0] == min(found[1:]) != max(found[1:])
