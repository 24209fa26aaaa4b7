"""FactorCL's synthetic design, a second planted world that this project did not think of."""

import hashlib
from dataclasses import replace
from itertools import combinations

import numpy as np

from finelib.data.corpora import CORPORA
from finelib.data.features import Corpus, Frames, Split

BLOCK = 6  # entries that each subset of the modalities shares
IRRELEVANT = {"r": "tav", "rt": "t", "ra": "a", "rv": "v"}  # factor -> block


def make_factorcl(sizes: tuple[int, int, int], seed: int = 0, halves: bool = False) -> Corpus:
    """FactorCL's synthetic design (Liang et al. 2023) for three modalities, as a corpus with one frame each.

    Every non-empty subset of modalities has a block of ``BLOCK`` entries from N(0, 1/2). A modality is the blocks of
    the subsets it belongs to, mixed to 100 dimensions by a matrix of uniform entries; the label is 1 where the mean of
    the first half of all blocks is not negative, else 0. The first entry of a block stands for the block, and the last
    entry of the block of all three for what is irrelevant and shared ("r"), that of a modality's own for what is
    irrelevant and its own ("rt", "ra", "rv").

    Args:
        sizes: utterances of the train, valid and test splits.
        halves: the mean of a block's first half stands for the block, which is all that the label needs of it, and the
            mean of the last half for what is irrelevant.
    """
    rng = np.random.default_rng([7, seed])
    names = ["".join(s).lower() for k in (1, 2, 3) for s in combinations("TAV", k)]
    mix = {m: rng.uniform(0, 1, (4 * BLOCK, 100)) for m in "TAV"}
    half = BLOCK // 2
    needed, irrelevant = (slice(half), slice(half, None)) if halves else (slice(1), slice(BLOCK - 1, None))
    splits = {}
    for part, size in zip(("train", "valid", "test"), sizes, strict=True):
        block = {name: rng.normal(0, np.sqrt(0.5), (size, BLOCK)) for name in names}
        frames = {}
        for m in "TAV":
            seen = np.concatenate([block[name] for name in names if m.lower() in name], 1)  # (n, 4 BLOCK)
            frames[m] = Frames.from_lengths((seen @ mix[m]).astype(np.float32), np.ones(size, np.int64))
        label = (np.mean([block[name][:, :half] for name in names], (0, 2)) >= 0).astype(np.float32)
        factors = {("s" if name == "tav" else name): block[name][:, needed].mean(1) for name in names}
        factors |= {name: block[of][:, irrelevant].mean(1) for name, of in IRRELEVANT.items()}
        factors = {name: values.astype(np.float32) for name, values in factors.items()}
        ids = [f"factorcl_{part}_{i}" for i in range(size)]
        splits[part] = Split(frames, label, ids, [""] * size, None, factors)
    info = replace(CORPORA["ur_funny"], sizes=sizes, widths=(100,) * 3, max_frames=(1,) * 3)
    digest = hashlib.sha256(b"".join(split.label.tobytes() for split in splits.values())).hexdigest()
    return Corpus(info, "planted", splits, digest, "planted")
