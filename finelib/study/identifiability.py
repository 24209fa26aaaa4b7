"""Does the factorisation find the factors? Probes on planted data, for FINE and for what stands in its place.

Three scores, each the R2 of probes in the right place minus that in the wrong one (``factors.factor_scores``): 1 for a
perfect factorisation, 0 for features that know nothing. Intervals are Student's over seeds; one seed has none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from torch import nn
from tqdm.auto import tqdm

from finelib import models, training
from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.config import RunSpec
from finelib.data.features import Corpus
from finelib.data.planted import FACTORS
from finelib.paper import ablations, significance
from finelib.paper.significance import Interval
from finelib.runs import experiment
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import Options
from finelib.runs.records import RunRecord, digest
from finelib.study import equal_optima, factors, subset_optima
from finelib.study.factorcl import make_factorcl
from finelib.study.representations import Groups, Representations, features_of, model_of
from finelib.study.seeding import seeded
from finelib.study.starts import STARTS, begun, best_start, with_subset_codes

SCORES = ("shared_in_str", "unique_in_utr", "noise_in_neither")
# name here -> row of Table 6, or the variant that factorises
COMPARED = {"FINE": "FINE", VARIANT: VARIANT, "MISA-style": "w/o FTRE + MISA", "none": "w/o FTRE"}
BETA, BATCH, SWEEP_SEEDS = (0.0, 0.1, 2.0), (32, 128), 2
MARGIN = 0.1  # of a score: less is no factorisation
FACTORCL_SIZES = {"smoke": (200, 60, 200), "demo": (800, 200, 1000), "paper": (4000, 500, 2000)}
Parts = dict[str, Representations]  # "train", "test" -> features of that split


def run_specs(options: Options) -> dict[str, list[RunSpec]]:
    """row -> its runs: Table 6's own planted ones, and FINE with other beta_mi and batch sizes.

    FINE, its variant with subset codes, MISA and none have every seed, of the variant with every start; the other
    printed rows of Table 6 have the first seed, to be cheap.
    """
    block = ablations.blocks(6, replace(options, source="planted"))[0]
    every = block.specs(options.seed_list)
    every[VARIANT] = [start for spec in every["FINE"] for start in begun(with_subset_codes(spec, VARIANT))]
    printed = [v.name for v in ablations.COMPONENT_ROWS if v.kind == ablations.PRINTED]
    rows = {name: every[name] for name in COMPARED.values()}
    rows |= {name: every[name][:1] for name in printed if name not in rows}
    rows["concat critics"] = every["concat critics"][:SWEEP_SEEDS]
    sweeps = {f"beta_mi = {beta:g}": ("model_config", {"beta_mi": beta}) for beta in BETA}
    sweeps |= {f"batch of {size}": ("train", {"batch_size": size}) for size in BATCH}
    for name, (part, change) in sweeps.items():
        fine = [replace(spec, name=f"FINE, {name}") for spec in every["FINE"][:SWEEP_SEEDS]]
        rows[name] = [replace(spec, **{part: replace(getattr(spec, part), **change)}) for spec in fine]
    return rows


def specs(options: Options) -> list[RunSpec]:
    """Every run that ``measure_identifiability`` needs."""
    return [spec for group in run_specs(options).values() for spec in group]


@dataclass(frozen=True)
class Probed:
    """One model's probe matrices (G, F) and scores: score -> {"right", "wrong", "score"}; those of the MLP."""

    r2: factors.R2
    scores: dict[str, dict[str, float]]
    mlp: Probed | None = None


def probe(parts: Parts, corpus: Corpus, names: tuple[str, ...] = FACTORS, mlp: bool = False) -> Probed:
    """Probes for the planted factors ``names``, fitted on the features of "train", scored on those of "test"; with
    ``mlp`` also probes of one hidden layer."""
    known, truth = ({f: corpus.splits[part].factors[f] for f in names} for part in ("train", "test"))
    given, groups = (parts["train"], known, parts["test"], truth), parts["train"].groups
    nonlinear = _rate(groups, factors.mlp_r2(*given), names) if mlp else None
    return replace(_rate(groups, factors.factor_r2(*given), names), mlp=nonlinear)


def _rate(groups: Groups, r2: factors.R2, names: tuple[str, ...]) -> Probed:
    among = tuple(dict.fromkeys(m for m, _ in groups))
    role = {m: factors.roles(m, among) for m in among}
    parts = factors.factor_scores(groups, r2.clip(min=0), list(names), role)
    parts.pop("noise")
    return Probed(r2, {name: p | {"score": p["right"] - p["wrong"]} for name, p in parts.items()})


def probe_run(record: RunRecord, spec: RunSpec, mlp: bool = False, trained: bool = True) -> Probed:
    """A run's model, or the same before training."""
    corpus = experiment.load_corpus(spec.data)
    return probe(_features(model_of(record, spec, trained), corpus), corpus, mlp=mlp)


def _features(model: nn.Module, corpus: Corpus) -> Parts:
    return {part: features_of(model, corpus.splits[part], one_for_both=True) for part in ("train", "test")}


def ends_of_the_scale(corpus: Corpus, seed: int) -> dict[str, Probed]:
    """The scores' 1 and 0: features built by hand from the factors, and features that know nothing."""
    rng, groups, perfect, chance = np.random.default_rng(seed), equal_optima.GROUPS, {}, {}
    for part in ("train", "test"):
        split = corpus.splits[part]
        known = (equal_optima.perfect(), split.factors, split.label)
        perfect[part] = equal_optima.make_features(*known, seed=0, noise=0.0)
        noise = rng.standard_normal((len(groups), len(split), 16)).astype(np.float32)
        chance[part] = Representations(groups, noise, split.label)
    return {"perfect": probe(perfect, corpus), "chance": probe(chance, corpus)}


def probe_on_factorcl(options: Options) -> dict[str, list[Probed]]:
    """What is compared, trained on FactorCL's design with one start: a few seconds each, so no records are kept."""
    corpus = make_factorcl(FACTORCL_SIZES[options.preset])
    specs_of, found = run_specs(options), {name: [] for name in COMPARED}
    for name, row in COMPARED.items():
        for seed in options.seed_list[:SWEEP_SEEDS]:
            with seeded(seed):
                model = models.build(specs_of[row][0].model_config, corpus)
                training.fit(model, corpus, specs_of[row][0].train, seed)
            found[name].append(probe(_features(model.eval(), corpus), corpus))
    return found


def measure_identifiability(options: Options) -> dict:
    """Train what is missing and probe it; kept in figures/identifiability.json while runs and code stay the same."""
    wanted = run_specs(options)
    records = experiment.run_groups(wanted, options.out, options.jobs)
    settings = {"preset": options.preset, "seeds": options.seed_list}
    ids = {name: [record.id for record in group] for name, group in records.items()}
    key = digest({"settings": settings, "runs": ids, "code": code_hash("finelib.study.identifiability")})
    runs = {name: list(zip(records[name], group, strict=True)) for name, group in wanted.items()}
    starts = [runs[VARIANT][i : i + STARTS] for i in range(0, len(runs[VARIANT]), STARTS)]
    runs[VARIANT] = [best_start(group) for group in starts]
    return kept(options.figures / "identifiability.json", key, partial(_content, runs, options))


def _content(runs: dict[str, list[tuple[RunRecord, RunSpec]]], options: Options) -> dict:
    corpus = experiment.load_corpus(runs["FINE"][0][1].data)
    rows = {}
    for name, group in tqdm(runs.items(), desc="probing", unit="row"):
        rows[name] = [probe_run(record, spec, mlp=name in COMPARED.values()) for record, spec in group]
    compared = {name: rows[row] for name, row in COMPARED.items()}
    compared["untrained"] = [probe_run(record, spec, mlp=True, trained=False) for record, spec in runs["FINE"]]
    ends = [ends_of_the_scale(corpus, seed) for seed in options.seed_list]
    compared |= {end: [each[end] for each in ends] for end in ("perfect", "chance")}
    by_mlp = {name: [p.mlp for p in group] for name, group in compared.items() if group[0].mlp}
    ids = {name: [record.id for record, _ in runs[row]] for name, row in COMPARED.items()}
    solved, optima = solve_closed_forms(corpus), subset_optima.measure_optima()
    of_objective = equal_optima.judge_objective(solved, MARGIN) | subset_optima.judge_optima(optima, MARGIN)
    return {
        "data": "planted",
        "names": list(FACTORS),
        "groups": [" ".join(group) for group in equal_optima.GROUPS],
        "compared": {name: score_intervals(group) for name, group in compared.items()},
        "compared_mlp": {name: score_intervals(group) for name, group in by_mlp.items()},
        "rows": {name: score_intervals(group) for name, group in rows.items()},
        "factorcl": {name: score_intervals(group) for name, group in probe_on_factorcl(options).items()},
        "leakage": {name: _mean_r2(group) for name, group in compared.items()},
        "leakage_mlp": {name: _mean_r2(group) for name, group in by_mlp.items()},
        "solutions": solved,
        "subset_optima": optima,
        "findings": judge_factorisation(compared, ids) | of_objective,
    }


def _mean_r2(group: list[Probed]) -> list[list[float]]:
    return np.mean([p.r2 for p in group], 0).round(4).tolist()


def score_intervals(group: list[Probed]) -> dict[str, dict]:
    """score -> interval over seeds, the values, and the means of its two parts."""
    found = {}
    for name in group[0].scores:
        values = [p.scores[name]["score"] for p in group]
        parts = {part: float(np.mean([p.scores[name][part] for p in group])) for part in ("right", "wrong")}
        found[name] = asdict(significance.interval(values)) | parts | {"values": values}
    return found


def solve_closed_forms(corpus: Corpus) -> dict[str, dict]:
    """Solution -> terms of the objective, the objective, and scores of features made as the solution says."""
    solved = {}
    for name, solution in equal_optima.solutions().items():
        parts = {}
        for seed, part in enumerate(("train", "test")):
            split = corpus.splits[part]
            parts[part] = equal_optima.make_features(solution, split.factors, split.label, seed)
        terms = equal_optima.term_values(solution)
        scores = {score: value["score"] for score, value in probe(parts, corpus).scores.items()}
        solved[name] = {"terms": terms, "objective": equal_optima.objective(terms), "scores": scores}
    return solved


def judge_factorisation(compared: dict[str, list[Probed]], ids: dict[str, list[str]]) -> dict[str, dict]:
    """What can be said, by rule.

    A score of FINE holds if its interval lies above 0 and above the untrained model's mean, it does not if the interval
    lies below ``MARGIN``, else it is open (None); the same, without the untrained model, for FINE minus another over
    the same seeds, score by score and for the mean of the scores. There is leakage if the interval of the R2 of the
    label's factors in the wrong branch lies above ``MARGIN``. The rules on the objective: ``equal_optima``.
    """
    found, fine = {}, compared["FINE"]
    for score in SCORES:
        before = float(np.mean(_values(compared["untrained"], (score,))))
        interval = significance.interval(_values(fine, (score,)))
        says = f"{score} of FINE, before training {before:.2f}"
        found[score] = _finding(interval, max(0.0, before), ids["FINE"], says)
    means = {"": (SCORES, "mean of the three scores")}
    for other, short in (("MISA-style", "misa"), ("none", "none")):
        for suffix, (chosen, what) in ({f"_{score}": ((score,), score) for score in SCORES} | means).items():
            difference, _ = significance.paired(_values(fine, chosen), _values(compared[other], chosen))
            runs, says = ids["FINE"] + ids[other], f"{what} of FINE minus {other}"
            found[f"fine_over_{short}{suffix}"] = _finding(difference, 0.0, runs, says)
    leaked = significance.interval(_values(fine, SCORES[:2], "wrong"))
    found["leakage"] = _finding(leaked, MARGIN, ids["FINE"], "R2 of the label's factors in FINE's wrong branch")
    return found


def _values(group: list[Probed], chosen: tuple[str, ...], part: str = "score") -> list[float]:
    """Of each seed, the mean of some scores, or of their parts."""
    return [float(np.mean([p.scores[score][part] for score in chosen])) for p in group]


def _finding(interval: Interval, above: float, runs: list[str], says: str) -> dict:
    mean, low, high = interval.mean, interval.low, interval.high
    holds, says = None, f"{says}: {mean:.2f}"
    if low is not None:
        says += f" [{low:.2f}, {high:.2f}]"
        if low > above or high < MARGIN:
            holds = bool(low > above)
    return {"value": mean, "low": low, "high": high, "holds": holds, "runs": runs, "says": says}
