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
    c_mib,
    confede,
    coupled_mamba,
    cubemlp,
    dmd,
    euar,
    gfn,
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
    "GFN": gfn,
    "MulT": mult,
    "CubeMLP": cubemlp,
    "MISA": misa,
    "Self-MM": self_mm,
    "BBFN": bbfn,
    "C-MIB": c_mib,
    "ConFEDE": confede,
    "MSG": msg,
    "DMD": dmd,
    "EUAR": euar,
    "C-MFN": c_mfn,
    "MAG-BERT": mag,
    "MuLOT": mulot,
    "Coupled Mamba": coupled_mamba,
}
