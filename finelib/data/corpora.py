"""What each corpus is: sizes, label range, classes, published files. Facts only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class CorpusInfo:
    """One corpus of the paper.

    Attributes:
        name, title: short name used in options and files; name used in prose.
        table: the table of the paper that reports it.
        metrics: which definitions apply: "mosi", "sims" or "humor" (``metrics.py``).
        label_low, label_high: range of the labels; their distance is L of ACCon (Eq. 13).
        label_step: spacing of the annotation scale used by planted labels.
        class_edges: cut points of the classes of the contrastive queue and of same-bin negatives;
            a label on an edge belongs to the class below.
        sizes: utterances in train, valid, test.
        widths, max_frames: features per frame and longest sequence of T, A, V in the published files.
        unimodal_labels: whether each modality was labelled on its own.
        bert: the text encoder the paper fine-tunes.
        files: path below the data folder -> published SHA-256 ("" where none was published).
    """

    name: str
    title: str
    table: int
    metrics: str
    label_low: float
    label_high: float
    label_step: float
    class_edges: tuple[float, ...]
    sizes: tuple[int, int, int]
    widths: tuple[int, int, int]
    max_frames: tuple[int, int, int]
    unimodal_labels: bool
    bert: str
    files: dict[str, str]

    def class_of(self, label):
        """Class of each label (N,), a NumPy array or a tensor: how many of the cut points lie below it."""
        return sum(label > edge for edge in self.class_edges)


SEVEN_CLASSES = (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)

CORPORA = {
    "mosi": CorpusInfo(
        name="mosi",
        title="CMU-MOSI",
        table=1,
        metrics="mosi",
        label_low=-3.0,
        label_high=3.0,
        label_step=0.2,
        class_edges=SEVEN_CLASSES,
        sizes=(1284, 229, 686),
        widths=(768, 5, 20),
        max_frames=(50, 375, 500),
        unimodal_labels=False,
        bert="bert-base-uncased",
        files={
            "MOSI/Processed/unaligned_50.pkl": "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524",
            "MOSI/Processed/aligned_50.pkl": "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9",
        },
    ),
    "mosei": CorpusInfo(
        name="mosei",
        title="CMU-MOSEI",
        table=2,
        metrics="mosi",
        label_low=-3.0,
        label_high=3.0,
        label_step=1 / 3,
        class_edges=SEVEN_CLASSES,
        sizes=(16326, 1871, 4659),
        widths=(768, 74, 35),
        max_frames=(50, 500, 375),
        unimodal_labels=False,
        bert="bert-base-uncased",
        files={
            "MOSEI/Processed/unaligned_50.pkl": "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f",
            "MOSEI/Processed/aligned_50.pkl": "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791",
        },
    ),
    "ur_funny": CorpusInfo(
        name="ur_funny",
        title="UR-FUNNY",
        table=3,
        metrics="humor",
        label_low=0.0,
        label_high=1.0,
        label_step=1.0,
        class_edges=(0.5,),
        sizes=(7614, 980, 994),
        widths=(300, 81, 371),
        max_frames=(50, 50, 50),
        unimodal_labels=False,
        bert="bert-base-uncased",
        files={
            f"UR_FUNNY/{name}": ""
            for name in (
                "data_folds.pkl",
                "humor_label_sdk.pkl",
                "word_embedding_list.pkl",
                "language_sdk.pkl",
                "word_embedding_indexes_sdk.pkl",
                "covarep_features_sdk.pkl",
                "openface_features_sdk.pkl",
            )
        },
    ),
    "ch_sims": CorpusInfo(
        name="ch_sims",
        title="CH-SIMS",
        table=4,
        metrics="sims",
        label_low=-1.0,
        label_high=1.0,
        label_step=0.2,
        class_edges=(-0.7, -0.1, 0.1, 0.7),
        sizes=(1368, 456, 457),
        widths=(768, 33, 709),
        max_frames=(39, 400, 55),
        unimodal_labels=True,
        bert="bert-base-chinese",
        files={"SIMS/Processed/unaligned_39.pkl": "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f"},
    ),
}


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint at the most similar name, "" if none is similar."""
    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
