"""MFN: Memory Fusion Network (Zadeh et al., AAAI 2018), on word-aligned steps.

    c_t^m           cell of modality m's LSTM                                  (system of LSTMs)
    a_t = softmax(D_a([c_{t-1}; c_t])) * [c_{t-1}; c_t]                        (delta-memory attention)
    u_t = g1(a_t, u_{t-1}) * u_{t-1} + g2(a_t, u_{t-1}) * tanh(D_u(a_t))       (multi-view gated memory)

The LSTMs do not see the memory, so attention and its candidates are computed for all steps at once; the loops
hold only what depends on the step before. What padding does to the states after an utterance's end is never read.
Public versions feed MFN audio and video averaged over all time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Mask, Output, Settings, aligned, at_end, perceptron, recurrence
from finelib.data.features import MODALITIES, Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import uniform_parameter


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: MMSA 2.2.1, config_regression.json, mfn on CMU-MOSI (aligned).

    Attributes:
        hidden: LSTM width for T, A, V; steps are those of the first modality.
        memory: width of u.
        attention, candidate, retain, update, out: hidden widths of D_a, D_u, g1, g2 and of the output network.
        dropout: of D_a, D_u, g1, g2 and the output network.
    """

    hidden: tuple[int, int, int] = (256, 32, 256)
    memory: int = 400
    attention: int = 32
    candidate: int = 64
    retain: int = 256
    update: int = 32
    out: int = 128
    dropout: tuple[float, float, float, float, float] = (0.2, 0.0, 0.7, 0.5, 0.0)


TRAIN = dict(batch_size=128, lr=2e-3, weight_decay=0.0, bucket=True)  # same source, but bucket
FINETUNED = False
DEMO = dict(hidden=(64, 16, 32), memory=64, retain=64, out=64)
SPACE = dict(memory=(64, 128, 400), hidden=((64, 16, 32), (128, 32, 64), (256, 32, 256)), retain=(64, 128, 256))


class Cells(nn.Module):
    """The LSTMs of all modalities, and their cells, which PyTorch's LSTM keeps to itself.

    With all outputs h known the gates of every step follow at once, and c_t = f_t c_{t-1} + i_t g_t is elementwise.
    """

    def __init__(self, widths: dict[str, int], hidden: dict[str, int]):
        super().__init__()
        self.lstm = nn.ModuleDict({m: nn.LSTM(width, hidden[m], batch_first=True) for m, width in widths.items()})

    def forward(
        self, x: dict[str, Float[Tensor, "B n _"]], start: dict[str, Float[Tensor, "B _"]] | None = None
    ) -> tuple[Float[Tensor, "B n h"], Float[Tensor, "B n h"]]:
        """Outputs h and cells c of all steps, the modalities side by side; ``start`` is c_0 of each, default 0."""
        outputs, gates = [], []
        for m, lstm in self.lstm.items():
            h = lstm(x[m], start and (torch.zeros_like(start[m])[None], start[m][None]))[0]
            before = F.pad(h, (0, 0, 1, -1))  # h of the step before, 0 at the first
            outputs.append(h)
            seen = F.linear(x[m], lstm.weight_ih_l0, lstm.bias_ih_l0)
            gates.append(seen + F.linear(before, lstm.weight_hh_l0, lstm.bias_hh_l0))
        # (B, n, 4 h_m) of each modality -> (B, n, 4, h) -> the gates i, f, g, o, each (B, n, h)
        i, f, g, _ = torch.cat([gate.unflatten(-1, (4, -1)) for gate in gates], -1).unbind(2)
        first = torch.cat([start[m] for m in self.lstm], -1) if start else None
        return torch.cat(outputs, -1), recurrence(torch.sigmoid(f), torch.sigmoid(i) * torch.tanh(g), first)


class Gates(nn.Module):
    """g1 and g2: sigmoid(W2 relu(W1 [a; u])) each. W1 is split, so that its part for a is computed for all steps."""

    def __init__(self, attended: int, memory: int, hidden: tuple[int, int], dropout: tuple[float, float]):
        super().__init__()
        self.hidden, self.drop = hidden, dropout
        self.read = nn.Linear(attended, sum(hidden))
        self.recur = uniform_parameter(attended + memory, memory, sum(hidden))
        self.out = nn.ModuleList(nn.Linear(h, memory) for h in hidden)

    def forward(self, attended: Float[Tensor, "B n a"]) -> tuple[Float[Tensor, "B n k"], Float[Tensor, "B n k"]]:
        """What the steps need of ``attended``: its part of the hidden layers, and their dropout."""
        read = self.read(attended)
        parts = zip(torch.ones_like(read).split(self.hidden, -1), self.drop, strict=True)
        return read, torch.cat([F.dropout(ones, p, self.training) for ones, p in parts], -1)

    def step(self, read: Float[Tensor, "B k"], kept: Float[Tensor, "B k"], u: Float[Tensor, "B u"]) -> list[Tensor]:
        """Both gates (B, u) of one step."""
        hidden = torch.relu(torch.addmm(read, u, self.recur)) * kept
        return [torch.sigmoid(out(part)) for out, part in zip(self.out, hidden.split(self.hidden, -1), strict=True)]


class Model(Baseline):
    """LSTMs with a gated memory of their interactions."""

    needs = ("T",)

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        hidden = {m: h for m, h in zip(MODALITIES, config.hidden, strict=True) if m in self.modalities}
        total, drop = sum(hidden.values()), config.dropout
        self.cells = Cells(inputs.widths, hidden)
        self.attention = perceptron(2 * total, config.attention, 2 * total, dropout=drop[0])
        self.candidate = perceptron(2 * total, config.candidate, config.memory, dropout=drop[1])
        self.gates = Gates(2 * total, config.memory, (config.retain, config.update), drop[2:4])
        self.out = perceptron(total + config.memory, config.out, 1, dropout=drop[4])

    def forward(self, batch: Batch) -> Output:
        return Output(self.predict(*aligned(self.inputs(batch))))

    def predict(
        self,
        x: dict[str, Float[Tensor, "B n _"]],
        mask: Mask,
        cells: dict[str, Float[Tensor, "B _"]] | None = None,
        memory: Float[Tensor, "B u"] | None = None,
    ) -> Float[Tensor, "B"]:
        """From aligned sequences; ``cells`` and ``memory`` are c_0 of each modality and u_0, default 0."""
        h, c = self.cells(x, cells)
        first = torch.cat([cells[m] for m in self.cells.lstm], -1) if cells else None
        return self.out(at_end(torch.cat([h, self.memory(c, first, memory)], -1), mask))[:, 0]

    def memory(
        self,
        cells: Float[Tensor, "B n h"],
        first: Float[Tensor, "B h"] | None = None,
        u: Float[Tensor, "B u"] | None = None,
    ) -> Float[Tensor, "B n u"]:
        """u after every step, from the cells of all steps; ``first`` is c_0, ``u`` is u_0, default 0."""
        before = F.pad(cells, (0, 0, 1, -1))
        if first is not None:
            before = torch.cat([first[:, None], before[:, 1:]], 1)
        window = torch.cat([before, cells], -1)  # [c_{t-1}; c_t]
        attended = self.attention(window).softmax(-1) * window
        candidate = torch.tanh(self.candidate(attended))
        u, memories = candidate.new_zeros(candidate[:, 0].shape) if u is None else u, []
        read, kept = self.gates(attended)
        for read_t, kept_t, add in zip(read.unbind(1), kept.unbind(1), candidate.unbind(1), strict=True):
            retain, update = self.gates.step(read_t, kept_t, u)
            u = retain * u + update * add
            memories.append(u)
        return torch.stack(memories, 1)
