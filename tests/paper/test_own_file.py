"""A file that is not the published one, from the table to the claims page: never called the licensed corpus."""

import json
from dataclasses import replace

import pytest
from make_files import dump, mmsa_content, read_here, write_mmsa

from finelib import __main__ as main
from finelib.config import FineConfig
from finelib.data import conversion, store
from finelib.data.corpora import ALL_CORPORA, CORPORA
from finelib.paper import claims, claims_measured, tables
from finelib.paper.table import read
from finelib.paper.verdict import NOT_RUN
from finelib.runs.options import Options
from finelib.runs.records import read_record
from finelib.views import report

SMALL = FineConfig(width=(8, 8, 8), task_width=8, heads=2, critic_width=8, label_width=4)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Table 2 of a small file in CMU-MOSI's form with labels in 0..1, FINE alone; its claims and its report."""
    out, patch = tmp_path_factory.mktemp("own"), pytest.MonkeyPatch()
    patch.setenv("FINE_CACHE", str(out / "cache"))
    read_here(patch)
    patch.setattr(tables.presets, "FineConfig", lambda: SMALL)
    patch.setattr(tables.presets, "compared_specs", lambda *_: [])
    content = mmsa_content(replace(CORPORA["mosi"], max_frames=(4, 4, 4), label_low=0.0, label_high=1.0))
    path = dump(content, out / "features.pkl")
    options = Options(preset="smoke", source=str(path), n_seeds=1, out=out, jobs=1)
    assert list(main.select(options, "table2")) == ["table2"]
    table = tables.build_table(2, options)
    claims.write_claims(options)
    yield options, table, report.write_report(options).read_text()
    patch.undo()


def test_rows_blocks_and_every_form_say_your_file(built):
    options, table, _ = built
    (rows,) = table.measured
    assert {row.data for row in rows} == {"own"}
    assert rows[0].block.startswith(
        "measured on your file, text by bert-base-uncased, T + A + V, 12 / 6 / 6 utterances"
    )
    for form in ("md", "tex", "html", "json", "csv"):
        text = (options.figures / f"table2.{form}").read_text()
        assert "your file" in text and "licensed" not in text


def test_what_must_be_known_stands_under_the_table_in_the_record_and_in_the_report(built):
    options, table, page = built
    said = "labels span [0, 1], CMU-MOSEI's run from -3 to 3"
    record = read_record(options.out / "runs" / table.measured[0][0].runs[0])
    assert record.data == "own" and record.notes[0].startswith("your file, not the published CMU-MOSEI (16326 / ")
    assert record.notes[1] == said == json.loads((record.folder / "record.json").read_text())["notes"][1]
    assert f"your file, read as CMU-MOSEI: {said}." in table.notes == read(options.figures / "table2.json").notes
    assert any(note.startswith("Your file is not the published one") for note in table.notes)
    assert f"<li>your file, read as CMU-MOSEI: {said.replace(chr(39), '&#39;')}</li>" in page
    assert page.count("<td>your file, read as CMU-MOSEI</td>") == 1


def test_no_claim_is_judged_by_it(built):
    options, _, _ = built
    content = json.loads((options.figures / "claims.json").read_text())["claims"]
    assert {c["verdicts"][kind] for c in content for kind in ("planted", "files", *ALL_CORPORA)} == {NOT_RUN}
    behind = {c["id"]: c["behind"]["files"]["says"] for c in content}
    said = "Table 2 has been measured on your file alone, which is not the licensed one"
    assert behind["best_mosei"] == said and behind["best_mosi"] == "Table 1 has not been measured"


def test_rows_of_the_licensed_files_are_judged(built, tmp_path):
    """The same table, had it been measured on the licensed files: the verdict is one of the others."""
    options, table, _ = built
    rows = [replace(row, data="files") if row.data == "own" else row for row in table.rows]
    for kind, judged in (("files", True), ("own", False)):
        as_kind = [replace(row, data=kind) if row.data == "files" else row for row in rows]
        tables.write(replace(table, rows=tuple(as_kind)), tmp_path / "figures")
        found = claims_measured.best(claims_measured.Results(Options(out=tmp_path), "files"), [2])
        assert (found.verdict != NOT_RUN) == judged


# One file, several tables


def small(path, made_as):
    return dump(mmsa_content(replace(CORPORA[made_as], max_frames=(4, 4, 4))), path)


@pytest.mark.parametrize(
    ("made_as", "only", "table", "left_out"),
    [
        ("mosi", None, "table1", ["CMU-MOSEI", "CH-SIMS"]),
        ("mosei", None, "table2", ["CMU-MOSI", "CH-SIMS"]),
        ("ch_sims", None, "table4", ["CMU-MOSI", "CMU-MOSEI"]),
        ("mosi", "table2", "table2", []),
    ],
)
def test_a_file_gives_the_results_of_one_corpus_and_the_rest_is_said(
    tmp_path, monkeypatch, capsys, made_as, only, table, left_out
):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)
    path = small(tmp_path / "features.pkl", made_as)
    chosen = main.select(Options(source=str(path)), only)
    assert [name for name in chosen if name in ("table1", "table2", "table3", "table4")] == [table]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run_all.sh: left out: ")]
    assert len(said) == len(left_out) + (only is None)  # UR-FUNNY is a folder
    for title in left_out:
        assert sum(f"left out: {title}: {path} serves one corpus, here" in line for line in said) == 1


def test_a_file_that_is_another_corpus_s_gives_nothing_for_this_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)
    path = small(tmp_path / "features.pkl", "mosi")
    monkeypatch.setitem(CORPORA["mosi"].files, "MOSI/Processed/unaligned_50.pkl", store.file_sha256(path))
    monkeypatch.setattr(conversion, "_read", None)  # refused by its checksum, unread
    with pytest.raises(
        main.Usage, match="table2: its data cannot be had from .*published file of CMU-MOSI .*CMU-MOSEI"
    ):
        main.select(Options(source=str(path)), "table2")


def test_in_a_folder_each_file_is_judged_by_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    read_here(monkeypatch)
    path = write_mmsa(tmp_path, "mosi")
    wrong = write_mmsa(tmp_path, "mosei")
    wrong.write_bytes(path.read_bytes())
    monkeypatch.setitem(CORPORA["mosi"].files, "MOSI/Processed/unaligned_50.pkl", store.file_sha256(path))
    chosen = main.select(Options(source=str(tmp_path)), None)
    assert "table1" in chosen and "table2" not in chosen
    assert f"left out: {wrong}: found the published file of CMU-MOSI (by its checksum)" in capsys.readouterr().err
