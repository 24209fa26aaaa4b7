"""No sentence of a real corpus stands in what is published from here, where the corpora are at hand to look."""

import html
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from finelib.data import public_sources
from finelib.data.corpora import ALL_CORPORA

ROOT = Path(__file__).resolve().parents[2]
WORDS = 5  # of a sentence, or characters of a Chinese one
SOURCES = [("mosi", "public"), ("mosei", "public"), ("ur_funny", "public"), ("ch_sims", "public")]
SOURCES += [("ch_sims", "public-chinese"), ("ch_sims_v2", "public"), ("ch_sims_v2", "public-chinese")]
PLACES = ("figures", "notebooks", "docs", "data", "benchmarks", "finelib", "tests")
KINDS = {".md", ".json", ".csv", ".html", ".tex", ".ipynb", ".py", ".txt", ".svg", ".cff"}
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_]+(?:'[^\W_]+)*")


def words(text: str) -> list[str]:
    """Lower-cased words; a Chinese character is one."""
    return _WORD.findall(html.unescape(text).lower().replace("’", "'"))


def strings(value: object) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *strings(inner))]
    if isinstance(value, list):
        joined = ["".join(value)] if all(isinstance(item, str) for item in value) else []  # lines of a cell
        return joined + [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


def by_start(sentences: Iterable[list[str]]) -> dict[tuple, list[list[str]]]:
    """First words -> the sentences that begin with them."""
    found = defaultdict(list)
    for sentence in sentences:
        found[tuple(sentence[:WORDS])].append(sentence)
    return found


def found_in(texts: list[str], sentences: dict[tuple, list[list[str]]]) -> list[list[str]]:
    """Of the sentences, by their start, those that stand in one of the texts, word by word."""
    told = [words(text) for text in texts]
    starts = {tuple(said[i : i + WORDS]) for said in told for i in range(len(said) - WORDS + 1)}
    likely = [sentence for start in starts & sentences.keys() for sentence in sentences[start]]
    joined = [f" {' '.join(said)} " for said in told]
    return [sentence for sentence in likely if any(f" {' '.join(sentence)} " in text for text in joined)]


def published() -> dict[Path, list[str]]:
    """Every text file of the repository -> its texts."""
    paths = [path for place in PLACES for path in (ROOT / place).rglob("*")] + list(ROOT.iterdir())
    files = [path for path in paths if path.suffix in KINDS and path.is_file()]
    content = {path: path.read_text(encoding="utf-8", errors="replace") for path in files}
    return {p: strings(json.loads(t)) if p.suffix in (".json", ".ipynb") else [t] for p, t in content.items()}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = Path(os.environ.get("FINE_DATA_MIRROR") or ROOT.parent / "shared" / "data")
    if not (folder / "ch_sims" / "label.npz").is_file():
        pytest.skip("the public files are not here: set FINE_DATA_MIRROR")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINE_DATA_MIRROR", str(folder))
        patch.setenv("FINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = set()
        for corpus, source in SOURCES:
            loaded = public_sources.load(ALL_CORPORA[corpus], source, context=corpus == "ur_funny")
            lines = (line for split in loaded.splits.values() for text in split.text for line in text.split("\n"))
            found |= {tuple(words(line)) for line in lines}
    return [list(sentence) for sentence in found if len(sentence) >= WORDS]


def test_no_sentence_of_a_corpus_is_published(sentences):
    assert len(sentences) > 70_000
    known = by_start(sentences)
    counts = {str(path.relative_to(ROOT)): len(found_in(texts, known)) for path, texts in published().items()}
    told = {path: count for path, count in counts.items() if count}  # the sentences themselves are not shown
    assert not told, f"sentences of a real corpus stand in {told}"


def test_the_search_finds_a_sentence_in_every_kind_of_file():
    sentence = words("Never mind the film, it's only made up")
    cell = {"cells": [{"outputs": [{"text": ["x: never mind the film,\n", " it's only MADE up. And more"]}]}]}
    known = by_start([sentence, words("我有一大山")])
    assert found_in(strings(cell), known) == [sentence]
    assert found_in(["<td>Never mind the film; it&#39;s only made up!</td>"], known) == [sentence]
    assert found_in(["never mind the film it's only made uphill"], known) == []
    assert found_in(["他说我有一大山，不去。"], known) == [words("我有一大山")]
