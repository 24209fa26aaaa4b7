"""A csv file of predictions: read exactly, arranged as the split is, and every wrong one met with one sentence."""

import gzip
import io
import pickle
import random
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_runs import write_run

from finelib import __main__ as main
from finelib.data.safe_pickle import DataError
from finelib.paper.own_predictions import arranged, read

N = 40
IDS = [f"planted_test$_${i}" for i in range(N)]
WILD_IDS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).filter(lambda s: s == s.strip() != ""),
    unique=True,
    min_size=1,
    max_size=8,
)


def test_the_largest_number_in_single_precision_is_read_as_it_is_written(tmp_path):
    (tmp_path / "a.csv").write_text("id,prediction\na,3.4028235e+38\n")  # its shortest form lies above it
    (line,) = read(tmp_path / "a.csv")
    assert line.prediction == np.finfo(np.float32).max


@given(data=st.data(), ids=WILD_IDS)
def test_predictions_come_back_bit_for_bit_in_the_order_of_the_split(tmp_path_factory, data, ids):
    """The file is written by pandas, in another order."""
    import pandas as pd

    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = data.draw(arrays.arrays(np.float32, len(ids), elements=finite))
    order = data.draw(st.permutations(range(len(ids))))
    path = tmp_path_factory.mktemp("any") / "a.csv"
    pd.DataFrame({"id": ids, "prediction": values}).iloc[order].to_csv(path, index=False)
    (seeds,) = arranged(read(path), path, ids, "x").values()
    assert list(seeds) == [None] and seeds[None].tobytes() == values.tobytes()


def test_systems_and_seeds_are_told_apart_and_columns_may_stand_in_any_order(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("seed, prediction ,system,id\n7,1,x,b\n7,2,x,a\n\n1111,3,x,a\n1111,4,x,b\n7,5,y y,a\n7,6,y y,b\n")
    found = arranged(read(path), path, ["a", "b"], "x")
    values = {system: {seed: p.tolist() for seed, p in seeds.items()} for system, seeds in found.items()}
    assert values == {"x": {7: [2, 1], 1111: [3, 4]}, "y y": {7: [5, 6]}}


@pytest.mark.parametrize("form", ["utf-8-sig", "\r\n", "\r"])
def test_what_spreadsheets_write(tmp_path, form):
    text = 'id,prediction\n"a, b",1.5\nc,-2\n'
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(form) if form == "utf-8-sig" else text.replace("\n", form).encode())
    assert [(line.id, line.prediction) for line in read(path)] == [("a, b", 1.5), ("c", -2)]


# ---------------------------------------------------------------------------------------------- broken files


def lines(rng, *more):
    return ["id,prediction" + "".join(f",{name}" for name in more)] + [
        f"{i},{rng.uniform(-3, 3):.4f}" + "".join(f",{0 if name == 'seed' else 'x'}" for name in more) for i in IDS
    ]


def text(change):
    """A kind of broken file that changes the lines of a whole one in place; ``change(lines, a line's number, rng)``."""

    def make(rng):
        found = lines(rng)
        found = change(found, rng.randrange(1, len(found)), rng) or found
        return ("\n".join(found) + "\n").encode()

    return make


def cell(value):
    return text(lambda rows, k, rng: rows.__setitem__(k, f"{rows[k].partition(',')[0]},{value}"))


def headed(head):
    return text(lambda rows, k, rng: rows.__setitem__(0, head))


def of_column(name, value):
    def make(rng):
        rows = lines(rng, name)
        k = rng.randrange(1, len(rows))
        rows[k] = ",".join([*rows[k].split(",")[:2], value])
        return "\n".join(rows).encode()

    return make


def separated(mark):
    return lambda rng: "\n".join(lines(rng)).replace(",", mark).encode()


def zipped(rng):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr("xl/workbook.xml", "\n".join(lines(rng)))
    return held.getvalue()


def dropped(rows, k, rng):
    return [row for row in rows if row not in rng.sample(rows[1:], rng.randrange(1, 9))]


# kind -> how its bytes are made, and what the sentence must say
BROKEN = {
    "no header": (text(lambda rows, k, rng: rows[1:]), "line 1, expected id and prediction"),
    "header with a gap": (headed("id,prediction,"), "found the columns 'id', 'prediction', ''"),
    "another name": (headed("id,predictions"), "did you mean 'prediction'?"),
    "capital letters": (headed("ID,Prediction"), "did you mean 'id'?"),
    "a name twice": (headed("id,id"), "each once"),
    "no predictions": (text(lambda rows, k, rng: [row.partition(",")[0] for row in rows]), "found the columns 'id' in"),
    "a column of labels": (lambda rng: "\n".join(lines(rng, "label")).encode(), "'label' in line 1"),
    "text": (cell("positive"), "found the prediction 'positive', expected a finite number"),
    "nothing": (cell(""), "found the prediction ''"),
    "nan": (cell("nan"), "found the prediction 'nan'"),
    "infinite": (cell("-inf"), "found the prediction '-inf'"),
    "too large": (cell("1e39"), "found the prediction '1e39'"),
    "decimal comma": (cell('"0,5"'), "found the prediction '0,5'"),
    "underscore": (cell("1_0"), "found the prediction '1_0'"),
    "other digits": (cell("１２"), "expected a finite number"),
    "a tensor": (cell("tensor(0.5)"), "found the prediction 'tensor(0.5)'"),
    "an id twice": (text(lambda rows, k, rng: rows.append(rows[k])), "1 ids again (line 42"),
    "ids missing": (text(dropped), " of 40 missing ('planted_test$_$"),
    "a foreign id": (
        text(lambda rows, k, rng: rows.append("abc_12,1")),
        "1 ids of no test utterance (line 42 'abc_12')",
    ),
    "another split's ids": (lambda rng: b"id,prediction\nplanted_train$_$1,1\n", "'planted_train$_$1'"),
    "no id": (text(lambda rows, k, rng: rows.__setitem__(k, " ,1")), "found no id"),
    "empty": (lambda rng: b"", "found no header in line 1"),
    "blank": (lambda rng: b"\n\n \n", "found no header in line 1"),
    "header alone": (lambda rng: b"id,prediction\n", "found a header and no predictions"),
    "latin-1": (lambda rng: "\n".join(lines(rng)).replace("$", "é").encode("latin-1"), "found no UTF-8"),
    "utf-16": (lambda rng: "\n".join(lines(rng)).encode("utf-16"), "found no UTF-8"),
    "semicolons": (separated(";"), "separated by commas"),
    "tabs": (separated("\t"), "separated by commas"),
    "a value less": (text(lambda rows, k, rng: rows.__setitem__(k, "planted_test$_$1")), "found 1 values, expected 2"),
    "a value more": (text(lambda rows, k, rng: rows.__setitem__(k, rows[k] + ",1")), "found 3 values, expected 2"),
    "open quote": (text(lambda rows, k, rng: rows.__setitem__(k, '"' + rows[k])), "found no csv"),
    "after a quote": (text(lambda rows, k, rng: rows.__setitem__(k, f'"a"b{rows[k]}')), "found no csv"),
    "huge value": (text(lambda rows, k, rng: rows.__setitem__(k, "a" * 200_000 + ",1")), "found no csv"),
    "zeros": (lambda rng: bytes(5000), "in line 1"),
    "noise": (lambda rng: bytes([255]) + rng.randbytes(3000), "found no UTF-8"),
    "gzip": (lambda rng: gzip.compress("\n".join(lines(rng)).encode()), "found no UTF-8"),
    "xlsx": (zipped, "expected"),
    "pickle": (lambda rng: pickle.dumps(np.zeros(5)), "found no UTF-8"),
    "json": (lambda rng: b'[{"id": "a", "prediction": 1}]', "found the columns"),
    "a page": (lambda rng: b"<!doctype html>\n<html><body>404</body></html>", "found the columns '<!doctype html>'"),
    "twice in one file": (lambda rng: 2 * ("\n".join(lines(rng)) + "\n").encode(), "found the prediction 'prediction'"),
    "seed as text": (of_column("seed", "one"), "found the seed 'one'"),
    "seed below 0": (of_column("seed", "-1"), "found the seed '-1'"),
    "seed as a fraction": (of_column("seed", "1.0"), "found the seed '1.0'"),
    "another seed once": (of_column("seed", "1"), "missing"),
    "no system": (of_column("system", ""), "found the system ''"),
    "unprintable system": (of_column("system", "a\x07"), "found the system 'a\\x07'"),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    values = np.linspace(-3, 3, N, dtype=np.float32)
    write_run(folder, prediction=values, label=values, ids=IDS)
    return folder


def refused(capsys, path, out):
    """What is said of a file, one line."""
    status = main.main(["score", str(path), "--corpus", "mosi", "--against", "FINE", "--out", str(out)])
    said = capsys.readouterr()
    assert status == 2 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"score: {path}") and "expected" in said.err
    return said.err


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_met_with_one_sentence_and_nothing_is_written(kind, out, tmp_path, capsys):
    make, says = BROKEN[kind]
    for seed in range(3):  # 141 files
        path = tmp_path / f"{seed}.csv"
        path.write_bytes(make(random.Random(f"{kind} {seed}")))
        assert says in refused(capsys, path, out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.csv", "1.csv", "2.csv"]


def test_what_is_no_file(out, tmp_path, capsys):
    assert "found a folder" in refused(capsys, tmp_path, out)
    assert "found no such file" in refused(capsys, tmp_path / "none.csv", out)


@pytest.mark.parametrize("seed", range(10))
def test_any_bytes_of_a_good_file_changed_are_met_with_one_sentence_or_a_score(seed, out, tmp_path, capsys):
    rng, path = random.Random(seed), tmp_path / "a.csv"
    whole = ("\n".join(lines(rng)) + "\n").encode()
    for _ in range(20):
        content = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        if main.main(["score", str(path), "--corpus", "mosi", "--against", "FINE", "--out", str(out)]):
            assert capsys.readouterr().err.count("\n") == 1


def test_all_that_is_wrong_with_the_ids_is_said_at_once_with_numbers_and_a_few(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,prediction\n" + "".join(f"{i},1\n" for i in ["t1", "t1", "x1", "x2", "x3", "v1"]))
    with pytest.raises(DataError) as error:
        arranged(read(path), path, ["t1", "t2", "t3"], "the split", {"v1"}, named=True)
    assert str(error.value) == (
        f"{path}: found 4 ids of no test utterance, 1 of them of train or valid (line 4 'x1'; line 5 'x2'; "
        "line 6 'x3'; ...), 1 ids again (line 3 't1' as line 2), 2 of 3 missing ('t2'; 't3'); "
        "expected each id once of the split"
    )


def test_ids_that_somebody_does_not_have_are_not_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,prediction,seed\nsecret_a,1,5\n")
    with pytest.raises(DataError, match=r"1 of 2 missing \(number 2 of the split, seed 5\)") as error:
        arranged(read(path), path, ["secret_a", "secret_b"], "a corpus")
    assert "secret" not in str(error.value)
