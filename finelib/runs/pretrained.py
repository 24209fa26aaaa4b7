"""A trained FINE in one file, that needs no corpus to be read: weights, and beside them what built the model.

model = finelib.load_model("fine-small-planted")     # comes with the package; finelib/weights/ has its card
model = finelib.load_model("my.safetensors")         # what save_model wrote
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import finelib
from finelib.config import FineConfig
from finelib.data.corpora import CORPORA, nearest
from finelib.data.features import Corpus
from finelib.fine import FINE
from finelib.inputs import Inputs, Standardise
from finelib.models import class_counts, load_weights

FOLDER = Path(__file__).parents[1] / "weights"
ENTRY = "finelib"  # of the file's header


def save_model(model: FINE, corpus: Corpus, path: Path | str) -> None:
    """Write a FINE and what it was built of into one safetensors file.

    Args:
        model: built for ``corpus``, with its features as they are.

    Raises:
        TypeError: the model is no FINE, but a variant or another system.
        ValueError: the model trains its text encoder, whose weights belong to others.
        OSError: the file cannot be written.
    """
    if type(model) is not FINE:
        raise TypeError(f"save_model: found {getattr(model, 'name', type(model).__name__)}, expected FINE")
    if model.inputs.text_encoder is not None:
        raise ValueError("save_model: found a model with a text encoder, expected one of features")
    info = corpus.info
    built = {
        "version": finelib.__version__,
        "corpus": info.name,
        "data": corpus.kind,
        "encoder": corpus.encoder,
        "widths": model.inputs.widths,
        "labels": [info.label_low, info.label_high],
        "class_counts": class_counts(corpus),
        "config": asdict(model.config),
    }
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, {ENTRY: json.dumps(built)})


def load_model(name: Path | str) -> FINE:
    """A trained FINE in evaluation mode on the CPU; ``finelib.predict(model, split)`` then predicts.

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
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(ENTRY)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: found no whole safetensors file ({error}), expected one of save_model's") from error
    if header is None:
        raise ValueError(f"{path}: found no description of the model, expected a file of save_model's")
    built = json.loads(header)
    if built["version"] != finelib.__version__:
        raise ValueError(f"{path}: found weights of finelib {built['version']}, expected {finelib.__version__}")
    settings = {key: tuple(v) if isinstance(v, list) else v for key, v in built["config"].items()}
    standardise = {m: Standardise(torch.zeros(d), torch.ones(d)) for m, d in built["widths"].items()}
    inputs = Inputs(built["widths"], standardise)
    model = FINE(FineConfig(**settings), CORPORA[built["corpus"]], inputs, built["class_counts"])
    load_weights(model, state, path)
    model.name = "FINE"
    return model.eval()
