"""From a RunSpec to a run record on disk, trained once and never again while nothing under it changes."""

import dataclasses
import platform
import sys
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from tqdm.auto import tqdm

from finelib.config import DataConfig, RunSpec
from finelib.data import own, store
from finelib.data.features import Corpus
from finelib.models import build, load_weights
from finelib.runs import one
from finelib.runs.checkpoint import Stopped
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.one import Advance, Stop
from finelib.runs.records import WEIGHTS, RunRecord, config_hash, digest, read_record, run_code, versions
from finelib.scale import processes, seeds_together
from finelib.scale.execute import execute, jobs_that_fit
from finelib.training import Diverged, resolve_device

SECONDS_BETWEEN_LINES = 30  # of the bar, where it is not on a terminal


def load_corpus(config: DataConfig) -> Corpus:
    """The corpus of a DataConfig; the two used last are kept while the files behind them are the same."""
    return _load_corpus(config, _stamp(config))


def _stamp(config: DataConfig) -> tuple[str, ...]:
    return own.stamp(**dataclasses.asdict(config))


@lru_cache(maxsize=2)
def _load_corpus(config: DataConfig, _stamp: tuple[str, ...]) -> Corpus:
    options = dataclasses.asdict(config)
    return own.load(options.pop("corpus"), **options)


def run(
    specs: list[RunSpec], out: Path, jobs: int | None = None, progress: bool = True, ray: str | None = None
) -> list[RunRecord]:
    """Records of all specs, in order; what has no record yet is trained first.

    An interruption ends training between two steps; the same call then goes on from there.

    Args:
        out: records are kept in ``out/runs``.
        jobs: processes; default one per CPU and thread of a run, 1 on a GPU.
        progress: show a bar with the time left for all runs together.
        ray: train on the Ray cluster of that address (``cluster.run``), which then bounds the jobs, not in processes.

    Raises:
        training.Diverged: after all runs, if one diverged: no result is made of the others alone.
        ValueError: a record is damaged.
        OSError: a run cannot be written.
    """
    folders, planned = [run_folder(spec, out) for spec in specs], [corpus_key(spec.data)[0] for spec in specs]
    missing = {folder: spec for folder, spec in zip(folders, specs, strict=True) if not one.finished(folder)}
    if missing:
        total = sum(spec.train.epochs * corpus_key(spec.data)[1] for spec in missing.values())
        label = ", ".join(sorted({spec.data.corpus for spec in missing.values()}))
        about = {"total": total, "desc": f"training {len(missing)} runs ({label})", "unit": "utt", "unit_scale": True}
        every = {"mininterval": 0.1 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES}
        every |= {"maxinterval": SECONDS_BETWEEN_LINES}
        with tqdm(**about, **every, disable=not progress, dynamic_ncols=True) as bar:
            _train(missing, jobs, bar.update, ray)
    records = [read_record(folder) for folder in folders]
    for record, data_hash in zip(records, planned, strict=True):
        if record.data_hash != data_hash:
            found = f"found data {record.data_hash[:12]}, expected {data_hash[:12]}"
            advice = "its files changed while it was trained; delete this folder to train it again"
            raise ValueError(f"{record.folder}: {found}: {advice}")
    if failed := [record for record in records if record.failed]:
        first, share = failed[0], f"{len(failed)} of {len(records)} runs failed"
        raise Diverged(
            f"{first.name}, seed {first.seed}: {first.failed}; {share}, so no mean is taken of them; "
            f"the others are kept (delete {first.folder} to train it again)"
        )
    return records


def is_trained(spec: RunSpec, out: Path) -> bool:
    """Whether a run has its record, so that ``run`` reads it."""
    return one.finished(run_folder(spec, out))


def run_groups(groups: dict[str, list[RunSpec]], out: Path, jobs: int | None = None, **options) -> dict[str, list]:
    """``run`` for the specs of all groups at once: name -> its records, in the order of its specs."""
    records = iter(run([spec for specs in groups.values() for spec in specs], out, jobs, **options))
    return {name: [next(records) for _ in specs] for name, specs in groups.items()}


def _train(missing: dict[Path, RunSpec], jobs: int | None, advance: Advance, ray: str | None) -> None:
    specs = list(missing.values())
    cpus = [spec.train.threads for spec in specs]
    tasks = [(spec, folder) for folder, spec in missing.items()]
    try:
        with processes.signals_noted() as stop, suppress(Stopped):
            if ray:
                for folder in missing:
                    folder.mkdir(parents=True, exist_ok=True)
                execute(train_where_shared, tasks, cpus, jobs, ray, advance, stop)
            elif on_gpu(specs[0]) and (jobs or 1) == 1:
                for group in _groups_of_seeds(missing):
                    _train_group(group, advance, stop)
            else:
                jobs = min(jobs or jobs_that_fit(cpus[0]), len(tasks))
                execute(train_and_report, tasks, cpus, jobs, None, advance, stop)
    except processes.Killed as error:
        spec, advice = error.task[0], "finished runs are kept, start again with fewer --jobs"
        raise RuntimeError(f"{spec.name}, seed {spec.seed}: {error}; {advice}") from error


def train_and_report(spec: RunSpec, folder: Path, advance: Advance, stop: Stop) -> None:
    """Train one run; advance by the utterances of its updates, and at the end by what an early stop saves."""
    total, done = spec.train.epochs * corpus_key(spec.data)[1], 0

    def on_progress(utterances: int) -> None:
        nonlocal done
        advance(utterances - done)
        done = utterances

    one.train_one(spec, load_corpus(spec.data), folder, on_progress, stop)
    advance(total - done)


def train_where_shared(spec: RunSpec, folder: Path, advance: Advance, stop: Stop) -> None:
    """On a machine of a cluster; the folder was made by the one that asks."""
    if not folder.is_dir():
        raise OSError(f"{folder}: not found on {platform.node()}; with --ray, --out must lie where all machines see it")
    train_and_report(spec, folder, advance, stop)


def on_gpu(spec: RunSpec) -> bool:
    """Whether a run's device is a GPU."""
    return resolve_device(spec.train.device).type == "cuda"


def _groups_of_seeds(missing: dict[Path, RunSpec]) -> list[dict[Path, RunSpec]]:
    """Runs that differ in the seed alone and have not begun, which a GPU may train together."""
    groups: dict[object, dict[Path, RunSpec]] = {}
    for folder, spec in missing.items():
        key = folder if one.begun(folder) else dataclasses.replace(spec, seed=0)
        groups.setdefault(key, {})[folder] = spec
    return list(groups.values())


def _train_group(group: dict[Path, RunSpec], advance: Advance, stop: Stop) -> None:
    """Train a group together where a few updates of both ways say that it is faster, else one run after the other."""
    specs = list(group.values())
    corpus, seeds = load_corpus(specs[0].data), [spec.seed for spec in specs]
    if len(specs) > 1 and seeds_together.pays(one.new_models(specs, corpus), corpus, specs[0].train, seeds):
        one.train_group(group, corpus, advance, stop)
    else:
        for folder, spec in group.items():
            train_and_report(spec, folder, advance, stop)


def corpus_key(config: DataConfig) -> tuple[str, int]:
    """Data hash and training utterances of a DataConfig, kept when the corpus itself is no longer."""
    return _corpus_key(config, _stamp(config))


@cache
def _corpus_key(config: DataConfig, stamp: tuple[str, ...]) -> tuple[str, int]:
    def look() -> dict:
        corpus = _load_corpus(config, stamp)
        return {"sha256": corpus.sha256, "train": len(corpus.splits["train"])}

    found = None
    if config.source == "planted":  # seconds to generate; other sources are opened in no time
        told = {"config": dataclasses.asdict(config), "versions": versions()}
        key = digest(told | {"code": code_hash("finelib.data.sources", "finelib.data.planted")})
        with suppress(OSError):  # no cache can be written
            found = kept(store.cache_folder() / "planted" / f"{key}.json", key, look)
    found = found or look()
    return found["sha256"], found["train"]


def run_folder(spec: RunSpec, out: Path) -> Path:
    """out/runs/CORPUS-NAME-sSEED-HASH; the hash covers configuration, data, seed and training code."""
    key = {"config": config_hash(spec), "data": corpus_key(spec.data)[0], "seed": spec.seed, "code": run_code(spec)}
    name = "".join(c if c.isalnum() else "_" for c in spec.name)
    return Path(out) / "runs" / f"{spec.data.corpus}-{name}-s{spec.seed}-{digest(key)[:12]}"


def load_model(record: RunRecord, spec: RunSpec) -> nn.Module:
    """The trained model of a record, in evaluation mode on the CPU.

    Raises:
        ValueError: the weights are damaged, or of another model than the spec's.
    """
    model = build(spec.model_config, load_corpus(spec.data))
    load_weights(model, load_file(record.file(WEIGHTS)), record.folder / WEIGHTS)
    return model.eval()
