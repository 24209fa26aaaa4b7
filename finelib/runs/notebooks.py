"""Notebooks, executed by papermill, as many at a time as training runs; one of which nothing has changed is kept."""

import ast
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

import joblib
import psutil

import finelib
from finelib.data import store
from finelib.runs.code import closure, code_hash, data_files, imported
from finelib.runs.kept import as_left, leave
from finelib.runs.options import ROOT, Options, assigned, check_parameter
from finelib.runs.records import RunRecord, digest, versions

FOLDER = ROOT / "notebooks"
LOG = "kernels.log"  # in the folder of executed copies
DRAWING = ("pandas", "statsmodels", "matplotlib", "seaborn", "plotly", "umap-learn")  # packages, beside a run's


@dataclass(frozen=True)
class Notebook:
    """One execution of a notebook.

    Attributes:
        name: of the executed copy, out/runs/notebooks/NAME.ipynb.
        path: the notebook.
        own: the values of its parameters that are no options.
        writes: names of what it writes into out/figures.
        records: of the runs that it reads.
        reads: what else decides its outcome, beside its own text, its parameters and the code: a JSON value.
    """

    name: str
    path: Path
    own: dict[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    records: tuple[RunRecord, ...] = ()
    reads: object = None

    def target(self, options: Options) -> Path:
        return executed(options) / f"{self.name}.ipynb"

    def note(self, options: Options) -> Path:
        return options.out / "runs" / "kept" / f"{self.name}.json"

    def cells(self) -> list[dict]:
        """Its cells of code, without the set-up, as JSON."""
        cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        return [cell for cell in code if "setup" not in cell["metadata"].get("tags", [])]

    def parameters(self, options: Options) -> dict:
        """The options, and its own parameters, that its cell of parameters declares.

        Raises:
            ValueError: it declares one that is neither.
        """
        given = {**vars(options), "out": str(options.out), **self.own}
        cells = [cell for cell in self.cells() if "parameters" in cell["metadata"].get("tags", [])]
        declared = [name for cell in cells for name in assigned("".join(cell["source"]))]
        for name in declared:
            check_parameter(name, *self.own)
        return {name: given[name] for name in declared}

    def modules(self) -> set[str]:
        """The modules of this package that it imports, directly or through others."""
        lines = [line for cell in self.cells() for line in "".join(cell["source"]).splitlines()]
        source = "\n".join(line for line in lines if not line.startswith(("%", "!")))
        roots = imported(ast.parse(source))
        if re.search(r"^import finelib$", source, re.MULTILINE):
            roots += finelib.PLACES.values()
        return closure(roots)

    def key(self, options: Options) -> str:
        """Hash of all that decides its outcome."""
        modules = self.modules()
        return digest(
            {
                "notebook": store.checksum(self.path),
                "parameters": self.parameters(options),
                "runs": [[record.id, record.files, record.timing] for record in self.records],
                "reads": self.reads,
                "code": code_hash(*modules),
                "data files": [store.checksum(path) for path in data_files(modules)],
                "versions": packages(),
            }
        )


@cache
def packages() -> dict[str, str]:
    """Versions of what computes and draws."""
    return versions() | {name: version(name) for name in DRAWING}


def executed(options: Options) -> Path:
    """The folder of executed copies."""
    return options.out / "runs" / "notebooks"


def changed(notebooks: Iterable[Notebook], options: Options) -> list[Notebook]:
    """Those that must be executed: something they depend on has changed, or something they left."""
    return [notebook for notebook in notebooks if not as_left(notebook.note(options), notebook.key(options))]


def execute(notebook: Notebook, options: Options) -> None:
    """Run a notebook with the options as its parameters; the executed copy, in one move, lies at ``target``.

    That of a notebook that fails lies there too, to be looked at; the next call executes it again.

    Raises:
        ValueError: the notebook has a parameter that is no option, found before a kernel is started.
        papermill.PapermillExecutionError: a cell failed.
        RuntimeError: the kernel died or did not start; the notebook's name, and where its last words are.
    """
    import papermill  # slow to import, and not needed for a table alone

    parameters, key, target = notebook.parameters(options), notebook.key(options), notebook.target(options)
    partial = target.parent / "partial" / target.name  # papermill writes after each cell
    partial.parent.mkdir(parents=True, exist_ok=True)
    given = {"cwd": FOLDER, "kernel_name": "python3", "progress_bar": False}
    try:
        papermill.execute_notebook(notebook.path, partial, parameters, **given)
    except papermill.PapermillExecutionError:
        os.replace(partial, target)
        raise
    except RuntimeError as error:  # of the kernel, which died or did not start
        said = f"{executed(options) / LOG}; what it had done is in {partial}"
        raise RuntimeError(f"notebook {notebook.name}: {error}; what its kernel said is in {said}") from error
    os.replace(partial, target)
    written = [path for name in notebook.writes for path in sorted(options.figures.glob(f"{name}.*"))]
    leave(notebook.note(options), key, [target, *written])


def execute_all(notebooks: list[Notebook], options: Options) -> None:
    """Run notebooks, as many at a time as training runs; everything they need has been trained."""
    folder = executed(options)
    folder.mkdir(parents=True, exist_ok=True)
    cores = joblib.cpu_count()
    workers = options.jobs or cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))  # for the kernels, which inherit it
    with _errors_to(folder / LOG), ThreadPoolExecutor(workers) as pool:
        started = time.monotonic()
        longest_first = reversed(notebooks)
        running = {pool.submit(execute, notebook, options): notebook.name for notebook in longest_first}
        try:
            for future in as_completed(running):
                future.result()
                print(f"notebook {running[future]}: done after {time.monotonic() - started:.0f} s", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in psutil.Process().children(recursive=True):  # kernels, which no signal reaches
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            raise


@contextmanager
def _errors_to(log: Path):
    """Send this process's standard error, which kernels inherit, to a file; what a cell prints is in the notebook."""
    sys.stderr.flush()
    kept = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
