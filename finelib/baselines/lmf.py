"""LMF: Low-rank Multimodal Fusion (Liu et al., ACL 2018).

TFN's outer product, multiplied by a weight tensor of rank r per output, without ever being formed:

    h = sum_i w_i * prod_m W_m^(i) [z_m; 1] + b
"""

from dataclasses import dataclass

import torch
from torch import nn

from finelib.baselines.common import Baseline, Output, Settings, unimodal_nets
from finelib.baselines.tfn import with_one
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: MMSA 2.2.1, config_regression.json, lmf on CMU-MOSI.

    Attributes:
        hidden: width of each embedding network, for T, A, V.
        text_out: width of the text embedding.
        rank: r.
        dropout: in the embedding networks.
    """

    hidden: tuple[int, int, int] = (128, 128, 16)
    text_out: int = 64
    rank: int = 3
    dropout: float = 0.3


TRAIN = dict(batch_size=64, lr=1e-3, weight_decay=0.005, bucket=True)  # same source, but bucket
FINETUNED = False
DEMO = dict(hidden=(64, 32, 32), text_out=32, dropout=0.1)
SPACE = dict(rank=(2, 4, 8, 16), text_out=(32, 64, 128), dropout=(0.1, 0.3, 0.5))


class Model(Baseline):
    """Low-rank fusion."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.nets = unimodal_nets(inputs, config)
        factors = {m: torch.empty(config.rank, net.width + 1) for m, net in self.nets.items()}
        self.factor = nn.ParameterDict({m: nn.init.xavier_normal_(factor) for m, factor in factors.items()})
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, config.rank))[0])
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Output:
        product = self.weight  # (r,), then (B, r)
        for m, (x, mask) in self.inputs(batch).items():
            product = product * (with_one(self.nets[m](x, mask)) @ self.factor[m].T)
        return Output(product.sum(-1) + self.bias)
