"""What a person may say: the options of ``run_all.sh``, which every notebook takes as parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

from finelib.data.sources import nearest

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ("smoke", "demo", "paper")
BEFORE_PARAMETERS = ("REPOSITORY", "In", "Out")  # plain variables of a notebook's first cell and of IPython
PAPER_SEEDS = (3585, 7154, 8757, 1111, 2222)
SEEDS = {"smoke": 2, "demo": 3, "paper": 5}


@dataclass(frozen=True)
class Options:
    """The options of ``run_all.sh``; every notebook takes the same as parameters.

    Attributes:
        preset: "smoke", "demo" or "paper".
        source: "planted", "public" or a folder of the licensed files.
        n_seeds: number of seeds; None for the preset's own.
        out: results are written to out/figures and out/runs.
        jobs: training processes; None for one per core.
        text_encoder: None for the source's own text features (raw text: all-MiniLM-L6-v2).
        finetune_text: train the text encoder with the model.
        tune: settings tried for each system of Tables 1-4 (``tuning``); None: none but its own.
    """

    preset: str = "demo"
    source: str = "planted"
    n_seeds: int | None = None
    out: Path = ROOT
    jobs: int | None = None
    text_encoder: str | None = None
    finetune_text: bool = False
    tune: int | None = None

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(_unknown("preset", self.preset, PRESETS))
        for name in ("n_seeds", "jobs", "tune"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name}: found {value!r}, expected a whole number of at least 1, or None")
        for name, kinds in (("source", str), ("out", (str, Path)), ("text_encoder", (str, NoneType))):
            if not isinstance(value := getattr(self, name), kinds) or value == "":
                raise ValueError(f"{name}: found {value!r}, expected a name or a path")
        if type(self.finetune_text) is not bool:
            raise ValueError(f"finetune_text: found {self.finetune_text!r}, expected True or False")

    @property
    def figures(self) -> Path:
        return Path(self.out) / "figures"

    @property
    def seed_list(self) -> tuple[int, ...]:
        """Seeds 0 to N-1 when a number is given; the paper's three and two more for the paper preset."""
        if self.n_seeds is None and self.preset == "paper":
            return PAPER_SEEDS
        return tuple(range(self.n_seeds or SEEDS[self.preset]))


def notebook_options(variables: dict[str, Any]) -> Options:
    """The options that a notebook's parameters cell has set.

    papermill sets whatever name it is given, so in a new kernel a variable that is no parameter is a misspelt one.

    Args:
        variables: the notebook's ``globals()``.

    Raises:
        ValueError: an unknown parameter, with the most similar one, or a value that does not fit.
    """
    names = [field.name for field in fields(Options)]
    if not variables.get("_parameters_read"):
        plain = (str, int, float, bool, list, dict, NoneType)
        for name, value in variables.items():
            if name not in (*names, *BEFORE_PARAMETERS) and name[0] != "_" and isinstance(value, plain):
                raise ValueError(_unknown("notebook parameter", name, names))
        variables["_parameters_read"] = True
    return Options(**{name: variables[name] for name in names} | {"out": Path(variables["out"])})


def _unknown(what: str, name: object, names: Sequence[str]) -> str:
    return f"{what} {name!r}: unknown, expected one of {', '.join(names)}{nearest(str(name), names)}"
