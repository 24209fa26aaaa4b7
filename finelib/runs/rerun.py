"""A run once more, from its record alone, and whether the same comes out: ``python -m finelib rerun RECORD``."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from finelib.baselines import SYSTEMS
from finelib.baselines.subset_codes import SubsetCodesConfig
from finelib.baselines.variants import VariantConfig
from finelib.config import DataConfig, EncoderConfig, FineConfig, RunSpec, TrainConfig
from finelib.runs import experiment
from finelib.runs.groups import run_folder
from finelib.runs.records import RunRecord, config_hash, git_revision, read_record, run_code, versions
from finelib.scale.streamed import StreamedConfig
from finelib.training import Diverged

MODELS = (FineConfig, VariantConfig, SubsetCodesConfig, EncoderConfig, *(s.Config for s in SYSTEMS.values()))
TRAINS = (TrainConfig, StreamedConfig)


def spec_of(record: RunRecord) -> RunSpec:
    """The RunSpec that a record was made of.

    A record holds settings, not the classes that they are of: those are found by the hash that covers both.

    Raises:
        ValueError: no settings of this version give the record's hash.
    """
    data = _made(DataConfig, record.config["data"])
    for model in MODELS:
        for train in TRAINS:
            parts = _made(model, record.config["model"]), _made(train, record.config["train"])
            if data and all(parts):
                spec = RunSpec(record.name, data, *parts, record.seed)
                if config_hash(spec) == record.config_hash:
                    return spec
    found = f"found settings of finelib at revision {record.git_revision[:12]}"
    raise ValueError(f"{record.folder}: {found}, expected those of this version; check out that revision to repeat it")


def _made(kind: type, settings: dict[str, Any]) -> Any:
    """A dataclass of exactly these settings, None where it has others."""
    if {part.name for part in dataclasses.fields(kind)} != settings.keys():
        return None
    return kind(**{name: _frozen(value) for name, value in settings.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def around(record: RunRecord, spec: RunSpec) -> Iterator[str]:
    """What lies around a run and is not as it was: its code, versions of packages; one sentence each."""
    if run_code(spec) != record.code_hash:
        yield f"code: found that of revision {git_revision()[:12]}, recorded with {record.git_revision[:12]}"
    for name, number in versions().items():
        if record.versions.get(name) != number:
            yield f"versions: found {name} {number}, recorded with {record.versions.get(name, 'none')}"


def numbers(before: RunRecord, now: RunRecord) -> Iterator[str]:
    """Where the results of two runs differ; one sentence each."""
    if before.failed or now.failed:
        if before.failed != now.failed:
            yield f"outcome: found {now.failed or 'a finished run'}, recorded {before.failed or 'a finished run'}"
        return
    was, found = before.timing.get("device"), now.timing.get("device")
    if was != found:
        yield f"device: found {found}, recorded on {was}"
    if together := before.timing.get("together"):
        yield f"how: trained alone, recorded together with seeds {', '.join(map(str, together))}"
    old, new = before.predictions(), now.predictions()
    for name in ("valid", "test"):
        if not np.array_equal(old[name], new[name]):
            apart, scores = np.abs(old[name].astype(float) - new[name]), [getattr(run, name) for run in (now, before)]
            told = ", ".join(f"{m} {scores[0][m]:.4f} for {scores[1][m]:.4f}" for m in ("corr", "mae"))
            count = f"{(apart > 0).sum():,} of {len(apart):,}"
            yield f"{name}: {count} predictions differ, by at most {apart.max():.3g}; {told}"
    if before.selected_epoch != now.selected_epoch:
        yield f"epoch: found {now.selected_epoch + 1} selected, recorded {before.selected_epoch + 1}"


def same_results(before: RunRecord, now: RunRecord) -> bool:
    """Whether all predictions of two runs are equal, bit for bit, or both diverged in one way."""
    if before.failed or now.failed:
        return before.failed == now.failed
    old, new = before.predictions(), now.predictions()
    return all(np.array_equal(old[name], new[name]) for name in ("valid", "test"))


def rerun(record: RunRecord) -> tuple[bool, list[str]]:
    """Train a record's run again, in a folder that is removed afterwards; the record stays as it is.

    Returns:
        Whether the results are the same, bit for bit, and one sentence for everything that differs.

    Raises:
        ValueError: the settings are another version's, or the data cannot be read; a record is damaged.
        OSError: nothing can be written.
    """
    spec = spec_of(record)
    said = list(around(record, spec))
    data = experiment.corpus_key(spec.data)[0]
    if data != record.data_hash:  # what is trained on others is another run
        return False, [*said, f"data: found {data[:12]}, recorded {record.data_hash[:12]}; not trained again"]
    with TemporaryDirectory() as folder:
        try:
            (now,) = experiment.run([spec], Path(folder), jobs=1)
        except Diverged:
            now = read_record(experiment.run_folder(spec, Path(folder)))
        return same_results(record, now), [*said, *numbers(record, now)]


def main(arguments: list[str]) -> int:
    """Exit status: 0; 1 if the results differ; 2 for wrong arguments or a run that cannot be repeated."""
    parser = argparse.ArgumentParser("python -m finelib rerun", description=__doc__.split(":")[0], allow_abbrev=False)
    parser.add_argument("record", metavar="RECORD", help="record.json of a run, or its folder: DIR/runs/...")
    given = parser.parse_args(arguments)
    try:
        folder = run_folder(given.record)
        if folder is None:
            raise ValueError(f"{given.record}: found no record, expected a run's record.json or its folder")
        record = read_record(folder)
        print(f"rerun: {record.name}, seed {record.seed}, on {record.corpus} ({record.data}): {record.id}", flush=True)
        equal, said = rerun(record)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"rerun: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nrerun: interrupted; nothing was changed", file=sys.stderr)
        return 130
    for sentence in said:
        print(f"  {sentence}")
    print("rerun: equal, every prediction bit for bit" if equal else "rerun: not equal")
    return 0 if equal else 1
