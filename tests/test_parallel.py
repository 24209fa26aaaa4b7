"""Two processes on shares of a batch against one process on the whole of it."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from finelib import experiment, parallel, presets, torchrun, training
from finelib.baselines import SYSTEMS, mfn
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data import stream
from finelib.data.features import ResidentSplit
from finelib.models import build
from finelib.records import read_record
from finelib.stacked import ByteDropout

DATA = DataConfig("mosi", scale=0.05)
BATCH = 21
SMALL = FineConfig(width=(16, 16, 16), task_width=16, heads=2, critic_width=16, label_width=8, dropout=0.0)
TRAIN = TrainConfig(epochs=2, batch_size=BATCH, lr=3e-3, lr_critic=3e-3)
TRAININGS = {
    "dot critic": (SMALL, TRAIN),
    "concat critic": (replace(SMALL, critic="concat", width=(32, 16, 32)), TRAIN),
    "accumulated": (SMALL, replace(TRAIN, accumulate=2)),
    "bucket": (replace(SMALL, contrast="supcon", queue_alpha=0.0), replace(TRAIN, bucket=True)),
}
DROPPED = replace(SMALL, dropout=0.3)
SPEC = RunSpec("FINE", DATA, SMALL, TRAIN, seed=1)
WITHOUT_BATCH_NORM = ("MFN", "MulT", "MISA", "Self-MM", "BBFN", "ConFEDE")
MODELS = {"FINE": SMALL, "FINE, concat critic": TRAININGS["concat critic"][0]} | {
    name: FineConfig(**vars(SMALL) | changes)
    for name, changes in {"w/o MoQ": {"encoder": "linear"}, "MISA for FTRE": {"factorisation": "misa"}}.items()
} | {name: SYSTEMS[name].Config(**SYSTEMS[name].DEMO) for name in WITHOUT_BATCH_NORM}  # fmt: skip


@contextmanager
def default_is_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Doubles(ResidentSplit):
    """Labels and frames in double precision; in single, AdamW makes large steps of gradients that are but rounding."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.label = self.label.double()
        self._values = {m: values.double() for m, values in self._values.items()}


def trained(model, train, seed=3, **options):
    """Weights and curves, in double precision."""
    corpus = experiment.load_corpus(DATA)
    torch.manual_seed(seed)
    model = build(model, corpus).double()
    with pytest.MonkeyPatch.context() as patch:
        for module in (training, stream):
            patch.setattr(module, "ResidentSplit", Doubles)
        history = training.fit(model, corpus, train, seed, **options)
    return model.state_dict(), history.curves


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, ByteDropout):
            module.kept = 256
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
        elif isinstance(module, mfn.Gates):
            module.drop = (0.0, 0.0)
    return model.train()


@default_is_double()
def gradients(config):
    """Loss terms and gradients of two batches, one of which is smaller than the number of processes."""
    corpus = experiment.load_corpus(DATA)
    torch.manual_seed(0)
    model = without_dropout(build(config, corpus).double())
    split = Doubles(corpus.splits["train"], model.modalities, torch.device("cpu"))
    found = {}
    for index in (torch.arange(3, 10), torch.tensor([5])):
        model.zero_grad()
        output, batch = parallel.whole(model, split.batch(parallel.share(index)), index)
        terms = model.losses(output, batch)
        terms["total"].backward()
        parallel.mean_gradients(model)
        found[len(index)] = (
            {name: value.detach() for name, value in terms.items()},
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None},
        )
    return found


def own_rows_alone(forward, batch, index):
    """What data parallel training does that gathers nothing: every process has the losses of its own rows."""
    return forward(batch), batch


def resumed(folder):
    """Stopped in the second process alone, in the middle of an epoch, then taken up again."""
    for updates in (2, 3):
        calls = iter(range(1000))
        stop = lambda updates=updates, calls=calls: parallel.rank() == 1 and next(calls) == updates  # noqa: E731
        with pytest.raises(training.Stopped):
            trained(DROPPED, TRAIN, checkpoint=folder / "checkpoint.pt", stop=stop)
    return trained(DROPPED, TRAIN, checkpoint=folder / "checkpoint.pt")


def refused():
    corpus = experiment.load_corpus(DATA)
    with pytest.raises(ValueError, match="lf_dnn: nets.A.layers.0 is a batch norm, whose statistics would be"):
        trained(SYSTEMS["LF-DNN"].Config(**SYSTEMS["LF-DNN"].DEMO), TRAIN)
    split = ResidentSplit(corpus.splits["train"], ("V",), torch.device("cpu"))
    with pytest.raises(ValueError, match=r"an output of shape \(2, 3\) does not begin with the batch of 3"):
        parallel.whole(lambda batch: torch.zeros(2, len(batch)), split.batch(torch.arange(3)), torch.arange(6))


def work(rank, folder):
    """All that is done by two processes, kept in a file by each."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {name: trained(*settings) for name, settings in TRAININGS.items()}
    found |= {f"gradients, {name}": gradients(config) for name, config in MODELS.items()}
    found |= {"dropout": trained(DROPPED, TRAIN), "resumed": resumed(folder)}
    found["draw"] = torch.rand(3)
    refused()
    torchrun.train(SPEC, folder / "run")
    whole, parallel.whole = parallel.whole, own_rows_alone
    found |= {"own rows alone": trained(*TRAININGS["dot critic"])}
    parallel.whole = whole
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    multiprocessing.spawn(work, (folder,), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def both(folder):
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


same = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-8)


def test_batches_are_uneven_and_the_last_is_smaller_than_the_number_of_processes():
    size = len(experiment.load_corpus(DATA).splits["train"])
    assert BATCH % 2 == 1 and size % BATCH == 1


@pytest.mark.parametrize("name", TRAININGS)
def test_several_updates_equal_one_process_with_the_whole_batch(name, both):
    weights, curves = trained(*TRAININGS[name])
    for together in both:
        same(together[name][0], weights)
        for ours, theirs in zip(together[name][1], curves, strict=True):
            same(ours, theirs)
    queue = [key for key in weights if key == "queue.filled"]
    assert len(queue) == (name != "bucket") and all(weights[key].sum() > BATCH for key in queue)


@pytest.mark.parametrize("name", [*TRAININGS, "dropout"])
def test_all_processes_end_with_the_same_bits(name, both):
    (first, first_curves), (second, second_curves) = (together[name] for together in both)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert first_curves == second_curves


@pytest.mark.parametrize("name", MODELS)
def test_terms_and_every_gradient_equal_those_of_one_process(name, both):
    """Gradients, since AdamW forgives a wrong factor."""
    for size, (terms, expected) in gradients(MODELS[name]).items():
        for together in both:
            found_terms, found = together[f"gradients, {name}"][size]
            same(found_terms, terms)
            same(found, expected)
        assert sum(bool(grad.any()) for grad in expected.values()) >= len(expected) / 2 or size == 1


def test_losses_of_own_rows_alone_give_another_training(both):
    weights, curves = trained(*TRAININGS["dot critic"])
    wrong, wrong_curves = both[0]["own rows alone"]
    assert abs(wrong_curves[0]["cl"] - curves[0]["cl"]) > 0.1  # fewer negatives
    assert max(float((value - weights[key]).abs().max()) for key, value in wrong.items() if "queue" not in key) > 1e-3


def test_each_process_draws_its_own_dropout_and_resuming_is_exact(both):
    assert not torch.equal(both[0]["draw"], both[1]["draw"])
    for together in both:
        (weights, curves), (resumed_weights, resumed_curves) = together["dropout"], together["resumed"]
        assert all(torch.equal(value, resumed_weights[key]) for key, value in weights.items())
        assert curves == resumed_curves


def test_the_record_is_that_of_one_process_and_says_how_many_there_were(folder, tmp_path):
    together = read_record(folder / "run")
    alone = experiment.run([SPEC], tmp_path, jobs=1, progress=False)[0]
    assert together.content["timing"]["processes"] == 2 and alone.content["timing"]["processes"] == 1
    assert together.content["config_hash"] == alone.content["config_hash"]
    assert together.content.keys() == alone.content.keys()
    assert together.test == pytest.approx(alone.test, abs=1e-3)
    assert not (folder / "run" / "checkpoint.pt").exists()


def test_one_process_gathers_nothing(corpus):
    split = ResidentSplit(corpus.splits["train"], ("V",), torch.device("cpu"))
    output, batch = parallel.whole(lambda batch: batch.features, split.batch(torch.arange(4)), torch.arange(4))
    assert output is batch.features and set(batch.mask) == {"V"}


def test_the_command_takes_a_run_of_the_corpus_table(tmp_path):
    spec, out = torchrun.parse(["--corpus", "mosei", "--preset", "smoke", "--seed", "7", "--out", str(tmp_path)])
    options = presets.Options("smoke", out=tmp_path)
    assert spec == replace(presets.specs("mosei", options)[0], seed=7) and out == tmp_path
