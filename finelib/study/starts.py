"""A run that is begun more than once, of which one is kept without a look at factors or at the test split."""

from dataclasses import replace

from finelib.baselines.subset_codes import TRAIN, subset_codes_of
from finelib.config import RunSpec
from finelib.models import start_error
from finelib.runs.records import RunRecord

STARTS, APART = 2, 1000  # seeds of the starts of seed s: s, s + APART, ...
Run = tuple[RunRecord, RunSpec]


def begun(spec: RunSpec, count: int = STARTS) -> list[RunSpec]:
    """The starts of a run: the same with other seeds."""
    return [replace(spec, seed=spec.seed + APART * start) for start in range(count)]


def best_start(runs: list[Run]) -> Run:
    """The start with the smallest ``models.start_error``."""
    return min(runs, key=lambda run: start_error(run[0].curves, run[0].info.metrics))


def with_subset_codes(spec: RunSpec, name: str, **change: object) -> RunSpec:
    """FINE with subset codes in the place of a run's FINE, with the epochs of its own unless they are cut to few."""
    epochs = TRAIN["epochs"] if spec.train.epochs > 1 else 1
    train = replace(spec.train, **TRAIN | {"epochs": epochs})
    return replace(spec, name=name, model_config=subset_codes_of(spec.model_config, **change), train=train)
