"""Tokens a second of a frozen text encoder, beside what the machine's matrix products would allow.

    python benchmarks/text_encoding.py [--utterances 1500] [--threads 1] [--out FILE]

Lengths are drawn as CMU-MOSEI's are spread (log-normal, mean 26 tokens with the special ones). *Limit*: the encoder's
matrix products per token at the rate of a 1024 x 1024 float32 product, measured before and after each round; attention,
softmax and norms cost nothing there. Seconds are those of the processor, so that what else it does is not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from finelib.data import text
from finelib.data.encoders import MINILM
from finelib.data.features import Frames

SIDE, ROUNDS = 1024, 5


def flop_per_token(encoder: text.TextEncoder) -> int:
    """Two operations for each weight of the layers' matrices: query, key, value, output, and the two of the MLP."""
    return sum(2 * p.numel() for p in encoder.bert.encoder.parameters() if p.ndim == 2)


def lengths(count: int, seed: int = 0) -> np.ndarray:
    """Tokens of each utterance, spread as CMU-MOSEI's."""
    drawn = np.random.default_rng(seed).lognormal(3.05, 0.62, count)
    return drawn.round().clip(4, 128).astype(np.int64)


def product_rate() -> float:
    """FLOP a second of a square product."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    times = []
    for _ in range(12):
        begin = time.process_time()
        a @ b
        times.append(time.process_time() - begin)
    return 2 * SIDE**3 / statistics.median(times[2:])


def measure(utterances: int, threads: int) -> dict:
    """Rounds of product rate, encoding, product rate."""
    torch.set_num_threads(threads)
    encoder, length = text.TextEncoder(MINILM).eval(), lengths(utterances)
    ids = np.random.default_rng(1).integers(1000, 20000, int(length.sum()))
    frames, per_token, rounds = Frames.from_lengths(ids, length), flop_per_token(encoder), []
    for _ in range(ROUNDS):
        before, begin = product_rate(), time.process_time()
        for _ in text.features(frames, encoder, torch.device("cpu")):
            pass
        seconds = time.process_time() - begin
        limit = (before + product_rate()) / 2 / per_token
        rounds.append({"tokens_per_second": len(ids) / seconds, "limit": limit, "share": len(ids) / seconds / limit})
    middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    about = {"encoder": MINILM, "threads": threads, "tokens": len(ids), "mflop_per_token": per_token / 1e6}
    return {**about, "median": middle, "rounds": rounds, "torch": torch.__version__, "machine": platform.machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.utterances, arguments.threads)
    print(json.dumps(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
