"""``run_all.sh --source`` of somebody's own corpus: its tables, and nothing of the paper's beside them."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

import finelib
from finelib import __main__ as main
from finelib import metrics
from finelib.baselines import SYSTEMS
from finelib.baselines.references import PENALTIES
from finelib.data import own
from finelib.paper import comparisons, own_corpus
from finelib.paper.table import read
from finelib.runs.options import ROOT, Options
from finelib.runs.records import all_records
from finelib.views import report

SPLIT = ["train"] * 24 + ["valid"] * 8 + ["test"] * 8


def write(path, modalities=("audio", "vision")):
    rng = np.random.default_rng(0)
    label = rng.uniform(1, 5, len(SPLIT)).round(1)
    frames = {m: rng.normal(size=(len(SPLIT), 3, 4)) + label[:, None, None] for m in modalities}
    np.savez(path, label=label, split=SPLIT, **frames)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Options after a whole call, two seeds of two epochs."""
    folder = tmp_path_factory.mktemp("own")
    path = write(folder / "mine.npz")
    words = ["--source", str(path), "--preset", "smoke", "--jobs", "1", "--out", str(folder / "out")]
    words += ["--systems", "LF-DNN,MAG-BERT"]
    assert main.main(words) == 0
    return words, main.parse(words)[0]


def test_rows_are_what_fit_and_sklearn_give(made):
    options = made[1]
    table = read(options.figures / "own_systems.json")
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["FINE", "LF-DNN", "ridge (A + V)", "floor (constant)"]
    assert table.subject == "Own corpus mine.npz: systems" and table.head == ""
    assert table.metrics["acc2_has_zero"] == "ACC-2 (has-zero)"  # as labels from -2 to 2, which 1 to 5 are held as
    assert [note for note in table.notes if note.endswith("were not asked for: " + others() + ".")]
    corpus = finelib.load(options.source)
    test = corpus.splits["test"]
    each = []
    for seed in (0, 1):
        model = finelib.fit("FINE", corpus, finelib.TrainConfig(epochs=2), seed=seed)
        each.append(metrics.score("mosi", finelib.predict(model, test), test.label))
    for metric in ("mae", "corr", "acc7"):
        assert rows["FINE"].value(metric) == pytest.approx(np.mean([scores[metric] for scores in each]), abs=1e-6)
    pooled = {s: np.concatenate([f.mean() for f in split.frames.values()], 1) for s, split in corpus.splits.items()}
    scaler = StandardScaler().fit(pooled["train"])
    ridge = RidgeCV(PENALTIES).fit(scaler.transform(pooled["train"]), corpus.splits["train"].label)
    error = np.abs(ridge.predict(scaler.transform(pooled["test"])) - test.label).mean()
    assert rows["ridge (A + V)"].value("mae") == pytest.approx(error, abs=1e-5)
    assert all(rows[name].differences for name in rows if name != "FINE")


def test_words_that_no_two_texts_share_cost_a_row_and_not_the_table(tmp_path):
    path = write(tmp_path / "mine.npz")
    with np.load(path) as held:
        np.savez(path, **held, raw_text=[f"word{i}" for i in range(len(SPLIT))], text=held["audio"])
    found = comparisons.references_of(finelib.load(path))
    assert list(found) == ["ridge (T + A + V)", "ridge (T)", "floor (constant)"]


def others() -> str:
    return ", ".join(name for name in SYSTEMS if name != "LF-DNN")


def test_subsets_end_with_the_runs_of_all_modalities(made):
    options = made[1]
    systems, subsets = (read(options.figures / f"{name}.json") for name in own_corpus.SUBJECTS)
    assert [row.name for row in subsets.rows if row.kind == "system"] == ["V", "A", "V + A"]
    assert subsets.rows[2].runs == systems.rows[0].runs and set(subsets.rows[0].extra) >= {"ridge Corr"}


def test_nothing_of_the_paper_stands_beside_them(made):
    options = made[1]
    assert not [path for stem in ("table", "claims") for path in options.figures.glob(f"{stem}*")]
    page = (options.figures / "report.html").read_text()
    assert all(f'id="{name}"' in page and f'href="#{name}"' in page for name in own_corpus.SUBJECTS)
    assert '<h2 id="own_systems">Own corpus mine.npz: systems' in page and "Table 0" not in page
    assert "<h1>Own corpus mine.npz: what was run</h1>" in page
    unseen = r"<style.*?</style>|<script.*?</script>|<footer.*?</footer>|data:image[^\"]*"
    seen = re.sub(unseen, "", page, flags=re.DOTALL)
    for word in ("printed", "claim", "planted", "What came out", "NCE-CLUB", "read as own corpus"):
        assert word not in seen.lower() and word not in seen, word


def test_its_report_shows_differences_and_costs(made):
    options = made[1]
    page = (options.figures / "report.html").read_text()
    for name in own_corpus.PICTURES:
        assert (options.figures / f"{name}.png").exists() and f'<h3 id="{name}">' in page
    assert 'href="own_systems_forest.html"' in page and 'id="curves-own_systems-0"' in page


def test_a_report_of_the_own_corpus_leaves_the_paper_s_tables_out(made, tmp_path):
    """Of a folder where both were made."""
    figures = tmp_path / "figures"
    shutil.copytree(made[1].figures, figures)
    for name in ("table1.json", "claims.json", "audit.png"):
        shutil.copy(ROOT / "figures" / "published" / name, figures)
    own_page = report.write_report(replace(made[1], out=tmp_path)).read_text()
    page = report.write_report(Options(out=tmp_path)).read_text()
    of_the_paper = ("table1", "claims", "audit", "findings")
    assert 'id="own_systems"' in own_page and not [i for i in of_the_paper if f'id="{i}"' in own_page]
    assert all(f'id="{i}"' in page for i in ("own_systems", *of_the_paper))


def test_a_second_call_trains_nothing(made, capsys):
    assert main.main(made[0]) == 0
    assert "8 of 8 training runs" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------- score


def exported(options, path):
    """Test predictions of LF-DNN's runs, as somebody would write them into a file."""
    parts = []
    for record in all_records(options.out / "runs", "own-LF_DNN-*"):
        held = record.predictions()
        parts.append(pd.DataFrame({"id": held["test_ids"], "prediction": held["test"], "seed": record.seed}))
    found = pd.concat(parts)
    found.to_csv(path, index=False)
    return found


def test_predictions_of_an_own_corpus_score_as_in_its_table(made, tmp_path, capsys):
    options, path = made[1], tmp_path / "theirs.csv"
    exported(options, path)
    command = ["score", str(path), "--corpus", options.source, "--against", "FINE", "--out", str(options.out)]
    assert main.main(command) == 0
    table, scored = read(options.figures / "own_systems.json"), read(tmp_path / "theirs.scores.json")
    expected, found = ({row.name: row for row in each.rows} for each in (table, scored))
    assert found["theirs"].measured == expected["LF-DNN"].measured
    assert found["FINE"].measured == expected["FINE"].measured and found["FINE"].runs == expected["FINE"].runs
    for metric, difference in found["theirs"].differences.items():
        assert difference["mean"] == expected["LF-DNN"].differences[metric]["mean"]
    said = capsys.readouterr().out
    assert "Scored against own corpus mine.npz, 8 test utterances (source mine.npz)." in said
    assert "label range 1 to 5, from the training labels, held as -2 to 2" in said
    alone = ["score", str(path), "--corpus", "own", "--source", options.source]
    assert main.main(alone) == 0 and "theirs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.iloc[1:], "found 1 of 16 missing ('"),
        (
            lambda f: f.assign(id=["train_0", *f.id[1:]]),
            "found 1 ids of no test utterance, 1 of them of train or valid",
        ),
        (lambda f: f.assign(prediction=f.prediction + 3), "expected them from -2 to 2, as finelib.load holds labels"),
    ],
)
def test_predictions_of_other_utterances_or_on_another_scale_are_refused(made, tmp_path, capsys, change, says):
    options, path = made[1], tmp_path / "theirs.csv"
    change(exported(options, path)).to_csv(path, index=False)
    assert main.main(["score", str(path), "--corpus", options.source]) == 2
    said = capsys.readouterr().err
    assert said.startswith("score: ") and said.count("\n") == 1 and says in said


def test_a_file_that_has_changed_since_a_run_is_not_scored_beside_it(made, tmp_path, capsys):
    options = made[1]
    path = write(tmp_path / "mine.npz")
    with np.load(path) as held:
        arrays = dict(held)
    np.savez(path, **arrays | {"label": arrays["label"][::-1]})
    record = all_records(options.out / "runs", "own-FINE-*")[0]
    assert main.main(["score", str(record.folder), "--corpus", str(path), "--out", str(tmp_path)]) == 2
    assert "found other test utterances or labels than mine.npz has now, expected" in capsys.readouterr().err


@pytest.mark.parametrize("corpus", ["mossi", "no/where.npz", "own"])
def test_an_unknown_corpus_is_one_sentence(corpus, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("id,prediction\na,1\n")
    assert main.main(["score", str(tmp_path / "a.csv"), "--corpus", corpus]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("score: ") and "expected" in said


# ------------------------------------------------------------------------------------------------ what there is


def test_one_modality_has_no_subsets_and_a_wrong_name_is_refused(tmp_path, capsys):
    options = Options(source=str(write(tmp_path / "mine.npz", ("audio",))), preset="smoke", out=tmp_path)
    assert list(main.results(options)) == ["own_systems"]
    assert main.main(["--source", options.source, "--only", "table1", "--out", str(tmp_path)]) == 2
    assert "--only table1: unknown, expected one of own_systems\n" in capsys.readouterr().err


def test_which_sources_are_own_corpora(tmp_path):
    for name in ("a.npz", "a.csv", "a.h5", "a.pkl", "a.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in sorted(tmp_path.iterdir()) if own.is_source(p)] == ["a.csv", "a.h5", "a.npz"]
    assert not own.is_source(tmp_path) and not own.is_source("planted")
    (tmp_path / "clips.csv").write_text("file\n")
    assert own.is_source(tmp_path)
