"""Learning rates of the demo and of the home worlds are those that dev chose, among the same three for each system."""

import json

from finelib.data.corpora import CORPORA
from finelib.runs import presets
from finelib.runs.options import ROOT, Options
from finelib.study import home_runs

MEASURED, AT_HOME = (
    json.loads((ROOT / "benchmarks" / name).read_text())["systems"] for name in ("demo_rates.json", "home_rates.json")
)


def test_each_system_s_rate_has_the_smallest_dev_error():
    assert presets.RATES.keys() == MEASURED.keys()
    for name, told in MEASURED.items():
        errors = {float(rate): sum(of["dev_mae"]) for rate, of in told["rates"].items()}
        assert len(errors) == 3 and presets.RATES[name] == min(errors, key=errors.get), name


def test_each_system_s_rate_in_home_worlds_has_the_largest_dev_corr():
    assert home_runs.RATES.keys() == AT_HOME.keys()
    for name, told in AT_HOME.items():
        corr = {float(rate): sum(of) for rate, of in told["dev_corr"].items()}
        assert len(corr) == 3 and home_runs.RATES[name] == max(corr, key=corr.get), name


def test_smoke_and_demo_use_them_and_equal_epochs_for_all():
    for preset in ("smoke", "demo"):
        options = Options(preset=preset)
        for corpus in CORPORA:
            data = presets.data_config(corpus, options)
            specs = presets.specs(corpus, options) + presets.compared_specs(data, options)
            assert {spec.train.lr for spec in specs if spec.name == "FINE"} == {presets.RATES["FINE"]}
            assert all(spec.train.lr == presets.RATES[spec.name] for spec in specs)
            assert len({(spec.train.epochs, spec.train.patience) for spec in specs}) == 1
