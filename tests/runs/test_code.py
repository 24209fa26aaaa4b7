"""A run becomes stale when code that decides it changes, and only then."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import copied_code
import pytest

from finelib.baselines.variants import VariantConfig
from finelib.config import DataConfig, EncoderConfig, FineConfig, RunSpec, TrainConfig
from finelib.models import system_config
from finelib.runs import code, records
from finelib.scale.streamed import StreamedConfig

ROOT = Path(code.__file__).parents[2]
PLANTED, FILES, PUBLIC = (DataConfig("mosi", source) for source in ("planted", "some/folder", "public"))


class Anything:
    modalities = ("T", "A", "V")


RUNS = {
    "FINE": RunSpec("FINE", PLANTED, FineConfig(), TrainConfig(), 0),
    "variant": RunSpec("w/o MoQ", PLANTED, VariantConfig(variant="w/o MoQ"), TrainConfig(), 0),
    "MISA": RunSpec("MISA", PLANTED, system_config("MISA", Anything)[0], TrainConfig(), 0),
    "encoder": RunSpec("encoder", PUBLIC, EncoderConfig(), TrainConfig(), 0),
    "files": RunSpec("FINE", FILES, FineConfig(), TrainConfig(), 0),
    "streamed": RunSpec("FINE", PLANTED, FineConfig(), StreamedConfig(), 0),
}
EVERY = set(RUNS)
# a file, and the runs that a changed line of it makes stale
STALE = {
    "layers.py": EVERY,
    "metrics.py": EVERY,  # it selects the epoch
    "training.py": EVERY,
    "models.py": EVERY,
    "data/features.py": EVERY,
    "runs/checkpoint.py": EVERY,
    "fine.py": {"FINE", "variant", "files", "streamed"},
    "contrastive.py": {"FINE", "variant", "files", "streamed"},
    "baselines/variants.py": {"variant"},
    "baselines/misa.py": {"variant", "MISA"},  # a variant has its losses
    "baselines/encoder_alone.py": {"encoder"},
    "baselines/tfn.py": set(),
    "data/planted.py": {"FINE", "variant", "MISA", "streamed"},
    "data/mmsa.py": {"files"},
    "data/public.py": {"encoder"},
    "data/text.py": {"encoder", "files"},
    "data/tokens.py": {"encoder", "files"},
    "data/raw_text.py": {"encoder", "files"},
    "data/outliers.py": {"encoder", "files"},
    "data/moments.py": EVERY,
    "scale/streamed.py": {"streamed"},
    "scale/cluster.py": set(),
    "runs/presets.py": set(),
    "paper/tables.py": set(),
    "study/factors.py": set(),
    "views/figures.py": set(),
    "plain.py": set(),
}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the library whose files are read in place of the real ones."""
    shutil.copytree(ROOT / "finelib", tmp_path / "finelib", ignore=shutil.ignore_patterns("__pycache__"))
    copied_code.read_from(tmp_path, monkeypatch)
    return tmp_path / "finelib"


def hashes():
    """Of every run, from the files as they are now."""
    records._run_code.cache_clear()
    found = {name: records.run_code(spec) for name, spec in RUNS.items()}
    records._run_code.cache_clear()
    return found


@pytest.mark.parametrize("file", STALE)
def test_a_changed_line_makes_stale_the_runs_that_it_decides(file, copy):
    before = hashes()
    path = copy / file
    path.write_text(path.read_text() + "\n# a comment changes nothing\n")
    assert hashes() == before
    path.write_text(path.read_text() + "\nCHANGED = 1\n")
    after = hashes()
    assert {name for name in RUNS if after[name] != before[name]} == STALE[file]


def test_docstrings_do_not_count(copy):
    before, path = hashes(), copy / "layers.py"
    path.write_text(path.read_text().replace('"""Mean over real frames', '"""The mean over real frames'))
    assert hashes() == before


def test_every_room_is_tried():
    rooms = {path.parent.name for path in (ROOT / "finelib").glob("*/__init__.py")}
    assert {Path(file).parts[0] for file in STALE if "/" in file} == rooms


def test_the_closure_holds_what_python_imports():
    """Every module of the package that is loaded by importing FINE's module is in its closure."""
    import subprocess

    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, finelib.fine; print(*(m for m in sys.modules if m.startswith('finelib.')))",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    packages = {"finelib.data"}  # an __init__ with a docstring alone
    assert set(said.stdout.split()) - packages == code.closure(["finelib.fine"])


def test_code_is_the_same_text_in_every_python(tmp_path):
    """Python 3.12 and 3.13 write a function in another way; 3.11 writes it so."""
    file = tmp_path / "code.py"
    file.write_text("def f(x):\n    return x\n")
    argument = "arguments(posonlyargs=[], args=[arg(arg='x')], kwonlyargs=[], kw_defaults=[], defaults=[])"
    body = "body=[Return(value=Name(id='x', ctx=Load()))], decorator_list=[]"
    written = f"Module(body=[FunctionDef(name='f', args={argument}, {body})], type_ignores=[])"
    assert code._parsed(file)[1] == written


@pytest.mark.parametrize("python", ["3.12", "3.13", "3.14"])
def test_another_python_finds_the_same_hash(python, tmp_path):
    """Records are shared between machines, as on a cluster."""
    other = shutil.which(f"python{python}")
    script = tmp_path / "text.py"
    script.write_text(
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('code_', sys.argv[1])\n"
        "code = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(code)\n"
        "code.imported = lambda tree: []\n"
        "sys.stdout.write(code._parsed(pathlib.Path(sys.argv[2]))[1])\n"
    )
    run = partial(subprocess.run, capture_output=True, text=True)
    if not other or run([other, "-c", "import sys"]).returncode:
        pytest.skip(f"no Python {python} on this machine")
    for name in ("training.py", "fine.py", "data/planted.py"):
        file = ROOT / "finelib" / name
        found = run([other, script, code.__file__, file], check=True).stdout
        assert found == code._parsed(file)[1]
