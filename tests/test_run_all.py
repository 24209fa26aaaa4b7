"""run_all.sh's own work: options, environment, hand-over. A Python and a uv stand in for installing, and record it.

``FINE_BASH=PATH python -m pytest tests/test_run_all.py`` tries another bash, as the 3.2 that macOS has.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from finelib.runs.options import ROOT, Options

# what venv and pip would do is recorded; all else is the real Python's
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
    "-m venv "*) echo venv >>"$CALLS"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip "*)
        echo "pip ${*:5}" >>"$CALLS"; echo "Collecting torch"
        for _ in {1..600}; do [[ -n "${HOLD:-}" && -e "$HOLD" ]] || break; sleep 0.05; done
        [[ -z "${BROKEN:-}" ]] || { echo "$BROKEN"; exit 1; }
        if [[ "$*" == *uv==* ]]; then
            [[ -z "${NO_UV:-}" ]] || { echo "ERROR: No matching distribution found for uv"; exit 1; }
            cp "$(dirname "$0")/../../../bin/uv.to.fetch" "$(dirname "$0")/uv"
        fi ;;
    "-m finelib"|"-m finelib "* | "-m pytest"*) echo "in $PWD:"; printf '[%s]' "$@"; echo; exit "${STATUS:-0}" ;;
    *get_path*) mkdir -p "$(dirname "$0")/../lib" && cd "$(dirname "$0")/../lib" && pwd ;;
    *) exec "REAL" "$@" ;;
esac
"""
FAKE_UV = """#!/usr/bin/env bash
echo "uv $*" >>"$CALLS"
[[ -z "${BROKEN_UV:-}" ]] || { echo "error: $BROKEN_UV"; exit 2; }
echo "Installed 180 packages in 2s"
"""
# macOS's tools know no long options
PLAIN_TOOL = """#!/bin/sh
for word; do
    case "$word" in --*) echo "NAME: illegal option -- -" >&2; exit 64 ;; esac
done
exec "REAL" "$@"
"""
BASH = shutil.which(os.environ.get("FINE_BASH", "bash"))


class Checkout:
    """A copy of the script and the lock in a folder with a space, called from another folder."""

    def __init__(self, folder: Path):
        self.root, self.elsewhere, self.bin = folder / "my checkout", folder / "else where", folder / "bin"
        for made in (self.root, self.elsewhere, self.bin):
            made.mkdir()
        for name in ("run_all.sh", "requirements.txt"):
            shutil.copy(ROOT / name, self.root)
        (self.root / "finelib").symlink_to(ROOT / "finelib")
        (self.bin / "bash").symlink_to(BASH)
        for tool in "awk cat cp dirname env find grep ls mkdir rm sleep tail tee".split():
            self.tool(PLAIN_TOOL.replace("NAME", tool).replace("REAL", shutil.which(tool)), tool)
        self.python(FAKE_PYTHON.replace("REAL", sys.executable))
        self.tool(FAKE_UV, "uv.to.fetch")
        self.calls = folder / "calls"

    def tool(self, script: str, name: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def python(self, script: str, name: str = "python3.11") -> None:
        self.tool(script, name)

    def start(self, *options: str, **environment: str) -> subprocess.Popen:
        env = {"PATH": str(self.bin), "HOME": str(self.elsewhere), "CALLS": str(self.calls), **environment}
        command = [BASH, str(self.root / "run_all.sh"), *options]
        return subprocess.Popen(
            command,
            env=env,
            cwd=self.elsewhere,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *options: str, **environment: str) -> subprocess.CompletedProcess:
        process = self.start(*options, **environment)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def steps(self) -> list[str]:
        """What installed, and what it was told to install."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def installs(self) -> int:
        """How often an installation got as far as its packages."""
        return sum(step.startswith("pip ") and "torch" in step for step in self.steps())


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def sentence(result) -> str:
    assert result.returncode == 2 and result.stderr.startswith("run_all.sh: ") and result.stderr.count("\n") == 1
    return result.stderr


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def test_bytecode_is_written_into_the_environment_where_it_is_forbidden(checkout):
    """Without it each of the demo's processes compiled all that it imports, for six seconds."""
    checkout.python(FAKE_PYTHON.replace("REAL", sys.executable).replace("""printf '[%s]' "$@\"""", "env"))
    forbidden, usual = checkout(PYTHONDONTWRITEBYTECODE="1"), checkout()
    assert "PYTHONDONTWRITEBYTECODE" not in forbidden.stdout and "PYTHONPYCACHEPREFIX" not in usual.stdout
    assert f"PYTHONPYCACHEPREFIX={checkout.root}/.venv/bytecode" in forbidden.stdout.splitlines()


def test_help_needs_no_environment(checkout):
    result = checkout("--help")
    assert result.returncode == 0 and not checkout.installs() and not (checkout.root / ".venv").exists()
    assert set(OPTION.findall(result.stdout)) == {
        "--help",
        "--setup",
        "--test",
        "--only",
        "--ray",
        "--site",
        *("--seeds" if f.name == "n_seeds" else "--" + f.name.replace("_", "-") for f in fields(Options)),
    }


def test_help_without_a_python_says_what_is_needed(checkout):
    (checkout.bin / "python3.11").unlink()
    result = checkout("--help")
    assert result.returncode == 0 and "Python 3.11" in result.stdout and "--setup" in result.stdout


def test_arguments_are_checked_by_the_standard_library_alone(tmp_path):
    """A fresh machine has a Python and nothing else."""
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
        "runpy.run_module('finelib.runs.options', run_name='__main__')"
    )
    command = [sys.executable, "-I", "-S", "-B", "-c", code, str(ROOT), "--sedes", "3"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and "did you mean '--seeds'?" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sedes", "3"], "unrecognized arguments: --sedes 3; did you mean '--seeds'?"),
        (["--setup", "--tset"], "unrecognized arguments: --tset; did you mean '--test'?"),
        (
            ["--out", "here", "--finetune_text"],
            "unrecognized arguments: --finetune_text; did you mean '--finetune-text'?",
        ),
        (["table1"], "unrecognized arguments: table1;"),
        (["--preset", "demo", "--only"], "argument --only: expected one argument"),
        (["--preset", "dmo"], "argument --preset: invalid choice: 'dmo'"),
        (["--seeds", "0"], "argument --seeds: found '0', expected a whole number of at least 1"),
        (["--source="], "source: found '', expected a name or a path"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_installed(checkout, options, said):
    assert said in sentence(checkout(*options))
    assert not checkout.installs() and not (checkout.root / ".venv").exists()


def test_everything_else_is_handed_over_as_it_is(checkout):
    options = ["--preset", "smoke", "--out", "a b/--test", "--seeds=2", "--finetune-text", "--only", "no such table"]
    result = checkout(*options, STATUS="7")
    assert result.returncode == 7
    assert f"in {checkout.elsewhere}:\n[-m][finelib]" + "".join(f"[{o}]" for o in options) in result.stdout


@pytest.mark.parametrize("options", ["--ray", "--ray auto --seeds 2", "--ray=host:6379", "--ray --seeds 2"])
def test_the_cluster_may_have_an_address(checkout, options):
    result = checkout(*(options := options.split()))
    assert result.returncode == 0 and "[-m][finelib]" + "".join(f"[{o}]" for o in options) in result.stdout


def test_only_one_word_is_the_address(checkout):
    assert "unrecognized arguments: table1;" in sentence(checkout("--ray", "auto", "table1"))
    assert "unrecognized arguments: --rya; did you mean '--ray'?" in sentence(checkout("--rya"))


def test_tests_run_in_the_checkout(checkout):
    assert f"in {checkout.root}:\n[-m][pytest]" in checkout("--test", "--setup").stdout


def test_environment_is_made_once_and_finds_finelib(checkout):
    first, second = checkout("--setup"), checkout()
    assert first.returncode == second.returncode == 0 and checkout.installs() == 1
    assert "Collecting torch" in first.stdout and "[finelib]" not in first.stdout
    assert (checkout.root / ".venv/lib/finelib.pth").read_text() == f"{checkout.root}\n"
    assert [path.name for path in checkout.elsewhere.iterdir()] == []


def steps_of(checkout, fetched=False, alone=False) -> list[str]:
    lock, python = checkout.root / "requirements.txt", checkout.root / ".venv/bin/python"
    first = f"pip --no-compile -c {lock} torch" + (" uv==0.13.9" if fetched else "")
    return ["venv", first, *([] if alone else [f"uv pip install --python {python} -r {lock}"])]


def test_uv_installs_where_it_is_there(checkout):
    (checkout.bin / "uv.to.fetch").rename(checkout.bin / "uv")
    said = checkout("--setup")
    assert checkout.steps() == steps_of(checkout) and "Installed 180 packages" in said.stdout and not said.stderr


def test_uv_is_fetched_where_it_is_not_there(checkout):
    assert checkout("--setup").returncode == 0 and checkout.steps() == steps_of(checkout, fetched=True)


@pytest.mark.parametrize("broken", ["NO_UV", "BROKEN_UV"])
def test_pip_installs_the_same_lock_where_uv_cannot_be_had_or_fails(checkout, broken):
    said = checkout("--setup", **{broken: "the certificate is not known"})
    assert said.returncode == 0 and "now with pip alone" in said.stdout and "is ready" in said.stdout
    last = f"pip --no-compile -r {checkout.root / 'requirements.txt'}"
    assert checkout.steps() == [*steps_of(checkout, fetched=True, alone=broken == "NO_UV"), last]
    assert "certificate" in (checkout.root / ".venv/install.log").read_text() or broken == "NO_UV"


def test_changed_lock_installs_afresh(checkout):
    checkout("--setup")
    (checkout.root / ".venv/left over").write_text("")
    with (checkout.root / "requirements.txt").open("a") as lock:
        lock.write("another==1\n")
    checkout("--setup")
    assert checkout.installs() == 2 and not (checkout.root / ".venv/left over").exists()


def test_an_active_environment_is_made_anew_by_another_python(checkout):
    """The one that goes is first on PATH."""
    checkout("--setup")
    active = checkout.root / ".venv" / "bin"
    shutil.copy(active / "python", active / "python3.11")
    (checkout.root / "requirements.txt").write_text("another==1\n")
    done = checkout("--setup", PATH=f"{active}:{checkout.bin}")
    assert done.returncode == 0 and "ready" in done.stdout, done.stderr


def test_failed_or_interrupted_install_is_not_taken_for_finished(checkout):
    said = checkout(BROKEN="ERROR: No space left on device")
    assert said.returncode == 2 and "No space left on device" in said.stderr and "[finelib]" not in said.stdout
    assert checkout("--setup").returncode == 0 and checkout.installs() == 2
    (checkout.root / ".venv/.finelib-lock").write_text("installing\n")
    checkout("--setup")
    assert checkout.installs() == 3


def wait_for(found):
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def start_and_hold(checkout) -> tuple[subprocess.Popen, Path]:
    """An installation that stays in the middle until the returned file goes."""
    hold = checkout.elsewhere / "hold"
    hold.touch()
    first = checkout.start("--setup", HOLD=str(hold))
    wait_for(checkout.installs)
    return first, hold


def test_two_first_installations_at_once_are_one(checkout):
    first, hold = start_and_hold(checkout)
    (checkout.root / ".venv/half made").touch()
    others = [checkout.start("--setup") for _ in range(2)]
    said = [other.stdout.readline() for other in others]
    assert said == [f"run_all.sh: another run_all.sh is installing into {checkout.root}/.venv; waiting for it\n"] * 2
    assert (checkout.root / ".venv/half made").exists()
    hold.unlink()
    ended = [process.communicate(timeout=60) for process in (first, *others)]
    assert [process.returncode for process in (first, *others)] == [0, 0, 0], ended
    assert checkout.installs() == 1 and all("installing requirements.txt" not in output for output, _ in ended[1:])
    assert all(output.endswith(".venv is ready\n") for output, _ in ended)


def test_a_killed_installation_blocks_no_other(checkout):
    first, hold = start_and_hold(checkout)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    hold.unlink()
    second = checkout("--setup")
    assert second.returncode == 0 and "waiting" not in second.stdout and checkout.installs() == 2


def test_an_empty_folder_is_installed_into(checkout):
    """Between a first call's making the folder and its stamp, a second one sees this."""
    (checkout.root / ".venv").mkdir()
    assert checkout("--setup").returncode == 0 and checkout.installs() == 1


def test_moved_environment_is_made_again(checkout):
    checkout("--setup")
    moved = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.root = moved
    checkout("--setup")
    assert checkout.installs() == 2


def test_environment_of_the_user_is_used_as_it_is(checkout):
    (checkout.elsewhere / "mine/bin").mkdir(parents=True)
    shutil.copy(checkout.bin / "python3.11", checkout.elsewhere / "mine/bin/python")
    result = checkout("--seeds", "1", FINE_VENV="mine")
    assert "[finelib][--seeds][1]" in result.stdout and "as it is" in result.stdout
    assert not checkout.calls.exists() and not (checkout.root / ".venv").exists()


def test_environment_of_the_user_that_lacks_packages_says_so(checkout):
    (checkout.elsewhere / "mine/bin").mkdir(parents=True)
    bare = checkout.elsewhere / "mine/bin/python"
    bare.write_text(f'#!/usr/bin/env bash\nexec "{Path(sys.executable).resolve()}" -IS "$@"\n')
    bare.chmod(0o755)
    assert "lacks torch transformers papermill pytest" in sentence(checkout(FINE_VENV="mine"))


def test_folder_that_cannot_be_written_says_so(checkout):
    (checkout.elsewhere / "file").write_text("")
    assert "cannot be written; set FINE_VENV" in sentence(checkout("--setup", FINE_VENV="file/venv"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_checkout_says_so(checkout):
    checkout.root.chmod(0o555)
    try:
        assert "cannot be written; set FINE_VENV" in sentence(checkout("--setup"))
    finally:
        checkout.root.chmod(0o755)


def test_old_python_says_so(checkout):
    (checkout.bin / "python3.11").unlink()
    checkout.python('#!/usr/bin/env bash\n[[ "$1" == --version ]] && echo Python 3.9.2\nexit 1\n', "python3")
    assert "found Python 3.9.2, expected Python 3.11 or later" in sentence(checkout("--setup"))


def test_python_without_venv_says_so(checkout):
    script = (checkout.bin / "python3.11").read_text()
    checkout.python(script.replace("*get_path*)", '*"import ensurepip"*) exit 1 ;;\n    *get_path*)'))
    assert "apt install python3-venv" in sentence(checkout("--setup"))


def test_launcher_that_does_not_work_is_passed_over(checkout):
    (checkout.bin / "python3.11").rename(checkout.bin / "python3.12")
    checkout.python("#!/usr/bin/env bash\nexit 127\n")
    assert "python3.12" in checkout("--setup").stdout


LATER = {  # than bash 3.2, which macOS has
    "mapfile and readarray": r"\b(mapfile|readarray)\b",
    "associative arrays, namerefs": r"\b(declare|local|typeset|readonly) -\w*[Ang]",
    "change of case": r"\$\{\w+(\^|,)",
    "|& and &>>": r"\|&|&>>",
    "negative places": r"\$\{\w+: -|\[-\d+\]",
    "others": r"\$\{\w+@|\bwait -n|\bcoproc\b|\bEPOCH|\[\[ -[vR] |;;?&|\{\w+\}[<>]",
}


@pytest.mark.parametrize("what", LATER)
def test_run_all_has_nothing_that_the_bash_of_macos_lacks(what):
    assert not re.findall(LATER[what], (ROOT / "run_all.sh").read_text())


@pytest.mark.parametrize("script", ["run_all.sh", ".ci/run", ".ci/versions", ".ci/audit", ".ci/licenses"])
def test_scripts_are_bash_and_may_be_executed(script):
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    assert os.access(ROOT / script, os.X_OK)
