"""ConFEDE's pairs by hand, its Transformer against PyTorch's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from systems import batch_of, demo, fill

from finelib.baselines import confede


def test_confede_pairs_by_hand():
    similar, dissimilar = ({m: torch.randn(5, 3) for m in "TAV"} for _ in range(2))
    like, unlike = torch.zeros(5, 5, dtype=torch.bool), torch.zeros(5, 5, dtype=torch.bool)
    like[0, 1] = like[1, 0] = like[0, 2] = True
    unlike[0, 3] = unlike[0, 4] = unlike[3, 0] = True

    def score(x, y):
        return float(F.cosine_similarity(x, y, dim=0)) / 0.5

    losses = []
    for i in range(5):
        for m in "TAV":
            s = similar[m]
            positive = [score(s[i], s[j]) for j in range(5) if like[i, j]]
            negative = [score(s[i], s[j]) for j in range(5) if unlike[i, j]]
            if m == "T":
                positive += [score(s[i], similar[n][i]) for n in "AV"]
                negative += [score(s[i], dissimilar[n][i]) for n in "TAV"]
            against = sum(np.exp(n) for n in negative)
            losses += [-np.log(np.exp(p) / (np.exp(p) + against)) for p in positive]
    found = confede.contrastive_loss(similar, dissimilar, like, unlike, temperature=0.5)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-4)


def test_confede_partners_are_the_nearest_of_the_class_and_both_ends_of_the_others():
    angle = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.5])
    pooled, classes = torch.stack([angle.cos(), angle.sin()], 1), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    like, unlike = confede.partners(pooled, classes, count=1)
    assert like[0].nonzero()[:, 0].tolist() == [1]
    assert unlike[0].nonzero()[:, 0].tolist() == [4, 7]
    alone = confede.partners(pooled, torch.arange(8), count=2)[0]
    assert not alone.any()


def test_confede_counts_single_features_and_takes_unimodal_labels(corpus):
    model, batch = demo("ConFEDE", corpus).eval(), batch_of(corpus)
    output = model(batch)
    own = {m: torch.full_like(batch.label, float(i)) for i, m in enumerate("TAV")}
    terms = model.losses(output, replace(batch, unimodal_labels=own))
    errors = [(model.mono(x)[:, 0] - batch.label).square().mean() for x in output.similar.values()]
    errors += [(model.mono(output.dissimilar[m])[:, 0] - own[m]).square().mean() for m in "TAV"]
    torch.testing.assert_close(terms["L_UP"], torch.stack(errors).mean())
    torch.testing.assert_close(terms["total"], terms["L_MP"] + 0.1 * terms["L_CL"] + 0.01 * terms["L_UP"])


def test_confede_reads_the_cls_row_of_a_transformer():
    read = fill(confede.Read(5, 9, confede.Config(width=8, heads=2, layers=2)))
    x, mask = torch.randn(3, 9, 5), torch.arange(9) < torch.tensor([9, 4, 0])[:, None]
    whole = torch.cat([read.cls.expand(3, -1, -1), read.project(x)], 1) + read.position
    for layer in read.layers:
        whole = layer(whole, src_key_padding_mask=F.pad(~mask, (1, 0)))
    torch.testing.assert_close(read(x, mask), whole[:, 0], rtol=1e-4, atol=1e-5)
