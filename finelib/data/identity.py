"""What files are, decided by what is in them: a corpus's published files, another corpus's, or somebody's own."""

from collections.abc import Iterable

import numpy as np

from finelib.data.corpora import CORPORA, CorpusInfo
from finelib.data.features import MODALITIES, Split
from finelib.data.safe_pickle import DataError

ENOUGH = 30  # utterances from which the range of one split's labels is judged by itself
TOLERANCE = 1e-3  # of labels that are stored as float32


def identify(info: CorpusInfo, splits: dict[str, Split], sha256: Iterable[str], where: str) -> tuple[str, list[str]]:
    """Whether files are the licensed ones of a corpus.

    They are if a checksum is a published one, or if sizes, widths and the ends of the label range are the corpus's.

    Args:
        sha256: of every file that was read.
        where: names the files in a refusal.

    Returns:
        "files", the licensed corpus, or "own"; and what a reader of results must know: why they are "own", and labels
        that do not use the corpus's range.

    Raises:
        DataError: they are recognisably another corpus's.
    """
    refuse_other_published(info, sha256, where)
    if published(sha256) == info.name or _has_form(info, splits):
        return "files", []
    for other in CORPORA.values():
        if other.name != info.name and _has_form(other, splits):
            expected = f"expected those of {info.title}; load it as {other.name!r}"
            raise DataError(f"{where}: found sizes, widths and label range of {other.title}, {expected}")
    found, expected = _form(splits), _expected(info)
    return "own", [f"your file, not the published {info.title} ({expected}): {found}", *unusual_ranges(info, splits)]


def refuse_other_published(info: CorpusInfo, sha256: Iterable[str], where: object) -> None:
    """Raises: DataError: a file is, bit for bit, a published one of another corpus."""
    other = published(sha256)
    if other not in (None, info.name):
        found = f"found the published file of {CORPORA[other].title} (by its checksum)"
        raise DataError(f"{where}: {found}, expected one of {info.title}; load it as {other!r}")


def published(sha256: Iterable[str]) -> str | None:
    """The corpus that one of the checksums was published for."""
    digests = set(sha256)
    return next((info.name for info in CORPORA.values() if digests & set(filter(None, info.files.values()))), None)


def unusual_ranges(info: CorpusInfo, splits: dict[str, Split]) -> list[str]:
    """A sentence on labels that use less than half of the corpus's range, or one side of its middle alone.

    All splits together are looked at, and if they are as usual, each split that is large enough.
    """
    every = np.concatenate([split.label for split in splits.values()])
    if not _usual(info, every):
        return [_range_sentence(info, "labels", every)]
    odd = {s: split.label for s, split in splits.items() if len(split) >= ENOUGH and not _usual(info, split.label)}
    return [_range_sentence(info, f"labels of {s}", label) for s, label in odd.items()]


def _usual(info: CorpusInfo, label: np.ndarray) -> bool:
    low, high, middle = label.min(), label.max(), (info.label_low + info.label_high) / 2
    return bool(high - low >= (info.label_high - info.label_low) / 2 and low < middle < high)


def _range_sentence(info: CorpusInfo, what: str, label: np.ndarray) -> str:
    own = f"{info.title}'s run from {info.label_low:g} to {info.label_high:g}"
    return f"{what} span [{label.min():.3g}, {label.max():.3g}], {own}"


def _has_form(info: CorpusInfo, splits: dict[str, Split]) -> bool:
    """Whether sizes, widths and the ends of the label range are those of one of the corpus's published versions."""
    form = tuple(map(len, splits.values())), tuple(_widths(splits).get(m, 0) for m in MODALITIES)
    label = np.concatenate([split.label for split in splits.values()])
    ends = np.array([label.min() - info.label_low, label.max() - info.label_high])
    return form in info.forms and bool((abs(ends) < TOLERANCE).all())


def _widths(splits: dict[str, Split]) -> dict[str, int]:
    return {m: frames.width for m, frames in splits["train"].frames.items()}


def _form(splits: dict[str, Split]) -> str:
    low, high = (f"{end([end(split.label) for split in splits.values()]):.3g}" for end in (min, max))
    return _text(map(len, splits.values()), _widths(splits), low, high)


def _expected(info: CorpusInfo) -> str:
    widths = dict(zip(MODALITIES, info.widths, strict=True))
    return _text(info.sizes, widths, f"{info.label_low:g}", f"{info.label_high:g}")


def _text(sizes: Iterable[int], widths: dict[str, int], low: str, high: str) -> str:
    listed = ", ".join(f"{m} {width}" for m, width in widths.items())
    return f"{' / '.join(map(str, sizes))} utterances, widths {listed}, labels {low} to {high}"
