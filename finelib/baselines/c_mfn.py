"""C-MFN: Contextual Memory Fusion Network (Hasan et al., EMNLP 2019), MFN that starts from what was said before.

From the paper's text; its model code was never published. For context sentences n and modalities m:

    h_mn = last state of modality m's LSTM over sentence n
    H = Transformer encoder over n of [h_1n; ..; h_Mn]
    c_0^m = D_m([h_m1; ..; h_mN]),   u_0 = tanh(D([H_1; ..; H_N]))

and MFN reads the punchline with its cells starting at c_0 and its memory at u_0. A modality without told sentences, an
utterance without context and a corpus without any start at 0: there C-MFN is MFN.

Ours: N is fixed, the sentences nearest the punchline are kept and stand at the end, others are zeros and masked; tanh
for the nonlinearity that is not named; layer norm in front of attention and feed-forward; widths, of which the paper
gives none beyond six layers; and the loss, absolute error of the 0/1 label as for every system here, where the paper
has cross entropy.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finelib.baselines import mfn
from finelib.baselines.common import Mask, Output, aligned, at_end
from finelib.baselines.mult import Block
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import positions

Sentences = tuple[Float[Tensor, "B N W d"], Bool[Tensor, "B N W"]]  # words of each sentence, and which are real


@dataclass(frozen=True)
class Config(mfn.Config):
    """Defaults: six layers from the paper, sentences from a re-implementation, the width ours; MFN's own for the rest.

    Attributes:
        sentences: of the context, the last ones.
        width, heads, layers: of the Transformer encoder over them.
    """

    sentences: int = 5
    width: int = 128
    heads: int = 4
    layers: int = 6


TRAIN = mfn.TRAIN
FINETUNED = False
DEMO = mfn.DEMO | dict(width=32, layers=1)
SPACE = dict(memory=(64, 128, 400), layers=(1, 2, 6), width=(64, 128))


class Context(nn.Module):
    """From the sentences before the punchline to c_0 of each modality (``hidden``: their widths) and u_0."""

    def __init__(self, widths: dict[str, int], hidden: dict[str, int], c: Config):
        super().__init__()
        self.read = nn.ModuleDict({m: nn.LSTM(d, hidden[m], batch_first=True) for m, d in widths.items()})
        self.cell = nn.ModuleDict({m: nn.Linear(c.sentences * hidden[m], hidden[m]) for m in widths})
        self.project = nn.Linear(sum(hidden[m] for m in widths), c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.heads, 0.0) for _ in range(c.layers))
        self.norm, self.memory = nn.LayerNorm(c.width), nn.Linear(c.sentences * c.width, c.memory)

    def forward(self, said: dict[str, Sentences]) -> tuple[dict[str, Float[Tensor, "B h"]], Float[Tensor, "B u"]]:
        """Both are 0 for an utterance without context."""
        states = {}
        for m, (x, mask) in said.items():
            states[m] = at_end(self.read[m](x.flatten(0, 1))[0], mask.flatten(0, 1)).unflatten(0, x.shape[:2])
        spoken = torch.stack([mask.any(-1) for _, mask in said.values()]).any(0)  # (B, N)
        some = spoken.any(1, keepdim=True)
        cells = {m: self.cell[m](h.flatten(1)) * some for m, h in states.items()}
        h = self.project(torch.cat(list(states.values()), -1))
        h = h + positions(h.shape[1], h.shape[2], h)
        for block in self.blocks:
            h = block(h, h, spoken)
        h = self.norm(h) * spoken[..., None]
        return cells, torch.tanh(self.memory(h.flatten(1))) * some


class Model(mfn.Model):
    """MFN on the punchline; with a context where the corpus tells its sentences apart.

    Raises:
        ValueError: frames are to be averaged over stretches, which may hold two sentences.
    """

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        frames = corpus.splits["train"].frames
        told = {m: d for m, d in inputs.widths.items() if frames[m].sentence is not None}
        if told and config.frames:
            raise ValueError(f"C-MFN: found frames = {config.frames}, expected 0 where sentences are told apart")
        hidden = {m: lstm.hidden_size for m, lstm in self.cells.lstm.items()}
        self.context = Context(told, hidden, config) if told else None

    def forward(self, batch: Batch) -> Output:
        if self.context is None:
            return super().forward(batch)
        sequences, said = self.inputs(batch), {}
        numbers = {m: batch.sentence[m] for m in self.context.read}
        spoken = torch.stack([number.amax(1) for number in numbers.values()]).amax(0)  # (B,)
        for m, number in numbers.items():
            x, mask = by_sentence(*sequences[m], number, spoken, self.config.sentences)
            longest = max(int(mask[:, 0].sum(1).max()), 1)
            sequences[m] = x[:, 0, :longest], mask[:, 0, :longest]
            said[m] = x[:, 1:], mask[:, 1:]
        cells, memory = self.context(said)
        punchline, mask = aligned(sequences)
        for m, lstm in self.cells.lstm.items():
            cells.setdefault(m, punchline[m].new_zeros(len(batch), lstm.hidden_size))
        return Output(self.predict(punchline, mask, cells, memory))


def by_sentence(
    x: Float[Tensor, "B T d"], mask: Mask, number: Int[Tensor, "B T"], spoken: Int[Tensor, "B"], count: int
) -> Sentences:
    """Frames of each sentence: the punchline first, then ``count`` of the context, the last of them nearest to it.

    Args:
        number: the sentence of each frame (``Frames.sentence``).
        spoken: how many sentences each utterance's context has; what is farther away than ``count`` is left out.
    """
    place = torch.where(number > 0, number - spoken[:, None] + count, 0)  # (B, T), of the sentence among those kept
    kept = mask & ((number == 0) | (place > 0))
    own = (place[..., None] == torch.arange(count + 1, device=x.device)) & kept[..., None]  # (B, T, count + 1)
    word = (own.cumsum(1) - 1).gather(2, place.clamp(min=0)[..., None])[..., 0]  # of each frame inside its sentence
    utterance, frame = kept.nonzero(as_tuple=True)
    to = (utterance, place[utterance, frame], word[utterance, frame])
    out = x.new_zeros(len(x), count + 1, max(int(own.sum(1).max()), 1), x.shape[-1])
    real = torch.zeros(out.shape[:3], dtype=torch.bool, device=x.device)
    return out.index_put(to, x[utterance, frame]), real.index_put(to, torch.ones_like(real[:1, 0, 0]))
