"""All systems by all home worlds: how far each comes from a constant (Corr 0) to the oracle (``data.worlds``).

A cell is the share of that way, a system's test Corr over the oracle's, of each of the seeds, which draw the data too;
intervals are Student's over seeds. A system is at home in a world made for its idea; elsewhere it has the first
``AWAY`` seeds. Its diagonal holds (``judge``) if it comes at least ``REACHES`` of the way, ridge on averaged frames
stays below ``RIDGE_BELOW``, and without its part (``taken_out``) it loses at least ``LOSES``, with an interval above 0.
LF-DNN, whose idea ridge shares, need only come so far. Worlds and settings were drawn up with seeds from 10 on, which
are not reported (docs/home_worlds.md). ``run_all.sh --only home_worlds`` makes the matrix.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from tqdm.auto import tqdm

from finelib.baselines import SYSTEMS
from finelib.data.worlds import WORLDS
from finelib.paper import significance
from finelib.runs.checkpoint import Stopped
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import ROOT, Options
from finelib.runs.records import digest, write_atomically
from finelib.scale import processes
from finelib.scale.execute import execute, jobs_that_fit
from finelib.study.home_runs import FINE, NAME, RIDGE, Cell, score, score_and_advance
from finelib.study.taken_out import TAKEN_OUT

REACHES, RIDGE_BELOW, LOSES = 0.7, 0.4, 0.2
AWAY = 3  # seeds of a system that is not at home, at most
DIAGONAL, PICTURES = f"{NAME}_diagonal", (NAME, f"{NAME}_at_home")
# what the demo trains, to keep within its time; FINE among them
QUICK = ("LF-DNN", "TFN", "LMF", "GFN", "Self-MM", "C-MIB", "MSG", "MAG-BERT", FINE)
HOLDS = {True: "yes", False: "no", None: "not measured"}
ROWS = (RIDGE, *SYSTEMS, FINE)
HOME = {system: world for world, made in WORLDS.items() for system in made.homes}


def matrix_cells(seeds: tuple[int, ...]) -> list[Cell]:
    """At home every system, ridge, and every system without its part, with all seeds; elsewhere with ``AWAY`` of them.

    What the verdicts read comes first, so that an interrupted call has most of it.
    """
    found = [Cell(world, RIDGE, seed) for seed in seeds for world in WORLDS]
    for seed in seeds:
        found += [Cell(world, system, seed) for system, world in HOME.items()]
        found += [Cell(HOME[system], system, seed, without=True) for system in TAKEN_OUT]
    found += [Cell(world, system, seed) for seed in seeds[:AWAY] for system in (FINE, *SYSTEMS) for world in WORLDS]
    return list(dict.fromkeys(found))


def diagonal_cells(seed: int) -> list[Cell]:
    """The systems of ``QUICK`` at home, and ridge everywhere."""
    return [Cell(HOME[system], system, seed) for system in QUICK] + [Cell(world, RIDGE, seed) for world in WORLDS]


def measure_home_worlds(options: Options) -> dict:
    """Train what is missing of the matrix; write figures/home_worlds.{json,md}."""
    content = _measure(options, NAME, matrix_cells(options.seed_list))
    write_atomically(options.figures / f"{NAME}.md", as_text(content))
    return content


def measure_diagonal(options: Options) -> dict:
    """The same of ``diagonal_cells``, one seed; figures/home_worlds_diagonal.json."""
    return _measure(options, DIAGONAL, diagonal_cells(options.seed_list[0]))


def _measure(options: Options, name: str, cells: list[Cell]) -> dict:
    _train(cells, options)
    scores = [score(cell, options.preset, options.out) for cell in cells]
    content = summarise(dict(zip(cells, scores, strict=True)))
    key = digest({"content": content, "code": code_hash("finelib.study.home_worlds")})
    return kept(options.figures / f"{name}.json", key, lambda: content)


def _train(cells: list[Cell], options: Options) -> None:
    tasks = [(cell, options.preset, options.out) for cell in cells]
    jobs = min(options.jobs or jobs_that_fit(1), len(tasks))
    with tqdm(total=len(tasks), desc="home worlds", unit="run") as bar:
        with processes.signals_noted() as stop, suppress(Stopped):
            execute(score_and_advance, tasks, [], jobs, None, bar.update, stop)


# ------------------------------------------------------------------------------------------- what was found


def summarise(scores: dict[Cell, dict]) -> dict:
    """Shares of the way with intervals, and of each system that was trained without its part, the verdict."""
    shares: dict[tuple[str, str, bool], list[float]] = {}
    for cell, found in scores.items():
        shares.setdefault((cell.world, cell.system, cell.without), []).append(found["corr"] / found["oracle"])
    matrix: dict[str, dict] = {}
    for (world, system, without), values in shares.items():
        if not without:
            matrix.setdefault(system, {})[world] = asdict(significance.interval(values)) | {"values": values}
    seconds = [found["seconds"] for found in scores.values() if "seconds" in found]
    return {
        "data": "planted",
        "worlds": {w: {"about": made.about, "homes": made.homes, "train": made.train} for w, made in WORLDS.items()},
        "matrix": {system: matrix[system] for system in ROWS if system in matrix},
        "verdicts": {s: judge(s, shares) for s in HOME if (HOME[s], s, False) in shares},
        "parameters": {c.system: f["parameters"] for c, f in scores.items() if "parameters" in f and not c.without},
        "hours": sum(seconds) / 3600,
        "runs": len(seconds),
    }


def judge(system: str, shares: dict[tuple[str, str, bool], list[float]]) -> dict:
    """The rule of the module's first lines for one system, and the numbers that it reads.

    "holds" is None where the system was not trained without its part.
    """
    world = HOME[system]
    own, ridge = shares[world, system, False], shares[world, RIDGE, False]
    reached, linear = significance.interval(own).mean, significance.interval(ridge).mean
    found = {"world": world, "reached": reached, "ridge": linear}
    if system not in TAKEN_OUT:
        return found | {"holds": reached >= REACHES}
    if (world, system, True) not in shares:
        return found | {"holds": None}
    without = shares[world, system, True]
    loss, p = significance.paired(own, without)
    loses = bool(loss.mean >= LOSES and loss.low is not None and loss.low > 0)
    part = {"part": TAKEN_OUT[system].name, "without": asdict(significance.interval(without)) | {"values": without}}
    holds = {"reaches": reached >= REACHES, "ridge_below": linear < RIDGE_BELOW, "loses": loses}
    return found | part | {"loss": asdict(loss), "p": p, **holds, "holds": all(holds.values())}


def best_elsewhere(content: dict) -> dict[str, list[str]]:
    """World -> the systems that come farther in it than every system at home there."""
    matrix, found = content["matrix"], {}
    for world, made in content["worlds"].items():
        home = max(matrix[s][world]["mean"] for s in made["homes"])
        found[world] = [
            s for s in matrix if s not in made["homes"] and matrix[s].get(world, {"mean": -1})["mean"] > home
        ]
    return found


def as_text(content: dict) -> str:
    """The matrix and the verdicts as Markdown tables."""
    worlds = list(content["worlds"])
    lines = [
        "**Home worlds** (planted data): share of the way from a constant to the oracle, mean over seeds, in %",
        "",
    ]
    lines += ["| system | " + " | ".join(worlds) + " |", "|---" * (len(worlds) + 1) + "|"]
    for system, row in content["matrix"].items():
        cells = [_cell(row[w], system in content["worlds"][w]["homes"]) if w in row else "" for w in worlds]
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    taken = f"{content['runs']} runs, {content['hours']:.1f} hours of one core. Away from home: the first {AWAY} seeds."
    return "\n".join([*lines, "", verdict_text(content), taken, ""])


def verdict_text(content: dict) -> str:
    """The verdicts as a Markdown table."""
    lines = ["| system | its world | reached | ridge | taken out | without it | loss | holds |", "|---" * 8 + "|"]
    for system, v in content["verdicts"].items():
        part = ["", "", ""]
        if "part" in v:
            part = [v["part"], f"{100 * v['without']['mean']:.0f}", _span(v["loss"])]
        numbers = [f"{100 * v[name]:.0f}" for name in ("reached", "ridge")]
        lines.append("| " + " | ".join([system, v["world"], *numbers, *part, HOLDS[v["holds"]]]) + " |")
    return "\n".join([*lines, ""])


def _cell(found: dict, home: bool) -> str:
    text = f"{100 * found['mean']:.0f}"
    return f"**{text}**" if home else text


def _span(found: dict) -> str:
    if found["low"] is None:
        return f"{100 * found['mean']:.0f}"
    return f"{100 * found['mean']:.0f} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"


def measured_before(options: Options) -> dict | None:
    """The matrix that was found in this folder, or else what is published with the checkout; nothing is trained."""
    return next((json.loads(path.read_text()) for path in places(options) if path.exists()), None)


def places(options: Options) -> tuple[Path, Path]:
    """Where ``measured_before`` looks."""
    return options.figures / f"{NAME}.json", ROOT / "figures" / "published" / f"{NAME}.json"
