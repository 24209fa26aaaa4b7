"""SIGKILL of the whole process tree at any point: the same command then ends where an undisturbed run ends."""

import json
import os
import random
import signal
import subprocess
import sys
import time

from finelib.presets import ROOT


def command(out):
    options = ["--preset", "smoke", "--only", "table2", "--jobs", "2", "--out", str(out)]
    return [sys.executable, "-m", "finelib.run", *options]


def content(out):
    """Everything that was written and does not speak of time."""
    records = {}
    for path in sorted((out / "runs").glob("*/record.json")):
        records[path.parent.name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "timing"}
    return records, (out / "figures" / "table2.csv").read_text()


def test_killed_runs_go_on_and_end_the_same(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    subprocess.run(command(tmp_path / "whole"), env=environment, check=True, capture_output=True)
    seconds = time.monotonic() - started
    killed, chance = tmp_path / "killed", random.Random(0)
    for _ in range(3):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command(killed), env=environment, start_new_session=True, **silent)
        time.sleep(seconds * chance.uniform(0.3, 0.9))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(killed), env=environment, check=True, capture_output=True)
    assert content(killed) == content(tmp_path / "whole")
