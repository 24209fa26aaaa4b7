"""What several tests look at: a small finished output folder, a small corpus, a model."""

import pytest
import torch

from finelib import diagrams, experiment, figure5, presets, report, tables
from finelib.config import DataConfig
from finelib.models import build
from finelib.presets import Options


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Options of a folder with Table 2, Figures 3 and 5 and the report, planted data of the smoke preset."""
    options = Options(preset="smoke", out=tmp_path_factory.mktemp("results"))
    tables.build(2, options)
    figure5.build(options)
    specs = presets.figure5_specs(options)
    values = diagrams.information_values(specs, experiment.run(specs, options.out))
    diagrams.save("figure3", *diagrams.factorisation(values, "planted data"), options.figures)
    report.build(options)
    return options


@pytest.fixture(scope="session")
def corpus():
    """A small planted CMU-MOSI."""
    return experiment.load_corpus(DataConfig("mosi", scale=0.08))


@pytest.fixture(scope="session")
def model(corpus):
    """An untrained FINE for it, demo configuration."""
    torch.manual_seed(0)
    return build(presets.DEMO, corpus)
