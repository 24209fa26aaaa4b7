"""The report, Figure 5 and the notebooks in a browser (Debian's Chromium): drawn, usable, accessible, off-line."""

import os
import re
import shutil
from dataclasses import replace

import in_jupyterlab
import nbformat
import pytest
import rendered
from in_chromium import ARGUMENTS, CHROMIUM, coloured, drag, hover_a_point, opened, serious, sync_api, until

from finelib.runs import experiment, presets
from finelib.runs.options import ROOT
from finelib.study import representations
from finelib.study.figure5 import pca, project
from finelib.views import figure5, figures

if CHROMIUM is None and os.environ.get("CI"):
    pytest.fail("CI needs a Chromium: apt-get install chromium", pytrace=False)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


# --------------------------------------------------------------------------------------------------- report


def test_report_sorts_by_keyboard(browser, results):
    with opened(browser, (results.figures / "report.html").as_uri()) as page:
        header = page.get_by_role("region", name="Table 2").get_by_role("button", name="Corr", exact=True)
        column = "#table2 + .scroll tbody:last-of-type tr td:nth-child(5)"

        def values():
            return [float(v) for v in page.locator(column).evaluate_all("cells => cells.map(c => c.dataset.value)")]

        before = values()
        header.focus()
        page.keyboard.press("Enter")
        assert values() == sorted(before, reverse=True)
        page.keyboard.press("Enter")
        assert values() == sorted(before) and len(before) >= 4
        assert page.locator("#table2 + .scroll tbody").first.locator("tr").first.inner_text() == "printed in the paper"


def test_report_shows_the_runs_behind_a_number(browser, results):
    with opened(browser, (results.figures / "report.html").as_uri()) as page:
        page.locator("button.value").first.click()
        dialog = page.get_by_role("dialog")
        assert dialog.locator("dl").count() == 2  # two seeds
        for said in ("data hash", "configuration", "versions", "torch"):
            assert said in dialog.inner_text()
        link = dialog.get_by_role("link").first.get_attribute("href")
        assert (results.figures / link).resolve().is_file()
        page.keyboard.press("Escape")
        assert not dialog.is_visible()


def test_the_second_best_can_be_told_from_what_opens_runs(browser, results):
    lines = "cells => [...new Set(cells.map(cell => getComputedStyle(cell).textDecorationStyle))]"
    with opened(browser, (results.figures / "report.html").as_uri()) as page:
        assert page.eval_on_selector_all("td.second button.value", lines) == ["solid"]
        assert page.eval_on_selector_all("td:not(.second) button.value", lines) == ["dotted"]


def test_report_in_light_and_dark(browser, results):
    with opened(browser, (results.figures / "report.html").as_uri(), color_scheme="light") as page:
        background = "() => getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(background) == "rgb(255, 255, 255)"
        assert serious(page) == []
        page.get_by_role("button", name="Dark").click()
        assert max(map(int, re.findall(r"\d+", page.evaluate(background)))) < 60
        assert serious(page) == []
    with opened(browser, (results.figures / "report.html").as_uri(), color_scheme="dark") as page:
        assert page.get_by_role("button", name="Light").is_visible()


@pytest.mark.parametrize("name", ["report", "figure5a", "figure5b"])
def test_pages_fit_a_phone(browser, results, name):
    with opened(browser, (results.figures / f"{name}.html").as_uri(), viewport={"width": 390, "height": 844}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_pictures_of_the_report_are_drawn(browser, results):
    with opened(browser, (results.figures / "report.html").as_uri()) as page:
        pictures = page.locator("figure img")
        assert pictures.count() >= 3  # Figures 3 and 5, training curves
        for i in range(pictures.count()):
            pictures.nth(i).scroll_into_view_if_needed()
            page.wait_for_function("i => document.querySelectorAll('figure img')[i].naturalWidth > 300", arg=i)
            assert pictures.nth(i).get_attribute("alt")
            assert coloured(pictures.nth(i).screenshot()) > 0.002


FIRST_SCREEN = {"width": 1280, "height": 800}


def in_first_screen(page, locator) -> bool:
    """Whether all of an element lies in the part of the page that is seen first, and is drawn."""
    box = locator.bounding_box()
    return bool(box) and box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


def test_first_screen_of_the_report_says_what_came_out(browser, results):
    with opened(browser, (results.figures / "report.html").as_uri(), viewport=FIRST_SCREEN) as page:
        first = page.locator("ol.findings li").first
        assert in_first_screen(page, first) and re.search(INTERVAL, first.inner_text())
        assert in_first_screen(page, page.get_by_role("region", name="In short"))
        thumbnail = page.locator(".thumbnails a").first
        assert in_first_screen(page, thumbnail) and coloured(thumbnail.screenshot()) > 0.002
        thumbnail.click()
        place = page.locator(thumbnail.get_attribute("href"))
        page.wait_for_function("place => Math.abs(place.getBoundingClientRect().top) < 300", arg=place.element_handle())


# ------------------------------------------------------------------------------------- README and RESULTS.md

INTERVAL = r"[-+]?\d\.\d+ \[[-+]?\d\.\d+, [-+]?\d\.\d+\]"


@pytest.fixture(scope="module")
def rendered_pages(tmp_path_factory):
    """A folder with the repository's pages as GitHub shows them, and the pictures they name."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "figures").symlink_to(ROOT / "figures")
    for name in ("README", "RESULTS"):
        (folder / f"{name}.html").write_text(rendered.as_on_github((ROOT / f"{name}.md").read_text()))
    return folder


def test_first_screen_of_readme_says_what_it_is_what_came_out_and_what_to_run(browser, rendered_pages):
    with opened(browser, (rendered_pages / "README.html").as_uri(), viewport=FIRST_SCREEN) as page:
        assert in_first_screen(page, page.get_by_text("predicts sentiment from text, audio and video"))
        picture = page.locator("picture img")
        assert in_first_screen(page, picture) and coloured(picture.screenshot()) > 0.002
        found = page.locator("article > ol li")
        assert found.count() == 5
        for i in range(5):
            assert in_first_screen(page, found.nth(i)) and re.search(INTERVAL, found.nth(i).inner_text())
        command = page.locator("pre").first
        assert in_first_screen(page, command) and command.inner_text().startswith("./run_all.sh ")


@pytest.mark.parametrize("name", ["README", "RESULTS"])
def test_pages_of_the_repository_fit_a_phone_and_show_their_pictures(browser, rendered_pages, name):
    url = (rendered_pages / f"{name}.html").as_uri()
    with opened(browser, url, viewport={"width": 390, "height": 844}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        pictures = page.locator("img")
        widths = pictures.evaluate_all("all => all.map(picture => picture.naturalWidth)")
        assert len(widths) >= 1 and min(widths) > 300
        assert all(pictures.evaluate_all("all => all.map(picture => picture.alt)"))
        if name == "README":  # the form of the picture that is made for it, not the wide one made small
            assert pictures.first.evaluate("picture => picture.currentSrc").endswith("banner_narrow.png")


# -------------------------------------------------------------------------------------------------- Figure 5


@pytest.mark.parametrize("panel", ["a", "b"])
def test_figure_5_turns_answers_and_selects(browser, results, panel):
    url = (results.figures / f"figure5{panel}.html").as_uri()
    with opened(browser, url, viewport={"width": 1100, "height": 700}) as page:
        page.wait_for_selector("body[data-ready=yes]")
        cloud = page.locator("#cloud")
        until(page, lambda: coloured(cloud.screenshot()) > 0.001, "the cloud is empty")
        camera = "() => JSON.stringify(document.getElementById('cloud')._fullLayout.scene._scene.getCamera())"
        before = page.evaluate(camera)
        drag(page, cloud.bounding_box(), 160, 60)
        until(page, lambda: page.evaluate(camera) != before, "the cloud does not turn")
        assert re.search(r"label .*prediction", hover_a_point(page, cloud), re.DOTALL)
        plane = page.locator("#plane").bounding_box()
        page.mouse.move(plane["x"] + plane["width"] * 0.25, plane["y"] + 20)
        page.mouse.down()
        page.mouse.move(plane["x"] + plane["width"] * 0.9, plane["y"] + plane["height"] * 0.8, steps=8)
        page.mouse.up()
        page.wait_for_function("document.getElementById('said').textContent.includes('selected')")
        chosen = int(page.locator("#said").inner_text().split()[0])
        drawn = page.evaluate("document.getElementById('cloud').data.at(-1).x.filter(x => x !== null).length")
        assert drawn == chosen * (1 if panel == "a" else 6)
        page.get_by_role("button", name="Clear selection").click()
        assert page.evaluate("document.getElementById('cloud').data.every(trace => trace.name !== 'selected')")
        assert serious(page) == []


HOSTILE = (
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "</script><script>window.ran = 1</script>",
    "&lt;b&gt; <b>bold</b> %{x} {{ 7 * 7 }} ${1}",
    '\'" onmouseover="window.ran = 1',
    "שלום עולם \u202e מימין",
    "🎬👩‍👩‍👧‍👦 e\u0301",
    "<a href='javascript:window.ran=1'>click</a>",
    "x" * 100_000,
)


def test_text_of_utterances_is_shown_as_text(browser, results, tmp_path):
    """In Figure 5's page and in a notebook's table: nothing runs, nothing is markup, nothing is endless."""
    specs = presets.figure5_specs(results)[:1]
    (record,) = experiment.run(specs, results.out)
    features = representations.extract(record, specs[0])
    projections = dict.fromkeys(("UMAP", "PCA"), project(features, pca))
    figure = figure5.Figure5(experiment.load_corpus(specs[0].data), record, features, projections, {})
    test = figure.corpus.splits["test"]
    texts = [HOSTILE[i % len(HOSTILE)] for i in range(len(test))]
    hostile = replace(test, text=texts, ids=[f"{text[:60]} {i}" for i, text in enumerate(texts)])
    corpus = replace(figure.corpus, splits={**figure.corpus.splits, "test": hostile})
    html = figure5.page(replace(figure, corpus=corpus), "a")
    assert len(html) < 15e6
    (tmp_path / "figure5a.html").write_text(html)
    with opened(browser, (tmp_path / "figure5a.html").as_uri(), viewport={"width": 1100, "height": 700}) as page:
        page.wait_for_selector("body[data-ready=yes]")
        until(page, lambda: coloured(page.locator("#plane").screenshot()) > 0.001, "the plane is empty")
        for i in range(len(HOSTILE)):  # what plotly draws of each
            page.evaluate("i => Plotly.Fx.hover('plane', [{ curveNumber: 0, pointNumber: i }])", i)
            page.wait_for_function(
                "text => document.querySelector('#plane .hovertext')?.textContent.includes(text)", arg=HOSTILE[i][:30]
            )
        assert page.locator("#plane .hovertext a").count() == 0
        assert page.evaluate("window.ran") is None
    table = figures.worst_errors(figure.record, corpus, len(HOSTILE))
    tables = table.to_html() + table.style.format(precision=2, escape="html").to_html()
    (tmp_path / "table.html").write_text(f"<meta charset=utf-8>{tables}")
    with opened(browser, (tmp_path / "table.html").as_uri()) as page:
        seen = page.locator("table").last.inner_text()
        assert any(text[:40] in seen for text in HOSTILE[:2]) and len(seen) < 20_000
        assert page.evaluate("window.ran") is None and page.locator("td img, td b, td a, td script").count() == 0


def test_figure_5_switches_projection_and_colour(browser, results):
    with opened(browser, (results.figures / "figure5b.html").as_uri()) as page:
        page.wait_for_selector("body[data-ready=yes]")
        first = "() => document.getElementById('cloud').data[0].x[0]"
        umap = page.evaluate(first)
        page.get_by_label("Projection").select_option("PCA")
        assert page.evaluate(first) != umap
        assert page.evaluate("document.getElementById('cloud').data.length") == 6
        page.get_by_label("Colour").select_option("label")
        assert isinstance(page.evaluate("document.getElementById('cloud').data[0].marker.color"), list)


# ------------------------------------------------------------------------------------------------ JupyterLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory, results):
    """Address of a JupyterLab on a copy of the first notebook, set to the smoke preset, and on one that shows Figure 5.

    It shows the pages that were written: ``09_figure_5``, which makes them, is executed with every smoke preset.
    """
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(results.out, home / "results")
    (home / "finelib").symlink_to(ROOT / "finelib")
    (home / "notebooks").mkdir()
    notebook = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", 4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    cell.source += f'\npreset = "smoke"\nout = {str(home / "results")!r}'
    nbformat.write(notebook, home / "notebooks" / "00_start_here.ipynb")
    page = results.figures / "figure5a.html"
    shown = f"from pathlib import Path\nfrom finelib.views.figure5 import Page\nPage(Path({str(page)!r}).read_text())"
    notebook.cells = [notebook.cells[1], nbformat.v4.new_code_cell(shown)]  # after the set-up
    nbformat.write(notebook, home / "notebooks" / "figure_5.ipynb")
    with in_jupyterlab.started(home) as address:
        yield address


def test_start_here_runs_in_jupyterlab_and_the_explorer_answers(browser, lab):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    in_jupyterlab.run_all_cells(page, lab, "00_start_here")
    picture = page.locator("img.widget-image").last
    picture.scroll_into_view_if_needed()
    picture.wait_for(timeout=30_000)
    assert coloured(picture.screenshot()) > 0.05
    before = picture.get_attribute("src")
    page.get_by_role("button", name="text", exact=True).click()
    page.wait_for_function(
        "before => { const all = document.querySelectorAll('img.widget-image');"
        " return all.length && all[all.length - 1].src !== before; }",
        arg=before,
        timeout=60_000,
    )
    page.close()


def test_figure_5_turns_and_answers_in_jupyterlab(browser, lab):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    in_jupyterlab.run_all_cells(page, lab, "figure_5")
    element = page.locator("iframe[title='interactive Figure 5']").first
    element.scroll_into_view_if_needed()
    frame = page.frame_locator("iframe[title='interactive Figure 5']").first
    cloud = frame.locator("#cloud")
    cloud.wait_for(timeout=60_000)
    until(page, lambda: coloured(cloud.screenshot()) > 0.001, "the cloud is empty")
    camera = "e => JSON.stringify(e._fullLayout.scene._scene.getCamera())"
    before = cloud.evaluate(camera)
    drag(page, cloud.bounding_box(), 120, 40)
    until(page, lambda: cloud.evaluate(camera) != before, "the cloud does not turn")
    assert "prediction" in hover_a_point(page, cloud)
    page.close()
