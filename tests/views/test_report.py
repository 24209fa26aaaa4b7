"""The report against the tables and records it is made of."""

import html
import json
import re
import shutil

import pytest

from finelib.paper.findings import findings, in_short
from finelib.paper.table import BEYOND_THE_PAPER, COLUMNS, read
from finelib.runs.options import Options
from finelib.runs.records import read_record
from finelib.views import report


@pytest.fixture(scope="module")
def page(results):
    return (results.figures / "report.html").read_text()


def test_every_measured_cell_leads_to_its_runs(page, results):
    runs = json.loads(re.search(r'id="content">(.*?)</script>', page, re.DOTALL)[1])
    table = read(results.figures / "table2.json")
    fine = next(row for row in table.rows if row.runs and row.name == "FINE")
    cells = re.findall(r'data-runs="([\d ]+)" data-what="FINE, ([^"]*)"', page)
    assert len(cells) == len(COLUMNS[2] | BEYOND_THE_PAPER)
    for places, _ in cells:
        assert tuple(runs[int(i)]["id"] for i in places.split()) == fine.runs
    for run in runs:
        record = read_record(results.out / "runs" / run["id"])
        assert run["corr"] == round(record.test["corr"], 4) and run["config_hash"] == record.config_hash[:12]
        assert (results.figures / run["record"]).resolve() == (record.folder / "record.json").resolve()


def test_values_shown_are_the_tables(page, results):
    table = read(results.figures / "table2.json")
    for row in table.rows:
        assert row.name in page
        if row.value("corr") is not None:
            assert f'data-value="{row.value("corr")}"' in page


def test_says_what_the_data_are(page):
    assert "measured on planted data (generated)" in page and "printed in the paper" in page


def test_what_came_out_stands_before_what_was_run(page, results):
    first = page.partition('id="run"')[0]
    said = html.unescape(first)
    for finding in findings(results.figures):
        assert f"<b>{finding.title}.</b> {finding.says}" in said
    (line,) = in_short(results.figures)
    assert all(f"<td>{cell}</td>" in first for cell in line)
    shown = re.findall(r'data-of="(\w+)"', first)
    assert "figure5" in shown and all(f'<h3 id="{anchor}">' in page for anchor in shown)
    assert set(report.THUMBNAILS) <= set(report.TITLES)


def test_empty_folder_gives_a_page_that_says_so(tmp_path):
    path = report.write_report(Options(preset="smoke", out=tmp_path))
    assert "No table has been built" in path.read_text()


def test_deleted_record_leaves_the_table(results, tmp_path):
    shutil.copytree(results.figures, tmp_path / "figures")
    path = report.write_report(Options(preset="smoke", out=tmp_path))
    assert 'data-runs="' not in path.read_text() and "Table 2" in path.read_text()


def test_broken_table_is_named(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "table1.json").write_text('{"rows": 3}')
    with pytest.raises(ValueError, match="table1.json: not a table"):
        report.write_report(Options(preset="smoke", out=tmp_path))


def test_hostile_names_stay_text(results, tmp_path):
    (tmp_path / "figures").mkdir()
    content = json.loads((results.figures / "table2.json").read_text())
    content["rows"][0]["name"] = "<script>alert(1)</script>"
    content["rows"][0]["block"] = '"><img src=x onerror=alert(1)>'
    (tmp_path / "figures" / "table2.json").write_text(json.dumps(content))
    (tmp_path / "figures" / "figure5.png").write_bytes((results.figures / "figure5.png").read_bytes())
    (tmp_path / "figures" / "figure5.md").write_text("<script>alert(2)</script> **bold**")
    text = report.write_report(Options(preset="smoke", out=tmp_path)).read_text()
    assert "<script>alert" not in text and "<img src=x" not in text and "<strong>bold</strong>" in text
