"""All records as one data frame."""

import numpy as np
import pytest
from made_runs import LABEL, PREDICTION, write_run

from finelib import metrics
from finelib.runs import records


def test_one_row_a_record_with_what_it_holds(tmp_path):
    write_run(tmp_path, "FINE", 0)
    write_run(tmp_path, "MulT", 2, LABEL, parameters=5)
    write_run(tmp_path, "MulT", 3, failed="loss", timing={}, files={}, curves=[], parameters=None)
    table = records.frame(tmp_path)
    assert table.system.tolist() == ["FINE", "MulT", "MulT"] and table.seed.tolist() == [0, 2, 3]
    assert table["test.mae"].tolist()[:2] == [metrics.score("mosi", PREDICTION, LABEL)["mae"], 0]
    assert table["valid.f1_has_zero"][1] == 1 and np.isnan(table["test.corr"][2]) and table.failed[2] == "loss"
    assert table.seconds.tolist()[:2] == [90, 90] and table.epochs.tolist() == [2, 2, 0]
    assert table["train.lr"][0] == 1e-3 and table["data.scale"][0] == 1 and table["versions.torch"][0] == "2.13.0"
    assert table.modalities[0] == "T + A + V" and table.git_revision[0] == "a" * 40 and table.parameters[1] == 5
    assert table.groupby(["corpus", "system"])["test.corr"].mean()["mosi", "MulT"] == pytest.approx(1)
    assert table.id.tolist() == sorted(path.name for path in (tmp_path / "runs").iterdir())


def test_no_runs_and_a_damaged_one(tmp_path):
    assert len(records.frame(tmp_path)) == 0
    folder = write_run(tmp_path)
    (folder / "record.json").write_text(
        (folder / "record.json").read_text().replace("MulT", "x").replace("90.0", "9.0")
    )
    with pytest.raises(ValueError, match="found another content than was written"):
        records.frame(tmp_path)
