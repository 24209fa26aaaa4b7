"""The text encoder alone: masked mean pool and a linear head. What FINE adds is measured against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.config import EncoderConfig
from finelib.data.features import Batch
from finelib.inputs import Inputs
from finelib.layers import masked_mean


@dataclass(frozen=True)
class EncoderOutput:
    """prediction: (B,)."""

    prediction: Float[Tensor, "B"]


class EncoderAlone(nn.Module):
    """Text -> encoder -> mean over tokens -> linear.

    Args:
        config: the prediction loss.
        inputs: text alone, not standardised.
    """

    def __init__(self, config: EncoderConfig, inputs: Inputs):
        super().__init__()
        self.config, self.inputs = config, inputs
        self.head = nn.Linear(inputs.widths["T"], 1)

    def forward(self, batch: Batch) -> EncoderOutput:
        """Predict from text alone."""
        tokens, mask = self.inputs(batch)["T"]  # (B, T, d_T), (B, T)
        return EncoderOutput(self.head(masked_mean(tokens, mask))[:, 0])

    def losses(self, output: EncoderOutput, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Prediction loss, as "L_MP" and "total"."""
        loss = (F.l1_loss if self.config.loss == "l1" else F.mse_loss)(output.prediction, batch.label)
        return {"L_MP": loss, "total": loss}
