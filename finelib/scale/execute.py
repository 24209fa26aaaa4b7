"""Many tasks: one after another here, in processes of this machine, or on a Ray cluster."""

from collections.abc import Callable

import joblib

from finelib.scale import cluster, processes
from finelib.scale.processes import Advance, Stop, Tasks


def execute(
    work: Callable, tasks: Tasks, cpus: list[int], jobs: int, ray: str | None, advance: Advance, stop: Stop
) -> None:
    """Call ``work(*task, advance, stop)`` for every task: ``cluster.run`` at the address ``ray``, or ``processes.run``.

    Args:
        jobs: tasks at a time; 1 is in this process.
    """
    if ray:
        cluster.run(work, tasks, cpus, ray, jobs, advance, stop)
    elif jobs == 1:
        for task in tasks:
            work(*task, advance, stop)
    else:
        processes.run(work, tasks, jobs, advance, stop)


def jobs_that_fit(threads: int) -> int:
    """How many tasks of so many threads the CPUs of this machine hold, as this process may use them."""
    return max(1, joblib.cpu_count() // threads)
