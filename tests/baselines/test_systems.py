"""What all compared systems share: the contract, and learning."""

import re
import sys
from dataclasses import fields, replace
from itertools import product
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from systems import batch_of, demo

from finelib import models, training
from finelib.baselines import SYSTEMS
from finelib.config import TrainConfig
from finelib.data.features import Batch
from finelib.paper import tables
from finelib.runs import tuning
from finelib.runs.options import ROOT, Options

SUBSETS = ["TAV", "TA", "AV", "T", "V"]
REFUSED = {  # what a method cannot be without
    **dict.fromkeys(("BBFN", "MuLOT"), (("T", "V"), "found . alone; expected two or three")),
    **dict.fromkeys(("MAG-BERT", "MSG"), (("AV", "T", "V"), "found .*; expected T with A, V or both")),
}


@pytest.mark.parametrize(("name", "modalities"), list(product(SYSTEMS, SUBSETS)))
def test_any_subset_of_the_modalities(name, modalities, corpus):
    refused, sentence = REFUSED.get(name, ((), ""))
    if modalities in refused:
        with pytest.raises(ValueError, match=sentence):
            demo(name, corpus, modalities)
        return
    model = demo(name, corpus, modalities)
    for rows in (range(5), [3]):  # the last batch of an epoch may hold one utterance
        batch = batch_of(corpus, rows)
        output = model(batch)
        assert output.prediction.shape == (len(batch),)
        model.zero_grad()
        model.losses(output, batch)["total"].backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SYSTEMS)
def test_labels_do_not_reach_the_prediction_and_padding_changes_nothing(name, corpus):
    model, batch = demo(name, corpus, frames=0).eval(), batch_of(corpus)
    padded = Batch(
        {m: F.pad(x, (0, 0, 0, 3)) for m, x in batch.features.items()},
        {m: F.pad(x, (0, 3)) for m, x in batch.mask.items()},
        -batch.label,
        None,
        batch.index,
    )
    if name == "ConFEDE":  # has a learned position for every frame, and none beyond the longest
        padded = replace(batch, label=-batch.label)
    torch.testing.assert_close(model(padded).prediction, model(batch).prediction, rtol=1e-4, atol=1e-5)
    alone = torch.cat([model(batch_of(corpus, [i])).prediction for i in range(6)])
    torch.testing.assert_close(alone, model(batch).prediction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_modality_without_frames_is_finite(name, corpus):
    model, batch = demo(name, corpus), batch_of(corpus)
    mask = {m: there.clone() for m, there in batch.mask.items()}
    features = {m: x.clone() for m, x in batch.features.items()}
    mask["V"][:] = False
    features["V"][:] = 0
    mask["A"][2] = False
    features["A"][2] = 0
    empty = replace(batch, features=features, mask=mask)
    output = model(empty)
    model.losses(output, empty)["total"].backward()
    assert output.prediction.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_learns(name, corpus):
    """Forty utterances can be learned by heart."""
    few = corpus.splits["train"].take(np.arange(40))
    small = replace(corpus, splits=corpus.splits | {"train": few, "valid": few})
    system = SYSTEMS[name]
    dropped = {
        field.name: 0.0
        for field in fields(system.Config)
        if field.name.endswith("dropout") and isinstance(field.default, float)
    }
    model = models.build(system.Config(**system.DEMO | dropped), small)
    config = TrainConfig(epochs=30, patience=30, batch_size=16, lr=3e-3, bucket=True, weight_decay=0.0)
    curves = training.fit(model, small, config, seed=0).curves
    assert min(curve["dev_mae"] for curve in curves) < 0.7 * np.abs(few.label - np.median(few.label)).mean()


def test_sizes_are_those_of_the_published_versions(corpus):
    """Parameters of MMSA 2.2.1's models on CMU-MOSI's widths (768, 5, 20), counted there."""
    assert corpus.widths == {"T": 768, "A": 5, "V": 20}
    for name, millions in {"LF-DNN": 0.60, "TFN": 9.50, "LMF": 0.51, "MFN": 2.17, "MulT": 2.57}.items():
        model = models.build(SYSTEMS[name].Config(), corpus)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.02), name


@pytest.mark.parametrize("name", SYSTEMS)
def test_published_settings_are_fields(name):
    system = SYSTEMS[name]
    assert replace(TrainConfig(), **system.TRAIN).bucket
    for field, values in system.SPACE.items():
        assert [replace(system.Config(), **{field: value}) for value in values]


def test_the_readme_system_is_a_tenth_row(corpus, monkeypatch):
    """The file and the line that README shows: it trains, is in the tables, and can be tuned."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = next(block for block in blocks if block.startswith("# finelib/baselines/mean_pool.py"))
    module = ModuleType("mean_pool")
    monkeypatch.setitem(sys.modules, "mean_pool", module)
    exec(file, module.__dict__)
    line = next(block for block in blocks if block.startswith("# finelib/baselines/__init__.py"))
    monkeypatch.setitem(SYSTEMS, *eval("{" + line.split("\n", 1)[1] + "}", {"mean_pool": module}).popitem())
    options = Options(preset="smoke", n_seeds=1)
    spec = next(s for s in tables.block_specs(1, options, options) if s.name == "Mean pool")
    model = models.build(spec.model_config, corpus)
    assert training.fit(model, corpus, spec.train, 0).curves[-1]["dev_mae"] < 3
    assert len(tuning.candidates(spec, 4)) == 4
