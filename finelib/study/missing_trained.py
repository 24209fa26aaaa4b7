"""Losses in training too: each system trained again on lost data, and what it gains when data are missing at test.

In training every utterance has losses of its own. Frames: each modality of it keeps all its frames with probability
1/2, else it loses each at a rate drawn between 0 and 1, as LNLN trains. Modalities: a subset drawn at random is left.
LNLN draws anew in every epoch; here the losses are drawn once, so that the same Trainer trains, with the settings that
a system has without losses. The dev split, by which the epoch is chosen, has losses of the same kind. The draw does not
depend on the system. ``run_all.sh --only missing_trained`` makes it, for every corpus of Tables 1 to 4 that can be had.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from finelib.config import RunSpec
from finelib.data import sources
from finelib.data.features import MODALITIES, Corpus, Split
from finelib.paper import tables
from finelib.paper.comparisons import p_text
from finelib.runs import experiment, one
from finelib.runs.checkpoint import Stopped
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import ROOT, Options
from finelib.runs.records import digest, write_atomically
from finelib.scale import processes
from finelib.scale.execute import execute, jobs_that_fit
from finelib.study import losses, missing
from finelib.study.losses import RATES, Rates
from finelib.study.missing import Run
from finelib.study.missing_said import span

NAME = "missing_trained"
FRAMES, WHOLE_MODALITIES = "frames", "modalities"
KINDS = (FRAMES, WHOLE_MODALITIES)
DRAWS = {"train": 1, "valid": 2}  # seeds of the losses


# --------------------------------------------------------------------------------------------------- losses


def training_rates(n: int, kind: str, modalities: tuple[str, ...], seed: int) -> Rates:
    """Modality -> share lost of each of n utterances."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == FRAMES:
        return {m: rng.random(n) * (rng.random(n) < 0.5) for m in MODALITIES}
    every = [*losses.subsets(modalities), modalities]
    drawn = rng.integers(len(every), size=n)
    return {m: np.array([float(m not in every[i]) for i in drawn]) for m in MODALITIES}


def with_losses(corpus: Corpus, kind: str) -> Corpus:
    """The corpus with losses in train and valid; its test split is whole."""

    def lost(name: str) -> Split:
        split, seed = corpus.splits[name], DRAWS[name]
        return losses.lose(split, training_rates(len(split), kind, corpus.modalities, seed), seed)

    return replace(corpus, splits=corpus.splits | {name: lost(name) for name in DRAWS})


# ------------------------------------------------------------------------------------------------- training


def predictions_of(spec: RunSpec, kind: str, options: Options, stop: one.Stop = processes.never) -> dict:
    """Test predictions in every condition of a run that is trained with losses, unless that is done; kept.

    Raises:
        checkpoint.Stopped: ``stop`` said so; what is finished is kept.
        training.Diverged: a loss term was not finite.
    """
    run = experiment.run_folder(spec, options.out).name
    key = digest({"run": run, "code": code_hash("finelib.study.losses", "finelib.runs.one"), "draws": DRAWS})
    path = options.out / "runs" / "kept" / NAME / f"{run}-{kind}.json"
    return kept(path, key, partial(_train, spec, kind, stop))


def _train(spec: RunSpec, kind: str, stop: one.Stop) -> dict:
    corpus = experiment.load_corpus(spec.data)
    lossy = with_losses(corpus, kind)
    (model,) = one.new_models([spec], lossy)

    def after_update(_trainer: object) -> None:
        if stop():
            raise Stopped

    one.make_trainer(model, lossy, spec).run(after_update)
    test, threads = corpus.splits["test"], spec.train.threads
    return losses.as_lists(losses.predict_with_losses(model, test, corpus.modalities, threads))


def train_and_advance(spec: RunSpec, kind: str, options: Options, advance: one.Advance, stop: one.Stop) -> None:
    """``predictions_of`` as a task of ``execute``."""
    predictions_of(spec, kind, options, stop)
    advance(1)


def specs(options: Options) -> list[RunSpec]:
    """The runs of Tables 1 to 4 from the options' source: the same without losses in training."""
    return [spec for runs in _blocks(options) for spec in runs]


def _blocks(options: Options) -> list[list[RunSpec]]:
    numbers = [n for n, corpus in tables.CORPUS_OF.items() if not sources.available(corpus, options.source)]
    return [tables.own_specs(number, options) for number in numbers]


# ---------------------------------------------------------------------------------------------------- study


def measure_missing_trained(options: Options) -> dict:
    """Train what is missing; write figures/missing_trained.{json,md}, kept while runs and code stay the same."""
    blocks = [missing.runs_of(runs, options) for runs in _blocks(options)]
    ids = [record.id for runs in blocks for group in runs.values() for record, _ in group]
    key = digest({"runs": ids, "code": code_hash("finelib.study.missing_trained", "finelib.runs.one")})
    content = kept(options.figures / f"{NAME}.json", key, partial(_content, blocks, options))
    write_atomically(options.figures / f"{NAME}.md", as_text(content))
    return content


def _content(blocks: list[dict[str, list[Run]]], options: Options) -> dict:
    corpora = [experiment.load_corpus(_specs_of(runs)[0].data) for runs in blocks]
    kinds = [KINDS if len(corpus.modalities) > 1 else (FRAMES,) for corpus in corpora]
    tasks = [
        (s, kind, options) for runs, own in zip(blocks, kinds, strict=True) for kind in own for s in _specs_of(runs)
    ]
    _train_all(tasks, options)
    found = {}
    for runs, corpus, own in zip(blocks, corpora, kinds, strict=True):
        found[corpus.called] = {"at test": missing.at_test(runs, options)}
        before = missing.tests(missing.ask(runs, options))
        for kind in own:
            after = {s: [predictions_of(spec, kind, options) for _, spec in group] for s, group in runs.items()}
            found[corpus.called][kind] = missing.summarise(after, corpus) | {"gain": gain(before, after, kind, corpus)}
    return {"corpora": found}


def _specs_of(runs: dict[str, list[Run]]) -> list[RunSpec]:
    return [spec for group in runs.values() for _, spec in group]


def _train_all(tasks: list[tuple], options: Options) -> None:
    jobs = min(options.jobs or jobs_that_fit(tasks[0][0].train.threads), len(tasks))
    with tqdm(total=len(tasks), desc="training with losses", unit="run") as bar:
        with processes.signals_noted() as stop, suppress(Stopped):
            execute(train_and_advance, tasks, [], jobs, None, bar.update, stop)


def gain(before: dict[str, list], after: dict[str, list], kind: str, corpus: Corpus) -> dict[str, dict]:
    """System -> Corr, averaged over the losses of a kind at test, trained with them minus trained without.

    Over the conditions that the system can do; the same seeds and utterances stand on both sides.
    """
    lossy = [losses.frames_name(rate) for rate in RATES if rate > 0]
    names = lossy if kind == FRAMES else [losses.subset_name(left) for left in losses.subsets(corpus.modalities)]
    old, new = (missing.contributions("corr", side, corpus) for side in (before, after))
    changes = {s: [new[name][s] - old[name][s] for name in names if s in old[name]] for s in before}
    return missing.over_seeds_and_utterances({s: np.mean(parts, 0) for s, parts in changes.items() if parts})


def as_text(content: dict) -> str:
    """For each corpus and kind of loss a table in Markdown: what losses in training change of mean Corr."""
    lines = []
    for corpus, block in content["corpora"].items():
        for kind in [kind for kind in KINDS if kind in block]:
            lines += [f"**{corpus}**: {kind} missing, Corr averaged over the losses at test", ""]
            lines += ["| system | with losses in training minus without | p (Holm) |", "|---|---:|---:|"]
            lines += [
                f"| {s} | {span(found)} | {p_text(found['p_holm'])} |" for s, found in block[kind]["gain"].items()
            ]
            lines.append("")
    return "\n".join(lines)


def measured_before(options: Options) -> dict | None:
    """What ``measure_missing_trained`` found in this folder, or else what is published with the checkout; nothing is
    trained."""
    return next((json.loads(path.read_text()) for path in places(options) if path.exists()), None)


def places(options: Options) -> tuple[Path, Path]:
    """Where ``measured_before`` looks."""
    return options.figures / f"{NAME}.json", ROOT / "figures" / "published" / f"{NAME}.json"
