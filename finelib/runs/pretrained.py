"""A trained system in one file, that needs no corpus to be read: weights, and beside them what built the model.

model = finelib.load_model("fine-small-planted")     # comes with the package; finelib/weights/ has its card
model = finelib.load_model("my.model")               # what save_model wrote
model.predict("new.mp4", text="what was said")       # recordings, features or a split: runs/new_data.py
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import finelib
from finelib.baselines import SYSTEMS
from finelib.baselines.subset_codes import SubsetCodesConfig
from finelib.baselines.variants import VariantConfig
from finelib.config import EncoderConfig, FineConfig
from finelib.data import sentence_encoders
from finelib.data.corpora import CorpusInfo, nearest
from finelib.data.features import SPLITS, Corpus, Frames, Split
from finelib.data.own_labels import Scale, info_from
from finelib.models import build, class_counts, load_weights
from finelib.runs import model_card
from finelib.runs.new_data import Saved, encoder_sha256, usual_frames

FOLDER = Path(__file__).parents[1] / "weights"
ENTRY = "finelib"  # of the file's header
MOST = 1000  # models in a file
CONFIGS = [FineConfig, VariantConfig, SubsetCodesConfig, EncoderConfig, *(s.Config for s in SYSTEMS.values())]
CONFIG_OF = {f"{each.__module__}.{each.__qualname__}": each for each in CONFIGS}


def save_model(model: nn.Module | Sequence[nn.Module], corpus: Corpus, path: Path | str) -> None:
    """Write a trained model and what it was built of into one safetensors file, and a card PATH.md beside it.

    Args:
        model: built for ``corpus`` by ``build`` or ``fit``, any system; or several of one configuration that differ in
            the seed, whose mean is then predicted.
        path: of the file.

    Raises:
        TypeError: the model is none of ours, or the models are not of one configuration.
        ValueError: the model trains its text encoder, whose weights belong to others, or reads a context.
        OSError: the file cannot be written.
    """
    models = [model] if isinstance(model, nn.Module) else list(model)
    first = models[0]
    _check(models, corpus)
    train, own = corpus.splits["train"], corpus.card.get("own", {})
    about = {
        "version": finelib.__version__,
        "system": first.name,
        "class": _name_of(type(first.config)),
        "config": asdict(first.config),
        "models": len(models),
        "info": asdict(corpus.info),
        "scale": own.get("scale") or asdict(Scale(corpus.info.label_low, corpus.info.label_high)),
        "data": corpus.kind,
        "data_sha256": corpus.sha256,
        "encoder": corpus.encoder,
        "encoder_sha256": encoder_sha256(corpus.encoder) if _is_encoded(corpus) else "",
        "recipe": own.get("recipe", {}),
        "widths": first.inputs.widths,
        "longest": {m: _longest(corpus, m) for m in first.inputs.widths},
        "class_counts": class_counts(corpus),
    }
    usual = {m: usual_frames(train.frames[m]) for m in first.inputs.widths}
    saved = Saved(models, about, usual)
    about |= saved.measured(corpus)
    about["scores"] = model_card.scores(saved, corpus)
    state = {f"{i}.{name}": x.contiguous() for i, each in enumerate(models) for name, x in each.state_dict().items()}
    state |= {f"usual.{m}": bounds for m, bounds in usual.items()}
    save_file(state, path, {ENTRY: json.dumps(about)})
    Path(f"{path}.md").write_text(model_card.page(about, Path(path).name, corpus), encoding="utf-8")


def load_model(name: Path | str) -> Saved:
    """A trained model in evaluation mode on the CPU.

    ``model.predict(new)`` predicts recordings, features or a split (``new_data.predict_new``), ``finelib.predict(model,
    split)`` gives bare numbers; ``model.about`` is what the file says, ``model.model`` the system of the first seed.

    Args:
        name: of a model that comes with the package, or the path of a file that ``save_model`` wrote.

    Raises:
        ValueError: there is no such model, the file is not one of ``save_model``'s or damaged, or it was written by
            another version of this package.
    """
    path = Path(name)
    if not path.is_file():
        known = sorted(each.stem for each in FOLDER.glob("*.safetensors"))
        path = FOLDER / f"{name}.safetensors"
        if str(name) not in known:
            expected = f"expected a file or one of {', '.join(known) or 'none'}"
            raise ValueError(f"load_model: found no {str(name)!r}, {expected}{nearest(str(name), known)}")
    about, state = _read(path)
    try:
        config, corpus = _config(about), _stand_in(about)
        _complete(about)
        if not 1 <= about["models"] <= MOST:
            raise ValueError(f"found {about['models']} models")
        models = [build(config, corpus) for _ in range(about["models"])]
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        found = f"found a description that builds no model ({type(error).__name__}: {reason})"
        raise ValueError(f"{path}: {found}, expected a file of save_model's") from error
    usual = {m: state.pop(f"usual.{m}") for m in about["widths"] if f"usual.{m}" in state}
    if usual.keys() != about["widths"].keys():
        raise ValueError(f"{path}: found no usual range of every modality, expected a file of save_model's")
    for i, each in enumerate(models):
        held = {key.removeprefix(f"{i}."): x for key, x in state.items() if key.startswith(f"{i}.")}
        load_weights(each, held, path)
    return Saved(models, about, usual).eval()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the header says, and the tensors."""
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(ENTRY)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: found no whole safetensors file ({error}), expected one of save_model's") from error
    try:
        about = json.loads(header or "")
        version = about["version"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: found no description of the model, expected a file of save_model's") from None
    if version != finelib.__version__:
        raise ValueError(f"{path}: found weights of finelib {version}, expected {finelib.__version__}")
    return about, state


def _check(models: list[nn.Module], corpus: Corpus) -> None:
    first = models[0]
    if type(getattr(first, "config", None)) not in CONFIGS:
        raise TypeError(f"save_model: found {type(first).__name__}, expected FINE, a variant or a compared system")
    if any(each.config != first.config for each in models):
        raise TypeError("save_model: found models of several configurations, expected one that differs in the seed")
    if first.inputs.text_encoder is not None:
        raise ValueError("save_model: found a model with a text encoder, expected one of features")
    if any(frames.sentence is not None for frames in corpus.splits["train"].frames.values()):
        raise ValueError("save_model: found a corpus with a context, expected one of single utterances")


def _name_of(config: type) -> str:
    return f"{config.__module__}.{config.__qualname__}"


def _config(about: dict[str, Any]) -> Any:
    if about["class"] not in CONFIG_OF:
        raise ValueError(f"found the system {about['class']}, expected one of {', '.join(CONFIG_OF)}")
    return CONFIG_OF[about["class"]](**{key: _tuples(value) for key, value in about["config"].items()})


def _complete(about: dict[str, Any]) -> None:
    """Raises: KeyError, TypeError, ValueError: what ``predict`` needs is missing or of another type."""
    scale = Scale(**about["scale"])
    numbers = [scale.low, scale.high, scale.middle, scale.unit, about["dev_error"]]
    numbers += [about["unusual"][m] for m in about["widths"]]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise TypeError(f"found {numbers}")
    texts = [about["encoder"], about["encoder_sha256"], about["system"], about["info"]["title"]]
    if not all(isinstance(text, str) for text in texts) or not isinstance(about["recipe"], dict):
        raise TypeError(f"found {texts} and {about['recipe']}")


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _is_encoded(corpus: Corpus) -> bool:
    """Whether a text encoder that is known here made the text features."""
    notes = corpus.card.get("notes", {}).get("train", {}).get("text", {})
    return corpus.encoder == sentence_encoders.E5 or "tokens" in notes


def _longest(corpus: Corpus, m: str) -> int:
    return max(int(split.frames[m].length.max(initial=0)) for split in corpus.splits.values())


def _stand_in(about: dict[str, Any]) -> Corpus:
    """A corpus of the same form as the one that was trained on, without anything of its content.

    A model is built for widths, lengths, and the number of training utterances of each class.
    """
    info = info_from(about["info"])
    label = np.repeat(_labels(info), about["class_counts"]).astype(np.float32)
    frames = {}
    for m, width in about["widths"].items():
        length = np.zeros(len(label), np.int64)
        length[:1] = about["longest"][m]
        frames[m] = Frames.from_lengths(np.zeros((int(length.sum()), width), np.float32), length)
    split = Split(frames, label, [""] * len(label), [""] * len(label))
    return Corpus(info, about["data"], dict.fromkeys(SPLITS, split), about["data_sha256"], about["encoder"])


def _labels(info: CorpusInfo) -> np.ndarray:
    """A label of each class."""
    edges = np.array([info.label_low, *info.class_edges, info.label_high])
    return (edges[:-1] + edges[1:]) / 2
