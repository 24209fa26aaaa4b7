"""``--tune N``: every system, FINE too, gets N settings; the best on the dev split is run with every seed.

The first setting is the one without tuning; the others are drawn from the system's space by a seed of its name, so the
same N gives the same settings. The test split takes no part.
"""

import json
import random
from dataclasses import replace
from typing import Any

from finelib.baselines import SYSTEMS
from finelib.config import FineConfig, RunSpec
from finelib.runs import experiment
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, write_atomically

TRAINING = {"lr": (1e-4, 3e-4, 1e-3, 3e-3), "batch_size": (16, 32, 64)}  # drawn for every system
FINE_SPACE = {"dropout": (0.0, 0.1, 0.2, 0.3), "beta_mi": (0.1, 0.5, 1.0), "lambda_cl": (0.1, 0.3, 1.0)}
DRAWS = 100  # attempts at a setting that was not drawn yet, before a small space counts as used up


def tuned(specs: list[RunSpec], options: Options) -> list[RunSpec]:
    """The specs with each row's settings replaced by the best of its ``options.tune``; writes ``figures/tuning.json``.

    Settings are compared with the first seed.
    """
    settings = {spec.name: candidates(spec, options.tune) for spec in reversed(specs) if spec.seed == specs[0].seed}
    settings = {name: settings[name] for name in dict.fromkeys(spec.name for spec in specs)}
    records = experiment.run_groups(settings, options.out, options.jobs)
    best, log = {}, {}
    for name, found in settings.items():
        scored = list(zip(found, records[name], strict=True))
        best[name] = min(scored, key=lambda pair: pair[1].valid[pair[1].dev_error])[0]
        log[name] = [_line(candidate, record, candidate is best[name]) for candidate, record in scored]
    _write(options, specs[0], log)
    return [replace(spec, model_config=best[spec.name].model_config, train=best[spec.name].train) for spec in specs]


def space(model: Any) -> dict[str, tuple]:
    """Field of a model's configuration -> the values that are drawn; none for the text encoder alone."""
    if isinstance(model, FineConfig):
        return FINE_SPACE
    return next((system.SPACE for system in SYSTEMS.values() if isinstance(model, system.Config)), {})


def candidates(spec: RunSpec, count: int) -> list[RunSpec]:
    """``count`` settings of a run, all different, its own first; fewer where the space is used up."""
    draw, found = random.Random(spec.name), [spec]
    for _ in range(DRAWS * count):
        if len(found) == count:
            break
        changes = {field: draw.choice(values) for field, values in space(spec.model_config).items()}
        rate = {field: draw.choice(values) for field, values in TRAINING.items()}
        train = replace(spec.train, **rate)
        candidate = replace(spec, model_config=replace(spec.model_config, **changes), train=train)
        if candidate not in found:
            found.append(candidate)
    return found


def _line(candidate: RunSpec, record: RunRecord, chosen: bool) -> dict:
    model = {field: getattr(candidate.model_config, field) for field in space(candidate.model_config)}
    train = {field: getattr(candidate.train, field) for field in TRAINING}
    error = {f"dev_{record.dev_error}": record.valid[record.dev_error]}
    return {"chosen": chosen} | error | train | model | {"run": record.id}


def _write(options: Options, spec: RunSpec, log: dict) -> None:
    """Add a corpus's settings to the file, which holds those of every table."""
    path = options.figures / "tuning.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(path.read_text()) if path.exists() else {}
    content[f"{spec.data.corpus}, {options.source}"] = log
    write_atomically(path, json.dumps(content, indent=1))
