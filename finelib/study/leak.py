"""The leak in the public video features of CMU-MOSI: what a ridge regression reads from them, seen and unseen."""

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict

from finelib import metrics
from finelib.data import public

PENALTIES = np.logspace(0, 5, 11)
FOLDS = 5  # by video


def leak_of_video_features() -> pd.DataFrame:
    """ACC-2 and Corr of a cross-validated ridge on the video features: where they were learned, and elsewhere.

    A video's name is its utterance's id up to the last underscore; folds never part a video. Features that hold no
    leak would do as well in both rows.
    """
    leak = public.leaked_video_features()
    videos = np.array([name.rsplit("_", 1)[0] for name in leak.ids])
    lines = {}
    for inside in (True, False):
        rows = leak.learned_from == inside
        x, y, groups = leak.values[rows], leak.label[rows], videos[rows]
        guess = cross_val_predict(RidgeCV(PENALTIES), x, y, groups=groups, cv=GroupKFold(FOLDS))
        scores = metrics.score("mosi", guess, y)
        name = f"the {len(set(groups))} videos they were learned on" if inside else "the other videos"
        lines[name] = {"ACC-2": scores["acc2_nonzero"], "Corr": scores["corr"], "utterances": int(rows.sum())}
    return pd.DataFrame(lines).T.astype({"utterances": int})
