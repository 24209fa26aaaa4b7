"""What venues ask of experiments, answered from the run records: ``python -m finelib checklist``."""

import argparse
import json
import platform
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import joblib
import psutil

from finelib import metrics
from finelib.data.own_labels import title_of
from finelib.paper.table import templates
from finelib.runs.groups import grouped, source_of
from finelib.runs.options import Options
from finelib.runs.records import RECORD, RunRecord, read_record, write_atomically

LACKS = (
    "The records do not say: the model of the processor that trained (they name the device alone), energy, and the "
    "cost of what was tried without a record. Licences of the data and how to get them: data/README.md."
)
NO_SETTINGS = ("chosen", "dev_mae", "dev_error_rate", "run")
TEST = "each run predicts it once, after its epoch is chosen; the presets were chosen on train and dev"
BARS = (
    "mean ± standard deviation over seeds; 95 % t interval over seeds; differences with an interval over seeds and "
    "test utterances, and p after Holm's correction (finelib/paper/significance.py)"
)
NO_SEARCH = (
    "none by `--tune` lies here (no figures/tuning.json). Rates of the smoke and demo presets: "
    "benchmarks/demo_rates.json; settings for public data: benchmarks/public_recipes.json; else published ones"
)


def write_checklist(options: Options) -> Path | None:
    """Write ``options.out``/figures/checklist.md; None, and nothing is written, where there is no record."""
    records, damaged = _records(options.out / "runs")
    if not records:
        return None
    shown = {
        "runs": len(records),
        "place": "runs/",
        "answers": answers(records, damaged, options),
        "data": _data(records),
    }
    options.figures.mkdir(parents=True, exist_ok=True)
    path = options.figures / "checklist.md"
    write_atomically(path, templates(html=False).get_template("checklist.md").render(shown, lacks=LACKS))
    return path


def answers(records: list[RunRecord], damaged: int, options: Options) -> dict[str, str]:
    """Question -> answer, in Markdown.

    Args:
        damaged: how many records cannot be read.
    """
    finished = [record for record in records if not record.failed]
    failed, rows = len(records) - len(finished), grouped(records)
    unreadable = f"; {damaged} more records cannot be read" if damaged else ""
    sizes = Counter(len(row) for row in rows)
    train = [record.config["train"] for record in records]
    kept = Counter(map(_kept, records))
    seconds = [record.timing["seconds"] for record in finished]
    ends = sorted(record.timing["finished"] for record in finished)
    revisions = Counter(record.git_revision for record in records)
    found = {
        "Training runs": f"{len(records):,} of {len(rows):,} rows (a system with its settings on one data set); "
        f"{failed} diverged{unreadable}; predictions, weights and curves of each are kept",
        "Seeds": f"{_numbers({record.seed for record in records})}; seeds a row: {_counted(sizes, 'rows')}",
        "Choice of the epoch": _counted(kept, "runs"),
        "Test split": TEST,
        "Error bars": BARS,
        "Settings": "in every record.json, defaults in finelib/config.py; "
        + _bounds(train, ("lr", "batch_size", "epochs")),
        "Search": _search(options.figures / "tuning.json"),
        "Trained numbers a model": _span([record.parameters for record in finished], "{:,}"),
    }
    if finished:
        memory = [record.timing["peak_memory_mib"] for record in finished if "peak_memory_mib" in record.timing]
        devices = _counted(Counter(record.timing["device"] for record in finished), "runs")
        threads = _numbers({settings["threads"] for settings in train})
        found["Hardware"] = (
            f"{devices}; CPU threads a run: {threads}; memory of a process at most "
            f"{max(memory, default=0):,.0f} MiB; this page was written on {_machine()}"
        )
        hours = f"{sum(seconds) / 3600:.2f} hours of all finished runs, each by its own clock"
        found["Time"] = f"{hours}; a run {_span(seconds, '{:.1f}')} s; ended {ends[0][:10]} to {ends[-1][:10]}"
    found["Code"] = (
        f"revisions {_counted(Counter({_revision(k): n for k, n in revisions.items()}), 'runs')}; each record "
        "names a hash of the code it depends on; `python -m finelib rerun runs/RUN` repeats one and compares"
    )
    every = dict.fromkeys(name for record in records for name in record.versions)
    found["Packages"] = ", ".join(f"{n} {_listed({r.versions[n] for r in records if n in r.versions})}" for n in every)
    return found


def _kept(record: RunRecord) -> str:
    """Which epoch's weights a run kept."""
    last = record.config["train"]["keep_last"]
    return (
        "the last" if last else f"the one with the smallest {metrics.ERRORS[record.dev_error]} on the whole dev split"
    )


def _records(runs: Path) -> tuple[list[RunRecord], int]:
    """The records in a folder, and how many cannot be read, as those of another version of this package."""
    found, damaged = [], 0
    for path in sorted(runs.glob(f"*/{RECORD}")):
        try:
            found.append(read_record(path.parent))
        except ValueError:
            damaged += 1
    return found, damaged


def _data(records: list[RunRecord]) -> list[tuple]:
    """One line for each data set."""
    count = Counter((record.corpus, source_of(record), record.data_hash) for record in records)
    first = {(record.corpus, source_of(record), record.data_hash): record for record in reversed(records)}
    lines = []
    for key, runs in count.items():
        record = first[key]
        design = record.config["data"]["design"]
        source = _name(source_of(record)) + ("" if design == "corpus" else f", design {design}")
        sizes = " / ".join(f"{size:,}" for size in record.sizes.values())
        title = title_of(record.info, record.data)
        lines.append((title, source, sizes, record.encoder, record.data_hash[:12], f"{runs:,}"))
    return lines


def _name(source: str) -> str:
    """A source without the folders that it lies in."""
    return Path(source).name


def _search(log: Path) -> str:
    """The bounds of the search that ``--tune`` noted."""
    if not log.exists():
        return NO_SEARCH
    said = []
    for where, systems in json.loads(log.read_text()).items():
        tried = [line for lines in systems.values() for line in lines]
        each = _numbers({len(lines) for lines in systems.values()})
        names = dict.fromkeys(name for line in tried for name in line if name not in NO_SETTINGS)
        said.append(f"{where}: {len(systems)} systems, settings tried of each: {each}; {_bounds(tried, names)}")
    return "; ".join(said) + "; the smallest dev error of one seed chooses (figures/tuning.json)"


def _bounds(settings: list[dict], names: Iterable[str]) -> str:
    """From the smallest to the largest value of some settings; of those that are no numbers, which there are."""
    said = []
    for name in names:
        values = [line[name] for line in settings if name in line]
        plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        said.append(f"{name} {_span(values, '{:g}') if plain else _listed(map(str, values))}")
    return ", ".join(said)


def _span(values: list, form: str) -> str:
    ends = [form.format(value) for value in (min(values), max(values))] if values else ["–"]
    return " to ".join(dict.fromkeys(ends))


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def _counted(counts: Counter, of: str) -> str:
    return ", ".join(f"{value} ({number:,} {of})" for value, number in sorted(counts.items()))


def _revision(revision: str) -> str:
    """Shortened; "+" for changed files stays."""
    return revision[:12] + ("+" if revision.endswith("+") else "")


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.system()}, {platform.machine()}, {joblib.cpu_count()} CPUs, {memory:.0f} GiB of memory"


def main(arguments: list[str]) -> int:
    """Exit status: 0; 2 for wrong arguments, or where there is no record."""
    parser = argparse.ArgumentParser(
        "python -m finelib checklist", description=__doc__.split(":")[0], allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where run_all.sh wrote (default: as of run_all.sh)")
    options = Options(out=parser.parse_args(arguments).out)
    try:
        path = write_checklist(options)
    except OSError as error:
        print(f"checklist: {error}", file=sys.stderr)
        return 2
    if path is None:
        print(f"checklist: {options.out / 'runs'}: found no run record, expected finished runs", file=sys.stderr)
        return 2
    print(f"{path.read_text()}\nwritten: {path}")
    return 0
