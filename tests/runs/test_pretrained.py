"""A trained system goes through one file: the same predictions without the corpus, and refusals in a sentence."""

import json
import random
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import weights
from safetensors import safe_open
from safetensors.torch import save_file

import finelib
from finelib import metrics
from finelib.baselines import SYSTEMS
from finelib.baselines.subset_codes import SubsetCodesConfig
from finelib.baselines.variants import VariantConfig
from finelib.config import EncoderConfig
from finelib.data import own_labels, recordings
from finelib.data.encoders import MINILM
from finelib.data.features import Corpus, Frames
from finelib.runs import presets, pretrained
from finelib.runs.options import ROOT

CONFIG = replace(presets.DEMO, modalities=("T", "V"), tau=0.2)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return finelib.load("ch_sims", scale=0.06)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A model that has seen some updates, and its file."""
    torch.manual_seed(0)
    model = finelib.fit(finelib.build(CONFIG, corpus), corpus, finelib.TrainConfig(epochs=1))
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    finelib.save_model(model, corpus, path)
    return model, path


def changed(path, folder, **changes):
    """The same file with another description."""
    with safe_open(path, "pt") as file:
        built = json.loads(file.metadata()["finelib"]) | changes
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(state, folder / "changed.safetensors", {"finelib": json.dumps(built)})
    return folder / "changed.safetensors"


def test_the_file_predicts_what_the_model_did(trained, corpus):
    model, path = trained
    loaded = finelib.load_model(path)
    assert not loaded.training and loaded.config == CONFIG and loaded.info == corpus.info
    test = corpus.splits["test"]
    assert np.array_equal(finelib.predict(loaded, test), finelib.predict(model, test))
    assert [each.value for each in loaded.predict(test)] == finelib.predict(model, test).astype(float).tolist()
    ours, theirs = model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_no_corpus_is_read(trained):
    code = (
        "import sys; from finelib.data import sources; sources.load = None\n"
        "import finelib; print(finelib.load_model(sys.argv[1]).name)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(trained[1])], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout == "FINE\n", said.stderr


def test_weights_of_another_version_are_refused_by_its_name(trained, tmp_path):
    path = changed(trained[1], tmp_path, version="0.0.9")
    with pytest.raises(ValueError, match=f"found weights of finelib 0.0.9, expected {finelib.__version__}"):
        finelib.load_model(path)


def test_weights_that_do_not_fit_their_description_are_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="found weights for video features of width 709, expected .* width 20"):
        finelib.load_model(changed(trained[1], tmp_path, widths={"T": 768, "V": 20}))


def test_other_files_are_refused(trained, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="found no whole safetensors file"):
        finelib.load_model(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(trained[1].read_bytes()[:-10])
    with pytest.raises(ValueError, match="found no whole safetensors file"):
        finelib.load_model(tmp_path / "b.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="found no description of the model"):
        finelib.load_model(tmp_path / "c.safetensors")


def test_an_unknown_name_is_refused_and_the_nearest_named(trained, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", trained[1].parent)
    assert finelib.load_model("model").name == "FINE"
    with pytest.raises(ValueError, match="found no 'modle', expected a file or one of model; did you mean 'model'"):
        finelib.load_model("modle")


def test_what_cannot_be_saved_is_refused(corpus, trained, tmp_path):
    with pytest.raises(TypeError, match="save_model: found Linear, expected FINE, a variant or a compared system"):
        finelib.save_model(torch.nn.Linear(1, 1), corpus, tmp_path / "x")
    model = finelib.build(CONFIG, corpus)
    with pytest.raises(TypeError, match="found models of several configurations"):
        finelib.save_model([model, finelib.build(replace(CONFIG, tau=0.3), corpus)], corpus, tmp_path / "x")
    model.inputs.text_encoder = torch.nn.Identity()
    with pytest.raises(ValueError, match="found a model with a text encoder"):
        finelib.save_model(model, corpus, tmp_path / "x")
    assert not list(tmp_path.iterdir())


SMALL = {"w/o MoQ + MLPs": VariantConfig(variant="w/o MoQ + MLPs", width=(8, 8, 8), task_width=8)}
SMALL |= {"encoder alone": EncoderConfig(), "subset codes": SubsetCodesConfig()}


@pytest.mark.parametrize("name", [*SMALL, *SYSTEMS])
def test_every_system_goes_through_its_file(name, corpus, tmp_path):
    config = SMALL[name] if name in SMALL else SYSTEMS[name].Config(**SYSTEMS[name].DEMO)
    torch.manual_seed(1)
    model = finelib.build(config, corpus).eval()
    finelib.save_model(model, corpus, tmp_path / "x.model")
    loaded, test = finelib.load_model(tmp_path / "x.model"), corpus.splits["test"]
    assert type(loaded.model) is type(model) and loaded.config == config and loaded.name == model.name
    assert np.array_equal(finelib.predict(loaded, test), finelib.predict(model, test))
    card = (tmp_path / "x.model.md").read_text()
    assert "not for judging people" in card and "CH-SIMS, planted data" in card and "| corr |" in card


# ------------------------------------------------------------------------------------- what it says of new data


def test_a_muted_modality_changes_the_value_by_what_is_said(trained, corpus):
    loaded = finelib.load_model(trained[1])
    rows = corpus.splits["test"].take(np.arange(5))
    found = loaded.predict(rows)
    none = replace(rows, frames=rows.frames | {"V": empty(rows, "V")})
    without = finelib.predict(loaded, none)
    for each, value in zip(found, without, strict=True):
        assert set(each.muted) == {"T", "V"} and each.value - each.muted["V"] == pytest.approx(value, abs=1e-6)
    assert all("no video" in each.warnings and not each.muted for each in loaded.predict(none))


def empty(split, m):
    width = split.frames[m].width
    return Frames.from_lengths(np.zeros((0, width), np.float32), np.zeros(len(split), np.int64))


def test_the_plausible_range_holds_nine_in_ten_of_dev(trained, corpus):
    valid = corpus.splits["valid"]
    found = finelib.load_model(trained[1]).predict(valid)
    inside = [p.low <= y <= p.high for p, y in zip(found, valid.label, strict=True)]
    assert np.mean(inside) == pytest.approx(0.9, abs=1 / len(valid)) and len(valid) > 20


def test_features_outside_what_training_saw_are_warned_of(trained, corpus):
    loaded, valid = finelib.load_model(trained[1]), corpus.splits["valid"]
    assert not any("outside" in w for p in loaded.predict(valid) for w in p.warnings)
    video = valid.frames["V"]
    far = replace(valid, frames=valid.frames | {"V": replace(video, values=video.values + 50)})
    for each in loaded.predict(far):
        assert "100% of the values of video lie outside what training saw" in each.warnings


def test_several_seeds_are_averaged_and_shown(corpus, tmp_path):
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(finelib.build(CONFIG, corpus).eval())
    finelib.save_model(models, corpus, tmp_path / "x")
    test = corpus.splits["test"]
    each = np.stack([finelib.predict(model, test) for model in models]).astype(float)
    for i, found in enumerate(finelib.load_model(tmp_path / "x").predict(test)):
        assert found.seeds == tuple(each[:, i]) and found.value == pytest.approx(each[:, i].mean())


def test_what_a_model_does_not_read_is_refused_by_name(trained, corpus, tmp_path):
    loaded = finelib.load_model(trained[1])
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="found a recording for a model of CH-SIMS's own features .*not the same"):
        loaded.predict(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="found text features of width 3, expected 768"):
        loaded.predict({"T": np.zeros((2, 3)), "V": np.zeros((2, 709))})
    with pytest.raises(ValueError, match="found raw text for a model of text features by 'planted'"):
        loaded.predict({"V": np.zeros((2, 709))}, text="words")
    with pytest.raises(ValueError, match="utterance: found no frame of text, video"):
        loaded.predict({"A": np.zeros((2, 20))})
    with pytest.raises(ValueError, match="found no such file or folder"):
        loaded.predict(tmp_path / "none.mp4")
    assert loaded.about["recipe"] == {}
    other = finelib.load_model(changed(trained[1], tmp_path, encoder=MINILM, encoder_sha256="00"))
    with pytest.raises(ValueError, match=f"text encoder {MINILM}: found SHA-256 .*, expected 00, the model's"):
        other.predict({"V": np.zeros((2, 709))}, text="words")
    other = finelib.load_model(changed(trained[1], tmp_path, recipe={**recordings.RECIPE, "A": "openSMILE"}))
    with pytest.raises(ValueError, match="found a model of the recipe A: openSMILE, expected librosa"):
        other.predict(tmp_path / "a.mp4")


CORPORA = {  # labels and arrays of what the four kinds of own corpora look like
    "two classes": {"label": np.arange(30) % 2, "audio": (30, 4, 6), "vision": (30, 2, 3)},
    "a wide range": {"label": np.arange(30) * 3.0, "audio": (30, 4, 9), "vision": (30, 5, 70)},
    "text alone": {"label": np.arange(30) % 7 - 3, "text": [f"{i % 7} of a kind" for i in range(30)]},
}


@pytest.mark.parametrize("kind", CORPORA)
def test_an_own_corpus_is_trained_saved_and_predicted_in_a_new_process(kind, tmp_path):
    rng = np.random.default_rng(0)
    made = {k: rng.normal(size=v) if isinstance(v, tuple) else np.array(v) for k, v in CORPORA[kind].items()}
    np.savez(tmp_path / "mine.npz", **made)
    np.savez(tmp_path / "new.npz", **{k: v for k, v in made.items() if k != "label"})
    corpus = finelib.load(tmp_path / "mine.npz")
    model = finelib.fit("FINE", corpus, finelib.TrainConfig(epochs=1))
    finelib.save_model(model, corpus, tmp_path / "mine.model")
    code = (
        "import sys, json, finelib\n"
        "found = finelib.load_model(sys.argv[1]).predict(sys.argv[2])\n"
        "print(json.dumps([each.value for each in found]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "mine.model"), str(tmp_path / "new.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout.splitlines()[-1])
    assert [each.value for each in finelib.load_model(tmp_path / "mine.model").predict(tmp_path / "mine.npz")] == values
    scale = own_labels.Scale(**corpus.card["own"]["scale"])
    every = [scale.given(finelib.predict(model, split)) for split in corpus.splits.values()]
    assert sorted(np.concatenate(every)) == pytest.approx(sorted(values), abs=1e-4)


def test_broken_models_end_in_a_sentence(trained, tmp_path):
    """40 files with changed bytes and 25 with a changed description: a model, or one sentence."""
    good = trained[1].read_bytes()
    header = int.from_bytes(good[:8], "little")
    for seed in range(40):
        rng, content = random.Random(seed), bytearray(good)
        where = rng.randrange(8 + header)
        content[where : where + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
        refuse_or_load(tmp_path / "x", bytes(content))
    with safe_open(trained[1], "pt") as file:
        told = json.loads(file.metadata()["finelib"])
    for i, key in enumerate(told):
        for value in (None, "x", -1, {}, [1])[: 1 + i % 3 + 1]:
            path = changed(trained[1], tmp_path, **{key: value})
            refuse_or_load(path, path.read_bytes())


def refuse_or_load(path, content):
    path.write_bytes(content)
    try:
        assert finelib.load_model(path).models
    except ValueError as error:
        assert ": found " in str(error) and "\n" not in str(error), error


# ------------------------------------------------------------------------------------- what is published


@pytest.mark.parametrize("path", sorted(pretrained.FOLDER.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_published_model_has_the_scores_of_its_card(path):
    model, card = finelib.load_model(path.stem), path.with_suffix(".md").read_text()
    call, _ = re.findall(r"^corpus = (finelib\.load\(.*\))$", card, re.MULTILINE)  # the second is of real data
    test = eval(call, {"finelib": finelib}).splits["test"]
    scores = metrics.score(model.info.metrics, finelib.predict(model, test), test.label)
    for name, shown in re.findall(r"^\| (\w+) \| (-?[\d.]+) \|$", card, re.MULTILINE):
        assert scores[name] == pytest.approx(float(shown), abs=2e-3), name
    assert "| corr |" in card and "planted data" in card and path.stat().st_size <= 4_000_000


def test_the_small_model_is_published():
    assert [path.stem for path in pretrained.FOLDER.glob("*.safetensors")] == [weights.NAME]
