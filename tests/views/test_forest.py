"""Which rows of a table become a forest, and what its files hold."""

import pytest

from finelib.paper.table import Row, Table
from finelib.views import forest

FOUND = {"mean": -0.02, "low": -0.03, "high": -0.01, "p_holm": 0.01, "seeds": 3, "utterances": 100}


def row(name, block, data="planted", printed=None, differs=True):
    measured = None if printed else {"corr": {"mean": 0.7, "sd": 0.1, "low": 0.6, "high": 0.8, "n": 3}}
    differences = {metric: FOUND for metric in ("corr", "acc2_nonzero")} if differs and not printed else None
    return Row(name, "system", data, "", "", block, printed, measured, differences=differences)


PRINTED = [row(name, "printed", "printed", {"acc2_nonzero": v}) for name, v in (("w/o A", 0.85), ("FINE", 0.87))]
FIRST = [row("w/o A", "components"), row("FINE", "components", differs=False)]


def test_the_first_block_is_the_first_that_was_measured():
    other = [row("w/o A", "cues")]
    assert forest.first_block(Table(6, (*PRINTED, *FIRST, *other), ())) == FIRST
    assert forest.first_block(Table(6, tuple(PRINTED), ())) == []


def test_table_forest_shows_the_printed_gap_and_is_written(tmp_path):
    figure = forest.table_forest(Table(5, (*PRINTED, *FIRST), ()), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"table5_forest.{form}" for form in ("html", "pdf", "png")]
    (gap,) = [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_marker() == "D"]
    assert gap == pytest.approx(-2.0)
    mean = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert mean.get_xdata()[0] == -0.02 and mean.get_markerfacecolor() == mean.get_color()  # filled: p < .05


def test_nothing_measured_gives_no_forest(tmp_path):
    table = Table(6, tuple(PRINTED), ())
    assert forest.table_forest(table, tmp_path) is None and forest.component_forest(table, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_component_forest_has_the_other_blocks_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(forest.tables, "design_of", lambda row: row.block)
    table = Table(6, (*PRINTED, *FIRST, row("w/o MoQ", "cues"), row("FINE", "cues", differs=False)), ())
    figure = forest.component_forest(table, tmp_path)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["w/o MoQ: cues"]
    assert (tmp_path / "table6_components.png").exists()
