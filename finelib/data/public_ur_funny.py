"""Public UR-FUNNY, version 2, text alone: punchlines and the sentences before them.

The train fold comes in three disjoint files. Two rows of test that the source lacks are taken from MMLA, without
context. Every label is compared with an independent copy: version 1 gives the same numbers to other utterances.
"""

import json
import re
from pathlib import Path

from finelib.data import checks
from finelib.data.corpora import CorpusInfo
from finelib.data.download import PublicSource, github
from finelib.data.features import Split
from finelib.data.safe_pickle import DataError, load_pickle

FOLDS = {
    "train": [f"urfunny_{part}_dataset_train_cogvlm2_qwen2_for_fuser.json" for part in ("U", "R", "AS")],
    "valid": ["urfunny_dataset_val.json"],
    "test": ["urfunny_dataset_test.json"],
}
MORE, LABELS = "test.jsonl", "humor_label_sdk.pkl"
LACKING = ("1193", "14356")  # of the test fold
_SOUP = ("lwaekfjlk/mmodel-soup", "e6a2f93cad139b510032e506745596d249e66a84")
_TRAIN = ("51fc95ab68dd0088d68085b0751eed037ba28b1b", "c8dd47480d43e77ffec34065a7a9e416c8ef7e60")
_TRAIN += ("098d2d1acc30ca30b43a53b499a699e2dab88cc5",)
_OTHERS = {
    "urfunny_dataset_val.json": "b1c0abe81a700e46d4fdda41d2cca4446c4f2890",
    "urfunny_dataset_test.json": "31aa36011e715e33516c9417d8caba664409de31",
}
FILES = github("ur_funny", *_SOUP, "urfunny_data/data_split_output/", dict(zip(FOLDS["train"], _TRAIN, strict=True)))
FILES |= github("ur_funny", *_SOUP, "urfunny_data/data_raw/", _OTHERS)
FILES |= github(
    "ur_funny",
    "thuiar/MMLA",
    "48efd632030cb3208a9b946874df0af2c847a622",
    "src/Frameworks/Swift/video_prompt_data/UR-FUNNY/",
    {MORE: "ae014276bbd65a4a4218923457f63fd62fbe181d"},
)
FILES |= github(
    "ur_funny",
    "akon1te/UrFunny-humor-detection",
    "bdc12a0a46e233f3d77ea790bafa585d8e17a077",
    "data/",
    {LABELS: "9baff1f2ecd598d59c4aa70ed3bc92d5987af5b4"},
)
_ID = re.compile(r"UR-FUNNY_(\d+)\.")
_SAID = re.compile(r"the speaker says: (.+) Based on the text, video, and audio content", re.DOTALL)
_ANSWERS = {"speaking_style: humorous": 1, "speaking_style: serious": 0}


def read(path: dict[str, Path], info: CorpusInfo, context: bool = False) -> tuple[dict[str, Split], dict]:
    """The three folds.

    Args:
        context: the sentences before the punchline too; one line of the text is one sentence, the punchline the last.

    Raises:
        DataError: another layout, an id twice, or labels that are not version 2's.
    """
    parts = {s: [_entries(path[name]) for name in names] for s, names in FOLDS.items()}
    rows = _more(path[MORE])
    more = {i: rows[i] for i in LACKING if i in rows and i not in parts["test"][0]}
    parts["test"].append(more)
    checks.unique([i for some in parts.values() for part in some for i in part], str(path[MORE].parent))
    found = {s: dict(pair for part in some for pair in part.items()) for s, some in parts.items()}
    _compare({i: e["label"] for entries in found.values() for i, e in entries.items()}, path[LABELS])
    splits = {}
    for s, entries in found.items():
        label = checks.labels([entry["label"] for entry in entries.values()], f"{path[FOLDS[s][0]]}, label", info)
        text = [_text(entry, context, f"{path[FOLDS[s][0]]}, {i}") for i, entry in entries.items()]
        splits[s] = Split({}, label, list(entries), text)
    known = [f"{len(more)} utterances of test are from a second source and have no context"]
    return splits, {"version": 2, "known": known}


def _entries(path: Path) -> dict[str, dict]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: found no JSON ({error}), expected a dictionary by utterance id") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: found {checks.kind_of(content)}, expected a dictionary by utterance id")
    for i, entry in content.items():
        if checks.field(entry, "label", f"{path}, {i}") not in (0, 1):
            raise DataError(f"{path}, {i}, label: found {entry['label']!r}, expected 0 or 1")
    return content


def _more(path: Path) -> dict[str, dict]:
    """The rows of MMLA: id, punchline and label are cut out of a file name, a prompt and an answer."""
    found = {}
    for row, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        try:
            entry = json.loads(line)
            number, said = _ID.search(entry["videos"][0])[1], _SAID.search(entry["query"])[1]
            found[number] = {"punchline_sentence": said, "context_sentences": [], "label": _ANSWERS[entry["response"]]}
        except (ValueError, TypeError, LookupError):
            expected = "a video UR-FUNNY_ID, a prompt that quotes the punchline, and an answer"
            raise DataError(f"{path}, row {row}: found another form, expected {expected}") from None
    return found


def _compare(label: dict[str, int], path: Path) -> None:
    """Refuse labels that an independent copy of version 2 contradicts."""
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: found {checks.kind_of(content)}, expected a dictionary by utterance id")
    independent = {str(i): value for i, value in content.items()}
    wrong = sum(independent.get(i) != value for i, value in label.items())
    if wrong:
        mixed = "versions 1 and 2 of UR-FUNNY number their utterances differently and cannot be mixed"
        raise DataError(f"{path}: found {wrong} of {len(label)} labels missing or different, expected none; {mixed}")


def _text(entry: dict, context: bool, where: str) -> str:
    before = checks.field(entry, "context_sentences", where) if context else []
    sentences = [*before, checks.field(entry, "punchline_sentence", where)]
    return "\n".join(" ".join(t.split()) for t in checks.strings(sentences, where, len(sentences)))


SOURCES = {"ur_funny": {"public": PublicSource(FILES, read)}}
