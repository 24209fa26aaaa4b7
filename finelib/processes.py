"""Many tasks in a few processes that report progress while they work and end when their parent does."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

_steps = None  # a worker's queue to its parent


class Killed(RuntimeError):
    """A worker process ended without a word, as when memory runs out; ``task`` is one that it may have had."""

    def __init__(self, task: tuple):
        super().__init__("a worker process was killed (out of memory?)")
        self.task = task


def run(work: Callable, tasks: list[tuple], jobs: int, on_progress: Callable[[int], object]) -> None:
    """Call ``work(*task, advance)`` for every task in ``jobs`` new processes; what they advance by arrives here.

    Args:
        work: a function of a module, so that a new process can import it.

    Raises:
        Killed: a worker died.
        Exception: whatever ``work`` raises; tasks that have not begun are then dropped.
    """
    context = multiprocessing.get_context("spawn")
    steps = context.Queue()
    with ProcessPoolExecutor(jobs, context, _start_worker, (steps,)) as pool:
        pending = {pool.submit(_call, work, task): task for task in tasks}
        try:
            while pending:
                try:
                    on_progress(steps.get(timeout=0.2))
                except queue.Empty:
                    pass
                for future in [f for f in pending if f.done()]:
                    task = pending.pop(future)
                    try:
                        future.result()
                    except BrokenProcessPool as error:
                        raise Killed(task) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        while not steps.empty():
            on_progress(steps.get())


def _start_worker(steps) -> None:
    global _steps
    _steps = steps
    parent = os.getppid()

    def stop_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=stop_with_parent, daemon=True).start()


def _call(work: Callable, task: tuple) -> None:
    work(*task, _steps.put)
