"""clips.csv: each wrong row has a sentence, and a broken table is no traceback; nothing is decoded here."""

import random

import numpy as np
import pytest

import finelib
from finelib.data import recordings
from finelib.data.safe_pickle import DataError

ROWS = {
    "gone.mp4,,1": "line 2: found no file 'gone.mp4' in the folder, expected a recording",
    "../a.mp4,,1": "line 2: found the path '../a.mp4', expected one below the folder",
    "/etc/passwd,,1": "line 2: found the path '/etc/passwd', expected one below the folder",
    ",,1": "line 2: found no file, expected one",
    "a.wav,,good": "line 2: found 'good' as label, expected a finite number, or nothing",
    "a.wav,,1,4,2": "line 2: found start 4 and end 2, expected 0 or more, and more than that",
    "a.wav,,1,x,2": "line 2: found 'x' as start, expected a finite number, in seconds",
    "a.wav,,1\na.wav,,2": "line 3: found 'a.wav' a second time, expected each clip once",
    "a.wav": "line 2: found 1 cells, expected 3 as in the header",
    "a.wav,,": "found no label, expected some to train on",
    "a.wav,,1 ": "found 1 files with a label and no splits, expected at least 3 to draw them",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_wrong_row_of_the_table_is_named(row, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "extract", lambda clips, *_: [nothing()] * len(clips))
    header = "file,text,label,start,end" if row.split("\n")[0].count(",") > 3 else "file,text,label"
    (tmp_path / "clips.csv").write_text(f"{header}\n{row}")
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        finelib.load(tmp_path, cache=tmp_path / "cache")
    assert ROWS[row] in str(raised.value)


def nothing() -> recordings.Features:
    return recordings.Features({"A": np.ones((1, 33), np.float32), "V": np.zeros((0, 1434), np.float32)}, {})


def test_broken_tables_end_in_a_sentence(tmp_path, monkeypatch):
    """60 tables, changed at random: clips, or one sentence for each wrong row."""
    monkeypatch.setattr(recordings, "extract", lambda clips, *_: [nothing()] * len(clips))
    rows = [
        "file,text,label,split",
        *(f"c{i}.wav,text {i},{i % 5},{('train', 'valid', 'test')[i % 3]}" for i in range(9)),
    ]
    good = "\n".join(rows).encode()
    for seed in range(60):
        rng, content = random.Random(seed), bytearray(good)
        for _ in range(rng.choice((1, 3, 20))):
            where = rng.randrange(len(content))
            content[where : where + rng.randrange(3)] = rng.choice(
                (b",", b'"', b"\n", b"\xff", b"\0", b"..", b"nan", b"")
            )
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "clips.csv").write_bytes(content)
        for i in range(9):
            (folder / f"c{i}.wav").write_bytes(b"")
        try:
            corpus = recordings.load(folder, None, 0, tmp_path / "cache", 1)
            assert len(corpus.splits["train"]) > 0
        except (DataError, OSError) as error:
            assert ": found " in str(error), error
