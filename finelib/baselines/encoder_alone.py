"""The text encoder alone: masked mean pool and a linear head. What FINE adds is measured against it."""

from torch import nn

from finelib.baselines.common import Baseline, Output
from finelib.config import EncoderConfig
from finelib.data.features import Batch, Corpus
from finelib.inputs import Inputs
from finelib.layers import masked_mean


class EncoderAlone(Baseline):
    """Text -> encoder -> mean over tokens -> linear; ``inputs`` is text alone, not standardised."""

    def __init__(self, config: EncoderConfig, inputs: Inputs, corpus: Corpus):
        super().__init__(config, inputs, corpus)
        self.head = nn.Linear(inputs.widths["T"], 1)

    def forward(self, batch: Batch) -> Output:
        tokens, mask = self.inputs(batch)["T"]  # (B, T, d_T), (B, T)
        return Output(self.head(masked_mean(tokens, mask))[:, 0])
