"""The compared systems: one file each, with ``Config``, ``Model`` and their settings. A new one is one more line here.

A system's file has
    Config     frozen dataclass of its settings; the defaults are the published ones
    Model      ``common.Baseline`` with (config, inputs, corpus)
    TRAIN      its published training settings, fields of ``TrainConfig``
    FINETUNED  whether its authors train the text encoder with it
    DEMO       what the smoke and demo presets change in Config
    SPACE      what ``--tune`` draws from: field of Config -> values
"""

from finelib.baselines import (
    bbfn,
    c_mfn,
    confede,
    coupled_mamba,
    lf_dnn,
    lmf,
    mag,
    mfn,
    misa,
    msg,
    mulot,
    mult,
    self_mm,
    tfn,
)

SYSTEMS = {
    "LF-DNN": lf_dnn,
    "TFN": tfn,
    "LMF": lmf,
    "MFN": mfn,
    "MulT": mult,
    "MISA": misa,
    "Self-MM": self_mm,
    "BBFN": bbfn,
    "ConFEDE": confede,
    "Coupled Mamba": coupled_mamba,
    "MAG-BERT": mag,
    "MSG": msg,
    "MuLOT": mulot,
    "C-MFN": c_mfn,
}
