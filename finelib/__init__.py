"""FINE, a model of multimodal sentiment, reproduced: the method, what it is compared with, the paper's tables.

    import finelib
    corpus = finelib.load("mosi")            # planted data in CMU-MOSI's shape; nothing is downloaded
    model = finelib.fit("FINE", corpus)      # builds, trains, keeps the epoch that is best on dev
    predictions = finelib.predict(model, corpus.splits["test"])

    model = finelib.build(finelib.FineConfig(experts=2), corpus)    # a torch.nn.Module of your own settings
    finelib.fit(model, corpus, finelib.TrainConfig(epochs=5), seed=1)

``load`` takes a corpus's name (mosi, mosei, ur_funny, ch_sims) with a source, or the path of its files, or of your own
recordings or features. ``fit`` takes a model, or the name of a system ("FINE", "MulT", ...). Begin reading at
``finelib/plain.py``: the whole method with one layer a line. ``python -m finelib`` rebuilds the paper's tables.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = [
    "DataError",
    "FINE",
    "FineConfig",
    "TrainConfig",
    "build",
    "fit",
    "load",
    "load_model",
    "predict",
    "save_model",
]

# where each name lies; imported when it is first asked for, since most of them need PyTorch
PLACES = {
    "load": "finelib.data.own",
    "DataError": "finelib.data.safe_pickle",
    "build": "finelib.models",
    "fit": "finelib.models",
    "predict": "finelib.training",
    "load_model": "finelib.runs.pretrained",
    "save_model": "finelib.runs.pretrained",
    "FINE": "finelib.fine",
    "FineConfig": "finelib.config",
    "TrainConfig": "finelib.config",
}


def __getattr__(name: str):
    if name not in PLACES:
        raise AttributeError(f"module 'finelib' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
