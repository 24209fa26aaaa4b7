"""MSG-MBA: multimodal shifting gates and bidirectional attention (Lin and Hu, IEEE TMM 2024), on the tokens' steps.

Our own reading: the authors published figures and training logs but no code (github.com/RH-Lin/MSG-MBA), and the
paper's text was not at hand. From the figures, with F_a, F_v the states of a recurrent net for audio and for video and
F_t the text encoder's states after one of its layers:

    shift(F; X)   h = sum_x ReLU(W_gx [x; F] + b) * (W_x x),   F + min(mu |F| / (|h| + eps), 1) h
    MSG-T         M_t = the encoder's later layers of shift(F_t; F_a, F_v)
    MBA           p_t = tanh(P P^T), p_m = tanh(Q_m Q_m^T),   P = conv(M_t), Q_m = conv(F_m)
                  M_tm = softmax(p_t * p_m + p_t) M_t + M_t
    MSG-A, MSG-V  M_a = shift(F_a; M_tv, F_v),   M_v = shift(F_v; M_ta, F_a)

and [M_a; M_t; M_v] passes two linear maps. The gate is MAG's without its norm and dropout.

Ours, for want of the text: the layer, LSTMs and their width, convolutions of one step, products over the square root of
their width (``scaled``; without it tanh is flat), a learned mu that starts at 1/2, the mean of audio and video steps
and the first token of text, ReLU between the last two maps, the rates. The paper's loss is a Huber loss that uses how
the shift changes in training; its form was not to be found, and here it is a plain Huber loss. With audio or video
alone, that modality is shifted by its own M_tm. On frozen text features no layer comes after the shift: a linear map
of them is F_t, what the shift makes of it is M_t, and its mean is read.
"""

from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.baselines.common import Baseline, Mask, Output, Settings, key_bias, on_steps, perceptron
from finelib.baselines.mag import Displacement, moved
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean

Frames = Float[Tensor, "B T d"]


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: our choices; the logs say only that 40 epochs were run on CMU-MOSI and 20 on CMU-MOSEI.

    Attributes:
        layer: text is shifted before this layer of the encoder, counted from 0.
        hidden: width of the recurrent nets, the attention's maps and the hidden layer of the head.
        text: width to which frozen text features are mapped.
        scaled: divide the attention's products by sqrt(hidden).
        dropout: in the head.
        loss: "huber", "l1" or "mse".
    """

    layer: int = 1
    hidden: int = 64
    text: int = 128
    scaled: bool = True
    dropout: float = 0.1
    loss: str = "huber"


TRAIN = dict(batch_size=32, lr=1e-3, lr_text=2e-5, bucket=True)  # ours
FINETUNED = True
DEMO = dict(hidden=32, text=32)
SPACE = dict(hidden=(32, 64, 128), text=(64, 128, 256), dropout=(0.0, 0.1, 0.3))


class Shift(nn.Module):
    """A sequence moved by others, at most mu times as far as it is long at each step."""

    def __init__(self, width: int, widths: dict[str, int]):
        super().__init__()
        self.displacement = Displacement(width, widths, bias=False)
        self.mu = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Frames, others: dict[str, Frames]) -> Frames:
        return moved(x, self.displacement(x, others), self.mu)


class Attention(nn.Module):
    """MBA: text attends to itself where both it and the other modality find two steps alike."""

    def __init__(self, text: int, c: Config):
        super().__init__()
        self.text, self.other = nn.Linear(text, c.hidden), nn.Linear(c.hidden, c.hidden)
        self.scale = 1 / sqrt(c.hidden) if c.scaled else 1.0

    def weights(self, text: Frames, other: Frames, mask: Mask) -> Float[Tensor, "B T T"]:
        """X: of every step's row on the real steps, 1 in all."""
        p, q = self.text(text), self.other(other)
        p, q = (torch.tanh(z @ z.mT * self.scale) for z in (p, q))
        return (p * q + p + key_bias(mask, text.shape[1], p.dtype)[:, 0]).softmax(-1)

    def forward(self, text: Frames, other: Frames, mask: Mask) -> Frames:
        return self.weights(text, other, mask) @ text + text


class Model(Baseline):
    """Text shifted by audio and video, then audio and video by what text has become.

    Raises:
        ValueError: without text, or with text alone, which nothing shifts.
    """

    least = 2

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        c, (others, found) = config, ([m for m in inputs.widths if m != "T"], " + ".join(inputs.widths))
        if "T" not in inputs.widths or not others:
            raise ValueError(f"MSG: shifts text by other modalities, found {found}; expected T with A, V or both")
        self.finetuned = inputs.text_encoder is not None
        text = inputs.widths["T"] if self.finetuned else c.text
        self.project = None if self.finetuned else nn.Linear(inputs.widths["T"], text)
        self.read = nn.ModuleDict({m: nn.LSTM(inputs.widths[m], c.hidden, batch_first=True) for m in others})
        self.shift_text = Shift(text, dict.fromkeys(others, c.hidden))
        self.attend = nn.ModuleDict({m: Attention(text, c) for m in others})
        self.shift = nn.ModuleDict()
        for m in others:
            self.shift[m] = Shift(c.hidden, {"T": text} | {n: c.hidden for n in others if n != m})
        self.head = perceptron(text + c.hidden * len(others), c.hidden, 1, dropout=c.dropout)

    def forward(self, batch: Batch) -> Output:
        self.inputs.complete(batch)
        mask, sequences = batch.mask["T"], {}
        for m in self.read:
            sequences[m] = self.inputs.sequence(batch.features[m], batch.mask[m], m)
        frames = {m: self.read[m](x)[0] for m, x in on_steps(mask, sequences).items()}
        text = self.text(batch.features["T"], mask, frames)
        attended = {m: self.attend[m](text, x, mask) for m, x in frames.items()}
        ends = [text[:, 0] if self.finetuned else masked_mean(text, mask)]
        for m, x in frames.items():
            other = {n: y for n, y in frames.items() if n != m}
            seen = attended[next(iter(other), m)]  # M_tn of the other modality n
            ends.append(masked_mean(self.shift[m](x, {"T": seen} | other), mask))
        return Output(self.head(torch.cat(ends, -1))[:, 0])

    def text(self, x: Tensor, mask: Mask, frames: dict[str, Frames]) -> Frames:
        """M_t, zero on padding."""
        if not self.finetuned:
            return self.shift_text(self.project(self.inputs.sequence(x, mask, "T")[0]), frames) * mask[..., None]

        def change(h: Float[Tensor, "b t d"], rows: Tensor) -> Float[Tensor, "b t d"]:
            return self.shift_text(h, {m: y[rows, : h.shape[1]] for m, y in frames.items()})

        return self.inputs.sequence(x, mask, "T", at=self.config.layer, change=change)[0]

    def prediction_loss(self, prediction: Float[Tensor, "B"], label: Float[Tensor, "B"]) -> Float[Tensor, ""]:
        """Huber's loss with threshold 1, or mean absolute or squared error."""
        if self.config.loss == "huber":
            return F.huber_loss(prediction, label)
        return super().prediction_loss(prediction, label)
