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
from finelib.config import FineConfig, TrainConfig
from finelib.data.features import SPLITS, Batch, Frames
from finelib.paper import tables
from finelib.runs import tuning
from finelib.runs.options import ROOT, Options

SUBSETS = ["TAV", "TA", "AV", "T", "V"]
REFUSED = {  # (system, modalities) -> what it says of what it cannot be without
    **dict.fromkeys([("BBFN", "T"), *product(("DMD", "MuLOT"), "TV")], "found . alone; expected two or three"),
    **dict.fromkeys(product(("MAG-BERT", "MSG"), ("AV", "T", "V")), "found .*; expected T with A, V or both"),
    **dict.fromkeys(product(("MFN", "C-MFN", "BBFN"), ("AV", "V")), "cannot do without T, found"),
}


@pytest.mark.parametrize(("name", "modalities"), list(product(SYSTEMS, SUBSETS)))
def test_any_subset_of_the_modalities(name, modalities, corpus):
    if (name, modalities) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name, modalities]):
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


def test_systems_that_refuse_one_modality_say_so_before_they_are_built():
    refused = {name for name, modalities in REFUSED if modalities == "T"}
    assert {name for name, system in SYSTEMS.items() if system.Model.least > 1} == refused


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


@pytest.mark.parametrize("m", ["T", "V"])
@pytest.mark.parametrize("name", ["FINE", *SYSTEMS])
def test_a_split_that_lacks_a_modality_is_one_sentence(name, m, corpus):
    """Whichever split it is, and whether the model is built, trained or asked; never the KeyError of a dictionary."""

    def without(s):
        part = corpus.splits[s]
        return replace(part, frames={k: frames for k, frames in part.frames.items() if k != m})

    config = FineConfig(width=(8, 8, 8)) if name == "FINE" else SYSTEMS[name].Config(**SYSTEMS[name].DEMO)
    for s in SPLITS:
        lacking = replace(corpus, splits={**corpus.splits, s: without(s)})
        with pytest.raises(ValueError, match=f"planted.*, {s}: {name} reads modalities {m}, found .*, expected"):
            models.build(config, lacking)
    model, lacking = models.build(config, corpus), replace(corpus, splits={**corpus.splits, "valid": without("valid")})
    said = f"{name}: reads modalities {m}, found .* in the split, expected all"
    with pytest.raises(ValueError, match=said):
        training.fit(model, lacking, TrainConfig(epochs=1))
    with pytest.raises(ValueError, match=said):
        training.predict(model, without("test"))
    with pytest.raises(ValueError, match="model: found .* in the data, expected also (text|video)"):
        model(replace(corpus, splits={"train": without("train")}).batch([0, 1], "train"))


@pytest.mark.parametrize("name", ["MFN", "BBFN"])
def test_what_is_read_on_the_steps_of_text_is_refused_without_text(name, corpus):
    """Every prediction would be the same number."""
    test = corpus.splits["test"]
    silent = Frames.from_lengths(test.frames["T"].values[:0], np.zeros(len(test)))
    with pytest.raises(ValueError, match=f"{name}: cannot do without T, found no frame of it"):
        training.predict(demo(name, corpus), replace(test, frames={**test.frames, "T": silent}))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_learns(name, corpus):
    """Forty utterances can be learned by heart, in at most thirty epochs."""
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
    goal, trainer = 0.7 * np.abs(few.label - np.median(few.label)).mean(), training.Trainer(model, small, config, 0)
    with training.cpu_threads(1):
        while not trainer.finished() and not any(curve["dev_mae"] < goal for curve in trainer.history.curves):
            trainer.run_epoch(None)
    assert trainer.history.curves[-1]["dev_mae"] < goal


def test_sizes_are_those_of_the_published_versions(corpus):
    """Parameters of MMSA 2.2.1's models on CMU-MOSI's widths (768, 5, 20), counted there."""
    assert corpus.widths == {"T": 768, "A": 5, "V": 20}
    for name, millions in {"LF-DNN": 0.60, "TFN": 9.50, "LMF": 0.51, "MFN": 2.17, "MulT": 2.57}.items():
        model = models.build(SYSTEMS[name].Config(), corpus)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.02), name


def test_sizes_are_those_of_the_authors_layers(corpus):
    """Counted by hand from the authors' code for the same widths; of DMD's what is used (345,000 more are not)."""
    counted = {"GFN": 10.24, "CubeMLP": 0.98, "C-MIB": 0.93, "EUAR": 0.77, "DMD": 4.41}
    for name, millions in counted.items():
        changes = {"steps": 46} if name == "DMD" else {}  # what its convolution leaves of 50
        model = models.build(SYSTEMS[name].Config(**changes), corpus)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.01), name


@pytest.mark.parametrize("name", SYSTEMS)
def test_published_settings_are_fields(name):
    system = SYSTEMS[name]
    assert replace(TrainConfig(), **system.TRAIN).bucket
    for field, values in system.SPACE.items():
        assert [replace(system.Config(), **{field: value}) for value in values]


def test_the_system_of_contributing_has_a_row(corpus, monkeypatch):
    """The file and the line that CONTRIBUTING.md shows: it trains, is in the tables, and can be tuned."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    file = next(block for block in blocks if block.startswith("# finelib/baselines/mean_pool.py"))
    module = ModuleType("mean_pool")
    monkeypatch.setitem(sys.modules, "mean_pool", module)
    exec(file, module.__dict__)
    line = next(block for block in blocks if block.startswith("# finelib/baselines/__init__.py"))
    monkeypatch.setitem(SYSTEMS, *eval("{" + line.split("\n", 1)[1] + "}", {"mean_pool": module}).popitem())
    options = Options(preset="smoke", n_seeds=1)
    spec = next(s for s in tables.own_specs(1, options) if s.name == "Mean pool")
    model = models.build(spec.model_config, corpus)
    assert training.fit(model, corpus, spec.train, 0).curves[-1]["dev_mae"] < 3
    assert len(tuning.candidates(spec, 4)) == 4
