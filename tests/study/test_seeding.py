"""Measurements draw by seeds of their own and leave the caller's generator where it was."""

import numpy as np
import pytest
import torch

from finelib import config, models
from finelib.data.planted import FACTORS
from finelib.study import estimators, factors, terms
from finelib.study.representations import Representations, model_of
from finelib.study.seeding import seeded

GROUPS = (("T", "STR"), ("T", "UTR"))


def features(seed):
    values = np.random.default_rng(seed).standard_normal((2, 60, 4)).astype(np.float32)
    return Representations(GROUPS, values, values[0, :, 0]), {f: values[0, :, 0] for f in FACTORS[:2]}


def fresh_critics():
    x, y = torch.linspace(-1, 1, 1200).view(2, 1, 300, 2)
    return terms.fresh_information(x, y)


def nonlinear_probe():
    return torch.as_tensor(factors.mlp_r2(*features(0), *features(1), steps=10))


def learned_critic():
    small = estimators.Settings(batch=8, steps=8)
    return torch.tensor([line["mean"] for line in estimators.with_learned_critic(2, (0.5,), "dot", False, small)])


@pytest.mark.parametrize("measure", [fresh_critics, nonlinear_probe, learned_critic])
def test_a_measurement_leaves_the_generator_alone_and_does_not_depend_on_it(measure):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = measure()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(measure(), first)


def test_an_untrained_model_is_that_of_its_seed(corpus, monkeypatch):
    spec = config.RunSpec("FINE", config.DataConfig("mosi", scale=0.08), config.FineConfig(), config.TrainConfig(), 3)
    torch.manual_seed(3)
    own = models.build(spec.model_config, corpus).state_dict()
    before = torch.get_rng_state()
    found = model_of(None, spec, trained=False).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(found[name], value) for name, value in own.items())


def test_draws_inside_are_the_seeds_and_draws_after_go_on():
    torch.manual_seed(1)
    expected = torch.rand(3), torch.rand(3)
    torch.manual_seed(1)
    first = torch.rand(3)
    with pytest.raises(KeyError), seeded(9):
        inside = torch.rand(3)
        raise KeyError
    assert torch.equal(torch.stack(expected), torch.stack([first, torch.rand(3)]))
    torch.manual_seed(9)
    assert torch.equal(inside, torch.rand(3))
