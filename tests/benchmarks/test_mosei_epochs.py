"""CMU-MOSEI's frozen text: every system is trained for as many epochs as dev chose, of the same choice for each."""

import json

from finelib.config import DataConfig
from finelib.data.encoders import MINILM
from finelib.paper import tables
from finelib.runs import presets, real
from finelib.runs.options import ROOT, Options

MEASURED = json.loads((ROOT / "benchmarks" / "mosei_epochs.json").read_text())["systems"]
OPTIONS = Options(source="public", n_seeds=1)


def test_the_smaller_dev_error_of_two_has_chosen():
    specs = tables.block_specs(real.data_config("mosei", "public", OPTIONS), OPTIONS)
    assert {spec.name for spec in specs} == MEASURED.keys()
    for spec in specs:
        errors = {int(most): of["dev_mae"] for most, of in MEASURED[spec.name]["by_most_epochs"].items()}
        assert len(errors) == 2 and 3 in errors and spec.train.epochs == min(errors, key=errors.get), spec.name


def test_other_corpora_and_a_trained_encoder_keep_their_own():
    for corpus in ("mosi", "ur_funny", "ch_sims"):
        found = presets.compared_specs(real.data_config(corpus, "public", OPTIONS), OPTIONS)
        assert {spec.train.epochs for spec in found} == {presets.COMPARED_TRAIN.epochs}
    data = DataConfig("mosei", "public", MINILM, finetune_text=True)
    assert real.schedule("FINE", data, real.FINETUNED_TRAIN) == real.FINETUNED_TRAIN
