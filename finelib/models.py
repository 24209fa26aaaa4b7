"""From a configuration and a corpus to a model. Every model meets one contract:

output = model(batch)                   # output.prediction (B,); labels are not read
terms = model.losses(output, batch)     # name -> scalar; "total" is minimised
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from finelib.baselines import SYSTEMS
from finelib.baselines.encoder_alone import EncoderAlone
from finelib.config import EncoderConfig, FineConfig
from finelib.data.features import Corpus
from finelib.data.text import TextEncoder
from finelib.fine import FINE
from finelib.inputs import Inputs, statistics


def build(config: Any, corpus: Corpus) -> nn.Module:
    """Build the configured model for a corpus, with statistics of its training split.

    Args:
        config: a FineConfig, an EncoderConfig, or the ``Config`` of a file in ``baselines.SYSTEMS``.

    Raises:
        TypeError: for any other configuration.
        ValueError: if the configuration asks for a modality that the corpus does not have.
    """
    missing = [m for m in config.modalities if m not in corpus.modalities]
    if missing:
        raise ValueError(
            f"{corpus.info.title} ({corpus.kind}): modalities {', '.join(missing)} asked for, "
            f"found {', '.join(corpus.modalities)}"
        )
    train = corpus.splits["train"]
    as_ids = "T" in config.modalities and train.frames["T"].values.ndim == 1
    text_encoder = TextEncoder(corpus.encoder) if as_ids else None
    widths = {m: corpus.widths[m] for m in config.modalities}
    if text_encoder is not None:
        widths["T"] = text_encoder.width
    if isinstance(config, EncoderConfig):
        return EncoderAlone(config, widths["T"], text_encoder)
    standardise = {m: statistics(train.frames[m]) for m in widths if train.frames[m].values.ndim == 2}
    if isinstance(config, FineConfig):
        return FINE(config, corpus.info, widths, class_counts(corpus), standardise, text_encoder)
    for system in SYSTEMS.values():
        if isinstance(config, system.Config):
            return system.Model(config, Inputs(widths, standardise, text_encoder, config.frames), corpus)
    raise TypeError(f"models.build: {type(config).__name__} is no model's configuration")


def class_counts(corpus: Corpus) -> list[int]:
    """Training utterances of each class of the contrastive queue."""
    edges = np.float32(corpus.info.class_edges)
    index = np.searchsorted(edges, corpus.splits["train"].label, side="left")
    return np.bincount(index, minlength=len(edges) + 1).tolist()
