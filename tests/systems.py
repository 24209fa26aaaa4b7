"""Compared systems in their demo configuration, batches and weights for the tests of each."""

from torch import nn

from finelib import models
from finelib.baselines import SYSTEMS


def demo(name, corpus, modalities="TAV", **changes):
    system = SYSTEMS[name]
    return models.build(system.Config(**system.DEMO | {"modalities": tuple(modalities)} | changes), corpus)


def batch_of(corpus, rows=range(6)):
    """Training utterances."""
    return corpus.batch(rows, "train")


def fill(module):
    """Random weights everywhere, biases too, so that nothing is hidden by a zero."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()
