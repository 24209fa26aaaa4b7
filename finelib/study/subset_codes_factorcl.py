"""FINE and FINE with subset codes on FactorCL's design: a few seconds a run, so no records are kept."""

from time import perf_counter

from joblib import Parallel, delayed
from torch import nn
from tqdm.auto import tqdm

from finelib import metrics, models
from finelib.config import RunSpec
from finelib.data.features import Corpus
from finelib.models import start_error
from finelib.study.factorcl import make_factorcl
from finelib.study.identifiability import Probed, probe
from finelib.study.representations import features_of
from finelib.study.seeding import seeded
from finelib.training import predict

# case -> whether the means of a block's halves stand for it (``factorcl.make_factorcl``)
CASES = {"FactorCL": False, "FactorCL, halves": True}
ABOUT = {
    "FactorCL": "FactorCL's design; probes for single entries of its blocks, of which a code can tell a third",
    "FactorCL, halves": "the same runs; probes for the mean of the entries of a block that the label needs, and of the "
    "others",
}


def measure_factorcl(
    runs: dict[tuple[str, int, int], list[RunSpec]], sizes: tuple[int, int, int], jobs: int
) -> dict[str, list[dict]]:
    """Case -> a row for each (system, world, seed), of the best of its starts.

    Args:
        runs: the starts; of their data the seed alone counts.
        sizes: utterances of the train, valid and test splits.
    """
    found = {case: [] for case in CASES}
    measured = Parallel(jobs, return_as="generator")(delayed(_rows)(starts, sizes) for starts in runs.values())
    for (system, world, seed), rows in zip(runs, tqdm(measured, "FactorCL", len(runs), unit="run"), strict=True):
        for case, row in rows.items():
            found[case].append({"system": system, "world": world, "seed": seed} | row)
    return found


def _rows(starts: list[RunSpec], sizes: tuple[int, int, int]) -> dict[str, dict]:
    """Case -> what is measured of the best start of one run."""
    began, world = perf_counter(), starts[0].data.seed
    corpus = make_factorcl(sizes, world)
    trained = [_trained(spec, corpus) for spec in starts]
    seconds = perf_counter() - began
    best = min(trained, key=lambda model: start_error(model.history.curves, corpus.info.metrics))
    test = corpus.splits["test"]
    about = {
        "run": f"factorcl-{starts[0].name}-w{world}-s{starts[trained.index(best)].seed}",
        "corr": metrics.correlation(predict(best, test), test.label),
        "structure": best.history.curves[-1].get("structure"),
        "starts": [model.history.curves[-1].get("structure") for model in trained],
        "seconds": seconds,
        "parameters": sum(p.numel() for p in best.parameters()),
    }
    found = {}
    for case, halves in CASES.items():
        found[case] = about | scores_of(_probed(best, corpus, make_factorcl(sizes, world, halves)))
    return found


def scores_of(probed: Probed) -> dict[str, dict[str, float]]:
    """The three scores by a linear probe and by one of one hidden layer."""
    both = {"linear": probed, "mlp": probed.mlp}
    return {name: {score: part["score"] for score, part in each.scores.items()} for name, each in both.items()}


def _trained(spec: RunSpec, corpus: Corpus) -> nn.Module:
    with seeded(spec.seed):
        return models.fit(models.build(spec.model_config, corpus), corpus, spec.train, spec.seed)


def _probed(model: nn.Module, corpus: Corpus, known: Corpus) -> Probed:
    """Probes of a model's features of ``corpus`` for the factors of ``known``, the same utterances."""
    parts = {part: features_of(model.eval(), corpus.splits[part]) for part in ("train", "test")}
    return probe(parts, known, mlp=True)
