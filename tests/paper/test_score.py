"""One's own predictions in a table: by hand, as the tables have them, and beside the right rows."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_runs import IDS, LABEL, PREDICTION, write_csv, write_run
from markdown_it import MarkdownIt
from scipy import stats
from sklearn.metrics import f1_score

import finelib
from finelib import __main__ as main
from finelib.baselines import lf_dnn
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.paper import score, scored_against, significance, tables
from finelib.runs import experiment
from finelib.runs.options import ROOT, Options

SMALL = FineConfig(width=(8, 8, 8), task_width=8, heads=2, critic_width=8, label_width=4)


def row(table, name):
    return next(row for row in table.rows if row.name == name)


def test_scores_of_a_tiny_file_by_hand(tmp_path):
    """Labels -2, -.4, 0, 0, 1.2, 3; predictions -1.5, .2, 0, -.1, 1.4, 2.4; the file has them backwards."""
    write_run(tmp_path, prediction=LABEL)
    path = write_csv(tmp_path / "mine.csv", PREDICTION[::-1], IDS[::-1])
    table, target = score.build([str(path)], "mosi", against="FINE", out=tmp_path)
    found = {metric: cell["mean"] for metric, cell in row(table, "mine").measured.items()}
    assert found == {
        "acc2_nonzero": 3 / 4,  # the second is called positive
        "f1_nonzero": pytest.approx((4 / 5 + 2 / 3) / 2),
        "acc2_has_zero": pytest.approx(4 / 6),  # and the fourth negative
        "f1_has_zero": pytest.approx((4 * 6 / 8 + 2 * 2 / 4) / 6),
        "acc7": pytest.approx(5 / 6),  # 2.4 is no 3
        "acc5": 1.0,
        "mae": pytest.approx((0.5 + 0.6 + 0 + 0.1 + 0.2 + 0.6) / 6),
        "corr": pytest.approx(stats.pearsonr(PREDICTION, LABEL)[0]),
    }
    assert target.ids == IDS and row(table, "FINE").measured["mae"]["mean"] == 0


@pytest.mark.parametrize(("corpus", "positive"), [("ch_sims", 0.0), ("ur_funny", 0.5)])
def test_other_corpora_have_their_own_metrics(tmp_path, corpus, positive):
    label = np.array([0, 1, 1, 0, 1, 1], dtype=np.float32)
    prediction = np.array([0.4, 0.6, 0.3, -0.2, 0.9, 0.5], dtype=np.float32)
    write_run(tmp_path, corpus=corpus, prediction=label, label=label)
    path = write_csv(tmp_path / "mine.csv", prediction)
    table, _ = score.build([str(path)], corpus, against="FINE", out=tmp_path)
    found, sides = row(table, "mine").measured, (prediction > positive, label > positive)
    assert found["acc2"]["mean"] == np.mean(sides[0] == sides[1])
    assert found["f1"]["mean"] == f1_score(sides[1], sides[0], average="weighted")
    assert set(found) - {"error_rate"} == set(table.metrics)  # which is 1 - acc2, so no column


# ----------------------------------------------------------------------------------------- as the tables have it


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Options of a folder with two systems of three seeds each, trained on planted data, and their rows of Table 1."""
    options = Options(preset="smoke", out=tmp_path_factory.mktemp("out"), jobs=1)
    data, models = DataConfig("mosi", scale=0.08), {"FINE": SMALL, "LF-DNN": lf_dnn.Config(**lf_dnn.DEMO)}
    train = TrainConfig(epochs=1)
    runs = {name: [RunSpec(name, data, m, train, s) for s in range(3)] for name, m in models.items()}
    return options, runs, tables.measure(1, runs, options)


def exported(records, path, **columns):
    """The predictions of records as somebody would write them into a file."""
    parts = []
    for record in records:
        held = record.predictions()
        told = {"id": held["test_ids"], "prediction": held["test"], "seed": record.seed}
        parts.append(pd.DataFrame(told | {name: value for name, value in columns.items()}))
    pd.concat(parts).sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def test_a_records_own_predictions_score_as_in_the_table_to_the_last_digit(trained, tmp_path):
    options, runs, rows = trained
    records = experiment.run_groups(runs, options.out, 1)
    path = exported(records["LF-DNN"], tmp_path / "own.csv", system="mine")
    table, _ = score.build([str(path)], "mosi", against="FINE", out=options.out)
    expected = {row.name: row for row in rows}
    assert row(table, "mine").measured == expected["LF-DNN"].measured  # mean, sd, interval, n
    assert row(table, "FINE").measured == expected["FINE"].measured
    assert row(table, "mine").differences == expected["LF-DNN"].differences  # a family of one row in both
    assert row(table, "FINE").differences is None
    measured, _ = score.build(["LF-DNN"], "mosi", against="FINE", out=options.out)
    assert row(measured, "LF-DNN").differences == expected["LF-DNN"].differences
    assert row(measured, "LF-DNN").runs == expected["LF-DNN"].runs


def test_files_beside_hold_the_same_numbers(trained, tmp_path, capsys):
    options, runs, rows = trained
    records = experiment.run_groups(runs, options.out, 1)
    path = exported(records["LF-DNN"], tmp_path / "own.csv")
    command = ["score", str(path), "--corpus", "mosi", "--against", str(records["FINE"][1].folder / "record.json")]
    assert main.main(command) == 0
    expected = next(row for row in rows if row.name == "LF-DNN")
    of_csv = next(line for line in csv.DictReader((tmp_path / "own.scores.csv").open()) if line["name"] == "own")
    for metric, cell in expected.measured.items():
        assert [float(of_csv[metric]), float(of_csv[f"{metric}_low"])] == [cell["mean"], cell["low"]]
    content = json.loads((tmp_path / "own.scores.json").read_text())
    assert next(row for row in content["rows"] if row["name"] == "own")["measured"] == expected.measured
    out = capsys.readouterr().out
    assert "Scored against CMU-MOSI, planted data" in out and f"written: {tmp_path / 'own'}.scores.md" in out
    assert (tmp_path / "own.scores.md").read_text() in out


def test_scored_without_runs_against_the_corpus_itself(tmp_path):
    """Planted by its ids, of the size that ``finelib.load`` gives."""
    test = finelib.load("ur_funny").splits["test"]
    path = write_csv(tmp_path / "a.csv", test.label, test.ids)
    table, target = score.build([str(path)], "ur_funny", out=tmp_path)
    assert row(table, "a").measured["mae"]["mean"] == 0 and "(source planted)" in target.called
    assert all(name.startswith(score.PLANTED) for name in test.ids) and row(table, "a").differences is None


def test_ids_that_are_not_planted_ask_for_the_public_corpus(tmp_path, monkeypatch):
    asked = []

    def load(info, source):
        asked.append((info.name, source))
        corpus = finelib.load("mosi", scale=0.05)
        corpus = replace(corpus, kind="public")
        corpus.splits["test"].ids[:] = [f"v_{i}" for i in range(len(corpus.splits["test"]))]
        return corpus

    monkeypatch.setattr(scored_against.public_sources, "load", load)
    path = write_csv(tmp_path / "a.csv", range(34), [f"v_{i}" for i in range(34)])
    table, target = score.build([str(path)], "mosi", out=tmp_path)
    assert (
        asked == [("mosi", "public")] and "public data" in target.called and not any("lanted" in n for n in table.notes)
    )


# -------------------------------------------------------------------------------------------------- comparisons


def runs_of(out, name, shift, seeds=3, **more):
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        write_run(out, name, seed, LABEL + np.float32(shift) * rng.standard_normal(6).astype(np.float32), **more)


def test_one_prediction_meets_every_seed_and_what_it_lacks_is_said(tmp_path):
    runs_of(tmp_path, "FINE", 0.5)
    path = write_csv(tmp_path / "a.csv", PREDICTION)
    table, _ = score.build([str(path)], "mosi", against="FINE", out=tmp_path)
    fine = [np.load(folder / "predictions.npz")["test"] for folder in sorted((tmp_path / "runs").iterdir())]
    expected = significance.differences("mae", {"a": [PREDICTION] * 3}, fine, LABEL)["a"]
    assert row(table, "a").differences["mae"] == vars(expected) and expected.low < expected.high
    assert any(note.startswith("One prediction an utterance: a; what another training") for note in table.notes)


def test_as_many_seeds_are_compared_as_all_have(tmp_path):
    runs_of(tmp_path, "FINE", 0.5, seeds=4)
    path = tmp_path / "a.csv"
    lines = [f"{i},{p},{seed}" for seed in (9, 4) for i, p in zip(IDS, PREDICTION + seed / 100, strict=True)]
    path.write_text("\n".join(["id,prediction,seed", *lines]))
    table, _ = score.build([str(path)], "mosi", against="FINE", out=tmp_path)
    assert row(table, "a").differences["corr"]["seeds"] == 2 and row(table, "a").measured["mae"]["n"] == 2
    assert "Compared by the first 2 seeds of FINE, as many as every row has." in table.notes
    fine = [np.load(folder / "predictions.npz")["test"] for folder in sorted((tmp_path / "runs").iterdir())][:2]
    own = [np.float32(PREDICTION + seed / 100) for seed in (4, 9)]
    expected = significance.differences("mae", {"a": own}, fine, LABEL)["a"]
    assert row(table, "a").differences["mae"]["mean"] == pytest.approx(expected.mean, abs=1e-7)


def test_without_a_second_seed_there_is_no_interval(tmp_path):
    write_run(tmp_path)
    path = write_csv(tmp_path / "a.csv", LABEL)
    table, _ = score.build([str(path)], "mosi", against="FINE", out=tmp_path)
    assert row(table, "a").differences["corr"]["low"] is None and table.notes[3].startswith("Without a second seed")


def test_of_several_rows_of_one_name_the_ids_say_which(tmp_path):
    write_run(tmp_path, data_hash="a")
    write_run(tmp_path, data_hash="b", ids=[f"v_{i}" for i in range(6)], source="public", data="public")
    for ids, source in ((IDS, "planted"), ([f"v_{i}" for i in range(6)], "public")):
        path = write_csv(tmp_path / "a.csv", LABEL, ids)
        _, target = score.build([str(path)], "mosi", against="FINE", out=tmp_path)
        assert target.kind == source
    assert score.build(["FINE"], "mosi", source="public", out=tmp_path)[1].kind == "public"


def test_the_folder_of_a_file_of_features_is_not_told(tmp_path):
    write_run(tmp_path, source="/home/somebody/mine.pkl", data="own", data_hash="own")
    table, target = score.build(["FINE"], "mosi", out=tmp_path)
    assert "(source mine.pkl, as run" in target.called and "somebody" not in " ".join(table.notes)


def test_a_name_that_is_taken_is_marked(tmp_path):
    write_run(tmp_path)
    path = write_csv(tmp_path / "a.csv", LABEL, system="FINE")
    table, _ = score.build([str(path)], "mosi", against="FINE", out=tmp_path)
    assert [r.name for r in table.rows] == ["FINE", "FINE (own)"]
    with pytest.raises(ValueError, match="found 'x' twice"):
        paths = [str(write_csv(tmp_path / f"{n}.csv", LABEL, system="x")) for n in "ab"]
        score.build(paths, "mosi", against="FINE", out=tmp_path)


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        (["FIEN"], [], "FIEN: found no run of it on mosi in .*did you mean 'FINE'"),
        (["w/o MoQ"], [], "w/o MoQ: found no run of it"),
        (["FINE"], [], r"FINE: found 2 rows of that name on mosi in .*, expected one, .*planted: .*; public: "),
        (["FINE"], ["--source", "public-mfn"], "FINE: found 0 rows of that name on mosi from public-mfn"),
        (["Other"], ["--against", "FINE", "--source", "planted"], "found other test utterances or labels than in"),
        (["{out}/runs/mosi-Failed-s0-planted-data"], [], "found a run that diverged .loss., expected one with"),
        (["{out}/runs/mei"], [], "expected a csv file or one of"),
        (["{out}/runs/mosi-FINE-s0-a"], ["--corpus", "mosei"], "found a run on mosi, expected one on mosei"),
    ],
)
def test_rows_that_cannot_be_had_end_in_one_sentence(tmp_path, capsys, rows, more, says):
    write_run(tmp_path, data_hash="a")
    write_run(tmp_path, data_hash="b", source="public", data="public")
    write_run(tmp_path, "Other", label=LABEL + np.float32(0.5))
    write_run(tmp_path, "Failed", failed="loss", timing={}, files={})
    rows = [name.format(out=tmp_path) for name in rows]
    assert main.main(["score", *rows, "--corpus", "mosi", "--out", str(tmp_path), *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.match(f"score: .*{says}", said)


def test_a_run_that_was_changed_is_refused(tmp_path, capsys):
    folder = write_run(tmp_path)
    np.savez(folder / "predictions.npz", test=PREDICTION)
    path = write_csv(tmp_path / "a.csv", LABEL)
    assert main.main(["score", str(path), "--corpus", "mosi", "--against", "FINE", "--out", str(tmp_path)]) == 2
    assert "found another content than was written" in capsys.readouterr().err


def test_only_rows_of_records_are_written_into_the_folder_of_the_runs(tmp_path):
    write_run(tmp_path)
    assert main.main(["score", "FINE", "--corpus", "mosi", "--out", str(tmp_path)]) == 0
    assert {path.suffix for path in tmp_path.glob("mosi.scores.*")} == {".md", ".csv", ".tex", ".json", ".html"}


# --------------------------------------------------------------------------------------------------------- forms


def test_any_name_is_text_in_latex_and_markdown(tmp_path):
    name = r"a_b & 50% {x} $y$ \z ~ ^ # a|b <i>c</i> *d* `e` [f](g)"
    write_run(tmp_path)
    path = tmp_path / "a.csv"
    pd.DataFrame({"id": IDS, "prediction": LABEL, "system": name}).to_csv(path, index=False)
    assert main.main(["score", str(path), "--corpus", "mosi", "--against", "FINE", "--out", str(tmp_path)]) == 0
    tex = (tmp_path / "a.scores.tex").read_text()
    body = [line for line in tex.splitlines() if not line.startswith("%")]
    assert [line for line in body if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert "hline" not in tex and r"\usepackage{booktabs}" in tex
    cells = {len(re.findall(r"(?<!\\)&", line)) for line in body if "&" in line}
    assert len(cells) == 1
    (shown,) = (line for line in body if line.startswith("a"))
    first = re.split(r"(?<!\\) & ", shown)[0]
    assert first == (
        r"a\_b \& 50\% \{x\} \$y\$ \textbackslash{}z \textasciitilde{} \textasciicircum{} \# a\textbar{}b "
        r"$<$i$>$c$<$/i$>$ *d* `e` [f](g)"
    )
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render((tmp_path / "a.scores.md").read_text())
    assert page.count("<td") == 3 * 12  # no cell more or less
    assert "a_b &amp; 50% {x} $y$ \\z ~ ^ # a|b &lt;i&gt;c&lt;/i&gt; *d* `e` [f](g)</td>" in page
    assert page.startswith("<p><strong>CMU-MOSI: scores of the predictions given</strong></p>")


def test_the_page_s_commands_work_as_typed(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "your_predictions.md").read_text()
    code, commands = re.search(r"```python\n(.*?)```\n.*?```bash\n(.*?)```", page, re.DOTALL).groups()
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    first = commands.splitlines()[0].partition("#")[0].split()
    assert first[:3] == [".venv/bin/python", "-m", "finelib"]
    assert main.main(first[3:]) == 0
    assert "| mine |" in capsys.readouterr().out and (tmp_path / "mine.scores.tex").exists()
