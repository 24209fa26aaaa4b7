"""What an encoder's folder can lack, and what text loses on the way to tokens: refused, or said and counted."""

import json
import logging
import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from finelib.data.corpora import CORPORA
from finelib.data.encoders import MINILM, encoder_folder
from finelib.data.features import SPLITS, Corpus, Split
from finelib.data.text import TextEncoder, encode_corpus
from finelib.data.tokens import tell, token_ids

TINY = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
WORDS = "good film bad actor plot the a was".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ENGLISH = {"train": ["the film was good", "a bad plot"], "valid": ["good"], "test": ["the actor was bad", ""]}
CHINESE = {s: ["我有一大山", "中国人不去"] for s in SPLITS}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))


def corpus(texts, name="mosi") -> Corpus:
    splits = {
        s: Split({}, np.zeros(len(t), np.float32), [f"{s}{i}" for i in range(len(t))], t) for s, t in texts.items()
    }
    return Corpus(CORPORA[name], "public", splits, "0" * 64, "", {"notes": {"train": {"A": {"nan": 2}}}})


def bert(folder: Path, words=WORDS, lower=True, rows=None, positions=32, limit=32) -> Path:
    """A BERT of a few words, as ``save_pretrained`` wrote it for years: vocab.txt and tokenizer_config.json."""
    vocabulary = SPECIAL + list(words)
    config = BertConfig(vocab_size=rows or len(vocabulary), max_position_embeddings=positions, **TINY)
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, "model_max_length": limit}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    return folder


@pytest.fixture
def tiny(tmp_path) -> Path:
    return bert(tmp_path / "tiny")


def said(caplog) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


@pytest.mark.parametrize("finetune", [True, False])
def test_a_folder_that_is_whole_says_nothing_and_counts(tiny, caplog, finetune):
    encoded = encode_corpus(corpus(ENGLISH), str(tiny), finetune)
    nothing = {"unknown_tokens": 0, "cut": 0, "without_tokens": 0}
    assert encoded.card["notes"]["train"] == {"A": {"nan": 2}, "text": {"tokens": 7, **nothing}}
    assert encoded.card["notes"]["test"]["text"] == {"tokens": 4, **nothing}
    assert said(caplog) == ""


def test_without_a_vocabulary_the_folder_is_refused_naming_the_file(tiny):
    (tiny / "vocab.txt").unlink()
    with pytest.raises(ValueError, match=r"found no vocabulary, expected vocab\.txt, or tokenizer\.json, of the same"):
        encode_corpus(corpus(ENGLISH), str(tiny), finetune=False)
    (tiny / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"found no .*expected vocab\.txt, or tokenizer\.json"):
        encode_corpus(corpus(ENGLISH), str(tiny), finetune=True)


def test_roberta_needs_two_files_or_one(tmp_path):
    """Without them transformers makes every word vanish."""
    RobertaModel(RobertaConfig(vocab_size=300, **TINY)).save_pretrained(tmp_path / "r")
    with pytest.raises(ValueError, match=r"expected vocab\.json and merges\.txt, or tokenizer\.json"):
        token_ids(corpus(ENGLISH).splits, tmp_path / "r")
    (tmp_path / "r" / "vocab.json").write_text('{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}')
    with pytest.raises(ValueError, match="found no (vocabulary|tokenizer that can be read)"):
        token_ids(corpus(ENGLISH).splits, tmp_path / "r")
    (tmp_path / "r" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match="found an empty vocabulary"):
        token_ids(corpus(ENGLISH).splits, tmp_path / "r")


def test_a_vocabulary_that_is_empty_or_damaged_is_refused(tiny):
    (tiny / "vocab.txt").write_text("\n".join(SPECIAL) + "\n")
    with pytest.raises(ValueError, match="found an empty vocabulary"):
        token_ids(corpus(ENGLISH).splits, tiny)
    (tiny / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="found no tokenizer that can be read") as error:
        token_ids(corpus(ENGLISH).splits, tiny)
    assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_a_tokenizer_of_another_encoder_is_refused_or_said(tmp_path, caplog):
    larger = bert(tmp_path / "larger", rows=len(SPECIAL) + 4)
    with pytest.raises(ValueError, match=r"larger: found token \d+ from its tokenizer, expected less than 9, the rows"):
        token_ids(corpus(ENGLISH).splits, larger)
    with pytest.raises(ValueError, match="found token 12 from its tokenizer, expected less than 12"):  # by one row
        token_ids(corpus(ENGLISH).splits, bert(tmp_path / "one", rows=12))
    eighteen = [*WORDS, *"plan line cast end one".split()]  # 18 with the special ones, 90 % of 20
    token_ids(corpus(ENGLISH).splits, bert(tmp_path / "most", words=eighteen, rows=20))
    assert said(caplog) == ""
    token_ids(corpus(ENGLISH).splits, bert(tmp_path / "smaller", rows=40))
    assert f"{tmp_path / 'smaller'}: its vocabulary has 13 words and its weights 40" in said(caplog)


def test_two_vocabularies_that_disagree_are_refused(tiny):
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tiny)
    assert (tiny / "tokenizer.json").is_file()
    token_ids(corpus(ENGLISH).splits, tiny)
    (tiny / "vocab.txt").write_text("\n".join(SPECIAL + WORDS[::-1]) + "\n")
    with pytest.raises(ValueError, match=r"vocab.txt and tokenizer.json that number 8 words differently \('was' first"):
        token_ids(corpus(ENGLISH).splits, tiny)


def test_a_vocabulary_in_tokenizer_json_alone_is_the_same(tiny, tmp_path):
    from_text, _ = token_ids(corpus(ENGLISH).splits, tiny)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tiny)
    (tiny / "vocab.txt").unlink()
    from_json, _ = token_ids(corpus(ENGLISH).splits, tiny)
    assert from_json["train"].values.tolist() == from_text["train"].values.tolist()
    spaced = bert(tmp_path / "spaced", words=[*WORDS, "at\u00a0all"])  # no line ends at that space
    AutoTokenizer.from_pretrained(spaced).save_pretrained(spaced)
    assert (spaced / "vocab.txt").is_file()
    token_ids(corpus(ENGLISH).splits, spaced)


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError("\n no such\nline"), "no such"), (RuntimeError(), "RuntimeError")]
)
def test_why_a_tokenizer_cannot_be_read_is_said(tiny, monkeypatch, error, reason):
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", Mock(side_effect=error))
    expected = "expected tokenizer.json, or vocab.txt or what else its class needs, of the same encoder"
    with pytest.raises(ValueError) as raised:
        token_ids(corpus(ENGLISH).splits, tiny)
    assert str(raised.value) == f"text encoder {tiny}: found no tokenizer that can be read ({reason}), {expected}"


def test_a_configuration_that_states_no_sizes_limits_nothing(tiny):
    """Of weights that are no text encoder's alone; 512 tokens remain."""
    (tiny / "config.json").write_text('{"model_type": "vit"}')
    frames, notes = token_ids(corpus({**ENGLISH, "test": ["the " * 31]}).splits, tiny)
    assert frames["test"].length.tolist() == [32] and notes["test"]["cut"] == 1


def test_an_encoder_that_leaves_out_what_it_does_not_know(tmp_path):
    """It has no [UNK]: a text of which no token is left has no frame, and is counted."""
    vocabulary = {c: row for row, c in enumerate("abcdefghijkl mnopqrstuvwxyz")}
    made = tmp_path / "made.json"
    made.write_text(json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}))
    PreTrainedTokenizerFast(tokenizer_file=str(made)).save_pretrained(tmp_path / "bytes")
    (tmp_path / "bytes" / "config.json").write_text('{"model_type": "vit"}')
    frames, notes = token_ids(corpus({s: ["bad", "\u00f6!", "cab"] for s in SPLITS}).splits, tmp_path / "bytes")
    assert frames["test"].values.tolist() == [1, 0, 3, 2, 0, 1] and frames["test"].length.tolist() == [3, 0, 3]
    assert frames["test"].values.dtype == np.int64
    assert notes["test"] == {"tokens": 6, "unknown_tokens": 0, "cut": 0, "without_tokens": 1}


def test_case_that_does_not_fit_the_vocabulary_is_said(tmp_path, caplog):
    token_ids(corpus(ENGLISH).splits, bert(tmp_path / "cased", words=[*WORDS, "Good", "Film", "The"], lower=True))
    found = "its tokenizer lower-cases, and its vocabulary has capitals; see do_lower_case in its tokenizer_config.json"
    assert said(caplog) == f"text encoder {tmp_path / 'cased'}: {found}"
    many = [f"{a}{b}" for a in "abc" for b in "dog"]
    for lower_case, told in ((18, 1), (19, 0)):  # with one capital: more than one in twenty, one in twenty
        caplog.clear()
        words = [*WORDS, *many, "end", "one"][:lower_case]
        token_ids(corpus(ENGLISH).splits, bert(tmp_path / str(lower_case), words=[*words, "Good"]))
        assert said(caplog).count("has capitals") == told
    caplog.clear()
    caplog.clear()
    token_ids(corpus(ENGLISH).splits, bert(tmp_path / "uncased", lower=False))
    assert "its tokenizer keeps capitals, and its vocabulary has none; see do_lower_case" in said(caplog)
    caplog.clear()
    token_ids(corpus(ENGLISH).splits, bert(tmp_path / "right", words=[*WORDS, "Good", "Film", "The"], lower=False))
    assert said(caplog) == ""


def test_the_share_of_unknown_words_is_counted_and_said(tiny, caplog):
    texts = {**ENGLISH, "train": ["the film was good but dull", "a bad plot"]}
    for _ in range(2):  # computed, and from the cache
        caplog.clear()
        encoded = encode_corpus(corpus(texts), str(tiny), finetune=False)
        assert encoded.card["notes"]["train"]["text"]["unknown_tokens"] == 2
        assert encoded.card["notes"]["test"]["text"]["unknown_tokens"] == 0
        assert said(caplog).count(f"{2 / 14:.1%} of the tokens are unknown to it ([UNK])") == 1


def test_what_is_told_of_the_counts(caplog):
    def told(unknown, tokens, cut=0, lost=0, texts=("a",)):
        caplog.clear()
        counts = {"tokens": tokens, "unknown_tokens": unknown, "cut": cut, "without_tokens": lost}
        tell({"train": counts, "test": dict.fromkeys(counts, 0)}, texts, "NAME")
        return said(caplog)

    assert told(1, 100) == told(0, 0) == ""  # one per cent
    assert told(2, 100) == "text encoder NAME: 2.0% of the tokens are unknown to it ([UNK])"
    assert told(0, 9, 3, 2) == (
        "text encoder NAME: 3 utterances are longer than it reads and are cut; 2 texts have no token that it knows"
    )
    hint = "; name one for Chinese (--text-encoder bert-base-chinese)"
    assert told(2, 100, texts=["a"] * 9 + ["b 一"]).count(hint) == 0  # one text in ten
    assert told(2, 100, texts=["a"] * 17 + ["一", "我"]).count(hint) == 1  # two in nineteen


def test_half_of_the_words_or_texts_may_be_unknown(tiny, caplog):
    _, notes = token_ids(corpus({s: ["good gut", "bad schlecht"] for s in SPLITS}).splits, tiny)
    assert notes["test"]["unknown_tokens"] == 2 and notes["test"]["tokens"] == 4
    encoded = encode_corpus(corpus({s: ["good plot", "\ufffd"] for s in SPLITS}), str(tiny), finetune=True)
    assert encoded.card["notes"]["test"]["text"]["without_tokens"] == 1
    assert said(caplog) == f"text encoder {tiny}: 3 texts have no token that it knows"


def test_what_is_mostly_unknown_is_refused(tiny):
    with pytest.raises(ValueError, match="tiny: found 100% of the tokens unknown .*, expected one of this language$"):
        encode_corpus(corpus({s: ["gut gemacht", "öde"] for s in SPLITS}), str(tiny), finetune=False)
    with pytest.raises(ValueError, match="3 texts without any token"):
        encode_corpus(corpus({s: ["\ufffd"] for s in SPLITS}), str(tiny), finetune=True)


def test_chinese_through_the_english_default_is_said_with_an_encoder_to_name(caplog):
    encoded = encode_corpus(corpus(CHINESE, "ch_sims"), MINILM, finetune=True)
    notes = encoded.card["notes"]["test"]["text"]
    assert 0.01 < notes["unknown_tokens"] / notes["tokens"] < 0.5
    assert "of the tokens are unknown to it ([UNK]); name one for Chinese (--text-encoder bert-base-chinese)" in said(
        caplog
    )


def test_what_is_cut_is_counted_and_said(tiny, caplog):
    encoded = encode_corpus(
        corpus({**ENGLISH, "train": ["the " * 31, "the " * 30, "the film " * 100]}), str(tiny), True
    )
    assert encoded.card["notes"]["train"]["text"]["cut"] == 2 and encoded.card["notes"]["test"]["text"]["cut"] == 0
    assert encoded.splits["train"].frames["T"].length.tolist() == [32, 32, 32]
    assert "2 utterances are longer than it reads and are cut" in said(caplog)


@pytest.mark.parametrize(("positions", "limit", "kept"), [(32, None, 32), (32, 16, 16), (1024, None, 512)])
def test_the_smallest_of_three_limits_cuts(tmp_path, positions, limit, kept):
    """The positions of the weights, what the tokenizer states, and 512."""
    folder = bert(tmp_path / "x", positions=positions, limit=limit)
    frames, notes = token_ids(corpus({**ENGLISH, "test": ["the " * 600, "the " * (kept - 2)]}).splits, folder)
    assert frames["test"].length.tolist() == [kept, kept] and notes["test"]["cut"] == 1


def test_weights_in_the_old_format_are_named_with_a_command_that_converts_them(tiny):
    weights = BertModel.from_pretrained(tiny).state_dict()
    (tiny / "model.safetensors").unlink()
    torch.save(weights, tiny / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"found weights in pytorch_model\.bin alone, expected") as error:
        encoder_folder(str(tiny))
    command = str(error.value).partition("convert them once: ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert encoder_folder(str(tiny)) == ("tiny", tiny)
    converted = TextEncoder(str(tiny)).bert.state_dict()
    assert all(torch.equal(converted[key], weights[key]) for key in converted)


def test_a_pointer_in_place_of_the_weights_is_named(tiny):
    (tiny / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(ValueError, match="model.safetensors: found a Git LFS pointer, expected the weights; .*git lfs"):
        encoder_folder(str(tiny))
    (tiny / "model.safetensors").unlink()
    shutil.copy(tiny / "config.json", tiny / "tf_model.h5")
    with pytest.raises(FileNotFoundError, match="found weights in tf_model.h5 alone, .*; get the encoder's model"):
        encoder_folder(str(tiny))


def test_context_tells_the_sentences_of_a_text_apart(tiny):
    texts = {s: ["the film was good\na plot\nbad actor", "bad", "the\n\ngood"] for s in SPLITS}
    told, _ = token_ids(corpus(texts).splits, tiny, context=True)
    plain, _ = token_ids(corpus(texts).splits, tiny)
    frames = told["train"]
    assert frames.values.tolist() == plain["train"].values.tolist() and plain["train"].sentence is None
    # [CLS] and four words, two, two and [SEP]; the utterance itself is 0
    assert frames.sentence.tolist() == [1] * 5 + [2] * 2 + [0] * 3 + [0] * 3 + [1, 1, 0, 0]


def test_context_that_is_too_long_is_cut_in_front(tmp_path):
    folder = bert(tmp_path / "short", positions=8, limit=8)
    told, notes = token_ids(corpus({s: ["good " * 9 + "\nbad plot"] for s in SPLITS}).splits, folder, context=True)
    frames = told["test"]
    assert frames.length.tolist() == [8] and notes["test"]["cut"] == 1
    assert frames.sentence.tolist() == [1] * 5 + [0] * 3  # [CLS], four of nine, and the whole punchline with [SEP]


@pytest.mark.parametrize("finetune", [True, False])
def test_context_reaches_the_corpus_and_the_cache(tiny, finetune):
    texts = {s: ["the film\ngood", "bad\na plot"] for s in SPLITS}
    for _ in range(2):  # computed, and from the cache
        encoded = encode_corpus(corpus(texts), str(tiny), finetune, context=True)
        assert encoded.splits["test"].frames["T"].sentence.tolist() == [1, 1, 1, 0, 0, 1, 1, 0, 0, 0]
    assert encode_corpus(corpus(texts), str(tiny), finetune).splits["test"].frames["T"].sentence is None
