"""Seeds trained together end where each ends alone; the scheduler trains them so where it pays.

Models and data are in float64 here. AdamW divides each gradient by its size: where a weight's gradient is near 0, as
large as float32's rounding, two orders of summation move that weight differently by up to the learning rate. In float64
the rounding lies far below AdamW's epsilon (1e-8), so 1e-8 tells equal from nearly equal.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from finelib import training
from finelib.baselines import SYSTEMS
from finelib.baselines.variants import VariantConfig
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data.features import Frames
from finelib.data.sources import load
from finelib.fine import FINE
from finelib.models import build
from finelib.paper import tables
from finelib.runs import experiment, one
from finelib.runs.checkpoint import Stopped
from finelib.runs.options import Options
from finelib.scale import seeds_together
from finelib.scale.streamed import StreamedConfig

# an operator that vmap knows no rule for is run seed by seed, with a warning
pytestmark = pytest.mark.filterwarnings("error:There is a performance drop")
SMALL = FineConfig(
    width=(16, 16, 16), task_width=16, heads=2, experts=3, top_k=2, critic_width=16, label_width=8, dropout=0.0
)
SEEDS = [3, 1, 7]
FRAMES = 15
CLOSE = {"rtol": 1e-8, "atol": 1e-8}
SPEC = RunSpec("FINE", DataConfig("mosi", scale=0.05), SMALL, TrainConfig(epochs=2), seed=1)


class In64:
    def losses(self, output, batch):
        return super().losses(output, replace(batch, label=batch.label.double()))


def quick(corpus):
    """The first frames of each utterance, in float64."""

    def first(frames):
        rows = [np.arange(a, a + n) for a, n in zip(frames.start, np.minimum(frames.length, FRAMES), strict=True)]
        values = frames.values[np.concatenate(rows)].astype(np.float64)
        return Frames.from_lengths(values, np.minimum(frames.length, FRAMES))

    splits = {
        name: replace(split, frames={m: first(f) for m, f in split.frames.items()})
        for name, split in corpus.splits.items()
    }
    return replace(corpus, splits=splits)


@pytest.fixture(scope="module")
def corpora():
    scales = {"mosi": 0.08, "ch_sims": 0.04, "ur_funny": 0.01}
    return {name: quick(load(name, scale=scale)) for name, scale in scales.items()}


@pytest.fixture(scope="module")
def corpus(corpora):
    return corpora["mosi"]


def make(corpus, seeds=SEEDS, config=SMALL):
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        model = build(config, corpus).double()
        model.__class__ = type("Fine64", (In64, type(model)), {})
        models.append(model)
    return models


def both_ways(corpus, train, seeds=SEEDS, config=SMALL, prepare=lambda models: models):
    """(model, history or Diverged) of each seed, alone and together."""
    alone, result = prepare(make(corpus, seeds, config)), []
    for model, seed in zip(alone, seeds, strict=True):
        try:
            result.append((model, training.fit(model, corpus, train, seed)))
        except training.Diverged as error:
            result.append((model, error))
    models = prepare(make(corpus, seeds, config))
    return result, list(zip(models, seeds_together.fit_together(models, corpus, train, seeds), strict=True))


def assert_same(alone, together_):
    for (a, history_a), (b, history_b) in zip(alone, together_, strict=True):
        assert history_a.best_epoch == history_b.best_epoch and len(history_a.curves) == len(history_b.curves)
        for ours, other in zip(history_a.curves, history_b.curves, strict=True):
            assert ours == pytest.approx(other, rel=1e-6, abs=1e-7)  # predictions are in float32
            losses = [name for name in ours if not name.startswith("dev_")]
            assert [ours[name] for name in losses] == pytest.approx([other[name] for name in losses], rel=1e-8)
        state = b.state_dict()
        for name, value in a.state_dict().items():  # the queue's slots are among them
            torch.testing.assert_close(value, state[name], msg=lambda said, name=name: f"{name}: {said}", **CLOSE)


def test_seeds_together_end_as_each_does_alone(corpus):
    """Warm-up, clipping, decay, accumulated steps, an uneven last batch, dev selection."""
    train = TrainConfig(epochs=2, batch_size=24, accumulate=2, lr=4e-3, weight_decay=0.1)
    assert len(corpus.splits["train"]) % 24
    alone, at_once = both_ways(corpus, train)
    assert_same(alone, at_once)
    test = corpus.splits["test"]
    for (a, _), (b, history) in zip(alone, at_once, strict=True):
        assert a.queue.filled.any() and history.seconds > 0 and history.samples_per_second > 0
        ours, theirs = (training.predict(m, test) for m in (a, b))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    (first, _), (second, _), _ = at_once
    assert not torch.allclose(first.head[0].weight, second.head[0].weight, atol=1e-3)
    weights = [p.untyped_storage().data_ptr() for model, _ in at_once for p in model.parameters()]
    assert len(set(weights)) == len(weights)  # each model has its own again


def test_a_seed_that_stops_early_or_diverges_touches_no_other(corpus):
    def poisoned(models):
        with torch.no_grad():
            models[-1].head[-1].bias.fill_(torch.inf)
        return models

    train = TrainConfig(epochs=6, patience=1, batch_size=24, lr=1e-2)
    alone, at_once = both_ways(corpus, train, [*SEEDS, 4], prepare=poisoned)
    assert str(alone[-1][1]) == str(at_once[-1][1]) and isinstance(at_once[-1][1], training.Diverged)
    assert len({len(history.curves) for _, history in alone[:-1]}) > 1
    assert_same(alone[:-1], at_once[:-1])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ch_sims", {"variant": "w/o FTRE + MISA"}),  # labels of each modality
        ("ch_sims", {"variant": "w/o MoQ + MLPs", "contrast": "supcon"}),
        ("mosi", {"variant": "w/o FTRE"}),
        ("ur_funny", {"loss": "cross_entropy", "contrast_features": "task", "queue_alpha": 0.0, "qformer_layers": 2}),
        ("mosi", {"variant": "unique branch only", "modalities": ("V",), "loss": "l1", "renormalise_gate": True}),
        ("mosi", {"critic": "concat", "str_negatives": "batch", "width": (16, 32, 16), "fusion_layers": 2}),
    ],
)
def test_every_variant_that_is_let_in_is_equal_too(corpora, name, change):
    train = TrainConfig(epochs=1, batch_size=24)
    kind = VariantConfig if "variant" in change else FineConfig
    assert_same(*both_ways(corpora[name], train, [0, 1], kind(**vars(SMALL) | change)))


@pytest.mark.parametrize(
    ("config", "train", "said"),
    [
        (VariantConfig(variant="w/o MoQ + LSTM"), TrainConfig(), "LSTM, which vmap cannot run"),
        (SMALL, StreamedConfig(), "are for a run alone"),
        (SYSTEMS["TFN"].Config(**SYSTEMS["TFN"].DEMO), TrainConfig(), "tfn.Model is not FINE"),
        (SMALL, TrainConfig(bucket=True), "the short batch comes at another place"),
    ],
)
def test_what_cannot_be_trained_together_is_told_and_never_chosen(corpus, config, train, said):
    models = [build(config, corpus) for _ in range(2)]
    with pytest.raises(ValueError, match=f"cannot be trained together: .*{said}"):
        seeds_together.fit_together(models, corpus, train, [0, 1])
    assert seeds_together.pays(models, corpus, train, [0, 1]) is False


def test_a_measurement_decides_and_trains_nothing(corpus, monkeypatch):
    models, train = make(corpus, [0, 1]), TrainConfig(batch_size=64)
    before = copy.deepcopy([model.state_dict() for model in models])
    seconds = seeds_together.seconds_per_update(models, corpus, train, [0, 1], count=1)
    assert all(0 < value < 60 for value in seconds)
    assert isinstance(seeds_together.pays(models, corpus, train, [0, 1]), bool)
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for apart, at_once in ((2.0, 1.0), (1.0, 2.0)):
        monkeypatch.setattr(seeds_together, "seconds_per_update", lambda *_, times=(apart, at_once): times)
        assert seeds_together.pays(models, corpus, train, [0, 1]) is (at_once < apart)


# ------------------------------------------------------------------------------------------- the scheduler


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The choice that a GPU would have, and the seeds of each group that was trained together."""
    groups, real = [], seeds_together.fit_together
    monkeypatch.setattr(experiment, "on_gpu", lambda spec: True)
    monkeypatch.setattr(seeds_together, "pays", lambda models, corpus, config, seeds: isinstance(models[0], FINE))

    def noted(models, corpus, config, seeds, *rest):
        groups.append(seeds)
        return real(models, corpus, config, seeds, *rest)

    monkeypatch.setattr(one, "fit_together", noted)
    return groups


def test_on_a_cpu_each_run_is_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(one, "train_group", None)
    monkeypatch.setattr(seeds_together, "pays", None)
    assert len(experiment.run([SPEC, replace(SPEC, seed=2)], tmp_path, jobs=1, progress=False)) == 2


def test_only_runs_that_differ_in_the_seed_alone_and_have_not_begun_form_a_group(tmp_path, as_on_a_gpu):
    specs = [replace(SPEC, seed=1), replace(SPEC, seed=2), replace(SPEC, seed=3)]
    other = [replace(SPEC, name="b"), replace(SPEC, train=replace(SPEC.train, lr=1.0)), SYSTEMS["TFN"].Config()]
    other[2] = replace(SPEC, model_config=other[2])
    missing = {tmp_path / f"{i}": spec for i, spec in enumerate([*specs, *other])}
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "checkpoint.pt").touch()  # begun alone, goes on alone
    sizes = [sorted(folder.name for folder in group) for group in experiment._groups_of_seeds(missing)]
    assert sizes == [["0", "2"], ["1"], ["3"], ["4"], ["5"]]


def test_a_group_leaves_the_records_of_its_runs(tmp_path, as_on_a_gpu, monkeypatch):
    """What runs alone leave within float32's error, and the seeds of the group; tables read them."""
    specs = [replace(SPEC, seed=seed) for seed in SEEDS]
    progress = []
    missing = {experiment.run_folder(spec, tmp_path / "a"): spec for spec in specs}
    experiment._train(missing, 1, progress.append, ray=None)
    assert as_on_a_gpu == [SEEDS] and sum(progress) == 3 * 2 * experiment.corpus_key(SPEC.data)[1]
    records = experiment.run(specs, tmp_path / "a", progress=False)
    row = tables.measure(1, {"FINE": specs}, Options(preset="smoke", out=tmp_path / "a"))[0]
    assert row.name == "FINE" and row.measured["mae"]["n"] == 3 and row.runs == tuple(r.id for r in records)
    monkeypatch.setattr(seeds_together, "pays", lambda *_: False)
    apart = experiment.run(specs, tmp_path / "b", jobs=1, progress=False)
    assert as_on_a_gpu == [SEEDS]
    for record, other, spec in zip(records, apart, specs, strict=True):
        assert record.timing.pop("together") == SEEDS and other.timing.pop("peak_memory_mib") > 0
        assert vars(record).keys() == vars(other).keys() and record.id == other.id
        assert record.timing.keys() == other.timing.keys()
        assert record.test == pytest.approx(other.test, rel=0.02)
        np.testing.assert_allclose(record.predictions()["test"], other.predictions()["test"], atol=0.01)
        model, test = experiment.load_model(record, spec), experiment.load_corpus(spec.data).splits["test"]
        with training.cpu_threads(spec.train.threads):
            again = training.predict(model, test)
        np.testing.assert_array_equal(again, record.predictions()["test"])


def test_an_interrupted_group_leaves_nothing_and_begins_anew(tmp_path, as_on_a_gpu):
    specs = [replace(SPEC, seed=seed) for seed in (0, 1)]
    group, asked = {experiment.run_folder(spec, tmp_path): spec for spec in specs}, iter([False, True])
    with pytest.raises(Stopped):
        one.train_group(group, experiment.load_corpus(SPEC.data), lambda _: None, lambda: next(asked))
    assert not list(tmp_path.rglob("record.json")) and not list(tmp_path.rglob("checkpoint.pt"))
    assert [record.seed for record in experiment.run(specs, tmp_path, jobs=1, progress=False)] == [0, 1]
    assert as_on_a_gpu == [[0, 1], [0, 1]]
