"""Each compared system without its defining part: a subclass, or a changed setting, and what it is called.

``TAKEN_OUT`` names the part of each. What stands around it stays: the same readers in front, the same head behind.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines import (
    bbfn,
    c_mfn,
    coupled_mamba,
    cubemlp,
    gfn,
    lmf,
    mag,
    mfn,
    misa,
    msg,
    mulot,
    mult,
    self_mm,
    tfn,
)
from finelib.baselines.common import Mask, Output, perceptron, recurrence
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean


class ConcatenatedTFN(tfn.Model):
    """The embeddings side by side in the place of their outer product."""

    def __init__(self, config: tfn.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        width = sum(net.width for net in self.nets.values())
        self.head = perceptron(width, config.post_fusion, config.post_fusion, 1)

    def forward(self, batch: Batch) -> Output:
        fused = torch.cat([self.nets[m](x, mask) for m, (x, mask) in self.inputs(batch).items()], -1)
        share = torch.sigmoid(self.head(self.dropout(fused))[:, 0])
        return Output(self.info.label_low + (self.info.label_high - self.info.label_low) * share)


class AddedLMF(lmf.Model):
    """The modalities' low-rank factors added up where LMF multiplies them."""

    def forward(self, batch: Batch) -> Output:
        parts = [tfn.with_one(self.nets[m](x, mask)) @ self.factor[m].T for m, (x, mask) in self.inputs(batch).items()]
        return Output((self.weight * sum(parts)).sum(-1) + self.bias)


class WithoutMemory(mfn.Model):
    """The LSTMs alone: the memory stays 0."""

    def memory(self, cells: Float[Tensor, "B n h"], *_: Tensor | None) -> Float[Tensor, "B n u"]:
        return cells.new_zeros(*cells.shape[:2], self.config.memory)


class OneLevelGFN(gfn.Model):
    """The graph's modalities alone, without pairs and triples."""

    def __init__(self, config: gfn.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.graph.levels = 1
        self.head = nn.Sequential(
            gfn.BatchNorm(config.hidden), perceptron(config.hidden, 50, 50, 1, activation=nn.Tanh)
        )


class SelfAttendingMulT(mult.Model):
    """Each modality attends to itself where MulT attends to the others."""

    def __init__(self, config: mult.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        for stack in self.cross.values():
            stack.forward = lambda x, _keys, _mask, stack=stack: x


class Unmixed(nn.Module):
    """The mean over steps at every step, in the place of the MLP along them."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def forward(self, x: Float[Tensor, "*axes i"]) -> Float[Tensor, "*axes o"]:
        return x.mean(-1, keepdim=True).expand(*x.shape[:-1], self.steps)


class UnmixedCubeMLP(cubemlp.Model):
    """No MLP along the steps."""

    def __init__(self, config: cubemlp.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        for block, (steps, _) in zip(self.blocks, config.blocks, strict=True):
            block.mix[0] = Unmixed(steps)


class OneEncoderMISA(misa.Model):
    """One encoder for what is shared and what is private, and none of MISA's losses."""

    def __init__(self, config: misa.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(replace(config, difference=0.0, similarity=0.0, reconstruction=0.0), inputs, corpus)
        self.factorise.private = nn.ModuleDict(dict.fromkeys(self.modalities, self.factorise.shared))


class OneTaskSelfMM(self_mm.Model):
    """The multimodal task alone, without unimodal labels."""

    def losses(self, output: self_mm.Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        loss = (output.prediction - batch.label).abs().mean()
        return {"L_MP": loss, "total": loss}


class Itself(bbfn.Gated):
    """A sequence attends to itself in the place of the other one of its pair."""

    def forward(self, x: bbfn.Frames, y: bbfn.Frames, control: Tensor, mask: Mask) -> bbfn.Frames:
        return super().forward(x, x, control, mask)


class SeparateBBFN(bbfn.Model):
    """No sequence of a pair attends to the other."""

    def __init__(self, config: bbfn.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        for layers in self.pairs.values():
            for layer in layers:
                layer.gated = nn.ModuleList(Itself(config) for _ in layer.gated)


class Averaged(nn.Module):
    """A displacement by what the others say on average, the same at every step (of sequences of one length)."""

    def __init__(self, displacement: mag.Displacement):
        super().__init__()
        self.displacement = displacement

    def forward(self, h: mag.Frames, others: dict[str, mag.Frames]) -> mag.Frames:
        return self.displacement(h, {m: x.mean(1, keepdim=True).expand_as(x) for m, x in others.items()})


class AveragedMAG(mag.Model):
    """Every word is moved by the utterance's mean audio and video."""

    def __init__(self, config: mag.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.gate.displacement = Averaged(self.gate.displacement)


class AveragedMSG(msg.Model):
    """Every step of a sequence is moved by the others' means."""

    def __init__(self, config: msg.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        for shift in (self.shift_text, *self.shift.values()):
            shift.displacement = Averaged(shift.displacement)


class UniformMuLOT(mulot.Model):
    """Every frame gets the mean of the other modality's frames, where MuLOT's plan says which."""

    def transported(
        self, states: dict[str, Float[Tensor, "B T d"]], mask: dict[str, Mask]
    ) -> tuple[dict[str, list[Float[Tensor, "B T d"]]], Float[Tensor, "p B"]]:
        mean = {m: masked_mean(x, mask[m])[:, None] for m, x in states.items()}
        received = {m: [mean[n].expand(-1, x.shape[1], -1) for n in states if n != m] for m, x in states.items()}
        return received, next(iter(states.values())).new_zeros(1, len(mask["T"]))


class PunchlineMFN(c_mfn.Model):
    """MFN on the punchline, with cells and memory that start at 0."""

    def __init__(self, config: c_mfn.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        read = self.context.read
        self.context = Nothing(read, {m: lstm.hidden_size for m, lstm in read.items()}, config.memory)


class Nothing(nn.Module):
    """A context that says nothing."""

    def __init__(self, read: nn.ModuleDict, hidden: dict[str, int], memory: int):
        super().__init__()
        self.read, self.hidden, self.memory = read, hidden, memory

    def forward(self, said: dict[str, c_mfn.Sentences]) -> tuple[dict[str, Tensor], Tensor]:
        x = next(iter(said.values()))[0]
        return {m: x.new_zeros(len(x), h) for m, h in self.hidden.items()}, x.new_zeros(len(x), self.memory)


class AloneBlock(coupled_mamba.Block):
    """Each modality's states follow its own alone."""

    def scan(self, x: Float[Tensor, "M B n i"]) -> Float[Tensor, "M B n i"]:
        whole = self.share, self.select, self.rate, self.rate_shift, self.decay, self.through
        found = []
        for m in range(len(x)):
            self.share = 1.0
            found.append(_one_modality(self, x[m : m + 1], m))
        self.share = whole[0]
        return torch.cat(found)


def _one_modality(block: coupled_mamba.Block, x: Float[Tensor, "1 B n i"], m: int) -> Float[Tensor, "1 B n i"]:
    own = slice(m, m + 1)
    rate, b, c = coupled_mamba.each(x, block.select[own]).split((block.rank, block.states, block.states), -1)
    rate = nn.functional.softplus(coupled_mamba.each(rate, block.rate[own]) + block.rate_shift[own])
    keep = torch.exp(rate[..., None, :] * -block.decay[own].exp())
    new = rate * x
    states = recurrence(keep[0], torch.einsum("btn,bti->btni", b[0], new[0]))
    return (states * c[0, ..., None]).sum(-2)[None] + block.through[own] * x


class UncoupledMamba(coupled_mamba.Model):
    """Independent state space models."""

    def __init__(self, config: coupled_mamba.Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.blocks = nn.Sequential(*(AloneBlock(len(self.modalities), config) for _ in range(config.layers)))


@dataclass(frozen=True)
class Part:
    """What is taken out of a system: its name, the class that lacks it, settings that change."""

    name: str
    model: type[nn.Module] | None = None
    change: dict[str, Any] = field(default_factory=dict)


TAKEN_OUT = {
    "TFN": Part("the outer product (concatenation instead)", ConcatenatedTFN),
    "LMF": Part("the product over modalities (their sum instead)", AddedLMF),
    "MFN": Part("the memory", WithoutMemory),
    "GFN": Part("pairs and triples of the graph", OneLevelGFN),
    "MulT": Part("cross-modal attention", SelfAttendingMulT),
    "CubeMLP": Part("the MLP along the steps (their mean instead)", UnmixedCubeMLP),
    "MISA": Part("private encoders and the three losses", OneEncoderMISA),
    "Self-MM": Part("the unimodal tasks", OneTaskSelfMM),
    "BBFN": Part("attention to the other modality (to itself instead)", SeparateBBFN),
    "C-MIB": Part("the bottlenecks", change=dict(unimodal=False, fused=False)),
    "ConFEDE": Part("the contrastive loss", change=dict(contrast=0.0, mono=0.0)),
    "MSG": Part("the step at which it shifts (means instead)", AveragedMSG),
    "DMD": Part("distillation and decoupling losses", change=dict(distil=0.0, disentangle=0.0)),
    "EUAR": Part("routing: one expert", change=dict(experts=1, top_k=1, weight=0.0)),
    "C-MFN": Part("the context", PunchlineMFN),
    "MAG-BERT": Part("the step at which words are moved (means instead)", AveragedMAG),
    "MuLOT": Part("the transport plan (uniform instead)", UniformMuLOT),
    "Coupled Mamba": Part("the coupling of the states", UncoupledMamba),
    "FINE": Part("the mixture of Q-Formers", change=dict(variant="w/o MoQ", lambda_aux=0.0)),
}
