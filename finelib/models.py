"""From a configuration, or a system's name, and a corpus to a model. Every model meets one contract:

output = model(batch)                   # output.prediction (B,); labels are not read
terms = model.losses(output, batch)     # name -> scalar; "total" is minimised
model.inputs                            # what is done to a batch's frames first (inputs.Inputs)
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finelib import metrics
from finelib.baselines import SYSTEMS, subset_codes
from finelib.baselines.encoder_alone import EncoderAlone
from finelib.baselines.subset_codes import FineWithSubsetCodes, SubsetCodesConfig
from finelib.baselines.variants import VARIANTS, VariantConfig
from finelib.config import EncoderConfig, FineConfig, TrainConfig
from finelib.data.features import Corpus
from finelib.data.moments import moments
from finelib.data.sources import nearest
from finelib.data.text import TextEncoder
from finelib.fine import FINE
from finelib.inputs import NAMES, Inputs, Standardise
from finelib.training import AfterUpdate, OnEpoch, Trainer


def build(config: Any, corpus: Corpus) -> nn.Module:
    """Build the configured model for a corpus, with statistics of its training split.

    Args:
        config: a FineConfig, a VariantConfig, an EncoderConfig, or the ``Config`` of a file in ``baselines.SYSTEMS``.

    Raises:
        TypeError: for any other configuration.
        ValueError: if the configuration asks for a modality that a split of the corpus does not have, or leaves one out
            that the system cannot do without.
    """
    model, name = model_class(config), _name_of(config)
    for s, split in corpus.splits.items():
        missing = [m for m in config.modalities if m not in split.frames]
        if missing:
            found = f"{name} reads modalities {', '.join(missing)}, found {', '.join(split.frames) or 'none'}"
            raise ValueError(f"{corpus.called}, {s}: {found}, expected them in every split")
    lacking = [m for m in getattr(model, "needs", ()) if m not in config.modalities]
    if lacking:
        found = f"cannot do without {', '.join(lacking)}, found modalities {', '.join(config.modalities)}"
        raise ValueError(f"{name}: {found}, expected {', '.join(lacking)} among them")
    standardise = not isinstance(config, EncoderConfig)
    inputs = make_inputs(corpus, config.modalities, standardise, frames=getattr(config, "frames", 0))
    if isinstance(config, FineConfig):
        made = model(config, corpus.info, inputs, class_counts(corpus))
    else:
        made = model(config, inputs, corpus)
    made.name = name
    return made


def _name_of(config: Any) -> str:
    """The system's name in the tables; a variant's or reference's class."""
    return next((name for name, s in SYSTEMS.items() if s.Config is type(config)), model_class(config).__name__)


def fit(
    model: nn.Module | str,
    corpus: Corpus,
    config: TrainConfig | None = None,
    seed: int = 0,
    after_update: AfterUpdate | None = None,
    on_epoch: OnEpoch | None = None,
    starts: int = 1,
) -> nn.Module:
    """Train a model on a corpus and keep the epoch with the smallest dev error (``training.fit``).

    Args:
        model: one that ``build`` has made, trained in place; or a system's name, "FINE" or one of ``SYSTEMS``, which is
            built with its own settings, the modalities that the corpus has, and the seed.
        config: how it is trained; default the system's published settings, for a model ``TrainConfig()``.
        starts: of a system's name: how many models, with seeds from ``seed`` on, are trained, of which the one with
            the smallest ``start_error`` is returned.

    Returns:
        The trained model; its attribute ``history`` holds the curves.

    Raises:
        ValueError: there is no system of that name.
        training.Diverged: a loss term was not finite.
    """
    if isinstance(model, str):
        settings, published = system_config(model, corpus)
        seeds = range(seed, seed + starts)
        trained = [_fit_new(settings, corpus, config or published, s, after_update, on_epoch) for s in seeds]
        return min(trained, key=lambda each: start_error(each.history.curves, corpus.info.metrics))
    model.history = Trainer(model, corpus, config or TrainConfig(), seed).run(after_update, on_epoch)
    return model


def _fit_new(settings: Any, corpus: Corpus, config: TrainConfig, seed: int, *told: Any) -> nn.Module:
    torch.manual_seed(seed)
    model = build(settings, corpus)
    model.history = Trainer(model, corpus, config, seed).run(*told)
    return model


def start_error(curves: list[dict[str, float]], metric: str) -> float:
    """By what starts of one run are compared, the smaller the better: "structure" of the last epoch, of training data
    alone, where the model has such a term, else the smallest dev error (``metrics.DEV_ERROR`` of ``metric``)."""
    return curves[-1].get("structure", min(curve[f"dev_{metrics.DEV_ERROR[metric]}"] for curve in curves))


def system_config(name: str, corpus: Corpus) -> tuple[Any, TrainConfig]:
    """A system's own settings and training settings, for the modalities that a corpus has.

    Raises:
        ValueError: there is no system of that name.
    """
    if name == "FINE":
        settings, train = FineConfig(), TrainConfig()
    elif name == subset_codes.NAME:
        settings, train = SubsetCodesConfig(), TrainConfig(**subset_codes.TRAIN)
    elif name in SYSTEMS:
        settings, train = SYSTEMS[name].Config(), TrainConfig(**SYSTEMS[name].TRAIN)
    else:
        names = ["FINE", subset_codes.NAME, *SYSTEMS]
        raise ValueError(f"system {name!r}: unknown, expected one of {', '.join(names)}{nearest(name, names)}")
    modalities = tuple(m for m in settings.modalities if m in corpus.modalities)
    return replace(settings, modalities=modalities), train


def model_class(config: Any) -> type[nn.Module]:
    """The class that a configuration is for.

    Raises:
        TypeError: it is no model's configuration.
    """
    if isinstance(config, VariantConfig):
        return VARIANTS[config.variant]
    models = {FineConfig: FINE, SubsetCodesConfig: FineWithSubsetCodes, EncoderConfig: EncoderAlone}
    models |= {s.Config: s.Model for s in SYSTEMS.values()}
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
    statistics = {m: map(torch.from_numpy, moments(train[m].values)) for m in features}
    return Inputs(widths, {m: Standardise(*both) for m, both in statistics.items()}, text_encoder, frames)


def load_weights(model: nn.Module, state: dict[str, Tensor], where: object) -> None:
    """Put a model's ``state_dict`` into a model of the same shape.

    Args:
        where: names the state in a refusal.

    Raises:
        ValueError: the state is another model's: which modality, or else which tensor, was found and expected.
    """
    own = model.state_dict()
    mean = {m: f"inputs.standardise.{m}.mean" for m in NAMES}
    found, expected = ({m: len(s[key]) for m, key in mean.items() if key in s} for s in (state, own))
    if wrong := [m for m in NAMES if found.get(m) != expected.get(m)]:
        found, expected = (
            ", ".join(f"{NAMES[m]} features of width {w[m]}" if m in w else f"no {NAMES[m]} features" for m in wrong)
            for w in (found, expected)
        )
        raise ValueError(f"{where}: found weights for {found}, expected {expected}")
    shapes, wanted = ({name: tuple(value.shape) for name, value in s.items()} for s in (state, own))
    wrong = sorted(name for name in shapes | wanted if shapes.get(name) != wanted.get(name))
    if wrong:
        first, more = wrong[0], f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        one, other = (s.get(first, "none of that name") for s in (shapes, wanted))
        raise ValueError(f"{where}: found weights of another model: {first}{more}: found {one}, expected {other}")
    model.load_state_dict(state)


def class_counts(corpus: Corpus) -> list[int]:
    """Training utterances of each class of the contrastive queue."""
    classes = corpus.info.class_of(corpus.splits["train"].label)
    return np.bincount(classes, minlength=len(corpus.info.class_edges) + 1).tolist()
