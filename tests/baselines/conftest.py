from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from finelib.data.features import Frames


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def tokens(corpus, tmp_path):
    """The corpus with token ids in place of text features, for a random encoder of two layers, 16 wide."""
    sizes = dict(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path)
    rng, splits = np.random.default_rng(0), {}
    for s, split in corpus.splits.items():
        ids = rng.integers(0, 50, len(split.frames["T"].values))
        splits[s] = replace(split, frames=split.frames | {"T": Frames.from_lengths(ids, split.frames["T"].length)})
    return replace(corpus, splits=splits, encoder=str(tmp_path))
