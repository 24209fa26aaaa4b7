"""``--tune N``: which settings are tried, and that the dev split alone chooses."""

import json
from dataclasses import replace

import pytest

from finelib.runs import presets, tuning
from finelib.runs.options import Options


@pytest.fixture
def options(tmp_path):
    return Options(preset="smoke", n_seeds=2, out=tmp_path, tune=3)


def specs_of(options, *names):
    found = presets.specs("mosi", options) + presets.compared_specs(presets.data_config("mosi", options), options)
    return [spec for spec in found if spec.name in names]


class FakeRecord:
    def __init__(self, dev, test):
        self.id, self.dev_error = "run", "mae"
        self.valid, self.test = {"mae": dev}, {"mae": test}


def test_every_system_gets_as_many_settings_all_different_its_own_first(options):
    for spec in specs_of(options, "FINE", "LF-DNN", "MulT", "ConFEDE"):
        found = tuning.candidates(spec, 6)
        assert found[0] == spec and len(set(found)) == 6
        assert found == tuning.candidates(spec, 6) and found[:3] == tuning.candidates(spec, 3)
        for candidate in found[1:]:
            changed = {
                f
                for f, values in tuning.space(spec.model_config).items()
                if getattr(candidate.model_config, f) in values
            }
            assert changed == set(tuning.space(spec.model_config))
            assert replace(candidate, model_config=spec.model_config, train=spec.train) == spec
            assert candidate.train.lr in tuning.TRAINING["lr"]


def test_a_small_space_is_used_up_not_repeated(options, monkeypatch):
    spec = specs_of(options, "TFN")[0]
    monkeypatch.setattr(tuning, "TRAINING", {"lr": (1e-3, 1e-2)})
    monkeypatch.setattr(tuning, "space", lambda model: {})
    assert len(tuning.candidates(spec, 10)) <= 3


def test_the_dev_split_chooses_and_every_seed_gets_the_choice(options, monkeypatch):
    specs = specs_of(options, "FINE", "TFN")
    tried = []

    def run(asked, out, jobs, **_options):  # the second setting is best on dev, the third on test
        tried.extend(asked)
        return [FakeRecord(*[(1.0, 1.0), (0.5, 0.9), (0.7, 0.1)][i % 3]) for i in range(len(asked))]

    monkeypatch.setattr(tuning.experiment, "run", run)
    found = tuning.tuned(specs, options)
    assert len(tried) == 6 and {spec.seed for spec in tried} == {0}
    assert [(spec.name, spec.seed) for spec in found] == [(spec.name, spec.seed) for spec in specs]
    for name in ("FINE", "TFN"):
        second = tuning.candidates(next(s for s in specs if s.name == name), 3)[1]
        assert all((s.model_config, s.train) == (second.model_config, second.train) for s in found if s.name == name)
    log = json.loads((options.figures / "tuning.json").read_text())["mosi, planted"]
    assert set(log) == {"FINE", "TFN"} and [line["chosen"] for line in log["TFN"]] == [False, True, False]
    assert log["TFN"][1]["lr"] == tuning.candidates(specs_of(options, "TFN")[0], 3)[1].train.lr
