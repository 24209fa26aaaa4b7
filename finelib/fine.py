"""FINE: features of one utterance in, sentiment out; and the objective that trains it (Eq. 1-14).

    frames (B, T_m, d_m) -> MoQ_m -> tokens (B, l, d'_m) -> FTRE -> STR_m, UTR_m (B, l, w)
    [CLS_T] STR_T UTR_T [CLS_A] STR_A UTR_A [CLS_V] STR_V UTR_V -> Transformer -> three CLS vectors -> prediction

``forward`` never reads labels. ``losses`` does, and what it needs beyond the features (critics, label
encoders, queue) feeds nothing back into the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finelib.baselines.variants import ONE_KIND, make_encoder, make_factorisation, make_information
from finelib.config import FineConfig
from finelib.contrastive import DynamicContrastiveQueue, contrastive_loss, queue_capacity
from finelib.data.corpora import CorpusInfo
from finelib.data.features import MODALITIES, Batch
from finelib.ftre import FTREOutput
from finelib.inputs import Standardise
from finelib.layers import ByteDropout, mlp, stacked_mlp
from finelib.moq import MoQOutput

KINDS = tuple(field.name for field in fields(FTREOutput))


@dataclass(frozen=True)
class FineOutput:
    """What FINE exposes for a batch.

    Attributes:
        prediction: (B,); the probability of class 1 when trained by cross-entropy.
        logits: (B, 1) or, with cross-entropy, (B, 2).
        unimodal: modality -> (B, 1) or (B, 2), the unimodal heads.
        cls: (B, M, w), fused [CLS] vectors of the M modalities.
        moq: modality -> MoQOutput.
        features: FTREOutput.
    """

    prediction: Float[Tensor, "B"]
    logits: Float[Tensor, "B c"]
    unimodal: dict[str, Float[Tensor, "B c"]]
    cls: Float[Tensor, "B M w"]
    moq: dict[str, MoQOutput]
    features: FTREOutput


class Fusion(nn.Module):
    """Transformer over a [CLS] and the STR and UTR tokens of every modality; its output at the [CLS] positions.

    A learned vector per modality and kind says which of the six groups a token belongs to. Of the last layer only
    the [CLS] rows are read, so only they are computed.
    """

    def __init__(
        self, modalities: tuple[str, ...], width: int, layers: int, heads: int, dropout: float, kinds: int = 2
    ):
        super().__init__()
        self.cls = nn.Parameter(torch.randn(len(modalities), width) * 0.02)
        self.group = nn.Parameter(torch.randn(len(modalities), kinds, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        for layer in self.layers:  # on the residual branches only, as in the Q-Formers
            layer.dropout1, layer.dropout2 = ByteDropout(dropout), ByteDropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: FTREOutput) -> Float[Tensor, "B M w"]:
        kinds = [torch.stack(list(kind.values())) for kind in features.task]  # each (M, B, l, w)
        cls = self.cls[:, None, None].expand(-1, kinds[0].shape[1], 1, -1)
        groups = [kind + group[:, None, None] for kind, group in zip(kinds, self.group.unbind(1), strict=True)]
        sequence = torch.cat([cls, *groups], 2)  # (M, B, 1 + 2l, w)
        tokens = sequence.transpose(0, 1).flatten(1, 2)
        *first, last = self.layers
        for layer in first:
            tokens = layer(tokens)
        return self.norm(self.last_layer_cls(last, tokens, slice(0, None, sequence.shape[2])))

    def last_layer_cls(
        self, layer: nn.TransformerEncoderLayer, tokens: Float[Tensor, "B n w"], cls: slice
    ) -> Float[Tensor, "B M w"]:
        """A layer's output (pre-norm attention, then feed-forward) at the [CLS] positions alone."""
        normed = layer.norm1(tokens)
        attended = layer.self_attn(normed[:, cls], normed, normed, need_weights=False)[0]
        x = tokens[:, cls] + layer.dropout1(attended)
        return x + layer.dropout2(layer.linear2(F.gelu(layer.linear1(layer.norm2(x)))))


class FINE(nn.Module):
    """The model of the paper.

    Args:
        config: every setting; ``config.modalities`` must be among the keys of ``widths``.
        info: label range and classes of the corpus.
        widths: modality -> d_m, features per frame.
        class_counts: training utterances of each class (sizes of the sub-queues).
        standardise: modality -> Standardise; a modality without one is taken as it is.
        text_encoder: maps token ids (B, T) and mask to (B, T, d_T) when text arrives as ids.

    Raises:
        ValueError: if no modality is left, or cross-entropy is asked for a corpus that has not two classes.
    """

    def __init__(
        self,
        config: FineConfig,
        info: CorpusInfo,
        widths: dict[str, int],
        class_counts: list[int],
        standardise: dict[str, Standardise] | None = None,
        text_encoder: nn.Module | None = None,
    ):
        super().__init__()
        self.config, self.info = config, info
        self.modalities = tuple(m for m in MODALITIES if m in config.modalities)
        if not self.modalities:
            raise ValueError(f"FINE: modalities are {config.modalities!r}, expected a non-empty subset of T, A, V")
        if config.loss == "cross_entropy" and len(info.class_edges) != 1:
            raise ValueError(f"FINE: cross-entropy needs two classes, {info.title} has {len(info.class_edges) + 1}")
        token_width = dict(zip(MODALITIES, config.width, strict=True))
        outputs = 2 if config.loss == "cross_entropy" else 1
        self.text_encoder = text_encoder
        self.standardise = nn.ModuleDict(standardise or {})
        # modalities of one width share a stack: one in the demo configuration, two in the paper's
        groups: dict[int, tuple[str, ...]] = {}
        for m in self.modalities:
            groups[token_width[m]] = (*groups.get(token_width[m], ()), m)
        self.moq = nn.ModuleList(
            make_encoder(config, {m: widths[m] for m in group}, width) for width, group in groups.items()
        )
        self.ftre = nn.ModuleList(make_factorisation(config, groups))
        kinds = 1 if config.factorisation in ONE_KIND else 2
        self.unimodal = stacked_mlp(len(self.modalities), kinds * config.task_width, config.task_width, outputs)
        self.fusion = Fusion(
            self.modalities, config.task_width, config.fusion_layers, config.heads, config.dropout, kinds
        )
        self.head = mlp(len(self.modalities) * config.task_width, config.task_width, outputs)
        factor_widths = {m: part.factor_width for part in self.ftre for m in part.modalities}
        self.information = make_information(config, info, {m: factor_widths[m] for m in self.modalities})
        contrast_width = (1 if config.contrast_features == "cls" else kinds) * len(self.modalities) * config.task_width
        self.queue = None
        if config.queue_alpha > 0:
            capacity = queue_capacity(class_counts, config.queue_alpha, config.queue_minimum)
            self.queue = DynamicContrastiveQueue(capacity, contrast_width)
        self.register_buffer("class_edges", torch.tensor(info.class_edges))

    def forward(self, batch: Batch) -> FineOutput:
        """Predict a batch from its features and masks alone."""
        frames, mask = {}, {}
        for m in self.modalities:
            frames[m], mask[m] = self.frames(batch, m)
        moq = {m: out for mixture in self.moq for m, out in mixture(frames, mask).items()}
        features = self.factorise({m: out.tokens for m, out in moq.items()})
        unimodal = dict(zip(self.modalities, self.unimodal(_task_vectors(features)), strict=True))
        cls = self.fusion(features)
        logits = self.head(cls.flatten(1))
        return FineOutput(self.to_prediction(logits), logits, unimodal, cls, moq, features)

    def frames(self, batch: Batch, m: str) -> tuple[Float[Tensor, "B T d"], Bool[Tensor, "B T"]]:
        """One modality's frames, zero on padding, and their mask; text ids go through the text encoder."""
        x, mask = batch.features[m], batch.mask[m]
        if x.ndim == 2:
            return self.text_encoder(x, mask) * mask[..., None], mask
        return (self.standardise[m](x, mask) if m in self.standardise else x), mask

    def factorise(self, tokens: dict[str, Float[Tensor, "B l d"]]) -> FTREOutput:
        """FTRE of every modality, in the order of ``modalities``."""
        parts = [ftre({m: tokens[m] for m in ftre.modalities}) for ftre in self.ftre]
        kinds = {}
        for kind in KINDS:
            by_modality = {m: x for part in parts for m, x in getattr(part, kind).items()}
            kinds[kind] = {m: by_modality[m] for m in self.modalities if m in by_modality}
        return FTREOutput(**kinds)

    def to_prediction(self, logits: Float[Tensor, "B c"]) -> Float[Tensor, "B"]:
        """The regression value, or the probability of class 1."""
        return logits.softmax(-1)[:, 1] if logits.shape[-1] == 2 else logits[:, 0]

    def losses(self, output: FineOutput, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Every term of Eq. 14 and their sum "total"; in training mode the queue is then updated.

        "total" also holds "critic", the NCE-CLUB critics' own loss, whose gradient reaches nothing else.
        """
        c = self.config
        classes = self.classes(batch.label)
        terms = self.information(output.features, batch.label, classes)
        terms["L_MP"] = self.prediction_loss(output.logits, batch.label)
        terms["L_UP"] = torch.stack(
            [
                self.prediction_loss(logits, batch.unimodal_labels[m] if batch.unimodal_labels else batch.label)
                for m, logits in output.unimodal.items()
            ]
        ).mean()
        terms["L_aux"] = torch.stack([out.load_balance for out in output.moq.values()]).mean()
        z = self.contrast_vector(output)
        terms["L_CL"] = contrastive_loss(
            z,
            batch.label,
            classes,
            self.queue,
            self.info.label_high - self.info.label_low,
            c.tau,
            compensate=c.contrast == "accon",
        )
        terms["total"] = (
            terms["L_MP"]
            + c.lambda_up * terms["L_UP"]
            + c.lambda_cl * terms["L_CL"]
            + c.lambda_aux * terms["L_aux"]
            + c.beta_mi * terms["L_MI"]
            + terms["critic"]
        )
        if self.training and self.queue is not None:
            self.queue.enqueue(z, batch.label, classes)
        return terms

    def contrast_vector(self, output: FineOutput) -> Float[Tensor, "B z"]:
        """z of Eq. 13, a unit vector: the fused [CLS] vectors, or all pooled [STR; UTR]."""
        if self.config.contrast_features == "cls":
            return F.normalize(output.cls.flatten(1), dim=-1)
        return F.normalize(torch.cat(list(_task_vectors(output.features)), -1), dim=-1)

    def classes(self, label: Float[Tensor, "B"]) -> Int[Tensor, "B"]:
        """Class of each label: how many of the corpus's cut points lie below it."""
        return torch.bucketize(label, self.class_edges)

    def prediction_loss(self, logits: Float[Tensor, "B c"], label: Float[Tensor, "B"]) -> Float[Tensor, ""]:
        """L_MP and L_UP: squared error (the paper), absolute error, or cross-entropy."""
        if self.config.loss == "cross_entropy":
            return F.cross_entropy(logits, self.classes(label))
        return (F.l1_loss if self.config.loss == "l1" else F.mse_loss)(logits[:, 0], label)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters that only the critics' own loss trains; they get an optimiser group of their own."""
        return self.information.critic_parameters()


def _task_vectors(features: FTREOutput) -> Float[Tensor, "M B w"]:
    """[STR_m; UTR_m] averaged over tokens."""
    return torch.cat([torch.stack(list(kind.values())) for kind in features.task], -1).mean(2)
