"""InfoNCE and NCE-CLUB where the mutual information is known, with the optimal critic and with learned ones.

What is measured is a list of lines: one line for each setting (pairs, dimensions, true information, batch size,
critic, its training steps) and estimator, with the mean over batches. All information is in nats.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from sklearn.feature_selection import mutual_info_regression
from torch import Tensor
from tqdm.auto import tqdm

from finelib.mutual_information import CRITICS, info_nce, nce_club
from finelib.runs.code import code_hash
from finelib.runs.kept import kept
from finelib.runs.options import Options
from finelib.runs.records import digest
from finelib.study import known_answers
from finelib.study.known_answers import BINS, correlation_of, gaussian_jeffreys, gaussian_pairs
from finelib.study.seeding import seeded

ESTIMATORS = {"InfoNCE": info_nce, "NCE-CLUB": nce_club}
CRITIC_WIDTH = {"dot": 128, "concat": 48}
EVALUATED = 15  # batches on which a critic in training is measured
TOLERANCE = 4  # standard errors of the mean
NEAR = 0.15  # nats: a learned critic is not exact, and a bias of interest is ten times this

Draw = Callable[[], tuple[Float[Tensor, "P N dx"], Float[Tensor, "P N dy"], Bool[Tensor, "N N"] | None]]


@dataclass(frozen=True)
class Settings:
    """What is measured: dimensions, true values, batch sizes, batches of a mean, training steps of critics."""

    dimensions: tuple[int, ...] = (5, 20, 50, 100, 200)
    truths: tuple[float, ...] = (0.0, 0.5, 2.0, 4.0, 6.0, 8.0, 10.0)
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    batch: int = 64
    batches: int = 200
    learned: tuple[int, ...] = (5, 20)
    steps: int = 500
    rho_e: tuple[float, ...] = (0.0, 0.6, 0.9)
    samples: int = 3000  # of the k-nearest-neighbour referee


SETTINGS = {
    "smoke": Settings(dimensions=(5, 100), sizes=(16, 64), batches=30, learned=(5,), steps=120, samples=800),
    "demo": Settings(),
    "paper": Settings(batches=1000, steps=2000),
}


def with_optimal_critic(d: int, truths: tuple[float, ...], n: int, batches: int, seed: int = 0) -> list[dict]:
    """Both estimators on batches of n Gaussian pairs, scored by the optimal critic."""
    generator, rho = torch.Generator().manual_seed(seed), correlation_of(torch.tensor(truths), d)
    batch = (known_answers.gaussian_scores(*gaussian_pairs(rho, d, n, generator), rho) for _ in range(batches))
    found = [{name: estimate(scores) for name, estimate in ESTIMATORS.items()} for scores in batch]
    return [
        _gaussian_line(torch.stack([f[name][p] for f in found]), name, d, mi, n, critic="optimal", toy="Gaussian")
        for name in ESTIMATORS
        for p, mi in enumerate(truths)
    ]


def with_learned_critic(d: int, truths: tuple[float, ...], kind: str, cubic: bool, s: Settings) -> list[dict]:
    """Both estimators over the steps of a critic's training on Gaussian pairs, or on (x, y^3)."""
    generator, rho = torch.Generator().manual_seed(d), correlation_of(torch.tensor(truths), d)

    def draw():
        x, y = gaussian_pairs(rho, d, s.batch, generator)
        return x, y**3 if cubic else y, None

    toy = "cubic" if cubic else "Gaussian"
    return [
        _gaussian_line(values[p], name, d, mi, s.batch, critic=kind, toy=toy, steps=step)
        for step, found in train_critic(draw, kind, (d, d), len(truths), s.steps)
        for name, values in found.items()
        for p, mi in enumerate(truths)
    ]


def with_labels(same_label: bool, s: Settings, n: int = 64, kind: str = "dot") -> list[dict]:
    """Both estimators on [x1; Y], [x2; Y], negatives from the batch or of the same label."""
    generator, rho = torch.Generator().manual_seed(1), torch.tensor(s.rho_e)

    def draw():
        x, y, same = known_answers.conditional_pairs(rho, n, generator)
        return x, y, same if same_label else None

    toy = {"toy": "conditional", "critic": kind, "N": n, "d": 1, "negatives": "same label" if same_label else "batch"}
    return [
        toy | {"steps": step, "truth": -0.5 * math.log1p(-(r**2)), "estimator": name, "rho_e": r} | _summary(values[p])
        for step, found in train_critic(draw, kind, (1 + BINS, 1 + BINS), len(rho), s.steps)
        for name, values in found.items()
        for p, r in enumerate(s.rho_e)
    ]


def with_tables(s: Settings) -> list[dict]:
    """Both estimators on discrete pairs with the optimal critic."""
    lines = []
    for place, (rows, columns, strength) in enumerate([(3, 5, 0.5), (8, 8, 1.0), (10, 6, 2.0)]):
        table = known_answers.discrete_table(rows, columns, strength, place)
        mi, jeffreys = known_answers.discrete_information(table)
        scores = known_answers.discrete_scores(table, s.batch, s.batches, place)
        toy = {"toy": f"discrete {rows} x {columns}", "truth": mi, "N": s.batch, "critic": "optimal"}
        for name, expected in (("InfoNCE", mi), ("NCE-CLUB", jeffreys)):
            lines.append(toy | {"estimator": name, "expected": expected} | _summary(ESTIMATORS[name](scores)))
    return lines


def referee(s: Settings, repeats: int = 5) -> list[dict]:
    """scikit-learn's k-nearest-neighbour estimator where it is valid: one dimension, and sums over five independent."""
    lines = []
    for d, mi in ((1, 0.0), (1, 0.5), (1, 2.0), (5, 2.0), (5, 6.0)):
        rho, values = correlation_of(torch.tensor([mi]), d), []
        for seed in range(repeats):
            x, y = gaussian_pairs(rho, d, s.samples, torch.Generator().manual_seed(seed))
            pairs = zip(x[0].T.numpy(), y[0].T.numpy(), strict=True)
            values.append(sum(mutual_info_regression(a[:, None], b, random_state=seed)[0] for a, b in pairs))
        toy = {"toy": "Gaussian", "d": d, "truth": mi, "expected": mi, "N": s.samples, "critic": "none"}
        lines.append(toy | {"estimator": "k nearest neighbours"} | _summary(torch.tensor(values)))
    return lines


def train_critic(
    draw: Draw, kind: str, widths: tuple[int, int], stack: int, steps: int, seed: int = 0
) -> Iterator[tuple[int, dict[str, Float[Tensor, "P b"]]]]:
    """Train critics by InfoNCE on fresh batches; at some steps (``marks``) measure both estimators on new ones.

    ``draw`` gives x, y of P = ``stack`` problems, ``widths`` dx and dy wide, and the candidates, None for the batch.

    Yields:
        The step, and estimator -> one estimate for each problem and batch.
    """
    with seeded(seed):
        critic = CRITICS[kind](stack, *widths, CRITIC_WIDTH[kind], 2 if kind == "concat" else 1)
    optimiser, measured_at = torch.optim.Adam(critic.parameters(), lr=2e-3), marks(steps)
    for step in range(1, steps + 1):
        x, y, candidates = draw()
        optimiser.zero_grad()
        (-info_nce(critic(x, y), candidates, symmetric=True).sum()).backward()
        optimiser.step()
        if step in measured_at:
            yield step, _measure_critic(critic, draw)


def marks(steps: int) -> list[int]:
    """Steps at which critics are measured: doubling, and the last."""
    return sorted({steps >> k for k in range(7) if steps >> k >= 8})


@torch.no_grad()
def _measure_critic(critic: torch.nn.Module, draw: Draw) -> dict[str, Float[Tensor, "P b"]]:
    scored = [(critic(x, y), candidates) for x, y, candidates in (draw() for _ in range(EVALUATED))]
    return {name: torch.stack([estimate(*batch) for batch in scored], -1) for name, estimate in ESTIMATORS.items()}


def _gaussian_line(values: Float[Tensor, "b"], name: str, d: int, mi: float, n: int, **more) -> dict:
    expected = {"InfoNCE": mi, "NCE-CLUB": gaussian_jeffreys(mi, d)}[name]
    return {"d": d, "truth": mi, "N": n, "expected": expected, "estimator": name, **more} | _summary(values)


def _summary(values: Float[Tensor, "b"]) -> dict[str, float]:
    deviation = values.std().item()
    return {"mean": values.mean().item(), "sd": deviation, "se": deviation / math.sqrt(len(values))}


def measure_estimators(options: Options) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Every measured line, and the findings; kept in figures/estimators.json while settings and code stay the same."""
    settings = SETTINGS[options.preset]
    key = digest({"settings": asdict(settings), "code": code_hash("finelib.study.estimators")})
    content = kept(options.figures / "estimators.json", key, partial(_content, settings))
    return pd.DataFrame(content["lines"]), content["findings"]


def _content(s: Settings) -> dict:
    jobs = [partial(with_optimal_critic, d, s.truths, s.batch, s.batches) for d in s.dimensions]
    jobs += [partial(with_optimal_critic, 20, (2.0, 6.0), n, s.batches, seed=1) for n in s.sizes if n != s.batch]
    for d, kind, cubic in product(s.learned, CRITICS, (False, True)):
        if not cubic or d == s.learned[0]:  # the warped pairs in the smallest dimension alone
            jobs.append(partial(with_learned_critic, d, s.truths, kind, cubic, s))
    jobs += [partial(with_labels, same_label, s) for same_label in (False, True)]
    jobs += [partial(with_tables, s), partial(referee, s)]
    lines = pd.DataFrame([line for job in tqdm(jobs, desc="estimators", unit="setting") for line in job()])
    content = {"data": "planted", "settings": asdict(s), "findings": judge_estimators(lines)}
    return content | {"lines": json.loads(lines.to_json(orient="records"))}


def judge_estimators(lines: pd.DataFrame) -> dict[str, dict]:
    """name -> value (the setting that decides, nats), its interval, whether it holds, and a sentence.

    A bound holds if no setting crosses it by more than ``TOLERANCE`` standard errors; an estimator is unbiased if the
    truth is within ``NEAR`` nats or as many standard errors.
    """
    pairs, last = lines[lines.toy != "conditional"], lines.steps.max()
    lower = pairs[pairs.estimator == "InfoNCE"]
    club = pairs[(pairs.estimator == "NCE-CLUB") & (pairs.truth > 0)]
    found = {
        "infonce_lower_bound": _bound(lower, lower.truth, 1, "InfoNCE minus the truth, at most"),
        "infonce_below_log_n": _bound(lower, np.log(lower.N), 1, "InfoNCE minus log N, at most"),
    }
    for name, part, which in (
        ("club_optimal_is_bound", club[club.critic == "optimal"], "(optimal) minus the truth"),
        ("club_trained_is_bound", club[club.steps == last], "(trained critic) minus the truth"),
        ("club_learning_is_bound", club[club.steps > 0], "(critic in training) minus truth"),
    ):
        found[name] = _bound(part, part.truth, -1, f"NCE-CLUB {which}, at least")
    labelled = lines[(lines.steps == last) & (lines.toy == "conditional") & (lines.rho_e == 0)]
    for estimator, short in (("InfoNCE", "infonce"), ("NCE-CLUB", "club")):
        for negatives, name in (("batch", "in_batch"), ("same label", "same_bin")):
            line = labelled[(labelled.estimator == estimator) & (labelled.negatives == negatives)].iloc[0]
            bias, margin = line["mean"] - line.truth, max(NEAR, TOLERANCE * line.se)
            says = f"{estimator}, negatives of the {negatives}, where I(X1;X2|Y) = 0 and H(Y) = {math.log(BINS):.2f}"
            found[f"conditional_{short}_{name}_unbiased"] = _finding(bias, line.se, abs(bias) < margin, says)
    return found


def _bound(lines: pd.DataFrame, bound: pd.Series, sign: int, says: str) -> dict:
    """Of the setting that crosses the bound furthest, or comes closest to it."""
    excess = lines["mean"] - bound
    worst = (sign * excess - TOLERANCE * lines.se).idxmax()
    value, line = excess[worst], lines.loc[worst]
    where = f"truth {line.truth:.2f}, {line.critic} critic, N = {line.N:.0f}"
    where += "" if math.isnan(line.steps) else f", {line.steps:.0f} steps"
    return _finding(value, line.se, sign * value <= TOLERANCE * line.se + 1e-6, f"{says} ({where})")


def _finding(value: float, se: float, holds: bool, says: str) -> dict:
    value, low, high = float(value), float(value - 1.96 * se), float(value + 1.96 * se)
    says = f"{says}: {value:+.2f} nats [{low:+.2f}, {high:+.2f}]"
    return {"value": value, "low": low, "high": high, "holds": bool(holds), "says": says}
