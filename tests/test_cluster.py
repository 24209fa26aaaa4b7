"""Training on Ray: a worker killed in the middle, signals, errors; the records are those of a serial run."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from finelib import cluster, experiment
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.presets import ROOT

SMALL = FineConfig(width=(16, 16, 16), task_width=16, heads=2, critic_width=16, label_width=8)
SPEC = RunSpec("FINE", DataConfig("mosi", scale=0.05), SMALL, TrainConfig(epochs=3), seed=1)
SPECS = [replace(SPEC, seed=seed) for seed in (1, 2, 3)]


def killed_in_the_middle(spec, folder, advance, stop):
    """``_train_where_shared``, but the first attempt at seed 1 kills its own process after an epoch."""
    (folder / f"attempt {os.getpid()}").write_text(f"{experiment.__file__} {(folder / 'checkpoint.pt').exists()}")

    def advance_and_die(count):
        advance(count)
        if spec.seed == 1 and len(list(folder.glob("attempt *"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    experiment.training.CHECKPOINT_SECONDS = -1  # the state is saved after each step
    experiment._train_where_shared(spec, folder, advance_and_die, stop)


def content(record):
    kept = {key: value for key, value in record.content.items() if key != "timing"}
    return json.dumps(kept), record.file("weights.safetensors").read_bytes()


def test_a_worker_killed_in_the_middle_changes_nothing(tmp_path, monkeypatch):
    advanced, real = [], cluster.run

    def seen(_work, tasks, cpus, address, jobs, advance, stop):
        real(killed_in_the_middle, tasks, cpus, address, jobs, lambda count: advanced.append(count), stop)

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # of ``killed_in_the_middle``
    monkeypatch.setattr(cluster, "run", seen)
    handler = signal.getsignal(signal.SIGTERM)
    on_ray = experiment.run(SPECS, tmp_path / "ray", jobs=2, progress=False, ray=cluster.LOCAL)
    assert signal.getsignal(signal.SIGTERM) is handler
    serial = experiment.run(SPECS, tmp_path / "serial", jobs=1, progress=False)
    for a, b in zip(on_ray, serial, strict=True):
        assert content(a) == content(b)
        np.testing.assert_array_equal(a.predictions()["test"], b.predictions()["test"])
    attempts = [[path.read_text().rsplit(" ", 1) for path in sorted(record.folder.glob("attempt *"),
                 key=lambda path: path.stat().st_mtime)] for record in on_ray]  # fmt: skip
    assert [[resumed for _, resumed in found] for found in attempts] == [["False", "True"], ["False"], ["False"]]
    assert {file for found in attempts for file, _ in found} == {experiment.__file__}
    assert sum(advanced) == 3 * 3 * experiment.corpus_key(SPEC.data)[1]  # the epoch that was done twice counts once
    monkeypatch.setattr(cluster, "run", None)  # the second start trains nothing
    again = experiment.run(SPECS, tmp_path / "ray", ray=cluster.LOCAL)
    assert [content(record) for record in again] == [content(record) for record in on_ray]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_leaves_no_process(tmp_path, number, status):
    """To the whole group, as a terminal sends it."""
    command = [sys.executable, "-m", "finelib.run", "--ray", "--preset", "demo", "--only", "table2", "--out", tmp_path]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    while not list(tmp_path.glob("runs/*/lock")):
        assert process.poll() is None
        time.sleep(0.05)
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == status and "interrupted; all that was trained is kept" in said, said
    assert "Traceback" not in said and list(tmp_path.glob("runs/*/checkpoint.pt")), said
    assert below and not psutil.wait_procs(below, timeout=10)[1]


def test_simulated_schedules_are_those_worked_by_hand():
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "benchmarks" / "cluster.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    # two workers, no overhead: 5 | 3, then 2 after 3, then 4 after 5 (the tie goes to either): 9
    assert benchmark.simulate([5, 3, 2, 4], 2, 0.0) == 9
    # the driver takes 1 for each: begins at 1 and 2, ends 6 and 5; 5 + 1 + 2 = 8; 6 + 1 + 4 = 11
    assert benchmark.simulate([5, 3, 2, 4], 2, 1.0) == 11
    # workers there only after 10; many workers: the driver's fourth task begins at 14 and takes 4
    assert benchmark.simulate([5, 3, 2, 4], 9, 1.0, 10.0) == 18
    assert benchmark.simulate([1.0] * 100, 1000, 0.5) == 51  # bound by the driver
