"""Killed, interrupted, twice at once, no room: the same command then ends where an undisturbed run ends.

``FINE_KILLS=20 python -m pytest tests/test_killed.py`` kills as often; without it three times.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from finelib.presets import ROOT

KILLS = int(os.environ.get("FINE_KILLS", "3"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def command(out, *, only="table2", preset="smoke", jobs=2, seeds=1):
    options = ["--preset", preset, "--only", only, "--jobs", str(jobs), "--seeds", str(seeds), "--out", str(out)]
    return [sys.executable, "-m", "finelib.run", *options]


def content(out):
    """Everything that was written and does not speak of time."""
    records = {}
    for path in sorted((out / "runs").glob("*/record.json")):
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("timing", "checksum")}
        records[path.parent.name] = kept
    return records, (out / "figures" / "table2.csv").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a run leaves that nothing befalls, and how many seconds it takes."""
    out = tmp_path_factory.mktemp("whole")
    started = time.monotonic()
    subprocess.run(command(out), env=ENVIRONMENT, check=True, capture_output=True)
    return content(out), time.monotonic() - started


def kill_tree(pid):
    """SIGKILL a process and all below it, whatever session they are in."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass


def test_killed_runs_go_on_and_end_the_same(tmp_path, undisturbed):
    expected, seconds = undisturbed
    chance = random.Random(0)
    for _ in range(KILLS):
        process = subprocess.Popen(command(tmp_path), env=ENVIRONMENT, start_new_session=True, **SILENT)
        time.sleep(seconds * chance.uniform(0.2, 1.0))
        if process.poll() is None:
            kill_tree(process.pid)
        process.wait()
    subprocess.run(command(tmp_path), env=ENVIRONMENT, check=True, capture_output=True)
    assert content(tmp_path) == expected


def wait_for(found, process, seconds=120):
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "status", "jobs"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)])
def test_a_signal_saves_the_state_between_two_steps(tmp_path, undisturbed, number, status, jobs):
    """To the whole group, as a terminal sends it. The state is there at once, not from some seconds ago."""
    arguments = command(tmp_path, jobs=jobs)
    process = subprocess.Popen(arguments, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True)  # fmt: skip
    wait_for(lambda: list(tmp_path.glob("runs/*/record.json")), process)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/lock"))) > len(list(tmp_path.glob("runs/*/record.json"))), process)
    os.killpg(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == status and "interrupted; all that was trained is kept" in said
    assert "Traceback" not in said
    assert list(tmp_path.glob("runs/*/checkpoint.pt"))
    subprocess.run(arguments, env=ENVIRONMENT, check=True, capture_output=True)
    assert content(tmp_path) == undisturbed[0] and not list(tmp_path.glob("runs/*/checkpoint.pt"))


def test_two_at_once_on_one_folder(tmp_path, undisturbed):
    pair = [subprocess.Popen(command(tmp_path), env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT) for _ in range(2)]  # fmt: skip
    said = [process.communicate(timeout=300)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    assert sorted("another run_all.sh is at work" in text for text in said) == [False, True]
    assert content(tmp_path) == undisturbed[0]


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a small disk with the options it is given; for root alone."""
    mounted = []

    def mount(options):
        place = tmp_path / "disk"
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_fills_is_one_sentence_and_with_room_it_goes_on(small_disk, undisturbed):
    place = small_disk("size=9m")
    done = subprocess.run(command(place), env=ENVIRONMENT, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "No space left" in last and last.startswith("run_all.sh: "), done.stderr
    subprocess.run(["mount", "-o", "remount,size=400m", place], check=True)
    subprocess.run(command(place), env=ENVIRONMENT, check=True, capture_output=True)
    assert content(place) == undisturbed[0]


def test_a_read_only_disk_is_one_sentence(small_disk):
    place = small_disk("size=9m,ro")
    done = subprocess.run(command(place / "below"), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2 and "cannot be written (Read-only file system)" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_clock_that_goes_back_changes_nothing(tmp_path, undisturbed):
    """Files of the future, as if the clock had been set back after they were written: nothing is trained again."""
    subprocess.run(command(tmp_path), env=ENVIRONMENT, check=True, capture_output=True)
    future = time.time() + 10**7
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        os.utime(path, (future, future))
    records = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/record.json")}
    subprocess.run(command(tmp_path), env=ENVIRONMENT, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in records} == records and content(tmp_path) == undisturbed[0]
