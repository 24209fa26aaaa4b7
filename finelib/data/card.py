"""The data card: what a corpus holds, in numbers that a reader of the results should see."""

import re
from itertools import combinations

import numpy as np

from finelib.data.corpora import CorpusInfo
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.real_frames import ZERO

COUNTED = {  # count in a modality's notes -> what it counts
    "nan": "NaN set to 0",
    "inf": "infinite values set to 0",
    "lengths_beyond": "lengths beyond the array cut to it",
    "columns_apart": "columns that lie elsewhere than in train",
    "clipped": "values far outside what is usual set to its edge",
}
OF_TEXT = {  # count in the notes on a split's text -> what it counts
    "empty": "texts that are empty",
    "re_encoded": "texts that were UTF-8 read as Latin-1, read again",
    "replaced_characters": "texts with a character that was lost before",
    "control_characters": "texts with control characters",
    "cut": "texts cut to what the text encoder reads",
    "unknown_tokens": "tokens that the text encoder does not know",
}
NAMES = {"T": "text", "A": "audio", "V": "video"}
CLIP = re.compile(r"(.+?)(?:\$_\$.*|\[\d+\]|_\d+)", re.DOTALL)  # VIDEO$_$CLIP, VIDEO[CLIP] or VIDEO_CLIP
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
        "duplicate_ids", "duplicate_texts" and "shared_videos" across splits; "videos", how many each split has;
        "notes".
    """
    videos = {s: _videos(split.ids) for s, split in splits.items()}
    return {
        "files": files or [],
        "splits": {
            s: {"utterances": len(split), "published_utterances": size, **_describe_split(info, split)}
            for (s, split), size in zip(splits.items(), info.sizes, strict=True)
        },
        "duplicate_ids": _shared({s: split.ids for s, split in splits.items()}),
        "duplicate_texts": _shared({s: split.text for s, split in splits.items()}),
        "shared_videos": _shared(videos),
        "videos": {s: len(set(named)) for s, named in videos.items()},
        "notes": notes or {},
    }


def changes(card: dict) -> list[str]:
    """What reading altered, dropped or found missing: one short sentence per kind, with counts and splits.

    Frames that are all zero are said where they are more than 5 % of those kept; the rest whenever it occurred.
    """
    notes, found = card["notes"], {}
    for m, name in NAMES.items():
        for s in SPLITS:
            known = notes.get(s, {}).get(m, {})
            kept = card["splits"][s]["modalities"].get(m, {}).get("frames", 0)
            for what, count in _noteworthy(known, kept).items():
                found.setdefault(what, {}).setdefault(name, []).append(f"{s} {count}".strip())
    of_frames = [
        f"{what}: " + "; ".join(f"{name} {', '.join(counts)}" for name, counts in by_name.items())
        for what, by_name in found.items()
    ]
    for m, name in NAMES.items():
        types = {s: notes.get(s, {}).get(m, {}).get("type") for s in SPLITS}
        if len(set(types.values()) - {None}) > 1:
            of_frames.append(f"{name} stored as " + ", ".join(f"{kind} in {s}" for s, kind in types.items() if kind))
    of_file = [f"{name} {what}" for name, what in notes.get("file", {}).items()] + _of_text(card)
    return of_file + _changed_fields({s: notes.get(s, {}).get("fields", {}) for s in SPLITS}) + of_frames


def said(card: dict) -> list[str]:
    """What must be known of data beside any result on them: what the files are if not published, what was altered."""
    return [*card.get("identity", {}).get("says", ()), *changes(card)]


def _of_text(card: dict) -> list[str]:
    """What was found in the texts, with the splits; not that a source has none."""
    found = []
    for kind, what in OF_TEXT.items():
        counts = {s: card["notes"].get(s, {}).get("text", {}).get(kind, 0) for s in SPLITS}
        whole = {s: card["splits"][s]["utterances"] for s in SPLITS}
        if any(counts.values()) and not (kind == "empty" and counts == whole):
            found.append(f"{what}: " + ", ".join(f"{s} {count:,}" for s, count in counts.items() if count))
    return found


def _noteworthy(known: dict, kept: int) -> dict[str, str]:
    """What was done to one modality of one split -> how often, from its notes and the frames that were kept."""
    said = {meaning: f"{known[kind]:,}" for kind, meaning in COUNTED.items() if known.get(kind)}
    dropped, zero = known.get("nonzero_frames_dropped", 0), known.get("zero_frames_kept", 0)
    if dropped:
        said["frames that are not zero dropped as padding"] = f"{dropped:,} of {kept - zero + dropped:,}"
    if zero > ZERO * kept:
        said["frames kept that are all zero"] = f"{zero:,} of {kept:,}"
    if known.get("padding") in ("front", "both ends"):
        said["zeros cut off in front"] = "" if known["padding"] == "front" else "and behind"
    if "stated_drops" in known:
        said["real frames found by looking (as stated, so many not zero would go, so many zeros stay)"] = (
            f"{known['stated_drops']:,} and {known['stated_zero']:,}"
        )
    return said | ({"all zero throughout": ""} if known.get("all_zero") else {})


def _changed_fields(fields: dict[str, dict[str, str]]) -> list[str]:
    """Each field and what was done to it, with the splits."""
    found: dict[str, list[str]] = {}
    for s, told in fields.items():
        for name, what in told.items():
            found.setdefault(f"{name} {what}", []).append(s)
    return [f"{what} ({', '.join(splits)})" for what, splits in found.items()]


def _videos(ids: list[str]) -> list[str]:
    """The videos of utterances called VIDEO$_$CLIP, VIDEO[CLIP] or VIDEO_CLIP; none if there is one name for all."""
    found = [match[1] for i in ids if (match := CLIP.fullmatch(i))]
    return found if len(set(found)) > 1 else []


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
