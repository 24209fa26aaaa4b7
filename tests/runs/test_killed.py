"""Killed, interrupted, twice at once, no room: the same command then ends where an undisturbed run ends.

``FINE_KILLS=20 python -m pytest tests/runs/test_killed.py`` kills a run as often; without it three times.
"""

import hashlib
import http.server
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import psutil
import pytest
from make_files import write_mmsa

from finelib.data import download, mmsa, sources
from finelib.data.corpora import CORPORA
from finelib.paper.table import read, write
from finelib.runs.options import ROOT

pytestmark = pytest.mark.long
KILLS = int(os.environ.get("FINE_KILLS", "3"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SYSTEMS = "TFN,LMF,MulT,MISA"  # with FINE five runs: some are done, one is at work, some have not begun
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def command(out, jobs=1):
    options = f"--preset smoke --only table2 --systems {SYSTEMS} --seeds 1 --jobs {jobs} --out".split()
    return [sys.executable, "-m", "finelib", *options, str(out)]


def content(out):
    """Everything that was written and does not speak of time."""
    records = {}
    for path in sorted((out / "runs").glob("*/record.json")):
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("timing", "checksum")}
        records[path.parent.name] = kept
    return records, (out / "figures" / "table2.csv").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def undisturbed(whole):
    """What a run leaves that nothing befalls, and how many seconds it takes."""
    out = whole
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


def unfinished(out, file):
    """Whether a run has this file and no record yet."""
    return any(not (path.parent / "record.json").exists() for path in (out / "runs").glob(f"*/{file}"))


def wait_for(found, process, seconds=120):
    """Until it is found or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and not found():
        assert time.monotonic() < end
        time.sleep(0.001)


def kills_into_runs(out, seconds, chance):
    """Kill a command ``KILLS`` times: between weights and record, at some moment of a run, at some moment of all.

    Whether a run was cut, for each. ``seconds``: what an undisturbed command takes.
    """
    cut = []
    for kill in range(KILLS):
        process = subprocess.Popen(command(out, jobs=2 - kill % 2), env=ENVIRONMENT, start_new_session=True, **SILENT)
        if kill % 3 == 0:
            wait_for(lambda: unfinished(out, "weights.safetensors"), process)
        elif kill % 3 == 1:
            known = set(out.glob("runs/*/lock"))
            wait_for(lambda: set(out.glob("runs/*/lock")) - known, process)  # noqa: B023
            time.sleep(seconds * chance.uniform(0, 0.1))
        else:
            time.sleep(seconds * chance.uniform(0.2, 1.0))
        if process.poll() is None:
            kill_tree(process.pid)
        process.wait()
        cut.append(unfinished(out, "lock"))
    return cut


def test_killed_runs_go_on_and_end_the_same(tmp_path, undisturbed):
    """Runs take less than a second here, so all kills may miss them; then it is tried once more."""
    expected, seconds = undisturbed
    for attempt in range(5):
        out = tmp_path / str(attempt)
        if any(kills_into_runs(out, seconds, random.Random(attempt))):
            break
    else:
        pytest.fail("no kill fell into a run")
    subprocess.run(command(out), env=ENVIRONMENT, check=True, capture_output=True)
    assert content(out) == expected


def killed(task, *arguments, after):
    """Run a task in a process of its own and kill it, and all that it started, after so many seconds."""
    process = multiprocessing.get_context("fork").Process(target=task, args=arguments)
    process.start()
    time.sleep(after)
    if process.is_alive():
        kill_tree(process.pid)
    process.join()


def test_a_killed_conversion_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "other"))
    path = write_mmsa(tmp_path, "mosi", (300, 60, 60))
    started = time.monotonic()
    sources.load("mosi", path)
    seconds, chance = time.monotonic() - started, random.Random(1)
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    for _ in range(max(1, KILLS // 3)):
        killed(sources.load, "mosi", path, after=seconds * chance.uniform(0.3, 1.0))
    found, (truth, _) = sources.load("mosi", path).splits, mmsa.read(path, CORPORA["mosi"])
    for s, split in truth.items():
        assert found[s].ids == split.ids and np.array_equal(found[s].label, split.label)
        assert all(np.array_equal(found[s].frames[m].values, f.values) for m, f in split.frames.items())
    assert not list(tmp_path.glob("cache/corpora/*.partial-*"))


class Slow(http.server.BaseHTTPRequestHandler):
    BODY = bytes(range(256)) * 40

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.BODY)))
        self.end_headers()
        try:
            for start in range(0, len(self.BODY), 512):
                self.wfile.write(self.BODY[start : start + 512])
                time.sleep(0.02)
        except OSError:  # who asked was killed
            pass

    def log_message(self, *_):
        pass


def test_a_killed_download_is_never_used(tmp_path, monkeypatch):
    monkeypatch.delenv("FINE_DATA_MIRROR", raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    checksum = "sha256:" + hashlib.sha256(Slow.BODY).hexdigest()
    file, chance = download.PublicFile("f/x", f"http://127.0.0.1:{server.server_port}/x", checksum), random.Random(2)
    target = tmp_path / "public" / "f" / "x"
    for _ in range(KILLS):
        killed(download.obtain, file, tmp_path, after=chance.uniform(0.05, 0.7))
        assert not target.exists() or target.read_bytes() == Slow.BODY
    assert download.obtain(file, tmp_path).read_bytes() == Slow.BODY
    server.shutdown()
    server.server_close()


def write_again_and_again(tables, folder):
    while True:
        for table in tables:
            write(table, folder)


def test_a_killed_table_is_the_old_one_or_the_new_one(tmp_path, whole, undisturbed):
    table, chance = read(whole / "figures" / "table2.json"), random.Random(3)
    tables = [table, replace(table, notes=(*table.notes, "A longer note. " * 20_000))]
    texts = []
    for each in tables:
        write(each, tmp_path)
        texts.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert len(texts[0]) == 5
    for _ in range(20):
        killed(write_again_and_again, tables, tmp_path, after=chance.uniform(0.05, 0.4))
        for name in texts[0]:
            assert (tmp_path / name).read_bytes() in [text[name] for text in texts]


def signalled(out, jobs, number):
    """The state that a run left and what its process said, after a signal to its group as a terminal sends it."""
    process = subprocess.Popen(
        command(out, jobs), env=ENVIRONMENT, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    wait_for(lambda: list(out.glob("runs/*/record.json")), process)
    wait_for(lambda: unfinished(out, "lock"), process)
    with suppress(ProcessLookupError):  # all runs may be done
        os.killpg(process.pid, number)
    said = process.communicate(timeout=300)[1].decode()
    return list(out.glob("runs/*/checkpoint.pt")), process.returncode, said


@pytest.mark.parametrize(("number", "status", "jobs"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)])
def test_a_signal_saves_the_state_between_two_steps(tmp_path, undisturbed, number, status, jobs):
    """The state is there at once, not from some seconds ago.

    These runs take less than a second, so a signal may come after the last step; then it is tried once more.
    """
    for attempt in range(10):
        out = tmp_path / str(attempt)
        states, returned, said = signalled(out, jobs, number)
        if states:
            break
    assert states, "ten signals, and no state was saved"
    assert returned == status and "interrupted; all that was trained is kept" in said
    assert "Traceback" not in said
    subprocess.run(command(out, jobs), env=ENVIRONMENT, check=True, capture_output=True)
    assert content(out) == undisturbed[0] and not list(out.glob("runs/*/checkpoint.pt"))


def test_two_at_once_on_one_folder(tmp_path, undisturbed):
    pair = [
        subprocess.Popen(
            command(tmp_path), env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(2)
    ]
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
    place = small_disk("size=3m")
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
