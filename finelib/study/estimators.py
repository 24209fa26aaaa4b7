"""InfoNCE and NCE-CLUB where the mutual information is known, with the optimal critic and with learned ones.

Gaussian pairs (d independent dimensions of correlation rho): I = -(d/2) ln(1 - rho^2), and the optimal critic
log p(x, y) / p(x) p(y) makes NCE-CLUB the Jeffreys divergence d rho^2 / (1 - rho^2). Warping y to y^3 changes neither.
Conditional pairs: x_k = shift(Y) + e_k with Y uniform on ``BINS`` values, so that I(X1;X2|Y) is that of e1, e2 alone.
All information is in nats.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.feature_selection import mutual_info_regression
from torch import Tensor
from tqdm.auto import tqdm

from finelib.mutual_information import CRITICS, info_nce, nce_club
from finelib.runs.options import Options
from finelib.runs.records import write_atomically

BINS, SHIFT = 4, 3.0
CRITIC_WIDTH = {"dot": 128, "concat": 48}
EVALUATED = 15  # batches on which a critic in training is measured
TOLERANCE = 4  # standard errors of the mean
NEAR = 0.15  # nats: a learned critic is not exact, and a bias of interest is ten times this


@dataclass(frozen=True)
class Settings:
    """What notebook 12 measures: dimensions, true values, batch sizes, batches of a mean, training steps of critics."""

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


# ---------------------------------------------------------------------------------------------------- toys


def correlation_of(mi: Float[Tensor, "P"], d: int) -> Float[Tensor, "P"]:
    """rho of d-dimensional Gaussian pairs with this mutual information."""
    return (1 - torch.exp(-2 * mi / d)).sqrt()


def gaussian(
    rho: Float[Tensor, "P"], d: int, n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "P n d"], Float[Tensor, "P n d"]]:
    """n pairs for each of P correlations."""
    x, e = (torch.randn(len(rho), n, d, generator=generator) for _ in range(2))
    rho = rho[:, None, None]
    return x, rho * x + (1 - rho**2).sqrt() * e


def gaussian_scores(
    x: Float[Tensor, "P n d"], y: Float[Tensor, "P n d"], rho: Float[Tensor, "P"]
) -> Float[Tensor, "P n n"]:
    """The optimal critic log p(y_j | x_i) / p(y_j)."""
    rho = rho[:, None, None]
    rest = 1 - rho**2
    squares = rho**2 * (x.square().sum(-1)[:, :, None] + y.square().sum(-1)[:, None]) / 2
    return (rho * x @ y.transpose(1, 2) - squares) / rest - x.shape[-1] / 2 * rest.log()


def jeffreys(mi: float, d: int) -> float:
    """MI + KL(p(x) p(y) || p(x, y)) = d rho^2 / (1 - rho^2) of Gaussian pairs: what NCE-CLUB's optimum estimates."""
    return d * math.expm1(2 * mi / d)


def discrete_table(rows: int, columns: int, strength: float, seed: int) -> Float[np.ndarray, "r c"]:
    """A joint distribution of full support without symmetry."""
    logits = strength * np.random.default_rng(seed).standard_normal((rows, columns))
    table = np.exp(logits)
    return table / table.sum()


def discrete_information(table: Float[np.ndarray, "r c"]) -> tuple[float, float]:
    """Mutual information and Jeffreys divergence of a joint distribution, by enumeration."""
    product = table.sum(1, keepdims=True) * table.sum(0)
    ratio = np.log(table / product)
    return float((table * ratio).sum()), float(((table - product) * ratio).sum())


def discrete(table: Float[np.ndarray, "r c"], n: int, batches: int, seed: int) -> Float[Tensor, "b n n"]:
    """Optimal critic's scores of batches of pairs drawn from a joint distribution."""
    drawn = np.random.default_rng(seed).choice(table.size, (batches, n), p=table.ravel())
    x, y = np.divmod(drawn, table.shape[1])
    ratio = np.log(table / (table.sum(1, keepdims=True) * table.sum(0)))
    return torch.from_numpy(ratio[x[:, :, None], y[:, None]])


def conditional(
    rho_e: Float[Tensor, "P"], n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "P n v"], Float[Tensor, "P n v"], Tensor]:
    """[x1; Y], [x2; Y] with one dimension and the one-hot label each, and which pairs of utterances share a label."""
    label = torch.randint(BINS, (n,), generator=generator)
    e1, e2 = gaussian(rho_e, 1, n, generator)
    shift = SHIFT * (label - (BINS - 1) / 2)[None, :, None]
    code = F.one_hot(label, BINS).float().expand(len(rho_e), -1, -1)
    return torch.cat([e1 + shift, code], -1), torch.cat([e2 + shift, code], -1), label[:, None] == label


# ------------------------------------------------------------------------------------------------- measures


def _summary(values: Float[Tensor, "b"], **more) -> dict:
    return more | {
        "mean": values.mean().item(),
        "sd": values.std().item(),
        "se": values.std().item() / math.sqrt(len(values)),
    }


def _gaussian_line(d: int, mi: float, n: int, **more) -> dict:
    expected = {"InfoNCE": mi, "NCE-CLUB": jeffreys(mi, d)}[more["estimator"]]
    return {"d": d, "truth": mi, "N": n, "expected": expected, **more}


def with_optimal_critic(d: int, truths: tuple[float, ...], n: int, batches: int, seed: int = 0) -> list[dict]:
    """Both estimators on batches of Gaussian pairs, scored by the optimal critic."""
    generator, rho = torch.Generator().manual_seed(seed), correlation_of(torch.tensor(truths), d)
    scores = (gaussian_scores(*gaussian(rho, d, n, generator), rho) for _ in range(batches))
    values = torch.stack([torch.stack([info_nce(s), nce_club(s)]) for s in scores], -1)  # (2, P, batches)
    return [
        _summary(values[e, p], **_gaussian_line(d, mi, n, estimator=name, critic="optimal", toy="Gaussian"))
        for e, name in enumerate(("InfoNCE", "NCE-CLUB"))
        for p, mi in enumerate(truths)
    ]


def train(draw, kind: str, widths: tuple[int, int], stack: int, steps: int, marks: list[int], seed: int = 0):
    """Train critics by InfoNCE on fresh batches; at each mark (step, InfoNCE (P, b), NCE-CLUB (P, b)) of new batches.

    ``draw()`` gives x, y (P, N, width) and the candidates (N, N) or None.
    """
    torch.manual_seed(seed)
    critic = CRITICS[kind](stack, *widths, CRITIC_WIDTH[kind], 2 if kind == "concat" else 1)
    optimiser = torch.optim.Adam(critic.parameters(), lr=2e-3)
    for step in range(1, steps + 1):
        x, y, candidates = draw()
        optimiser.zero_grad()
        (-info_nce(critic(x, y), candidates, symmetric=True).sum()).backward()
        optimiser.step()
        if step in marks:
            with torch.no_grad():
                drawn = [draw() for _ in range(EVALUATED)]
                scored = [(critic(x, y), candidates) for x, y, candidates in drawn]
                yield step, *(torch.stack([f(*s) for s in scored], -1) for f in (info_nce, nce_club))


def with_learned_critic(d: int, truths: tuple[float, ...], kind: str, cubic: bool, s: Settings) -> list[dict]:
    """Both estimators over the steps of a critic's training on Gaussian pairs, or on (x, y^3)."""
    generator, rho = torch.Generator().manual_seed(d), correlation_of(torch.tensor(truths), d)

    def draw():
        x, y = gaussian(rho, d, s.batch, generator)
        return x, y**3 if cubic else y, None

    lines = []
    for step, *values in train(draw, kind, (d, d), len(truths), s.steps, marks(s.steps)):
        lines += [
            _summary(
                value[p],
                steps=step,
                critic=kind,
                toy="cubic" if cubic else "Gaussian",
                **_gaussian_line(d, mi, s.batch, estimator=name),
            )
            for name, value in zip(("InfoNCE", "NCE-CLUB"), values, strict=True)
            for p, mi in enumerate(truths)
        ]
    return lines


def with_labels(same_bin: bool, s: Settings, n: int = 64, kind: str = "dot") -> list[dict]:
    """Both estimators on [x1; Y], [x2; Y], negatives from the batch or of the same label."""
    generator, rho = torch.Generator().manual_seed(1), torch.tensor(s.rho_e)

    def draw():
        x, y, same = conditional(rho, n, generator)
        return x, y, same if same_bin else None

    truths = [-0.5 * math.log1p(-(r**2)) for r in s.rho_e]
    return [
        _summary(
            value[p],
            toy="conditional",
            critic=kind,
            steps=step,
            N=n,
            d=1,
            truth=truth,
            estimator=name,
            negatives="same label" if same_bin else "batch",
            rho_e=s.rho_e[p],
        )
        for step, *values in train(draw, kind, (1 + BINS, 1 + BINS), len(rho), s.steps, marks(s.steps))
        for name, value in zip(("InfoNCE", "NCE-CLUB"), values, strict=True)
        for p, truth in enumerate(truths)
    ]


def marks(steps: int) -> list[int]:
    """Steps at which critics are measured: doubling, and the last."""
    return sorted({steps >> k for k in range(7) if steps >> k >= 8})


def with_tables(s: Settings) -> list[dict]:
    """Both estimators on discrete pairs with the optimal critic."""
    lines = []
    for place, (rows, columns, strength) in enumerate([(3, 5, 0.5), (8, 8, 1.0), (10, 6, 2.0)]):
        table = discrete_table(rows, columns, strength, place)
        mi, both = discrete_information(table)
        scores = discrete(table, s.batch, s.batches, place)
        for name, value, expected in (("InfoNCE", info_nce(scores), mi), ("NCE-CLUB", nce_club(scores), both)):
            lines.append(
                _summary(
                    value,
                    toy=f"discrete {rows} x {columns}",
                    truth=mi,
                    expected=expected,
                    N=s.batch,
                    critic="optimal",
                    estimator=name,
                )
            )
    return lines


def referee(s: Settings, repeats: int = 5) -> list[dict]:
    """The k-nearest-neighbour estimator of scikit-learn where it is valid: pairs of one dimension, and sums over five
    independent ones."""
    lines = []
    for d, mi in ((1, 0.0), (1, 0.5), (1, 2.0), (5, 2.0), (5, 6.0)):
        values = []
        for seed in range(repeats):
            generator, rho = torch.Generator().manual_seed(seed), correlation_of(torch.tensor([mi]), d)
            x, y = (side[0].numpy() for side in gaussian(rho, d, s.samples, generator))
            pairs = zip(x.T, y.T, strict=True)
            values.append(sum(mutual_info_regression(a[:, None], b, random_state=seed)[0] for a, b in pairs))
        lines.append(
            _summary(
                torch.tensor(values),
                toy="Gaussian",
                d=d,
                truth=mi,
                expected=mi,
                N=s.samples,
                critic="none",
                estimator="k nearest neighbours",
            )
        )
    return lines


# -------------------------------------------------------------------------------------------------- results


def measure_estimators(options: Options) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Every measured line, and the findings; kept in figures/estimators.json and made again when settings change."""
    s, path = SETTINGS[options.preset], options.figures / "estimators.json"
    key = hashlib.sha256(repr(asdict(s)).encode() + Path(__file__).read_bytes()).hexdigest()
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("key") != key:
        lines = pd.DataFrame(_all_lines(s))
        kept = {
            "key": key,
            "data": "planted",
            "settings": asdict(s),
            "findings": findings(lines),
            "lines": json.loads(lines.to_json(orient="records")),
        }
        options.figures.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(kept, indent=1))
    return pd.DataFrame(kept["lines"]), kept["findings"]


def _all_lines(s: Settings) -> list[dict]:
    jobs = [lambda d=d: with_optimal_critic(d, s.truths, s.batch, s.batches) for d in s.dimensions]
    jobs += [lambda n=n: with_optimal_critic(20, (2.0, 6.0), n, s.batches, seed=1) for n in s.sizes if n != s.batch]
    jobs += [
        lambda d=d, kind=kind, cubic=cubic: with_learned_critic(d, s.truths, kind, cubic, s)
        for d in s.learned
        for kind in CRITICS
        for cubic in (False, True)
        if not cubic or d == s.learned[0]
    ]
    jobs += [lambda b=b: with_labels(b, s) for b in (False, True)]
    jobs += [lambda: with_tables(s), lambda: referee(s)]
    return [line for job in tqdm(jobs, desc="estimators", unit="setting") for line in job()]


def findings(lines: pd.DataFrame) -> dict[str, dict]:
    """name -> value (the setting that decides, nats), its interval, whether it holds, and a sentence.

    A bound holds if no setting crosses it by more than ``TOLERANCE`` standard errors; an estimator is unbiased if the
    truth is within ``NEAR`` nats or as many standard errors.
    """
    pairs = lines[lines.toy != "conditional"]
    low = pairs[pairs.estimator == "InfoNCE"]
    high = pairs[(pairs.estimator == "NCE-CLUB") & (pairs.truth > 0)]
    last = lines.steps == lines.steps.max()
    found = {
        "infonce_lower_bound": _bound(low, low["mean"] - low.truth, 1, "InfoNCE minus the truth, at most"),
        "infonce_below_log_n": _bound(low, low["mean"] - np.log(low.N), 1, "InfoNCE minus log N, at most"),
        "club_optimal_is_bound": _bound(
            h := high[high.critic == "optimal"], h["mean"] - h.truth, -1, "NCE-CLUB (optimal) minus the truth, at least"
        ),
        "club_trained_is_bound": _bound(
            h := high[last[high.index]], h["mean"] - h.truth, -1, "NCE-CLUB (trained critic) minus the truth, at least"
        ),
        "club_learning_is_bound": _bound(
            h := high[high.steps > 0], h["mean"] - h.truth, -1, "NCE-CLUB (critic in training) minus truth, at least"
        ),
    }
    labelled = lines[last & (lines.toy == "conditional") & (lines.rho_e == 0)]
    for estimator, short in (("InfoNCE", "infonce"), ("NCE-CLUB", "club")):
        for negatives, name in (("batch", "in_batch"), ("same label", "same_bin")):
            line = labelled[(labelled.estimator == estimator) & (labelled.negatives == negatives)].iloc[0]
            margin = max(NEAR, TOLERANCE * line.se)
            found[f"conditional_{short}_{name}_unbiased"] = _finding(
                line["mean"] - line.truth,
                line.se,
                abs(line["mean"] - line.truth) < margin,
                f"{estimator}, negatives of the {negatives}, where I(X1;X2|Y) = 0 and H(Y) = {math.log(BINS):.2f}",
            )
    return found


def _bound(lines: pd.DataFrame, excess: pd.Series, sign: int, says: str) -> dict:
    """Of the setting that crosses the bound furthest, or comes closest to it."""
    worst = (sign * excess - TOLERANCE * lines.se).idxmax()
    value, se = excess[worst], lines.se[worst]
    at = lines.loc[worst]
    where = f"truth {at.truth:.2f}, {at.critic} critic, N = {at.N:.0f}"
    where += "" if math.isnan(at.steps) else f", {at.steps:.0f} steps"
    return _finding(value, se, bool(sign * value <= TOLERANCE * se + 1e-6), f"{says} ({where})")


def _finding(value: float, se: float, holds: bool, says: str) -> dict:
    low, high = value - 1.96 * se, value + 1.96 * se
    return {
        "value": float(value),
        "low": float(low),
        "high": float(high),
        "holds": bool(holds),
        "says": f"{says}: {value:+.2f} nats [{low:+.2f}, {high:+.2f}]",
    }
