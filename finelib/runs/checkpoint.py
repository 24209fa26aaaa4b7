"""A training that can be interrupted: its state on disk now and then, whole or noticed as damaged."""

import io
import logging
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from finelib.models import load_weights
from finelib.training import History, OnEpoch, Trainer

CHECKPOINT_SECONDS = 20
AS_IT_IS = ("best", "update", "pending", "terms", "sizes")  # what a state holds of a Trainer without conversion
log = logging.getLogger(__name__)


class Stopped(BaseException):
    """``stop`` asked for it; the state is in the checkpoint. Like KeyboardInterrupt, no error."""


def run(trainer: Trainer, path: Path, on_epoch: OnEpoch | None, stop: Callable[[], bool]) -> History:
    """``Trainer.run`` with its state kept in a file; if the file exists, training goes on from there.

    It ends with the same numbers as without the interruption.

    Args:
        on_epoch: as in ``Trainer.run``.
        stop: asked after each update; when it says so, the state is saved and training ends.

    Raises:
        Stopped: when ``stop`` said so.
    """
    if state := read_state(path, trainer.device):
        restore(trainer, state)
    saved_at = time.monotonic()

    def after_update(trainer: Trainer) -> None:
        nonlocal saved_at
        stopping = stop()
        if stopping or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            write_state(path, state_of(trainer))
            saved_at = time.monotonic()
        if stopping:
            raise Stopped

    return trainer.run(after_update, on_epoch)


def state_of(trainer: Trainer) -> dict:
    """All that decides how a training goes on, the random generators included."""
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    state = {"model": trainer.model.state_dict(), "optimiser": trainer.optimiser.state_dict()}
    state |= {"order": trainer.order.get_state(), "generators": generators, "history": vars(trainer.history)}
    return state | {name: getattr(trainer, name) for name in AS_IT_IS}


def restore(trainer: Trainer, state: dict) -> None:
    """Let a new Trainer go on from a state; sets the random generators as they were."""
    load_weights(trainer.model, state["model"], "state of an interrupted run")
    trainer.optimiser.load_state_dict(state["optimiser"])
    trainer.order.set_state(state["order"])
    trainer.history = History(**state["history"])
    for name in AS_IT_IS:
        setattr(trainer, name, state[name])
    torch.set_rng_state(state["generators"]["cpu"])
    if "cuda" in state["generators"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["generators"]["cuda"])


def write_state(path: Path, state: dict) -> None:
    """Write a state beside ``path`` and move it there."""
    content = io.BytesIO()
    torch.save(state, content)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(zlib.crc32(content.getvalue()).to_bytes(4) + content.getvalue())
    os.replace(partial, path)


def read_state(path: Path, device: torch.device) -> dict | None:
    """The state in a file; None where there is none, or where it is damaged, which is said."""
    if not path.exists():
        return None
    content = path.read_bytes()
    if zlib.crc32(content[4:]).to_bytes(4) != content[:4]:
        log.warning("%s: found a damaged state, the run begins anew", path)
        return None
    return torch.load(io.BytesIO(content[4:]), map_location={"cuda:0": str(device)}, weights_only=True)
