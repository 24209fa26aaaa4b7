"""The page of a data card: counts, and nothing that was said."""

import numpy as np
import pytest

from finelib.data.card import describe
from finelib.data.corpora import CORPORA
from finelib.data.features import Corpus, Split
from finelib.views import cards

IDS = {"train": ["a_1", "a_2", "b_1"], "valid": ["b_2", "d_1"], "test": ["a_3", "c_1"]}
SAID = {"train": ["never say this", "nor that", "same"], "valid": ["other", "new"], "test": ["same", "this neither"]}


@pytest.fixture
def corpus():
    label = {"train": [-1, 0, 1], "valid": [0.4, -0.6], "test": [-0.2, 0.8]}
    splits = {s: Split({}, np.float32(label[s]), IDS[s], SAID[s]) for s in IDS}
    files = [{"name": "x.csv", "sha256": "0" * 64, "compared": "pinned", "repository": "o/r", "licence": "states none"}]
    card = describe(CORPORA["ch_sims"], splits, files, {"known": ["one label differs"]}) | {"text": "Chinese"}
    return Corpus(CORPORA["ch_sims"], "public", splits, "0" * 64, "", card)


def test_counts(corpus):
    table = cards.splits_table(corpus)
    assert table["utterances"].tolist() == [3, 2, 2] and table["of the official"].tolist() == [1368, 456, 457]
    assert table["videos"].tolist() == [2, 2, 2] and table.loc["train", "label quartiles"] == "-0.5, 0, 0.5"
    across = cards.across_table(corpus)
    assert across.loc["train/test"].to_dict() == {"ids": 0, "texts": 1, "videos": 1}
    assert across.loc["train/valid", "videos"] == 1
    assert cards.sources_table(corpus).loc["x.csv", "licence"] == "states none"
    assert cards.known(corpus) == ["text: Chinese", "of the 2 videos of test 1 are in train too", "one label differs"]


def test_shares_of_the_labels_add_up(corpus):
    for axis in cards.label_bars(corpus).axes:
        assert sum(bar.get_height() for bar in axis.patches) == pytest.approx(1)


def test_no_text_and_no_id_is_shown(corpus):
    tables = [cards.splits_table(corpus), cards.across_table(corpus), cards.sources_table(corpus)]
    shown = " ".join(table.to_html() for table in tables) + " ".join(cards.known(corpus))
    assert not any(text in shown for texts in (*SAID.values(), *IDS.values()) for text in texts)
