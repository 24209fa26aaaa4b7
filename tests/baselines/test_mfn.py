"""MFN against its equations, step by step."""

import torch
from systems import batch_of, demo, fill
from torch import nn

from finelib.baselines import common, mfn


def test_mfn_step_by_step(corpus):
    """Every equation of the paper as a loop over utterances and steps, with LSTM cells."""
    model, batch = fill(demo("MFN", corpus)), batch_of(corpus, range(3))
    frames, mask = common.aligned(model.inputs(batch))
    cells = {}
    for m, lstm in model.cells.lstm.items():
        cells[m] = nn.LSTMCell(lstm.input_size, lstm.hidden_size)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(cells[m], name, getattr(lstm, name + "_l0"))
    hidden = model.gates.hidden
    for b in range(3):
        h, c = ({m: torch.zeros(1, cell.hidden_size) for m, cell in cells.items()} for _ in range(2))
        u = torch.zeros(1, model.config.memory)
        for t in range(int(mask[b].sum())):
            before = torch.cat(list(c.values()), 1)
            for m, cell in cells.items():
                h[m], c[m] = cell(frames[m][b, t][None], (h[m], c[m]))
            window = torch.cat([before, *c.values()], 1)
            attended = model.attention(window).softmax(-1) * window
            candidate = torch.tanh(model.candidate(attended))
            inner = torch.relu(model.gates.read(attended) + u @ model.gates.recur)
            retain = torch.sigmoid(model.gates.out[0](inner[:, : hidden[0]]))
            update = torch.sigmoid(model.gates.out[1](inner[:, hidden[0] :]))
            u = retain * u + update * candidate
        expected = model.out(torch.cat([*h.values(), u], 1))[0, 0]
        torch.testing.assert_close(model(batch).prediction[b], expected, rtol=1e-3, atol=1e-4)


def test_mfn_memory_is_gated(corpus):
    model = fill(mfn.Model(mfn.Config(hidden=(4, 4, 4), memory=5), demo("MFN", corpus).inputs, corpus))
    with torch.no_grad():  # the retain gate open and the update gate shut: the memory stays at 0
        for out, bias in zip(model.gates.out, (50, -50), strict=True):
            out.weight.zero_()
            out.bias.fill_(bias)
    assert model.memory(torch.randn(2, 6, 12)).abs().max() < 1e-6
