"""LF-DNN: late fusion by a deep network, as MMSA names it (Yu et al., CH-SIMS, ACL 2020, use it as a baseline).

Each modality is embedded on its own, the embeddings are concatenated, two hidden layers predict.
"""

from dataclasses import dataclass

import torch
from torch import nn

from finelib.baselines.common import Baseline, Output, Settings, perceptron, unimodal_nets
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs


@dataclass(frozen=True)
class Config(Settings):
    """Defaults: MMSA 2.2.1, config_regression.json, lf_dnn on CMU-MOSI.

    Attributes:
        hidden: width of each embedding network, for T, A, V.
        text_out: width of the text embedding.
        post_fusion: width of the layers after fusion.
        dropout: in the embedding networks and before fusion.
    """

    hidden: tuple[int, int, int] = (128, 16, 128)
    text_out: int = 256
    post_fusion: int = 128
    dropout: float = 0.2


TRAIN = dict(batch_size=128, lr=1e-3, weight_decay=0.01, bucket=True)  # same source, but bucket
FINETUNED = False
DEMO = dict(hidden=(64, 16, 32), text_out=64, post_fusion=64)
SPACE = dict(post_fusion=(32, 64, 128), text_out=(64, 128, 256), dropout=(0.0, 0.2, 0.4))


class Model(Baseline):
    """Late fusion."""

    def __init__(self, config: Config, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.nets = unimodal_nets(inputs, config)
        embedded, post = sum(net.width for net in self.nets.values()), config.post_fusion
        self.head = nn.Sequential(nn.Dropout(config.dropout), perceptron(embedded, post, post, 1))

    def forward(self, batch: Batch) -> Output:
        embedded = [self.nets[m](x, mask) for m, (x, mask) in self.inputs(batch).items()]
        return Output(self.head(torch.cat(embedded, -1))[:, 0])
