"""What the feature groups know: planted factors, and the label (the parts of Figure 3).

A probe is fitted on the training split and scored on the test split; G groups of features, F factors.
"""

from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finelib.config import RunSpec
from finelib.data import planted
from finelib.data.planted import SEEN
from finelib.layers import stacked_mlp
from finelib.metrics import correlation
from finelib.runs import experiment
from finelib.runs.records import RunRecord
from finelib.study import representations
from finelib.study.representations import ALPHAS, KINDS, Groups, Representations
from finelib.study.seeding import seeded

HIDDEN = 64  # of the probe of one hidden layer
Factors = dict[str, np.ndarray]  # name -> (N,)
Subset = tuple[str, ...]  # of modalities
R2 = Float[np.ndarray, "G F"]


def factor_r2(train: Representations, factors: Factors, test: Representations, truth: Factors) -> R2:
    """R2 on the test split of a linear probe fitted on the training split, for every group and factor.

    A negative R2 (worse than the mean) is reported as it is.
    """
    target, wanted = (np.stack([side[name] for name in factors], 1) for side in (factors, truth))
    rows = []
    for x, held_out in zip(train.values, test.values, strict=True):
        probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True)).fit(x, target)
        error = ((wanted - probe.predict(held_out)) ** 2).sum(0)
        rows.append(1 - error / ((wanted - wanted.mean(0)) ** 2).sum(0))
    return np.stack(rows)


def mlp_r2(train: Representations, factors: Factors, test: Representations, truth: Factors, steps: int = 200) -> R2:
    """As ``factor_r2`` with a probe of one hidden layer, all groups side by side; the step that is best on a
    held-out tenth of the training split is kept."""
    target, wanted = (np.stack(list(side.values()), 1).astype(np.float32) for side in (factors, truth))
    scaled = [StandardScaler().fit(x) for x in train.values]
    sides = ([s.transform(v) for s, v in zip(scaled, side.values, strict=True)] for side in (train, test))
    x, held_out = (torch.from_numpy(np.stack(side)).float() for side in sides)
    y = torch.from_numpy(target).expand(len(x), -1, -1)
    cut = max(1, len(target) // 10)
    with seeded(0):
        probe = stacked_mlp(len(x), x.shape[-1], HIDDEN, y.shape[-1])
    optimiser = torch.optim.AdamW(probe.parameters(), lr=1e-2, weight_decay=0.1)
    best, prediction = torch.full((len(x), y.shape[-1]), torch.inf), torch.zeros(*held_out.shape[:2], y.shape[-1])
    for step in range(steps):
        optimiser.zero_grad()
        (probe(x[:, cut:]) - y[:, cut:]).square().mean((1, 2)).sum().backward()
        optimiser.step()
        if step % 10 == 9:
            with torch.no_grad():
                error = (probe(x[:, :cut]) - y[:, :cut]).square().mean(1)
                better = error < best  # each factor of each group stops where it is best
                best = torch.where(better, error, best)
                prediction = torch.where(better[:, None], probe(held_out), prediction)
    error = ((wanted - prediction.numpy()) ** 2).sum(1)
    return 1 - error / ((wanted - wanted.mean(0)) ** 2).sum(0)


def factor_contrasts(groups: Groups, r2: R2, names: list[str]) -> dict:
    """What the paper's claim is about, as differences of R2 averaged over modalities.

    ``shared_in_str``: factors of the label that a modality shares, in its STR minus in its UTR; ``unique_in_utr``: the
    factor that it alone sees, in its UTR minus in its STR; ``noise``: the irrelevant factors it sees, in both.
    """
    found = factor_scores(groups, r2, names, {m: roles(m) for m, _ in groups})
    contrasts = {score: found[score]["right"] - found[score]["wrong"] for score in ("shared_in_str", "unique_in_utr")}
    return contrasts | {"noise": found["noise"]}


def roles(modality: str, among: Subset = tuple(SEEN)) -> dict[str, tuple[str, ...]]:
    """What planted factors are to a modality ``among`` some: factors of the label that another one of them sees too
    ("shared") or none does ("own"), and irrelevant ones ("noise")."""
    others = {f for m in among if m != modality for f in SEEN[m]}
    relevant = [f for f in SEEN[modality] if not f.startswith("r")]
    return {
        "shared": tuple(f for f in relevant if f in others),
        "own": tuple(f for f in relevant if f not in others),
        "noise": ("r", "r" + modality.lower()),
    }


def factor_scores(groups: Groups, r2: R2, names: list[str], role: dict[str, dict]) -> dict[str, dict | float]:
    """score -> {"right", "wrong"}: R2 where the factors belong and where they do not, averaged over modalities; the
    score is their difference, 1 for a perfect factorisation and 0 for features that know nothing.

    ``shared_in_str``: shared factors in STR and in UTR; ``unique_in_utr``: own factors in UTR and in STR;
    ``noise_in_neither``: the label's factors and the irrelevant ones, in the better of STR and UTR. "noise" is the mean
    R2 of irrelevant factors in both. ``role`` says which factors of a modality are what (``roles``).
    """
    parts: dict[str, list[tuple[float, float]]] = {}
    noise = []
    for m in dict.fromkeys(m for m, _ in groups):
        str_, utr = r2[groups.index((m, "STR"))], r2[groups.index((m, "UTR"))]
        shared, own, irrelevant = ([names.index(f) for f in role[m][kind]] for kind in ("shared", "own", "noise"))
        better = np.maximum(str_, utr)
        for name, right, wrong in (
            ("shared_in_str", str_[shared], utr[shared]),
            ("unique_in_utr", utr[own], str_[own]),
            ("noise_in_neither", better[[*shared, *own]], better[irrelevant]),
        ):
            if len(right) and len(wrong):
                parts.setdefault(name, []).append((right.mean(), wrong.mean()))
        noise.append((str_[irrelevant] + utr[irrelevant]).mean() / 2)
    found = {name: dict(zip(("right", "wrong"), map(float, np.mean(v, 0)), strict=True)) for name, v in parts.items()}
    return found | {"noise": float(np.mean(noise))}


def label_information(train: Representations, test: Representations, kinds: Subset = KINDS) -> dict[Subset, float]:
    """Subset of modalities -> nats about the label that a linear probe reads from their groups of these kinds.

    -0.5 ln(1 - R2) with R2 on the test split: the mutual information if errors were Gaussian, else a lower bound.
    """
    found = {}
    for subset in subsets(tuple(dict.fromkeys(m for m, _ in train.groups))):
        use = [i for i, (m, kind) in enumerate(train.groups) if m in subset and kind in kinds]
        x, held_out = (np.concatenate(list(side.values[use]), -1) for side in (train, test))
        probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS)).fit(x, train.label)
        error = ((test.label - probe.predict(held_out)) ** 2).mean() / test.label.var()
        found[subset] = nats(1 - error)
    return found


def subsets(names: Subset) -> list[Subset]:
    """All non-empty ones, small ones first."""
    return [subset for size in range(1, len(names) + 1) for subset in combinations(names, size)]


def nats(r2: float) -> float:
    """-0.5 ln(1 - R2), 0 for a probe no better than the mean."""
    return float(-0.5 * np.log1p(-min(max(r2, 0.0), 1 - 1e-9)))


def information_parts(information: dict[Subset, float]) -> dict[str, float]:
    """Figure 3 in numbers: the whole, what each modality adds to the others, and co-information.

    ``I(T;Y|A,V)`` is what T alone has; ``I(T;A;Y)`` = I(T;Y) + I(A;Y) - I(T,A;Y) is what both tell, negative where
    the two together tell more than they do one by one.
    """
    whole = max(information, key=len)
    parts = {f"I({','.join(whole)};Y)": information[whole]}
    for m in whole:
        rest = tuple(n for n in whole if n != m)
        if rest:
            parts[f"I({m};Y|{','.join(rest)})"] = information[whole] - information[rest]
    for subset in subsets(whole):
        if len(subset) > 1:  # inclusion and exclusion
            signed = [(-1) ** (len(s) + 1) * value for s, value in information.items() if set(s) <= set(subset)]
            parts[f"I({';'.join(subset)};Y)"] = float(sum(signed))
    return parts


def information_values(specs: list[RunSpec], records: list[RunRecord]) -> dict[str, dict[str, list[float]]]:
    """What Figure 3 shows: source -> part of the information -> one value a seed, in nats.

    The sources are STR and UTR features together, STR alone, UTR alone and, on planted data, the true factors, which
    have one value: of the best prediction from the factors that the modalities see.
    """
    corpus = experiment.load_corpus(specs[0].data)
    values: dict[str, list[dict]] = {"STR and UTR": [], "STR": [], "UTR": []}
    for spec, record in zip(specs, records, strict=True):
        train, test = (representations.extract(record, spec, split) for split in ("train", "test"))
        for source in values:
            kinds = tuple(source.split(" and "))
            values[source].append(information_parts(label_information(train, test, kinds)))
    truth = corpus.splits["test"]
    if truth.factors:
        known = {}
        for subset in subsets(corpus.modalities):
            best = planted.best_prediction(corpus.info, specs[0].data.design, truth.factors, subset)
            known[subset] = nats(correlation(best, truth.label) ** 2)
        values = {"true factors": [information_parts(known)], **values}
    return {source: {part: [v[part] for v in found] for part in found[0]} for source, found in values.items()}
