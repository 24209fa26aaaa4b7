"""Worker processes: all tasks done, progress arrives, errors and deaths are told."""

import os
import signal

import pytest

from finelib import processes


def write(folder, name, advance):
    (folder / name).write_text(str(os.getpid()))
    advance(len(name))


def fail(advance):
    raise ValueError("task 7: found a, expected b")


def die(advance):
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_task_once_and_its_progress(tmp_path):
    seen = []
    processes.run(write, [(tmp_path, "a"), (tmp_path, "bb"), (tmp_path, "ccc")], 2, seen.append)
    assert sorted(seen) == [1, 2, 3] and {p.name for p in tmp_path.iterdir()} == {"a", "bb", "ccc"}
    assert str(os.getpid()) not in {p.read_text() for p in tmp_path.iterdir()}


def test_errors_are_raised_here():
    with pytest.raises(ValueError, match="task 7"):
        processes.run(fail, [()], 1, print)


def test_a_killed_worker_is_told():
    with pytest.raises(processes.Killed):
        processes.run(die, [()], 1, print)
