"""The audit's arithmetic against cells worked by hand, other libraries and simulation."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from finelib.paper import audit
from finelib.runs.options import Options
from finelib.views.audit import alarm_rates, write_audit


@pytest.mark.parametrize(
    ("text", "n", "k"),
    [
        ("87.70", 3634, 3187),  # 3187/3634 = 87.6995
        ("84.40", 3634, 3067),  # 84.3974
        ("82.28", 457, 376),  # 82.2757
        ("41.79", 457, 191),  # 41.7943
        ("50.30", 4659, None),  # 2343: 50.2898, 2344: 50.3112
        ("86.95", 656, None),  # 570: 86.8902, 571: 87.0427
        ("48.50", 686, None),  # 332: 48.3965, 333: 48.5423
        ("74.95", 994, 745),  # 74.9497
        ("74.95", 3290, 2466),  # 74.9544
        ("12.5", 8, 1),
        ("12.4", 8, None),
        ("100.0", 8, 8),
        ("0.00", 8, 0),
        ("33.3", 3, 1),
        ("33.4", 3, None),
        ("12", 8, 1),
        ("13", 8, 1),
        ("14", 8, None),  # 12.5 rounds either way
    ],
)
def test_lattice_by_hand(text, n, k):
    assert audit.lattice_count(text, n) == k


@pytest.mark.parametrize(("decimals", "n"), [(2, 457), (2, 3634), (1, 686), (0, 7), (1, 4659)])
def test_chance_by_enumeration(decimals, n):
    """Every percentage with so many decimals, compared with every k as fractions of whole numbers."""
    scale = 100 * 10**decimals
    reached = {v for k in range(n + 1) for v in (k * scale // n, k * scale // n + 1) if 2 * abs(v * n - k * scale) <= n}
    assert audit.chance(decimals, n) == pytest.approx(len(reached & set(range(scale + 1))) / (scale + 1))


def test_honest_single_runs_never_alarm_and_others_do():
    rates = audit.false_alarms(500, seed=3).set_index(["n", "what"])
    assert (rates.xs("one run", level="what").off == 0).all()
    for n in (457, 3634):
        wrong = rates.loc[n, "digits at random"]
        assert wrong.low - 0.02 <= 1 - audit.chance(2, n) <= wrong.high + 0.02
        assert rates.loc[n, "3 utterances fewer"].low > 0.5 and rates.loc[n, "mean of 3 runs"].low > 0.5


def test_table_of_cells():
    cells = audit.lattice()
    found = cells[cells.table == 6].groupby("metric").verdict.value_counts()
    assert found["ACC-2"].to_dict() == {audit.ON: 18}
    assert found["ACC-7"].to_dict() == {audit.ON: 17, audit.OFF: 1}
    quoted = cells[(cells.table == 2) & (cells.row == "TFN")]
    assert set(quoted.verdict) == {audit.SILENT}, "one decimal of thousands of utterances cannot tell"
    line = audit.lattice_summary(cells).set_index(["table", "metric"]).loc[(6, "ACC-2")]
    assert line["p of as many by chance"] == pytest.approx(audit.chance(2, 3634) ** 18)


def test_standard_errors_by_hand():
    assert audit.standard_error(0.8, 400) == pytest.approx(0.02)
    least, most = audit.gap_errors(0.9, 0.8, 100)
    assert least == pytest.approx(math.sqrt(0.1 - 0.01) / 10)  # 10 utterances that only one gets right, none the other
    assert most == pytest.approx(math.sqrt(0.09 + 0.16) / 10)
    assert audit.middle_error(0.85, 0.85, 100) == pytest.approx(math.sqrt(0.1) / 10)
    assert audit.middle_error(0.9, 0.6, 100) == pytest.approx(math.sqrt(0.3 - 0.09) / 10)  # 90 % is not possible


def test_gap_error_is_that_of_paired_answers():
    """Simulated utterances of two methods that disagree on a tenth: spread of the difference of their accuracies."""
    rng, n, p, q = np.random.default_rng(0), 500, 0.85, 0.81
    table = [q - 0.03, 0.07, 0.03, 1 - q - 0.07]  # both right, only the first, only the second, none
    draws = rng.multinomial(n, table, 20000)
    assert np.std((draws[:, 1] - draws[:, 2]) / n) == pytest.approx(audit.middle_error(p, q, n), rel=0.03)
    table = np.outer([p, 1 - p], [q, 1 - q]).ravel()
    draws = rng.multinomial(n, table, 20000)
    assert np.std((draws[:, 1] - draws[:, 2]) / n) == pytest.approx(audit.gap_errors(p, q, n)[1], rel=0.03)


def test_power_is_that_of_mcnemar():
    rng, n, gap = np.random.default_rng(1), 3634, 0.015
    draws = rng.multinomial(n, [0.8, 0.05 + gap / 2, 0.05 - gap / 2, 0.1], 1500)
    p = [mcnemar([[0, b], [c, 0]], exact=False, correction=False).pvalue for _, b, c, _ in draws]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(audit.power(gap, audit.middle_error(0.865, 0.85, n)), abs=0.04)
    assert audit.power(0.0, 0.01) == pytest.approx(0.05)
    error = audit.gaps().query("table == 6").iloc[0]["s.e. middle"] / 100
    found = audit.gaps().query("table == 6").iloc[0]["found with 80 %"] / 100
    assert audit.power(found, error) == pytest.approx(0.8, abs=1e-4)


def test_gaps_by_hand():
    line = audit.gaps().set_index(["table", "row", "metric"]).loc[(6, "w/o FTRE + MISA", "ACC-2")]
    assert line.gap == pytest.approx(0.72) and line.utterances == pytest.approx(0.0072 * 3634)
    assert line["in s.e."] == pytest.approx(0.0072 / math.sqrt((0.1 - 0.0072**2) / 3634))
    assert line.power == pytest.approx(stats.norm.cdf(line["in s.e."] - 1.95996), abs=1e-3)


def test_files(tmp_path):
    options = Options("smoke", out=tmp_path)
    assert alarm_rates(write_audit(options)["false_alarms"]).axes
    content = json.loads((options.figures / "audit.json").read_text())
    assert set(content) == {"cells", "summary", "false_alarms", "gaps"} and len(content["false_alarms"]) == 35
    assert (options.figures / "audit.png").stat().st_size > 20_000 and (options.figures / "audit.pdf").exists()
