"""TFN: Tensor Fusion Network (Zadeh et al., EMNLP 2017).

    z = [z_T; 1] x [z_A; 1] x [z_V; 1]   (outer product: all products of up to three features)

then a network on the flattened tensor, and a sigmoid stretched to the label range.
"""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from finelib.baselines.common import Baseline, Output, Settings, perceptron, unimodal_nets
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import FastDropout


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: MMSA 2.2.1, config_regression.json, tfn on CMU-MOSI.

    Attributes:
        hidden: width of each embedding network, for T, A, V.
        text_out: width of the text embedding.
        post_fusion: width of the layers after fusion.
        dropout, post_dropout: in the embedding networks; on the fusion tensor.
    """

    hidden: tuple[int, int, int] = (128, 128, 32)
    text_out: int = 32
    post_fusion: int = 64
    dropout: float = 0.3
    post_dropout: float = 0.5


TRAIN = dict(batch_size=32, lr=1e-3, weight_decay=0.0, bucket=True)  # same source, but bucket
FINETUNED = False
DEMO = dict(hidden=(64, 16, 16), text_out=16, post_fusion=32, dropout=0.1, post_dropout=0.2)
SPACE = dict(post_fusion=(32, 64, 128), text_out=(16, 32, 64), dropout=(0.1, 0.3), post_dropout=(0.2, 0.5))


class Model(Baseline):
    """Tensor fusion."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.nets = unimodal_nets(inputs, config)
        self.dropout = FastDropout(config.post_dropout)
        fused = prod(net.width + 1 for net in self.nets.values())
        self.head = perceptron(fused, config.post_fusion, config.post_fusion, 1)

    def forward(self, batch: Batch) -> Output:
        fused = tensor_fusion([self.nets[m](x, mask) for m, (x, mask) in self.inputs(batch).items()])
        share = torch.sigmoid(self.head(self.dropout(fused))[:, 0])
        return Output(self.info.label_low + (self.info.label_high - self.info.label_low) * share)


def tensor_fusion(embedded: list[Float[Tensor, "B _"]]) -> Float[Tensor, "B p"]:
    """Flattened outer product of all [z; 1], the last modality's index running fastest."""
    fused = with_one(embedded[0])
    for z in embedded[1:]:
        fused = (fused[:, :, None] * with_one(z)[:, None]).flatten(1)  # (B, p, d + 1) -> (B, p (d + 1))
    return fused


def with_one(z: Float[Tensor, "B d"]) -> Float[Tensor, "B d+1"]:
    """[z; 1]."""
    return torch.cat([z, z.new_ones(len(z), 1)], 1)
