"""A trained FINE goes through one file: the same predictions without the corpus, and refusals in a sentence."""

import json
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
from finelib.baselines.variants import VariantConfig
from finelib.data.features import Corpus
from finelib.models import system_config
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
    ours, theirs = model.state_dict(), loaded.state_dict()
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


def test_another_system_and_another_text_encoder_are_refused(corpus, trained, tmp_path):
    with pytest.raises(TypeError, match="save_model: found LF-DNN, expected FINE"):
        finelib.save_model(build_system("LF-DNN", corpus), corpus, tmp_path / "x")
    with pytest.raises(TypeError, match="expected FINE"):
        finelib.save_model(finelib.build(VariantConfig(variant="w/o MoQ + MLPs"), corpus), corpus, tmp_path / "x")
    model = finelib.build(CONFIG, corpus)
    model.inputs.text_encoder = torch.nn.Identity()
    with pytest.raises(ValueError, match="found a model with a text encoder"):
        finelib.save_model(model, corpus, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def build_system(name, corpus):
    return finelib.build(system_config(name, corpus)[0], corpus)


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
