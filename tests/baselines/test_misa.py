"""MISA's losses by hand."""

import numpy as np
import pytest
import torch
from systems import batch_of, demo, fill

from finelib.baselines import misa


def test_misa_losses_by_hand(corpus):
    model, batch = demo("MISA", corpus), batch_of(corpus)
    with torch.no_grad():
        output = model(batch)
    shared, private = (
        {m: x.detach().numpy().astype(float) for m, x in kind.items()} for kind in (output.shared, output.private)
    )

    def cmd(x, y):
        total = np.linalg.norm(x.mean(0) - y.mean(0))
        for k in range(2, 6):
            moment = [((z - z.mean(0)) ** k).mean(0) for z in (x, y)]
            total += np.linalg.norm(moment[0] - moment[1])
        return total

    def overlap(x, y):
        x, y = (z - z.mean(0) for z in (x, y))
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        return ((x.T @ y) ** 2).mean()

    pairs = [("T", "A"), ("T", "V"), ("A", "V")]
    assert float(misa.similarity(output.shared)) == pytest.approx(
        np.mean([cmd(shared[m], shared[n]) for m, n in pairs]), rel=1e-3
    )
    expected = sum(overlap(private[m], shared[m]) for m in "TAV")
    expected += sum(overlap(private[m], private[n]) for m, n in pairs)
    assert float(misa.difference(output.shared, output.private)) == pytest.approx(expected, rel=1e-3)
    terms, c = model.losses(output, batch), model.config
    weighted = terms["L_MP"] + c.difference * terms["diff"] + c.similarity * terms["cmd"]
    weighted += c.reconstruction * terms["L_recon"]
    torch.testing.assert_close(terms["total"], weighted)
    assert terms["L_recon"] > 0 and (c.difference, c.similarity, c.reconstruction) == (0.3, 1.0, 1.0)


def test_misa_has_one_shared_encoder_and_a_private_one_each(corpus):
    model, batch = fill(demo("MISA", corpus)), batch_of(corpus)
    output = model(batch)
    for m in "TAV":
        torch.testing.assert_close(output.shared[m], model.factorise.shared(output.common[m]))
        torch.testing.assert_close(output.private[m], model.factorise.private[m](output.common[m]))
