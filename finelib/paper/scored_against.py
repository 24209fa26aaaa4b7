"""What predictions are scored against: the test split of a source, or of measured rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finelib.data import own, public_sources
from finelib.data.corpora import ALL_CORPORA, CorpusInfo, nearest
from finelib.data.own_labels import NAME, Scale, from_json, title_of
from finelib.data.safe_pickle import DataError
from finelib.runs.groups import source_of
from finelib.runs.records import RunRecord


@dataclass(frozen=True)
class Target:
    """The test split that predictions are scored against.

    Attributes:
        kind: of data, as in ``Corpus.kind``.
        origin: where ids and labels come from, for the reader.
        ids, label: of its N utterances.
        elsewhere: ids of train and valid, where they are known.
        scale: of the labels of an own corpus.
    """

    info: CorpusInfo
    kind: str
    origin: str
    ids: list[str]
    label: np.ndarray
    elsewhere: frozenset[str] = frozenset()
    scale: Scale | None = None

    @property
    def data(self) -> str:
        """What the data are called."""
        return title_of(self.info, self.kind)

    @property
    def called(self) -> str:
        return f"{self.data}, {len(self.ids):,} test utterances ({self.origin})"

    @property
    def block(self) -> str:
        """Title of the rows that are measured on it."""
        return f"measured on {self.data}, {len(self.ids)} test utterances"

    def check_unit(self, predictions: np.ndarray, path: Path) -> None:
        """Whether predictions (P,) of an own corpus are on the scale that its labels are held on.

        Raises:
            DataError: they are on that of the labels as given.
        """
        if self.scale is None:
            return
        low, high, middle = self.info.label_low, self.info.label_high, float(np.median(predictions))
        if self.scale.low <= middle <= self.scale.high and not low <= middle <= high:
            expected = f"expected them from {low:g} to {high:g}, as finelib.load holds labels of"
            given = f"{self.scale.low:g} to {self.scale.high:g}"
            raise DataError(f"{path}: found predictions about {middle:.3g}, {expected} {given}")


def meant(corpus: str, source: str | None) -> tuple[str, str | None]:
    """Name and source of a corpus; of an own one "own" and its path.

    Raises:
        ValueError: there is no such corpus.
    """
    if corpus in ALL_CORPORA:
        return corpus, source
    path = own.own_path(corpus, source or "planted")
    if path is None:
        expected = f"expected one of {', '.join(ALL_CORPORA)} (--source: its files), or the path of an own corpus alone"
        raise ValueError(f"corpus {corpus}: found no own corpus there, {expected}{nearest(corpus, ALL_CORPORA)}")
    return NAME, str(path.resolve())  # as records name it


def of_records(groups: list[list[RunRecord]]) -> Target:
    """The test split of measured rows.

    Raises:
        ValueError: it is not one and the same.
    """
    first = groups[0][0]
    held = first.predictions()
    origin = f"source {_name(source_of(first))}, as run {first.id} had it"
    target = Target(first.info, first.data, origin, held["test_ids"].tolist(), held["test_label"])
    _check_same(groups, target, f"in {first.folder}")
    return target


def of_source(corpus: str, source: str, groups: list[list[RunRecord]]) -> Target:
    """The test split of a source, of a public one without its text encoded; it is that of measured rows too.

    Raises:
        ValueError: DataError for a source that cannot be read; the rows are of other data.
        OSError: a file cannot be read.
        ImportError: a package that an own corpus needs is missing.
    """
    if corpus != NAME and source in public_sources.names(ALL_CORPORA[corpus]):
        loaded = public_sources.load(ALL_CORPORA[corpus], source)
    else:
        loaded = own.load(corpus, source)
    test, others = loaded.splits["test"], (loaded.splits[s].ids for s in ("train", "valid"))
    elsewhere = frozenset(i for each in others for i in each)
    scale = from_json(loaded.card["own"])[1] if corpus == NAME else None
    target = Target(loaded.info, loaded.kind, f"source {_name(source)}", test.ids, test.label, elsewhere, scale)
    _check_same(groups, target, f"{_name(source)} has now")
    return target


def _check_same(groups: list[list[RunRecord]], target: Target, where: str) -> None:
    for run in [run for group in groups for run in group]:
        held = run.predictions()
        if held["test_ids"].tolist() != target.ids or not np.array_equal(held["test_label"], target.label):
            found = f"found other test utterances or labels than {where}"
            raise ValueError(f"{run.folder}: {found}, expected the same data for all rows")


def _name(source: str) -> str:
    """A source without the folders that it lies in: tables are shown to others."""
    return Path(source).name
