"""What is remembered follows what files hold, not where they lie; and weights meet only features they were made for."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from make_files import dump, mmsa_content, read_here, write_mfn, write_mmsa, write_ur_funny
from safetensors.torch import load_file, save_file

from finelib import models, training
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data import planted, sources
from finelib.data.corpora import CORPORA
from finelib.runs import experiment
from finelib.runs.checkpoint import restore, state_of

SMALL = FineConfig(width=(8, 8, 8), task_width=8, heads=2, critic_width=8, label_width=4)
TRAIN = TrainConfig(epochs=1)
MOSI = replace(CORPORA["mosi"], max_frames=(6, 6, 6))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)


def write(path, seed=0, widths=(5, 4, 3)):
    return dump(mmsa_content(MOSI, (12, 6, 6), seed=seed, widths=widths), path)


def spec_of(source):
    return RunSpec("FINE", DataConfig("mosi", source=str(source)), SMALL, TRAIN, 0)


# A source whose content is replaced within one session


def test_a_replaced_file_is_read_and_trained_anew_and_the_old_one_found_again(tmp_path):
    path = write(tmp_path / "features.pkl")
    spec = spec_of(path)
    (first,) = experiment.run([spec], tmp_path, 1, progress=False)
    assert experiment.load_corpus(spec.data) is experiment.load_corpus(spec.data)
    write(path, seed=1)
    (second,) = experiment.run([spec], tmp_path, 1, progress=False)
    assert (second.id, second.data_hash) != (first.id, first.data_hash)
    assert second.data_hash == experiment.load_corpus(spec.data).sha256 == sources.load("mosi", path).sha256
    assert first.predictions()["test_label"].tolist() != second.predictions()["test_label"].tolist()
    write(path)
    assert experiment.run([spec], tmp_path, 1, progress=False)[0].id == first.id


def mmsa_folder(folder, seed):
    write_mmsa(folder, "mosi", seed=seed)
    return DataConfig("mosi", source=str(folder))


def aligned_folder(folder, seed):
    write_mmsa(folder, "mosi", seed=0)
    write_mmsa(folder, "mosi", aligned=True, seed=seed)
    return DataConfig("mosi", source=str(folder), aligned=True)


def ur_funny_folder(folder, seed):
    write_ur_funny(folder, arrays=True, seed=seed)
    return DataConfig("ur_funny", source=str(folder), context=True)


def mirror(folder, seed):
    write_mfn(folder, seed=seed)
    os.environ["FINE_DATA_MIRROR"] = str(folder)
    return DataConfig("mosi", source="public-mfn")


@pytest.mark.parametrize("kind", [mmsa_folder, aligned_folder, ur_funny_folder, mirror])
def test_a_source_of_any_kind_is_read_again_when_its_files_are_replaced(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("FINE_DATA_MIRROR", os.environ.get("FINE_DATA_MIRROR", ""))
    monkeypatch.setattr(
        "finelib.data.download._verified", lambda path, *_: path
    )  # generated files have other checksums
    labels = []
    for seed in (0, 1, 0):
        config = kind(tmp_path / "data", seed)
        corpus = experiment.load_corpus(config)
        assert experiment.load_corpus(config) is corpus and experiment.corpus_key(config)[0] == corpus.sha256
        labels.append(corpus.splits["train"].frames["A"].values.sum())
    assert labels[0] == labels[2] != labels[1]


def test_one_of_six_files_is_enough(tmp_path):
    config = ur_funny_folder(tmp_path, 0)
    before = experiment.corpus_key(config)
    write_ur_funny(tmp_path / "other", arrays=True, seed=1)
    name = "UR_FUNNY/covarep_features_sdk.pkl"
    times = (tmp_path / name).stat()
    shutil.copy(tmp_path / "UR_FUNNY/openface_features_sdk.pkl", tmp_path / name)
    os.utime(tmp_path / name, ns=(times.st_atime_ns, times.st_mtime_ns))  # as an archive restores them
    assert experiment.corpus_key(config) != before


def test_a_touched_file_is_still_the_same_run(tmp_path):
    path = write(tmp_path / "features.pkl")
    spec = spec_of(path)
    before = experiment.run_folder(spec, tmp_path)
    os.utime(path)
    shutil.copy(path, tmp_path / "moved.pkl")
    assert (
        experiment.run_folder(spec, tmp_path)
        == before
        == experiment.run_folder(spec_of(tmp_path / "moved.pkl"), tmp_path)
    )


def test_a_text_encoder_s_folder_is_part_of_what_is_looked_at(tmp_path):
    path, folder = write(tmp_path / "features.pkl"), tmp_path / "encoder"
    folder.mkdir()
    for name in ("config.json", "vocab.txt", "model.safetensors", "notes.md"):
        (folder / name).write_text("{}")
    found = [sources.stamp("mosi", path, text_encoder=str(folder))]
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (folder / name).write_text('{"changed": 1}')
        found.append(sources.stamp("mosi", path, text_encoder=str(folder)))
    assert len(set(found)) == 4
    (folder / "notes.md").write_text("no part of the encoder")
    assert sources.stamp("mosi", path, text_encoder=str(folder)) == found[-1]
    assert sources.stamp("mosi", path) == found[-1][:1] and sources.stamp("mosi") == ()


def test_files_that_change_during_a_training_make_no_result(tmp_path, monkeypatch):
    path = write(tmp_path / "features.pkl")
    spec, real = spec_of(path), experiment.one.train_one

    def replaced_meanwhile(spec, _corpus, *rest):
        write(path, seed=1)
        real(spec, experiment.load_corpus(spec.data), *rest)

    monkeypatch.setattr(experiment.one, "train_one", replaced_meanwhile)
    with pytest.raises(ValueError, match="runs/mosi-FINE-s0-.*: found data .*, expected .*its files changed while"):
        experiment.run([spec], tmp_path, 1, progress=False)


# Planted data are generated when they are needed


def test_planted_data_are_known_without_being_generated_again_until_their_code_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path))
    config, generate, made = DataConfig("ch_sims", scale=0.05), planted.generate, []
    monkeypatch.setattr(planted, "generate", lambda *a, **k: made.append(1) or generate(*a, **k))

    def key(code):
        for remembered in (experiment._corpus_key, experiment._load_corpus):
            remembered.cache_clear()
        monkeypatch.setattr(experiment, "code_hash", lambda *_: code)
        return experiment.corpus_key(config)

    corpus = experiment.load_corpus(config)
    assert key("a") == key("a") == (corpus.sha256, len(corpus.splits["train"])) and len(made) == 2
    assert key("b") == key("a") and len(made) == 3
    (tmp_path / "file").touch()
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "file"))
    assert key("a") == key("b") and len(made) == 5  # where nothing can be kept


# Weights and features of other widths


@pytest.fixture
def trained(tmp_path):
    spec = spec_of(write(tmp_path / "features.pkl"))
    (record,) = experiment.run([spec], tmp_path, 1, progress=False)
    return record, spec


@pytest.mark.parametrize(
    ("widths", "found", "expected"),
    [
        ((5, 4, 7), "video features of width 3", "video features of width 7"),
        ((9, 4, 3), "text features of width 5", "text features of width 9"),
        ((5, 6, 8), "audio features of width 4, video features of width 3", "audio .*6, video .*8"),
    ],
)
def test_weights_for_other_widths_are_one_sentence(tmp_path, trained, widths, found, expected):
    record, spec = trained
    write(tmp_path / "features.pkl", widths=widths)
    with pytest.raises(
        ValueError, match=f"weights.safetensors: found weights for {found}, expected {expected}"
    ) as error:
        experiment.load_model(record, spec)
    assert "\n" not in str(error.value)


def test_weights_of_another_configuration_are_one_sentence(trained):
    record, spec = trained
    two = replace(spec, model_config=replace(SMALL, modalities=("T", "A")))
    with pytest.raises(ValueError, match="found weights for video features of width 3, expected no video features"):
        experiment.load_model(record, two)
    wide = replace(spec, model_config=replace(SMALL, task_width=16))
    with pytest.raises(
        ValueError, match=r"found weights of another model: .* \(and .* more\): found .*, expected "
    ) as error:
        experiment.load_model(record, wide)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["FINE", "MulT", "LF-DNN", "MFN", "Self-MM"])
def test_features_of_other_widths_are_one_sentence_whoever_reads_them(tmp_path, name):
    one, other = (sources.load("mosi", write(tmp_path / f"{w}.pkl", widths=(5, 5, w))) for w in (5, 7))
    model = models.build(replace(models.system_config(name, one)[0], **(vars(SMALL) if name == "FINE" else {})), one)
    said = "^model: found video as features of width 7, expected features of width 5, which it was built for$"
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for attempt in (
        lambda: training.predict(model, other.splits["test"]),
        lambda: models.fit(model, other, TRAIN),
        lambda: model(other.batch([0, 1])),
    ):
        with pytest.raises(ValueError, match=said):
            attempt()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())  # nothing was trained
    assert np.isfinite(training.predict(model, one.splits["test"])).all()


def test_a_modality_or_token_ids_that_a_model_was_not_built_for(tmp_path):
    corpus = sources.load("mosi", write(tmp_path / "features.pkl"))
    model, test = models.build(SMALL, corpus), corpus.splits["test"]
    less = replace(test, frames={m: test.frames[m] for m in "TA"})
    with pytest.raises(ValueError, match="^FINE: reads modalities V, found T, A in the split, expected all"):
        training.predict(model, less)
    ids = replace(test.frames["T"], values=test.frames["T"].values[:, 0].astype(np.int64))
    with pytest.raises(ValueError, match="found text as token ids, expected features of width 5"):
        training.predict(model, replace(test, frames=test.frames | {"T": ids}))


def test_a_state_of_another_model_is_one_sentence(tmp_path, trained):
    record, spec = trained
    one = training.Trainer(experiment.load_model(record, spec), experiment.load_corpus(spec.data), TRAIN, 0)
    write(tmp_path / "features.pkl", widths=(5, 4, 9))
    corpus = experiment.load_corpus(spec.data)
    other = training.Trainer(models.build(SMALL, corpus), corpus, TRAIN, 0)
    with pytest.raises(ValueError, match="found weights for video features of width 3, expected video .* 9"):
        restore(other, state_of(one))


def test_a_tensor_that_is_missing_is_named(tmp_path, trained):
    record, spec = trained
    model = experiment.load_model(record, spec)
    save_file({k: v for k, v in model.state_dict().items() if k != "inputs.standardise.T.scale"}, tmp_path / "w")
    with pytest.raises(ValueError, match=r"w: .*inputs.standardise.T.scale: found none of that name, expected \(5,\)"):
        models.load_weights(model, load_file(tmp_path / "w"), tmp_path / "w")
