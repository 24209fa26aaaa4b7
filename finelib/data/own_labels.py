"""Labels of somebody's own corpus: their range, the classes they make, and the scale on which models are trained.

Models, losses and scores here are made for labels around 0 that reach from 1 to 3 at either end. Labels of another
range are held on such a scale; ``Scale`` brings predictions back to the labels as they were given.
"""

from dataclasses import asdict, dataclass

import numpy as np

from finelib.data.corpora import CorpusInfo, called
from finelib.data.features import MODALITIES, Split
from finelib.data.safe_pickle import DataError

NAME = "own"
LARGEST = 1e30  # a label beyond it is no label
NARROW, WIDE = 1.0, 3.0  # half ranges that are held as they are
SIMS_EDGES = (-0.7, -0.1, 0.1, 0.7)  # classes of CH-SIMS, for labels from -1 to 1
Range = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """held = (given - middle) / unit.

    Attributes:
        low, high: range of the labels as they are given.
        classes: 2 for a two-class corpus, whose classes are held as 0 and 1; 0 for a scale.
    """

    low: float
    high: float
    middle: float = 0.0
    unit: float = 1.0
    classes: int = 0

    def held(self, given: np.ndarray) -> np.ndarray:
        """Labels (N,) as models are trained on them, float32."""
        return ((np.asarray(given, np.float64) - self.middle) / self.unit).astype(np.float32)

    def given(self, held: np.ndarray) -> np.ndarray:
        """Predictions (N,) in the unit of the labels as they were given, float64."""
        return np.asarray(held, np.float64) * self.unit + self.middle

    def says(self, told: bool) -> str:
        """A sentence for the data card; ``told``: the range was given."""
        found = "as given" if told else "from the training labels"
        if self.classes:
            return f"two classes, {self.low:g} and {self.high:g}, held as 0 and 1"
        sentence = f"label range {self.low:g} to {self.high:g}, {found}"
        if (self.middle, self.unit) != (0, 1):
            low, high = self.held(np.array([self.low, self.high]))
            sentence += f", held as {low:g} to {high:g}; scores such as MAE are in that unit"
        return sentence


def scale_of(label: np.ndarray, where: str, label_range: Range | None = None) -> Scale:
    """The scale of training labels (N,).

    Two whole numbers and no others are two classes. A range that is not given goes from whole number to whole number,
    and is symmetric about 0 where there are labels of both signs.

    Raises:
        DataError: all labels are equal, or one is outside the range that is given.
        ValueError: the range is none.
    """
    values = np.unique(np.asarray(label, np.float64))
    if len(values) < 2:
        raise DataError(f"{where}: found the label {values[0]:g} in every row of train, expected at least two")
    if len(values) == 2 and (values == np.round(values)).all() and (label_range is None or (*values,) == label_range):
        low, high = map(float, values)
        return Scale(low, high, low, high - low, 2)
    if label_range is None:
        low, high = float(np.floor(values[0])), float(np.ceil(values[-1]))
        if low < 0 < high:
            low, high = -max(-low, high), max(-low, high)
    else:
        low, high = check_range(label_range)
        if values[0] < low - 1e-6 or values[-1] > high + 1e-6:
            wrong = values[0] if values[0] < low else values[-1]
            raise DataError(f"{where}: found the label {wrong:g} in train, expected labels in [{low:g}, {high:g}]")
    half = (high - low) / 2
    return Scale(low, high, low + half, 1.0 if NARROW <= half <= WIDE else half / WIDE)


def check_range(label_range: Range) -> Range:
    """Raises: ValueError: it is not two finite numbers, the smaller first."""
    try:
        low, high = map(float, label_range)
        if not -LARGEST < low < high < LARGEST:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"label_range: found {label_range!r}, expected two numbers, the smaller first") from None
    return low, high


def info_of(scale: Scale, splits: dict[str, Split], title: str) -> CorpusInfo:
    """What the corpus is, for models and scores: its splits hold labels on the ``scale``."""
    frames = splits["train"].frames
    if scale.classes:
        metrics, low, high, edges = "humor", 0.0, 1.0, (0.5,)
    elif (scale.low, scale.high) == (-1, 1):
        metrics, low, high, edges = "sims", -1.0, 1.0, SIMS_EDGES
    else:
        low, high = map(float, scale.held(np.array([scale.low, scale.high])))
        metrics, edges = "mosi", tuple(np.arange(low + 0.5, high, 1.0).tolist())
    longest = {m: max(int(s.frames[m].length.max(initial=0)) for s in splits.values()) for m in frames}
    return CorpusInfo(
        name=NAME,
        title=title,
        table=None,
        metrics=metrics,
        label_low=low,
        label_high=high,
        label_step=1.0,
        class_edges=edges,
        sizes=tuple(len(split) for split in splits.values()),
        widths=tuple(frames[m].width if m in frames else 0 for m in MODALITIES),
        max_frames=tuple(longest.get(m, 0) for m in MODALITIES),
        files={},
    )


def title_of(info: CorpusInfo, kind: str) -> str:
    """What data of a kind are called in a title; an own corpus is called by its own."""
    return info.title if info.name == NAME else called(info, kind)


def as_json(info: CorpusInfo, scale: Scale) -> dict:
    """Both as they stand in a data card and in a saved model."""
    return {"info": asdict(info), "scale": asdict(scale)}


def from_json(told: dict) -> tuple[CorpusInfo, Scale]:
    """What ``as_json`` made."""
    return info_from(told["info"]), Scale(**told["scale"])


def info_from(told: dict) -> CorpusInfo:
    """A CorpusInfo from its fields as JSON holds them."""
    return CorpusInfo(**{name: _tuples(value) for name, value in told.items()})


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
