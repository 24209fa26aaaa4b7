"""The optimiser that ``training`` uses, and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from finelib.config import TrainConfig


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with groups of their own for the NCE-CLUB critics and the text encoder; decay on matrices only."""
    role = {id(p): "critic" for p in model.critic_parameters()} if hasattr(model, "critic_parameters") else {}
    if model.text_encoder is not None:
        role |= {id(p): "text" for p in model.text_encoder.parameters()}
    rates = {"model": config.lr, "critic": config.lr_critic, "text": config.lr_text}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((role.get(id(parameter), "model"), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": members, "role": name, "lr": rates[name], "peak_lr": rates[name],
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (name, decays), members in groups.items()
        ],
        fused=True,
    )  # fmt: skip


def rate_factor(update: int, total: int, warmup: float) -> float:
    """Share of the peak rate at an update: linear over the first ``warmup`` of all updates, then a cosine to 0."""
    rising = max(1, round(warmup * total))
    if update < rising:
        return (update + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (update - rising) / max(1, total - rising)))
