"""C-MFN against loops over utterances and sentences, and against MFN where there is no context."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from make_files import read_here, write_ur_funny
from systems import batch_of, demo, fill
from torch import nn

from finelib.baselines import c_mfn, common
from finelib.data import sources
from finelib.data.features import Batch


@pytest.fixture
def told(tmp_path, monkeypatch):
    """UR-FUNNY with its context."""
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)
    return sources.load("ur_funny", write_ur_funny(tmp_path, n=(12, 4, 4)).parent, context=True)


def frames_of(batch, model, i, m, sentence):
    """The real frames of one sentence of one utterance."""
    return model.inputs(batch)[m][0][i][batch.sentence[m][i] == sentence]


def cell_of(lstm):
    cell = nn.LSTMCell(lstm.input_size, lstm.hidden_size)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, getattr(lstm, name + "_l0"))
    return cell


def test_every_step_from_the_context_by_loops(told):
    """Context states, c_0 and u_0 of each utterance, then every equation of MFN, with LSTM cells."""
    model, batch = fill(demo("C-MFN", told, sentences=2)), batch_of(told, range(6))
    context, c, found = model.context, model.config, model(batch).prediction
    counts = [max(int(number[i].max()) for number in batch.sentence.values()) for i in range(6)]
    assert 0 in counts and max(counts) >= 2
    for i, count in enumerate(counts):
        states = {m: torch.zeros(2, lstm.hidden_size) for m, lstm in context.read.items()}
        spoken = torch.tensor([count >= 2, count >= 1])
        for slot, sentence in enumerate((count - 1, count)):
            for m, lstm in context.read.items():
                if sentence > 0:
                    states[m][slot] = lstm(frames_of(batch, model, i, m, sentence)[None])[1][0][0, 0]
        h = context.project(torch.cat(list(states.values()), -1))[None] + c_mfn.positions(2, c.width, states["T"])
        for block in context.blocks:
            h = block(h, h, spoken[None])
        h = context.norm(h)[0] * spoken[:, None]
        u = torch.tanh(context.memory(h.flatten())) * (count > 0)
        cell = {m: context.cell[m](x.flatten()) * (count > 0) for m, x in states.items()}
        expected = punchline(model, {m: frames_of(batch, model, i, m, 0) for m in "TAV"}, cell, u)
        torch.testing.assert_close(found[i], expected, rtol=1e-3, atol=1e-4)


def punchline(model, frames, c, u):
    """MFN's prediction from c_0 and u_0, step by step."""
    cells = {m: cell_of(lstm) for m, lstm in model.cells.lstm.items()}
    c, h, u = {m: x[None] for m, x in c.items()}, {m: torch.zeros_like(x)[None] for m, x in c.items()}, u[None]
    hidden = model.gates.hidden
    for t in range(len(frames["T"])):
        before = torch.cat(list(c.values()), 1)
        for m, cell in cells.items():
            h[m], c[m] = cell(frames[m][t][None], (h[m], c[m]))
        window = torch.cat([before, *c.values()], 1)
        attended = model.attention(window).softmax(-1) * window
        inner = torch.relu(model.gates.read(attended) + u @ model.gates.recur)
        retain = torch.sigmoid(model.gates.out[0](inner[:, : hidden[0]]))
        update = torch.sigmoid(model.gates.out[1](inner[:, hidden[0] :]))
        u = retain * u + update * torch.tanh(model.candidate(attended))
    return model.out(torch.cat([*h.values(), u], 1))[0, 0]


def test_a_corpus_without_context_makes_it_mfn(corpus):
    models = []
    for name in ("MFN", "C-MFN"):
        torch.manual_seed(0)
        models.append(demo(name, corpus).eval())
    assert models[1].context is None and list(models[0].state_dict()) == list(models[1].state_dict())
    batch = batch_of(corpus)
    assert torch.equal(*(model(batch).prediction for model in models))


def test_maps_of_zero_make_it_mfn_on_the_punchline(told):
    model, batch = fill(demo("C-MFN", told)), batch_of(told)
    for part in (*model.context.cell.values(), model.context.memory):
        for parameter in part.parameters():
            parameter.data.zero_()
    context, features, mask = model.context, {}, {}
    found = model(batch).prediction
    for m, x in batch.features.items():  # without the context's frames, which stand in front
        said = [x[i][batch.sentence[m][i] == 0] for i in range(len(batch))]
        features[m] = nn.utils.rnn.pad_sequence(said, batch_first=True)
        mask[m] = torch.arange(features[m].shape[1]) < torch.tensor([len(y) for y in said])[:, None]
    model.context = None
    alone = model(Batch(features, mask, batch.label, None, batch.index)).prediction
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    model.context = context


def test_context_matters_in_its_order_and_padding_does_not(told):
    model, batch = fill(demo("C-MFN", told)), batch_of(told, range(12))
    found, number = model(batch).prediction, batch.sentence
    last = torch.stack([n.amax(1) for n in number.values()]).amax(0)
    swapped = {m: torch.where(n == 1, 2, torch.where(n == 2, 1, n)) for m, n in number.items()}
    moved = model(replace(batch, sentence={m: torch.where((last == 2)[:, None], swapped[m], number[m]) for m in "TAV"}))
    changed = (moved.prediction - found).abs() > 1e-4
    assert (last == 2).any() and torch.equal(changed, last == 2)
    alone = torch.cat([model(batch_of(told, [i])).prediction for i in range(12)])
    torch.testing.assert_close(alone, found, rtol=1e-3, atol=1e-4)
    before = {m: x.clone() for m, x in batch.features.items()}
    for m, n in number.items():
        before[m][n > 0] += 1
    other = model(replace(batch, features=before)).prediction
    assert torch.equal((other - found).abs() > 1e-4, last > 0)


def test_sentences_farther_away_are_left_out():
    x, number = torch.arange(6.0)[None, :, None], torch.tensor([[1, 1, 2, 3, 0, 0]])
    mask = torch.ones(1, 6, dtype=torch.bool)
    found, real = c_mfn.by_sentence(x, mask, number, torch.tensor([3]), 2)
    assert found[0, :, :, 0].tolist() == [[4, 5], [2, 0], [3, 0]]
    assert real[0].tolist() == [[True, True], [True, False], [True, False]]
    found, real = c_mfn.by_sentence(
        x, mask, number, torch.tensor([3]), 5
    )  # near the end, so that slots keep their sense
    assert found[0, :, :, 0].tolist() == [[4, 5], [0, 0], [0, 0], [0, 1], [2, 0], [3, 0]]


@pytest.mark.parametrize("modalities", ["TAV", "TV", "T"])
def test_it_learns_from_files_with_context(told, modalities):
    model, batch = demo("C-MFN", told, modalities), batch_of(told)
    model.losses(model(batch), batch)["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_modality_whose_sentences_are_not_told_apart_starts_at_zero(told):
    frames = {s: split.frames | {"T": replace(split.frames["T"], sentence=None)} for s, split in told.splits.items()}
    other = replace(told, splits={s: replace(split, frames=frames[s]) for s, split in told.splits.items()})
    model, batch = demo("C-MFN", other), batch_of(other)
    assert set(batch.sentence) == set(model.context.read) == {"A", "V"}
    assert model(batch).prediction.isfinite().all()
    with pytest.raises(ValueError, match="C-MFN: found frames = 24, expected 0"):
        demo("C-MFN", told, frames=24)


def test_aligned_files_stay_as_they_are(told):
    """The punchline's words are the steps."""
    batch = batch_of(told)
    number = np.array([batch.sentence["T"][i].max() for i in range(6)])
    x = {m: (batch.features[m], batch.mask[m]) for m in "TA"}
    said = {m: c_mfn.by_sentence(*x[m], batch.sentence[m], torch.tensor(number), 3) for m in x}
    punchline = {m: (y[:, 0], mask[:, 0]) for m, (y, mask) in said.items()}
    torch.testing.assert_close(common.aligned(punchline)[0]["A"], punchline["A"][0])
