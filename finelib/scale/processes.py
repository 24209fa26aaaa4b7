"""Many tasks in a few processes that report progress, stop between two steps when asked, and end with their parent."""

import ctypes
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress

Advance = Callable[[int], object]  # told by how much a task has come further
Tasks = list[tuple]
Stop = Callable[[], bool]  # whether it is time to stop
_steps, _stop = None, None  # in a worker: its queue to its parent, and the event that asks it to stop


class Killed(RuntimeError):
    """A worker process ended without a word, as when memory runs out; ``task`` is one that it may have had."""

    def __init__(self, task: tuple):
        super().__init__("a worker process was killed (out of memory?)")
        self.task = task


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def terminate(*_: object) -> None:
    """A handler for SIGTERM."""
    raise Terminated


def never() -> bool:
    """A ``Stop`` that does not come."""
    return False


@contextmanager
def signals_noted() -> Iterator[Stop]:
    """Inside, SIGINT and SIGTERM are noted, so that work can end between two steps; then they are raised.

    Yields:
        whether one has come. The second one is raised at once.

    Raises:
        KeyboardInterrupt, Terminated: one has come.
    """
    noted: list[int] = []

    def raise_noted() -> None:
        raise Terminated if noted[0] == signal.SIGTERM else KeyboardInterrupt

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        if len(noted) > 1:
            raise_noted()

    if threading.current_thread() is not threading.main_thread():  # only there Python takes signals
        yield never
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if noted:
            raise_noted()


def run(work: Callable, tasks: Tasks, jobs: int, on_progress: Advance, stop: Stop = never) -> None:
    """Call ``work(*task, advance, stop)`` for every task in ``jobs`` new processes; what they advance by arrives here.

    Args:
        work: a function of a module, so that a new process can import it. It should raise when its ``stop()`` is true.
        stop: asked now and then; once it is true, ``stop()`` is in the workers too, and no new task begins.

    Raises:
        Killed: a worker died.
        Exception: whatever ``work`` raises; tasks that have not begun are then dropped.
    """
    context = multiprocessing.get_context("spawn")
    steps, event = context.Queue(), context.Event()
    with ProcessPoolExecutor(jobs, context, _start_worker, (steps, event)) as pool:
        pending = {pool.submit(_call, work, task): task for task in tasks}
        try:
            while pending:
                if stop():
                    event.set()
                with suppress(queue.Empty):
                    on_progress(steps.get(timeout=0.2))
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


def _start_worker(steps, stop) -> None:
    global _steps, _stop
    _steps, _stop = steps, stop
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to all; the parent says what is to be done
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()

    def stop_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=stop_with_parent, daemon=True).start()


def _call(work: Callable, task: tuple) -> None:
    if not _stop.is_set():  # it may have waited in the pool's queue
        try:
            work(*task, _steps.put, _stop.is_set)
        finally:
            return_freed_memory()


def return_freed_memory() -> None:
    """To the system, so that a process does not keep what its largest task needed; done for glibc alone.

    ``run_all.sh`` has the allocator keep freed memory, since that makes the steps of one training quicker.
    """
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
