"""GFN's graph by loops over sets of modalities, its adversary by hand."""

import math
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from systems import batch_of, demo, fill

from finelib.baselines import gfn


@torch.no_grad()
def walk(graph, z):
    """U, B and T of one utterance, {place: z}, and the normalised weights of levels 2 and 3, vertex by vertex."""
    s = {m: torch.sigmoid(graph.weigh(z[m]))[0] for m in z}
    p = {m: torch.softmax(z[m], 0) for m in z}
    joint = {frozenset(pair): graph.join(torch.cat([z[pair[0]], z[pair[1]]])) for pair in combinations(sorted(z), 2)}
    r = {}
    for pair in joint:
        i, j = pair
        r[pair] = (s[i] + s[j]) / (p[i] @ p[j] + 0.5)
    total = sum(torch.exp(x) for x in r.values())
    n2 = {pair: torch.exp(x) / total for pair, x in r.items()}
    b = {pair: F.elu(n2[pair] * joint[pair]) for pair in joint}
    q = {pair: torch.softmax(x, 0) for pair, x in joint.items()}
    raw, fused = {}, {}
    for x, y in combinations(sorted(joint, key=sorted), 2):  # two pairs
        raw[x, y] = (r[x] + r[y]) / (q[x] @ q[y] + 0.5)
        fused[x, y] = graph.join_again(torch.cat([b[x], b[y]]))
    for x in joint:  # a pair and the modality that is not in it
        for m in set(z) - x:
            raw[x, m] = (r[x] + s[m]) / (q[x] @ p[m] + 0.5)
            fused[x, m] = graph.join_again(torch.cat([b[x], z[m]]))
    total = sum(torch.exp(x) for x in raw.values())
    n3 = {vertex: torch.exp(x) / total for vertex, x in raw.items()}
    levels = [sum(s[m] * z[m] for m in z) / len(z), sum(b.values()), sum(F.elu(n3[v] * fused[v]) for v in fused)]
    return levels, n2, n3


def test_gfn_graph_vertex_by_vertex():
    graph, z = fill(gfn.Graph(3, 5)), torch.randn(3, 4, 5)
    found = graph(z)
    for i in range(4):
        levels, n2, n3 = walk(graph, dict(enumerate(z[:, i])))
        assert len(n2) == 3 and len(n3) == 6
        assert float(sum(n2.values())) == pytest.approx(1) and float(sum(n3.values())) == pytest.approx(1)
        torch.testing.assert_close(found[i], torch.cat(levels), rtol=1e-4, atol=1e-5)


def test_gfn_graph_of_two_modalities_is_one_pair_and_of_one_is_itself():
    graph, z = fill(gfn.Graph(2, 5)), torch.randn(2, 4, 5)
    found = graph(z)
    torch.testing.assert_close(found[:, 5:], F.elu(graph.join(torch.cat([z[0], z[1]], 1))))
    graph = fill(gfn.Graph(1, 5))
    torch.testing.assert_close(graph(z[:1]), torch.sigmoid(graph.weigh(z[0])) * z[0])


def test_gfn_losses_by_hand(corpus):
    model, batch = fill(demo("GFN", corpus, adversary=0.2)), batch_of(corpus)
    output = model(batch)
    terms, label, d = model.losses(output, batch), batch.label, torch.sigmoid(model.discriminator(output.encoded))
    fool = -sum(torch.log(d[m]).mean() for m in (1, 2))
    told = -(torch.log(d[0]).mean() + sum(torch.log(1 - d[m]).mean() for m in (1, 2))) / 2
    single = sum((model.single(z)[:, 0] - label).abs().mean() for z in output.encoded)
    recon = sum(
        (model.decode[m](z) - output.features[m]).abs().mean() for m, z in zip("TAV", output.encoded, strict=True)
    )
    for name, expected in {"adv": fool, "disc": told, "L_UP": single, "L_recon": recon}.items():
        torch.testing.assert_close(terms[name], expected, rtol=1e-3, atol=1e-4)
    total = terms["L_MP"] + single + 0.2 * fool + 0.8 * recon + told
    torch.testing.assert_close(terms["total"], total, rtol=1e-4, atol=1e-4)


def test_gfn_discriminator_and_encoders_are_trained_against_each_other(corpus):
    model, batch = demo("GFN", corpus), batch_of(corpus)
    trained = set(model.critic_parameters())

    def reached(name):
        model.zero_grad()
        model.losses(model(batch), batch)[name].backward()
        return {p for p in model.parameters() if p.grad is not None and p.grad.abs().max() > 0}

    assert reached("disc") and reached("disc") <= trained
    assert reached("adv") and not reached("adv") & trained
    encoders = set(model.encode.parameters())
    assert reached("L_MP") & encoders
    model.config = gfn.Config(detach_fusion=True)
    assert not reached("L_MP") & encoders and reached("L_UP") & encoders
    for p in model.discriminator[-1].parameters():  # D says 1/2
        torch.nn.init.zeros_(p)
    terms = model.losses(model(batch), batch)
    assert terms["adv"].item() == pytest.approx(2 * math.log(2))
    assert terms["disc"].item() == pytest.approx(1.5 * math.log(2))
