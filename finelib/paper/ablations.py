"""Tables 5 and 6: FINE on every subset of the modalities, and FINE without each of its components.

A row is FINE with a few settings changed (``MODALITY_ROWS``, ``COMPONENT_ROWS``). To add one, add a line there.
"""

from dataclasses import dataclass, field, replace

from finelib.baselines.variants import VARIANTS, VariantConfig
from finelib.config import DataConfig, FineConfig, RunSpec
from finelib.data import planted, sources
from finelib.runs import presets, real
from finelib.runs.options import Options

CORPUS = "mosei"  # the paper's Tables 5 and 6 are on CMU-MOSEI
PRINTED, ARCHITECTURE, BEYOND = "printed in the paper", "the other reading", "beyond the paper"


@dataclass(frozen=True)
class Variant:
    """A row: FINE, or the variant of that name (``baselines.variants``), with ``change`` made to its settings.

    Attributes:
        kind: whether the paper prints it, whether it is the other reading of a row that is ambiguous, or ours.
        loss_only: only the objective differs, so that the untrained models predict the same.
    """

    name: str
    change: dict[str, object] = field(default_factory=dict)
    kind: str = PRINTED
    loss_only: bool = False

    def config(self, base: FineConfig) -> FineConfig:
        """The row's settings, made of FINE's."""
        settings = vars(base) | self.change
        return VariantConfig(**settings, variant=self.name) if self.name in VARIANTS else FineConfig(**settings)


MODALITY_ROWS = [
    Variant(" + ".join(subset), {"modalities": tuple(m for m in "TAV" if m in subset)})
    for subset in ("V", "A", "T", "VA", "VT", "AT", "VAT")
]
FINE_ROW = Variant("FINE")
COMPONENT_ROWS = [
    Variant("w/o L_UP", {"lambda_up": 0.0}, loss_only=True),
    Variant("w/o MoQ", {"lambda_aux": 0.0}),
    Variant("w/o MoQ + TE", {"lambda_aux": 0.0}),
    Variant("w/o MoQ + TCN", {"lambda_aux": 0.0}),
    Variant("w/o MoQ + LSTM", {"lambda_aux": 0.0}),
    Variant("w/o MoQ + MLPs", {"lambda_aux": 0.0}),
    Variant("w/o I_str, I_utr", {"weight_str": 0.0, "weight_utr": 0.0}, loss_only=True),
    Variant("w/o I_sha, I_uni", {"weight_sha": 0.0, "weight_uni": 0.0}, loss_only=True),
    Variant("w/o I_sha, I_str", {"weight_sha": 0.0, "weight_str": 0.0}, loss_only=True),
    Variant("w/o I_uni, I_utr", {"weight_uni": 0.0, "weight_utr": 0.0}, loss_only=True),
    Variant("w/o I_sha", {"weight_sha": 0.0}, loss_only=True),
    Variant("w/o FTRE", {"beta_mi": 0.0}),
    Variant("w/o FTRE + MISA", {"beta_mi": 1.0}),
    Variant("w/o DCQ", {"lambda_cl": 0.0}, loss_only=True),
    Variant("w/o DCQ + ACCon", {"queue_alpha": 0.0}, loss_only=True),
    Variant("w/o DCQ + SCL", {"queue_alpha": 0.0, "contrast": "supcon"}, loss_only=True),
    Variant("DCQ (SCL)", {"contrast": "supcon"}, loss_only=True),
    FINE_ROW,
    Variant("averaged over pairs (ours)", {"average_terms": True}, BEYOND, loss_only=True),
    Variant("unique branch only", kind=ARCHITECTURE),
    Variant("shared branch only", kind=ARCHITECTURE),
    Variant("1 expert", {"experts": 1, "top_k": 1}, BEYOND),
    Variant("2 experts", {"experts": 2, "top_k": 2}, BEYOND),
    Variant("8 experts", {"experts": 8}, BEYOND),
    Variant("w/o L_aux", {"lambda_aux": 0.0}, BEYOND, loss_only=True),
    Variant("w/o L_MI", {"beta_mi": 0.0}, BEYOND, loss_only=True),
    Variant("w/o reconstruction", {"weight_recon": 0.0}, BEYOND, loss_only=True),
    Variant("w/o I_uni", {"weight_uni": 0.0}, BEYOND, loss_only=True),
    Variant("w/o I_str", {"weight_str": 0.0}, BEYOND, loss_only=True),
    Variant("w/o I_utr", {"weight_utr": 0.0}, BEYOND, loss_only=True),
    Variant("I_str with in-batch negatives", {"str_negatives": "batch"}, BEYOND, loss_only=True),
    Variant("concat critics", {"critic": "concat", "critic_layers": 2}, BEYOND, loss_only=True),
    Variant("queue of 0.25 n_c", {"queue_alpha": 0.25}, BEYOND, loss_only=True),
    Variant("queue of 0.5 n_c", {"queue_alpha": 0.5}, BEYOND, loss_only=True),
    Variant("queue of 1 n_c", {"queue_alpha": 1.0}, BEYOND, loss_only=True),
]
# planted designs in which one component should matter by construction, and what is left out there
MATTERS = {"cues": "w/o MoQ", "redundancy": "w/o I_uni, I_str", "complementary": "w/o I_utr", "imbalance": "w/o DCQ"}
NO_REDUNDANCY = Variant("w/o I_uni, I_str", {"weight_uni": 0.0, "weight_str": 0.0}, BEYOND, loss_only=True)
PANEL_ROWS = {NO_REDUNDANCY.name: NO_REDUNDANCY}
PANEL_ROWS |= {row.name: row for row in COMPONENT_ROWS if row.name in MATTERS.values()}


@dataclass(frozen=True)
class Block:
    """Rows that can be compared with each other: variants of one FINE on one corpus; ``seeds``: at most so many."""

    variants: tuple[Variant, ...]
    base: RunSpec
    about: str = ""
    seeds: int | None = None

    def specs(self, seeds: tuple[int, ...]) -> dict[str, list[RunSpec]]:
        """Row name -> its runs; the change of a row must name settings of FineConfig.

        A row that changes nothing has the base's own runs, which other tables may have too.
        """
        found = {}
        for row in self.variants:
            spec, settings = self.base, row.config(self.base.model_config)
            if settings != spec.model_config:
                spec = replace(spec, name=row.name, model_config=settings)
            found[row.name] = [replace(spec, seed=seed) for seed in seeds[: self.seeds]]
        return found


def blocks(number: int, options: Options) -> list[Block]:
    """The measured blocks of Table 5 or 6, of what can be had of the source asked for and of ``real.blocks``.

    Planted Table 6 has the designs made for one component after the block with all rows.
    """
    found, rows = [], _rows(number)
    if options.source == "planted":
        found = [_planted_block("modalities" if number == 5 else "components", rows, options)]
        if number == 6:
            found += [_planted_block(design, [FINE_ROW, PANEL_ROWS[name]], options) for design, name in MATTERS.items()]
            found.append(_planted_block("plain", [FINE_ROW, *PANEL_ROWS.values()], options))
    elif options.source != "public":
        corpus = presets.figure5_corpus(options)
        if sources.available(corpus, options.source) is None:
            found = [_real_block(rows, presets.data_config(corpus, options), options)]
    beside = [block for block in real.blocks(number, options) if block.missing() is None]
    return found + [
        _real_block(rows, block.data(options)[0], options, block.title(options), block.short(options))
        for block in beside
    ]


def _real_block(
    rows: list[Variant], data: DataConfig, options: Options, about: str = "", seeds: int | None = None
) -> Block:
    """A corpus's own experiment; rows that need a modality the source lacks are left out."""
    base = next(spec for spec in presets.specs_of(data, options) if isinstance(spec.model_config, FineConfig))
    kept = [v for v in rows if set(v.change.get("modalities", ())) <= set(base.model_config.modalities)]
    return Block(tuple(kept), base, about, seeds)


def _rows(number: int) -> list[Variant]:
    return MODALITY_ROWS if number == 5 else COMPONENT_ROWS


def _planted_block(design: str, rows: list[Variant], options: Options) -> Block:
    data_config = DataConfig(CORPUS, scale=presets.SMALL_SCALE[options.preset], design=design)
    train = presets.SMALL_TRAIN[options.preset]
    if design == "imbalance":
        train = replace(train, **presets.SMALL_BATCHES)
    base = RunSpec("FINE", data_config, presets.DEMO, train, 0)
    return Block(tuple(rows), base, planted.DESIGNS[design].about)
