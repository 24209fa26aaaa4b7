"""The card that lies beside a saved model: what it was trained on, how well it does, what it is not for."""

from typing import Any

import numpy as np
from scipy import stats

from finelib import metrics
from finelib.data.card import NAMES, said
from finelib.data.features import Corpus
from finelib.data.own_labels import Scale, title_of

LIMITS = """\
- It predicts what the annotators of these data would have said of like recordings. It does not read anybody's mind.
- **It is not for judging people**: not for hiring, schools, courts, police, insurance, borders or health.
- It was measured on the test split above and on nothing else: other speakers, languages, cameras or microphones may do
  worse, and nobody has looked whether it does worse for some people than for others.
- `predict` warns where features lie outside what training saw. No warning is no promise."""


def scores(saved: Any, corpus: Corpus) -> dict[str, Any]:
    """Test scores of the models' mean, and 95 % intervals of MAE and Corr over utterances."""
    test = corpus.splits["test"]
    prediction = saved.values(test).mean(0)
    found = {"test": metrics.score(corpus.info.metrics, prediction, test.label), "utterances": len(test)}
    error = np.abs(prediction - test.label)
    half = 0.0
    if len(error) > 1:
        half = float(stats.t.ppf(0.975, len(error) - 1)) * error.std(ddof=1) / np.sqrt(len(error))
    found["mae"] = [float(error.mean()) - half, float(error.mean()) + half] if len(error) > 1 else None
    varies = len(error) > 3 and np.ptp(prediction) > 0 and np.ptp(test.label) > 0
    found["corr"] = list(map(float, stats.pearsonr(prediction, test.label).confidence_interval())) if varies else None
    return found


def page(about: dict[str, Any], name: str, corpus: Corpus) -> str:
    """The card in Markdown."""
    scale, measured = Scale(**about["scale"]), about["scores"]
    reads = ", ".join(f"{NAMES[m]} ({width} numbers a frame)" for m, width in about["widths"].items())
    sizes = ", ".join(f"{s} {len(split)}" for s, split in corpus.splits.items())
    values = measured["test"].items()
    rows = "\n".join(f"| {metric} | {value:.4f} | {_interval(measured.get(metric))} |" for metric, value in values)
    recipe = "; ".join(f"{NAMES.get(m, m)}: {what}" for m, what in about["recipe"].items())
    encoder = f", files `{about['encoder_sha256'][:12]}`" if about["encoder_sha256"] else ""
    text = f"- **Text features** by {about['encoder']}{encoder}.\n" if "T" in about["widths"] else ""
    seeds = "one model" if about["models"] == 1 else f"{about['models']} models that differ in the seed"
    unit = "" if scale.unit == 1 else f" Scores are in units of {scale.unit:g} label points."
    return f"""# {name}

{about["system"]}, {seeds}, saved by finelib {about["version"]}.

- **Reads** {reads}.
- **Predicts** a number from {scale.low:g} to {scale.high:g}{", two classes" if scale.classes else ""}.
- **Trained on** {title_of(corpus.info, corpus.kind)}: {sizes} utterances; data hash `{about["data_sha256"][:12]}`.
{text}- **Features of recordings**: {recipe or "none are extracted: it reads features as they were given"}.
- **Plausible range** of a prediction: {about["dev_error"] * scale.unit:.3g} to either side held 9 of 10 dev utterances.

## Data

{chr(10).join(f"- {sentence}" for sentence in said(corpus.card)) or "- nothing to say beside the above"}

## Scores

Test split, {measured["utterances"]} utterances; ACC and F1 are shares; brackets: 95 % intervals over utterances.{unit}

| metric | value | interval |
|---|---|---|
{rows}

## Limits

{LIMITS}
"""


def _interval(found: list[float] | None) -> str:
    return f"[{found[0]:.4f}, {found[1]:.4f}]" if found else "–"
