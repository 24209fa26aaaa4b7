"""Executed notebooks as they may stand on the web: small, without paths, and without a sentence of a real corpus.

Called by ``publish.py``. A copy has the cells of its notebook. Of the outputs it has numbers, tables and pictures; what
is interactive or large is left out, and a line says so. Links in the prose are turned to the copy's place.
"""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path

import nbformat
from PIL import Image

from finelib.data import sources
from finelib.runs.options import ROOT

PLACE = Path("figures") / "published" / "notebooks"
TOTAL = 5_000_000  # bytes of all copies
LARGEST = 200_000  # characters of one output that is no picture; a plotly page has millions
SHORTEST = 20  # characters of a sentence that is looked for
WIDGET = "application/vnd.jupyter.widget-view+json"
RICH = ("image/png", "text/html", "text/markdown")
INTERACTIVE = "(interactive, so left out of this copy: run the notebook to see it)"


def publish(out: Path, folder: Path = ROOT / PLACE) -> None:
    """Replace the copies in ``folder`` by those of the notebooks that a run executed; nothing is written if one fails.

    Args:
        out: of a finished ``run_all.sh`` with the options' defaults.

    Raises:
        ValueError: a notebook failed, has other cells than its source or was given other options; a copy has a
            sentence of a real corpus; the copies are too large.
    """
    copies = {}
    for path in sorted((out / "runs" / "notebooks").glob("*.ipynb")):
        source = source_of(path)
        made = nbformat.writes(copy(nbformat.read(path, 4), nbformat.read(source, 4), path.stem))
        copies[path.name] = without_folders(made)
    if not copies:
        raise ValueError(f"{out}: found no executed notebooks, expected some in runs/notebooks")
    known = real_sentences()
    for name, text in copies.items():
        if found := sentences_in(text, known):
            raise ValueError(f"{name}: found {len(found)} sentences of CMU-MOSI, expected none")
        if str(out.resolve()) in text or str(ROOT) in text:
            raise ValueError(f"{name}: found a path of this machine, expected none")
    if (size := sum(len(text.encode()) for text in copies.values())) > TOTAL:
        raise ValueError(f"notebooks: found {size / 1e6:.1f} MB, expected at most {TOTAL / 1e6:.0f} MB")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.ipynb"):
        old.unlink()
    for name, text in copies.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    print(f"{len(copies)} executed notebooks, {size / 1e6:.1f} MB, in {folder}; looked for {len(known)} sentences")


def without_folders(text: str) -> str:
    """A copy with the folders that variables name, where sentences about missing files show them, as $VARIABLE."""
    for variable in ("FINE_DATA_MIRROR", "FINE_CACHE"):
        if folder := os.environ.get(variable):
            for form in (str(Path(folder).resolve()), folder):
                text = text.replace(form.rstrip("/"), f"${variable}") if Path(form).is_absolute() else text
    return text


def source_of(path: Path) -> Path:
    """The notebook that an executed one was made of: 03_corpus.ipynb is executed for each corpus."""
    return ROOT / "notebooks" / f"{re.sub('^03_corpus_.*', '03_corpus', path.stem)}.ipynb"


def copy(executed: nbformat.NotebookNode, source: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """What of an executed notebook is published.

    Raises:
        ValueError: see ``publish``.
    """
    told = executed.metadata.papermill
    if told.get("exception"):
        raise ValueError(f"{name}: found a cell that failed, expected a whole execution")
    given = {k: v for k, v in told.parameters.items() if k not in ("out", "jobs")}
    own = {k: v for k, v in given.items() if k == "corpus"}
    if changed := [k for k, v in given.items() if k not in own and v != default(source, k)]:
        raise ValueError(f"{name}: found another value of {', '.join(changed)} than the notebook's, expected its own")
    cells = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [seen(cell) for cell in cells] != [seen(cell) for cell in source.cells]:
        raise ValueError(f"{name}: found other cells than its notebook has, expected the same; run it again")
    new = nbformat.v4.new_notebook(metadata={k: executed.metadata[k] for k in ("kernelspec", "language_info")})
    for cell, original in zip(cells, source.cells, strict=True):
        made = nbformat.from_dict({**original, "id": original.id})
        if cell.cell_type == "code":
            made.update(execution_count=cell.execution_count, outputs=outputs(cell))
        else:
            made.source = relinked(original.source)
        new.cells.append(made)
        if own and "parameters" in original.metadata.get("tags", []):
            lines = [f"{k} = {v!r}" for k, v in own.items()]
            injected = {"tags": ["injected-parameters"]}
            new.cells.append(nbformat.v4.new_code_cell("\n".join(lines), metadata=injected, id=f"given-{name[-10:]}"))
    nbformat.validate(new)
    return new


def default(source: nbformat.NotebookNode, name: str) -> object:
    """What a notebook's own cell of parameters gives a name."""
    found: dict = {}
    for cell in source.cells:
        if "parameters" in cell.metadata.get("tags", []):
            exec(cell.source, found)
    return found[name]


def seen(cell: nbformat.NotebookNode) -> tuple[str, str]:
    return cell.cell_type, cell.source


def relinked(prose: str) -> str:
    """Prose with its relative links, which start in notebooks/, from the copy's folder."""
    return re.sub(
        r"\]\((?!https?:|#)([^)]+)\)", lambda m: f"]({os.path.relpath(Path('notebooks') / m[1], PLACE)})", prose
    )


def outputs(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The outputs that are published; of a cell that had only others, a line in their place."""
    if not cell.outputs:
        return []
    kept = [made for output in cell.outputs if (made := published(output))]
    return kept or ([stream(INTERACTIVE)] if any("data" in output for output in cell.outputs) else [])


def stream(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name="stdout", text=text + "\n")


def published(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """An output in its smallest form; None for progress, warnings, widgets and large pages."""
    if output.output_type == "stream":
        return stream(output.text.rstrip("\n")) if output.name == "stdout" else None
    data = {kind: text for kind, text in output.data.items() if kind != WIDGET}
    if WIDGET in output.data or any(len(text) > LARGEST for kind, text in data.items() if kind in RICH[1:]):
        return None
    if any(kind in data for kind in RICH):
        data.pop("text/plain", None)  # the same again, or the name of a class
    if "image/png" in data:
        data["image/png"] = smaller(data["image/png"])
    if output.output_type == "execute_result":
        return nbformat.v4.new_output("execute_result", data=data, execution_count=output.execution_count)
    return nbformat.v4.new_output("display_data", data=data)


def smaller(picture: str) -> str:
    """A PNG in base64 with 256 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    written = io.BytesIO()
    flat.save(written, "PNG", optimize=True)
    return min(base64.b64encode(written.getvalue()).decode(), picture.replace("\n", ""), key=len)


def real_sentences() -> set[str]:
    """The sentences of CMU-MOSI, where its public files can be had."""
    if sources.available("mosi", "public"):
        return set()
    splits = sources.load("mosi", "public").splits.values()
    texts = {words(text) for split in splits for text in split.text}
    return {text for text in texts if len(text) >= SHORTEST}


def sentences_in(text: str, known: set[str]) -> list[str]:
    """Those of the sentences that a copy has, whatever its markup and capitals."""
    shown = words(re.sub(r"<[^>]*>|\\n", " ", text))
    return [sentence for sentence in known if sentence in shown]


def words(text: str) -> str:
    """Letters and digits in lower case, one space between words."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))
