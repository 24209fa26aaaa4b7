"""What every model does first: takes its modalities of a split; of a batch, encodes text ids, standardises features."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from finelib.data.features import MODALITIES, Batch, ResidentSplit, Split
from finelib.layers import stretches

Sequences = dict[str, tuple[Float[Tensor, "B T d"], Bool[Tensor, "B T"]]]
NAMES = {"T": "text", "A": "audio", "V": "video"}
LARGEST = 10.0  # standard deviations at which a standardised feature is clipped


class Standardise(nn.Module):
    """(x - mean) / sd per feature with training-split statistics, clipped to +-10; padding stays 0."""

    def __init__(self, mean: Float[Tensor, "d"], sd: Float[Tensor, "d"]):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / sd.clamp(min=1e-6))

    def forward(self, x: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T d"]:
        return F.hardtanh_((x - self.mean) * self.scale, -LARGEST, LARGEST).mul_(mask[..., None])


class Inputs(nn.Module):
    """Frames and masks of a batch as every model reads them.

    Args:
        widths: modality -> d_m, of the modalities that are used.
        standardise: modality -> Standardise; a modality without one is taken as it is.
        text_encoder: maps token ids (B, T) and mask to (B, T, d_T), for text that arrives as ids.
        frames: audio and video are averaged over at most this many equal stretches; 0 keeps every frame.
    """

    def __init__(
        self,
        widths: dict[str, int],
        standardise: dict[str, Standardise] | None = None,
        text_encoder: nn.Module | None = None,
        frames: int = 0,
    ):
        super().__init__()
        self.widths = {m: widths[m] for m in MODALITIES if m in widths}
        self.standardise = nn.ModuleDict(standardise or {})
        self.text_encoder, self.frames = text_encoder, frames

    def forward(self, batch: Batch) -> Sequences:
        """modality -> (x (B, T_m, d_m), mask (B, T_m)); x is 0 on padding.

        Raises:
            ValueError: the batch lacks a modality, or has features of another width than the model was built for.
        """
        self.complete(batch)
        return {m: self.sequence(batch.features[m], batch.mask[m], m) for m in self.widths}

    def complete(self, batch: Batch) -> None:
        """Raises: ValueError: the batch lacks a modality."""
        if missing := [NAMES[m] for m in self.widths if m not in batch.features]:
            found = ", ".join(NAMES[m] for m in batch.features) or "nothing"
            raise ValueError(f"model: found {found} in the data, expected also {', '.join(missing)}")

    def sequence(
        self, x: Tensor, mask: Bool[Tensor, "B T"], m: str, **inside: Any
    ) -> tuple[Float[Tensor, "B T d"], Bool[Tensor, "B T"]]:
        """One modality of ``forward``; ``inside``: ``at`` and ``change`` of the text encoder, for token ids."""
        self._check(x, m)
        if x.ndim == 2:  # token ids
            return self.text_encoder(x, mask, **inside) * mask[..., None], mask
        if m in self.standardise:
            x = self.standardise[m](x, mask)
        if self.frames and m != "T" and x.shape[1] > self.frames:
            own = mask.sum(1).clamp(min=1, max=self.frames)  # (B,), stretches of each utterance
            x = stretches(x, mask, self.frames, own)
            mask = (torch.arange(self.frames, device=x.device) < own[:, None]) & mask.any(1, keepdim=True)
        return x, mask

    def _check(self, x: Tensor, m: str) -> None:
        ids = m == "T" and self.text_encoder is not None
        found = "token ids" if x.ndim == 2 else f"features of width {x.shape[-1]}"
        expected = "token ids" if ids else f"features of width {self.widths[m]}"
        if found != expected:
            raise ValueError(f"model: found {NAMES[m]} as {found}, expected {expected}, which it was built for")


def resident(model: nn.Module, split: Split, device: torch.device) -> ResidentSplit:
    """A split on a device, with the modalities that the model reads.

    Raises:
        ValueError: the split lacks one of them, or holds no frame of one that the model cannot do without.
    """
    name, listed = getattr(model, "name", type(model).__name__), ", ".join(split.frames) or "none"
    missing = [m for m in model.config.modalities if m not in split.frames]
    if missing:
        found = f"reads modalities {', '.join(missing)}, found {listed} in the split"
        raise ValueError(f"{name}: {found}, expected all that it was built for")
    empty = [m for m in getattr(model, "needs", ()) if not split.frames[m].length.any()]
    if empty:
        raise ValueError(f"{name}: cannot do without {', '.join(empty)}, found no frame of it, expected some")
    return ResidentSplit(split, tuple(m for m in split.frames if m in model.config.modalities), device)
