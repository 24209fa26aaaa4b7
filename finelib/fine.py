"""FINE: features of one utterance in, sentiment out; and the objective that trains it (Eq. 1-14).

    frames (B, T_m, d_m) -> MoQ_m -> tokens (B, l, d'_m) -> FTRE -> STR_m, UTR_m (B, l, w)
    [CLS_T] STR_T UTR_T [CLS_A] STR_A UTR_A [CLS_V] STR_V UTR_V -> Transformer -> three CLS vectors -> prediction

``forward`` never reads labels. ``losses`` does, and what it needs beyond the features (critics, label encoders, queue)
feeds nothing back into the prediction. ``plain.py`` writes the same model with one layer a line.

Sizes in the comments: B utterances, l tokens, M modalities, w the task width, c outputs of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from finelib.config import FineConfig
from finelib.contrastive import DynamicContrastiveQueue, contrastive_loss, queue_capacity
from finelib.data.corpora import CorpusInfo
from finelib.data.features import MODALITIES, Batch
from finelib.ftre import FTRE, FTREOutput
from finelib.inputs import Inputs
from finelib.layers import FastDropout, mlp, stacked_mlp
from finelib.moq import QUERY_SD, MoQ, MoQOutput


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

    A learned vector per modality and kind says which of the six groups a token belongs to. Of the last layer only the
    [CLS] rows are read, so only they are computed. Dropout is on the residual branches only, as in the Q-Formers.
    """

    def __init__(
        self, modalities: tuple[str, ...], width: int, layers: int, heads: int, dropout: float, kinds: int = 2
    ):
        super().__init__()
        self.cls = nn.Parameter(torch.randn(len(modalities), width) * QUERY_SD)
        self.group = nn.Parameter(torch.randn(len(modalities), kinds, width) * QUERY_SD)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        for layer in self.layers:
            layer.dropout1, layer.dropout2 = FastDropout(dropout), FastDropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: FTREOutput) -> Float[Tensor, "B M w"]:
        kinds = [torch.stack(list(kind.values())) for kind in features.task]  # each (M, B, l, w)
        cls = self.cls[:, None, None].expand(-1, kinds[0].shape[1], 1, -1)  # (M, B, 1, w)
        groups = [kind + group[:, None, None] for kind, group in zip(kinds, self.group.unbind(1), strict=True)]
        sequence = torch.cat([cls, *groups], 2)  # (M, B, 1 + 2l, w)
        tokens = sequence.transpose(0, 1).flatten(1, 2)  # (B, M * (1 + 2l), w)
        *first, last = self.layers
        for layer in first:
            tokens = layer(tokens)
        return self.norm(self.last_layer_cls(last, tokens, step=sequence.shape[2]))

    def last_layer_cls(
        self, layer: nn.TransformerEncoderLayer, tokens: Float[Tensor, "B n w"], step: int
    ) -> Float[Tensor, "B M w"]:
        """A layer's output (pre-norm attention, then feed-forward) at the [CLS] positions alone: every ``step``-th."""
        normed = layer.norm1(tokens)
        attended = layer.self_attn(normed[:, ::step], normed, normed, need_weights=False)[0]  # (B, M, w)
        x = tokens[:, ::step] + layer.dropout1(attended)
        return x + layer.dropout2(layer.linear2(F.gelu(layer.linear1(layer.norm2(x)))))


class FINE(nn.Module):
    """The model of the paper. A variant is a subclass that overrides ``make_moq`` or ``make_ftre``.

    Args:
        config: every setting.
        info: label range and classes of the corpus.
        inputs: what is done to a batch's frames first, for ``config.modalities``.
        class_counts: training utterances of each class (sizes of the sub-queues).

    Raises:
        ValueError: if no modality is left, or cross-entropy is asked for a corpus that has not two classes.
    """

    def __init__(self, config: FineConfig, info: CorpusInfo, inputs: Inputs, class_counts: list[int]):
        super().__init__()
        self.modalities = tuple(m for m in MODALITIES if m in config.modalities)
        if not self.modalities:
            raise ValueError(f"FINE: modalities are {config.modalities!r}, expected a non-empty subset of T, A, V")
        if config.loss == "cross_entropy" and len(info.class_edges) != 1:
            raise ValueError(f"FINE: cross-entropy needs two classes, {info.title} has {len(info.class_edges) + 1}")
        self.config, self.info, self.inputs = config, info, inputs
        frame_widths = {m: inputs.widths[m] for m in self.modalities}
        token_widths = {m: d for m, d in zip(MODALITIES, config.width, strict=True) if m in self.modalities}
        w, outputs = config.task_width, 2 if config.loss == "cross_entropy" else 1
        self.moq = self.make_moq(frame_widths, token_widths)
        self.ftre = self.make_ftre(token_widths)
        kinds, count = self.ftre.kinds, len(self.modalities)
        self.unimodal = stacked_mlp(count, kinds * w, w, outputs)
        self.fusion = Fusion(self.modalities, w, config.fusion_layers, config.heads, config.dropout, kinds)
        self.head = mlp(count * w, w, outputs)
        self.information = self.ftre.objective(config, info.label_low, info.label_high)
        contrast_width = count * w if config.contrast_features == "cls" else kinds * count * w
        self.queue = None
        if config.queue_alpha > 0:
            capacity = queue_capacity(class_counts, config.queue_alpha, config.queue_minimum)
            self.queue = DynamicContrastiveQueue(capacity, contrast_width)

    def make_moq(self, frame_widths: dict[str, int], token_widths: dict[str, int]) -> nn.Module:
        """Frames to tokens (Eq. 1); modality -> d_m, modality -> d'_m."""
        return MoQ(frame_widths, token_widths, self.config)

    def make_ftre(self, token_widths: dict[str, int]) -> nn.Module:
        """Tokens to task-relevant features (Eq. 6, 9), and by its ``objective`` what trains them (Eq. 12)."""
        return FTRE(token_widths, self.config)

    def forward(self, batch: Batch) -> FineOutput:
        """Predict a batch from its features and masks alone."""
        inputs = self.inputs(batch)
        frames = {m: inputs[m][0] for m in self.modalities}  # each (B, T_m, d_m), 0 on padding
        mask = {m: inputs[m][1] for m in self.modalities}  # each (B, T_m)
        moq = self.moq(frames, mask)  # tokens (B, l, d'_m), router, gate
        features = self.ftre({m: out.tokens for m, out in moq.items()})  # STR, UTR (B, l, w)
        unimodal = self.unimodal(task_vectors(features))  # (M, B, c)
        cls = self.fusion(features)  # (B, M, w)
        logits = self.head(cls.flatten(1))  # (B, c)
        by_modality = dict(zip(self.modalities, unimodal, strict=True))
        return FineOutput(self.to_prediction(logits), logits, by_modality, cls, moq, features)

    def to_prediction(self, logits: Float[Tensor, "B c"]) -> Float[Tensor, "B"]:
        """The regression value, or the probability of class 1."""
        return logits.softmax(-1)[:, 1] if logits.shape[-1] == 2 else logits[:, 0]

    def losses(self, output: FineOutput, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Every term of Eq. 14 and their sum "total"; in training mode the queue is then updated.

        "total" also holds "critic", the NCE-CLUB critics' own loss, whose gradient reaches nothing else.
        """
        c, label, classes = self.config, batch.label, self.info.class_of(batch.label)
        terms = self.information(output.features, label, classes)
        terms["L_MP"] = self.prediction_loss(output.logits, label)
        own_label = batch.unimodal_labels or dict.fromkeys(self.modalities, label)
        alone = [self.prediction_loss(logits, own_label[m]) for m, logits in output.unimodal.items()]
        terms["L_UP"] = torch.stack(alone).mean()
        terms["L_aux"] = torch.stack([out.load_balance for out in output.moq.values()]).mean()
        z, label_range = self.contrast_vector(output), self.info.label_high - self.info.label_low
        terms["L_CL"] = contrastive_loss(z, label, classes, self.queue, label_range, c.tau, c.contrast == "accon")
        terms["total"] = (
            terms["L_MP"]
            + c.lambda_up * terms["L_UP"]
            + c.lambda_cl * terms["L_CL"]
            + c.lambda_aux * terms["L_aux"]
            + c.beta_mi * terms["L_MI"]
            + terms["critic"]
        )
        if self.training and self.queue is not None:
            self.queue.enqueue(z, label, classes)
        return terms

    def contrast_vector(self, output: FineOutput) -> Float[Tensor, "B z"]:
        """z of Eq. 13, a unit vector: the fused [CLS] vectors, or all pooled [STR; UTR]."""
        if self.config.contrast_features == "cls":
            return F.normalize(output.cls.flatten(1), dim=-1)
        return F.normalize(torch.cat(list(task_vectors(output.features)), -1), dim=-1)

    def prediction_loss(self, logits: Float[Tensor, "B c"], label: Float[Tensor, "B"]) -> Float[Tensor, ""]:
        """L_MP and L_UP: squared error (the paper), absolute error, or cross-entropy."""
        if self.config.loss == "cross_entropy":
            return F.cross_entropy(logits, self.info.class_of(label))
        return (F.l1_loss if self.config.loss == "l1" else F.mse_loss)(logits[:, 0], label)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters that only the critics' own loss trains; they get an optimiser group of their own."""
        return self.information.critic_parameters()


def task_vectors(features: FTREOutput) -> Float[Tensor, "M B w"]:
    """[STR_m; UTR_m] averaged over tokens."""
    kinds = [torch.stack(list(kind.values())) for kind in features.task]  # each (M, B, l, w)
    return torch.cat(kinds, -1).mean(2)
