"""Every setting of a run, as frozen dataclasses, and the named presets. No logic.

Symbols are the paper's. Where the paper is silent the value is our choice; docs/silent.md lists those choices.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DataConfig:
    """Which data a run reads.

    Attributes:
        corpus: "mosi", "mosei", "ur_funny" or "ch_sims".
        source: "planted", "public", "public-mfn", or a file or folder of feature files, the licensed ones or your own.
        text_encoder: "files" for the source's own text features, or the name or folder of a
            BERT-type encoder that is run on the raw text.
        finetune_text: train the text encoder with the model instead of running it once, frozen.
        scale: planted data only: share of the split sizes that is generated.
        seed: planted data only.
        design: planted data only: which factors matter and how they are hidden (``data.planted.DESIGNS``).
        aligned: MMSA-format files: the word-aligned file instead of the unaligned one.
        context: UR-FUNNY files: prepend the context sentences to the punchline.
    """

    corpus: str
    source: str = "planted"
    text_encoder: str = "files"
    finetune_text: bool = False
    scale: float = 1.0
    seed: int = 0
    design: str = "corpus"
    aligned: bool = False
    context: bool = False


@dataclass(frozen=True)
class FineConfig:
    """The FINE model and its objective (Eq. 1-14). The defaults are what real data get.

    The demo's FINE is narrower (``presets.DEMO``).

    Attributes:
        modalities: the subset of {T, A, V} that is used; a missing one drops its branch and its pairs.
        width: d'_m of Eq. 1 for T, A, V.
        experts, queries, top_k: N_e, l and k of the Mixture of Q-Formers.
        renormalise_gate: divide the kept gates by their sum.
        qformer_layers, heads: depth of each Q-Former; attention heads of Q-Formers and fusion.
        reduction: width of shared and unique features as a share of d'_m.
        task_width: width of STR and UTR features, and of the fusion Transformer.
        label_width: d_s and d_u, width of the encoded labels.
        fusion_layers: depth of the fusion Transformer.
        dropout: everywhere in the model; critics have none.
        critic, critic_width, critic_layers: "dot" or "concat"; hidden width and hidden layers.
        lambda_up, lambda_cl, lambda_aux, beta_mi: weights of Eq. 14.
        weight_sha, weight_uni, weight_recon, weight_str, weight_utr: weights inside Eq. 12 (all 1 there).
        average_terms: average I_sha, I_uni, I_str, I_utr over pairs or modalities, where Eq. 3-5 write sums.
        str_negatives: "same_bin" (Eq. 10) or "batch" (FactorCL).
        club_diagonal: count the positive pairs in NCE-CLUB's marginal mean, as FactorCL does.
        symmetric: average InfoNCE over both directions.
        contrast: "accon" (Eq. 13) or "supcon".
        contrast_features: "cls" (fused [CLS] vectors) or "task" (pooled [STR; UTR]).
        tau: temperature of Eq. 13.
        queue_alpha, queue_minimum: sub-queue capacity, max(minimum, floor(alpha * class size)); alpha 0: no queue.
        loss: prediction loss: "mse", "l1", or "cross_entropy" (two-class corpora).
    """

    modalities: tuple[str, ...] = ("T", "A", "V")
    width: tuple[int, int, int] = (128, 128, 128)
    experts: int = 4
    queries: int = 4
    top_k: int = 3
    renormalise_gate: bool = False
    qformer_layers: int = 1
    heads: int = 4
    reduction: float = 0.5
    task_width: int = 128
    label_width: int = 32
    fusion_layers: int = 1
    dropout: float = 0.1
    critic: str = "dot"
    critic_width: int = 128
    critic_layers: int = 1
    lambda_up: float = 0.4
    lambda_cl: float = 1.0
    lambda_aux: float = 0.2
    beta_mi: float = 0.5
    weight_sha: float = 1.0
    weight_uni: float = 1.0
    weight_recon: float = 1.0
    weight_str: float = 1.0
    weight_utr: float = 1.0
    average_terms: bool = False
    str_negatives: str = "same_bin"
    club_diagonal: bool = False
    symmetric: bool = True
    contrast: str = "accon"
    contrast_features: str = "cls"
    tau: float = 0.1
    queue_alpha: float = 0.7
    queue_minimum: int = 8
    loss: str = "mse"


@dataclass(frozen=True)
class EncoderConfig:
    """The text encoder alone: masked mean pool, linear head. The reference for fine-tuned FINE."""

    loss: str = "l1"
    modalities: tuple[str, ...] = ("T",)


@dataclass(frozen=True)
class TrainConfig:
    """How a run is trained; the same loop for every model.

    Attributes:
        epochs, patience: at most ``epochs``; stop after ``patience`` without a better dev error.
        keep_last: keep the last epoch's weights instead of those with the smallest dev error
            (``metrics.DEV_ERROR``), and do not stop early.
        batch_size, accumulate: utterances per step and steps per update.
        bucket: make batches of utterances of like length, for systems whose cost grows with the square of it.
        lr, lr_text: learning rates of the model, of a fine-tuned text encoder.
        critic_speed: learning rate of the NCE-CLUB critics, as a multiple of ``lr``.
        weight_decay: AdamW's, on matrices only.
        warmup: share of all updates over which the rate rises linearly; it then falls along a cosine.
        clip: largest gradient norm, of the model and of the critics separately.
        threads: CPU threads per run; part of the configuration because sums depend on it.
        device: "auto" takes CUDA where there is one.
        precision: of the forward pass's products in training, "float32" or "bfloat16" (autocast). Weights, losses and
            evaluation are in float32 either way, and no product is made in TF32.
    """

    epochs: int = 20
    patience: int = 8
    keep_last: bool = False
    batch_size: int = 32
    accumulate: int = 1
    bucket: bool = False
    lr: float = 1e-3
    lr_text: float = 5e-5
    critic_speed: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    threads: int = 1
    device: str = "auto"
    precision: str = "float32"


@dataclass(frozen=True)
class RunSpec:
    """One training run: data, model, training, seed. ``name`` is the row it belongs to.

    ``model_config`` is a FineConfig, an EncoderConfig, or the ``Config`` of a compared system (``baselines``).
    """

    name: str
    data: DataConfig
    model_config: Any
    train: TrainConfig
    seed: int
