"""FINE in one file, as the paper writes it: Eq. 1-14, one layer a line, nothing for speed. Begin here.

    frames (B, T_m, d_m) -> MoQ_m -> tokens (B, l, d'_m) -> shared, unique (B, l, d'_m / 2) -> STR, UTR (B, l, w)
    [CLS_m] STR_m UTR_m for m in T, A, V -> Transformer -> three [CLS] vectors (B, 3w) -> sentiment (B,)

Q-Formers and fusion are one layer deep here. The library (moq, ftre, mutual_information, contrastive, fine) computes
the same numbers faster and has more settings: depth, other critics and losses, fewer modalities. tests/test_plain.py
holds the two equal.
"""

import math
from collections import deque
from itertools import combinations
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

MODALITIES = ("T", "A", "V")  # text, audio, video
PAIRS = tuple(combinations(MODALITIES, 2))  # (T, A), (T, V), (A, V)
EXPERTS, QUERIES, TOP_K = 4, 4, 3  # N_e, l, k of the Mixture of Q-Formers
HEADS, DROPOUT = 4, 0.1  # of Q-Formers and fusion; dropout on their residual branches
W, D_Y, D_CRITIC = 128, 32, 128  # w of STR and UTR; d_s = d_u of encoded labels; width of the critics
TAU, ALPHA, MINIMUM = 0.1, 0.7, 8  # Eq. 13: temperature; a sub-queue's share of its class, its least size
LAMBDA_UP, LAMBDA_CL, LAMBDA_AUX, BETA_MI = 0.4, 1.0, 0.2, 0.5  # Eq. 14
LR, WEIGHT_DECAY, CLIP = 1e-3, 0.01, 1.0


def mlp(width_in, hidden, width_out):
    """(..., width_in) -> (..., width_out), one hidden layer."""
    return nn.Sequential(nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width_out))


def mean_where(values, keep):
    """Mean of the values (B,) whose ``keep`` (B,) is True."""
    return values.masked_fill(~keep, 0).sum() / keep.sum().clamp(min=1)  # 0 where none is kept


# --- Eq. 1: Mixture of Q-Formers, x_m (T_m, d_m) -> x^_m (l, d'_m) ----------------------------------------------------
class QFormer(nn.Module):
    """l learned queries attend to each other, then to the frames; post-norm, as in BLIP-2."""

    def __init__(self, d_m, d):
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(QUERIES, d))
        self.self_attention = nn.MultiheadAttention(d, HEADS, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(d, HEADS, kdim=d_m, vdim=d_m, batch_first=True)
        self.feed_forward = mlp(d, 4 * d, d)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(4))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, frames, mask):  # (B, T, d_m), (B, T)
        padding = torch.zeros_like(frames[..., 0]).masked_fill(~mask, -1e9)  # finite, in case no frame is real
        q = self.norms[0](self.query).expand(len(frames), -1, -1)  # (B, l, d')
        q = self.norms[1](q + self.self_attention(q, q, q)[0])
        q = self.norms[2](q + self.dropout(self.cross_attention(q, frames, frames, padding)[0]))
        return self.norms[3](q + self.dropout(self.feed_forward(q)))


class MoQ(nn.Module):
    """N_e Q-Formers of one modality; a router reads the mean frame, and the k that it rates highest count."""

    def __init__(self, d_m, d):
        super().__init__()
        self.experts = nn.ModuleList(QFormer(d_m, d) for _ in range(EXPERTS))
        self.router = nn.Linear(d_m, EXPERTS)

    def forward(self, frames, mask):
        mean = (frames * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # (B, d_m)
        p = self.router(mean).softmax(-1)  # (B, N_e)
        best = p.topk(TOP_K)
        gate = torch.zeros_like(p).scatter(1, best.indices, best.values)  # (B, N_e), 0 for the others
        tokens = torch.stack([expert(frames, mask) for expert in self.experts], 1)  # (B, N_e, l, d')
        used = (gate > 0).to(p.dtype).mean(0)  # (N_e,), share of the utterances
        L_aux = EXPERTS / TOP_K * (used * p.mean(0)).sum()  # 1 when the experts are used evenly
        return (gate[..., None, None] * tokens).sum(1), gate, L_aux  # (B, l, d')


# --- Eq. 6, 9: Factorized Task-Relevant Encoder, x^_m -> x_m^s, x_m^u -> x_m^str, x_m^utr -----------------------------
class FTRE(nn.Module):
    """What the parts below raise and lower is Eq. 2-5: S_TR + U_TR = (S - S_TI) + (U - U_TI), all that tells of Y."""

    def __init__(self, d):
        super().__init__()
        self.shared, self.unique = mlp(d, d, d // 2), mlp(d, d, d // 2)  # E_m^s, E_m^u
        self.decoder = mlp(2 * (d // 2), d, d)
        self.str_, self.utr = mlp(d // 2, W, W), mlp(d // 2, W, W)  # E_m^str, E_m^utr

    def forward(self, tokens):
        s, u = self.shared(tokens), self.unique(tokens)  # Eq. 6, (B, l, d' / 2)
        L_recon = F.mse_loss(self.decoder(torch.cat([s, u], -1)), tokens.detach())  # a target that stands still
        return s, u, self.str_(s), self.utr(u), L_recon  # Eq. 9, (B, l, w)


# --- Eq. 7, 11: InfoNCE, a lower bound. Eq. 8, 10: NCE-CLUB, an upper bound with InfoNCE's critic f* ------------------
class Critic(nn.Module):
    """f(x_i, y_j) = g(x_i) . h(y_j) / sqrt(width) for all i, j of the batch; the diagonal holds the true pairs."""

    def __init__(self, x_width, y_width):
        super().__init__()
        self.g, self.h = mlp(x_width, D_CRITIC, D_CRITIC), mlp(y_width, D_CRITIC, D_CRITIC)

    def forward(self, x, y):
        return self.g(x) @ self.h(y).T / math.sqrt(D_CRITIC)  # (B, B)


def info_nce(scores, among):
    """f of a true pair minus the log-mean-exp of f over the pairs in ``among``, in both directions; at most log B."""
    scores = scores.masked_fill(~among, -torch.inf)
    log_mean = (scores.logsumexp(0) + scores.logsumexp(1)) / 2 - among.sum(1, dtype=scores.dtype).log()  # (B,)
    return mean_where(scores.diag() - log_mean, among.sum(1) > 1)


def nce_club(scores, among):
    """Mean of f over true pairs minus its mean over the negatives in ``among``."""
    negatives = among & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)  # (B, B)
    count = negatives.sum(1)
    return mean_where(scores.diag() - (scores * negatives).sum(1) / count.clamp(min=1), count > 0)


def frozen(critic, x, y):
    """f*(x, y): the gradient reaches x and y, but not the critic."""
    return torch.func.functional_call(critic, {name: p.detach() for name, p in critic.named_parameters()}, (x, y))


# --- Eq. 12: L_MI = -I_sha + I_uni + L_recon + I_str - I_utr, the I summed over pairs and modalities as in Eq. 3-5 ----
def pooled(features):
    """{m: (B, l, .)} -> {m: (B, .)}: mean tokens, normalised, or an encoder could win by inflating its features."""
    return {m: F.layer_norm(x.mean(1), x.shape[-1:]) for m, x in features.items()}


class MutualInformation(nn.Module):
    """The terms of Eq. 12 in nats, each a sum over pairs or modalities, and the loss of the NCE-CLUB critics."""

    def __init__(self, d):
        super().__init__()
        self.sha = nn.ModuleDict({m + n: Critic(d[m] // 2, d[n] // 2) for m, n in PAIRS})
        self.uni = nn.ModuleDict({m + n: Critic(d[m] // 2, d[n] // 2) for m, n in PAIRS})
        self.str_ = nn.ModuleDict({m + n: Critic(W + D_Y, W + D_Y) for m, n in PAIRS})
        self.utr = nn.ModuleDict({m: Critic(W, D_Y) for m in MODALITIES})
        self.label_shared = mlp(1, 4 * D_Y, D_Y)
        self.label_unique = nn.ModuleDict({m: mlp(1, 4 * D_Y, D_Y) for m in MODALITIES})

    def forward(self, out, y, classes):  # y (B, 1) in [-1, 1]; classes (B,)
        s, u, str_, utr = pooled(out.shared), pooled(out.unique), pooled(out.str_), pooled(out.utr)
        y_str, y_utr = self.label_shared(y), {m: self.label_unique[m](y) for m in MODALITIES}  # (B, d_s), (B, d_u)
        given = {m: torch.cat([x, y_str.detach()], -1) for m, x in str_.items()}  # [X_m^str; Y^str]
        same = classes[:, None] == classes  # (B, B): Eq. 10 draws its negatives from p(x | y), so from the same class
        batch = torch.ones_like(same)  # the others draw theirs from p(x)
        I_sha = sum(info_nce(self.sha[m + n](s[m], s[n]), batch) for m, n in PAIRS)  # Eq. 7
        I_uni = sum(nce_club(frozen(self.uni[m + n], u[m], u[n]), batch) for m, n in PAIRS)  # Eq. 8
        I_str = sum(nce_club(frozen(self.str_[m + n], given[m], given[n]), same) for m, n in PAIRS)  # Eq. 10
        I_utr = sum(info_nce(self.utr[m](utr[m], y_utr[m]), batch) for m in MODALITIES)  # Eq. 11
        lowered = I_uni.clamp(min=0) + I_str.clamp(min=0)  # an estimate below 0 is its critic's fault
        L_recon = sum(out.L_recon.values()) / 3
        L_MI = -I_sha + lowered + L_recon - I_utr
        # InfoNCE makes f* out of a critic, on features that it cannot move. It trains Y^str as well: to lower I_str,
        # Y^str would forget the label.
        u = {m: x.detach() for m, x in u.items()}
        given = {m: torch.cat([x.detach(), y_str], -1) for m, x in str_.items()}
        uni = sum(info_nce(self.uni[m + n](u[m], u[n]), batch) for m, n in PAIRS)
        con = sum(info_nce(self.str_[m + n](given[m], given[n]), same) for m, n in PAIRS)
        return dict(I_sha=I_sha, I_uni=I_uni, I_str=I_str, I_utr=I_utr, L_recon=L_recon, L_MI=L_MI, critic=-uni - con)


# --- Eq. 13: Dynamic Contrastive Queue, contrast with angle compensation ----------------------------------------------
def enqueue(queue, z, label, classes):
    """A sub-queue of each class, first in, first out: a deque of limited length, which drops its oldest when full."""
    for z_i, y_i, c_i in zip(z.detach(), label, classes, strict=True):
        queue[c_i].append((z_i, y_i, c_i))


def contrastive_loss(z, label, classes, queue, label_range):
    """Anchors: the batch. P(i): all others of the anchor's class, N(i): all of other classes, in batch and queue."""
    rows = [*zip(z, label, classes, strict=True), *(row for sub_queue in queue for row in sub_queue)]
    others, other_label, other_class = (torch.stack(column) for column in zip(*rows, strict=True))  # (B + Q, ...)
    cos = (z @ others.T).clamp(-1, 1)  # (B, B + Q)
    sin = (1 - cos.square() + 1e-6).sqrt()
    phi = math.pi * (1 - (label[:, None] - other_label).abs() / label_range)
    same = classes[:, None] == other_class
    logits = torch.where(same, cos, cos * phi.cos() - sin * phi.sin()) / TAU  # N(i): cos(theta + phi)
    itself = torch.eye(*cos.shape, dtype=torch.bool, device=z.device)
    log_sum = logits.masked_fill(itself, -torch.inf).logsumexp(1)  # (B,)
    positive = same & ~itself
    count = positive.sum(1)
    return mean_where(log_sum - (logits * positive).sum(1) / count.clamp(min=1), count > 0)


# --- Eq. 14: L_MP + lambda_up L_UP + lambda_cl L_CL + lambda_aux L_aux + beta_mi L_MI ---------------------------------
class FINE(nn.Module):
    """d_m, d: {m: width} of frames, of tokens. class_counts: training utterances; class_edges: between the classes."""

    def __init__(self, d_m, d, class_counts, class_edges, low=-3.0, high=3.0):
        super().__init__()
        self.moq = nn.ModuleDict({m: MoQ(d_m[m], d[m]) for m in MODALITIES})
        self.ftre = nn.ModuleDict({m: FTRE(d[m]) for m in MODALITIES})
        self.cls = nn.Parameter(0.02 * torch.randn(3, W))
        self.group = nn.Parameter(0.02 * torch.randn(3, 2, W))  # says which of the six groups a token belongs to
        self.fusion = nn.TransformerEncoderLayer(W, HEADS, 4 * W, 0.0, "gelu", batch_first=True, norm_first=True)
        self.fusion.dropout1 = self.fusion.dropout2 = nn.Dropout(DROPOUT)
        self.norm = nn.LayerNorm(W)
        self.head = mlp(3 * W, W, 1)
        self.unimodal = nn.ModuleDict({m: mlp(2 * W, W, 1) for m in MODALITIES})
        self.information = MutualInformation(d)
        self.queue = [deque(maxlen=max(MINIMUM, math.floor(ALPHA * n))) for n in class_counts]
        self.class_edges, self.low, self.high = class_edges, low, high

    def forward(self, frames, mask):  # {m: (B, T_m, d_m)}, 0 on padding; {m: (B, T_m)}, True on real frames
        out = SimpleNamespace(
            tokens={}, gate={}, shared={}, unique={}, str_={}, utr={}, unimodal={}, L_aux={}, L_recon={}
        )
        groups = []
        for i, m in enumerate(MODALITIES):
            out.tokens[m], out.gate[m], out.L_aux[m] = self.moq[m](frames[m], mask[m])
            s, u, str_, utr, out.L_recon[m] = self.ftre[m](out.tokens[m])
            out.shared[m], out.unique[m], out.str_[m], out.utr[m] = s, u, str_, utr
            out.unimodal[m] = self.unimodal[m](torch.cat([str_, utr], -1).mean(1))[:, 0]  # (B,), Pred_U
            groups += [self.cls[i].expand(len(s), 1, -1), str_ + self.group[i, 0], utr + self.group[i, 1]]
        fused = self.fusion(torch.cat(groups, 1))  # (B, 3 (1 + 2l), w)
        out.cls = self.norm(fused[:, :: 1 + 2 * QUERIES]).flatten(1)  # (B, 3w)
        out.prediction = self.head(out.cls)[:, 0]  # (B,), Pred_M
        return out

    def losses(self, out, label):
        """Every term; in training mode the queue then takes the batch in."""
        classes = sum(label > edge for edge in self.class_edges)  # (B,)
        y = (2 * label - self.low - self.high) / (self.high - self.low)  # in [-1, 1]
        z = F.normalize(out.cls, dim=-1)  # (B, 3w)
        terms = self.information(out, y[:, None], classes)
        terms["L_MP"] = F.mse_loss(out.prediction, label)
        terms["L_UP"] = sum(F.mse_loss(p, label) for p in out.unimodal.values()) / 3
        terms["L_CL"] = contrastive_loss(z, label, classes, self.queue, self.high - self.low)
        terms["L_aux"] = sum(out.L_aux.values()) / 3
        weights = dict(L_MP=1, L_UP=LAMBDA_UP, L_CL=LAMBDA_CL, L_aux=LAMBDA_AUX, L_MI=BETA_MI, critic=1)
        terms["total"] = sum(weight * terms[name] for name, weight in weights.items())
        if self.training:
            enqueue(self.queue, z, label, classes)
        return terms


# --- one step of training: the critics are clipped apart from all else ------------------------------------------------
def adamw(parameters):
    """AdamW that decays matrices, and neither biases nor gains."""
    matrices, vectors = ([p for p in parameters if (p.ndim > 1) == wanted] for wanted in (True, False))
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, weight_decay=WEIGHT_DECAY)


def make_optimisers(model):
    """One of f* and of the label encoder that learns with it, one of all else."""
    mi = model.information
    critics = [p for part in (mi.uni, mi.str_, mi.label_shared) for p in part.parameters()]
    others = [p for p in model.parameters() if all(p is not q for q in critics)]
    return adamw(others), adamw(critics)


def step(model, optimisers, frames, mask, label):
    """One update of critics and of all else by one batch; returns its terms."""
    terms = model.losses(model(frames, mask), label)
    model.zero_grad()
    terms["total"].backward()
    for optimiser in optimisers:  # gradients are clipped apart
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], CLIP)
        optimiser.step()
    return terms
