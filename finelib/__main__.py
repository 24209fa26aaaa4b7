"""``run_all.sh``'s work: train what has no record, execute the notebooks, rebuild the tables."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import joblib
import psutil
from filelock import FileLock, Timeout

from finelib.config import RunSpec
from finelib.data import doctor, sources
from finelib.data.corpora import CORPORA, nearest
from finelib.paper import claims, objective, tables
from finelib.runs import experiment, presets
from finelib.runs.options import ROOT, SITE, Options, check_parameter, parse
from finelib.scale import cluster, processes
from finelib.study import identifiability, subset_codes, terms

NOTEBOOKS = ROOT / "notebooks"
CLAIMS = "claims"  # made of what lies there, so it needs no runs of its own


class Usage(ValueError):
    """What was asked for cannot be done as it was asked."""


# ---------------------------------------------------------------------------------------------- what there is


@dataclass(frozen=True)
class Result:
    """A table or a notebook.

    Attributes:
        corpora: those that must be in the source; a notebook that makes or finds its own data has none.
        runs: the runs it reads.
        tables: the tables it builds.
        notebook: its file in notebooks/, "" for a table alone.
        parameters: what the notebook is given beside the options.
        build: what makes a study that is neither; it has a command of its own and is made only when asked for.
    """

    corpora: tuple[str, ...] = ()
    runs: Callable[[], Iterable[RunSpec]] = tuple
    tables: tuple[int, ...] = ()
    notebook: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    build: Callable[[], object] | None = None


def results(options: Options) -> dict[str, Result]:
    """Everything that can be made."""
    ablated = presets.figure5_corpus(options)  # the corpus of Tables 5, 6 and of Figure 5
    corpus_of = {info.table: name for name, info in CORPORA.items()} | {5: ablated, 6: ablated}

    def built(*numbers: int) -> Result:
        runs = [partial(tables.table_specs, number, options) for number in numbers]
        return Result(tuple(corpus_of[n] for n in numbers), lambda: [s for r in runs for s in r()], numbers)

    def corpus(name: str) -> Result:
        return Result((name,), lambda: presets.specs(name, options), parameters={"corpus": name})

    notebooks = {
        "00_start_here": Result(),
        "01_method_walkthrough": Result(),
        "02_data": Result(),
        **{f"03_corpus_{name}": corpus(name) for name in CORPORA},
        "04_terms": Result((ablated,), lambda: [s for runs in terms.run_specs(options).values() for s in runs]),
        "05_tables_1_to_4": built(1, 2, 3, 4),
        "06_real_mosi": Result(),
        "07_table_5_modalities": built(5),
        "08_table_6_ablations": built(6),
        "09_figure_5": Result((ablated,), lambda: presets.figure5_specs(options)),
        "10_mutual_information": Result(),
        "11_identifiability": Result((), lambda: identifiability.specs(options)),
        "12_audit": Result(),
        "13_compare": Result(("mosi",), lambda: tables.table_specs(1, options)),
    }
    studies = {
        objective.NAME: Result((ablated,), lambda: objective.specs(options), build=lambda: objective.build(options))
    }
    for name in subset_codes.STUDIES:
        runs, build = (partial(do, options, name) for do in (subset_codes.specs, subset_codes.measure_subset_codes))
        studies[name] = Result((), runs, build=build)
    return (
        {f"table{number}": built(number) for number in corpus_of}
        | studies
        | {
            name: replace(result, notebook=name.removesuffix("".join(f"_{v}" for v in result.parameters.values())))
            for name, result in notebooks.items()
            if NOTEBOOKS.is_dir()  # they are no part of an installed package
        }
    )


def asked_for(only: str, found: dict[str, Result]) -> list[str]:
    """The results that one name means.

    Raises:
        Usage: an unknown name, with the most similar one.
    """
    names = {name: [name] for name in found}
    names["figure5"] = ["09_figure_5"]
    names["03_corpus"] = [name for name, result in found.items() if result.notebook == "03_corpus"]
    names[CLAIMS] = []
    if only not in names:
        raise Usage(f"--only {only}: unknown, expected one of {', '.join(names)}{nearest(only, names)}")
    return names[only]


def select(options: Options, only: str | None) -> dict[str, Result]:
    """The results that were asked for whose data can be had.

    What is missing is printed at once, before hours are spent.

    Raises:
        Usage: an unknown name, or nothing is left.
    """
    found = results(options)
    wanted = [name for name in found if not found[name].build] if only is None else asked_for(only, found)
    if only is None and options.source.startswith("public"):
        wanted = [name for name in wanted if 6 not in found[name].tables]  # a hundred runs: only when asked for
    missing = {name: said for name in CORPORA if (said := sources.available(name, options.source))}
    if Path(options.source).is_file():
        asked = {corpus for name in wanted for corpus in found[name].corpora}
        missing |= sources.not_served(Path(options.source), [c for c in CORPORA if c in asked - missing.keys()])
    if len(missing) == len(CORPORA):
        raise Usage(next(iter(missing.values())))
    chosen = {name: found[name] for name in wanted if not missing.keys() & set(found[name].corpora)}
    lacking = {missing[c]: None for name in wanted for c in found[name].corpora if c in missing}
    if wanted and not chosen:
        raise Usage(f"{only}: its data cannot be had from {options.source}: {'; '.join(lacking)}")
    for sentence in lacking:
        print(f"run_all.sh: left out: {sentence}", file=sys.stderr)
    return chosen


def planned_runs(chosen: dict[str, Result]) -> list[RunSpec]:
    """Every run the chosen tables and notebooks will ask for, each once."""
    return list(dict.fromkeys(spec for result in chosen.values() for spec in result.runs()))


# --------------------------------------------------------------------------------------------- doing it


def check_writable(folder: Path) -> None:
    """Raises: OSError, as one sentence, if nothing can be written below the folder."""
    probe = folder / "runs" / ".writable"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink(missing_ok=True)  # another run may probe at the same time
    except OSError as error:
        raise OSError(f"--out {folder}: cannot be written ({error.strerror}); name another folder") from error


def execute(name: str, result: Result, options: Options) -> Path:
    """Run a notebook with the options as its parameters; the executed copy lies in out/runs/notebooks.

    Raises:
        ValueError: the notebook has a parameter that is no option, found before a kernel is started.
    """
    import papermill  # slow to import, and not needed for a table alone

    path, target = NOTEBOOKS / f"{result.notebook}.ipynb", options.out / "runs" / "notebooks" / f"{name}.ipynb"
    declared = papermill.inspect_notebook(path)
    for parameter in declared:
        check_parameter(parameter, *result.parameters)
    given = {**vars(options), "out": str(options.out), **result.parameters}
    parameters = {parameter: given[parameter] for parameter in declared}
    papermill.execute_notebook(path, target, parameters, cwd=NOTEBOOKS, kernel_name="python3", progress_bar=False)
    return target


def execute_all(notebooks: dict[str, Result], options: Options) -> None:
    """Run notebooks, as many at a time as training runs; everything they need has been trained."""
    folder = options.out / "runs" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    cores = joblib.cpu_count()
    workers = options.jobs or cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))  # for the kernels, which inherit it
    with _errors_to(folder / "kernels.log"), ThreadPoolExecutor(workers) as pool:
        started = time.monotonic()
        longest_first = reversed(notebooks)
        running = {pool.submit(execute, name, notebooks[name], options): name for name in longest_first}
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


def make(options: Options, only: str | None, ray: str | None) -> None:
    """Everything that was asked for, with what is being done on the screen."""
    began = time.monotonic()
    if ray:
        cluster.load()  # says now if it is not there
    check_writable(options.out)
    with alone(options.out):
        if only == SITE:
            from finelib.views import site  # draws, as the report does

            print(f"run_all.sh: the site: {site.build_site(options)} ({time.monotonic() - began:.0f} s)")
        else:
            _make(options, only, ray, began)


@contextmanager
def alone(out: Path):
    """One run at a time for a folder: a second one waits, and finds done what the first has done."""
    lock = FileLock(out / "runs" / "run_all.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"run_all.sh: another run_all.sh is at work in {out}; waiting until it is done", flush=True)
        held = lock.acquire()
    with held:
        yield


def _make(options: Options, only: str | None, ray: str | None, began: float) -> None:
    chosen = select(options, only)
    notebooks = {name: result for name, result in chosen.items() if result.notebook}
    print(f"run_all.sh: preset {options.preset}, {options.source} data, results in {options.out}", flush=True)
    experiment.run(planned_runs(chosen), options.out, options.jobs, ray=ray)
    if notebooks:
        print(f"executing {len(notebooks)} notebooks", flush=True)
        execute_all(notebooks, options)
    made = {number for result in notebooks.values() for number in result.tables}
    for name, result in [(name, result) for name, result in chosen.items() if not result.notebook]:
        for number in set(result.tables) - made:
            tables.build_table(number, options)
        if result.build:
            result.build()
        print("\n" + (options.figures / f"{name}.md").read_text())
    print(f"claims: {claims.write_claims(options)}")
    from finelib.views import report  # draws, so slow to import; processes that train import this module

    page = report.write_report(options)
    minutes, executed = (time.monotonic() - began) / 60, options.out / "runs" / "notebooks"
    where = f"tables and figures in {options.figures}, executed notebooks in {executed}"
    print(f"run_all.sh: done in {minutes:.1f} minutes; {where}; all of it at a glance: {page}")


def main(arguments: list[str]) -> int:
    """Exit status: 0; 2 for wrong options or data; 1 if a run or a notebook fails; 130, 143 after SIGINT, SIGTERM.

    "check FILE_OR_FOLDER" says what is in a feature file (``data.doctor``).
    """
    if arguments[:1] == ["check"]:
        return doctor.main(arguments[1:])
    try:
        make(*parse(arguments))
    except KeyboardInterrupt as signalled:
        said = "interrupted; all that was trained is kept, the same command goes on from here"
        print(f"\nrun_all.sh: {said}", file=sys.stderr)
        return 143 if isinstance(signalled, processes.Terminated) else 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ValueError, OSError)) else 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, processes.terminate)
    sys.exit(main(sys.argv[1:]))
