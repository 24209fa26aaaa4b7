"""The data card of a corpus as a page: numbers and sources, never a text."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from finelib.data.card import said
from finelib.data.features import Corpus
from finelib.views.style import BLUE, finish

ACROSS = {"duplicate_ids": "ids", "duplicate_texts": "texts", "shared_videos": "videos"}


def splits_table(corpus: Corpus) -> pd.DataFrame:
    """One line per split: utterances, those published, videos, tokens or frames, and the middle half of the labels."""
    lines = {}
    for s, known in corpus.card["splits"].items():
        line = {"utterances": known["utterances"], "of the official": known["published_utterances"]}
        line["videos"] = corpus.card["videos"][s] or "not told"
        for m, frames in known["modalities"].items():
            line[f"{m}: width"], line[f"{m}: frames"] = frames["width"], frames["frames"]
            line[f"{m}: without any"] = frames["empty"]
        low, middle, high = np.quantile(corpus.splits[s].label, (0.25, 0.5, 0.75)).round(2)
        lines[s] = line | {"label quartiles": f"{low:g}, {middle:g}, {high:g}"}
    return pd.DataFrame.from_dict(lines, orient="index")


def across_table(corpus: Corpus) -> pd.DataFrame:
    """How many distinct texts, ids and videos two splits have in common."""
    table = pd.DataFrame({name: corpus.card[key] for key, name in ACROSS.items()})
    if not any(corpus.card["videos"].values()):
        table["videos"] = "not told"
    return table.rename_axis("in both")


def sources_table(corpus: Corpus) -> pd.DataFrame:
    """The files, their SHA-256, where they come from and what that repository states of a licence."""
    table = pd.DataFrame(corpus.card["files"]).drop(columns="compared")
    return table.assign(sha256=table["sha256"].str[:12] + "…").set_index("name")


def label_bars(corpus: Corpus) -> Figure:
    """The labels of each split, as shares of it."""
    figure, axes = plt.subplots(1, 3, figsize=(8, 2), layout="constrained", sharey=True)
    for axis, (s, known) in zip(axes, corpus.card["splits"].items(), strict=True):
        counts, edges = np.array(known["label_histogram"]["counts"]), np.array(known["label_histogram"]["edges"])
        axis.bar(edges[:-1], counts / counts.sum(), np.diff(edges), align="edge", color=BLUE, edgecolor="white")
        axis.set(title=f"{s}, {known['utterances']:,}", xlabel="label")
    axes[0].set_ylabel("share")
    return finish(figure)


def known(corpus: Corpus) -> list[str]:
    """What must be known of the data: the reader's own notes, and what reading altered or found missing."""
    text = [f"text: {corpus.card['text']}"] if corpus.card["text"] != "none" else []
    shared, videos = corpus.card["shared_videos"]["train/test"], corpus.card["videos"]["test"]
    if videos:
        text.append(f"of the {videos} videos of test {shared or 'none'} are in train too")
    return text + corpus.card["notes"].get("known", []) + said(corpus.card)
