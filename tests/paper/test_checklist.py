"""The checklist says what the records say."""

import json

from made_runs import LABEL, write_run

from finelib import __main__ as main
from finelib.paper import checklist
from finelib.runs.options import Options
from finelib.views import closing

TIMES = {"device": "cpu", "peak_memory_mib": 700.4}


def answers(out):
    path = checklist.write_checklist(Options(out=out))
    lines = [line.strip("|").split(" | ") for line in path.read_text().splitlines() if line.startswith("| ")]
    return {line[0].strip(): line[1].strip() for line in lines if len(line) == 2}, path.read_text()


def test_counts_hours_and_bounds_by_hand(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "FINE", seed, timing=TIMES | {"seconds": 3600.0, "finished": "2026-01-02T03:04:05+00:00"})
    gpu = {"seconds": 1800.0, "finished": "2026-03-04T03:04:05+00:00", "device": "cuda:0"}
    write_run(tmp_path, "MulT", 7, parameters=2_000_000, timing=gpu, git_revision="b" * 40 + "+")
    write_run(tmp_path, "MulT", 8, failed="loss", timing={}, files={}, parameters=None)
    folder = write_run(tmp_path, "Old", 9)
    (folder / "record.json").write_text('{"checksum": "0", "of": "another version"}')
    found, _ = answers(tmp_path)
    assert found["Training runs"].startswith("4 of 2 rows ")
    assert "; 1 diverged; 1 more records cannot be read; " in found["Training runs"]
    assert found["Seeds"] == "0, 1, 7, 8; seeds a row: 2 (2 rows)"
    assert found["Time"] == (
        "2.50 hours of all finished runs, each by its own clock; a run 1800.0 to 3600.0 s; "
        "ended 2026-01-02 to 2026-03-04"
    )
    assert found["Hardware"].startswith(
        "cpu (2 runs), cuda:0 (1 runs); CPU threads a run: 1; memory of a process at most 700"
    )
    assert found["Trained numbers a model"] == "1,000 to 2,000,000"
    assert "aaaaaaaaaaaa (3 runs), bbbbbbbbbbbb+ (1 runs)" in found["Code"]
    assert found["Packages"] == "python 3.11.7, torch 2.13.0" and found["Search"].startswith("none by `--tune`")
    assert found["Choice of the epoch"] == "the one with the smallest MAE on the whole dev split (4 runs)"


def test_the_search_is_the_one_that_was_noted(tmp_path):
    write_run(tmp_path)
    (tmp_path / "figures").mkdir()
    tried = [{"chosen": rate == 1e-3, "dev_mae": 1.0, "lr": rate, "dropout": 0.1, "run": "a"} for rate in (1e-3, 3e-4)]
    tried[0]["loss"] = "l1"
    log = {"mosi, planted": {"FINE": tried, "MulT": tried[:1]}}
    (tmp_path / "figures" / "tuning.json").write_text(json.dumps(log))
    said = "mosi, planted: 2 systems, settings tried of each: 1, 2; lr 0.0003 to 0.001, dropout 0.1, loss l1; "
    assert answers(tmp_path)[0]["Search"].startswith(said)


def test_data_are_listed_once_and_without_the_folders_that_they_lie_in(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, seed=seed)
    write_run(tmp_path, source="/home/somebody/secret/mine.pkl", data="own", data_hash="x", label=LABEL)
    _, page = answers(tmp_path)
    assert "| CMU-MOSI, planted data | planted | 10 / 6 / 6 | planted | planted-data | 2 |" in page
    assert "| your file, read as CMU-MOSI | mine.pkl | 10 / 6 / 6 | planted | x | 1 |" in page
    assert "somebody" not in page and str(tmp_path) not in page


def test_by_a_command_and_not_without_records(tmp_path, capsys):
    assert main.main(["checklist", "--out", str(tmp_path)]) == 2
    assert "found no run record" in capsys.readouterr().err and not (tmp_path / "figures").exists()
    write_run(tmp_path)
    assert main.main(["checklist", "--out", str(tmp_path)]) == 0
    assert f"written: {tmp_path}/figures/checklist.md" in capsys.readouterr().out


def test_it_is_written_with_claims_and_report(tmp_path, monkeypatch):
    from finelib.views import report

    monkeypatch.setattr(report, "write_report", lambda options: None)
    write_run(tmp_path)
    options = Options(out=tmp_path)
    assert closing.write_pages(options) and (tmp_path / "figures" / "checklist.md").exists()
    assert not closing.write_pages(options)
    (tmp_path / "figures" / "checklist.md").unlink()
    assert closing.write_pages(options) and (tmp_path / "figures" / "checklist.md").exists()
