"""The site, built once from a few small executed notebooks, and looked at in a browser (Debian's Chromium)."""

import base64
import json
import os
import re
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import finelib
from finelib.runs.options import ROOT, Options, parse
from finelib.views import site
from finelib.views.figure5 import Page

for package in ("sphinx", "myst_nb", "pydata_sphinx_theme"):
    pytest.importorskip(package, reason='pip install "finelib[docs]"')
sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
if CHROMIUM is None and os.environ.get("CI"):
    pytest.fail("CI needs a Chromium: apt-get install chromium", pytrace=False)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")

SENTENCE = "nobody asked whether this was said aloud"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVQI12P4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
WIDE = (
    "<table><caption>a wide one</caption><thead><tr>"
    + "".join(f"<th>column {i}</th>" for i in range(40))
    + "</tr></thead></table>"
)
WIDGET = {"model_id": "a", "version_major": 2, "version_minor": 0}
PAGES = ("index", "run", "claims", "docs/notebooks", "notebooks/01_small", "data/README", "docs/api")
MODULE = "docs/modules/finelib.mutual_information"


# ------------------------------------------------------------------------------------------------ what is built


def shown(data: dict) -> nbformat.NotebookNode:
    return new_output("display_data", data)


def code(source: str, *outputs, tags=()):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)}, execution_count=1)


def write(folder: Path, name: str, cells: list, **parameters) -> None:
    notebook = new_notebook(cells=cells, metadata={"papermill": {"parameters": parameters}})
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")


def frame() -> str:
    return Page(go.Figure(go.Scatter(x=[1, 2], y=[2, 1])).to_html(include_plotlyjs=True))._repr_html_()


def finished_run(out: Path) -> Options:
    """An output folder as a run leaves it, with what a notebook can hold."""
    notebooks, figures = out / "runs" / "notebooks", out / "figures"
    notebooks.mkdir(parents=True)
    figures.mkdir()
    links = (
        "[Source](../finelib/plain.py), [front](../README.md), [nothing](../none/here.txt), [data](../data/README.md)."
    )
    links += " ![badge](https://example.org/b.svg)"
    formulas = "Inline $I_{uni}$, and alone:\n\n$$I = \\mathbb{E}\\Big[\\frac{a}{b}\\Big] \\tag{7}$$"
    cells = [
        new_markdown_cell(f"# A small notebook\n\nOf the bound NCE-CLUB. {links}\n\n{formulas}"),
        code("import hidden_away", tags=["setup", "hide-input"]),
        code("# Parameters\nout = None", tags=["parameters"]),
        code(f"# Parameters\nout = {str(out)!r}", tags=["injected-parameters"]),
        new_markdown_cell("## The `picture`"),
        code("draw()", shown({"image/png": PIXEL, "text/plain": "<Figure>"})),
        code("table", shown({"text/html": WIDE, "text/plain": "a table"})),
        code("bar()", shown({site.WIDGET: WIDGET, "text/plain": "training:   0%|          | 0/3"})),
        code("explorer()", shown({site.WIDGET: WIDGET, "text/plain": "VBox(children=())"})),
        code("warn()", new_output("stream", name="stderr", text="a warning from below")),
        code("page_a", shown({"text/html": frame(), "text/plain": "Page()"})),
        code("page_b", shown({"text/html": frame(), "text/plain": "Page()"})),
    ]
    write(notebooks, "01_small", cells, out=str(out), source="planted")
    worst = f"<table><thead><tr><th>id</th><th>text</th></tr></thead><tr><td>a1</td><td>{SENTENCE}</td></tr></table>"
    scores = "<table><thead><tr><th>metric</th></tr></thead><tr><td>corr of people 0.125</td></tr></table>"
    tables = [shown({"text/html": html, "text/plain": worst}) for html in (worst, scores)]
    write(notebooks, "06_people", [new_markdown_cell("# People"), code('use(source="public")', *tables)])
    write(
        notebooks,
        "03_corpus_mosi",
        [new_markdown_cell("# Left out"), code("x", shown({"text/plain": SENTENCE}))],
        source="public",
    )
    (figures / "table2.md").write_text("**Table 2.** x\n\n| Model | ACC-2 |\n|---|---:|\n| FINE | 77.5 |\n")
    (figures / "claims.md").write_text(
        "# Claims\n\n| claim | printed tables |\n|---|---|\n| FINE is best | **holds** |\n"
    )
    (figures / "table6_forest.png").write_bytes(base64.b64decode(PIXEL))
    go.Figure(go.Bar(y=[1])).write_html(figures / "table6_forest.html", include_plotlyjs=True)
    return Options(out=out)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The options of a finished run whose site has been built, with what was said meanwhile."""
    options = finished_run(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(site.sys.stderr, "write", said.append)
        assert site.build_site(options) == options.out / "site" / "index.html"
    return options, "".join(said)


@pytest.fixture(scope="module")
def folder(built):
    return built[0].out / "site"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="ignore")


def everything(folder: Path) -> dict[Path, str]:
    return {path: read(path) for path in folder.rglob("*") if path.is_file()}


def test_sphinx_has_nothing_to_complain_of(built):
    assert built[1].strip() == "site: left out 03_corpus_mosi: executed on public data"


def test_of_people_there_are_numbers_alone(folder):
    assert "corr of people 0.125" in read(folder / "notebooks" / "06_people.html")
    assert "of which only numbers are shown" in read(folder / "notebooks" / "06_people.html")
    assert not (folder / "notebooks" / "03_corpus_mosi.html").exists()
    assert [path for path, content in everything(folder).items() if SENTENCE in content] == []


def test_no_folder_of_this_machine_is_named(built, folder):
    assert [path for path, content in everything(folder).items() if str(built[0].out) in content] == []
    assert [path for path, content in everything(folder).items() if str(ROOT) in content] == []


def test_one_copy_of_plotly_serves_all_figures(folder):
    holders = [path for path, content in everything(folder).items() if "plotly.js v" in content[:3000]]
    assert holders == [folder / "run" / site.LIBRARY]
    assert max(path.stat().st_size for path in folder.rglob("*.html")) < 1e6


def test_bars_of_progress_and_warnings_are_left_out(folder):
    page = read(folder / "notebooks" / "01_small.html")
    assert "0%|" not in page and "a warning from below" not in page and "VBox(" not in page
    assert "Controls stood here" in page


def test_links_lead_to_pages_sources_or_nowhere(folder):
    page = read(folder / "notebooks" / "01_small.html")
    assert '<a href="../_modules/finelib/plain.html">Source</a>' in page and ">nothing</a>" not in page
    for page in [path for path in folder.rglob("*.html") if "_static" not in path.parts]:
        for target in re.findall(r'(?:href|src)="(?!\w+:|#)([^"#?]+)', read(page)):
            assert (page.parent / target).exists(), f"{page.relative_to(folder)}: {target}"


def test_formulas_are_mathml(folder):
    page = read(folder / "notebooks" / "01_small.html")
    assert (
        page.count("<math") == 2
        and "<mfrac>" in page
        and "\\tag" not in page
        and not re.search('src="[^"]*mathjax', page, re.I)
    )


def test_the_api_shows_the_public_face_and_the_modules(folder):
    page = read(folder / "docs" / "api.html")
    assert {name for name in finelib.__all__ if f'id="finelib.{name}"' in page} == set(finelib.__all__)
    core = {path.stem for path in (ROOT / "finelib").glob("[!_]*.py")}
    assert {path.stem.removeprefix("finelib.") for path in (folder / "docs" / "modules").iterdir()} == core
    assert "Eq. 8" in read(folder / f"{MODULE}.html")


# --------------------------------------------------------------------------------------------- made again or not


def test_a_second_build_of_the_same_does_nothing_and_a_failed_one_leaves_the_site(built, folder, monkeypatch):
    options, before = built[0], everything(folder)

    def fail(*_):
        raise RuntimeError("site: Sphinx failed: as it should here")

    monkeypatch.setattr(site, "_sphinx", fail)
    (options.out / "runs" / ".site-killed" / "source").mkdir(parents=True)
    assert site.build_site(options) == folder / "index.html"
    path = options.out / "runs" / "notebooks" / "06_people.ipynb"
    kept = path.read_text()
    path.write_text(kept.replace("0.125", "0.25"))
    try:
        with pytest.raises(RuntimeError, match="as it should here"):
            site.build_site(options)
    finally:
        path.write_text(kept)
    assert everything(folder) == before
    assert [path.name for path in (options.out / "runs").iterdir()] == ["notebooks"]


def test_without_notebooks_or_packages_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match=r"^site: found no executed notebook in .*, expected those of a finished"):
        site.build_site(Options(out=tmp_path))
    monkeypatch.setattr(site, "find_spec", lambda name: None if name == "myst_nb" else name)
    with pytest.raises(ValueError, match=r"^site: found no myst-nb, expected .*finelib\[docs\]"):
        site.build_site(Options(out=tmp_path))


@pytest.mark.parametrize("name", ["check", "site"])
def test_a_workflow_calls_what_is_there(name):
    (job, *_) = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"].values()
    for command in [step["run"].split() for step in job["steps"] if "run" in step]:
        file, *options = command[1:] if command[0] == "bash" else command
        assert os.access(ROOT / file, os.X_OK) or command[0] == "bash"
        if file == "./run_all.sh":
            parse(options, script=True)
    uploads = [step["with"]["path"] for step in job["steps"] if "upload-pages" in step.get("uses", "")]
    assert uploads == (["site"] if name == "site" else [])


def test_the_dev_container_sets_up_as_run_all_does():
    content = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert content["postCreateCommand"].split()[0] == "./run_all.sh"
    parse(content["postCreateCommand"].split()[1:], script=True)  # ends the program where an option is unknown


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def address(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, address: str, page: str, width: int = 1280, dark: bool = False):
    """A page whose complaints are kept; at the end there must be none, nor a request to elsewhere."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown, complaints = context.new_page(), []
    shown.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(r.url))
    shown.on("requestfailed", lambda r: complaints.append(f"failed: {r.url}"))
    shown.on("response", lambda r: complaints.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    try:
        shown.goto(address + page, wait_until="networkidle")
        yield shown
        assert complaints == []
    finally:
        context.close()


def serious(page) -> list[str]:
    # preload: of style sheets, by an address that axe takes to be the page's; what is well need not be listed
    options = {"preload": False, "resultTypes": ["violations"]}
    found = axe_playwright.Axe().run(page, options=options).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:150]}" for v in found if v["impact"] in ("serious", "critical")]


@in_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("page", [*PAGES, MODULE])
def test_a_page_is_quiet_accessible_and_fits_a_phone(browser, address, page, dark):
    with opened(browser, address, f"{page}.html", dark=dark) as shown:
        background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", background)[:3])) < 60) == dark
        assert serious(shown) == []
    with opened(browser, address, f"{page}.html", 390, dark) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        assert serious(shown) == []


@in_browser
def test_the_button_turns_it_dark(browser, address):
    with opened(browser, address, "index.html") as page:
        page.locator("header").get_by_role("button", name="Color mode").first.click()
        page.locator("header").get_by_role("button", name="Dark").first.click()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@in_browser
def test_search_finds_what_a_notebook_says(browser, address):
    with opened(browser, address, "index.html") as page:
        page.get_by_role("button", name="Search").first.click()
        page.get_by_role("searchbox").last.fill("NCE-CLUB")
        page.keyboard.press("Enter")
        found = page.locator("ul.search a", has_text="A small notebook")
        found.first.wait_for(timeout=20_000)
        page.wait_for_load_state("networkidle")  # it reads the pages that it found
        found.first.click()
        page.wait_for_url("**/notebooks/01_small.html*")
        assert "NCE-CLUB" in page.locator("main").inner_text()


@in_browser
def test_set_up_is_folded(browser, address):
    with opened(browser, address, "notebooks/01_small.html") as page:
        source = page.get_by_text("hidden_away")
        assert not source.is_visible()
        page.get_by_text("Show the set-up").first.click()
        assert source.is_visible()


@in_browser
def test_figures_are_alive(browser, address):
    with opened(browser, address, "notebooks/01_small.html") as page:
        frames = page.locator("iframe[title='interactive Figure 5']")
        assert frames.count() == 2
        for i in range(2):
            frames.nth(i).scroll_into_view_if_needed()
            page.frame_locator("iframe").nth(i).locator(".main-svg .scatterlayer path").first.wait_for(timeout=30_000)
    with opened(browser, address, "run.html") as page:
        page.get_by_role("link", name="with numbers under the pointer").click()
        page.locator(".main-svg .barlayer path").first.wait_for(timeout=30_000)
        assert page.title() == "Table 6: differences to FINE" and serious(page) == []


@in_browser
def test_opened_as_a_file_search_works_too(browser, folder):
    with opened(browser, folder.as_uri(), "/search.html?q=NCE-CLUB") as page:
        found = page.locator("ul.search a", has_text="A small notebook")
        found.first.wait_for(timeout=20_000)
        assert "notebooks/01_small.html" in found.first.get_attribute("href")
