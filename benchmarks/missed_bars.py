"""FINE on frozen text where it is not above a linear model, CH-SIMS and UR-FUNNY, and where it is, CMU-MOSEI: on dev.

    python benchmarks/missed_bars.py [--jobs N]

FINE with each corpus's own settings (``runs.real``), with seeds that no table reports, on the corpus without its test
split; then with one thing changed, and CMU-MOSEI with as few utterances as the others have. Ridge on mean frames
beside each. Writes missed_bars.json: dev Corr of the selected epoch.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from public_recipes import fewer, without_test

from finelib import metrics
from finelib.baselines import references
from finelib.data.features import Corpus, Frames
from finelib.models import build
from finelib.runs import experiment, real
from finelib.runs.options import Options
from finelib.runs.records import write_atomically
from finelib.training import Trainer, predict

SEEDS = (100, 101, 102)
PATH = Path(__file__).with_suffix(".json")
LABEL_LOSSES = {"lambda_cl": 0.0, "lambda_aux": 0.0, "beta_mi": 0.0}
SMALL = {"width": (32, 32, 32), "task_width": 32, "experts": 2, "queries": 2, "top_k": 1}
CHANGES = ((False, {}), (True, {}), (False, LABEL_LOSSES), (False, SMALL))
# corpus, training utterances (None: all), one mean frame an utterance, changes of FineConfig
CASES = [(corpus, None, *change) for corpus in ("ch_sims", "ur_funny") for change in CHANGES]
CASES += [("mosei", size, False, {}) for size in (1368, 7609)]


def mean_frames(corpus: Corpus) -> Corpus:
    """The corpus with one frame of text an utterance, the mean of its tokens, standardised as ridge gets it."""
    means = {name: split.frames["T"].mean() for name, split in corpus.splits.items()}
    middle, spread = means["train"].mean(0), means["train"].std(0)
    splits = {}
    for name, split in corpus.splits.items():
        values = ((means[name] - middle) / spread).astype(np.float32)
        splits[name] = replace(split, frames={"T": Frames.from_lengths(values, np.ones(len(values)))})
    return replace(corpus, splits=splits)


def prepared(corpus: str, size: int | None, one_frame: bool) -> Corpus:
    """What a case is trained on: train and dev alone."""
    found = fewer(without_test(experiment.load_corpus(real.data_config(corpus, "public", Options()))), size)
    return mean_frames(found) if one_frame else found


def fine(seed: int, corpus: str, size: int | None, one_frame: bool, changes: dict) -> float:
    """FINE's dev Corr."""
    data = prepared(corpus, size, one_frame)
    spec = next(s for s in real.specs(real.data_config(corpus, "public", Options()), (seed,)) if s.name == "FINE")
    torch.manual_seed(seed)
    model = build(replace(spec.model_config, **changes), data)
    Trainer(model, data, spec.train, seed).run()
    return corr(predict(model, data.splits["valid"]), data)


def ridge(corpus: str, size: int | None) -> float:
    """Ridge's dev Corr: dev stands where its test split would."""
    data = prepared(corpus, size, False)
    as_test = replace(data, splits=data.splits | {"test": data.splits["valid"]})
    return corr(references.ridge(as_test, ("T",)), data)


def corr(prediction: np.ndarray, data: Corpus) -> float:
    return round(metrics.correlation(prediction, data.splits["valid"].label), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    runs = Parallel(jobs, verbose=5)(delayed(fine)(seed, *case) for case in CASES for seed in SEEDS)
    lines = []
    for i, (corpus, size, one_frame, changes) in enumerate(CASES):
        found = runs[len(SEEDS) * i : len(SEEDS) * (i + 1)]
        told = {"corpus": corpus, "train": size or "all", "one_frame": one_frame, "changes": changes}
        lines.append(told | {"fine": found, "mean": round(float(np.mean(found)), 4), "ridge": ridge(corpus, size)})
        print(json.dumps(lines[-1]))
    about = "dev Corr of FINE (seeds 100 to 102) and of ridge on mean frames; frozen text, no test split"
    write_atomically(PATH, json.dumps({"what": about, "rows": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
