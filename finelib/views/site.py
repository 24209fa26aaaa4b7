"""OUT/site: a finished run as static pages, built by Sphinx: README, results, executed notebooks, data, the API.

The pages are built from a folder that mirrors the checkout, with the executed notebooks in place of the stored ones, so
that links between files hold. docs/conf.py holds Sphinx's settings. Of recordings of people only numbers are shown.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape, unescape
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import nbformat
from plotly.offline import get_plotlyjs

from finelib.data.corpora import CORPORA
from finelib.paper.table import COLUMNS
from finelib.runs.options import ROOT, Options
from finelib.views.report import PAGES, SAID, TITLES

PACKAGES = ("sphinx", "myst-nb", "pydata-sphinx-theme", "plotly")
# page -> its name in the bar above all pages; further pages of docs/ and the last two stand behind these
BAR = {"RESULTS": "Results", "docs/notebooks": "Notebooks", "run": "This run", "claims": "Claims"}
BAR |= {"data/README": "Data", "docs/api": "API"}
LAST = ("CONTRIBUTING", "CHANGELOG")
# file of the checkout -> the page in its place
PLACES = {"README.md": "index.md", "figures/published/claims.md": "claims.md"}
COPIES = "figures/published/notebooks"  # executed notebooks of the checkout, in whose place this run's stand
LIBRARY = "plotly.min.js"  # one for all interactive figures
WIDGET = "application/vnd.jupyter.widget-view+json"
ALIVE = "*Controls stood here. They need Python: open this notebook in Jupyter to use them.*"
OF_PEOPLE = "*A table of single utterances stood here. They are recordings of people, of which only numbers are shown.*"
REMOTE = re.compile(r"!\[([^\]]*)\]\(\w+:[^)]*\)")  # a picture that another server would be asked for
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?!\w+:|#)([^()\s#]+)(#[^()\s]*)?\)")
SOURCE = re.compile(r"finelib/(\w+)\.py")  # the modules whose source Sphinx shows
FRAME = re.compile(r'<iframe srcdoc="(.*?)" style="(.*?)" title="(.*?)"></iframe>', re.DOTALL)
# of the pages that plotly writes; "data:," keeps a browser from asking for an icon
HEAD = """<head><link rel="icon" href="data:,"><meta name="viewport" content="width=device-width"><title>"""
STAMP = "made-of"


def build_site(options: Options) -> Path:
    """Write ``options.out``/site from the notebooks, tables and figures that lie there, and return its first page.

    Nothing is trained. What is there already is kept if it was made of the same; else it is replaced when all is built.

    Raises:
        ValueError: no notebook has been executed, a package or the checkout is missing.
        RuntimeError: Sphinx failed, with the last line of what it said.
    """
    if missing := [name for name in PACKAGES if not find_spec(name.replace("-", "_"))]:
        raise ValueError(f'site: found no {", ".join(missing)}, expected them: pip install "finelib[docs]"')
    if not (ROOT / "docs" / "conf.py").is_file():
        raise ValueError(f"site: found no docs/conf.py in {ROOT}, expected a checkout")
    site = options.out / "site"
    for left in (options.out / "runs").glob(".site-*"):  # by a build that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=options.out / "runs") as work:
        source, pages = Path(work) / "source", Path(work) / "pages"
        stage(options, source)
        key = _hash(source)
        if _text(site / STAMP) == key:
            print("site: nothing has changed since it was built")
            return site / "index.html"
        _sphinx(source, pages)
        (pages / STAMP).write_text(key)
        if site.exists():
            site.rename(Path(work) / "before")
        pages.rename(site)
    return site / "index.html"


def _sphinx(source: Path, pages: Path) -> None:
    """What Sphinx warns of goes to standard error."""
    own = ["-c", source / "docs", "-d", source.with_name("read")]
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", *own, source, pages]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"site: Sphinx failed: {(done.stderr.strip() or 'nothing said').splitlines()[-1]}")
    sys.stderr.write(done.stderr)


def _hash(source: Path) -> str:
    """Of all that the pages are made of: the staged files, this package's docstrings, the packages that build."""
    found = hashlib.sha256(" ".join(version(name) for name in PACKAGES).encode())
    for folder in (source, ROOT / "finelib"):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return found.hexdigest()


# ------------------------------------------------------------------------------------------------ what it is made of


def stage(options: Options, folder: Path) -> None:
    """Fill a new folder with all that Sphinx reads.

    Raises:
        ValueError: no notebook has been executed.
    """
    executed = sorted((options.out / "runs" / "notebooks").glob("*.ipynb"))
    if not executed:
        raise ValueError(f"site: found no executed notebook in {options.out}, expected those of a finished run_all.sh")
    for made in ("notebooks", "run", "data", "extra/run"):
        (folder / made).mkdir(parents=True)
    for name in ("docs", "figures/published"):
        shutil.copytree(ROOT / name, folder / name)
    for name in (*BAR, *LAST):
        if (ROOT / f"{name}.md").is_file():
            shutil.copy(ROOT / f"{name}.md", folder / f"{name}.md")
    for path in executed:
        shutil.copy(path, folder / "notebooks")
    _stage_run(options, folder)
    _stage_front(folder)
    for path in sorted((folder / "notebooks").iterdir()):
        stage_notebook(path, folder)
    for path in [*folder.glob("*.md"), *(folder / "docs").glob("*.md"), folder / "data" / "README.md"]:
        _write(path, linked(_text(path), path.parent, folder))


def _stage_run(options: Options, folder: Path) -> None:
    """The run's own tables, pictures and claims."""
    for path in options.figures.glob("*.png"):
        shutil.copy(path, folder / "run")
    for name in SAID.keys() & PAGES:
        if page := _text(options.figures / f"{name}.html"):
            page = shared(page).replace("<html>", '<html lang="en">', 1)
            page = page.replace("<head>", f"{HEAD}{TITLES[name]}</title>", 1)
            _write(folder / "extra" / "run" / f"{name}.html", page)
    _write(folder / "extra" / "run" / LIBRARY, get_plotlyjs())
    _write(folder / "run.md", run_page(options))
    _write(folder / "claims.md", _text(options.figures / "claims.md") or "# Claims\n\nThis run has none.\n")


def _stage_front(folder: Path) -> None:
    """The first page: README, with the table of contents; pictures in HTML, into which Sphinx does not look."""
    front = _text(ROOT / "README.md")
    _write(folder / "index.md", front + contents(folder))
    for name in re.findall(r'(?:src|srcset)="(figures/[^"]+)"', front):
        (folder / "extra" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "extra" / name)


def contents(folder: Path) -> str:
    """The table of contents of all pages that lie there, which the first page holds unseen."""
    guide = sorted(f"docs/{path.stem}" for path in (folder / "docs").glob("*.md"))
    rest = [name for name in (*guide, *LAST) if name not in BAR]
    lines = [f"{title} <{name}>" for name, title in BAR.items()] + rest
    there = [line for line, name in zip(lines, (*BAR, *rest), strict=True) if (folder / f"{name}.md").is_file()]
    return "\n".join(["", "```{toctree}", ":hidden:", "", *there, "```", ""])


def run_page(options: Options) -> str:
    """The page of tables and pictures of this run, in Markdown."""
    parts = ["# Tables and figures of this run", "Made by the run whose notebooks stand on this site."]
    for number in COLUMNS:
        if text := _text(options.figures / f"table{number}.md"):
            parts += [f"## Table {number}", text]
    for name, title in TITLES.items():
        if (options.figures / f"{name}.png").is_file():
            parts += [f"## {title}", f"![{title}](run/{name}.png)"]
            parts.append(SAID.get(name) or _text(options.figures / f"{name}.md"))
            if name in SAID:
                parts += [f'<a href="run/{page}.html">{said}</a>' for page, said in PAGES.get(name, {}).items()]
    return "\n\n".join(parts) + "\n"


def linked(text: str, place: Path, folder: Path) -> str:
    """Markdown whose relative links lead somewhere: to a page, to a module's source, or else they are plain text.

    A picture of another server is the text that stands for it.

    Args:
        place: the folder of the page; ``folder`` is the uppermost one.
    """
    root = Path(os.path.relpath(folder, place)).as_posix()

    def link(match: re.Match) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        aim = Path(os.path.normpath(place / target))
        inside = aim.relative_to(folder).as_posix() if aim.is_relative_to(folder) else ""
        if module := SOURCE.fullmatch(inside):
            return f'<a href="{root}/_modules/finelib/{module[1]}.html">{words.replace("`", "")}</a>'
        if inside.startswith(COPIES):
            aim = folder / "notebooks" / aim.name
            target = f"{root}/notebooks/{aim.name}"
        if inside in PLACES:
            target = f"{root}/{PLACES[inside]}"
        elif aim.suffix == ".ipynb" and not aim.exists():  # one notebook is executed for each corpus
            several = sorted(aim.parent.glob(f"{aim.stem}_*.ipynb"))
            target = f"{root}/notebooks/{several[0].name}" if several else ""
        elif not aim.is_file() or inside.startswith("figures/") and aim.suffix == ".md":
            target = ""
        return f"[{words}]({target}{anchor})" if target else words

    return LINK.sub(link, REMOTE.sub(r"\1", text))


# -------------------------------------------------------------------------------------------------------- notebooks


def stage_notebook(path: Path, folder: Path) -> None:
    """Make an executed notebook ready: set-up folded, pictures named, frames in files of their own.

    Of data that are not planted nothing but numbers is shown: a notebook that was executed on them is taken away.
    """
    text = _text(path)
    given = json.loads(text)["metadata"].get("papermill", {}).get("parameters", {})
    if given.get("source", "planted") != "planted":
        print(f"site: left out {path.stem}: executed on {given['source']} data", file=sys.stderr)
        return path.unlink()
    own = (given.get("out"), str(ROOT), os.environ.get("FINE_DATA_MIRROR"), os.environ.get("FINE_CACHE"))
    for name in filter(None, own):  # folders of this machine
        text = text.replace(name, Path(name).name) if Path(name).is_absolute() else text
    notebook = nbformat.reads(text, 4)
    notebook.metadata.pop("papermill", None)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    of_people = any(re.search(r"""source=["']public|public_sources""", cell.source) for cell in code)
    if "corpus" in given:  # one notebook, executed for each
        notebook.cells[0].source = re.sub("^(# .*)", rf"\1: {CORPORA[given['corpus']].title}", notebook.cells[0].source)
    heading = path.stem
    for cell in notebook.cells:
        if cell.cell_type == "code":
            _stage_code(cell, heading, of_people, folder)
        else:
            heading = (re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) or [heading])[-1].replace("`", "")
            cell.source = linked(cell.source, folder / "notebooks", folder)
    nbformat.write(notebook, path)


def _stage_code(cell: nbformat.NotebookNode, heading: str, of_people: bool, folder: Path) -> None:
    tags = cell.metadata.get("tags", [])
    cell.metadata.mystnb = {"image": {"alt": f"Picture of the section: {heading}"}}
    if "injected-parameters" in tags:
        cell.metadata.tags = [*tags, "hide-input"]
        cell.metadata.mystnb["code_prompt_show"] = "Show what run_all.sh set"
    cell.outputs = [shown for output in cell.outputs if (shown := _shown(output, of_people, folder))]


def _shown(output: nbformat.NotebookNode, of_people: bool, folder: Path) -> nbformat.NotebookNode | None:
    """An output as the site shows it, None where it does not."""
    data = output.get("data", {})
    if WIDGET in data:  # a bar of progress, or controls
        return None if "%|" in data.get("text/plain", "") else _markdown(ALIVE)
    html = data.get("text/html", "")
    if of_people and re.search(r"<th[^>]*>\s*(id|text)\s*</th>", html):
        return _markdown(OF_PEOPLE)
    if html.startswith('<div class="highlight"'):  # code in the colours of a light page
        return _markdown(f"```python\n{unescape(re.sub('<[^>]+>', '', html)).strip()}\n```")
    if html:
        data["text/html"] = FRAME.sub(lambda frame: _frame(frame, folder), html)
        data.pop("text/plain", None)
    return output


def _markdown(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", {"text/markdown": text})


def _frame(frame: re.Match, folder: Path) -> str:
    """A frame that holds a page, as one that shows the page's file."""
    page = shared(unescape(frame[1]))
    name = f"{hashlib.sha256(page.encode()).hexdigest()[:12]}.html"
    _write(folder / "extra" / "run" / name, page)
    return f'<iframe src="../run/{name}" style="{frame[2]}" title="{escape(frame[3])}" loading="lazy"></iframe>'


def shared(page: str) -> str:
    """A page that holds plotly.js itself, as one that reads the file beside it."""
    before, found, after = page.partition(get_plotlyjs())
    return f'{before[: before.rindex("<script")]}<script id="library" src="{LIBRARY}">{after}' if found else page


def _text(path: Path) -> str:
    """What is in a file, "" where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
