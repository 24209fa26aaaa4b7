"""LMF against TFN."""

import torch
from systems import batch_of, demo, fill

from finelib.baselines import lmf, tfn


def test_lmf_is_tfn_with_a_weight_of_low_rank(corpus):
    model, batch = fill(demo("LMF", corpus)), batch_of(corpus)
    factors = [model.factor[m] for m in model.modalities]
    weight = torch.einsum("r,rt,ra,rv->tav", model.weight, *factors)
    embedded = [model.nets[m](x, mask) for m, (x, mask) in model.inputs(batch).items()]
    expected = tfn.tensor_fusion(embedded) @ weight.flatten() + model.bias
    torch.testing.assert_close(model(batch).prediction, expected, rtol=1e-3, atol=1e-4)
    assert model.weight.shape == (lmf.Config().rank,)
