"""The state of an unfinished training on disk: whole, or noticed as damaged. The first process writes and reads it."""

from __future__ import annotations

import io
import logging
import os
import zlib
from pathlib import Path

import torch
from torch import Tensor

from finelib import parallel

log = logging.getLogger(__name__)


def write_state(path: Path, state: dict) -> None:
    """Write a state, and the random generators of every process, beside ``path`` and move it there."""
    generators = parallel.of_all(_generators())
    if parallel.rank() == 0:
        content = io.BytesIO()
        torch.save(state | {"generators": generators}, content)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(zlib.crc32(content.getvalue()).to_bytes(4) + content.getvalue())
        os.replace(partial, path)


def read_state(path: Path | None, device: torch.device) -> dict | None:
    """The state in a file, this process's random generators set as they were; None where there is no file.

    Of a damaged file it says so, and gives None. Processes that were not there when it was written keep their
    generators as they are.
    """
    exists = path is not None and path.exists()
    content = parallel.from_first(path.read_bytes() if exists and parallel.rank() == 0 else None)
    if content is None:
        return None
    if zlib.crc32(content[4:]).to_bytes(4) != content[:4]:
        log.warning("%s: found a damaged state, the run begins anew", path)
        return None
    state = torch.load(io.BytesIO(content[4:]), map_location={"cuda:0": str(device)}, weights_only=True)
    if parallel.rank() < len(state["generators"]):
        own = state["generators"][parallel.rank()]
        torch.set_rng_state(own["cpu"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])
    return state


def _generators() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
