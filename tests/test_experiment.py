"""Run records: memoised, exact, whole."""

import json
from dataclasses import replace

import numpy as np
import pytest

from finelib import experiment, metrics
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig

SMALL = FineConfig(width=(16, 16, 16), task_width=16, heads=2, critic_width=16, label_width=8)
SPEC = RunSpec("FINE", DataConfig("mosi", scale=0.05), SMALL, TrainConfig(epochs=2), seed=1)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    experiment.run([SPEC], folder, jobs=1, progress=False)
    return folder


def without_times(record):
    return {key: value for key, value in record.content.items() if key != "timing"}


def test_record_scores_are_those_of_its_predictions_and_weights(out):
    (record,) = experiment.run([SPEC], out, progress=False)
    arrays = record.predictions()
    assert record.test == metrics.score("mosi", arrays["test"], arrays["test_label"])
    corpus = experiment.load_corpus(SPEC.data)
    assert arrays["test_ids"].tolist() == corpus.splits["test"].ids
    model = experiment.load_model(record, SPEC)
    again = experiment.training.predictions(model, corpus.splits["test"], SPEC.train)
    np.testing.assert_array_equal(again, arrays["test"])
    best = record.curves[record.content["selected_epoch"]]
    assert best["dev_mae"] == pytest.approx(np.abs(arrays["valid"] - arrays["valid_label"]).mean(), abs=1e-6)
    assert not (record.folder / "checkpoint.pt").exists()


def test_second_run_trains_nothing_and_a_changed_setting_only_itself(out, monkeypatch):
    trained = []
    real = experiment.train_one
    monkeypatch.setattr(experiment, "train_one", lambda spec, *rest: (trained.append(spec), real(spec, *rest)))
    experiment.run([SPEC], out, jobs=1, progress=False)
    assert trained == []
    changed = replace(SPEC, model=replace(SMALL, lambda_cl=0.0))
    experiment.run([SPEC, changed], out, jobs=1, progress=False)
    assert trained == [changed]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"data": DataConfig("mosi", scale=0.05, seed=1)},
        {"train": TrainConfig(epochs=2, lr=1e-4)},
        {"train": TrainConfig(epochs=2, threads=2)},
    ],
)
def test_everything_that_decides_a_number_is_in_the_key(out, change):
    assert experiment.run_folder(replace(SPEC, **change), out) != experiment.run_folder(SPEC, out)


def test_code_hash_ignores_docstrings_and_comments():
    parse = experiment.ast.parse
    dump = lambda text: experiment.ast.dump(experiment._without_docstrings(parse(text)))  # noqa: E731
    assert dump('def f():\n    """one"""\n    return 1  # a') == dump('def f():\n    """two"""\n    return 1')
    assert dump("def f():\n    return 1") != dump("def f():\n    return 2")


def test_same_seed_gives_the_same_record_in_other_processes(out, tmp_path):
    second = replace(SPEC, seed=5)
    first = experiment.run([SPEC, second], out, jobs=1, progress=False)
    other = experiment.run([SPEC, second], tmp_path, jobs=2, progress=False)
    for a, b in zip(first, other, strict=True):
        assert json.dumps(without_times(a)) == json.dumps(without_times(b))
        np.testing.assert_array_equal(a.predictions()["test"], b.predictions()["test"])
        assert (a.folder / "weights.safetensors").read_bytes() == (b.folder / "weights.safetensors").read_bytes()


def test_interrupted_run_goes_on_and_gives_the_same_record(out, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment.training, "CHECKPOINT_SECONDS", -1)

    def stop(epochs, _curve):
        raise KeyboardInterrupt

    folder = experiment.run_folder(SPEC, tmp_path)
    spec = replace(SPEC, train=replace(SPEC.train, epochs=2))
    with pytest.raises(KeyboardInterrupt):
        # stops in the second epoch, after the first was saved
        experiment.train_one(spec, folder, lambda epochs, curve: epochs == 2 and stop(epochs, curve))
    assert (folder / "checkpoint.pt").exists() and not (folder / "record.json").exists()
    (resumed,) = experiment.run([SPEC], tmp_path, jobs=1, progress=False)
    (whole,) = experiment.run([SPEC], out, jobs=1, progress=False)
    assert without_times(resumed) == without_times(whole)


def test_unreadable_record_is_named(out, tmp_path):
    folder = experiment.run_folder(SPEC, tmp_path)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text('{"id": ')
    with pytest.raises(ValueError, match="record.json: not a run record"):
        experiment.run([SPEC], tmp_path, progress=False)


@pytest.mark.parametrize("step", ["save_file", "write_atomically"])
def test_full_disk_is_one_sentence_and_leaves_no_record(tmp_path, monkeypatch, step):
    def full(*_):
        raise experiment.SafetensorError("No space left on device") if step == "save_file" else OSError(28, "No space")

    monkeypatch.setattr(experiment, step, full)
    with pytest.raises(OSError, match="cannot be written .*No space"):
        experiment.run([SPEC], tmp_path, jobs=1, progress=False)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("record.json"))
    (record,) = experiment.run([SPEC], tmp_path, jobs=1, progress=False)  # with room again, it goes on
    assert record.test
