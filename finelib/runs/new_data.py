"""A saved model and what it was never shown: recordings, features, a split; and how far to trust what it predicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finelib.data import own, own_files, recordings, sentence_encoders
from finelib.data.encoders import encoder_folder, hash_folder
from finelib.data.features import MODALITIES, Batch, Corpus, Frames, Split
from finelib.data.own_labels import Scale, info_from
from finelib.inputs import NAMES
from finelib.training import predict

COVERED = 0.9  # share of dev utterances that lie within the plausible range
ENDS = 0.005  # share of training frames at either end of a feature that is left out of what is usual
LEAST = 0.05  # share of unusual values that no warning is given of
FRAMES = 20_000  # training frames that tell what is usual


@dataclass(frozen=True)
class Prediction:
    """What a model says of one utterance, in the unit of the labels as they were given.

    Attributes:
        name: the clip, file or id.
        value: the prediction, of several seeds their mean; of two classes how near it is to the second one.
        low, high: plausible range: the label of nine in ten dev utterances was no further off.
        seeds: the prediction of each seed, where there are several.
        muted: modality -> the value less what is predicted without that modality.
        warnings: why it may mean little.
    """

    name: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()
    muted: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.name}: {self.value:.3g} (plausible {self.low:.3g} to {self.high:.3g})"]
        if self.seeds:
            parts.append(f"seeds {min(self.seeds):.3g} to {max(self.seeds):.3g}")
        if self.muted:
            parts.append("of it by " + ", ".join(f"{NAMES[m]} {change:+.3g}" for m, change in self.muted.items()))
        return "\n  WARNING: ".join(["; ".join(parts), *self.warnings])


class Saved(nn.Module):
    """What a file of ``save_model`` holds; as a model it is the mean over its seeds.

    Args:
        models: one for each seed.
        about: its description: system, settings, label range, recipe, encoder, dev error, scores.
        usual: modality -> (2, d), between which 99 % of the training frames lie.
    """

    def __init__(self, models: list[nn.Module], about: dict[str, Any], usual: dict[str, Tensor]):
        super().__init__()
        self.models, self.about, self.usual = nn.ModuleList(models), about, usual
        self.model = models[0]
        self.name, self.config, self.inputs = self.model.name, self.model.config, self.model.inputs
        self.info, self.needs = self.model.info, getattr(self.model, "needs", ())

    def forward(self, batch: Batch) -> Any:
        """The output of the first model, with the mean prediction where there are several."""
        output, *others = (model(batch) for model in self.models)
        if not others:
            return output
        return replace(output, prediction=torch.stack([each.prediction for each in (output, *others)]).mean(0))

    def predict(self, data: Split | Mapping[str, np.ndarray] | Path | str, **about: Any) -> Any:
        """Predictions for what the model was not trained on (``predict_new``)."""
        return predict_new(self, data, **about)

    @property
    def scale(self) -> Scale:
        """Of the labels as they were given."""
        return Scale(**self.about["scale"])

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(m for m in MODALITIES if m in self.about["widths"])

    def values(self, split: Split) -> np.ndarray:
        """(models, N) predictions of a split, as they are held."""
        return np.stack([predict(model, split) for model in self.models]).astype(np.float64)

    def measured(self, corpus: Corpus) -> dict[str, Any]:
        """On the dev split: "dev_error", the range that holds 9 of 10 errors, and what is usual in its utterances."""
        valid = corpus.splits["valid"]
        error = np.abs(self.values(valid).mean(0) - valid.label)
        unusual = {m: self.unusual(valid.frames[m], m) for m in self.modalities}
        limits = {m: max(LEAST, float(share.max(initial=0))) for m, share in unusual.items()}
        return {"dev_error": float(np.quantile(error, COVERED)), "unusual": limits}

    def unusual(self, frames: Frames, m: str) -> np.ndarray:
        """(N,) share of each utterance's values that lie outside of what is usual."""
        low, high = (bound.numpy() for bound in self.usual[m])
        share = ((frames.values < low) | (frames.values > high)).mean(1)
        return Frames.from_lengths(share[:, None], frames.length).mean()[:, 0]


def encoder_sha256(name: str) -> str:
    """Hash of a text encoder's files on this machine."""
    return sentence_encoders.weights_sha256() if name == sentence_encoders.E5 else hash_folder(encoder_folder(name)[1])


def usual_frames(frames: Frames) -> Tensor:
    """(2, d) the lowest and the highest usual value of each feature, of training frames."""
    sample = np.asarray(frames.values[:: max(1, len(frames.values) // FRAMES)], np.float32)
    if not len(sample):
        return torch.zeros(2, frames.width)
    return torch.from_numpy(np.quantile(sample, (ENDS, 1 - ENDS), axis=0).astype(np.float32))


def predict_new(
    saved: Saved,
    data: Split | Mapping[str, np.ndarray] | Path | str,
    text: str = "",
    start: float = 0.0,
    end: float = np.inf,
    cache: Path | None = None,
) -> Prediction | list[Prediction]:
    """Predict what the model was not trained on.

    Args:
        data: a recording; a folder with ``clips.csv``, all of whose clips are predicted; a file or folder of features
            as ``load`` reads it, with or without labels; modality ("T", "A", "V") -> frames (T, d) of one utterance; or
            a split.
        text: what was said in the recording, or in the utterance that is given as frames.
        start, end: seconds, of a recording.
        cache: where features are kept.

    Returns:
        One prediction of a recording or of frames, else one for each utterance.

    Raises:
        ValueError: the data are not what the model reads: other widths, another recipe or text encoder, recordings for
            a model of features that were given.
        OSError, ImportError: a file, the cache, a model or a package is not to be had.
    """
    if isinstance(data, Split):
        return predictions(saved, data)
    if isinstance(data, Mapping):
        return predictions(saved, with_text(saved, _one(data, text)))[0]
    path = Path(data)
    if not path.exists():
        raise ValueError(f"{path}: found no such file or folder, expected a recording or features")
    if recordings.is_folder(path):
        check_recipe(saved, path)
        clips = recordings.read_clips(path)
    elif path.is_dir() or path.suffix.lower() in own_files.SUFFIXES:
        return [each for s in own_files.unlabelled(own.files(path)) for each in predictions(saved, with_text(saved, s))]
    else:
        check_recipe(saved, path)
        if not 0 <= start < end:
            raise ValueError(f"{path}: found start {start:g} and end {end:g}, expected 0 or more, and more than that")
        clips = [recordings.Clip(path.name, path.name, path, start, end, text)]
    found = recordings.extract(clips, cache)
    made = predictions(saved, with_text(saved, recordings.split_of(clips, found)))
    told = [replace(each, warnings=(*_lacks(f.lacks), *each.warnings)) for each, f in zip(made, found, strict=True)]
    return told if path.is_dir() else told[0]


def _lacks(lacks: dict[str, str]) -> list[str]:
    return [f"the clip is {what}" if what.startswith("without") else f"{NAMES[m]} {what}" for m, what in lacks.items()]


def _one(frames: Mapping[str, np.ndarray], text: str) -> Split:
    """One utterance from its frames."""
    held = {}
    for m, array in frames.items():
        array = np.asarray(array, np.float32)
        if m not in MODALITIES or array.ndim != 2 or not np.isfinite(array).all():
            found = f"found {m!r} of shape {array.shape}"
            raise ValueError(f"predict: {found}, expected finite frames (T, d) of 'T', 'A' or 'V'")
        held[m] = Frames.from_lengths(array, np.array([len(array)]))
    return Split(held, np.array([np.nan], np.float32), ["utterance"], [text])


def check_recipe(saved: Saved, path: Path) -> None:
    """Raises: ValueError: the model does not read what is extracted from recordings here."""
    recipe, title = saved.about["recipe"], saved.about["info"]["title"]
    if not recipe:
        widths = ", ".join(f"{NAMES[m]} {width}" for m, width in saved.about["widths"].items())
        found = f"found a recording for a model of {title}'s own features ({widths})"
        raise ValueError(f"{path}: {found}, expected such features: what is extracted here is not the same")
    if recipe != recordings.RECIPE:
        wrong = next(k for k in recipe | recordings.RECIPE if recipe.get(k) != recordings.RECIPE.get(k))
        found = f"found a model of the recipe {wrong}: {recipe.get(wrong)}"
        raise ValueError(f"{path}: {found}, expected {recordings.RECIPE.get(wrong)}, which is what is extracted here")


def with_text(saved: Saved, split: Split) -> Split:
    """A split with its raw text encoded as the model's was.

    Raises:
        ValueError: another encoder, or none.
    """
    if "T" not in saved.modalities or "T" in split.frames:
        return split
    width = saved.about["widths"]["T"]
    if not any(text.strip() for text in split.text):
        empty = Frames.from_lengths(np.zeros((0, width), np.float32), np.zeros(len(split), np.int64))
        return replace(split, frames={"T": empty, **split.frames})
    name, known = saved.about["encoder"], saved.about["encoder_sha256"]
    if not known:
        raise ValueError(f"predict: found raw text for a model of text features by {name!r}, expected such features")
    if (found := encoder_sha256(name)) != known:
        raise ValueError(f"text encoder {name}: found SHA-256 {found[:12]}, expected {known[:12]}, the model's")
    corpus = Corpus(info_from(saved.about["info"]), "own", {"test": split}, "", "")
    return own.encoded(corpus, name).splits["test"]


def predictions(saved: Saved, split: Split) -> list[Prediction]:
    """One prediction for each utterance.

    Raises:
        ValueError: the split lacks a modality that the model cannot do without, an utterance has no frames at all, or
            features are of another width.
    """
    split = replace(split, frames={m: split.frames.get(m, _none(split, saved, m)) for m in saved.modalities})
    for m, frames in split.frames.items():
        if frames.width != saved.about["widths"][m]:
            found = f"found {NAMES[m]} features of width {frames.width}"
            raise ValueError(f"predict: {found}, expected {saved.about['widths'][m]}, which the model was built for")
    some = np.any([frames.length > 0 for frames in split.frames.values()], 0)
    if not some.all():
        name = split.ids[int(some.argmin())]
        listed = ", ".join(NAMES[m] for m in saved.modalities)
        raise ValueError(f"{name}: found no frame of {listed}, expected some of what the model reads")
    each = saved.values(split)  # (models, N)
    held, muted = each.mean(0), {}
    if len(saved.modalities) > 1:
        for m in saved.modalities:
            if m not in saved.needs:
                less = replace(split, frames=split.frames | {m: _none(split, saved, m)})
                muted[m] = (held - saved.values(less).mean(0)) * saved.scale.unit
    error, scale = saved.about["dev_error"], saved.scale
    value, low, high = (scale.given(x) for x in (held, held - error, held + error))
    unusual = {m: saved.unusual(frames, m) for m, frames in split.frames.items()}
    found = []
    for i, name in enumerate(split.ids):
        there = [m for m in saved.modalities if split.frames[m].length[i]]
        seeds = tuple(scale.given(each[:, i]).tolist()) if len(each) > 1 else ()
        warnings = [
            f"{share[i]:.0%} of the values of {NAMES[m]} lie outside what training saw"
            for m, share in unusual.items()
            if share[i] > saved.about["unusual"][m]
        ]
        warnings += [f"no {NAMES[m]}" for m in saved.modalities if m not in there]
        changes = {m: float(change[i]) for m, change in muted.items() if m in there and len(there) > 1}
        bounds = (
            max(float(low[i]), min(scale.low, float(value[i]))),
            min(float(high[i]), max(scale.high, float(value[i]))),
        )
        found.append(Prediction(name, float(value[i]), *bounds, seeds, changes, tuple(warnings)))
    return found


def _none(split: Split, saved: Saved, m: str) -> Frames:
    """No frames of a modality."""
    return Frames.from_lengths(np.zeros((0, saved.about["widths"][m]), np.float32), np.zeros(len(split), np.int64))
