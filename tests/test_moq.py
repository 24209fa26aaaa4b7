"""MoQ against a plain Q-Former of torch's own layers, and its routing against closed forms."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from finelib.config import FineConfig
from finelib.moq import MixtureStack, MoQ, load_balance, top_k_gate

WIDTH, HEADS, EXPERTS, QUERIES = 12, 3, 3, 4
FRAME_WIDTHS = {"T": 7, "A": 5}
CONFIG = FineConfig(experts=EXPERTS, queries=QUERIES, top_k=2, heads=HEADS)


class PlainLayer(nn.Module):
    """The textbook post-norm Q-Former layer, one modality, one expert, with its keys and values projected."""

    def __init__(self, frame_width):
        super().__init__()
        self.self_attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=frame_width, vdim=frame_width, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, tokens, frames, padding):
        tokens = self.norms[0](tokens + self.self_attention(tokens, tokens, tokens)[0])
        attended = self.cross_attention(tokens, frames, frames, key_padding_mask=padding)[0]
        tokens = self.norms[1](tokens + attended)
        return self.norms[2](tokens + self.feed_forward(tokens))

    @torch.no_grad()
    def copy(self, layer, modality, expert, index):
        own, cross = self.self_attention, self.cross_attention
        own.in_proj_weight.copy_(layer.self_in.weight[index].T)
        own.in_proj_bias.copy_(layer.self_in.bias[index, 0])
        copy_linear(own.out_proj, layer.self_out, index)
        cross.q_proj_weight.copy_(layer.cross_query.weight[index].T)
        cross.k_proj_weight.copy_(layer.cross_key[modality][expert].flatten(0, 1))
        cross.v_proj_weight.copy_(layer.cross_value[modality][expert].transpose(1, 2).flatten(0, 1))
        key_bias = torch.randn(WIDTH)  # must make no difference
        cross.in_proj_bias.copy_(
            torch.cat([layer.cross_query.bias[index, 0], key_bias, layer.cross_value_bias[index, 0]])
        )
        copy_linear(cross.out_proj, layer.cross_out, index)
        copy_linear(self.feed_forward[0], layer.feed_forward[0], index)
        copy_linear(self.feed_forward[2], layer.feed_forward[2], index)
        for norm, stacked in zip(self.norms, layer.norms, strict=True):
            norm.weight.copy_(stacked.weight[index, 0])
            norm.bias.copy_(stacked.bias[index, 0])
        return self


def copy_linear(linear, stacked, index):
    linear.weight.copy_(stacked.weight[index].T)
    linear.bias.copy_(stacked.bias[index, 0])


@pytest.fixture(autouse=True)
def double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(layers=1, **options):
    moq = MixtureStack(FRAME_WIDTHS, WIDTH, replace(CONFIG, qformer_layers=layers, **options)).eval()
    with torch.no_grad():  # queries and norms of a size that matters
        for name, p in moq.named_parameters():
            if "norm" in name or name == "query":
                p.add_(torch.randn_like(p) * 0.5)
    return moq


def batch(lengths):
    """Frames that are zero on padding, and masks."""
    frames, mask = {}, {}
    for m, length in lengths.items():
        length = torch.tensor(length)
        mask[m] = torch.arange(int(length.max())) < length[:, None]
        frames[m] = torch.randn(*mask[m].shape, FRAME_WIDTHS[m]) * mask[m][..., None]
    return frames, mask


LENGTHS = {"T": [6, 2, 4, 1], "A": [9, 11, 1, 5]}


@pytest.mark.parametrize("layers", [1, 2])
def test_equals_plain_qformer_in_values_and_gradients(layers):
    moq = make(layers)
    frames, mask = batch(LENGTHS)
    tokens = moq.expert_tokens(frames, mask)
    seed = torch.randn_like(tokens)
    (tokens * seed).sum().backward()
    for i, m in enumerate(FRAME_WIDTHS):
        for e in range(EXPERTS):
            index = i * EXPERTS + e
            plain = [PlainLayer(FRAME_WIDTHS[m]).copy(x, m, e, index) for x in moq.layers]
            query = moq.query[index].detach().clone().requires_grad_()
            norm = (moq.norm.weight[index, 0], moq.norm.bias[index, 0])
            x = F.layer_norm(query, (WIDTH,), *norm).expand(4, -1, -1)
            for layer in plain:
                x = layer(x, frames[m], ~mask[m])
            torch.testing.assert_close(tokens[i, e], x, atol=1e-10, rtol=0)
            (x * seed[i, e]).sum().backward()
            own = moq.layers[0]
            cross = plain[0].cross_attention
            for ours, theirs in (
                (moq.query.grad[index], query.grad),
                (own.cross_key[m].grad[e].flatten(0, 1), cross.k_proj_weight.grad),
                (own.cross_value[m].grad[e].transpose(1, 2).flatten(0, 1), cross.v_proj_weight.grad),
                (own.self_in.weight.grad[index].T, plain[0].self_attention.in_proj_weight.grad),
            ):
                assert theirs.abs().max() > 1e-4
                torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("layers", [1, 2])
def test_attention_is_that_of_the_last_layer_of_a_plain_qformer(layers):
    moq = make(layers)
    frames, mask = batch(LENGTHS)
    found = moq.attention(frames, mask)
    for i, m in enumerate(FRAME_WIDTHS):
        for e in range(EXPERTS):
            index = i * EXPERTS + e
            plain = [PlainLayer(FRAME_WIDTHS[m]).copy(layer, m, e, index) for layer in moq.layers]
            x = moq.norm(moq.query)[index].expand(4, -1, -1)
            for layer in plain[:-1]:
                x = layer(x, frames[m], ~mask[m])
            last = plain[-1]
            x = last.norms[0](x + last.self_attention(x, x, x)[0])
            expected = last.cross_attention(x, frames[m], frames[m], key_padding_mask=~mask[m])[1]
            torch.testing.assert_close(found[m][:, e].expand_as(expected), expected, atol=1e-10, rtol=0)


def test_output_is_the_gated_sum_of_experts():
    moq = make()
    frames, mask = batch(LENGTHS)
    experts, out = moq.expert_tokens(frames, mask), moq(frames, mask)
    for i, m in enumerate(FRAME_WIDTHS):
        for b, length in enumerate(LENGTHS[m]):
            p = moq.router[m](frames[m][b, :length].mean(0)).softmax(-1)
            best = p.argsort(descending=True)[:2]
            torch.testing.assert_close(out[m].router[b], p)
            torch.testing.assert_close(out[m].tokens[b], sum(p[e] * experts[i, e, b] for e in best))


def test_extra_padding_changes_nothing():
    moq = make(2)
    frames, mask = batch(LENGTHS)
    longer = {m: F.pad(x, (0, 0, 0, 3)) for m, x in frames.items()}, {m: F.pad(x, (0, 3)) for m, x in mask.items()}
    for m, out in moq(frames, mask).items():
        torch.testing.assert_close(out.tokens, moq(*longer)[m].tokens, atol=1e-12, rtol=0)


def test_order_of_frames_does_not_matter():
    moq = make(2)
    frames, mask = batch({"T": [5, 5], "A": [8, 8]})
    shuffled = {m: x[:, torch.randperm(x.shape[1])] for m, x in frames.items()}
    for m, out in moq(frames, mask).items():
        torch.testing.assert_close(out.tokens, moq(shuffled, mask)[m].tokens, atol=1e-12, rtol=0)


def test_utterance_of_padding_alone_is_finite_and_leaves_the_others_alone():
    moq = make(2)
    frames, mask = batch({"T": [6, 3], "A": [4, 4]})
    before = moq(frames, mask)["T"].tokens[0]
    frames["T"][1], mask["T"][1] = 0, False
    out = moq(frames, mask)
    torch.testing.assert_close(out["T"].tokens[0], before)
    sum(o.tokens.square().sum() + o.load_balance for o in out.values()).backward()
    assert all(o.tokens.isfinite().all() for o in out.values())
    assert all(p.grad.isfinite().all() for p in moq.parameters())


def test_load_balance_is_one_at_balance_and_experts_over_k_at_collapse():
    experts, k = 4, 2
    balanced = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]], dtype=torch.bool)
    assert load_balance(torch.full((4, experts), 0.25), balanced).item() == pytest.approx(1)
    collapsed = torch.tensor([[0.5, 0.5, 0, 0]]).expand(4, -1)
    assert load_balance(collapsed, collapsed > 0).item() == pytest.approx(experts / k)
    # by hand: f = (1, .5, .5, 0), P = (.6, .2, .15, .05), 4 / 2 * (.6 + .1 + .075)
    p = torch.tensor([[0.6, 0.2, 0.15, 0.05]]).expand(2, -1)
    chosen = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    assert load_balance(p, chosen).item() == pytest.approx(1.55)


def test_load_balance_of_an_output_is_that_of_its_routers_top_k():
    moq = make()
    frames, mask = batch(LENGTHS)
    for out in moq(frames, mask).values():
        chosen = torch.zeros_like(out.router, dtype=torch.bool).scatter(1, out.router.topk(2).indices, True)
        torch.testing.assert_close(out.load_balance, load_balance(out.router, chosen), atol=0, rtol=0)


def test_top_k_gate_keeps_k_and_renormalises_only_when_asked():
    p = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.7, 0.05, 0.05 + 1e-9, 0.2]])
    torch.testing.assert_close(top_k_gate(p, 2), torch.tensor([[0, 0.4, 0.3, 0], [0.7, 0, 0, 0.2]]))
    torch.testing.assert_close(
        top_k_gate(p, 2, renormalise=True), torch.tensor([[0, 4 / 7, 3 / 7, 0], [7 / 9, 0, 0, 2 / 9]])
    )


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 5}, {"heads": 7}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="MoQ: "):
        MixtureStack(FRAME_WIDTHS, WIDTH, replace(CONFIG, **options))


def test_modalities_of_several_widths_are_mixed_each_by_its_own_stack_in_the_order_asked_for():
    widths = {"T": 12, "A": 6}
    moq = MoQ(FRAME_WIDTHS, widths, CONFIG).eval()
    frames, mask = batch(LENGTHS)
    out = moq(frames, mask)
    assert list(out) == list(moq.attention(frames, mask)) == ["T", "A"]
    assert {m: x.tokens.shape[-1] for m, x in out.items()} == widths
    for stack in moq.stacks:
        for m, alone in stack(frames, mask).items():
            assert torch.equal(out[m].tokens, alone.tokens)
    together = MoQ(FRAME_WIDTHS, dict.fromkeys(FRAME_WIDTHS, 12), CONFIG)
    assert len(moq.stacks) == 2 and len(together.stacks) == 1
