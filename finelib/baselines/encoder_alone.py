"""The text encoder alone: masked mean pool and a linear head. What FINE adds is measured against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.config import EncoderConfig
from finelib.data.features import Batch
from finelib.layers import masked_mean


@dataclass(frozen=True)
class EncoderOutput:
    """prediction: (B,)."""

    prediction: Float[Tensor, "B"]


class EncoderAlone(nn.Module):
    """Text -> encoder -> mean over tokens -> linear.

    Args:
        config: the prediction loss.
        width: features per token.
        text_encoder: maps token ids and mask to features; None when text arrives as features.
    """

    def __init__(self, config: EncoderConfig, width: int, text_encoder: nn.Module | None = None):
        super().__init__()
        self.config, self.text_encoder = config, text_encoder
        self.head = nn.Linear(width, 1)

    def forward(self, batch: Batch) -> EncoderOutput:
        """Predict from text alone."""
        x, mask = batch.features["T"], batch.mask["T"]
        tokens = self.text_encoder(x, mask) if x.ndim == 2 else x
        return EncoderOutput(self.head(masked_mean(tokens, mask))[:, 0])

    def losses(self, output: EncoderOutput, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Prediction loss, as "L_MP" and "total"."""
        loss = (F.l1_loss if self.config.loss == "l1" else F.mse_loss)(output.prediction, batch.label)
        return {"L_MP": loss, "total": loss}
