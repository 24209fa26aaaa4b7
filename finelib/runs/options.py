"""What a person may say: the options of ``run_all.sh``, declared once, for the command line and for the notebooks.

This module needs the standard library alone: ``python -m finelib.runs.options ARGUMENTS`` lets ``run_all.sh`` show its
help and refuse wrong arguments before anything is installed.
"""

import argparse
import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from finelib.data.corpora import nearest

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ("smoke", "demo", "paper")
PAPER_SEEDS = (3585, 7154, 8757, 1111, 2222)
SEEDS = {"smoke": 2, "demo": 3, "paper": 5}
SITE = "site"  # what --site asks for
LOCAL_CLUSTER = "local"  # --ray without an address: a cluster that is started here
PARAMETERS = "# Parameters\n"  # first line of papermill's cell of parameters, and of the notebooks' own

DESCRIPTION = """\
Rebuilds the paper's tables and figures and runs every notebook. The first call installs the pinned packages of
requirements.txt into .venv (about a minute, 2.4 GB on disk with a CPU build of PyTorch). Nothing is installed
elsewhere."""
ENVIRONMENT = """\
environment variables:
  FINE_VENV=DIR           the environment to use instead of .venv; one that was not made by this script is used as
                          it is, and nothing is installed in it
  FINE_CACHE=DIR          where downloads and text features are kept
  FINE_DATA_MIRROR=DIR    a folder that serves the public data where there is no network
  PIP_EXTRA_INDEX_URL     https://download.pytorch.org/whl/cpu spares a Linux machine without GPU the CUDA packages"""

# argparse folds what it is given
PRESET_HELP = """smoke: every path in minutes; demo (default): what a newcomer waits for, 20 to 25 minutes; paper: the
paper's sizes and hyper-parameters, 5 seeds, for --source DIR"""
SOURCE_HELP = """planted (default): generated data with known answers; public: the real corpora as far as anybody may
download them (text, and of CMU-MOSI audio); public-mfn: real CMU-MOSI, three modalities, downloaded; or the folder that
holds the licensed feature files, or one file of their form (data/README.md); or your own corpus, a folder of recordings
or a file of features, of which tables of its own are made (docs/your_files.md)"""
OUT_HELP = "where everything is written: DIR/figures, DIR/runs (default: the checkout; without one, the working folder)"
ENCODER_HELP = """for raw text: all-MiniLM-L6-v2, a folder, a name on the Hugging Face hub, or files (the source's own
text features)"""
TUNE_HELP = "Tables 1-4: try N settings of every system, FINE too, and take the best on the dev split"
SYSTEMS_HELP = """Tables 1-4: of the compared systems only these, separated by commas (MulT,MISA); none: FINE and the
references alone"""
ONLY_HELP = "one table, figure, notebook or study: table1, figure5, 03_corpus, objective, claims"
SITE_HELP = """build DIR/site, static pages, from the notebooks, tables and figures that lie in DIR of --out; nothing is
trained"""
RAY_HELP = """train on a Ray cluster: one started here, or the one at ADDRESS (auto, HOST:6379), whose machines must all
see this folder, DIR of --out and FINE_CACHE under the same paths (a shared file system); GPUs: one run on each, or
shared by the N runs of --jobs"""


def _option(default: object, help: str, **command_line: object) -> Any:
    """A field of Options; what else is named goes to ``ArgumentParser.add_argument``."""
    return field(default=default, metadata={"help": help, **command_line})


@dataclass(frozen=True)
class Options:
    """The options of ``run_all.sh``; every notebook takes the same as parameters. Each field says what it means."""

    preset: str = _option("demo", PRESET_HELP, choices=PRESETS)
    source: str = _option("planted", SOURCE_HELP, metavar="NAME")
    n_seeds: int | None = _option(None, "train every model with seeds 0 to N-1", flag="--seeds", metavar="N")
    out: Path = _option(None, OUT_HELP, metavar="DIR")
    jobs: int | None = _option(None, "training runs at a time (default: one per core)", metavar="N")
    text_encoder: str | None = _option(None, ENCODER_HELP, metavar="NAME")
    finetune_text: bool = _option(False, "train the text encoder with the model")
    tune: int | None = _option(None, TUNE_HELP, metavar="N")
    systems: str | None = _option(None, SYSTEMS_HELP, metavar="NAMES")

    def __post_init__(self):
        """Raises: ValueError: a value that does not fit its option, with what was expected."""
        if self.preset not in PRESETS:
            raise ValueError(_unknown("preset", self.preset, PRESETS))
        if self.out is None:
            object.__setattr__(self, "out", ROOT if (ROOT / "run_all.sh").is_file() else Path.cwd())
        for option in fields(self):
            value = getattr(self, option.name)
            fits, expected = FITS[option.type]
            if not fits(value):
                raise ValueError(f"{option.name}: found {value!r}, expected {expected}")
        object.__setattr__(self, "out", Path(self.out))

    @property
    def figures(self) -> Path:
        return self.out / "figures"

    @property
    def seed_list(self) -> tuple[int, ...]:
        """Seeds 0 to N-1 when a number is given; the paper's three and two more for the paper preset."""
        if self.n_seeds is None and self.preset == "paper":
            return PAPER_SEEDS
        return tuple(range(self.n_seeds or SEEDS[self.preset]))


FITS = {  # type of an option -> whether a value fits, and what was expected if not
    int | None: (lambda v: v is None or (type(v) is int and v >= 1), "a whole number of at least 1, or None"),
    str: (lambda v: isinstance(v, str) and v != "", "a name or a path"),
    str | None: (lambda v: v is None or (isinstance(v, str) and v != ""), "a name, a path or None"),
    Path: (lambda v: isinstance(v, (str, Path)) and v != "", "a name or a path"),
    bool: (lambda v: type(v) is bool, "True or False"),
}


def _unknown(what: str, name: object, names: Sequence[str]) -> str:
    return f"{what} {name!r}: unknown, expected one of {', '.join(names)}{nearest(str(name), names)}"


# ---------------------------------------------------------------------------------------------- notebooks


def notebook_options(variables: dict[str, Any], *own: str) -> Options:
    """The options that a notebook's parameters say.

    papermill sets whatever name it is given, in a cell of its own. The last cell of parameters, papermill's or the
    notebook's, must assign options only.

    Args:
        variables: the notebook's ``globals()``.
        own: parameters that this notebook has beside the options.

    Raises:
        ValueError: an unknown parameter, with the most similar one, or a value that does not fit.
    """
    names = [option.name for option in fields(Options)]
    cells = [cell for cell in variables.get("In", ()) if cell.startswith(PARAMETERS)]
    for name in assigned(cells[-1]) if cells else ():
        check_parameter(name, *own)
    return Options(**{name: variables[name] for name in names if name in variables})


def check_parameter(name: str, *own: str) -> None:
    """Raises: ValueError: neither an option nor one of the notebook's own parameters."""
    names = [*(option.name for option in fields(Options)), *own]
    if name not in names:
        raise ValueError(_unknown("notebook parameter", name, names))


def assigned(source: str) -> list[str]:
    """Names that a cell assigns."""
    names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    return [node.id for node in names if isinstance(node.ctx, ast.Store)]


# ------------------------------------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """argparse that answers a wrong option in one sentence, with the nearest right one."""

    def error(self, message: str) -> None:
        options = [option for action in self._actions for option in action.option_strings]
        _, unrecognized, words = message.partition("unrecognized arguments: ")
        hint = nearest(words.split()[0], options) if unrecognized else ""
        self.exit(2, f"run_all.sh: {message}{hint}; all options: run_all.sh --help\n")


def parse(arguments: list[str], script: bool = False) -> tuple[Options, str | None, str | None]:
    """The options, the one name that is asked for, and the address of a Ray cluster.

    Wrong arguments end the process with status 2 and one sentence on standard error.

    Args:
        arguments: the command line.
        script: with the options of ``run_all.sh`` itself, which it has done or will do.
    """
    form = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = Parser(prog="run_all.sh", description=DESCRIPTION, epilog=ENVIRONMENT, **form)
    for option in fields(Options):
        said = dict(option.metadata)
        flag = said.pop("flag", "--" + option.name.replace("_", "-"))
        kind = {int | None: {"type": positive}, Path: {"type": Path}, bool: {"action": "store_true"}}
        parser.add_argument(flag, dest=option.name, default=option.default, **kind.get(option.type, {}), **said)
    parser.add_argument("--only", metavar="NAME", help=ONLY_HELP)
    parser.add_argument("--site", dest="only", action="store_const", const=SITE, help=SITE_HELP)
    parser.add_argument("--ray", nargs="?", const=LOCAL_CLUSTER, type=address, metavar="ADDRESS", help=RAY_HELP)
    if script:
        parser.add_argument("--setup", action="store_true", help="only set up the environment")
        parser.add_argument("--test", action="store_true", help="set up the environment and run the tests")
    given = vars(parser.parse_args(arguments))
    only, ray = given.pop("only"), given.pop("ray")
    given = {option.name: given[option.name] for option in fields(Options)}
    for name in ("source", "text_encoder", "out"):  # notebooks run in a folder of their own
        if given[name] and (name == "out" or Path(given[name]).exists()):
            given[name] = type(given[name])(Path(given[name]).resolve())
    try:
        return Options(**given), only, ray
    except ValueError as error:
        parser.error(str(error))


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


def address(text: str) -> str:
    """The address of a cluster."""
    if not text:
        raise argparse.ArgumentTypeError("found no address after it, expected one, or --ray alone")
    return text


if __name__ == "__main__":
    parse(sys.argv[1:], script=True)
