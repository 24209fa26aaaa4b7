"""What several tests look at: a small finished output folder, a small corpus, a model."""

import os

import pytest
import requests
import torch
from filelock import FileLock
from hypothesis import settings

from finelib.config import DataConfig
from finelib.data import face_models
from finelib.data.safe_pickle import DataError
from finelib.models import build
from finelib.paper import tables
from finelib.runs import experiment, presets
from finelib.runs.options import Options
from finelib.study import factors
from finelib.views import diagrams, report, style
from finelib.views.figure5 import make_figure5

# the same examples at every call, however slow the machine; FINE_FUZZ tries more of them (data/test_fuzz.py)
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def threads():
    """A test leaves PyTorch as many threads as it found: two processes of two on two CPUs take thirty times as long."""
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Options of a folder with Table 2, Figures 3 and 5 and the report, planted data of the smoke preset.

    All processes of one test run share it: the first that asks makes it. Tests read it and write elsewhere.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # each worker's own folder lies in it
    options = Options(preset="smoke", out=shared / "results", jobs=1)  # a worker takes five seconds to start
    with FileLock(shared / "results.lock"):
        if not (options.figures / "report.html").exists():
            make_results(options)
    return options


def make_results(options: Options) -> None:
    tables.build_table(2, options)
    make_figure5(options)
    specs = presets.figure5_specs(options)
    values = factors.information_values(specs, experiment.run(specs, options.out, options.jobs))
    figure, caption = diagrams.factorisation(values, "planted data")
    style.save(figure, "figure3", options.figures, caption)
    report.write_report(options)


@pytest.fixture(scope="session")
def face_cache(tmp_path_factory):
    """A cache folder with the face models; MediaPipe's wheel is downloaded where the machine's cache lacks it."""
    try:
        kept = face_models.folder()
    except DataError as error:
        if isinstance(error.__cause__, requests.ConnectionError):
            pytest.skip(f"no network: {error}")
        raise
    cache = tmp_path_factory.mktemp("face_cache")
    (cache / "faces").symlink_to(kept.parent)
    return cache


@pytest.fixture(scope="session")
def corpus():
    """A small planted CMU-MOSI."""
    return experiment.load_corpus(DataConfig("mosi", scale=0.08))


@pytest.fixture(scope="session")
def model(corpus):
    """An untrained FINE for it, demo configuration."""
    torch.manual_seed(0)
    return build(presets.DEMO, corpus)
