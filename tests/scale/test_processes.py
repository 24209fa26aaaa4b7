"""Worker processes: all tasks done, progress arrives, errors and deaths are told."""

import multiprocessing
import os
import platform
import re
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest

from finelib.runs.options import ROOT
from finelib.scale import processes


def write(folder, name, advance, stop):
    (folder / name).write_text(str(os.getpid()))
    advance(len(name))


def fail(advance, stop):
    raise ValueError("task 7: found a, expected b")


def die(advance, stop):
    os.kill(os.getpid(), signal.SIGKILL)


def size_with(folder, name, count, advance, stop):
    much = [np.ones(1_000_000) for _ in range(count)]  # 8 MB each
    (folder / name).write_text(str(psutil.Process().memory_info().rss))
    return much


class Stopped(BaseException):
    pass


def wait(folder, name, advance, stop):
    (folder / f"{name} began").touch()
    while not stop():
        time.sleep(0.01)
    (folder / f"{name} saved").touch()
    raise Stopped


def test_every_task_once_and_its_progress(tmp_path):
    seen = []
    processes.run(write, [(tmp_path, "a"), (tmp_path, "bb"), (tmp_path, "ccc")], 2, seen.append)
    assert sorted(seen) == [1, 2, 3] and {p.name for p in tmp_path.iterdir()} == {"a", "bb", "ccc"}
    assert str(os.getpid()) not in {p.read_text() for p in tmp_path.iterdir()}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators do as they do")
def test_a_worker_gives_back_what_a_task_needed(tmp_path, monkeypatch):
    """Under run_all.sh's settings, by which freed memory is kept for the next step."""
    keep = re.search(r"keep=(\S+)", (ROOT / "run_all.sh").read_text())[1]
    monkeypatch.setenv("GLIBC_TUNABLES", keep)
    processes.run(size_with, [(tmp_path, "most", 60), (tmp_path, "after", 0)], 1, print)
    most, after = (int((tmp_path / name).read_text()) for name in ("most", "after"))
    assert most - after > 300e6


def test_errors_are_raised_here():
    with pytest.raises(ValueError, match="task 7"):
        processes.run(fail, [()], 1, print)


def test_a_killed_worker_is_told():
    with pytest.raises(processes.Killed):
        processes.run(die, [()], 1, print)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, processes.Terminated)]
)
def test_a_signal_stops_the_workers_between_steps_and_no_new_task_begins(tmp_path, number, raised):
    """The signal goes to the parent and, as from a terminal, to the workers, which must not die of it."""

    def everyone_began(_):
        return len(list(tmp_path.glob("* began"))) == 2

    def send():
        while not everyone_began(None):
            time.sleep(0.01)
        for process in multiprocessing.active_children():
            os.kill(process.pid, number)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=send).start()
    with pytest.raises(raised) as seen, processes.signals_noted() as stop:
        with suppress(Stopped):
            processes.run(wait, [(tmp_path, name) for name in "abcd"], 2, print, stop)
    assert type(seen.value) is raised and signal.getsignal(number) is before
    assert {path.name for path in tmp_path.iterdir()} == {"a began", "a saved", "b began", "b saved"}


def test_the_second_signal_is_raised_at_once():
    reached = []
    with pytest.raises(KeyboardInterrupt), processes.signals_noted() as stop:
        signal.raise_signal(signal.SIGINT)
        reached.append(stop())
        signal.raise_signal(signal.SIGINT)
        reached.append("not here")
    assert reached == [True]
