"""README's blocks, RESULTS.md and the picture above them, from results that are not the published ones."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from finelib.data.planted import FACTORS
from finelib.paper.findings import PUBLIC, VARIANT
from finelib.runs.options import ROOT
from finelib.study.equal_optima import GROUPS
from finelib.views import pages
from finelib.views.banner import NARROW, WIDE, banner
from finelib.views.style import BLUE, ORANGE

PUBLISHED = ROOT / pages.PUBLISHED


@pytest.fixture
def checkout(tmp_path):
    """A folder with the pages, and published tables as they are."""
    shutil.copytree(PUBLISHED, tmp_path / pages.PUBLISHED)
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def change(checkout, name, how):
    path = checkout / pages.PUBLISHED / f"{name}.json"
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def test_another_number_gives_another_readme_and_results(checkout):
    readme, results = (checkout / "README.md").read_text(), pages.results(checkout)
    assert pages.filled(readme, checkout) == readme

    def how(content):
        row = next(r for r in content["rows"] if r["name"] == "FINE" and r["data"] == "public")
        row["measured"]["corr"]["mean"] = 0.1234

    change(checkout, f"{PUBLIC}1", how)
    changed = pages.filled(readme, checkout)
    assert changed.count("0.123 [") == 2 and pages.results(checkout).count("0.123 [") == 1
    assert "0.123 [" not in readme + results


def test_a_block_that_nothing_makes_is_refused(checkout):
    with pytest.raises(FileNotFoundError, match="no_such"):
        pages.filled("<!-- no_such -->\n<!-- end -->", checkout)


def test_findings_lead_to_the_executed_notebook_where_there_is_one(checkout):
    folder = checkout / pages.PUBLISHED / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    assert "](notebooks/12_audit.ipynb)" in pages.findings_block(checkout)
    folder.mkdir()
    (folder / "12_audit.ipynb").touch()
    assert "](figures/published/notebooks/12_audit.ipynb)" in pages.findings_block(checkout)


def test_a_table_that_no_part_names_is_shown_too(checkout):
    for form in ("json", "md", "tex"):
        shutil.copy(PUBLISHED / f"table4.{form}", checkout / pages.PUBLISHED / f"another.{form}")
    text = pages.results(checkout)
    more = text.partition("## More tables")[2]
    assert "[another.json](figures/published/another.json)" in more and "](#more-tables)" in text


def test_what_is_not_published_is_left_out(checkout):
    for path in (checkout / pages.PUBLISHED).glob("*"):
        if path.is_file() and path.stem != "table2":
            path.unlink()
    text = pages.results(checkout)
    assert "## Tables 1 to 4" in text and "**Table 2.**" in text
    assert "Table 6" not in text and "The paper's claims" not in text and "](#real" not in text


def test_a_remark_goes_when_its_table_is_measured_again(checkout):
    (revision, remark), *_ = pages.REMARKS.items()
    name = "table4"
    change(checkout, name, lambda content: content["provenance"].update(git_revision=revision + "0" * 28))
    assert f"[{name}.json]({pages.PUBLISHED}/{name}.json). {remark}*" in pages.results(checkout)
    change(checkout, name, lambda content: content["provenance"].update(git_revision="f" * 40))
    assert f"[{name}.json]({pages.PUBLISHED}/{name}.json).*" in pages.results(checkout)


def test_a_number_and_its_spread_stay_on_a_line():
    assert pages._together("| 0.709 ± 0.016 | -0.1 [-0.2, +0.3] | a, 3 b |") == (
        "| 0.709 ±\u00a00.016 | -0.1 [-0.2,\u00a0+0.3] | a, 3 b |"
    )


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_picture_shows_the_model_and_who_holds_what(model, corpus, size):
    batch, r2 = corpus.batch(range(8), split="train"), np.random.default_rng(0).random((2, 6, 11)) - 0.1
    of_runs = {"FINE": {"shared_in_str": {"n": 4}}}
    leakage = {"FINE": r2[0].tolist(), VARIANT: r2[1].tolist()}
    groups = [" ".join(g) for g in GROUPS]
    figure = banner(
        model, batch, {"names": list(FACTORS), "groups": groups, "compared": of_runs, "leakage": leakage}, size
    )
    assert tuple(figure.get_size_inches()) == size and "4 runs" in figure.subfigs[1].get_suptitle()
    overview, *panels = figure.axes
    texts = [text.get_text() for text in overview.texts]
    for m in model.modalities:
        assert any(text.endswith("\n" + " × ".join(map(str, batch.features[m].shape[1:]))) for text in texts)
    assert texts.count(f"top {model.config.top_k} of {model.config.experts}\nQ-Formers") == len(model.modalities)
    columns = ["s", "ta", "tv", "av", "t", "a", "v", "r", "rt", "ra", "rv"]
    belongs = {"T STR": "s ta tv", "A STR": "s ta av", "V STR": "s tv av", "T UTR": "t", "A UTR": "a", "V UTR": "v"}
    for panel, system, matrix in zip(panels, ("FINE", VARIANT), r2, strict=True):
        (image,) = panel.images
        assert panel.get_title() == system and image.get_array().shape == (6, 11, 3)
        assert [label.get_text() for label in panel.get_xticklabels()] == ["shared", "unique", "noise"]
        for row, (group, mine) in enumerate(belongs.items()):
            for column, factor in enumerate(columns):
                share = max(0.0, matrix[groups.index(group), FACTORS.index(factor)])
                full = np.array(to_rgb(BLUE if factor in mine.split() else ORANGE))
                assert np.asarray(image.get_array())[row, column] == pytest.approx(1 - share * (1 - full))
    shown = [label.get_text() for label in panels[0].get_yticklabels()]
    assert shown == ["STR text", "STR audio", "STR video", "UTR text", "UTR audio", "UTR video"]


def test_the_picture_is_readable_on_every_screen():
    """A page shows 100 pixels of an inch at most: text of 7.6 points has 10.5 of them."""
    from finelib.views.banner import TEXT

    assert TEXT * 100 / 72 >= 10.5 and WIDE[0] * 100 <= 890 and NARROW[0] * 100 <= 360
