"""Public code gets the file's own utterances in its own layout, by hand-worked values; none of that code is needed."""

import pickle
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import compare_public
import numpy as np
import public_run
import public_systems
import pytest
import torch
from torch import nn

MASK = [[1, 1, 0], [1, 0, 0]]
STEPS = torch.tensor(MASK)
BATCH = {  # steps behind an utterance are not zero here, so that whoever reads them is found out
    "text": torch.tensor([[[1.0, 10.0], [3.0, 30.0], [99.0, 99.0]], [[5.0, 50.0], [99.0, 99.0], [99.0, 99.0]]]),
    "audio": torch.tensor([[[2.0], [4.0], [99.0]], [[6.0], [99.0], [99.0]]]),
    "vision": torch.tensor([[[-2.0], [-4.0], [99.0]], [[-6.0], [99.0], [99.0]]]),
    "mask": STEPS,
    "label": torch.tensor([1.0, -2.0]),
}


@pytest.fixture
def run(tmp_path):
    """Three utterances a split, two in a batch; a split's labels are 1, 2, 3 times ``sign``."""

    def fields(sign):
        audio = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
        mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
        label = sign * np.array([1, 2, 3], np.float32)
        words = np.stack([mask * 1000, mask, mask * 0], 1)
        return {"text": audio * 10, "audio": audio, "vision": -audio, "text_bert": words, "regression_labels": label}

    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"train": fields(1), "valid": fields(1), "test": fields(-1)}))
    return public_run.Run(path, tmp_path, {"lr": 0.5, "epochs": 3, "batch_size": 2})


def test_a_batch_has_the_rows_asked_for(run):
    batch = run.batch("test", torch.tensor([2, 0]))
    assert batch["audio"][..., 0].tolist() == [[6, 7, 8], [0, 1, 2]]
    assert batch["text"][..., 0].tolist() == [[60, 70, 80], [0, 10, 20]]
    assert batch["vision"][..., 0].tolist() == [[-6, -7, -8], [0, -1, -2]]
    assert batch["mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["label"].tolist() == batch["labels"]["M"].tolist() == [-3, -1]


def test_an_epoch_has_every_utterance_once(run):
    labels = [batch["label"].tolist() for batch in run]
    assert sorted(sum(labels, [])) == [1, 2, 3] and [len(part) for part in labels] == [2, 1] and len(run) == 2
    assert run.seen == 3 and run.seconds > 0


def test_scores_are_those_of_the_epoch_that_is_best_on_validation(run):
    for factor, valid in ((0.5, 1.0), (0.75, 0.5), (2.0, 2.0)):  # |1 - factor| times a mean |label| of 2
        assert run.evaluate(lambda batch, factor=factor: factor * batch["label"].abs()) == pytest.approx(valid)
    assert run.scores == pytest.approx({"mae": 3.5, "corr": -1.0})  # 0.75 |y| beside -|y|: 1.75 times 2
    assert run.curve == pytest.approx([1.0, 0.5, 2.0])


def test_mean_frames_skip_padding_and_stand_in_the_authors_order():
    audio, vision, text = public_run.mean_frames(BATCH)
    assert audio.tolist() == [[3], [6]] and vision.tolist() == [[-3], [-6]] and text.tolist() == [[2, 20], [5, 50]]


def test_what_is_behind_the_longest_utterance_is_cut_off():
    cut = public_run.to_longest(BATCH)
    assert cut["mask"].tolist() == [[1, 1], [1, 0]]
    assert cut["audio"][..., 0].tolist() == [[2, 4], [6, 99]] and cut["text"].shape == (2, 2, 2)


def test_a_first_step_of_zeros_stands_in_front():
    moved = public_run.behind_first(BATCH)
    assert moved["mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert moved["audio"][..., 0].tolist() == [[0, 2, 4, 99], [0, 6, 99, 99]]
    assert moved["vision"][..., 0].tolist() == [[0, -2, -4, 99], [0, -6, 99, 99]]


class Public(nn.Module):
    """Stands for C-MIB and EUAR: takes its steps in ``forward``; notes what it is given."""

    d_l = 4

    def __init__(self):
        super().__init__()
        self.text, self.given, self.asked = nn.Linear(1, 1), [], []
        self.optimizer_l = torch.optim.SGD(self.text.parameters(), lr=0.0)
        self.optimizer_all = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.0)

    def forward(self, *values, **named):
        self.given.append((values, named))

    def test(self, *values, **named):
        self.asked.append((values, named))
        return values[0][:, 0]


def test_text_video_audio_is_the_order_of_models_that_step_themselves(run):
    model, errors = Public(), []
    assert public_systems.steps_itself(run, model, errors.append) is model
    (text, vision, audio, label), named = model.given[0]
    assert torch.equal(text, 10 * audio) and torch.equal(vision, -audio)
    row = int(label[0]) - 1
    assert audio[0, :, 0].tolist() == [3 * row, 3 * row + 1, 3 * row + 2]
    assert named["attention_mask"][0].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]][row]
    (text, vision, audio), named = model.asked[0]
    assert torch.equal(text, 10 * audio) and torch.equal(vision, -audio) and len(named["attention_mask"]) == 3
    assert len(model.given) == 2 * len(errors) == 6  # two batches and one look at validation in each of three epochs
    rates = [group["lr"] for opt in (model.optimizer_l, model.optimizer_all) for group in opt.param_groups]
    assert rates == [0.5, 0.5, 0.5]


def test_the_stand_in_for_a_text_encoder_gives_back_what_it_gets():
    x = BATCH["text"]
    for made in (public_systems.Features(), public_systems.Features.from_pretrained("name")):
        assert made(x)[0] is x and made(input_ids=x, attention_mask=STEPS).last_hidden_state is x
    assert public_systems.Embeddings()(input_ids=x) is x


def test_a_missing_checkout_is_named_with_address_and_revision(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["compare_public.py", str(tmp_path), "--system", "euar"])
    assert compare_public.main() == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith(f"compare_public.py: {tmp_path / 'euar'}: found no checkout")
    for system in public_run.SYSTEMS.values():
        assert f"https://github.com/{system.repository} at {system.revision}" in told


def test_a_checkout_of_another_revision_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "gfn"
    commands = [
        "init -q",
        "-c user.name=a -c user.email=a@example.org commit -q --allow-empty -m one",
        "rev-parse HEAD",
    ]
    folder.mkdir()
    for command in commands:
        done = subprocess.run(["git", *command.split()], cwd=folder, text=True, capture_output=True, check=True)
    revision = done.stdout.strip()
    with pytest.raises(ValueError, match=f"found {revision}, expected https://github.com/TmacMai"):
        public_run.checkout(tmp_path, "gfn")
    monkeypatch.setitem(public_run.SYSTEMS, "gfn", replace(public_run.SYSTEMS["gfn"], revision=revision))
    assert public_run.checkout(tmp_path, "gfn") == folder


def test_intervals_and_the_verdict_are_of_the_public_codes_mean(monkeypatch):
    maes = {"theirs": [1.0, 1.2, 1.4], "ours": [1.6, 1.6, 1.6]}

    def in_process(job):
        scores = {"mae": maes[job["side"]][job["seed"]], "corr": 0.5, "samples_per_s": 256.0, "parameters": 1}
        return scores | {"dev_mae": [1.0]}

    monkeypatch.setattr(compare_public, "in_process", in_process)
    monkeypatch.setattr(compare_public, "ROWS", (512, 1, 1))
    found = compare_public.compare({}, 3)
    mae = SimpleNamespace(**found["mae"])
    # sd 0.2, t(2) = 4.303: 4.303 * 0.2 / sqrt(3) = 0.4969; 1.6 is 0.4 above 1.2
    assert (mae.theirs_mean, mae.theirs_half_width, mae.ours_half_width) == (1.2, 0.4968, 0.0)
    assert mae.ours_within_or_better and found["seconds_per_epoch"] == {"theirs": 2.0, "ours": 2.0}
    maes["ours"] = [1.7, 1.7, 1.7]
    assert not compare_public.compare({}, 3)["mae"]["ours_within_or_better"]
    maes["ours"] = [0.1, 0.1, 0.1]
    assert compare_public.compare({}, 3)["mae"]["ours_within_or_better"]
