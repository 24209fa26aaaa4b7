"""The demo's learning rates are those that dev chose, among the same three for each system."""

import json

from finelib.data.corpora import CORPORA
from finelib.runs import presets
from finelib.runs.options import ROOT, Options

MEASURED = json.loads((ROOT / "benchmarks" / "demo_rates.json").read_text())["systems"]


def test_each_system_s_rate_has_the_smallest_dev_error():
    assert presets.RATES.keys() == MEASURED.keys()
    for name, told in MEASURED.items():
        errors = {float(rate): sum(of["dev_mae"]) for rate, of in told["rates"].items()}
        assert len(errors) == 3 and presets.RATES[name] == min(errors, key=errors.get), name


def test_smoke_and_demo_use_them_and_equal_epochs_for_all():
    for preset in ("smoke", "demo"):
        options = Options(preset=preset)
        for corpus in CORPORA:
            data = presets.data_config(corpus, options)
            specs = presets.specs(corpus, options) + presets.compared_specs(data, options)
            assert {spec.train.lr for spec in specs if spec.name == "FINE"} == {presets.RATES["FINE"]}
            assert all(spec.train.lr == presets.RATES[spec.name] for spec in specs)
            assert len({(spec.train.epochs, spec.train.patience) for spec in specs}) == 1
