"""Wild values: found at every size, set to the edge and counted; ordinary, heavy-tailed and rare features stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_files import dump, mmsa_content, read_here

from finelib.data import mmsa, outliers, sources
from finelib.data.corpora import CORPORA
from finelib.data.features import SPLITS, Frames, Split
from finelib.data.moments import far_out, moments, usual_range

MOSI = CORPORA["mosi"]
SIZES = [10.0**k for k in (2, 3, 6, 12, 18, 25, 30, 37, 38)]
LARGEST = float(np.finfo(np.float32).max)


def splits_of(**values) -> dict[str, Split]:
    made = {}
    for s, v in values.items():
        v = np.asarray(v, dtype=np.float32)
        frames = {"A": Frames.from_lengths(v[:, None] if v.ndim == 1 else v, np.array([len(v)]))}
        made[s] = Split(frames, np.zeros(1, np.float32), [s], [""])
    return made


def clipped(splits) -> dict[str, int]:
    notes = {}
    outliers.clip(splits, notes)
    return {s: notes[s]["A"]["clipped"] for s in splits}


def ordinary(n=1000, seed=0):
    return np.random.default_rng(seed).normal(0.3, 1, n).astype(np.float32)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [*SIZES, LARGEST])
@pytest.mark.parametrize("s", SPLITS)
def test_a_wild_value_of_any_size_in_any_split_is_set_to_one_span_outside(s, size, sign):
    splits = splits_of(**{name: ordinary(seed=i) for i, name in enumerate(SPLITS)})
    column = splits[s].frames["A"].values
    before = column.copy()
    column[17] = sign * size
    low, high = np.quantile(splits["train"].frames["A"].values.astype(np.float64), [0.01, 0.99])
    assert clipped(splits) == {name: int(name == s) for name in SPLITS}
    edge = high + (high - low) if sign > 0 else low - (high - low)
    assert column[17] == pytest.approx(edge, rel=0.02)  # NumPy's quantiles lie between two values, these are values
    before[17] = column[17]
    np.testing.assert_array_equal(column, before)


def test_what_is_usual_is_learned_from_the_training_split_alone():
    splits = splits_of(train=ordinary(), test=ordinary() * 1e6)
    assert clipped(splits)["test"] > 900
    assert clipped(splits_of(train=ordinary() * 1e6, test=ordinary())) == {"train": 0, "test": 0}


def test_other_columns_zeros_and_token_ids_stay():
    values = np.stack([ordinary(), ordinary(seed=1) + 500], 1)
    values[5, 0], values[7:10, 1] = 1e20, 0  # three frames in which nothing was measured
    splits, expected = splits_of(train=values), values.copy()
    assert clipped(splits) == {"train": 1}
    expected[5, 0] = splits["train"].frames["A"].values[5, 0]
    np.testing.assert_array_equal(splits["train"].frames["A"].values, expected)
    ids = Frames.from_lengths(np.array([1, 2, 10**9]), np.array([3]))
    notes = {}
    outliers.clip({"train": Split({"T": ids}, np.zeros(1), ["a"], [""])}, notes)
    assert notes == {} and ids.values.tolist() == [1, 2, 10**9]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_heavy_tails_are_hardly_touched(sigma):
    values = np.random.default_rng(0).lognormal(0, sigma, 200_000).astype(np.float32)
    splits = splits_of(train=values.copy())
    assert clipped(splits)["train"] <= 1e-4 * len(values)
    if sigma <= 1:
        sd = moments(splits_of(train=values)["train"].frames["A"].values)[1]
        assert sd[0] == np.float32(values.astype(np.float64).std())


@pytest.mark.parametrize("value", [0.0, 7.0, -3e5])
def test_a_constant_column_stays_whatever_other_splits_hold(value):
    splits = splits_of(train=np.full(500, value), test=[value, 1e30, -1.0])
    assert clipped(splits) == {"train": 0, "test": 0}
    assert moments(splits["train"].frames["A"].values)[1].tolist() == [1.0]


@pytest.mark.parametrize("ones", [1, 3, 30, 300])
@pytest.mark.parametrize("height", [1.0, 1e-4, 40.0])
def test_a_rare_indicator_stays_and_what_is_wild_beside_it_goes(ones, height):
    values = np.zeros(20_000)
    values[:: len(values) // ones][:ones] = height
    splits = splits_of(train=values.copy(), test=np.array([0, height, 0]))
    assert clipped(splits) == {"train": 0, "test": 0}
    mean, sd = moments(splits["train"].frames["A"].values)
    assert mean[0] == pytest.approx(values.mean(), rel=1e-5) and sd[0] == pytest.approx(values.std(), rel=1e-5)
    splits = splits_of(train=values, test=np.array([0, 1e30, -1e6]))
    assert clipped(splits) == {"train": 0, "test": 2}
    zero, above, below = splits["test"].frames["A"].values[:, 0] / height
    assert zero == 0 and 1.9 < above < 3.1 and -3.1 < below < -0.9


def test_a_rare_feature_keeps_its_spread_beside_a_wild_value():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(50_000) < 0.008, rng.normal(5, 1, 50_000), 0)
    kept = values.astype(np.float32)
    values[[7, 9]] = 1e30, -1e9
    splits = splits_of(train=values)
    assert clipped(splits) == {"train": 2}
    assert moments(splits["train"].frames["A"].values)[1][0] == pytest.approx(kept.std(), rel=0.1)


def test_the_bounds_by_hand():
    """0 to 100: usual are 1 to 99, a span of 98; wild is what lies more than 20 spans outside."""
    test = [2059, 2060, 99, -1959, -1960]
    splits = splits_of(train=np.arange(101), test=test)
    assert clipped(splits) == {"train": 0, "test": 2}
    assert splits["test"].frames["A"].values[:, 0].tolist() == [2059, 99 + 98, 99, -1959, 1 - 98]


def test_the_usual_range_by_hand():
    for n in range(20, 400):
        inner = np.quantile(np.arange(n), 0.01, method="higher"), np.quantile(np.arange(n), 0.99, method="lower")
        assert usual_range(np.arange(float(n))) == inner, n
    column = np.full(201, 5.0)  # of the values that differ, 90 % (three of four) lie within 3
    column[:4] = 4, 3, 8, 9
    assert usual_range(column) == (2, 8)
    counted = np.repeat(np.arange(100.0), 10)
    for wild in ((-1e6, 1e6), (-1e6, -1e6), (1e6, 1e6)):  # 1 to 98 is usual, or a step beside that; a span about 97
        column = np.concatenate([counted, wild]).astype(np.float32)
        low, high = usual_range(column)
        edges = [low - (high - low) if value < 0 else high + (high - low) for value in wild]
        assert 0 <= low <= 1 and 98 <= high <= 99
        expected = np.concatenate([counted, edges])
        mean, sd = moments(column[:, None])
        np.testing.assert_allclose([mean[0], sd[0]], [expected.mean(), expected.std()], rtol=1e-6)
    mean, sd = moments(np.zeros((0, 3), np.float32))
    assert mean.tolist() == [0, 0, 0] and sd.tolist() == [1, 1, 1] and mean.dtype == sd.dtype == np.float32


def test_seven_standard_deviations_by_hand():
    mean, sd = np.array([0.0, 500.0, -500.0]), np.array([1.0, 2.0, 1.0])
    assert far_out(mean - 7 * sd, mean + 7 * sd, mean, sd).tolist() == []
    for j in range(3):
        further = 7 * sd + (np.arange(3) == j)
        assert far_out(mean - 7 * sd, mean + further, mean, sd).tolist() == [j]
        assert far_out(mean - further, mean + 7 * sd, mean, sd).tolist() == [j]


def test_few_values_tell_nothing():
    assert clipped(splits_of(train=[1, 2, 3, 1e30])) == {"train": 0}
    assert usual_range(np.arange(19.0)) is None and usual_range(np.arange(20.0)) == (1, 18)


@pytest.mark.parametrize("size", [10, 30, 60, 90])
def test_values_too_small_to_be_clipped_do_not_ruin_the_standard_deviation_either(size):
    values = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    values[:200] = size
    splits = splits_of(train=values)
    assert clipped(splits) == {"train": 0}
    assert 0.95 < moments(splits["train"].frames["A"].values)[1][0] < 2.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    n=st.integers(200, 3000),
    wild=st.lists(st.tuples(st.floats(2, 38), st.sampled_from([1, -1])), min_size=1, max_size=15),
    kind=st.sampled_from(["normal", "uniform", "two values", "lognormal"]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_up_to_half_a_percent_of_wild_values_leave_a_standard_deviation_near_one(seed, n, wild, kind, scale):
    rng = np.random.default_rng(seed)
    draw = {"normal": rng.standard_normal, "uniform": rng.random, "lognormal": lambda n: rng.lognormal(0, 0.7, n)}
    values = scale * draw.get(kind, lambda n: rng.integers(0, 2, n))(n)
    wild = wild[: max(1, n // 200)]
    rows = rng.choice(n, len(wild), replace=False)
    good = np.setdiff1d(np.arange(n), rows)
    values[rows] = [sign * min(scale * 10**power, 3e38) for power, sign in wild]
    splits = splits_of(train=values)
    clipped(splits)
    frames = splits["train"].frames["A"]
    mean, sd = moments(frames.values)
    assert 0.5 <= ((frames.values[good, 0] - mean[0]) / sd[0]).std() <= 2


def test_planted_data_have_the_plain_moments():
    for frames in sources.load("mosi", scale=0.05).splits["train"].frames.values():
        exact = frames.values.astype(np.float64)
        np.testing.assert_array_equal(moments(frames.values)[0], exact.mean(0).astype(np.float32))
        np.testing.assert_array_equal(moments(frames.values)[1], exact.std(0).astype(np.float32))


@pytest.mark.parametrize("value", [1e300, 1e30, 1e6])
def test_from_the_file_to_the_card(tmp_path, monkeypatch, value):
    """Frames in which COVAREP went wrong, in float64: beyond float32 or not, they are counted and nothing is lost."""
    read_here(monkeypatch)
    content = mmsa_content(MOSI, (40, 10, 10))
    for fields in content.values():
        audio = np.nan_to_num(fields["audio"].astype(np.float64), neginf=0.0)
        fields["audio"] = np.where(audio == 0, 0, audio + fields["regression_labels"][:, None, None])
    clean, _ = mmsa.read(dump(content, tmp_path / "clean.pkl"), MOSI)
    content["train"]["audio"][5, 1, 2], content["train"]["audio"][9, 0, 4] = value, -value
    content["test"]["audio"][0, 0, 2] = value
    mended = sources.load("mosi", dump(content, tmp_path / "wild.pkl"), cache=tmp_path / "cache")
    counts = {s: mended.card["notes"][s]["A"] for s in SPLITS}
    assert [counts[s]["clipped"] for s in SPLITS] == [2, 0, 1] and not any(c["inf"] for c in counts.values())
    mean, sd = moments(mended.splits["train"].frames["A"].values)
    np.testing.assert_allclose(sd, moments(clean["train"].frames["A"].values)[1], rtol=0.05)
    for splits in (clean, mended.splits):
        standardised = (splits["test"].frames["A"].mean()[:, 2] - mean[2]) / sd[2]
        assert np.corrcoef(standardised, splits["test"].label)[0, 1] > 0.8
