"""Run folders with made-up predictions, as a finished run leaves them but for the weights."""

import numpy as np

from finelib import metrics
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data import store
from finelib.data.corpora import ALL_CORPORA
from finelib.runs.records import PREDICTIONS, RunRecord, config_hash, spec_config, write_record

LABEL = np.array([-2, -0.4, 0, 0, 1.2, 3], dtype=np.float32)
PREDICTION = np.array([-1.5, 0.2, 0, -0.1, 1.4, 2.4], dtype=np.float32)
IDS = [f"planted_test$_${i}" for i in range(6)]
VERSIONS = {"python": "3.11.7", "torch": "2.13.0"}


def write_run(
    out, name="FINE", seed=0, prediction=PREDICTION, label=LABEL, ids=IDS, source="planted", data="planted", **changes
):
    """A record below out/runs, and its folder; ``changes`` replace fields of the record."""
    corpus = changes.get("corpus", "mosi")
    spec = RunSpec(name, DataConfig(corpus, source=source), FineConfig(), TrainConfig(), seed)
    data_hash = changes.pop("data_hash", f"{source}-data")
    folder = out / "runs" / f"{corpus}-{name.replace(' ', '_').replace('/', '_')}-s{seed}-{data_hash}"
    folder.mkdir(parents=True)
    arrays = {"valid": prediction, "valid_label": label, "test": prediction, "test_label": label}
    np.savez(folder / PREDICTIONS, test_ids=np.array(ids, dtype=np.str_), **arrays)
    scores = metrics.score(ALL_CORPORA[corpus].metrics, prediction, label)
    told = {
        "config": spec_config(spec),
        "config_hash": config_hash(spec),
        "code_hash": "code",
        "corpus": corpus,
        "data": data,
        "data_hash": data_hash,
        "encoder": "planted",
        "modalities": ["T", "A", "V"],
        "sizes": {"train": 10, "valid": len(label), "test": len(label)},
        "git_revision": "a" * 40,
        "versions": VERSIONS,
        "parameters": 1000,
        "curves": [{"dev_mae": 1.0}, {"dev_mae": 0.5}],
        "selected_epoch": 1,
        "files": {PREDICTIONS: list(store.checksum(folder / PREDICTIONS))},
        "timing": {"seconds": 90.0, "device": "cpu", "finished": "2026-01-02T03:04:05+00:00", "peak_memory_mib": 500.0},
        "scores_as_written": {"valid": scores, "test": scores},
    }
    write_record(RunRecord(folder, folder.name, name, seed, **told | changes))
    return folder


def write_csv(path, predictions, ids=IDS, **columns):
    """A csv file of predictions, with further columns of one value each."""
    head = ",".join(["id", "prediction", *columns])
    lines = [",".join([i, repr(float(p)), *map(str, columns.values())]) for i, p in zip(ids, predictions, strict=True)]
    path.write_text("\n".join([head, *lines]) + "\n")
    return path
