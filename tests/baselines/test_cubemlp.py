"""CubeMLP's mixing against loops and einsum, its GRUs against single ones."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from systems import batch_of, demo, fill
from torch import nn

from finelib.baselines import common, cubemlp
from finelib.layers import stretches


def mlp(mix, row):
    """A Mix on one vector, from its weights."""
    normed = (row - row.mean()) / torch.sqrt(row.var(unbiased=False) + 1e-5) * mix.norm.weight + mix.norm.bias
    wide = F.gelu(mix.wide.weight @ normed + mix.wide.bias)
    return mix.narrow.weight @ wide + mix.narrow.bias + mix.beside.weight @ row


def test_cubemlp_mixes_steps_then_modalities_then_features():
    block, x = fill(cubemlp.Block((4, 3, 5), (2, 3, 6), 0.1)), torch.randn(2, 4, 3, 5)
    step = torch.stack(
        [torch.stack([mlp(block.mix[0], x[b, :, k, d]) for k in range(3) for d in range(5)]) for b in range(2)]
    )
    step = step.view(2, 3, 5, 2)  # (B, K, D, L)
    kind = torch.stack(
        [torch.stack([mlp(block.mix[1], step[b, :, d, t]) for d in range(5) for t in range(2)]) for b in range(2)]
    )
    kind = kind.view(2, 5, 2, 3)  # (B, D, L, K)
    last = torch.stack(
        [torch.stack([mlp(block.mix[2], kind[b, :, t, k]) for t in range(2) for k in range(3)]) for b in range(2)]
    )
    torch.testing.assert_close(block(x), last.view(2, 2, 3, 6), rtol=1e-4, atol=1e-5)


def test_cubemlp_knows_the_order_of_steps_by_mixing_them_alone():
    block, x, order = fill(cubemlp.Block((4, 3, 5), (4, 3, 5), 0.1)), torch.randn(2, 4, 3, 5), [2, 0, 3, 1]
    steps, kinds, features = block.mix

    def along(mix, axis, y):
        return mix(y.transpose(axis, -1)).transpose(axis, -1)

    for mix, axis in ((kinds, 2), (features, 3)):
        torch.testing.assert_close(along(mix, axis, x[:, order]), along(mix, axis, x)[:, order])
    assert not torch.allclose(along(steps, 1, x[:, order]), along(steps, 1, x)[:, order], atol=1e-2)


def test_cubemlp_without_its_mlps_is_three_linear_maps():
    block, x = fill(cubemlp.Block((4, 3, 5), (2, 3, 6), 0.1)), torch.randn(2, 4, 3, 5)
    for mix in block.mix:
        nn.init.zeros_(mix.narrow.weight)
        nn.init.zeros_(mix.narrow.bias)
    maps = [mix.beside.weight for mix in block.mix]
    torch.testing.assert_close(block(x), torch.einsum("blkd,il,jk,od->bijo", x, *maps), rtol=1e-4, atol=1e-5)


def test_cubemlp_adds_the_directions_of_two_gru_layers():
    read, x = fill(cubemlp.TwoGRUs(3, 4)), torch.randn(2, 5, 3)

    def single(layer, way, y):
        gru = nn.GRU(y.shape[-1], 4, batch_first=True)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(gru, f"{name}_l0", getattr(read.gru, f"{name}_l{layer}{way}"))
        return gru(y.flip(1))[0].flip(1) if way else gru(y)[0]

    first = torch.cat([single(0, "", x), single(0, "_reverse", x)], -1)
    added = single(1, "", first) + single(1, "_reverse", first)
    torch.testing.assert_close(read(x), torch.relu(read.norm(added)), rtol=1e-4, atol=1e-5)


def test_cubemlp_cube_has_every_modality_on_common_steps(corpus):
    model, batch = fill(demo("CubeMLP", corpus, steps=6, width=32, blocks=((6, 32), (3, 8)))), batch_of(corpus)
    cube, (x, mask) = model.cube(batch), model.inputs(batch)["T"]
    assert cube.shape == (6, 6, 3, 32)
    torch.testing.assert_close(cube[:, :, 0], stretches(x, mask, 6) @ model.text.weight.T, rtol=1e-3, atol=1e-3)
    audio = common.aligned(model.inputs(batch))[0]["A"]
    torch.testing.assert_close(cube[:, :, 1], model.read["A"](stretches(audio, mask, 6)))
    mixed = model.blocks(cube)
    assert mixed.shape == (6, 3, 3, 8)
    side_by_side = torch.cat([mixed[:, :, k].mean(1) for k in range(3)], 1)
    torch.testing.assert_close(model(batch).prediction, model.head(side_by_side)[:, 0])
    model.config = replace(model.config, modality_mean=True)
    model.head = nn.Linear(8, 1)
    torch.testing.assert_close(model(batch).prediction, model.head(mixed.mean((1, 2)))[:, 0])


def test_cubemlp_has_a_hidden_layer_where_more_than_128_features_are_read(corpus):
    assert isinstance(demo("CubeMLP", corpus, blocks=((12, 32), (6, 42))).head, nn.Linear)
    wide = demo("CubeMLP", corpus, blocks=((12, 32), (6, 43))).head
    assert [layer.out_features for layer in wide if isinstance(layer, nn.Linear)] == [128, 1]
