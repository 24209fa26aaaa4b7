"""Raw text to token ids, and what of the text that loses: unknown words, ends that are cut."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from finelib.data.encoders import quiet
from finelib.data.features import Frames, Split

MAX_TOKENS = 512  # [CLS] and [SEP] included; what is longer is cut. Fewer where the encoder has fewer positions.
NOTICEABLE, USELESS = 0.01, 0.5  # share of unknown tokens that is said, and that is refused
CASED = 0.05  # share of a vocabulary's words with capitals
SAME_VOCABULARY = 0.9  # of the rows of the weights; some are kept for later use
log = logging.getLogger(__name__)
Notes = dict[str, dict[str, int]]


def token_ids(splits: dict[str, Split], folder: Path, context: bool = False) -> tuple[dict[str, Frames], Notes]:
    """Token ids of every split, with the special tokens of the encoder, cut to the positions it has.

    Args:
        context: each line of a text is a sentence and the last one is the utterance itself: ``Frames.sentence`` tells
            them apart, and what is too long is cut in front.

    Returns:
        split -> frames (S,) int64; and split -> counts: "tokens" without the special ones, "unknown_tokens" ([UNK])
        among them, "cut" utterances, "without_tokens", utterances of whose text no token is left.

    Raises:
        ValueError: the folder has no vocabulary, or one that is not the weights' own, or that lacks most of the words.
    """
    tokenizer, config = _tokenizer(folder)
    if context:
        tokenizer.truncation_side = "left"
    positions = getattr(config, "max_position_embeddings", MAX_TOKENS)
    limit = min(MAX_TOKENS, positions, tokenizer.model_max_length)
    special = [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]
    frames, notes = {}, {}
    for s, split in splits.items():
        with quiet():  # transformers warns of long texts
            told = tokenizer(split.text, return_offsets_mapping=context)
            cut = tokenizer(split.text, truncation=True, max_length=limit, return_offsets_mapping=context)
        long = [row for row, found in enumerate(told["input_ids"]) if len(found) > limit]
        ids = cut["input_ids"]
        values = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
        _check_rows(values, getattr(config, "vocab_size", None), folder)
        sentence = _sentences(split.text, cut["offset_mapping"]) if context else None
        frames[s] = Frames.from_lengths(values, np.array([len(row) for row in ids]), sentence)
        unknown = int((values == tokenizer.unk_token_id).sum()) if tokenizer.unk_token_id is not None else 0
        lost = sum(
            bool(text.strip()) and not set(row) - set(special) for text, row in zip(split.text, ids, strict=True)
        )
        tokens = int((~np.isin(values, special)).sum())
        notes[s] = {"tokens": tokens, "unknown_tokens": unknown, "cut": len(long), "without_tokens": lost}
    _refuse_useless(notes, [text for split in splits.values() for text in split.text], folder)
    return frames, notes


def _sentences(texts: list[str], offsets: list[list[tuple[int, int]]]) -> np.ndarray:
    """``Frames.sentence`` of every token, from the places in the text that it spans.

    A special token, which spans none, belongs to the sentence of its neighbour, the first in front and the last behind.
    """
    found = []
    for text, spans in zip(texts, offsets, strict=True):
        start, end = np.array(spans).T
        ends = np.flatnonzero([c == "\n" for c in text])
        number = np.searchsorted(ends, start) + 1
        real = np.flatnonzero(end > start)
        if len(real):
            number[: real[0]], number[real[-1] + 1 :] = number[real[0]], number[real[-1]]
        found.append(np.where(number > len(ends), 0, number))
    return np.concatenate(found)


def tell(notes: Notes, texts: Iterable[str], name: str) -> None:
    """Say in one line what ``token_ids`` counted, where it is noticeable."""
    total, said = _total(notes), []
    share = total["unknown_tokens"] / max(total["tokens"], 1)
    if share > NOTICEABLE:
        said.append(f"{share:.1%} of the tokens are unknown to it ([UNK]){_advice(list(texts))}")
    if total["cut"]:
        said.append(f"{total['cut']} utterances are longer than it reads and are cut")
    if total["without_tokens"]:
        said.append(f"{total['without_tokens']} texts have no token that it knows")
    if said:
        log.warning("text encoder %s: %s", name, "; ".join(said))


def _refuse_useless(notes: Notes, texts: list[str], folder: Path) -> None:
    total = _total(notes)
    share = total["unknown_tokens"] / max(total["tokens"], 1)
    lost = total["without_tokens"] / max(sum(bool(text.strip()) for text in texts), 1)
    if share > USELESS or lost > USELESS:
        found = f"{share:.0%} of the tokens unknown ([UNK]) and {total['without_tokens']} texts without any token"
        raise ValueError(f"text encoder {folder}: found {found}, expected one of this language{_advice(texts)}")


def _total(notes: Notes) -> dict[str, int]:
    return {key: sum(counts[key] for counts in notes.values()) for key in next(iter(notes.values()))}


def _advice(texts: list[str]) -> str:
    """A hint at an encoder of Chinese, where a tenth of the texts have Chinese characters."""
    chinese = sum(any("\u4e00" <= c <= "\u9fff" for c in text) for text in texts)
    return "; name one for Chinese (--text-encoder bert-base-chinese)" if chinese * 10 > len(texts) else ""


def _tokenizer(folder: Path) -> tuple[Any, Any]:
    """The tokenizer and the configuration of an encoder."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust library raises the bare class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        found = f"no tokenizer that can be read ({reason})"
        expected = "tokenizer.json, or vocab.txt or what else its class needs, of the same encoder"
        raise ValueError(f"text encoder {folder}: found {found}, expected {expected}") from error
    names = tokenizer.vocab_files_names
    needed = [name for key, name in names.items() if key in ("vocab_file", "merges_file")]
    there = (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in needed)
    if not there or len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        # transformers goes on without: then every word is unknown, or none is left
        found = "an empty vocabulary" if there else "no vocabulary"
        expected = f"{' and '.join(needed)}, or tokenizer.json, of the same encoder beside the weights"
        raise ValueError(f"text encoder {folder}: found {found}, expected {expected}")
    _check_vocabulary(tokenizer, config, folder)
    return tokenizer, config


def _check_vocabulary(tokenizer: Any, config: Any, folder: Path) -> None:
    """Refuse two vocabularies that disagree; tell of one that is not the weights' own, or of other case."""
    vocabulary, listed = tokenizer.get_vocab(), folder / "vocab.txt"
    if listed.is_file() and (folder / "tokenizer.json").is_file():
        words = {word: row for row, word in enumerate(listed.read_text(encoding="utf-8").split("\n")) if word.strip()}
        wrong = [word for word, row in words.items() if vocabulary.get(word) != row]
        if wrong:
            found = f"vocab.txt and tokenizer.json that number {len(wrong)} words differently ({wrong[0]!r} first)"
            raise ValueError(f"text encoder {folder}: found {found}, expected those of one encoder")
    rows = getattr(config, "vocab_size", len(vocabulary))
    if len(vocabulary) < SAME_VOCABULARY * rows:
        found = "its vocabulary has %d words and its weights %d; they may belong to different encoders"
        log.warning(f"text encoder %s: {found}", folder, len(vocabulary), rows)
    words = [word for word in vocabulary if word.isascii() and word.isalpha()]
    capitals = sum(word != word.lower() for word in words)
    lowers = tokenizer.tokenize("Good Film") == tokenizer.tokenize("good film")
    if lowers and capitals > CASED * len(words):
        found = "lower-cases, and its vocabulary has capitals"
    elif words and not lowers and not capitals:
        found = "keeps capitals, and its vocabulary has none"
    else:
        return
    log.warning("text encoder %s: its tokenizer %s; see do_lower_case in its tokenizer_config.json", folder, found)


def _check_rows(ids: np.ndarray, rows: int | None, folder: Path) -> None:
    if rows is not None and len(ids) and ids.max() >= rows:
        found = f"token {ids.max()} from its tokenizer"
        expected = f"less than {rows}, the rows of its weights: they belong to different encoders"
        raise ValueError(f"text encoder {folder}: found {found}, expected {expected}")
