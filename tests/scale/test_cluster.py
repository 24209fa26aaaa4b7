"""Training on Ray: a worker killed in the middle, signals, errors; the records are those of a serial run."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.runs import checkpoint, experiment
from finelib.runs.options import ROOT
from finelib.scale import cluster, processes

pytestmark = pytest.mark.long
CONNECTED = cluster.connected  # the tests share one cluster, in whose place this stands
SMALL = FineConfig(width=(16, 16, 16), task_width=16, heads=2, critic_width=16, label_width=8)
SPEC = RunSpec("FINE", DataConfig("mosi", scale=0.05), SMALL, TrainConfig(epochs=3), seed=1)
SPECS = [replace(SPEC, seed=seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def ray():
    """A cluster with two workers, which ``cluster.run`` uses in place of one of its own."""
    ray, handler = cluster.load(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the workers import this file
        with cluster.connected(ray, cluster.LOCAL, 2):
            patch.setattr(cluster, "connected", lambda *_: nullcontext())
            assert signal.getsignal(signal.SIGTERM) is handler
            yield ray


def killed_in_the_middle(spec, folder, advance, stop):
    """``_train_where_shared``, but the first attempt at seed 1 kills its own process once its state is saved."""
    (folder / f"attempt {os.getpid()}").write_text(f"{experiment.__file__} {(folder / 'checkpoint.pt').exists()}")

    def advance_and_die(count):
        advance(count)
        first = len(list(folder.glob("attempt *"))) == 1
        if spec.seed == 1 and first and (folder / "checkpoint.pt").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.CHECKPOINT_SECONDS = -1  # the state is saved after each step
    experiment.train_where_shared(spec, folder, advance_and_die, stop)


def content(record):
    kept = {key: value for key, value in vars(record).items() if key not in ("timing", "folder", "test", "valid")}
    return json.dumps(kept), record.file("weights.safetensors").read_bytes()


def test_a_worker_killed_in_the_middle_changes_nothing(tmp_path, monkeypatch, ray):
    advanced, real = [], cluster.run

    def seen(_work, tasks, cpus, address, jobs, advance, stop):
        real(killed_in_the_middle, tasks, cpus, address, jobs, lambda count: advanced.append(count), stop)

    monkeypatch.setattr(cluster, "run", seen)
    on_ray = experiment.run(SPECS, tmp_path / "ray", jobs=2, progress=False, ray=cluster.LOCAL)
    serial = experiment.run(SPECS, tmp_path / "serial", jobs=1, progress=False)
    for a, b in zip(on_ray, serial, strict=True):
        assert content(a) == content(b)
        np.testing.assert_array_equal(a.predictions()["test"], b.predictions()["test"])
    attempts = [
        [
            path.read_text().rsplit(" ", 1)
            for path in sorted(record.folder.glob("attempt *"), key=lambda path: path.stat().st_mtime)
        ]
        for record in on_ray
    ]
    assert [[resumed for _, resumed in found] for found in attempts] == [["False", "True"], ["False"], ["False"]]
    assert {file for found in attempts for file, _ in found} == {experiment.__file__}
    assert sum(advanced) == 3 * 3 * experiment.corpus_key(SPEC.data)[1]  # the epoch that was done twice counts once
    monkeypatch.setattr(cluster, "run", None)  # the second start trains nothing
    again = experiment.run(SPECS, tmp_path / "ray", ray=cluster.LOCAL)
    assert [content(record) for record in again] == [content(record) for record in on_ray]


def die(folder, advance, stop):
    (folder / str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_kills_each_worker_is_told_after_the_last_attempt(tmp_path, ray, monkeypatch):
    monkeypatch.setattr(cluster, "RETRIES", 1)
    with pytest.raises(processes.Killed) as said:
        cluster.run(die, [(tmp_path,)], [1], cluster.LOCAL, None, print)
    assert said.value.task == (tmp_path,) and len(list(tmp_path.iterdir())) == 2


def note(folder, number, advance, stop):
    (folder / f"{number} began").touch()
    if number == 3:
        raise ValueError("task 3: found a, expected b")
    time.sleep(0.1)
    assert len(list(folder.glob("* began"))) - len(list(folder.glob("* ended"))) == 1
    (folder / f"{number} ended").touch()


def test_so_many_at_a_time_and_an_error_is_raised_here(tmp_path, ray):
    tasks = [(tmp_path, number) for number in range(6)]
    with pytest.raises(ValueError, match="^task 3: found a, expected b$"):
        cluster.run(note, tasks, [1] * 6, cluster.LOCAL, 1, print)
    assert {path.name for path in tmp_path.glob("* began")} == {f"{number} began" for number in range(4)}


def test_code_that_workers_do_not_have_is_one_sentence(ray, monkeypatch):
    monkeypatch.setattr(die, "__module__", "elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", sys.modules[__name__])
    with pytest.raises(RuntimeError, match="found no code .*No module named 'elsewhere'.*; all machines need") as said:
        cluster.run(die, [()], [1], cluster.LOCAL, None, print)
    assert "\n" not in str(said.value)


def test_an_address_where_nothing_answers_is_one_sentence():
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError, match="^--ray 127.0.0.1:.*no Ray cluster .*refused"):
            with CONNECTED(SimpleNamespace(shutdown=list), f"127.0.0.1:{bound.getsockname()[1]}", 1):
                pass  # Ray is not even asked


def test_a_folder_that_another_machine_does_not_see(tmp_path):
    with pytest.raises(OSError, match="none: not found on .*; with --ray, --out must lie where all machines see it"):
        experiment.train_where_shared(SPEC, tmp_path / "none", print, lambda: False)


@pytest.mark.parametrize(
    ("gpus", "jobs", "share"),
    [(0, None, 0), (0, 4, 0), (1, None, 1), (4, None, 1), (4, 2, 1), (1, 4, 1 / 4), (4, 16, 1 / 4), (3, 4, 1 / 2)],
)
def test_share_of_a_gpu(gpus, jobs, share):
    assert cluster.gpu_share(gpus, jobs) == share


def test_a_signal_saves_the_state_and_leaves_no_process(tmp_path):
    """To the whole group, as a terminal sends it."""
    command = [sys.executable, "-m", "finelib", "--ray", "--preset", "demo", "--only", "table2", "--out", tmp_path]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not list(tmp_path.glob("runs/*/lock")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        below = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGTERM)  # Ray has a handler of its own for it
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()  # Ray's processes end with it
    assert process.returncode == 143 and "interrupted; all that was trained is kept" in said, said
    assert "Traceback" not in said and list(tmp_path.glob("runs/*/checkpoint.pt")), said
    assert below and not psutil.wait_procs(below, timeout=120)[1]


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
