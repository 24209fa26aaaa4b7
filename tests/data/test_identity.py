"""Whose files they are: by checksum, or by sizes, widths and label range; and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
from make_files import dump, mmsa_content, read_here, write_mmsa

from finelib.data import conversion, sources, store
from finelib.data.corpora import CORPORA
from finelib.data.features import Frames, Split
from finelib.data.identity import identify, unusual_ranges
from finelib.data.safe_pickle import DataError

# typed from the corpora's own descriptions: train, valid, test; widths of T, A, V; ends of the labels
PUBLISHED = {
    "mosi": ((1284, 229, 686), (768, 5, 20), (-3, 3)),
    "mosei": ((16326, 1871, 4659), (768, 74, 35), (-3, 3)),
    "ch_sims": ((1368, 456, 457), (768, 33, 709), (-1, 1)),
    "ur_funny": ((7614, 980, 994), (300, 81, 371), (0, 1)),
    "ur_funny, version 1": ((10598, 2626, 3290), (300, 81, 75), (0, 1)),
}
MOSI = CORPORA["mosi"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)


def splits(sizes, widths, ends):
    """Splits of these sizes and widths, one frame an utterance, labels from one end to the other."""

    def frames(n, width):
        return Frames.from_lengths(np.broadcast_to(np.float32(0), (n, width)), np.ones(n))

    found = {}
    for s, n in zip(("train", "valid", "test"), sizes, strict=True):
        held = {m: frames(n, width) for m, width in zip("TAV", widths, strict=True) if width}
        found[s] = Split(held, np.linspace(*ends, n, dtype=np.float32), [f"{s}{i}" for i in range(n)], [""] * n)
    return found


def judged(corpus, sizes, widths, ends, sha256=()):
    return identify(CORPORA[corpus], splits(sizes, widths, ends), sha256, "FILE")


# Licensed, own, another's


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_widths_and_range_make_the_licensed_corpus(name):
    assert judged(name.partition(",")[0], *PUBLISHED[name], ["0" * 64]) == ("files", [])


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("change", ["a row less", "a width", "a modality less", "one end of the range"])
def test_one_thing_that_differs_makes_it_your_file(name, change):
    sizes, widths, (low, high) = PUBLISHED[name]
    if change == "a row less":
        sizes = (sizes[0] - 1, *sizes[1:])
    elif change == "a width":
        widths = (*widths[:2], widths[2] + 1)
    elif change == "a modality less":
        widths = (0, *widths[1:])
    else:
        high -= 0.1
    kind, says = judged(name.partition(",")[0], sizes, widths, (low, high))
    title = CORPORA[name.partition(",")[0]].title
    assert kind == "own" and len(says) == 1 and says[0].startswith(f"your file, not the published {title} (")
    found = says[0].rpartition(": ")[2]
    assert " / ".join(map(str, sizes)) in found and f"V {widths[2]}" in found and f"labels {low} to {high}" in found


def test_what_was_published_and_what_was_found_stand_in_one_sentence():
    published = "CMU-MOSI (1284 / 229 / 686 utterances, widths T 768, A 5, V 20, labels -3 to 3)"
    found = "9 / 5 / 4 utterances, widths T 3, V 2, labels -2.5 to 3"
    assert judged("mosi", (9, 5, 4), (3, 0, 2), (-2.5, 3))[1] == [f"your file, not the published {published}: {found}"]


def test_version_1_s_sizes_with_version_2_s_widths_are_no_published_file():
    assert judged("ur_funny", (10598, 2626, 3290), (300, 81, 371), (0, 1))[0] == "own"


@pytest.mark.parametrize("corpus", ["mosi", "mosei", "ch_sims"])
def test_a_published_checksum_decides_alone(corpus):
    for digest in CORPORA[corpus].files.values():
        assert judged(corpus, (3, 3, 3), (1, 1, 1), (0, 1), [digest]) == ("files", [])


@pytest.mark.parametrize(
    ("name", "given"),
    [("mosi", "mosei"), ("mosei", "mosi"), ("ch_sims", "mosi"), ("ch_sims", "mosei"), ("ur_funny, version 1", "mosi")],
)
def test_another_corpus_is_refused_and_both_are_named(name, given):
    true = CORPORA[name.partition(",")[0]]
    with pytest.raises(DataError, match=f"FILE: found sizes, widths and label range of {true.title}, ") as refused:
        judged(given, *PUBLISHED[name])
    assert f"expected those of {CORPORA[given].title}; load it as '{true.name}'" in str(refused.value)
    for digest in filter(None, true.files.values()):
        with pytest.raises(DataError, match=f"^FILE: found the published file of {true.title} .*, expected one of"):
            judged(given, (3, 3, 3), (1, 1, 1), (0, 1), [digest])


# Label ranges


@pytest.mark.parametrize(
    ("corpus", "ends", "said"),
    [
        ("mosi", (0, 1), "labels span [0, 1], CMU-MOSI's run from -3 to 3"),
        ("mosei", (-1, 1), "labels span [-1, 1], CMU-MOSEI's run from -3 to 3"),
        ("mosi", (0, 3), "labels span [0, 3], CMU-MOSI's run from -3 to 3"),
        ("mosi", (-3, 0), "labels span [-3, 0], CMU-MOSI's run from -3 to 3"),
        ("mosi", (2, 2), "labels span [2, 2], CMU-MOSI's run from -3 to 3"),
        ("ch_sims", (0, 1), "labels span [0, 1], CH-SIMS's run from -1 to 1"),
        ("ch_sims", (-0.4, 0.4), "labels span [-0.4, 0.4], CH-SIMS's run from -1 to 1"),
        ("ur_funny", (1, 1), "labels span [1, 1], UR-FUNNY's run from 0 to 1"),
        ("ur_funny", (0, 0.5), "labels span [0, 0.5], UR-FUNNY's run from 0 to 1"),
        ("mosi", (-1, 2), None),  # half of the range
        ("mosi", (-3, 3), None),
        ("mosi", (-1.6, 2.4), None),
        ("ch_sims", (-1, 1), None),
        ("ur_funny", (0, 1), None),
    ],
)
def test_a_range_that_is_not_the_corpus_s_is_told(corpus, ends, said):
    found = splits((48, 16, 24), (4, 3, 2), ends)
    assert unusual_ranges(CORPORA[corpus], found) == ([said] if said else [])
    assert judged(corpus, (48, 16, 24), (4, 3, 2), ends)[1][1:] == ([said] if said else [])


def test_one_split_on_another_scale_is_told():
    found = splits((200, 60, 80), (4, 3, 2), (-3, 3))
    found["test"] = splits((1, 1, 80), (4, 3, 2), (0, 1))["test"]
    assert unusual_ranges(MOSI, found) == ["labels of test span [0, 1], CMU-MOSI's run from -3 to 3"]
    for utterances, told in ((29, 0), (30, 1)):  # fewer may lie on one side by chance
        found["test"] = splits((1, 1, utterances), (4, 3, 2), (0, 1))["test"]
        assert len(unusual_ranges(MOSI, found)) == told


# From the file to the corpus


def full_size(folder, seed=0):
    """A file of CMU-MOSI's sizes and widths, one frame an utterance."""
    content = mmsa_content(replace(MOSI, max_frames=(1, 1, 1)), MOSI.sizes, seed=seed)
    return dump(content, folder / "features.pkl")


def test_a_file_of_the_corpus_s_form_is_licensed_and_is_refused_for_another(tmp_path, caplog):
    path = full_size(tmp_path)
    for _ in range(2):  # read, and from its store
        corpus = sources.load("mosi", path)
        assert corpus.kind == "files" and corpus.card["identity"] == {"kind": "files", "says": []}
        assert corpus.called == "CMU-MOSI, licensed files"
    assert "your file" not in caplog.text
    with pytest.raises(
        DataError, match="features.pkl: found sizes, widths and label range of CMU-MOSI, expected those"
    ):
        sources.load("mosei", path)
    assert sources.not_served(path, ["mosei", "mosi"]).keys() == {"mosei"}


def test_a_small_file_is_yours_wherever_it_is_opened(tmp_path, caplog):
    write_mmsa(tmp_path, "mosei")
    for _ in range(2):
        caplog.clear()
        corpus = sources.load("mosei", tmp_path)
        assert corpus.kind == corpus.card["identity"]["kind"] == "own"
        assert corpus.called == "your file, read as CMU-MOSEI"
        assert caplog.text.count("your file, not the published CMU-MOSEI (16326 / 1871 / 4659 utterances") == 1
    assert replace(corpus, encoder="another").kind == "own"


def test_another_corpus_s_published_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write_mmsa(tmp_path, "mosei").rename(tmp_path / "features.pkl")
    with pytest.raises(DataError, match="name it"):
        sources.load(path)
    monkeypatch.setitem(CORPORA["mosei"].files, "MOSEI/Processed/unaligned_50.pkl", store.file_sha256(path))
    monkeypatch.setattr(conversion, "_read", None)
    for said in (sources.available("mosi", path), sources.available("ch_sims", path)):
        assert "found the published file of CMU-MOSEI (by its checksum), expected one of " in said
    with pytest.raises(DataError, match="of CMU-MOSEI .*expected one of CMU-MOSI; load it as 'mosei'"):
        sources.load("mosi", path)
    assert sources.available("mosei", path) is None
    monkeypatch.undo()
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(CORPORA["mosei"].files, "MOSEI/Processed/unaligned_50.pkl", store.file_sha256(path))
    assert sources.load(path).info.name == "mosei"  # whatever it is called


# One file serves one corpus


@pytest.mark.parametrize(
    ("made_as", "wanted", "served"),
    [
        ("mosi", ["mosi", "mosei", "ch_sims"], "mosi"),
        ("mosei", ["mosi", "mosei", "ch_sims"], "mosei"),  # by its widths
        ("mosi", ["mosei"], "mosei"),  # asked for alone
        ("ch_sims", ["mosi", "mosei", "ch_sims"], "ch_sims"),
    ],
)
def test_a_file_serves_one_of_the_corpora_that_are_wanted(tmp_path, made_as, wanted, served):
    path = write_mmsa(tmp_path, made_as).rename(tmp_path / "features.pkl")
    refused = sources.not_served(path, wanted)
    assert refused.keys() == set(wanted) - {served}
    assert all(str(path) in sentence for sentence in refused.values())


def test_a_file_that_no_reader_takes_serves_none(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"no pickle")
    assert sources.not_served(tmp_path / "x.pkl", ["mosi", "ch_sims"]).keys() == {"mosi", "ch_sims"}
