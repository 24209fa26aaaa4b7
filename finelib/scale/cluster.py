"""Many tasks on a Ray cluster, as ``processes`` does them on one machine: retried when a worker dies, stopped if asked.

All machines of the cluster must see the same files under the same paths: this checkout, the output folder, FINE_CACHE.
"""

import math
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import joblib

from finelib.scale import processes
from finelib.scale.processes import Advance, Stop, Tasks, never

LOCAL = "local"  # Ray's own name for a cluster that is started here
RETRIES = 3  # new attempts after a worker's death
PASSED_ON = ("FINE_", "HF_", "GLIBC_TUNABLES")  # environment variables that a worker needs as they are here
OBJECT_STORE = 100 * 2**20  # bytes; all that goes through it are settings and counts


class _Board:
    """How far each task has come; lives in a process of the cluster."""

    def __init__(self):
        self.done: dict[int, int] = {}

    def note(self, number: int, done: int) -> None:
        self.done[number] = done

    def read(self) -> dict[int, int]:
        return self.done


def load() -> ModuleType:
    """The package ray, with this process's signal handler and without its messages home.

    Raises:
        ValueError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with _handler_kept():
        try:
            import ray
        except ImportError as error:
            raise ValueError(f'--ray: found no Ray ({error}); pip install "finelib[cluster]"') from error
    return ray


def run(
    work: Callable, tasks: Tasks, cpus: list[int], address: str, jobs: int | None, advance: Advance, stop: Stop = never
) -> None:
    """``processes.run`` on a cluster.

    A task whose worker dies is started anew, at most ``RETRIES`` times; it should go on from what it has saved. What
    it has advanced by is then counted from its start again.

    Args:
        cpus: CPUs that each task asks for. Where the cluster has GPUs, it asks for ``gpu_share`` of one too.
        address: of a running cluster, as ``ray.init`` takes it, or ``LOCAL``: one is started and shut down again.
        jobs: tasks at a time; None for as many as the cluster holds.

    Raises:
        ConnectionError: the cluster cannot be joined.
        processes.Killed: a task's workers died more often than that.
        Exception: whatever ``work`` raises; tasks that have not begun are then dropped.
    """
    ray = load()
    with connected(ray, address, max(*cpus, (jobs or 0) * cpus[0], joblib.cpu_count())):
        drive(ray, work, tasks, cpus, jobs, advance, stop)


def drive(
    ray: ModuleType,
    work: Callable,
    tasks: Tasks,
    cpus: list[int],
    jobs: int | None,
    on_progress: Advance,
    stop: Stop = never,
) -> None:
    """``run`` on the cluster that this process is connected with."""
    gpus = gpu_share(ray.cluster_resources().get("GPU", 0), jobs)
    board = ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()
    call = ray.remote(max_retries=RETRIES)(_call)
    waiting, running, shown = list(range(len(tasks)))[::-1], {}, [0] * len(tasks)
    stopping = False

    def show(number: int, done: int) -> None:
        on_progress(done - shown[number])
        shown[number] = done

    while running or waiting:
        if stop() and not stopping:
            stopping, waiting = True, []
            for reference in running:
                ray.cancel(reference)  # is KeyboardInterrupt there, which ``_call`` notes
            continue
        while waiting and len(running) < (jobs or len(tasks)):
            number = waiting.pop()
            options = call.options(num_cpus=cpus[number], num_gpus=gpus)
            running[options.remote(work, tasks[number], number, board)] = number
        ended, _ = ray.wait(list(running), num_returns=1, timeout=0.2)
        if ended:
            ended, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
        else:
            with suppress(ray.exceptions.RayError):  # the board's process may have died; it comes back
                for number, done in ray.get(board.read.remote()).items():
                    if number in running.values():
                        show(number, done)
        for reference in ended:
            number = running.pop(reference)
            try:
                show(number, _result(ray, reference, tasks[number]))
            except ray.exceptions.TaskCancelledError as error:
                if not stop():  # a machine that is shut down ends its workers so
                    raise processes.Killed(tasks[number]) from error


def gpu_share(gpus: float, jobs: int | None) -> float:
    """GPUs that a task asks for: one, or a share of one where more jobs than GPUs are wanted at a time."""
    return 1 / math.ceil(max(jobs or 1, gpus) / gpus) if gpus else 0


def _result(ray: ModuleType, reference: object, task: tuple) -> int:
    try:
        return ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        raise
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RaySystemError):
            last = str(error.cause).strip().splitlines()[-1]
            raise RuntimeError(f"--ray: a worker found no code ({last}); all machines need this checkout") from error
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise processes.Killed(task) from error


def _call(work: Callable, task: tuple, number: int, board: object) -> int:
    """In a worker: do a task; what it has advanced by in all."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        board.note.remote(number, done)

    with processes.signals_noted() as stop:
        work(*task, advance, stop)
    return done


@contextmanager
def connected(ray: ModuleType, address: str, cpus: int) -> Iterator[None]:
    """Inside, this process drives a cluster: one of its own with so many CPUs, or the one at the address."""
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"env_vars": {**passed_on, "PYTHONPATH": path}}
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": environment}
    # Ray puts sockets there, whose paths must be short
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        own = {}
        if address == LOCAL:
            own = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
            # Ray's niceness of 15 gives way to all else; out of memory it would try for ever
            own |= {"_temp_dir": folder, "_system_config": {"worker_niceness": 0, "task_oom_retries": RETRIES}}
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home folder
        try:
            with _handler_kept():
                try:
                    if ":" in address and "://" not in address:  # Ray itself would try for minutes
                        socket.create_connection(address.rsplit(":", 1), timeout=10).close()
                    ray.init(address, **quiet, **own)
                except Exception as error:  # of many kinds, none of them ours
                    reason = str(error).strip().splitlines()[0]
                    raise ConnectionError(f"--ray {address}: no Ray cluster can be had there ({reason})") from error
            yield
        finally:
            ray.shutdown()


@contextmanager
def _handler_kept() -> Iterator[None]:
    """Inside, SIGTERM's handler may be set by others; then it is what it was.

    It waits until then, and never comes to processes that are started inside: sent to the whole group, it would end
    the cluster before the workers have saved their state. (SIGINT Ray keeps from them by itself.)
    """
    handler = signal.getsignal(signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        with suppress(ValueError):  # not in the main thread, where nothing can have been set
            signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
