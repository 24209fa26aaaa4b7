"""Training FINE on a planted corpus larger than memory, streamed from its store, against the same in memory.

    python benchmarks/larger_than_memory.py --out DIR [--rows 200000] [--quick] [--keep]
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

from finelib.data import planted
from finelib.data.corpora import CORPORA, CorpusInfo
from finelib.data.features import MODALITIES

MOSEI = CORPORA["mosei"]
SMALL_SPLITS = (256, 256)  # dev and test: not what is measured


class AnonymousMemory:
    """Largest anonymous memory of this process inside the block, looked at every 20 ms."""

    def __enter__(self) -> AnonymousMemory:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, int(status.split("RssAnon:")[1].split()[0]) / 1024)
            if self._done.wait(0.02):
                return

    def __exit__(self, *_) -> None:
        self._done.set()
        self._thread.join()


def shape(rows: int, frames: float = 1.0) -> CorpusInfo:
    """MOSEI with so many training utterances and its longest sequences times ``frames``."""
    longest = tuple(round(frames * n) for n in MOSEI.max_frames)
    return replace(MOSEI, sizes=(rows, *SMALL_SPLITS), max_frames=longest)


def generate(info: CorpusInfo, out: Path) -> dict:
    """Make the corpus in its store; time, memory and sizes, kept beside it for a later start."""
    known = out / "generation.json"
    if known.exists():
        return json.loads(known.read_text())
    started = time.perf_counter()
    with AnonymousMemory() as memory:
        planted.stored(info, cache=out)
    utterances = sum(info.sizes)
    dense = utterances * 4 * sum(n * d for n, d in zip(info.max_frames, info.widths, strict=True))
    stored = sum(path.stat().st_size for path in (out / "corpora").rglob("*.npy"))
    found = {
        "utterances": utterances, "training_utterances": info.sizes[0], "modalities": list(MODALITIES),
        "widths": info.widths, "max_frames": info.max_frames,
        "dense_gb": dense / 1e9, "stored_gb": stored / 1e9, "seconds": time.perf_counter() - started,
        "peak_anonymous_mib": memory.peak,
    }  # fmt: skip
    known.write_text(json.dumps(found))
    return found
