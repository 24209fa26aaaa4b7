"""The training loop on a small linear model and on small planted data."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from finelib import models, training
from finelib.baselines import SYSTEMS
from finelib.config import FineConfig, TrainConfig
from finelib.data import sources
from finelib.data.corpora import CORPORA
from finelib.inputs import Inputs
from finelib.layers import masked_mean
from finelib.models import build, class_counts, make_inputs
from finelib.runs import checkpoint
from finelib.scale import streamed

SMALL = FineConfig(width=(16, 16, 16), task_width=16, heads=2, critic_width=16, label_width=8)
QUICK = TrainConfig(epochs=3, batch_size=16)


@pytest.fixture(scope="module")
def corpus():
    return sources.load("mosi", scale=0.05)


@dataclass
class Output:
    prediction: torch.Tensor


class Linear(nn.Module):
    """Mean video frame -> label; enough to see what the loop does."""

    def __init__(self):
        super().__init__()
        self.config, self.inputs = FineConfig(modalities=("V",)), Inputs({"V": 20})
        self.weight = nn.Parameter(torch.zeros(20, 1))
        self.seen = []

    def forward(self, batch):
        return Output((masked_mean(batch.features["V"], batch.mask["V"]) @ self.weight)[:, 0])

    def losses(self, output, batch):
        self.seen += batch.index.tolist()
        return {"total": (output.prediction - batch.label).square().mean()}


def fit(model, corpus, config=QUICK, seed=0, **options):
    return training.fit(model, corpus, config, seed, **options)


def test_every_utterance_is_seen_once_an_epoch_in_a_new_order(corpus):
    model = Linear()
    fit(model, corpus, replace(QUICK, epochs=2))
    size = len(corpus.splits["train"])
    first, second = model.seen[:size], model.seen[size:]
    assert sorted(first) == sorted(second) == list(range(size)) and first != second


def test_accumulated_steps_equal_one_large_batch_with_leftovers(corpus):
    size = len(corpus.splits["train"])
    assert size % 14 and size % 7
    large, small = Linear(), Linear()
    fit(large, corpus, replace(QUICK, batch_size=14))
    fit(small, corpus, replace(QUICK, batch_size=7, accumulate=2))
    torch.testing.assert_close(large.weight, small.weight)


def test_best_epoch_is_the_smallest_dev_mae_and_its_weights_are_kept(corpus):
    model = Linear()
    history = fit(model, corpus, TrainConfig(epochs=8, batch_size=16, lr=0.5))
    maes = [curve["dev_mae"] for curve in history.curves]
    assert history.best_epoch == int(np.argmin(maes))
    valid = corpus.splits["valid"]
    assert np.abs(training.predict(model, valid) - valid.label).mean() == pytest.approx(min(maes), abs=1e-6)


@pytest.mark.parametrize(("name", "kept", "ended"), [("mosi", 3, False), ("ur_funny", 1, True)])
def test_labels_0_and_1_are_selected_and_stopped_by_the_share_of_wrong_classes(name, kept, ended):
    """A model that gets surer of itself: the absolute error falls to the end, the share of wrong ones grows again."""
    trainer = training.Trainer(Linear(), sources.load(name, scale=0.05), TrainConfig(epochs=9, patience=2), 0)
    for mae, wrong in [(0.5, 0.38), (0.46, 0.35), (0.41, 0.35), (0.4, 0.36)]:
        trainer.select({"dev_mae": mae, "dev_error_rate": wrong})
    assert trainer.history.best_epoch == kept and trainer.finished() == ended


def test_stops_when_patience_is_spent(corpus):
    class Worse(Linear):
        def losses(self, output, batch):
            return {"total": -super().losses(output, batch)["total"]}

    history = fit(Worse(), corpus, TrainConfig(epochs=20, patience=3, lr=0.1))
    assert len(history.curves) == history.best_epoch + 1 + 3 < 20


def test_predictions_come_in_the_order_of_the_split(corpus):
    class Index(Linear):
        def forward(self, batch):
            return Output(batch.index.float())

    split = corpus.splits["test"]
    assert training.predict(Index(), split).tolist() == list(range(len(split)))


def resumable(model, corpus, config, seed, path, stop=lambda: False, trainer=training.Trainer):
    """A training whose state is kept in a file."""
    return checkpoint.run(trainer(model, corpus, config, seed), path, None, stop)


@pytest.mark.parametrize("system", ["FINE", "FINE in chunks", *SYSTEMS])
def test_same_seed_same_numbers_and_resume_in_mid_epoch_is_exact(corpus, tmp_path, system):
    """Queue, momenta, generators, the memory of a system, the epoch's means: all bit for bit as if uninterrupted."""
    settings = SMALL if system.startswith("FINE") else SYSTEMS[system].Config(**SYSTEMS[system].DEMO)
    config = replace(QUICK, epochs=3, batch_size=16, bucket=system == "MulT", accumulate=2 if system == "LMF" else 1)
    trainer = training.Trainer
    if system == "FINE in chunks":
        trainer, config = streamed.StreamedTrainer, streamed.StreamedConfig(**vars(config), chunk=2)
    updates = -(-len(corpus.splits["train"]) // (config.batch_size * config.accumulate))
    assert updates >= 2

    def run(path, stop_after=None):
        torch.manual_seed(3)
        model, done = build(settings, corpus), iter(range(1, 1000))
        stop = (lambda: False) if stop_after is None else lambda: next(done) == stop_after
        history = resumable(model, corpus, config, 3, path, stop, trainer)
        return model.state_dict(), history.curves

    weights, curves = run(tmp_path / "undisturbed.pt")
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(checkpoint.Stopped):
        run(path, stop_after=updates + 1)  # after the first update of the second epoch
    with pytest.raises(checkpoint.Stopped):
        run(path, stop_after=updates - 1)  # after the last of it, before its mean is taken
    resumed, resumed_curves = run(path)
    assert resumed_curves == curves
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())
    assert not system.startswith("FINE") or any("queue" in name for name in weights)


@pytest.mark.parametrize(
    "harm",
    [lambda c: c[:1000], lambda c: c[:5000] + bytes([c[5000] ^ 4]) + c[5001:], lambda c: b""],
    ids=["truncated", "a bit", "empty"],
)
def test_a_damaged_state_is_noticed_and_the_run_begins_anew(corpus, tmp_path, harm, caplog):
    path, done = tmp_path / "checkpoint.pt", iter(range(100))

    def run(path, stop=lambda: False):
        torch.manual_seed(0)
        return resumable(build(SMALL, corpus), corpus, QUICK, 0, path, stop).curves

    with pytest.raises(checkpoint.Stopped):
        run(path, stop=lambda: next(done) == 4)
    path.write_bytes(harm(path.read_bytes()))
    assert run(path) == run(tmp_path / "other.pt")
    assert "checkpoint.pt: found a damaged state" in caplog.text


def test_diverging_run_names_the_term_and_the_step(corpus):
    class Broken(Linear):
        def losses(self, output, batch):
            late = torch.nan if len(self.seen) >= 2 * QUICK.batch_size else 0.0
            return super().losses(output, batch) | {"fine": output.prediction.sum(), "bad": torch.tensor(late)}

    with pytest.raises(training.Diverged, match="epoch 1, step 3: not finite: bad$"):
        fit(Broken(), corpus)


def test_rate_rises_linearly_then_falls_to_zero():
    factors = [training.rate_factor(u, 100, 0.1) for u in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[9] == 1 and all(a >= b for a, b in zip(factors[9:], factors[10:], strict=False))
    assert training.rate_factor(55, 100, 0.1) == pytest.approx(0.5) and training.rate_factor(100, 100, 0.1) == 0


def test_optimiser_groups(corpus):
    model = build(SMALL, corpus)
    optimiser = training.make_optimiser(model, TrainConfig(lr=0.5, critic_speed=4.0))
    critics = {id(p) for p in model.critic_parameters()}
    members = [(id(p), group) for group in optimiser.param_groups for p in group["params"]]
    assert len({i for i, _ in members}) == len(members) == len(list(model.parameters()))
    assert all((group["peak_lr"] == 2.0) == (i in critics) for i, group in members)
    decayed = {id(p) for g in optimiser.param_groups if g["weight_decay"] for p in g["params"]}
    norms = {id(p) for m in model.modules() if "Norm" in type(m).__name__ for p in m.parameters()}
    for name, p in model.named_parameters():
        assert (id(p) in decayed) == ("bias" not in name and id(p) not in norms), name


def test_build_refuses_a_modality_that_is_not_there(corpus):
    text_only = {name: replace(s, frames={"T": s.frames["T"]}) for name, s in corpus.splits.items()}
    with pytest.raises(ValueError, match="FINE reads modalities A, V, found T, expected them in every split"):
        build(SMALL, replace(corpus, splits=text_only))


def test_class_counts_and_statistics_against_numpy(corpus):
    label = corpus.splits["train"].label
    assert (
        class_counts(corpus)
        == np.histogram(label, bins=[-9, *(np.float32(e) + 1e-6 for e in CORPORA["mosi"].class_edges), 9])[0].tolist()
    )
    frames = corpus.splits["train"].frames["A"]
    standardise = make_inputs(corpus, ("A",)).standardise["A"]
    values = torch.from_numpy(frames.values)[None]
    out = standardise(values, torch.ones(values.shape[:2], dtype=torch.bool))[0]
    assert out.mean(0).abs().max() < 1e-4 and (out.std(0) - 1).abs().max() < 1e-3


def test_fit_takes_a_systems_name_and_gives_the_model_with_its_history(corpus):
    model = models.fit("LF-DNN", corpus, replace(QUICK, epochs=2), seed=1)
    torch.manual_seed(1)
    other = build(SYSTEMS["LF-DNN"].Config(), corpus)
    history = fit(other, corpus, replace(QUICK, epochs=2), seed=1)
    assert model.history.curves == history.curves
    test = corpus.splits["test"]
    np.testing.assert_array_equal(training.predict(model, test), training.predict(other, test))
    with pytest.raises(ValueError, match="system 'LF-DN': unknown, expected one of FINE, .*did you mean 'LF-DNN'"):
        models.fit("LF-DN", corpus)


def test_a_model_that_predicts_needs_no_training_configuration_and_is_left_as_it_was(corpus):
    model = build(SMALL, corpus).train()
    found = training.predict(model, corpus.splits["test"])
    assert model.training and found.shape == (len(corpus.splits["test"]),)
    with torch.no_grad():
        alone = model.eval()(corpus.batch([5])).prediction
    assert found[5] == pytest.approx(float(alone), abs=1e-5)


def test_callbacks_hear_of_each_update_and_each_epoch(corpus):
    updates, epochs = [], []
    fit(
        Linear(), corpus, QUICK, after_update=lambda t: updates.append(t.update), on_epoch=lambda n, _: epochs.append(n)
    )
    per_epoch = -(-len(corpus.splits["train"]) // QUICK.batch_size)
    assert updates == list(range(1, 3 * per_epoch + 1)) and epochs == [1, 2, 3]
