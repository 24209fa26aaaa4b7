"""Pictures and tables of runs, predictions, corpora and findings, for notebooks; nothing is trained."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix
from torch import Tensor

from finelib.contrastive import angle_compensated_cosine
from finelib.data.corpora import CorpusInfo
from finelib.data.features import Corpus
from finelib.metrics import ERRORS, correlation
from finelib.moq import MoQOutput
from finelib.runs.records import RunRecord
from finelib.study.terms import RAISES
from finelib.views.style import BLUE, COLOURS, NAMES, ORANGE, finish, legend_beside, panels, shortened

TERMS = {
    "L_MP": "prediction (multimodal)",
    "L_UP": "prediction (unimodal)",
    "L_CL": "contrastive queue",
    "L_aux": "load balance",
    "L_recon": "reconstruction",
    "critic": "NCE-CLUB critics",
}
ESTIMATES = {term: f"{term} ({'raised' if RAISES[term] else 'lowered'})" for term in RAISES if term.startswith("I_")}
CLASS_NAMES = {  # of each kind of metrics
    "mosi": [f"{value:+d}" if value else "0" for value in range(-3, 4)],
    "sims": ["neg.", "weakly neg.", "neutral", "weakly pos.", "pos."],
    "humor": ["serious", "humor"],
}


def training_curves(records: list[RunRecord]) -> Figure:
    """Every loss term on train, the dev error and Corr, one line per seed; a dot marks the selected epoch."""
    error = records[0].dev_error
    return _curves(records, {**TERMS, f"dev_{error}": f"dev {ERRORS[error]}", "dev_corr": "dev Corr"})


def mi_estimates(records: list[RunRecord]) -> Figure:
    """The four mutual-information terms on train, in nats, as the objective has them: sums over pairs or modalities.

    InfoNCE cannot exceed the log of the batch size for each pair or modality.
    """
    figure, config, count = _curves(records, ESTIMATES), records[0].config, len(records[0].modalities)
    summands = {"I_sha": math.comb(count, 2), "I_utr": count}
    if config["model"]["average_terms"]:
        summands = dict.fromkeys(summands, 1)
    for axis, name in zip(figure.axes, ESTIMATES, strict=False):
        if name in summands:
            bound = summands[name] * math.log(config["train"]["batch_size"])
            text = {"ha": "right", "va": "bottom", "transform": axis.get_yaxis_transform(), "color": "grey"}
            axis.axhline(bound, color="grey", linestyle="--", linewidth=1)
            axis.text(0.98, bound, f"{summands[name]} log N".removeprefix("1 "), **text)
        axis.set_ylabel("nats")
    return figure


def _curves(records: list[RunRecord], names: dict[str, str], columns: int = 4) -> Figure:
    rows = math.ceil(len(names) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 2.4 * rows), layout="constrained", squeeze=False)
    for axis, (name, title) in zip(axes.flat, names.items(), strict=False):
        for record in records:
            values = [curve[name] for curve in record.curves]
            (line,) = axis.plot(range(1, len(values) + 1), values, linewidth=1.3, alpha=0.8)
            chosen = record.selected_epoch
            axis.plot(chosen + 1, values[chosen], "o", color=line.get_color(), markersize=4)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    return finish(figure)


def router_load(outputs: dict[str, MoQOutput], top_k: int) -> Figure:
    """Mean router probability of each expert, and the share of utterances that have it among their top k."""
    figure, axes = panels(len(outputs), 3.2, 2.6, sharey=False)
    for axis, (m, out) in zip(axes, outputs.items(), strict=True):
        probability, places = out.router.detach(), np.arange(out.router.shape[1])
        chosen = probability.topk(top_k).indices
        share = [(chosen == e).any(1).float().mean().item() for e in places]
        axis.bar(places - 0.2, probability.mean(0), 0.4, color=COLOURS[m], label="mean probability")
        axis.bar(places + 0.2, share, 0.4, color=COLOURS[m], alpha=0.4, label=f"share in top {top_k}")
        axis.axhline(1 / len(places), color="grey", linestyle="--", linewidth=1)
        title = f"{NAMES[m]}: L_aux = {out.load_balance.item():.3f}"
        axis.set(title=title, xlabel="expert", xticks=places, ylim=(0, 1.05))
    axes[0].legend(frameon=False, fontsize="small")
    return finish(figure)


def confusion(info: CorpusInfo, prediction: np.ndarray, label: np.ndarray) -> Figure:
    """Confusion of the corpus's classes (ACC-7 of CMU-MOSI, ACC-5 of CH-SIMS, two of UR-FUNNY): counts, coloured by
    the share of the true class."""
    names = CLASS_NAMES[info.metrics]
    counts = confusion_matrix(*(_accuracy_class(info, v) for v in (label, prediction)), labels=range(len(names)))
    counts = pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted"))
    share = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    side, bar = 1.6 + 0.55 * len(names), {"label": "share of the true class"}
    figure, axis = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
    sns.heatmap(share, annot=counts, fmt="d", cmap="Blues", vmin=0, vmax=1, cbar_kws=bar, ax=axis)
    return finish(figure)


def _accuracy_class(info: CorpusInfo, values: np.ndarray) -> np.ndarray:
    """Class of each value, so that the diagonal of ``confusion`` is the accuracy of ``metrics``.

    ACC-7 rounds half to even, where ``class_of`` puts an edge into the class below.
    """
    if info.metrics == "mosi":
        return np.round(np.clip(values, -3, 3)).astype(int) + 3
    return info.class_of(np.asarray(values, dtype=np.float32))


def scatter(prediction: np.ndarray, label: np.ndarray) -> Figure:
    """Prediction against label, with the diagonal."""
    figure, axis = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
    axis.plot(label, prediction, ".", alpha=0.35, markersize=5)
    axis.axline((0, 0), slope=1, color="grey", linewidth=1, linestyle="--")
    axis.set(xlabel="label", ylabel="prediction")
    return finish(figure)


def worst_errors(record: RunRecord, corpus: Corpus, count: int = 8) -> pd.DataFrame:
    """The test utterances with the largest errors; the text column is left out where the source has no text.

    Of public data, recordings of people, neither text nor ids are shown: executed notebooks are published.
    """
    arrays, text = record.predictions(), corpus.splits["test"].text
    table = pd.DataFrame({"id": arrays["test_ids"], "text": [shortened(t) for t in text]})
    table = table.assign(label=arrays["test_label"], prediction=arrays["test"])
    error = (table["prediction"] - table["label"]).abs()
    rows = np.argsort(-error.to_numpy())[:count]
    table = table.assign(error=error).iloc[rows].reset_index(drop=True).round(2)
    if corpus.kind == "public":
        return table.drop(columns=["id", "text"])
    return table if table["text"].any() else table.drop(columns="text")


def data_overview(corpus: Corpus) -> Figure:
    """Length of the sequences of each modality, and the labels, on the training split."""
    train = corpus.splits["train"]
    panels = len(train.frames) + 1
    figure, axes = plt.subplots(1, panels, figsize=(3.1 * panels, 2.5), layout="constrained")
    for axis, m in zip(axes, corpus.modalities, strict=False):
        axis.hist(train.frames[m].length, bins=25, color=COLOURS[m])
        axis.set(title=f"{NAMES[m]}: {corpus.widths[m]} features", xlabel="frames", ylabel="utterances")
    axes[-1].hist(train.label, bins=25, color="grey")
    axes[-1].set(title="label", xlabel=f"{corpus.info.label_low:g} to {corpus.info.label_high:g}")
    figure.suptitle(f"{corpus.called}, {len(train)} training utterances")
    return finish(figure)


def reference_bars(scores: dict[str, dict[str, float]], title: str) -> Figure:
    """Corr of named predictors, best at the top."""
    ordered = sorted(scores, key=lambda name: scores[name]["corr"])
    figure, axis = plt.subplots(figsize=(5.2, 0.6 + 0.42 * len(ordered)), layout="constrained")
    bars = axis.barh(ordered, [scores[name]["corr"] for name in ordered], color="grey")
    axis.bar_label(bars, fmt="%.2f", padding=3)
    axis.set(xlim=(0, 1), xlabel="Corr", title=title)
    return finish(figure)


def target_angles() -> Figure:
    """What ACCon asks of a negative pair: the similarity it penalises, over the angle, for label distances d / L."""
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    theta = torch.linspace(0, math.pi, 200)
    for share, colour in zip((0.1, 0.3, 0.6, 1.0), sns.color_palette("crest", 4), strict=True):
        similarity = angle_compensated_cosine(theta.cos(), torch.full_like(theta, share), 1.0)
        axis.plot(theta / math.pi, similarity, color=colour, label=f"d = {share:g} L" + " (SupCon)" * (share == 1))
        axis.plot(share, -1, "o", color=colour)
    axis.set(xlabel="angle between the two / π", ylabel="cos of the compensated angle", ylim=(-1.1, 1.05))
    legend_beside([axis])
    return finish(figure)


def control_effects(effects: dict[str, list[tuple[float, float]]]) -> Figure:
    """Each term's measured value in models trained without and with it, one line per seed."""
    figure, axes = panels(len(effects), 2.1, 2.9, sharey=False)
    for axis, (term, pairs) in zip(axes, effects.items(), strict=True):
        for with_term, without in pairs:
            moved = (with_term > without) == RAISES[term]
            axis.plot([0, 1], [without, with_term], "o-", color=BLUE if moved else ORANGE)
        axis.set(title=f"{term} {'↑' if RAISES[term] else '↓'}", xlim=(-0.3, 1.3))
        axis.set_xticks([0, 1], ["without", "with"])
    axes[0].set_ylabel("measured value")
    return finish(figure)


def effects_table(effects: dict[str, list[tuple[float, float]]]) -> pd.DataFrame:
    """``control_effects`` in numbers: each term's mean with and without it, and how many seeds move as asked."""
    table = pd.DataFrame({term: pd.DataFrame(pairs).mean() for term, pairs in effects.items()}).T
    table = table.set_axis(["with", "without"], axis=1).round(3)
    moved = {term: sum((a > b) == RAISES[term] for a, b in pairs) for term, pairs in effects.items()}
    return table.assign(**{"seeds that move as asked": [f"{moved[t]} of {len(effects[t])}" for t in table.index]})


def score_matrix(scores: Float[Tensor | np.ndarray, "N N"], left: str = "text", right: str = "audio") -> Figure:
    """A critic's scores of every utterance of one modality with every one of another; pairs are on the diagonal."""
    figure, axis = plt.subplots(figsize=(3.6, 3), layout="constrained")
    figure.colorbar(axis.imshow(torch.as_tensor(scores).detach().numpy(), cmap="viridis"))
    axis.set(title=f"scores of {left} with {right}", xlabel=f"{right} of utterance", ylabel=f"{left} of utterance")
    plt.close(figure)
    return figure


def factor_bars(corpus: Corpus) -> Figure:
    """|Corr| of every planted factor with the label, on the training split.

    Raises:
        ValueError: the corpus is not planted.
    """
    train = corpus.splits["train"]
    if not train.factors:
        found = f"found {corpus.called}"
        raise ValueError(f"{found}, expected planted data, whose factors are known")
    found = {f: abs(correlation(values, train.label)) for f, values in train.factors.items() if f != "oracle"}
    figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
    axis.bar(list(found), list(found.values()), color="grey")
    axis.set(title=f"planted {corpus.info.title}: factor and label", ylabel="|Corr|")
    return finish(figure)


def findings_table(findings: dict[str, dict]) -> pd.DataFrame:
    """One line for each finding: whether it holds (None: open), and why."""
    lines = {name: {"holds": found["holds"], "because": found["says"]} for name, found in findings.items()}
    return pd.DataFrame.from_dict(lines, orient="index")
