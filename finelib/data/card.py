"""The data card: what a corpus holds, in numbers that a reader of the results should see."""

from itertools import combinations

import numpy as np

from finelib.data.corpora import CorpusInfo
from finelib.data.features import Frames, Split

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
HISTOGRAM_BINS = 12


def describe(
    info: CorpusInfo, splits: dict[str, Split], files: list[dict[str, str]] | None = None, notes: dict | None = None
) -> dict:
    """A card of plain numbers and texts, ready for JSON, of what was read.

    Args:
        files: what it was read from: "name", "sha256", and "compared" with what was published; none if planted.
        notes: what the reader counted on the way, kept as it is: NaN, infinities, padding.

    Returns:
        "files"; "splits": per split utterances found and published, per modality width, frames, quantiles of the
        lengths (frames) and empty utterances, label histogram, utterances per class (``info.class_edges``);
        "duplicate_ids" and "duplicate_texts" across splits; "notes".
    """
    return {
        "files": files or [],
        "splits": {
            s: {"utterances": len(split), "published_utterances": size, **_describe_split(info, split)}
            for (s, split), size in zip(splits.items(), info.sizes, strict=True)
        },
        "duplicate_ids": _shared({s: split.ids for s, split in splits.items()}),
        "duplicate_texts": _shared({s: split.text for s, split in splits.items()}),
        "notes": notes or {},
    }


def changes(card: dict) -> list[str]:
    """One sentence for each kind of alteration that reading made."""
    return []


def said(card: dict) -> list[str]:
    """What must be known of data beside any result on them: what the files are if not published, what was altered."""
    return [*card.get("identity", {}).get("says", ()), *changes(card)]


def compared(info: CorpusInfo, sha256: str) -> str:
    """How the hash of a licensed file compares with those published for the corpus."""
    published = [digest for digest in info.files.values() if digest]
    if not published:
        return "no checksum was published"
    return "published" if sha256 in published else "differs from the published file"


def _describe_split(info: CorpusInfo, split: Split) -> dict:
    counts, edges = np.histogram(split.label, bins=HISTOGRAM_BINS, range=(info.label_low, info.label_high))
    classes = info.class_of(split.label)
    return {
        "modalities": {m: _describe_frames(frames) for m, frames in split.frames.items()},
        "label_histogram": {"edges": edges.round(6).tolist(), "counts": counts.tolist()},
        "class_counts": np.bincount(classes, minlength=len(info.class_edges) + 1).tolist(),
    }


def _describe_frames(frames: Frames) -> dict:
    quantiles = np.quantile(frames.length, QUANTILES).tolist()
    return {
        "width": frames.width,
        "frames": len(frames.values),
        "length_quantiles": {f"{q:g}": value for q, value in zip(QUANTILES, quantiles, strict=True)},
        "empty": int((frames.length == 0).sum()),
    }


def _shared(items: dict[str, list[str]]) -> dict[str, int]:
    """How many distinct non-empty items two splits have in common."""
    return {f"{a}/{b}": len((set(items[a]) & set(items[b])) - {""}) for a, b in combinations(items, 2)}
