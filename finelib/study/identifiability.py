"""Does the factorisation find the factors? Probes on planted data, for FINE and for what stands in its place.

Three scores, each the R2 of probes in the right place minus that in the wrong one (``factors.factor_scores``): 1 for a
perfect factorisation, 0 for features that know nothing. Intervals are Student's over seeds; one seed has none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from tqdm.auto import tqdm

from finelib import models, training
from finelib.config import RunSpec
from finelib.data.corpora import CORPORA
from finelib.data.features import Corpus, Frames, Split
from finelib.data.planted import FACTORS, SEEN
from finelib.paper import ablations, significance
from finelib.paper.significance import Interval
from finelib.runs import experiment, presets
from finelib.runs.options import Options
from finelib.runs.records import write_atomically
from finelib.study import equal_optima, factors
from finelib.study.representations import Representations, features_of

SCORES = ("shared_in_str", "unique_in_utr", "noise_in_neither")
COMPARED = {"FINE": "FINE", "MISA-style": "w/o FTRE + MISA", "none": "w/o FTRE"}
BETA, BATCH, SWEEP_SEEDS = (0.0, 0.1, 2.0), (32, 128), 2
MARGIN = 0.1  # of a score: less is no factorisation
BLOCK, SIZES = 6, {"smoke": (200, 60, 200), "demo": (800, 200, 1000), "paper": (4000, 500, 2000)}  # FactorCL's design


# ---------------------------------------------------------------------------------------------------- runs


def rows(options: Options) -> dict[str, list[RunSpec]]:
    """row -> its runs: Table 6's own planted ones, and FINE with other beta_mi and batch sizes.

    FINE, MISA and none have every seed; the other printed rows of Table 6 the first one, to be cheap.
    """
    block = ablations.blocks(6, replace(options, source="planted"))[0]
    every = block.specs(options.seed_list)
    printed = [v.name for v in ablations.COMPONENT_ROWS if v.kind == ablations.PRINTED]
    found = {name: every[name] for name in COMPARED.values()}
    found |= {name: every[name][:1] for name in printed if name not in found}
    found["concat critics"] = every["concat critics"][:SWEEP_SEEDS]
    fine = every["FINE"][:SWEEP_SEEDS]
    for beta in BETA:
        name = f"beta_mi = {beta:g}"
        found[name] = [
            replace(s, name=f"FINE, {name}", model_config=replace(s.model_config, beta_mi=beta)) for s in fine
        ]
    for size in BATCH:
        name = f"batch of {size}"
        found[name] = [replace(s, name=f"FINE, {name}", train=replace(s.train, batch_size=size)) for s in fine]
    return found


def specs(options: Options) -> list[RunSpec]:
    """Every run that ``build`` needs."""
    return [spec for group in rows(options).values() for spec in group]


# -------------------------------------------------------------------------------------------------- probes


@dataclass(frozen=True)
class Probed:
    """One model's probe matrices (G, F) and scores: score -> {"right", "wrong", "score"}; those of the MLP."""

    r2: Float[np.ndarray, "G F"]
    scores: dict[str, dict[str, float]]
    mlp: Probed | None = None


def probed(
    parts: dict[str, Representations], corpus: Corpus, names: tuple[str, ...] = FACTORS, mlp: bool = False
) -> Probed:
    """Probes fitted on the features of the training split, scored on the test split."""
    known, truth = ({f: corpus.splits[part].factors[f] for f in names} for part in ("train", "test"))
    given, groups = (parts["train"], known, parts["test"], truth), parts["train"].groups
    other = _rated(groups, factors.mlp_r2(*given), names) if mlp else None
    return replace(_rated(groups, factors.factor_r2(*given), names), mlp=other)


def _rated(groups: tuple[tuple[str, str], ...], r2: Float[np.ndarray, "G F"], names: tuple[str, ...]) -> Probed:
    found = factors.factor_scores(groups, r2.clip(min=0), list(names), {m: factors.roles(m) for m in SEEN})
    return Probed(r2, {s: found[s] | {"score": found[s]["right"] - found[s]["wrong"]} for s in SCORES if s in found})


def of_run(record, spec: RunSpec, mlp: bool = False, trained: bool = True) -> Probed:
    """A run's model, or the same before training."""
    corpus = experiment.load_corpus(spec.data)
    if trained:
        model = experiment.load_model(record, spec)
    else:
        torch.manual_seed(spec.seed)
        model = models.build(spec.model_config, corpus).eval()
    return probed(_parts(model, corpus), corpus, mlp=mlp)


def _parts(model: nn.Module, corpus: Corpus) -> dict[str, Representations]:
    return {part: features_of(model, corpus.splits[part], one_for_both=True) for part in ("train", "test")}


def ends_of_the_scale(corpus: Corpus, seed: int) -> dict[str, Probed]:
    """The scores' 1 and 0: features built by hand from the factors, and features that know nothing."""
    role, rng = {m: factors.roles(m) for m in SEEN}, np.random.default_rng(seed)
    found = {"perfect": {}, "chance": {}}
    for part in ("train", "test"):
        split = corpus.splits[part]
        values = np.zeros((len(equal_optima.GROUPS), len(split), 4), dtype=np.float32)
        for g, (m, kind) in enumerate(equal_optima.GROUPS):
            for j, f in enumerate(role[m]["shared" if kind == "STR" else "own"]):
                values[g, :, j] = split.factors[f]
        found["perfect"][part] = Representations(equal_optima.GROUPS, values, split.label)
        noise = rng.standard_normal((len(equal_optima.GROUPS), len(split), 16)).astype(np.float32)
        found["chance"][part] = Representations(equal_optima.GROUPS, noise, split.label)
    return {name: probed(parts, corpus) for name, parts in found.items()}


# --------------------------------------------------------------------------------------- FactorCL's design


def factorcl(sizes: tuple[int, int, int], seed: int = 0) -> Corpus:
    """FactorCL's synthetic design (Liang et al. 2023) for three modalities, as a corpus with one frame each.

    Every non-empty subset of modalities has a block of ``BLOCK`` entries from N(0, 1/2). A modality is the blocks of
    the subsets it belongs to, mixed to 100 dimensions by a matrix of uniform entries; the label is 1 where the mean of
    the first half of all blocks is not negative, else 0. The first entry of a block stands for the block, and the last
    entry of the block of all three for what is irrelevant and shared ("r"), that of a modality's own for what is
    irrelevant and its own ("rt", "ra", "rv").
    """
    rng = np.random.default_rng([7, seed])
    names = ["".join(s).lower() for k in (1, 2, 3) for s in combinations("TAV", k)]
    mix = {m: rng.uniform(0, 1, (4 * BLOCK, 100)) for m in "TAV"}
    parts = {}
    for part, size in zip(("train", "valid", "test"), sizes, strict=True):
        block = {name: rng.normal(0, np.sqrt(0.5), (size, BLOCK)) for name in names}
        seen = {m: np.concatenate([block[n] for n in names if m.lower() in n], 1) for m in "TAV"}
        frames = {m: Frames.from_lengths((seen[m] @ mix[m]).astype(np.float32), np.ones(size, np.int64)) for m in "TAV"}
        label = (np.mean([block[n][:, : BLOCK // 2] for n in names], (0, 2)) >= 0).astype(np.float32)
        known = {("s" if n == "tav" else n): block[n][:, 0] for n in names}
        known |= {"r": block["tav"][:, -1]} | {f"r{m}": block[m][:, -1] for m in "tav"}
        ids = [f"factorcl_{part}_{i}" for i in range(size)]
        parts[part] = Split(frames, label, ids, [""] * size, None, {f: x.astype(np.float32) for f, x in known.items()})
    info = replace(CORPORA["ur_funny"], sizes=sizes, widths=(100,) * 3, max_frames=(1,) * 3)
    digest = hashlib.sha256(b"".join(s.label.tobytes() for s in parts.values())).hexdigest()
    return Corpus(info, "planted", parts, digest, "planted")


def on_factorcl(options: Options) -> dict[str, list[Probed]]:
    """FINE, MISA-style and none trained on FactorCL's design: a few seconds each, so no records are kept."""
    corpus, train = factorcl(SIZES[options.preset]), presets.SMALL_TRAIN[options.preset]
    changes = {v.name: v.change for v in ablations.COMPONENT_ROWS}
    found: dict[str, list[Probed]] = {}
    for name, row in COMPARED.items():
        for seed in options.seed_list[:SWEEP_SEEDS]:
            torch.manual_seed(seed)
            model = models.build(replace(presets.SMALL, **changes[row]), corpus)
            training.fit(model, corpus, train, seed)
            found.setdefault(name, []).append(probed(_parts(model.eval(), corpus), corpus))
    return found


# -------------------------------------------------------------------------------------------------- results


def measure_identifiability(options: Options) -> dict:
    """Train what is missing, probe, and write figures/identifiability.json below ``options.out``; its content."""
    wanted = rows(options)
    records = iter(experiment.run(specs(options), options.out, options.jobs))
    runs = {name: [(spec, next(records)) for spec in group] for name, group in wanted.items()}
    path = options.figures / "identifiability.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    sources = ("identifiability", "factors", "solutions")
    code = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in sources)
    ids = [record.id for group in runs.values() for _, record in group]
    key = hashlib.sha256(code + " ".join(ids).encode()).hexdigest()
    if kept.get("key") != key:
        kept = {"key": key, "data": "planted"} | _content(runs, options)
        options.figures.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(kept, indent=1))
    return kept


def _content(runs: dict[str, list], options: Options) -> dict:
    corpus = experiment.load_corpus(runs["FINE"][0][0].data)
    found = {
        name: [of_run(record, spec, mlp=name in COMPARED.values()) for spec, record in group]
        for name, group in tqdm(runs.items(), desc="probing", unit="row")
    }
    named = {label: found[row] for label, row in COMPARED.items()}
    named["untrained"] = [of_run(record, spec, mlp=True, trained=False) for spec, record in runs["FINE"]]
    ends = [ends_of_the_scale(corpus, seed) for seed in options.seed_list]
    named |= {end: [e[end] for e in ends] for end in ("perfect", "chance")}
    ids = {label: [record.id for _, record in runs[row]] for label, row in COMPARED.items()}
    two = _two_solutions(corpus)
    by_mlp = {name: [p.mlp for p in group] for name, group in named.items() if group[0].mlp}
    content = {
        "names": list(FACTORS),
        "groups": [" ".join(g) for g in equal_optima.GROUPS],
        "compared": {name: scored(group) for name, group in named.items()},
        "compared_mlp": {name: scored(group) for name, group in by_mlp.items()},
        "rows": {name: scored(group) for name, group in found.items()},
        "factorcl": {name: scored(group) for name, group in on_factorcl(options).items()},
        "leakage": {name: _mean_r2(group) for name, group in named.items()},
        "leakage_mlp": {name: _mean_r2(group) for name, group in by_mlp.items()},
        "solutions": two,
    }
    return content | {"findings": findings(named, ids, two)}


def _mean_r2(group: list[Probed]) -> list[list[float]]:
    return np.mean([p.r2 for p in group], 0).round(4).tolist()


def scored(group: list[Probed]) -> dict[str, dict]:
    """score -> interval over seeds, the values, and the means of its two parts."""
    found = {}
    for name in group[0].scores:
        values = [p.scores[name]["score"] for p in group]
        parts = {part: float(np.mean([p.scores[name][part] for p in group])) for part in ("right", "wrong")}
        found[name] = asdict(significance.interval(values)) | parts | {"values": values}
    return found


def _two_solutions(corpus: Corpus) -> dict[str, dict]:
    """name -> terms of the objective, and scores of features made as the solution says."""
    found = {}
    for name, solution in equal_optima.solutions().items():
        parts = {
            part: equal_optima.features(solution, corpus.splits[part].factors, corpus.splits[part].label, seed)
            for seed, part in enumerate(("train", "test"))
        }
        scores = probed(parts, corpus).scores
        terms = equal_optima.terms(solution)
        found[name] = {
            "terms": terms,
            "objective": equal_optima.objective(terms),
            "scores": {s: scores[s]["score"] for s in scores},
        }
    return found


def findings(named: dict[str, list[Probed]], ids: dict[str, list[str]], two: dict[str, dict]) -> dict[str, dict]:
    """What can be said, by rule.

    A score of FINE holds if its interval lies above 0 and above the untrained model's mean, it does not if the interval
    lies below ``MARGIN``, else it is open (None); the same, without the untrained model, for FINE minus another over
    the same seeds, score by score and for the mean of the scores. There is leakage if the interval of the R2 of the
    label's factors in the wrong branch lies above ``MARGIN``. The rules on the objective: ``solutions.findings``.
    """
    found, fine = {}, named["FINE"]
    for score in SCORES:
        blank = float(np.mean(_values(named["untrained"], (score,))))
        found[score] = _finding(
            significance.interval(_values(fine, (score,))),
            max(0.0, blank),
            ids["FINE"],
            f"{score} of FINE, before training {blank:.2f}",
        )
    for other, short in (("MISA-style", "misa"), ("none", "none")):
        for which in (*((score,) for score in SCORES), SCORES):
            name, said = (f"_{which[0]}", which[0]) if len(which) == 1 else ("", "mean of the three scores")
            difference = significance.paired(_values(fine, which), _values(named[other], which))[0]
            found[f"fine_over_{short}{name}"] = _finding(
                difference, 0.0, ids["FINE"] + ids[other], f"{said} of FINE minus {other}"
            )
    leaked = significance.interval(_values(fine, SCORES[:2], "wrong"))
    found["leakage"] = _finding(leaked, MARGIN, ids["FINE"], "R2 of the label's factors in FINE's wrong branch")
    return found | equal_optima.findings(two, MARGIN)


def _values(group: list[Probed], which: tuple[str, ...], part: str = "score") -> list[float]:
    """Of each seed, the mean of some scores, or of their parts."""
    return [float(np.mean([p.scores[score][part] for score in which])) for p in group]


def _finding(interval: Interval, above: float, runs: list[str], says: str) -> dict:
    low, high = interval.low, interval.high
    holds = None if low is None else True if low > above else False if high < MARGIN else None
    spread = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return {
        "value": interval.mean,
        "low": low,
        "high": high,
        "holds": holds,
        "runs": runs,
        "says": f"{says}: {interval.mean:.2f}{spread}",
    }
