"""The runs that make a row, found again among records: by the name of their system, or by the folder of one of them."""

from pathlib import Path

from finelib.data.corpora import nearest
from finelib.runs.records import RECORD, RunRecord, all_records, read_record


def measured(name: str, corpus: str, source: str | None, runs: Path, ids: set[str]) -> list[RunRecord]:
    """The runs of a row, one for each seed: a system's name among those in the folder ``runs``, or one run's folder.

    Where several rows have the name, it is the one whose test split has most in common with ``ids``.

    Args:
        source: of the data; None: any.

    Raises:
        ValueError: there is no such row or more than one, or a run of it diverged.
    """
    folder = run_folder(name)
    if folder is not None:
        own = read_record(folder)
        if own.corpus != corpus:
            raise ValueError(f"{name}: found a run on {own.corpus}, expected one on {corpus}")
        found = [group for group in _groups(folder.resolve().parent, corpus) if own.id in [run.id for run in group]]
    else:
        found = _called(name, corpus, source, runs, ids)
    if len(found) != 1:
        among = f"rows of that name on {corpus}{f' from {source}' if source else ''} in {runs}"
        listed = "".join(f"; {source_of(group[0])}: {group[0].folder}" for group in found)
        expected = "expected one, told by --source or by a run's folder in place of the name"
        raise ValueError(f"{name}: found {len(found)} {among}, {expected}{listed}")
    if failed := [run for run in found[0] if run.failed]:
        said = f"found a run that diverged ({failed[0].failed})"
        raise ValueError(f"{failed[0].folder}: {said}, expected one with predictions")
    return found[0]


def run_folder(name: str) -> Path | None:
    """The folder of the run that a path names, by the folder itself or by its record; None if it names none."""
    path = Path(name)
    folder = path.parent if path.name == RECORD else path
    return folder if (folder / RECORD).is_file() else None


def source_of(run: RunRecord) -> str:
    """Where its data came from."""
    return run.config["data"]["source"]


def grouped(records: list[RunRecord]) -> list[list[RunRecord]]:
    """Records in groups that differ in the seed alone, each in the order of its seeds."""
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in records:
        groups.setdefault((run.name, run.config_hash, run.data_hash, run.code_hash), []).append(run)
    return [sorted(group, key=lambda run: run.seed) for group in groups.values()]


def _called(name: str, corpus: str, source: str | None, runs: Path, ids: set[str]) -> list[list[RunRecord]]:
    groups = _groups(runs, corpus)
    known = list(dict.fromkeys(group[0].name for group in groups))
    if name not in known:
        expected = f"expected a csv file or one of {', '.join(known)}" if known else "expected it trained there"
        raise ValueError(f"{name}: found no run of it on {corpus} in {runs}, {expected}{nearest(name, known)}")
    found = [group for group in groups if group[0].name == name and source in (None, source_of(group[0]))]
    if len(found) > 1 and ids:
        likeness = [_likeness(group[0], ids) for group in found]
        found = [group for group, value in zip(found, likeness, strict=True) if value == max(likeness)]
    return found


def _groups(runs: Path, corpus: str) -> list[list[RunRecord]]:
    return grouped(all_records(runs, f"{corpus}-*"))


def _likeness(run: RunRecord, ids: set[str]) -> float:
    """How much a run's test split and some ids have in common, 0 to 1."""
    own = set() if run.failed else set(run.predictions()["test_ids"].tolist())
    return len(own & ids) / len(own | ids)
