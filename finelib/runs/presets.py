"""Which runs a preset asks for: the options of ``run_all.sh`` turned into RunSpecs."""

from collections.abc import Iterable
from dataclasses import replace

from finelib.baselines import SYSTEMS
from finelib.config import DataConfig, FineConfig, RunSpec, TrainConfig
from finelib.data.corpora import CORPORA, nearest
from finelib.data.features import MODALITIES
from finelib.runs import real
from finelib.runs.options import Options

# Tables 1 to 4 on planted data: one world, in which several ideas help, with each corpus's widths and labels; and the
# share of it that is generated. The smoke preset is for code, the demo for a newcomer's patience.
PLANTED_DESIGN = "several"
PLANTED_SCALE = {"smoke": 0.15, "demo": 1.0, "paper": 1.0}

# Smoke and demo: 0.2 to 0.5 M parameters, as the compared systems have there.
DEMO = FineConfig(width=(32, 32, 32), task_width=32, label_width=16, critic_width=32)
PAPER_CRITIC = {"critic": "concat", "critic_width": 512, "critic_layers": 2}
PAPER = FineConfig(width=(256, 128, 256), heads=8, qformer_layers=2, fusion_layers=2, **PAPER_CRITIC)
TRAIN = {
    "smoke": TrainConfig(epochs=2, patience=2),
    "demo": TrainConfig(epochs=30, patience=5),
    "paper": TrainConfig(epochs=100, patience=10, lr=6e-5, lr_text=4e-5, threads=2),
}
# Learning rates of smoke and demo: for each system the best of the same three on dev, with a seed that no table reports
# (benchmarks/demo_rates.py).
RATES = dict.fromkeys(("FINE", "Self-MM", "MSG", "MAG-BERT"), 1e-3)
RATES |= dict.fromkeys(("GFN", "MISA", "BBFN", "C-MIB", "ConFEDE", "DMD", "EUAR", "MuLOT"), 2e-3)
RATES |= dict.fromkeys(("LF-DNN", "TFN", "LMF", "MFN", "MulT", "CubeMLP", "C-MFN", "Coupled Mamba"), 4e-3)
# Tables 5 and 6 on planted data, and the studies of L_MI and of its terms: some 150 runs, so small data.
SMALL_SCALE = {"smoke": 0.08, "demo": 1.0, "paper": 1.0}
SMALL_TRAIN = {
    name: TrainConfig(epochs=epochs, patience=epochs, batch_size=64, lr=4e-3)
    for name, epochs in (("smoke", 1), ("demo", 6), ("paper", 20))
}
SMALL_BATCHES = {"batch_size": 16, "lr": 2e-3}  # where the queue should matter
# The compared systems on real data: their published rates and batches (``TRAIN`` of each), FINE's patience.
COMPARED_TRAIN = TrainConfig(epochs=15, patience=5, lr_text=5e-5)
# The corpora whose table prints a system. Smoke and demo train it for these alone, to keep within their time, unless
# --systems names it.
_SENTIMENT = ("mosi", "mosei")
WHERE_PRINTED = dict.fromkeys(("GFN", "CubeMLP", "BBFN", "C-MIB", "MSG", "DMD", "EUAR"), _SENTIMENT)
WHERE_PRINTED |= dict.fromkeys(("MulT", "ConFEDE"), (*_SENTIMENT, "ch_sims")) | {"MISA": (*_SENTIMENT, "ur_funny")}
WHERE_PRINTED |= dict.fromkeys(("C-MFN", "MAG-BERT", "MuLOT"), ("ur_funny",))
WHERE_PRINTED |= dict.fromkeys(("LF-DNN", "MFN", "Self-MM", "Coupled Mamba"), ("ch_sims",))


def data_config(corpus: str, options: Options) -> DataConfig:
    """The data that the options name for a corpus."""
    if options.source == "planted":
        return DataConfig(corpus, scale=PLANTED_SCALE[options.preset], design=PLANTED_DESIGN)
    if options.source.startswith("public"):
        return real.data_config(corpus, options.source, options)
    finetune = options.finetune_text or options.preset == "paper"
    encoder = options.text_encoder
    if encoder is None and finetune:
        encoder = CORPORA[corpus].bert
    text = {"text_encoder": encoder or "files", "finetune_text": finetune and encoder != "files"}
    return DataConfig(corpus, source=options.source, **text)


def specs(corpus: str, options: Options) -> list[RunSpec]:
    """The runs behind a corpus's table: FINE with every seed; on public data the text encoder alone too."""
    return specs_of(data_config(corpus, options), options)


def specs_of(data: DataConfig, options: Options) -> list[RunSpec]:
    """``specs`` on other data than those that the options name."""
    if data.source.startswith("public"):
        found = real.specs(data, options.seed_list)
    else:
        model, train = PAPER if options.preset == "paper" else FineConfig(), TRAIN[options.preset]
        if is_small(data, options):
            model, train = DEMO, replace(train, lr=RATES["FINE"])
        found = [RunSpec("FINE", data, model, train, seed) for seed in options.seed_list]
    if options.preset == "smoke":
        epochs = 1 if data.source.startswith("public") else 2  # public splits are whole, the largest by far
        found = [replace(spec, train=replace(spec.train, epochs=epochs)) for spec in found]
    return found


def compared_specs(data: DataConfig, options: Options) -> list[RunSpec]:
    """The runs of the compared systems that can do with the data's modalities, with the seeds of ``specs_of``.

    Systems that the paper does not print for the corpus come last.

    Smoke and demo shrink every system (``DEMO`` of its file), as they do FINE, and train it like FINE, where the
    paper prints it (``WHERE_PRINTED``). Real data get the published settings, but for the epochs on CMU-MOSEI
    (``real.schedule``). With a fine-tuned text encoder, systems whose authors do not train one get the source's own
    text features, or are left out where the source has none (public data).
    """
    public, small = data.source.startswith("public"), is_small(data, options)
    own = real.modalities(data) if public else MODALITIES
    found, printed = [], printed_for(data.corpus)
    for name in sorted(compared_systems(options), key=lambda name: name not in printed):
        system, features = SYSTEMS[name], data
        if data.finetune_text and not system.FINETUNED:
            if public:
                continue
            features = replace(data, text_encoder="files", finetune_text=False)
        if small and options.systems is None and name not in printed:
            continue
        if not can_do(name, own):
            continue
        if small:
            rate = RATES.get(name, TRAIN[options.preset].lr)  # a system that was not tried has the preset's
            model, train = system.Config(**system.DEMO), replace(TRAIN[options.preset], bucket=True, lr=rate)
        else:
            train = TRAIN["paper"] if options.preset == "paper" else COMPARED_TRAIN
            model, train = system.Config(), replace(train, **system.TRAIN)
        if public:
            model, train = replace(model, modalities=own), real.schedule(name, data, train)
        if options.preset == "smoke":
            train = replace(train, epochs=2)
        found += [RunSpec(name, features, model, train, seed) for seed in options.seed_list]
    return found


def compared_systems(options: Options) -> list[str]:
    """Names of the compared systems that the options ask for, in their usual order; all if they say nothing.

    Raises:
        ValueError: an unknown name.
    """
    if options.systems is None:
        return list(SYSTEMS)
    wanted = [name.strip() for name in options.systems.split(",")]
    if wanted == ["none"]:
        return []
    for name in wanted:
        if name not in SYSTEMS:
            expected = f"none, or some of {', '.join(SYSTEMS)}"
            raise ValueError(f"systems: found {name!r}, expected {expected}{nearest(name, SYSTEMS)}")
    return [name for name in SYSTEMS if name in wanted]


def printed_for(corpus: str) -> list[str]:
    """The compared systems that the paper prints for a corpus; for one beside the paper's four, all."""
    return [name for name in SYSTEMS if corpus not in CORPORA or corpus in WHERE_PRINTED.get(name, (corpus,))]


def can_do(name: str, modalities: Iterable[str]) -> bool:
    """Whether a compared system can do with these modalities."""
    model, own = SYSTEMS[name].Model, set(modalities)
    return len(own) >= model.least and set(model.needs) <= own


def is_small(data: DataConfig, options: Options) -> bool:
    """Whether every system is small: smoke and demo on planted data."""
    return data.source == "planted" and options.preset != "paper"


def figure5_corpus(options: Options) -> str:
    """The paper draws CMU-MOSEI; of public corpora CMU-MOSI has two modalities."""
    return "mosi" if options.source.startswith("public") else "mosei"


def figure5_specs(options: Options) -> list[RunSpec]:
    """The runs that Figure 5 reads: FINE's of its corpus's table."""
    return [spec for spec in specs(figure5_corpus(options), options) if isinstance(spec.model_config, FineConfig)]
