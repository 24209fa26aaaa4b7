"""From a configuration and a corpus to a model. Every model meets one contract:

output = model(batch)                   # output.prediction (B,); labels are not read
terms = model.losses(output, batch)     # name -> scalar; "total" is minimised
model.inputs                            # what is done to a batch's frames first (inputs.Inputs)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from finelib.baselines import SYSTEMS
from finelib.baselines.encoder_alone import EncoderAlone
from finelib.baselines.variants import VARIANTS, VariantConfig
from finelib.config import EncoderConfig, FineConfig
from finelib.data.features import Corpus
from finelib.data.text import TextEncoder
from finelib.fine import FINE
from finelib.inputs import Inputs, Standardise


def build(config: Any, corpus: Corpus) -> nn.Module:
    """Build the configured model for a corpus, with statistics of its training split.

    Args:
        config: a FineConfig, a VariantConfig, an EncoderConfig, or the ``Config`` of a file in ``baselines.SYSTEMS``.

    Raises:
        TypeError: for any other configuration.
        ValueError: if the configuration asks for a modality that the corpus does not have.
    """
    model = model_class(config)
    missing = [m for m in config.modalities if m not in corpus.modalities]
    if missing:
        raise ValueError(
            f"{corpus.info.title} ({corpus.kind}): modalities {', '.join(missing)} asked for, "
            f"found {', '.join(corpus.modalities)}"
        )
    if isinstance(config, EncoderConfig):
        return model(config, make_inputs(corpus, config.modalities, standardise=False))
    inputs = make_inputs(corpus, config.modalities, frames=getattr(config, "frames", 0))
    if isinstance(config, FineConfig):
        return model(config, corpus.info, inputs, class_counts(corpus))
    return model(config, inputs, corpus)


def model_class(config: Any) -> type[nn.Module]:
    """The class that a configuration is for.

    Raises:
        TypeError: it is no model's configuration.
    """
    if isinstance(config, VariantConfig):
        return VARIANTS[config.variant]
    models = {FineConfig: FINE, EncoderConfig: EncoderAlone} | {s.Config: s.Model for s in SYSTEMS.values()}
    if type(config) not in models:
        raise TypeError(f"build: {type(config).__name__} is no model's configuration")
    return models[type(config)]


def make_inputs(corpus: Corpus, modalities: tuple[str, ...], standardise: bool = True, frames: int = 0) -> Inputs:
    """How a model reads the corpus: widths, training statistics of features, the text encoder of token ids."""
    train = corpus.splits["train"].frames
    text_encoder = TextEncoder(corpus.encoder) if "T" in modalities and train["T"].values.ndim == 1 else None
    widths = {m: corpus.widths[m] for m in modalities}
    if text_encoder is not None:
        widths["T"] = text_encoder.width
    features = [m for m in widths if train[m].values.ndim == 2] if standardise else []
    return Inputs(widths, {m: Standardise.of(train[m]) for m in features}, text_encoder, frames)


def class_counts(corpus: Corpus) -> list[int]:
    """Training utterances of each class of the contrastive queue."""
    classes = corpus.info.class_of(corpus.splits["train"].label)
    return np.bincount(classes, minlength=len(corpus.info.class_edges) + 1).tolist()
