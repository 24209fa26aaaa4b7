"""Who may import whom: the contracts of pyproject.toml, and that they notice an import that goes up."""

import shutil
import subprocess
import sys

import pytest

from finelib.runs.code import closure
from finelib.runs.options import ROOT

CHECK = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def contracts(folder) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", CHECK], cwd=folder, capture_output=True, text=True)


def test_imports_point_only_downwards():
    found = contracts(ROOT)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("data/card.py", "from finelib.views import style", "Imports point only downwards BROKEN"),
        ("fine.py", "def later():\n    from finelib import training", "Imports point only downwards BROKEN"),
        ("plain.py", "from finelib import config", "Imports point only downwards BROKEN"),
        (
            "data/corpora.py",
            "def later():\n    from finelib.data import card",
            "No circles, between rooms or within one BROKEN",
        ),
        ("new.py", "", "- finelib.new"),
    ],
)
def test_an_import_that_goes_up_or_round_is_noticed(file, line, said, tmp_path):
    shutil.copytree(ROOT / "finelib", tmp_path / "finelib")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "finelib" / file).open("a") as stream:
        stream.write(f"\n{line}\n")
    found = contracts(tmp_path)
    assert found.returncode == 1 and said in found.stdout, found.stdout


def test_the_core_stays_thin():
    """What is read with FINE's module, modules of a page's length, and nothing new at the top of the package."""
    files = [ROOT / f"{name.replace('.', '/')}.py" for name in closure(["finelib.fine"])]
    lines = [line.strip() for file in files for line in file.read_text().splitlines()]
    assert len(files) <= 10 and sum(bool(line) and line[0] != "#" for line in lines) <= 1400
    assert len(list((ROOT / "finelib").glob("*.py"))) <= 14
    assert max(len(file.read_text().splitlines()) for file in (ROOT / "finelib").rglob("*.py")) <= 300
