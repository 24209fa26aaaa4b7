"""``run_all.sh``'s work: train what has no record, execute the notebooks, rebuild the tables."""

import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from filelock import FileLock, Timeout

from finelib.config import RunSpec
from finelib.data import doctor, sources, store
from finelib.data.corpora import CORPORA, nearest
from finelib.paper import checklist, objective, own_corpus, score, tables
from finelib.runs import experiment, notebooks, presets, rerun
from finelib.runs.options import ROOT, SITE, Options, parse
from finelib.runs.records import RunRecord
from finelib.scale import cluster, processes
from finelib.study import home_worlds, identifiability, missing_trained, subset_codes, subset_codes_real, terms
from finelib.views import closing

COMMANDS = {"check": doctor.main, "score": score.main, "rerun": rerun.main, "checklist": checklist.main}
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
        pictures: names of what it writes into figures/ beside the tables.
        reads: what else decides its outcome, as a JSON value, beside its text, the options, the runs and the code.
        build: what makes a study, which is made only when asked for, or an own corpus's table.
    """

    corpora: tuple[str, ...] = ()
    runs: Callable[[], Iterable[RunSpec]] = tuple
    tables: tuple[int, ...] = ()
    notebook: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    reads: Callable[[], object] = lambda: None
    build: Callable[[], object] | None = None


def results(options: Options) -> dict[str, Result]:
    """Everything that can be made; of somebody's own corpus its tables alone."""
    if own_corpus.is_asked_for(options):
        return {name: _of_own_corpus(name, options) for name in own_corpus.names(options)}
    found = {f"table{number}": _built(options, number) for number in tables.COLUMNS} | _studies(options)
    if notebooks.FOLDER.is_dir():  # they are no part of an installed package
        found |= {name: replace(r, notebook=r.notebook or name) for name, r in _notebooks(options).items()}
    return found


def _built(options: Options, *numbers: int) -> Result:
    """Tables with their runs; several public ones, and Tables 5 and 6, are made of the corpora that can be had."""
    any_will_do = options.source == "public" and (len(numbers) > 1 or numbers[0] not in tables.CORPUS_OF)
    needed = () if any_will_do else tuple(tables.CORPUS_OF.get(n, presets.figure5_corpus(options)) for n in numbers)
    return Result(needed, lambda: [s for n in numbers for s in tables.table_specs(n, options)], numbers)


def _studies(options: Options) -> dict[str, Result]:
    """What has a command of its own."""

    def study(module: ModuleType, measure: Callable, *more: str) -> Result:
        return Result((), partial(module.specs, options, *more), build=partial(measure, options, *more))

    found = {objective.NAME: replace(study(objective, objective.build), corpora=(presets.figure5_corpus(options),))}
    found[missing_trained.NAME] = study(missing_trained, missing_trained.measure_missing_trained)
    found[home_worlds.NAME] = Result(build=partial(home_worlds.measure_home_worlds, options))
    found |= {name: study(subset_codes, subset_codes.measure_subset_codes, name) for name in subset_codes.STUDIES}
    return found | {subset_codes_real.NAME: study(subset_codes_real, subset_codes_real.measure_on_real)}


def _notebooks(options: Options) -> dict[str, Result]:
    ablated = presets.figure5_corpus(options)  # the corpus of Tables 5, 6 and of Figure 5

    def corpus(name: str) -> Result:
        return Result((name,), partial(presets.specs, name, options), (), "03_corpus", {"corpus": name})

    def seen() -> list:
        """Of each corpus of the source what there is, or what is missing."""
        files = [options.source] if options.source != "planted" else []
        return [sources.available(name, source) or sources.stamp(name, source) for source in files for name in CORPORA]

    def measured(module: ModuleType) -> str | None:
        """What a study has left that a notebook shows."""
        return next((store.checksum(path) for path in module.places(options) if path.exists()), None)

    of_variant = (*subset_codes.STUDIES, subset_codes_real.NAME)
    return {
        "00_start_here": Result(),
        "01_method_walkthrough": Result(  # shows plain.py, comments and all
            pictures=("figure1", "figure2", "figure4"), reads=partial(store.checksum, ROOT / "finelib" / "plain.py")
        ),
        "02_data": Result(reads=seen),
        **{f"03_corpus_{name}": corpus(name) for name in CORPORA},
        "04_terms": Result((ablated,), lambda: [s for runs in terms.run_specs(options).values() for s in runs]),
        "05_tables_1_to_4": _built(options, 1, 2, 3, 4),
        "06_real_mosi": Result(reads=lambda: sources.available("mosi", "public")),
        "07_table_5_modalities": replace(_built(options, 5), pictures=("table5_forest",)),
        "08_table_6_ablations": replace(_built(options, 6), pictures=("table6_forest", "table6_components")),
        "09_figure_5": Result(
            (ablated,), partial(presets.figure5_specs, options), pictures=("figure3", "figure5", "figure5a", "figure5b")
        ),
        "10_mutual_information": Result(pictures=("estimators", "estimators_conditional")),
        "11_identifiability": Result(
            (),
            partial(identifiability.specs, options),
            pictures=("identifiability", "identifiability_factors"),
            reads=lambda: [subset_codes.measured_before(options, name) for name in of_variant],
        ),
        "12_audit": Result(pictures=("audit",)),
        "13_compare": Result(("mosi",), partial(tables.table_specs, 1, options)),
        "14_missing_data": Result(
            ("mosi",),
            partial(tables.own_specs, 1, options),
            pictures=("missing", "missing_subsets"),
            reads=partial(measured, missing_trained),
        ),
        "15_your_own_data": Result(),
        "16_home_worlds": Result(pictures=home_worlds.PICTURES, reads=partial(measured, home_worlds)),
    }


def _of_own_corpus(name: str, options: Options) -> Result:
    runs, build = partial(own_corpus.runs, name, options), partial(own_corpus.build, name, options)
    return Result((), lambda: [spec for specs in runs().values() for spec in specs], build=build)


def asked_for(only: str, found: dict[str, Result]) -> list[str]:
    """The results that one name means.

    Raises:
        Usage: an unknown name, with the most similar one.
    """
    names = {name: [name] for name in found}
    if "09_figure_5" in found:
        names["figure5"] = ["09_figure_5"]
    if several := [name for name, result in found.items() if result.notebook == "03_corpus"]:
        names["03_corpus"] = several
    names |= {CLAIMS: []} if found.keys() - own_corpus.SUBJECTS.keys() else {}  # an own corpus judges none
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
    if own_corpus.is_asked_for(options):
        return {name: found[name] for name in (found if only is None else asked_for(only, found))}
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
    print(f"run_all.sh: preset {options.preset}, {options.source} data, results in {options.out}", flush=True)
    plan = planned_runs(chosen)
    trained = sum(experiment.is_trained(spec, options.out) for spec in plan)
    records = dict(zip(plan, experiment.run(plan, options.out, options.jobs, ray=ray), strict=True))
    found = [as_notebook(name, result, records) for name, result in chosen.items() if result.notebook]
    if todo := notebooks.changed(found, options):
        print(f"executing {len(todo)} notebooks", flush=True)
        notebooks.execute_all(todo, options)
    made = {number for result in chosen.values() if result.notebook for number in result.tables}
    for name, result in [(name, result) for name, result in chosen.items() if not result.notebook]:
        for number in set(result.tables) - made:
            tables.build_table(number, options)
        if result.build:
            result.build()
        print("\n" + (options.figures / f"{name}.md").read_text())
    written = closing.write_pages(options)
    kept = {"training runs": (trained, len(plan)), "notebooks": (len(found) - len(todo), len(found))}
    said = [f"{done} of {all_} {what}" for what, (done, all_) in kept.items() if done]
    if said:
        pages = "" if written else ", claims and report"
        print(f"run_all.sh: there and unchanged, so not made again: {' and '.join(said)}{pages}")
    minutes = (time.monotonic() - began) / 60
    where = f"tables and figures in {options.figures}, executed notebooks in {notebooks.executed(options)}"
    print(
        f"run_all.sh: done in {minutes:.1f} minutes; {where}; all of it at a glance: {options.figures / 'report.html'}"
    )


def as_notebook(name: str, result: Result, records: dict[RunSpec, RunRecord]) -> notebooks.Notebook:
    """The execution that makes a result, given the records of all planned runs."""
    writes = (*(f"table{number}" for number in result.tables), *result.pictures)
    read = tuple(records[spec] for spec in result.runs())
    path = notebooks.FOLDER / f"{result.notebook}.ipynb"
    return notebooks.Notebook(name, path, result.parameters, writes, read, result.reads())


def main(arguments: list[str]) -> int:
    """Exit status: 0; 2 for wrong options or data; 1 if a run or a notebook fails; 130, 143 after SIGINT, SIGTERM.

    What follows the name of one of ``COMMANDS`` is that command's.
    """
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    try:
        make(*parse(arguments))
    except KeyboardInterrupt as signalled:
        said = "interrupted; all that was trained is kept, the same command goes on from here"
        print(f"\nrun_all.sh: {said}", file=sys.stderr)
        return 143 if isinstance(signalled, processes.Terminated) else 130
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1 if isinstance(error, RuntimeError) else 2
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, processes.terminate)
    sys.exit(main(sys.argv[1:]))
