"""Systems that do as well at home without their part: is it the number of utterances, or what the part is told?

    python benchmarks/parts_needed.py [--jobs N]

MISA and DMD in "commons", Self-MM in "disagreeing", whole and without their part, with all of the world's training
utterances, a half and a quarter of them, and as many updates. Then Self-MM told each modality's own label, which the
world knows, in the place of those that it generates, and how far the generated ones agree. Seeds 10 to 14, which no
matrix reports. Writes parts_needed.json: share of the way to the oracle.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from finelib.baselines import self_mm
from finelib.data import worlds
from finelib.data.features import MODALITIES, Corpus
from finelib.metrics import correlation
from finelib.runs.records import write_atomically
from finelib.study import home_runs
from finelib.study.home_runs import Cell
from finelib.study.home_worlds import HOME
from finelib.training import Trainer, predict

SYSTEMS, DIVIDED_BY, SEEDS = ("MISA", "DMD", "Self-MM"), (1, 2, 4), range(10, 15)
PATH = Path(__file__).with_suffix(".json")


def own_labels(world: str, seed: int) -> dict[str, np.ndarray]:
    """Each modality's label in "disagreeing", of the training utterances: the product of its two factors.

    Scaled so that their mean is the response.
    """
    rng = np.random.default_rng([seed, *world.encode()])
    for _ in MODALITIES:  # the directions, which ``generate`` draws first
        rng.standard_normal((worlds.WORLDS[world].width,) * 2)
    drawn = worlds.WORLDS[world].draw(rng, worlds.WORLDS[world].train)
    return {m: np.sqrt(3) * codes[:, 0].prod(1) for m, codes in drawn.codes.items()}


def tell(model: self_mm.Model, given: dict[str, np.ndarray]) -> None:
    """Give Self-MM unimodal labels that stay; ``given``: modality -> (N,), clipped to the scale."""
    limit = (model.info.label_high - model.info.label_low) / 2
    for m, label in given.items():
        model.memory[m].label[:] = torch.from_numpy(label).float().clamp(-limit, limit)
        model.memory[m].met[:] = True
    model.remember = lambda output, batch: None


def fewer(corpus: Corpus, divided_by: int) -> Corpus:
    """The corpus with the first of its training utterances."""
    train = corpus.splits["train"]
    return replace(corpus, splits=corpus.splits | {"train": train.take(np.arange(len(train) // divided_by))})


def share(cell: Cell, divided_by: int = 1, told: bool = False) -> dict:
    """Share of the way of one run; of Self-MM, how its unimodal labels agree with the world's (Corr)."""
    torch.set_num_threads(1)
    corpus = fewer(worlds.generate(cell.world, cell.seed), divided_by)
    model = home_runs.build(cell, corpus)
    given = own_labels(cell.world, cell.seed) if cell.system == "Self-MM" else {}
    if told:
        tell(model, given)
    train = home_runs.train_settings(cell.system, "demo")
    train = replace(train, epochs=train.epochs * divided_by, patience=train.patience * divided_by)
    Trainer(model, corpus, train, cell.seed).run(lambda _: None)
    test, label = corpus.splits["test"], corpus.splits["train"].label
    found = {"share": correlation(predict(model, test), test.label) / correlation(test.factors["oracle"], test.label)}
    if given and not (cell.without or told):
        own = {m: model.memory[m].label.numpy() for m in given}
        apart = {m: truth[: len(label)] - label for m, truth in given.items()}
        found["agree_apart"] = float(np.mean([np.corrcoef(own[m] - label, apart[m])[0, 1] for m in own]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    cases = [(s, without, size, False) for s in SYSTEMS for without in (False, True) for size in DIVIDED_BY]
    cases.append(("Self-MM", False, 1, True))
    tasks = [(Cell(HOME[s], s, seed, w), size, told) for s, w, size, told in cases for seed in SEEDS]
    scores = Parallel(n_jobs=jobs, verbose=5)(delayed(share)(*task) for task in tasks)
    found = []
    for place, (system, without, size, told) in enumerate(cases):
        own = scores[place * len(SEEDS) : (place + 1) * len(SEEDS)]
        row = {"system": system, "without": without, "train": worlds.WORLDS[HOME[system]].train // size, "told": told}
        found.append(row | {name: [round(s[name], 3) for s in own] for name in own[0]})
    write_atomically(PATH, json.dumps({"data": "planted", "seeds": list(SEEDS), "cases": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
