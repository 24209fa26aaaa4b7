"""Power and variance components against scipy, statsmodels and hand-worked cells; the tables made of them."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower, ttest_power

from finelib.paper import power
from finelib.paper.table import Row
from finelib.runs.options import Options


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_power_is_the_t_test_s_where_only_seeds_vary():
    variance = power.Components(seed=0.04, utterance=0.0, rest=0.0)
    for seeds in (3, 5, 10):
        expected = TTestPower().power(0.3 / 0.2, seeds, 0.05)
        assert power.power(0.3, variance, seeds, 1000) == pytest.approx(expected, abs=1e-6)
    needed = power.seeds_needed(0.3, variance, 1000)
    assert power.power(0.3, variance, needed, 1000) >= 0.8 > power.power(0.3, variance, needed - 1, 1000)


def test_power_where_only_utterances_vary_where_only_the_rest_does_and_where_nothing_does():
    for utterances in (3, 10, 60):
        expected = TTestPower().power(0.3 / 0.2, utterances, 0.05)
        found = power.power(0.3, power.Components(seed=0.0, utterance=0.04, rest=0.0), 7, utterances)
        assert found == pytest.approx(expected, abs=1e-6)
    # the rest alone: total = rest, Satterthwaite's degrees of freedom 1 / (1 / 2 + 1 / 2) = 1, twelve cells
    rest = power.Components(0.0, 0.0, 4.0)
    expected = ttest_power(1.5 / 2, 9, 0.05, df=1)
    assert power.power(1.5, rest, 3, 3) == pytest.approx(expected, abs=1e-6)
    nothing = power.Components(0.0, 0.0, 0.0)
    assert [power.power(gap, nothing, 3, 10) for gap in (0.0, 0.1, 1.0)] == [0, 1, 1]
    assert all(power.power(10.0**e, power.Components(1e-4, 0, 0), 3, 9) == pytest.approx(1) for e in range(0, 12))


def test_fewest_seeds_at_the_ends_of_what_is_tried(monkeypatch):
    for least, expected in ((2, 2), (200, 200), (201, None)):
        monkeypatch.setattr(power, "power", lambda gap, variance, s, n, least=least: 0.8 if s >= least else 0.79)
        assert power.seeds_needed(0.1, power.Components(0, 0, 0), 100) == expected


def test_no_number_of_seeds_makes_up_for_a_small_test_split():
    assert power.seeds_needed(0.003, power.Components(1e-6, 0.05, 0.1), 3634) is None
    assert power.seeds_needed(0.003, power.Components(1e-6, 0.05, 0.1), 363400) is not None


def test_components_by_hand():
    d = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])  # mean squares 13.5, 6.5 and 1.5, as above
    found = power.components(d)
    assert (found.seed, found.utterance, found.rest) == pytest.approx(((13.5 - 1.5) / 3, (6.5 - 1.5) / 2, 1.5))


def test_components_are_found_again(rng):
    d = 0.3 * rng.normal(size=(200, 1)) + 0.5 * rng.normal(size=(1, 300)) + 0.7 * rng.normal(size=(200, 300))
    found = power.components(d)
    assert (found.seed, found.utterance, found.rest) == pytest.approx((0.09, 0.25, 0.49), rel=0.2)


class Run:
    """A run whose predictions are right where told."""

    def __init__(self, right):
        self.right = right

    def predictions(self):
        label = np.tile([1.0, -1.0, 0.0], len(self.right) // 2)
        test = label.copy()
        test[label != 0] *= np.where(self.right, 1, -1)
        return {"test": test, "test_label": label}


def test_gaps_of_the_paper_with_the_variances_that_were_measured(rng, tmp_path, monkeypatch):
    right = {}

    def run_groups(groups, out, jobs, progress):
        right.update({name: rng.uniform(size=(len(specs), 200)) < 0.8 for name, specs in groups.items()})
        return {name: [Run(row) for row in rows] for name, rows in right.items()}

    monkeypatch.setattr(power.experiment, "run_groups", run_groups)
    monkeypatch.setattr(power, "MOST_SEEDS", 12)  # trying 200 takes long
    options = Options(preset="smoke", out=tmp_path)
    table = power.paper_gaps(options).set_index("row")
    assert list(table["printed gap (points)"]) == sorted(table["printed gap (points)"], reverse=True)
    line = table.loc["w/o FTRE + MISA"]  # 87.70 - 86.98
    assert (line["printed gap (points)"], line["in samples"]) == (0.72, 26) and len(table) == 17
    found = [power.components(x * 1.0 - right["FINE"]) for name, x in right.items() if name != "FINE"]
    typical = power.Components(
        *(np.median([getattr(c, part) for c in found]) for part in ("seed", "utterance", "rest"))
    )
    assert line["power, 5 seeds"] == round(power.power(0.0072, typical, 5, 3634), 2)
    needed = power.seeds_needed(0.0072, typical, 3634)
    assert line["seeds for 80 %"] == ("more than 12" if needed is None else str(needed))


def test_order_of_subsets_by_hand():
    def row(name, oracle, low, high):
        corr = {"mean": (low + high) / 2, "sd": 0.1, "low": low, "high": high, "n": 3}
        return Row(name, "system", "planted", "", "", "", None, {"corr": corr}, extra={"oracle Corr": oracle})

    rows = [row("a", "0.3", 0.1, 0.2), row("b", "0.5", 0.3, 0.4), row("c", "0.8", 0.15, 0.25)]
    found = power.order_of_subsets(rows).set_index(["better", "worse"])["verdict"]
    assert found.to_dict() == {("b", "a"): "right", ("c", "a"): "open", ("c", "b"): "wrong"}
