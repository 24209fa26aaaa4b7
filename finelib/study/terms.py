"""What each term of the objective does, measured from outside: trained models against controls without the term.

Mutual information is estimated anew, by fresh critics on frozen features, so that no model is judged by the
critics it was trained with.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from finelib.config import RunSpec
from finelib.contrastive import DynamicContrastiveQueue, contrastive_loss
from finelib.data.features import Corpus, ResidentSplit
from finelib.fine import FINE
from finelib.mutual_information import DotCritic, info_nce
from finelib.paper import ablations
from finelib.runs import experiment
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, digest
from finelib.study.seeding import seeded

FOLDS, STEPS, BATCH, EVALUATION = 3, 200, 128, 256
# what the definition of each term asks for
RAISES = {"I_sha": True, "I_uni": False, "I_str": False, "I_utr": True, "L_aux": False, "L_CL": False}
# term -> the row of Table 6 that is trained without it
WITHOUT = {term: f"w/o {term}" for term in RAISES} | {"L_CL": "w/o DCQ"}
KIND = {"I_sha": "shared", "I_uni": "unique", "I_str": "str_", "I_utr": "utr"}  # the features that a term is about


def run_specs(options: Options) -> dict[str, list[RunSpec]]:
    """Row of Table 6 -> its runs, the very ones of the table: FINE, and FINE without each term.

    Raises:
        ValueError: the source does not have the table's corpus.
    """
    blocks = ablations.blocks(6, options)
    if not blocks:
        raise ValueError(f"the terms' study: found no CMU-MOSEI in {options.source}, expected Table 6's corpus")
    every = blocks[0].specs(options.seed_list)
    return {row: every[row] for row in (ablations.FINE_ROW.name, *WITHOUT.values())}


def term_effects(options: Options) -> dict[str, list[tuple[float, float]]]:
    """For each term, its value with and without it in the objective, one pair per seed.

    Kept beside each run's record, so that it is measured once for the same runs.
    """
    specs = run_specs(options)
    records = experiment.run_groups(specs, options.out, options.jobs)

    def values(row: str, terms: tuple[str, ...]) -> list[dict[str, float]]:
        return [_values(terms, record, spec) for record, spec in zip(records[row], specs[row], strict=True)]

    with_all, effects = values(ablations.FINE_ROW.name, tuple(WITHOUT)), {}
    for term, row in WITHOUT.items():
        effects[term] = [(a[term], b[term]) for a, b in zip(with_all, values(row, (term,)), strict=True)]
    return effects


def _values(terms: tuple[str, ...], record: RunRecord, spec: RunSpec) -> dict[str, float]:
    key = digest({"run": record.id, "terms": terms, "code": code_hash("finelib.study.terms")})

    def measure() -> dict[str, float]:
        return measure_terms(terms, experiment.load_model(record, spec), experiment.load_corpus(spec.data))

    return kept(record.folder / "terms.json", key, measure)


def measure_terms(terms: Sequence[str], model: FINE, corpus: Corpus) -> dict[str, float]:
    """The terms' values: I_sha, I_uni, I_str, I_utr in nats a pair or modality, by fresh critics; L_aux and L_CL (full
    queue) on dev."""
    train, found = _features(model, corpus, "train"), {}
    if {"L_aux", "L_CL"} & set(terms):
        valid = _features(model, corpus, "valid")
    for term in terms:
        if term == "L_aux":
            found[term] = float(valid["load_balance"])
        elif term == "L_CL":
            found[term] = float(_contrastive(model, train, valid))
        else:
            found[term] = _information(term, train)
    return found


def _information(term: str, train: dict[str, Tensor]) -> float:
    """A term of mutual information on the training split, which is where it acted."""
    features = train[KIND[term]]  # (M, N, w)
    if term == "I_utr":
        label = train["label"] / train["label"].std()
        x, y = features, label[None, :, None].expand(len(features), -1, 1)
    else:
        left, right = zip(*combinations(range(len(features)), 2), strict=True)  # every pair of modalities
        x, y = features[list(left)], features[list(right)]
    return float(fresh_information(x, y, train["classes"] if term == "I_str" else None).mean())


def fresh_information(
    x: Float[Tensor, "P N dx"], y: Float[Tensor, "P N dy"], classes: Int[Tensor, "N"] | None = None
) -> Float[Tensor, "P"]:
    """InfoNCE estimates in nats by new dot critics, one for each of P problems, on pairs they were not trained on.

    Cross-fitted: the pairs are cut into FOLDS parts, and critics trained on the others score each part. The critic
    of the step that did best on one half of the part is reported on the other half, and the other way round, so that
    neither overfitting nor the choice of the step flatters it. With classes, only pairs of one class count:
    then the estimate is of the information given the class.
    """
    order = torch.Generator().manual_seed(0)
    problems, size = len(x), x.shape[1] // FOLDS // 2 * 2
    parts = torch.randperm(x.shape[1], generator=order)[: FOLDS * size].view(FOLDS, size)
    fit = torch.stack([torch.cat([parts[j] for j in range(FOLDS) if j != i]) for i in range(FOLDS)])
    with seeded(0):
        critic = DotCritic(FOLDS * problems, x.shape[-1], y.shape[-1], 64)
    optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-3, weight_decay=1e-2)

    def estimate(rows: Int[Tensor, "F n"]) -> Float[Tensor, "F P"]:
        """Of rows[i] by the critics of fold i."""
        sides = [side[:, rows].transpose(0, 1).flatten(0, 1) for side in (x, y)]  # each (F * P, n, d)
        scores = critic(*sides).unflatten(0, (FOLDS, -1))  # (F, P, n, n)
        if classes is None:
            return info_nce(scores)
        same = classes[rows][:, :, None] == classes[rows][:, None]  # (F, n, n)
        return info_nce(scores, same[:, None])

    halves = parts.chunk(2, dim=1)
    chosen, reported = torch.full((2, FOLDS, problems), -torch.inf), torch.zeros(2, FOLDS, problems)
    for step in range(STEPS):
        rows = fit[:, torch.randperm(fit.shape[1], generator=order)[:BATCH]]
        optimiser.zero_grad()
        (-estimate(rows).sum()).backward()
        optimiser.step()
        if step % 10 == 9:
            with torch.no_grad():
                now = torch.stack([estimate(half[:, :EVALUATION]) for half in halves])
            reported = torch.where(now > chosen, now.flip(0), reported)
            chosen = chosen.maximum(now)
    return reported.mean((0, 1))


@torch.no_grad()
def _features(model: FINE, corpus: Corpus, name: str) -> dict[str, Tensor]:
    """Pooled features (M, N, w) of a split, contrast vectors, labels, classes and mean load balance."""
    split = ResidentSplit(corpus.splits[name], model.modalities, torch.device("cpu"))
    parts: dict[str, list[Tensor]] = {}
    for rows in torch.arange(len(split)).split(BATCH):
        batch = split.batch(rows)
        out = model(batch)
        found = {kind: model.information.pool(getattr(out.features, kind)) for kind in KIND.values()}
        found |= {"z": model.contrast_vector(out), "label": batch.label, "classes": model.info.class_of(batch.label)}
        found["load_balance"] = torch.stack([m.load_balance for m in out.moq.values()]).mean().expand(len(rows))
        for key, value in found.items():
            parts.setdefault(key, []).append(value)
    joined = {key: torch.cat(values, -2 if values[0].ndim == 3 else 0) for key, values in parts.items()}
    return joined | {"load_balance": joined["load_balance"].mean()}


def _contrastive(model: FINE, train: dict[str, Tensor], valid: dict[str, Tensor]) -> Tensor:
    """L_CL of held-out utterances, one by one, against a queue filled from the training split."""
    counts = torch.bincount(train["classes"], minlength=len(model.info.class_edges) + 1).clamp(min=1)
    queue = DynamicContrastiveQueue(counts.tolist(), train["z"].shape[1])
    queue.enqueue(train["z"], train["label"], train["classes"])
    label_range, compensate = model.info.label_high - model.info.label_low, model.config.contrast == "accon"
    settings = {"label_range": label_range, "tau": model.config.tau, "compensate": compensate}
    alone = zip(valid["z"].split(1), valid["label"].split(1), valid["classes"].split(1), strict=True)
    return torch.stack([contrastive_loss(*utterance, queue, **settings) for utterance in alone]).mean()
