"""``python -m finelib check``: what is said of a file, and when somebody must decide."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from make_files import dump, mmsa_content, read_here, write_mmsa, write_ur_funny

from finelib.__main__ import main
from finelib.data import doctor
from finelib.data.corpora import CORPORA

MOSI = CORPORA["mosi"]
SIZES = (40, 10, 10)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)


def content(**options):
    """Without the infinite values that the published file has."""
    made = mmsa_content(MOSI, SIZES, widths=(6, 5, 4), **options)
    for fields in made.values():
        fields["audio"][0, 0, 0] = 0.5
        fields["id"] = np.array([f"{i}" for i in fields["id"]])
    return made


def examined(tmp_path, made, **options):
    lines, decisions = doctor.examine(dump(made, tmp_path / "mine.pkl"), **options)
    return "\n".join(lines), decisions


def test_a_clean_file_needs_no_decision(tmp_path):
    said, decisions = examined(tmp_path, content())
    assert decisions == []
    assert "your file, read as CMU-MOSI" in said and "train 40, valid 10, test 10" in said
    assert "width 5;" in said and "padding behind" in said and "NaN 0, infinite 0, outliers 0" in said
    assert "differs from the published file" in said and "unknown ([UNK]) to all-MiniLM-L6-v2" in said


def test_every_line_says_what_the_file_holds(tmp_path):
    made = content()
    made["valid"]["id"][3] = made["train"]["id"][5]
    made["test"]["raw_text"][2] = made["train"]["raw_text"][7]
    made["train"]["audio"][4, :2] = 0  # at the front of one utterance, within its length
    said, decisions = examined(tmp_path, made)
    assert decisions == ["train/valid: 1 videos are in both"]
    expected = []
    for s, fields in made.items():
        label = np.float32(fields["regression_labels"])
        expected.append(f"labels, {s:<14}{label.min():.3g} to {label.max():.3g}, median {np.median(label):.3g}")
    modalities = {
        "text": (6, lambda fields: fields["text_bert"][:, 1].sum(1).astype(int)),
        "audio": (5, lambda fields: np.array(fields["audio_lengths"])),
        "video": (4, lambda fields: np.array(fields["vision_lengths"])),
    }
    for called, (width, of) in modalities.items():
        for s, fields in made.items():
            n = of(fields)
            frames = f"width {width}; {n.sum():,} frames, {n.min()} to {n.max()} an utterance (median {np.median(n):g}"
            expected.append(f"{called}, {s:<{20 - len(called)}}{frames}, 0 without any); padding behind; ")
            expected[-1] += "NaN 0, infinite 0, outliers 0"
    words = sum(len(text.split()) for fields in made.values() for text in fields["raw_text"])  # a token each
    expected += [
        "ids in two splits     train/valid 1, train/test 0, valid/test 0",
        "texts in two splits   train/valid 0, train/test 1, valid/test 0",
        "videos in two splits  train/valid 1, train/test 0, valid/test 0",
        "changed on reading    nothing",
        f"raw text              0.0% of {words:,} tokens unknown ([UNK]) to all-MiniLM-L6-v2",
    ]
    lines = said.splitlines()
    assert lines[:2] == [str(tmp_path / "mine.pkl"), "  what it is            your file, read as CMU-MOSI"]
    digest = hashlib.sha256((tmp_path / "mine.pkl").read_bytes()).hexdigest()[:12]
    assert lines[2] == f"  file                  mine.pkl, SHA-256 {digest}..., differs from the published file"
    assert lines[3] == "  utterances            train 40, valid 10, test 10"
    assert lines[4:] == [f"  {line}" for line in expected]


def _front(made):
    for fields in made.values():
        fields["audio"] = fields["audio"][:, ::-1].copy()


def _wild(made):
    made["test"]["audio"][1, 0, 2] = 1e30


def _missing(made):
    made["train"]["vision"][2, 0, 1] = np.nan


def _dead(made):
    made["valid"]["vision"][:] = 0


def _gaps(made):
    made["train"]["audio"][:, 1::3] = 0


def _wrong_lengths(made):
    for fields in made.values():
        fields["audio_lengths"] = np.full(len(fields["id"]), 3)


def _squeezed(made):
    for fields in made.values():
        fields["regression_labels"] = np.abs(fields["regression_labels"]) / 3


def _same_videos(made):
    for s, fields in made.items():
        fields["id"] = [f"video{row % 5}$_${s}{row}" for row in range(len(fields["id"]))]


def _foreign_words(made):
    made["train"]["raw_text"] = np.array(["这部电影 film"] * SIZES[0], dtype=object)


@pytest.mark.parametrize(
    ("change", "line", "decision"),
    [
        (_front, "padding front", None),
        (_missing, "NaN 1, infinite 0, outliers 0", None),
        (_wild, "NaN 0, infinite 0, outliers 1", "test, audio: 1 values are far outside"),
        (_dead, "all zero throughout", "valid, video: it is all zero"),
        (_gaps, "all zero", "frames are all zero"),
        (_wrong_lengths, "real frames found by looking", "train, audio: its lengths or masks contradict its frames"),
        (_squeezed, "labels, train", "CMU-MOSI's run from -3 to 3"),
        (_same_videos, "train/test 5", "train/test: 5 videos are in both"),
        (_foreign_words, "raw text", "tokens unknown ([UNK])"),
    ],
)
def test_what_is_unusual_is_described_and_what_is_doubtful_is_to_be_decided(tmp_path, change, line, decision):
    made = content()
    change(made)
    said, decisions = examined(tmp_path, made, corpus="mosi")
    assert line in said
    assert any(decision in found for found in decisions) if decision else decisions == []


def test_what_cannot_be_read_is_one_sentence_to_decide(tmp_path):
    made = content()
    made["test"]["audio"] = np.concatenate([made["test"]["audio"]] * 2, axis=2)
    said, (decision,) = examined(tmp_path, made)
    assert "audio" in decision and "found" in decision and "expected" in decision and "what it is" not in said


@pytest.mark.parametrize(("corpus", "title"), [("mosi", "CMU-MOSI"), ("ch_sims", "CH-SIMS")])
def test_the_labels_tell_what_a_file_is_read_as(tmp_path, corpus, title):
    made = mmsa_content(CORPORA[corpus], SIZES, widths=(6, 5, 4))
    assert f"your file, read as {title}" in examined(tmp_path, made)[0]


@pytest.mark.parametrize(
    ("low", "high", "title", "decided"),
    [
        (0.2, 0.8, "CMU-MOSI", "labels span [0.2, 0.8], CMU-MOSI's run from -3 to 3"),  # no corpus uses these
        (-2, 5, None, "expected labels in [-3, 3]"),
    ],
)
def test_labels_that_no_corpus_has(tmp_path, low, high, title, decided):
    made = content()
    for fields in made.values():
        fields["regression_labels"] = np.linspace(low, high, len(fields["id"]))
    said, decisions = examined(tmp_path, made)
    assert (f"your file, read as {title}" in said) == bool(title)
    assert len(decisions) == 1 and decisions[0].endswith(decided)


def test_a_folder_with_files_of_two_corpora(tmp_path):
    write_ur_funny(tmp_path)
    write_mmsa(tmp_path, "ch_sims")
    said = "\n".join(doctor.examine(tmp_path)[0])
    assert "read as UR-FUNNY" in said and "read as CH-SIMS" in said


def test_as_a_command(tmp_path, capsys):
    assert main(["check", str(dump(content(), tmp_path / "clean.pkl"))]) == 0
    assert main(["check", str(tmp_path / "none.pkl")]) == 1 and "found no such file" in capsys.readouterr().out
    made = content()
    _wild(made)
    command = [sys.executable, "-m", "finelib", "check", str(dump(made, tmp_path / "wild.pkl"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "TO DECIDE" in done.stdout
