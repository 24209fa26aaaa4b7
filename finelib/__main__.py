"""``run_all.sh``'s work: train what has no record, execute the notebooks, rebuild the tables."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from finelib.config import RunSpec
from finelib.data import sources
from finelib.data.corpora import CORPORA
from finelib.paper import ablations, claims, table, tables
from finelib.runs import experiment, presets
from finelib.runs.options import PRESETS, ROOT, Options
from finelib.scale import cluster, processes
from finelib.study import identifiability

TABLES = {f"table{number}": number for number in table.COLUMNS}
MAKERS = dict.fromkeys((1, 2, 3, 4), tables) | dict.fromkeys((5, 6), ablations)  # table -> the module that builds it
CORPUS_OF = table.CORPUS_OF | dict.fromkeys((5, 6), ablations.CORPUS)
# notebook -> the corpora it reads, or None where it makes its own small data or finds its own
NOTEBOOKS = {
    "00_start_here": None,
    "01_method_walkthrough": None,
    "02_data": None,
    "03_mosi": ("mosi",),
    "04_mosei": ("mosei",),
    "05_ur_funny": ("ur_funny",),
    "06_ch_sims": ("ch_sims",),
    "07_tables_1_to_4": tuple(CORPORA),
    "08_real_mosi": None,
    "09_table_5_modalities": None,
    "10_table_6_ablations": None,
    "11_figure_5": None,
    "12_mutual_information": None,
    "13_identifiability": None,
    "14_audit": None,
    "15_compare": ("mosi",),
    "16_performance": None,
}
ALIASES = {"figure5": "11_figure_5"}
MADE_IN = {  # notebooks that build tables
    "07_tables_1_to_4": (1, 2, 3, 4),
    "09_table_5_modalities": (5,),
    "10_table_6_ablations": (6,),
}
READ_IN = {"15_compare": (1,)}  # notebooks that read all systems of a table
HOURS_ON_PUBLIC = ("table6", "10_table_6_ablations")  # a hundred runs on real CMU-MOSI: only when asked for
CLAIMS = "claims"  # made of what lies there, so it needs no runs of its own
NAMES = (*TABLES, *ALIASES, CLAIMS, *NOTEBOOKS)


class Usage(ValueError):
    """What was asked for cannot be done as it was asked."""


class Parser(argparse.ArgumentParser):
    """argparse that answers a wrong option in one sentence, with the nearest right one."""

    def error(self, message: str) -> None:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        options = [option for action in self._actions for option in action.option_strings]
        self.exit(2, f"run_all.sh: {message}{sources.nearest(unknown, options)}; all options: run_all.sh --help\n")


def parse(arguments: list[str]) -> tuple[Options, str | None, str | None]:
    """The options, the one name that is asked for, and the address of a Ray cluster."""
    parser = Parser(prog="run_all.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("--preset", default="demo", choices=PRESETS)
    parser.add_argument("--source", default="planted", help="planted, public, public-mfn, or a folder of files")
    parser.add_argument("--only", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--seeds", type=positive, metavar="N", help="seeds 0 to N-1")
    parser.add_argument("--out", type=Path, default=ROOT, metavar="DIR")
    parser.add_argument("--jobs", type=positive, metavar="N", help="training runs at a time")
    parser.add_argument("--ray", nargs="?", const=cluster.LOCAL, metavar="ADDRESS", help="train on a Ray cluster")
    parser.add_argument("--text-encoder", metavar="NAME_OR_FOLDER")
    parser.add_argument("--finetune-text", action="store_true")
    parser.add_argument("--tune", type=positive, metavar="N", help="settings tried for each system of Tables 1-4")
    given = vars(parser.parse_args(arguments))
    only, ray = given.pop("only"), given.pop("ray")
    if ray == "":
        raise Usage("--ray=: found no address after it, expected one, or --ray alone")
    if only is not None and only not in NAMES:
        raise Usage(f"--only {only}: unknown, expected one of {', '.join(NAMES)}{sources.nearest(only, NAMES)}")
    only = ALIASES.get(only, only)
    given["out"] = given["out"].resolve()
    for key in ("source", "text_encoder"):  # notebooks run in a folder of their own
        if given[key] is not None and Path(given[key]).exists():
            given[key] = str(Path(given[key]).resolve())
    return Options(**given), only, ray


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


# ---------------------------------------------------------------------------------------------- what to do


def select(options: Options, only: str | None) -> tuple[list[str], list[str]]:
    """Names of the tables and notebooks to make: those asked for whose data can be had.

    What is missing is printed at once, before hours are spent.

    Raises:
        Usage: if nothing is left.
    """
    missing = {corpus: sources.available(corpus, options.source) for corpus in CORPORA} if _needs_files(options) else {}
    if missing and all(missing.values()):
        raise Usage(next(iter(missing.values())))
    for sentence in dict.fromkeys(filter(None, missing.values())):
        print(f"run_all.sh: left out: {sentence}", file=sys.stderr)
    if options.source.startswith("public"):
        if sentence := sources.available("mosi", options.source):
            raise Usage(sentence)
        missing = dict.fromkeys(set(CORPORA) - {"mosi"}, "public data are CMU-MOSI's alone")
    if only == CLAIMS:
        return [], []
    chosen_tables = [
        t
        for t, number in TABLES.items()
        if not missing.get(CORPUS_OF[number]) or (number in (5, 6) and options.source.startswith("public"))
    ]
    chosen_notebooks = [
        n
        for n, corpora in NOTEBOOKS.items()
        if not any(missing.get(c) for c in corpora or ())
        and all(f"table{number}" in chosen_tables for number in MADE_IN.get(n, ()))
        and (n != ALIASES["figure5"] or not missing.get(presets.figure5_corpus(options)))
    ]
    if only is not None:
        chosen_tables, chosen_notebooks = ([n for n in c if n == only] for c in (chosen_tables, chosen_notebooks))
    elif options.source.startswith("public"):
        chosen_tables, chosen_notebooks = (
            [n for n in c if n not in HOURS_ON_PUBLIC] for c in (chosen_tables, chosen_notebooks)
        )
    if not chosen_tables and not chosen_notebooks:
        raise Usage(f"{only or 'every table'}: its data cannot be had from {options.source}")
    return chosen_tables, chosen_notebooks


def _needs_files(options: Options) -> bool:
    return options.source not in ("planted", "public", "public-mfn")


def planned_runs(options: Options, chosen_tables: list[str], chosen_notebooks: list[str]) -> list[RunSpec]:
    """Every run the chosen tables and notebooks will ask for, each once."""
    specs = []
    for name in chosen_tables:
        specs += MAKERS[TABLES[name]].table_specs(TABLES[name], options)
    for name in chosen_notebooks:
        whole = (*MADE_IN.get(name, ()), *READ_IN.get(name, ()))
        for number in whole:
            specs += MAKERS[number].table_specs(number, options)
        for corpus in () if whole else NOTEBOOKS[name] or ():
            specs += presets.specs(corpus, options)
        if name == ALIASES["figure5"]:
            specs += presets.figure5_specs(options)
        if name == "13_identifiability":
            specs += identifiability.specs(options)
        if name == "03_mosi":
            whole, controls = presets.term_study(options)
            specs += whole + [spec for runs in controls.values() for spec in runs]
    return list(dict.fromkeys(specs))


def check_writable(folder: Path) -> None:
    """Raises: OSError, as one sentence, if nothing can be written below the folder."""
    probe = folder / "runs" / ".writable"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink(missing_ok=True)  # another run may probe at the same time
    except OSError as error:
        raise OSError(f"--out {folder}: cannot be written ({error.strerror}); name another folder") from error


def execute(name: str, options: Options) -> Path:
    """Run a notebook with the options as its parameters; the executed copy lies in out/runs/notebooks."""
    import papermill  # slow to import, and not needed for a table alone

    target = Path(options.out) / "runs" / "notebooks" / f"{name}.ipynb"
    parameters = {**vars(options), "out": str(options.out)}
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{name}.ipynb",
        target,
        parameters,
        cwd=ROOT / "notebooks",
        kernel_name="python3",
        progress_bar=False,
    )
    return target


def execute_all(names: list[str], options: Options) -> None:
    """Run notebooks, as many at a time as training runs; everything they need has been trained."""
    folder = Path(options.out) / "runs" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    workers = options.jobs or cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))  # for the kernels, which inherit it
    with _errors_to(folder / "kernels.log"), ThreadPoolExecutor(workers) as pool:
        started = time.monotonic()
        running = {pool.submit(execute, name, options): name for name in reversed(names)}  # the first ones are short
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
    check_writable(Path(options.out))
    with alone(Path(options.out)):
        _make(options, only, ray, began)


@contextmanager
def alone(out: Path):
    """One run at a time for a folder: a second one waits, and finds done what the first has done."""
    lock = FileLock(out / "runs" / "run_all.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"run_all.sh: another run_all.sh is at work in {out}; waiting until it is done", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(options: Options, only: str | None, ray: str | None, began: float) -> None:
    chosen_tables, chosen_notebooks = select(options, only)
    specs = planned_runs(options, chosen_tables, chosen_notebooks)
    print(f"run_all.sh: preset {options.preset}, {options.source} data, results in {options.out}", flush=True)
    experiment.run(specs, options.out, options.jobs, ray=ray)
    if chosen_notebooks:
        print(f"executing {len(chosen_notebooks)} notebooks", flush=True)
        execute_all(chosen_notebooks, options)
    made = {number for name in chosen_notebooks for number in MADE_IN.get(name, ())}
    for name in chosen_tables:
        if (number := TABLES[name]) not in made:
            MAKERS[number].build(number, options)
        print("\n" + (options.figures / f"{name}.md").read_text())
    print(f"claims: {claims.write_claims(options)}")
    from finelib.views import report  # draws, so slow to import; processes that train import this module

    page = report.write_report(options)
    minutes, executed = (time.monotonic() - began) / 60, Path(options.out) / "runs" / "notebooks"
    print(
        f"run_all.sh: done in {minutes:.1f} minutes; tables and figures in {options.figures}, executed notebooks in "
        f"{executed}; all of it at a glance: {page}"
    )


def main(arguments: list[str]) -> int:
    """Exit status: 0; 2 for wrong options or data; 1 if a run or a notebook fails; 130, 143 after SIGINT, SIGTERM."""
    try:
        make(*parse(arguments))
    except KeyboardInterrupt as signalled:
        print(
            "\nrun_all.sh: interrupted; all that was trained is kept, the same command goes on from here",
            file=sys.stderr,
        )
        return 143 if isinstance(signalled, processes.Terminated) else 130
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, processes.terminate)
    sys.exit(main(sys.argv[1:]))
