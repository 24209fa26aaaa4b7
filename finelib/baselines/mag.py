"""MAG-BERT: the Multimodal Adaptation Gate inside a text encoder (Rahman et al., ACL 2020), on the tokens' steps.

From the authors' code (github.com/WasifurRahman/BERT_multimodal_transformer). A token's embedding h is moved by what
audio and video say at its step, at most beta times as far as it is long, before the encoder's first layer reads it:

    H = sum_m ReLU(W_hm [x_m; h] + b_hm) * (W_m x_m + b_m),   m in {V, A}
    alpha = min(beta |h| / (|H| + eps), 1)
    out = dropout(LN(h + alpha H))

The encoder's first token passes a linear map with tanh and the head.

Not as there: a token's audio and video are the means of its stretch of the frames (there its word's, zeros at [CLS] and
[SEP]); the map in front of the head starts anew where BERT has a pre-trained one. Their XLNet, which is the encoder
behind UR-FUNNY's printed row, is not here: any BERT-type encoder is. On frozen text features this is not the paper's
system: there is no embedding to move and no layer after it, so a linear map of the features takes the place of the
one, and a small Transformer, untrained, with a [CLS] vector of its own in front, that of the other.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Mask, Output, Settings, on_steps
from finelib.baselines.mult import Block
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import FastDropout, positions

EPSILON = 1e-6
Frames = Float[Tensor, "B T d"]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: the authors' repository, modeling.py and multimodal_driver.py, whose README has beta = 0.001.

    Attributes:
        beta: longest displacement over the embedding's length.
        dropout, output_dropout: after the gate; in front of the head.
        width, heads, layers: of the Transformer over frozen features.
    """

    beta: float = 1.0
    dropout: float = 0.5
    output_dropout: float = 0.1
    width: int = 128
    heads: int = 4
    layers: int = 2
    loss: str = "mse"


# same source; its one rate, 1e-5, is the encoder's, for which ``lr_text`` stands, and ours is that of what is new
TRAIN = dict(batch_size=48, lr=1e-3, lr_text=1e-5, weight_decay=0.01, bucket=True)
FINETUNED = True
DEMO = dict(width=32, layers=1, dropout=0.1)
SPACE = dict(beta=(0.001, 0.1, 1.0), dropout=(0.1, 0.3, 0.5), output_dropout=(0.1, 0.3))


class Displacement(nn.Module):
    """H: gated maps of other sequences (``widths``: name -> features) to the width of h, added up."""

    def __init__(self, width: int, widths: dict[str, int], bias: bool = True):
        super().__init__()
        self.gate = nn.ModuleDict({m: nn.Linear(d + width, width) for m, d in widths.items()})
        self.map = nn.ModuleDict({m: nn.Linear(d, width, bias=bias) for m, d in widths.items()})

    def forward(self, h: Frames, others: dict[str, Frames]) -> Frames:
        return sum(torch.relu(self.gate[m](torch.cat([x, h], -1))) * self.map[m](x) for m, x in others.items())


def moved(h: Frames, by: Frames, bound: float | Tensor) -> Frames:
    """h + alpha ``by``, where alpha keeps what is added at or below ``bound`` times the length of h."""
    length, displaced = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (h, by))
    return h + (bound * length / (displaced + EPSILON)).clamp(max=1) * by


class Gate(nn.Module):
    """The Multimodal Adaptation Gate."""

    def __init__(self, width: int, widths: dict[str, int], beta: float, dropout: float):
        super().__init__()
        self.beta, self.displacement = beta, Displacement(width, widths)
        self.norm, self.dropout = nn.LayerNorm(width), FastDropout(dropout)

    def forward(self, h: Frames, others: dict[str, Frames]) -> Frames:
        return self.dropout(self.norm(moved(h, self.displacement(h, others), self.beta)))


class Encoder(nn.Module):
    """For frozen features: a Transformer over a [CLS] vector and the frames, of which the [CLS] row is read."""

    def __init__(self, c: Config):
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, c.width))
        self.blocks = nn.ModuleList(Block(c.width, c.heads, 0.0) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)

    def forward(self, x: Frames, mask: Mask) -> Float[Tensor, "B d"]:
        x = torch.cat([self.cls.expand(len(x), -1, -1), x + positions(x.shape[1], x.shape[2], x)], 1)
        mask = F.pad(mask, (1, 0), value=True)
        *first, last = self.blocks
        for block in first:
            x = block(x, x, mask)
        return self.norm(last(x[:, :1], x, mask))[:, 0]


class Model(Baseline):
    """A gate in front of the text encoder's layers, and a head on its first token.

    Raises:
        ValueError: without text, or with text alone, which nothing moves.
    """

    least = 2

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        text, others = inputs.widths.get("T"), {m: d for m, d in inputs.widths.items() if m != "T"}
        if text is None or not others:
            found = " + ".join(inputs.widths)
            raise ValueError(f"MAG-BERT: moves text by other modalities, found {found}; expected T with A, V or both")
        self.finetuned = inputs.text_encoder is not None
        width = text if self.finetuned else config.width
        self.gate = Gate(width, others, config.beta, config.dropout)
        if not self.finetuned:
            self.embed, self.encode = nn.Linear(text, width), Encoder(config)
        self.pool = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.head = nn.Sequential(nn.Dropout(config.output_dropout), nn.Linear(width, 1))

    def forward(self, batch: Batch) -> Output:
        self.inputs.complete(batch)
        read, mask = self.inputs.sequence, batch.mask["T"]
        others = {m: read(batch.features[m], batch.mask[m], m) for m in self.modalities if m != "T"}
        others = on_steps(mask, others)
        if self.finetuned:
            first = read(batch.features["T"], mask, "T", at=0, change=lambda h, rows: self.change(h, rows, others))
            first = first[0][:, 0]
        else:
            first = self.encode(self.gate(self.embed(read(batch.features["T"], mask, "T")[0]), others), mask)
        return Output(self.head(self.pool(first))[:, 0])

    def change(self, h: Float[Tensor, "b t d"], rows: Tensor, others: dict[str, Frames]) -> Float[Tensor, "b t d"]:
        """The gate for some rows of the batch, cut to the longest of them."""
        return self.gate(h, {m: x[rows, : h.shape[1]] for m, x in others.items()})
