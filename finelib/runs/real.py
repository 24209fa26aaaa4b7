"""Real corpora that anybody may download: which blocks they give each table, and how FINE is trained on them."""

from dataclasses import dataclass, replace

from finelib.config import DataConfig, EncoderConfig, FineConfig, RunSpec, TrainConfig
from finelib.data import sources
from finelib.data.encoders import MINILM
from finelib.data.sentence_encoders import E5
from finelib.runs.options import Options

FOLDS = 5
# (corpus, modalities) of blocks that rank no systems, and why
UNRANKED = {
    ("mosi", "T + A"): "its audio is one frame a clip, so a system that follows audio over time cannot show what it is "
    "made for, and nothing is ranked by it"
}
# what the sources of a corpus have that have more than text
MODALITIES = {("mosi", "public"): ("T", "A"), ("ict_mmmo", "public"): ("A", "V")}
MODALITIES |= dict.fromkeys(
    (("mosi", "public-mfn"), ("ict_mmmo", "public-text"), ("ch_sims_v2", "public-predictions")), ("T", "A", "V")
)


@dataclass(frozen=True)
class RealBlock:
    """What is measured on one real corpus beside a table.

    Attributes:
        corpus, source, context: as in ``DataConfig``.
        encoded: text by the corpus's encoder in place of the source's own features.
        folds: of a cross-validation by video, in place of the official splits; 0: those.
        compared: with the compared systems.
        tried: settings that each system was given on dev before.
        demo: seeds that the demo takes, if no number of them is asked for; 0: it does not show the block.
        about: ends the block's title.
    """

    corpus: str
    source: str = "public"
    context: bool = False
    encoded: bool = False
    folds: int = 0
    compared: bool = False
    tried: int = 1
    demo: int = 0
    about: str = ""

    def data(self, options: Options) -> list[DataConfig]:
        """The data of its runs: one source, or one for each fold."""
        names = [f"{self.source}-by-video-{fold + 1}" for fold in range(self.folds)] or [self.source]
        found = [data_config(self.corpus, name, options, self.encoded) for name in names]
        return [replace(data, context=self.context) for data in found]

    def short(self, options: Options) -> int | None:
        """How many seeds it takes where it takes fewer than the options say; None where it does not."""
        if self.folds:
            return 1
        fewer = options.source == "planted" and options.n_seeds is None and self.demo < len(options.seed_list)
        return self.demo if fewer else None

    def title(self, options: Options) -> str:
        """``about``, and what was shortened."""
        seeds = self.short(options)
        said = [self.about, f"{seeds} seeds" if seeds and not self.folds else ""]
        if self.compared and options.source != "public":
            said.append("without the compared systems, which --source public trains")
        return "; ".join(filter(None, said))

    def missing(self) -> str | None:
        """Why it cannot be had, as one sentence; None if it can."""
        return sources.available(self.corpus, self.source)


BY_VIDEO = f"{FOLDS} folds by video in place of the official splits, one seed, ± over folds"
PREDICTIONS = RealBlock("ch_sims_v2", "public-predictions", about="one published number for each modality")
ENCODED = replace(PREDICTIONS, encoded=True, about="one published number for audio, one for video")
# table -> its blocks; of the blocks of one corpus the first is the one that claims are judged by (in Table 5 that where
# each modality has one number from a network of its own: encoded text beside such numbers for the others ranks none)
BLOCKS = {
    1: [RealBlock("mosi", compared=True, demo=2), RealBlock("mosi", "public-mfn", demo=2)],
    2: [RealBlock("mosei", compared=True, tried=2)],
    3: [
        RealBlock("ur_funny", compared=True, about="the punchline alone"),
        RealBlock("ur_funny", context=True, about="the punchline after its context"),
    ],
    4: [
        RealBlock("ch_sims", compared=True, demo=2),
        RealBlock("ch_sims", folds=FOLDS, about=BY_VIDEO),
        RealBlock("ch_sims_v2", compared=True),
        RealBlock("ch_sims_v2", folds=FOLDS, about=BY_VIDEO),
    ],
    5: [PREDICTIONS, ENCODED, RealBlock("mosi"), RealBlock("ict_mmmo", demo=2), RealBlock("mosei")],
    6: [RealBlock("mosi"), ENCODED],
}


def blocks(number: int, options: Options) -> list[RealBlock]:
    """The real blocks of a table: those of the source "public", and a few in the demo beside planted data."""
    if options.source == "public":
        return [block for block in BLOCKS[number] if block.source != "public-mfn"]  # which is a source of its own
    if options.source == "planted" and options.preset != "paper":
        return [block for block in BLOCKS[number] if block.demo]
    return []


def modalities(data: DataConfig) -> tuple[str, ...]:
    """What a public source has."""
    return MODALITIES.get((data.corpus, data.source), ("T",))


def data_config(corpus: str, source: str, options: Options, encoded: bool = False) -> DataConfig:
    """A public source; text that has no features of its own, or is to be ``encoded``, by the options' encoder."""
    data, default = DataConfig(corpus, source), sources.default_encoder(corpus, source)
    if default == "files" and not encoded:
        return data
    if encoded:
        default = sources.default_encoder(corpus, "public")
    if options.finetune_text and default == E5:  # which cannot be trained
        default = MINILM
    named = options.text_encoder or (default if encoded or options.finetune_text else "files")
    return replace(data, text_encoder=named, finetune_text=options.finetune_text and named != "files")


# -------------------------------------------------------------------------------------------------- recipes

# A frozen sentence encoder. On CMU-MOSI loss, rate and dropout were chosen by 3-fold cross-validation, grouped by
# video, inside the training split, elsewhere on the dev split (benchmarks/public_recipes.json).
FROZEN = (FineConfig(dropout=0.2, loss="l1"), TrainConfig(epochs=12, patience=5, lr=5e-4))
SQUARED = (FineConfig(dropout=0.2), TrainConfig(epochs=12, patience=5, lr=5e-4))
RECIPES = {
    "ur_funny": (
        FineConfig(dropout=0.4, loss="cross_entropy", lambda_cl=0.3),
        TrainConfig(epochs=5, patience=5, lr=5e-4),
    ),
    "ch_sims": SQUARED,
    "ch_sims_v2": (FineConfig(dropout=0.4), TrainConfig(epochs=12, patience=5, lr=2e-4)),
    "ict_mmmo": (FineConfig(dropout=0.2, loss="l1"), TrainConfig(epochs=12, patience=5, lr=1e-3)),
    "public-predictions": (FineConfig(dropout=0.2, loss="l1"), TrainConfig(epochs=12, patience=5, lr=1e-3)),
}
HEAD_TRAIN = TrainConfig(epochs=30, patience=8, lr=3e-3)  # the encoder alone
FINETUNED_TRAIN = TrainConfig(epochs=8, patience=8, lr=5e-4, lr_text=5e-5)
FINETUNED_HEAD_TRAIN = TrainConfig(epochs=8, patience=8, lr=1e-3, lr_text=5e-5)
FINETUNED_EPOCHS = {"mosei": 3}  # an epoch takes ten minutes there
# Who is trained for three epochs at most on CMU-MOSEI's frozen text, by dev (benchmarks/mosei_epochs.json): there the
# learning rate has fallen before the training split is learnt by heart
THREE_EPOCHS = {"FINE", "TFN", "LMF", "EUAR", "LF-DNN", "Self-MM", "Coupled Mamba"}


def specs(data: DataConfig, seeds: tuple[int, ...]) -> list[RunSpec]:
    """The runs of FINE and, where its text is encoded, of the encoder alone with a linear head."""
    own, tuned = modalities(data), data.finetune_text
    model, train = RECIPES.get(data.source, RECIPES.get(data.corpus, FROZEN))
    head = HEAD_TRAIN
    if tuned:
        epochs = FINETUNED_EPOCHS.get(data.corpus, FINETUNED_TRAIN.epochs)
        train, head = (replace(settings, epochs=epochs) for settings in (FINETUNED_TRAIN, FINETUNED_HEAD_TRAIN))
    rows = [("FINE", replace(model, modalities=own), train)]
    if is_encoded(data):
        rows.append(("text encoder alone", EncoderConfig(loss="l1" if model.loss == "l1" else "mse"), head))
    ending = " (fine-tuned)" if tuned else ""
    return [
        RunSpec(name + ending, data, config, schedule(name, data, train), seed)
        for name, config, train in rows
        for seed in seeds
    ]


def schedule(name: str, data: DataConfig, train: TrainConfig) -> TrainConfig:
    """A system's training on a public corpus; its own but for ``THREE_EPOCHS``."""
    short = data.corpus == "mosei" and not data.finetune_text and name in THREE_EPOCHS
    return replace(train, epochs=3) if short else train


def is_encoded(data: DataConfig) -> bool:
    """Whether a text encoder reads the text of a public source."""
    return data.text_encoder != "files" or sources.default_encoder(data.corpus, data.source) != "files"
