"""The rows of somebody's own corpus as train, valid and test: as it says, or drawn so that no recording is in two."""

import numpy as np

from finelib.data import checks, own_table, videos
from finelib.data.features import SPLITS
from finelib.data.safe_pickle import DataError

HELD = 0.3  # share of the recordings that valid and test get, half each
FEWEST = 3  # recordings that splits can be drawn from


def split_rows(fields: dict, where: str, seed: int, unusual: dict[str, str]) -> dict[str, dict]:
    """The fields of all utterances as split -> fields.

    Rows without a label (None) are left out. Splits are those of the field ``split`` or, where that is empty in every
    row, drawn with the seed, 70/15/15 of the recordings: the field ``file``, or what the ids say, or each row alone.

    Args:
        unusual: what was done is added, for the data card.

    Raises:
        DataError: fields of different lengths, a row without a split among others, or too few rows or recordings.
    """
    label = checks.field(fields, "regression_labels", where)
    count = len(label) if hasattr(label, "__len__") else 0
    fields = {name: value for name, value in fields.items() if value is not None}
    for name, value in fields.items():
        if not hasattr(value, "__len__") or len(value) != count or isinstance(value, (str, bytes)):
            found = f"{len(value)} rows" if hasattr(value, "__len__") else checks.kind_of(value)
            raise DataError(f"{where}, {name}: found {found}, expected {count} as there are labels")
    rows = np.array([row for row in range(count) if label[row] is not None], int)
    if len(rows) < count:
        unusual["labels"] = f"missing in {count - len(rows)} rows, which are left out: they can only be predicted"
    given = fields.pop("split", None)
    names = [""] * count if given is None else checks.strings(given, f"{where}, split", count)
    names = [own_table.SPLIT_OF.get(name.strip().lower(), name.strip()) for name in names]
    named = np.array([names[row] for row in rows], dtype=object)
    if any(named):
        for row in rows:
            if names[row] not in SPLITS:
                found = f"{names[row]!r}" if names[row] else "nothing"
                raise DataError(
                    f"{where}, split: found {found} in row {row}, expected train, valid or test in every row"
                )
    else:
        group, what = _groups(fields, rows)
        named = _drawn(group, where, seed)
        unusual["splits"] = f"drawn with seed {seed}: 70/15/15 of {len(set(group))} {what}"
    for s in SPLITS:
        if not (named == s).any():
            raise DataError(f"{where}: found no labelled row of {s}, expected some")
    fields.pop("file", None)
    return {s: {name: _taken(value, rows[named == s]) for name, value in fields.items()} for s in SPLITS}


def _groups(fields: dict, rows: np.ndarray) -> tuple[list[str], str]:
    """The recording of each row, and what it is called."""
    if "file" in fields:
        return [str(fields["file"][row]) for row in rows], "files"
    try:
        group = videos.of([str(fields["id"][row]) for row in rows])
    except (KeyError, ValueError):
        return [str(row) for row in rows], "utterances"
    return (list(group), "recordings") if len(set(group)) >= FEWEST else ([str(row) for row in rows], "utterances")


def _drawn(group: list[str], where: str, seed: int) -> np.ndarray:
    """(N,) the split of each row: no group is in two."""
    count = len(set(group))
    if count < FEWEST:
        raise DataError(
            f"{where}: found {count} files with a label and no splits, expected at least {FEWEST} to draw them"
        )
    index = np.arange(len(group))
    group, split = np.array(group), np.full(len(group), "train", dtype=object)
    held = max(2, round(HELD * count))
    from sklearn.model_selection import GroupShuffleSplit  # when used: every process that reads a file starts here

    _, rest = next(GroupShuffleSplit(1, test_size=held, random_state=seed).split(index, groups=group))
    _, test = next(GroupShuffleSplit(1, test_size=held // 2, random_state=seed).split(rest, groups=group[rest]))
    split[rest] = "valid"
    split[rest[test]] = "test"
    return split


def _taken(value: object, rows: np.ndarray) -> object:
    return value[rows] if isinstance(value, np.ndarray) else [value[row] for row in rows]


def prune(content: dict[str, dict], features: tuple[str, ...], unusual: dict[str, str]) -> None:
    """Leave out features that a split has no frame of, and those that train has none of."""
    for fields in content.values():
        for name in features:
            value = fields.get(name) if isinstance(fields, dict) else None
            if isinstance(value, list) and not any(np.size(row) for row in value):
                del fields[name]
    if not isinstance(content["train"], dict):
        return
    for name in features:
        there = [s for s in SPLITS if isinstance(content[s], dict) and content[s].get(name) is not None]
        if there and "train" not in there:
            unusual[name] = f"left out: only {' and '.join(there)} have it, not train"
            for s in there:
                del content[s][name]
