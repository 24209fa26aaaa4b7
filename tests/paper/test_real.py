"""Blocks of real corpora: which rows a table gets, and that a corpus that cannot be had stops no other."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from finelib.baselines import SYSTEMS
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data.corpora import ALL_CORPORA, CORPORA
from finelib.data.features import SPLITS, Corpus, Frames, Split
from finelib.paper import comparisons, tables
from finelib.paper.notes import AVERAGE, EPOCHS, TEXT_ALONE, notes
from finelib.paper.table import Row
from finelib.runs import presets, real
from finelib.runs.options import Options

PUBLIC = Options(source="public", n_seeds=2)
GONE = "label.npz: found sha256:0, expected another"


@pytest.fixture
def had(monkeypatch):
    """Says which corpora can be had; all by default."""
    missing = set()

    def available(corpus, source, **_):
        return GONE if corpus in missing else None

    monkeypatch.setattr(tables.sources, "available", available)
    return missing


def of(number, options=PUBLIC):
    return [(next(iter(b.runs.values()))[0].data, b) for b in tables.measured_blocks(number, options)]


@pytest.mark.parametrize("number", (1, 2, 3, 4))
def test_tables_1_to_4_have_fine_the_encoder_alone_and_every_system_that_can_run(number, had):
    data, block = of(number)[0]
    own = real.modalities(data)
    alone = {"BBFN", "DMD", "MuLOT", "MAG-BERT", "MSG"}  # which fuse, and have nothing to fuse in text alone
    assert set(block.runs) == {"FINE", "text encoder alone", *SYSTEMS} - (set() if len(own) > 1 else alone)
    assert data.corpus == tables.CORPUS_OF[number]
    for name, runs in block.runs.items():
        assert [run.seed for run in runs] == [0, 1] and {run.data for run in runs} == {data}
        assert runs[0].model_config.modalities == (("T",) if name == "text encoder alone" else own)


def test_ur_funny_is_there_alone_and_with_its_context(had):
    assert [data.context for data, _ in of(3)] == [False, True]


def test_a_corpus_whose_speakers_are_known_is_also_cross_validated_by_video(had):
    folds = [block for data, block in of(4) if "by-video" in data.source]
    assert len(folds) == 2
    for block in folds:
        runs = block.runs["FINE"]
        assert [run.data.source for run in runs] == [f"public-by-video-{k}" for k in (1, 2, 3, 4, 5)]
        assert {run.seed for run in runs} == {0}


def test_table_5_has_the_subsets_of_what_each_source_has(had):
    found = {(data.corpus, data.text_encoder): block.runs for data, block in of(5)}
    every = ["V", "A", "T", "V + A", "V + T", "A + T", "V + A + T"]
    assert {key: list(runs) for key, runs in found.items()} == {
        ("ch_sims_v2", tables.sources.default_encoder("ch_sims_v2", "public")): every,
        ("ch_sims_v2", "files"): every,
        ("mosi", "files"): ["A", "T", "A + T"],
        ("ict_mmmo", "files"): ["V", "A", "V + A"],
        ("mosei", "files"): ["T"],
    }
    for runs in found.values():
        assert all(set(run.model_config.modalities) == set(name.split(" + ")) for name in runs for run in runs[name])
    assert found["mosei", "files"]["T"] == of(2)[0][1].runs["FINE"]  # trained once for both tables


def test_one_corpus_missing_is_one_sentence_and_the_others_go_on(had):
    had.add("ch_sims_v2")
    assert [data.corpus for data, _ in of(5)] == ["mosi", "ict_mmmo", "mosei"]
    assert tables.missing(5, PUBLIC) == [GONE] and tables.missing(3, PUBLIC) == []
    had.update(ALL_CORPORA)
    assert of(5) == of(4) == [] and tables.missing(4, PUBLIC) == [GONE]


def test_the_demo_has_small_real_blocks_beside_planted_ones_and_no_compared_system(had):
    for number, corpora in {1: ["mosi", "mosi"], 2: [], 3: [], 4: ["ch_sims"], 5: ["ict_mmmo"]}.items():
        planted, *beside = of(number, Options())
        assert planted[0].source == "planted" and [data.corpus for data, _ in beside] == corpora
        for data, block in beside:
            assert not set(block.runs) & set(SYSTEMS)
            assert {len(runs) for runs in block.runs.values()} == {2} and "2 seeds" in block.about
            assert ("without the compared systems" in block.about) == (number < 5 and data.source == "public")
    asked = [block for number in (4, 5) for _, block in of(number, Options(n_seeds=4))]
    assert all(len(runs) == 4 for block in asked for runs in block.runs.values())


def test_a_named_encoder_reads_text_and_never_replaces_published_numbers(had):
    named = replace(PUBLIC, text_encoder="some/encoder")
    assert {data.text_encoder for data, _ in of(4, named)} == {"some/encoder"}
    encoders = [data.text_encoder for data, _ in of(5, named) if data.corpus == "ch_sims_v2"]
    assert encoders == ["files", "some/encoder"]  # claims are judged by the first, one number for each modality


def test_fine_tuned_runs_are_named_so_and_short_where_an_epoch_is_long(had):
    found = presets.specs("mosei", replace(PUBLIC, finetune_text=True))
    assert {run.name for run in found} == {"FINE (fine-tuned)", "text encoder alone (fine-tuned)"}
    assert all(run.data.finetune_text and run.data.text_encoder == "all-MiniLM-L6-v2" for run in found)
    assert {run.train.epochs for run in found} == {3}


def test_an_encoder_that_cannot_be_trained_is_not_fine_tuned(had, monkeypatch):
    monkeypatch.setattr(real.sources, "default_encoder", lambda *_: real.E5)
    encoders = {data.text_encoder for data, _ in of(4, replace(PUBLIC, finetune_text=True))}
    assert encoders == {"all-MiniLM-L6-v2"} and of(4)[0][0].text_encoder == "files"


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_public_corpus_has_a_recipe_for_fine(corpus):
    fine = next(run for run in real.specs(DataConfig(corpus, "public"), (0,)))
    assert isinstance(fine.model_config, FineConfig) and fine.name == "FINE"


def test_a_cross_validation_has_means_over_folds_and_compares_no_rows(monkeypatch):
    """Two folds: FINE's Corr .4 and .6; the floor, the mean 0 of train, errs by .5 and by 1 on test."""
    labels = {"public-by-video-1": [0.5, -0.5], "public-by-video-2": [1.0, -1.0]}

    def corpus(data):
        label = np.float32(labels[data.source])
        frames = {"T": Frames.from_lengths(np.zeros((2, 0), np.float32), np.ones(2))}
        split = Split(frames, label, ["0", "1"], ["", ""])
        return Corpus(ALL_CORPORA["ch_sims"], "public", dict.fromkeys(SPLITS, split), "", "", {})

    def record(spec):
        corr = {"public-by-video-1": 0.4, "public-by-video-2": 0.6}[spec.data.source]
        return SimpleNamespace(id=spec.data.source, test={"corr": corr}, encoder="", modalities=["T"], parameters=5)

    def train(groups, *_):
        return {name: [record(spec) for spec in group] for name, group in groups.items()}

    monkeypatch.setattr(tables.experiment, "run_groups", train)
    monkeypatch.setattr(tables.experiment, "load_corpus", corpus)
    monkeypatch.setattr(tables.references, "ridge", lambda corpus, _: np.zeros(2, np.float32))
    specs = [RunSpec("FINE", DataConfig("ch_sims", source), FineConfig(), TrainConfig(), 0) for source in labels]
    rows = {row.name: row for row in tables.measure(4, {"FINE": specs, "LF-DNN": specs}, PUBLIC)}
    assert rows["FINE"].measured["corr"]["mean"] == pytest.approx(0.5) and rows["FINE"].runs == tuple(labels)
    assert rows["floor (constant)"].measured["mae"]["mean"] == pytest.approx(0.75)
    assert rows["floor (constant)"].measured["mae"]["n"] == 2
    assert not any(row.differences for row in rows.values())


@pytest.mark.parametrize(
    ("width", "told", "said"),
    [
        (3, "as spoken", ", text by MiniLM, T, "),
        (3, "Chinese", ", text by MiniLM (Chinese), T, "),
        (1, "Chinese", ", public data, T, "),  # a number that somebody's network predicted
    ],
)
def test_a_block_s_title_names_corpus_encoder_language_modalities_and_sizes(width, told, said):
    frames = {"T": Frames.from_lengths(np.zeros((2, width), np.float32), np.ones(2))}
    split = Split(frames, np.zeros(2), ["a_1", "a_2"], ["", ""])
    corpus = Corpus(ALL_CORPORA["ch_sims_v2"], "public", dict.fromkeys(SPLITS, split), "", "MiniLM", {"text": told})
    title = tables.block_title(corpus)
    assert title.startswith("measured on CH-SIMS v2, public data") and title.endswith(f"{said}2 / 2 / 2 utterances")


def row(name, modalities, data="public", corpus=""):
    return Row(name, "system", data, "", modalities, "b", None, {}, corpus=corpus)


def test_notes_say_what_is_left_of_fine_on_text_alone_and_that_an_average_ranks_nothing():
    assert TEXT_ALONE in notes(2, [row("FINE", "T")]) and TEXT_ALONE not in notes(1, [row("FINE", "T + A")])
    assert TEXT_ALONE not in notes(2, [row("FINE", "T", "planted")])
    assert AVERAGE in notes(5, [row("plain average (nothing fitted)", "")]) and AVERAGE not in notes(5, [row("T", "T")])


def test_notes_say_that_everyone_s_epochs_on_mosei_were_chosen():
    for corpus in ("mosei", "mosi"):
        rows = [row(name, "T", corpus=corpus) for name in ("FINE", "TFN")]
        assert (EPOCHS in notes(2, rows)) == (corpus == "mosei") and EPOCHS not in notes(2, rows[:1])


def test_a_reference_meets_every_seed_of_fine_in_its_difference():
    """Against two-way layouts worked by hand: without seeds of its own a reference adds no variance between them."""
    rng = np.random.default_rng(0)
    label = rng.choice([-1.0, 0.0, 0.6], 200)
    fine = [label + 0.5 * rng.standard_normal(200) for _ in range(3)]
    reference = label + 0.5 * rng.standard_normal(200)

    def run(prediction):
        return SimpleNamespace(predictions=lambda: {"test": prediction, "test_label": label})

    found = comparisons.compare({"FINE": [run(p) for p in fine]}, "FINE", "sims", {"ridge": reference})
    clipped = [p.clip(-1, 1) for p in fine]
    gap = np.mean([np.abs(reference.clip(-1, 1) - label).mean() - np.abs(p - label).mean() for p in clipped])
    assert found["ridge"]["mae"]["mean"] == pytest.approx(gap) and set(found) == {"ridge"}
    accuracy = ((reference > 0) == (label > 0)).mean() - np.mean([((p > 0) == (label > 0)).mean() for p in fine])
    assert found["ridge"]["acc2"]["mean"] == pytest.approx(accuracy)
    assert found["ridge"]["acc2"]["low"] < accuracy < found["ridge"]["acc2"]["high"]
