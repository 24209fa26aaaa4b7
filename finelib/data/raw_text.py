"""Text that was damaged before it came here: mended where there is one reading, counted where there is none."""

from dataclasses import replace

from finelib.data.features import Split

LOST = "\ufffd"  # what decoders put where they could not read


def mend(splits: dict[str, Split], notes: dict) -> dict[str, Split]:
    """UTF-8 that was read as Latin-1 or Windows-1252 (``cafÃ©``) is read again, halves of characters are joined.

    Counts go to ``notes[split]["text"]``, each in utterances: "empty", "re_encoded", "replaced_characters" (a
    character is lost, U+FFFD), "control_characters" (NUL and the like, which encoders leave out).
    """
    mended = {}
    for s, split in splits.items():
        text = [_mended(t) for t in split.text]
        notes.setdefault(s, {})["text"] = {
            "empty": sum(not t.strip() for t in text),
            "re_encoded": sum(a != b and LOST not in b for a, b in zip(split.text, text, strict=True)),
            "replaced_characters": sum(LOST in t for t in text),
            "control_characters": sum(any(ord(c) < 32 and not c.isspace() for c in t) for t in text),
        }
        mended[s] = replace(split, text=text)
    return mended


def _mended(text: str) -> str:
    if text.isascii():
        return text
    if any("\ud800" <= c <= "\udfff" for c in text):
        return _joined(text)
    for wrong in ("latin-1", "cp1252"):
        try:
            return text.encode(wrong).decode("utf-8")  # by chance, other text is almost never UTF-8
        except UnicodeError:
            continue
    return text


def _joined(text: str) -> str:
    """Surrogates: bytes that were kept as they were, or halves of a character; what is neither is lost."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
