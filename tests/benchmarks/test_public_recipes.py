"""Settings for real corpora are chosen on dev: the test split is not there to be looked at."""

import numpy as np
import public_recipes
import pytest

from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.runs import real

SPEC = RunSpec("FINE", DataConfig("mosi", "public"), FineConfig(), TrainConfig(epochs=2), public_recipes.SEED)


def test_a_try_sees_no_test_split_and_reports_dev_alone(corpus, monkeypatch):
    seen = []

    def build(config, given):
        seen.append(set(given.splits))
        return models_build(config, given)

    models_build = public_recipes.build
    monkeypatch.setattr(public_recipes, "build", build)
    found = public_recipes.try_on_dev(SPEC, corpus)
    assert seen == [{"train", "valid"}] and not [name for name in found if "test" in name]
    curve = found["dev_mae_by_epoch"]
    assert len(curve) == 2 and found["selected_epoch"] == int(np.argmin(curve)) + 1 and found["dev_mae"] == min(curve)


def test_changes_go_where_they_belong_and_unknown_ones_nowhere():
    found = public_recipes.changed(SPEC, {"lr": 0.1, "dropout": 0.5})
    assert (found.train.lr, found.model_config.dropout) == (0.1, 0.5)
    with pytest.raises(TypeError, match="dropuot"):
        public_recipes.changed(SPEC, {"dropuot": 0.5})


def test_no_table_reports_the_seed_that_settings_are_tried_with():
    assert public_recipes.SEED not in {run.seed for run in real.specs(DataConfig("mosi", "public"), tuple(range(10)))}
