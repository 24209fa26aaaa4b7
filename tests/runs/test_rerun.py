"""A run repeated from its record: equal where nothing changed, and otherwise what did is said."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import write_run

from finelib import __main__ as main
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data import store
from finelib.paper import objective, tables
from finelib.runs import experiment, rerun
from finelib.runs.options import PRESETS, Options
from finelib.runs.records import PREDICTIONS, config_hash, read_record, spec_config, write_record
from finelib.scale.streamed import StreamedConfig
from finelib.study import identifiability, subset_codes

SMALL = FineConfig(width=(8, 8, 8), task_width=8, heads=2, critic_width=8, label_width=4)
SPEC = RunSpec("FINE", DataConfig("mosi", scale=0.05), SMALL, TrainConfig(epochs=2), seed=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    (record,) = experiment.run([SPEC], tmp_path_factory.mktemp("out"), jobs=1, progress=False)
    return record


def copied(record, folder, **changes):
    """The record in another folder, with other fields."""
    other = replace(record, folder=folder, **changes)
    (folder / PREDICTIONS).write_bytes((record.folder / PREDICTIONS).read_bytes())
    write_record(other)
    return other


def written(spec):
    """What ``spec_of`` reads of a record of a spec, after its way through JSON."""
    config = json.loads(json.dumps(spec_config(spec)))
    told = {"name": spec.name, "seed": spec.seed, "config_hash": config_hash(spec)}
    return SimpleNamespace(config=config, folder="runs/a", git_revision="r" * 40, **told)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("source", ["planted", "public"])
def test_every_run_of_the_tables_and_studies_is_found_again_from_its_record(preset, source, monkeypatch):
    monkeypatch.setattr(tables.sources, "available", lambda corpus, asked: None)
    options = Options(preset=preset, source=source)
    specs = [spec for number in tables.COLUMNS for spec in tables.table_specs(number, options)]
    if source == "planted":
        specs += identifiability.specs(options) + objective.specs(options)
        specs += [spec for study in subset_codes.STUDIES for spec in subset_codes.specs(options, study)]
    specs.append(replace(SPEC, train=StreamedConfig(chunk=8)))
    assert len(specs) > 40 and [rerun.spec_of(written(spec)) for spec in specs] == specs


def test_a_run_is_repeated_bit_for_bit_and_the_record_stays(trained, capsys):
    before = (trained.folder / "record.json").read_bytes()
    assert main.main(["rerun", str(trained.folder / "record.json")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"rerun: FINE, seed 3, on mosi (planted): {trained.id}",
        "rerun: equal, every prediction bit for bit",
    ]
    assert (trained.folder / "record.json").read_bytes() == before


def test_other_code_and_versions_are_named_though_the_numbers_are_equal(trained, tmp_path, capsys):
    changes = {"code_hash": "0", "git_revision": "b" * 40, "versions": trained.versions | {"torch": "1.0"}}
    copied(trained, tmp_path, **changes)
    assert main.main(["rerun", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "recorded with bbbbbbbbbbbb" in out[1] and out[2].endswith(", recorded with 1.0")
    assert out[3:] == ["rerun: equal, every prediction bit for bit"]


def test_one_prediction_that_differs_is_counted(trained, tmp_path, capsys):
    record = copied(trained, tmp_path)
    arrays = record.predictions()
    arrays["test"][5] += np.float32(0.25)
    np.savez(tmp_path / PREDICTIONS, **arrays)
    write_record(replace(record, files=record.files | {PREDICTIONS: list(store.checksum(tmp_path / PREDICTIONS))}))
    assert main.main(["rerun", str(tmp_path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("  test: 1 of 34 predictions differ, by at most 0.25; corr ")
    assert out[2:] == ["rerun: not equal"]


def test_another_seed_gives_another_run(trained, tmp_path, capsys):
    copied(trained, tmp_path, seed=4)
    assert main.main(["rerun", str(tmp_path)]) == 1
    assert "  test: 34 of 34 predictions differ" in capsys.readouterr().out


def test_other_data_are_not_trained_on(trained, tmp_path, capsys, monkeypatch):
    copied(trained, tmp_path, data_hash="0" * 64)
    monkeypatch.setattr(experiment, "run", lambda *_, **__: pytest.fail("trained"))
    assert main.main(["rerun", str(tmp_path)]) == 1
    assert f"data: found {trained.data_hash[:12]}, recorded 000000000000; not trained" in capsys.readouterr().out


def test_a_run_that_diverged_is_compared_by_what_it_said(tmp_path, monkeypatch, capsys):
    spec = replace(SPEC, train=TrainConfig(epochs=1, lr=1e38, clip=1e38))
    with pytest.raises(experiment.Diverged):
        experiment.run([spec], tmp_path, jobs=1, progress=False)
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/record.json"))
    assert main.main(["rerun", str(folder)]) == 0
    other = copied_failed(folder, "another reason")
    assert rerun.rerun(other)[0] is False and "recorded another reason" in rerun.rerun(other)[1][0]


def copied_failed(folder, failed):
    record = replace(read_record(folder), failed=failed)
    write_record(record)
    return record


def test_what_cannot_be_repeated_ends_in_one_sentence(tmp_path, capsys):
    def said(path):
        assert main.main(["rerun", str(path)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and err.startswith("rerun: ")
        return err

    assert "found no record" in said(tmp_path)
    settings = spec_config(SPEC)
    del settings["model"]["tau"]  # of a version without it
    folder = write_run(tmp_path, config=settings)
    assert "found settings of finelib at revision aaaaaaaaaaaa" in said(folder)
    other = write_run(tmp_path, seed=1, config=spec_config(SPEC) | {"train": asdict(TrainConfig(epochs=7))})
    assert "check out that revision" in said(other)  # the hash is of other settings
    (folder / "record.json").write_text("{}")
    assert "not a run record" in said(folder)
    lost = replace(SPEC, data=DataConfig("mosi", source=str(tmp_path / "gone.pkl")))
    told = {"config": spec_config(lost), "config_hash": config_hash(lost)}
    assert "found no such file or folder" in said(write_run(tmp_path, seed=2, **told))
