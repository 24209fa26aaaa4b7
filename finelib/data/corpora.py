"""What each corpus is: sizes, label range, classes, published files. Facts only."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

# sizes of train, valid, test, and widths of T, A, V
Form = tuple[tuple[int, int, int], tuple[int, int, int]]
# kind of data (``features.Corpus.kind``) -> what it is called
KINDS = {"planted": "planted data", "public": "public data", "files": "licensed files", "own": "your file"}


@dataclass(frozen=True)
class CorpusInfo:
    """One corpus.

    Attributes:
        name, title: short name used in options and files; name used in prose.
        table: the table of the paper that reports it, None for a corpus that stands beside the paper's.
        metrics: which definitions apply: "mosi", "sims" or "humor" (``metrics.py``).
        label_low, label_high: range of the labels; their distance is L of ACCon (Eq. 13).
        label_step: spacing of the annotation scale used by planted labels.
        class_edges: cut points of the classes of the contrastive queue and of same-bin negatives;
            a label on an edge belongs to the class below.
        sizes: utterances in train, valid, test.
        widths, max_frames: features per frame and longest sequence of T, A, V in the published files; beside the
            paper's corpora, in those that are read here.
        files: path below the data folder -> published SHA-256 ("" where none was published).
        other_forms: sizes and widths of other versions that were published.
        unimodal_labels: whether each modality was labelled on its own.
        bert: the text encoder the paper fine-tunes.
    """

    name: str
    title: str
    table: int | None
    metrics: str
    label_low: float
    label_high: float
    label_step: float
    class_edges: tuple[float, ...]
    sizes: tuple[int, int, int]
    widths: tuple[int, int, int]
    max_frames: tuple[int, int, int]
    files: dict[str, str]
    other_forms: tuple[Form, ...] = ()
    unimodal_labels: bool = False
    bert: str = "bert-base-uncased"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Sizes and widths of every published version."""
        return ((self.sizes, self.widths), *self.other_forms)

    def class_of(self, label):
        """Class of each label (N,), a NumPy array or a tensor: how many of the cut points lie below it."""
        return sum(label > edge for edge in self.class_edges)


_SEVEN_CLASSES = dict(metrics="mosi", label_low=-3.0, label_high=3.0, class_edges=(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5))
_FIVE_CLASSES = dict(metrics="sims", label_low=-1.0, label_high=1.0, class_edges=(-0.7, -0.1, 0.1, 0.7))
_FIVE_RATINGS = dict(metrics="mosi", label_low=-2.0, label_high=2.0, class_edges=(-1.5, -0.5, 0.5, 1.5))
_TWO_CLASSES = dict(metrics="humor", label_low=0.0, label_high=1.0, class_edges=(0.5,))
_SIZES = {
    "mosi": dict(sizes=(1284, 229, 686), widths=(768, 5, 20), max_frames=(50, 375, 500)),
    "mosei": dict(sizes=(16326, 1871, 4659), widths=(768, 74, 35), max_frames=(50, 500, 375)),
    "ur_funny": dict(sizes=(7614, 980, 994), widths=(300, 81, 371), max_frames=(50, 50, 50)),
    "ch_sims": dict(sizes=(1368, 456, 457), widths=(768, 33, 709), max_frames=(39, 400, 55)),
}
_UR_FUNNY_1 = ((10598, 2626, 3290), (300, 81, 75))  # version 1; ``_SIZES`` has version 2
_SIZES |= {
    "ch_sims_v2": dict(sizes=(2722, 647, 1034), widths=(1, 1, 1), max_frames=(1, 1, 1)),
    "ict_mmmo": dict(sizes=(220, 40, 80), widths=(300, 74, 36), max_frames=(20, 20, 20)),
}
_FILES = {
    "mosi": {
        "MOSI/Processed/unaligned_50.pkl": "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524",
        "MOSI/Processed/aligned_50.pkl": "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9",
    },
    "mosei": {
        "MOSEI/Processed/unaligned_50.pkl": "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f",
        "MOSEI/Processed/aligned_50.pkl": "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791",
    },
    "ur_funny": {
        f"UR_FUNNY/{name}.pkl": ""
        for name in "data_folds humor_label_sdk word_embedding_list language_sdk word_embedding_indexes_sdk "
        "covarep_features_sdk openface_features_sdk".split()
    },
    "ch_sims": {"SIMS/Processed/unaligned_39.pkl": "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f"},
}


def _info(name: str, title: str, table: int | None, labels: dict, label_step: float, **own: object) -> CorpusInfo:
    files = _FILES.get(name, {})
    return CorpusInfo(name, title, table, **labels, label_step=label_step, **_SIZES[name], files=files, **own)


_CHINESE = "bert-base-chinese"
CORPORA = {
    "mosi": _info("mosi", "CMU-MOSI", 1, _SEVEN_CLASSES, 0.2),
    "mosei": _info("mosei", "CMU-MOSEI", 2, _SEVEN_CLASSES, 1 / 3),
    "ur_funny": _info("ur_funny", "UR-FUNNY", 3, _TWO_CLASSES, 1.0, other_forms=(_UR_FUNNY_1,)),
    "ch_sims": _info("ch_sims", "CH-SIMS", 4, _FIVE_CLASSES, 0.2, unimodal_labels=True, bert=_CHINESE),
}
# read from public files alone
BESIDE = {
    "ch_sims_v2": _info("ch_sims_v2", "CH-SIMS v2", None, _FIVE_CLASSES, 0.2, unimodal_labels=True, bert=_CHINESE),
    "ict_mmmo": _info("ict_mmmo", "ICT-MMMO", None, _FIVE_RATINGS, 0.5),  # ratings 1 to 5, held as -2 to 2
}
ALL_CORPORA = CORPORA | BESIDE


def called(info: CorpusInfo, kind: str) -> str:
    """What data of a kind are called in a title; somebody's own are not called by a corpus's name alone."""
    return f"{KINDS[kind]}, read as {info.title}" if kind == "own" else f"{info.title}, {KINDS[kind]}"


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint at the most similar name, "" if none is similar."""
    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
