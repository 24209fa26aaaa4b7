"""Tables of somebody's own corpus (``run_all.sh --source PATH``): every system that can read it, and FINE on each
subset of its modalities. They stand apart from the paper's tables: nothing printed can be compared with them."""

from dataclasses import replace
from pathlib import Path

from finelib.baselines import SYSTEMS
from finelib.config import DataConfig, RunSpec
from finelib.data import own
from finelib.data.card import said
from finelib.data.encoders import MINILM
from finelib.data.features import Corpus
from finelib.data.own_labels import NAME
from finelib.models import build as build_model
from finelib.models import system_config
from finelib.paper import ablations, score, tables
from finelib.paper.table import Table, write
from finelib.runs import experiment, presets, tuning
from finelib.runs.options import Options

SYSTEMS_TABLE, SUBSETS_TABLE = "own_systems", "own_modalities"
SUBJECTS = {SYSTEMS_TABLE: "systems", SUBSETS_TABLE: "subsets of its modalities"}
PICTURES = (f"{SYSTEMS_TABLE}_forest", f"{SYSTEMS_TABLE}_cost", f"{SUBSETS_TABLE}_forest")
LIKE = {SYSTEMS_TABLE: 1, SUBSETS_TABLE: 5}  # the table of the paper whose rows are of this kind
DIFFERENCE = (
    "Δ: the row minus FINE{}, same seeds, with a 95 % interval over seeds and test utterances; p of that difference "
    "after Holm's correction over the rows."
)
SETTINGS = (
    "Systems are trained as finelib.fit trains them, the compared ones with their published settings, and selected on "
    "dev; nothing was tuned for these data unless --tune was given. Ridge and TF-IDF are linear: where FINE is not "
    "shown to be better than they are, they are the models to use."
)


def is_asked_for(options: Options) -> bool:
    """Whether the source is somebody's own corpus."""
    return own.is_source(options.source)


def names(options: Options) -> list[str]:
    """The tables that can be made: one modality has no subsets."""
    several = len(_corpus(options).modalities) > 1
    return [SYSTEMS_TABLE, SUBSETS_TABLE] if several else [SYSTEMS_TABLE]


def data_config(options: Options) -> DataConfig:
    """The data that the options name."""
    encoder = options.text_encoder or (MINILM if options.finetune_text else "files")
    return DataConfig(NAME, source=options.source, text_encoder=encoder, finetune_text=options.finetune_text)


def runs(name: str, options: Options) -> dict[str, list[RunSpec]]:
    """Row -> its runs; with ``options.tune`` settings are chosen first, which trains what has no record yet."""
    if name == SYSTEMS_TABLE:
        found = [spec for system in ("FINE", *presets.compared_systems(options)) for spec in _specs(system, options)]
        return tables.by_name(tuning.tuned(found, options) if options.tune else found)
    there = set(_corpus(options).modalities)
    rows = [row for row in ablations.MODALITY_ROWS if set(row.change["modalities"]) <= there]
    return ablations.Block(tuple(rows), _specs("FINE", options)[0]).specs(options.seed_list)


def _specs(system: str, options: Options) -> list[RunSpec]:
    """A system's runs, as ``finelib.fit`` trains it; none where the corpus lacks what it needs."""
    data = data_config(options)
    if system in SYSTEMS:
        if data.finetune_text and not SYSTEMS[system].FINETUNED:
            data = replace(data, text_encoder="files", finetune_text=False)
        if not _can_read(system, experiment.load_corpus(data)):
            return []
    settings, train = system_config(system, _corpus(options))
    if options.preset == "smoke":
        train = replace(train, epochs=2)
    return [RunSpec(system, data, settings, train, seed) for seed in options.seed_list]


def _can_read(system: str, corpus: Corpus) -> bool:
    """Whether a system can do with the corpus's modalities."""
    model, there = SYSTEMS[system].Model, corpus.modalities
    if len(there) < model.least or not set(model.needs) <= set(there):
        return False
    try:
        build_model(system_config(system, corpus)[0], corpus)
    except ValueError:  # some say what they need only when they are built
        return False
    return True


def _corpus(options: Options) -> Corpus:
    return experiment.load_corpus(data_config(options))


def build(name: str, options: Options) -> Table:
    """Train what is missing, make the table, write ``figures/NAME.{json,csv,md,tex,html}`` below ``options.out``."""
    found, corpus = runs(name, options), _corpus(options)
    rows = tables.measure(LIKE[name], found, options)
    kind = corpus.info.metrics
    told = [score.NOTES, score.ABOUT[kind], DIFFERENCE.format("" if name == SYSTEMS_TABLE else " with all modalities")]
    if name == SYSTEMS_TABLE:
        told.append(SETTINGS)
        lacking = [system for system in SYSTEMS if system not in found]
        if lacking:
            told.append(f"Not run, because they need other modalities or were not asked for: {', '.join(lacking)}.")
    if options.preset == "smoke":
        told.append("The smoke preset trains for two epochs: these rows show that the path works, and nothing else.")
    told += [f"Of the data: {sentence}." for sentence in said(corpus.card)[1:]]
    subject = f"Own corpus {Path(options.source).name}: {SUBJECTS[name]}"
    table = Table(0, tuple(rows), tuple(told), subject, score.COLUMNS[kind])
    write(table, options.figures, name)
    return table
