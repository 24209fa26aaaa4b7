"""The study of real corpora: which runs, what of label_T is told, what is said by rule. No real corpus is needed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from finelib.baselines.subset_codes import NAME as VARIANT
from finelib.baselines.subset_codes import SubsetCodesConfig
from finelib.config import DataConfig, FineConfig
from finelib.paper.significance import family_intervals
from finelib.runs import experiment, real
from finelib.runs.options import Options
from finelib.study import subset_codes_real as study
from finelib.study.subset_codes_real import BOTH, ENCODING

CH_SIMS = DataConfig("ch_sims", scale=0.25)


@pytest.fixture
def all_there(monkeypatch):
    monkeypatch.setattr(real.RealBlock, "missing", lambda self: None)


@pytest.fixture(scope="module")
def corpus():
    return experiment.load_corpus(CH_SIMS)


def test_fine_has_the_recipe_of_its_table_and_the_variant_the_same_but_for_what_is_its_own(all_there):
    found = study.run_specs(Options(n_seeds=2))
    places = [place for place, *_ in found.items() if place[-1] == VARIANT]
    assert [place[:2] for place in places] == [("mosi", "T + A"), ("ict_mmmo", "A + V"), ("ch_sims_v2", "T + A + V")]
    for place in places:
        for fine, mine in zip(found[(*place[:2], "FINE")], found[place], strict=True):
            assert fine in real.specs(fine.data, (0, 1)) and type(fine.model_config) is FineConfig
            assert mine.data == fine.data and mine.seed == fine.seed and mine.train.lr == fine.train.lr
            own = vars(SubsetCodesConfig()).keys() - vars(fine.model_config).keys() | {
                "dropout",
                "weight_sha",
                "weight_utr",
            }
            assert all(getattr(mine.model_config, name) == getattr(SubsetCodesConfig(), name) for name in own)
            rest = vars(fine.model_config).keys() - own
            assert all(getattr(mine.model_config, name) == getattr(fine.model_config, name) for name in rest)
    assert [place for place in found if place[1] == "T"] == [("ch_sims", "T", "FINE"), ("ch_sims_v2", "T", "FINE")]


def test_the_row_tried_afterwards_is_the_same_training_with_another_epoch_kept(all_there):
    """Patience as long as the training: no early stop, so no epoch is another one than the first row's."""
    found, chosen = study.run_specs(Options(n_seeds=2)), study.CHOSEN
    assert sum(place[-1] == chosen for place in found) == 3
    for place in [place for place in found if place[-1] == chosen]:
        for mine, first in zip(found[place], found[(*place[:2], VARIANT)], strict=True):
            assert first.train.keep_last and not mine.train.keep_last and mine.train.patience == mine.train.epochs
            own = {"keep_last": True, "patience": first.train.patience}
            assert replace(mine, name=VARIANT, train=replace(mine.train, **own)) == first


def test_corpora_that_cannot_be_had_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(real.RealBlock, "missing", lambda self: None if self.corpus == "ch_sims" else "no such file")
    assert list(study.run_specs(Options())) == [("ch_sims", "T", "FINE")]
    monkeypatch.setattr(real.RealBlock, "missing", lambda self: "no such file")
    with pytest.raises(ValueError, match="subset_codes_real: no such file"):
        study.measure_on_real(Options(out=tmp_path))


def features_of(corpus, seed, told=0.0):
    """Text features of which the first column holds the gap, ``told`` times as loud as noise."""
    rng, found = np.random.default_rng(seed), {}
    for s in study.SPLITS:
        found[s] = rng.standard_normal((len(corpus.splits[s]), 4))
        found[s][:, 0] += told * study.text_label_gap(corpus, s) / study.text_label_gap(corpus, s).std()
    return found


def told_by(monkeypatch, corpus, utr, str_=0.0, seeds=3):
    made = {"UTR": utr, "STR": str_}
    monkeypatch.setattr(
        study, "text_features", lambda r, s, c, kind: features_of(c, (s.seed, kind == "UTR"), made[kind])
    )
    return study.own_label_told(
        [(SimpleNamespace(id=f"r{s}"), SimpleNamespace(data=CH_SIMS, seed=s)) for s in range(seeds)]
    )


def test_the_gap_is_the_label_of_text_minus_the_label(corpus):
    test = corpus.splits["test"]
    assert np.array_equal(study.text_label_gap(corpus, "test"), test.unimodal_labels["T"] - test.label)
    assert study.text_label_gap(corpus, "test").std() > 0.1


def test_what_utr_knows_of_the_gap_is_found_and_what_str_does_not_know_is_not(monkeypatch, corpus):
    found = told_by(monkeypatch, corpus, utr=3.0)
    assert found["utterances"] == len(corpus.splits["test"]) and found["runs"] == ["r0", "r1", "r2"]
    assert found["r2"]["UTR_T"] == pytest.approx(0.9, abs=0.05)  # 3^2 / (3^2 + 1)
    assert found["r2"][ENCODING] < 0.6
    assert found["minus_encoding"][BOTH]["low"] > 0.2 and abs(found["r2"]["STR_T"]) < 0.1
    judged = study.judge([], [{"corpus": "C", "modalities": "T", "system": "FINE"} | found])
    assert judged["real_own_0"]["holds"] is True


def test_features_that_know_nothing_add_nothing(monkeypatch, corpus):
    found = told_by(monkeypatch, corpus, utr=0.0)
    assert abs(found["minus_encoding"][BOTH]["mean"]) < 0.05 and found["minus_encoding"]["UTR_T"]["mean"] < 0
    alone = told_by(monkeypatch, corpus, utr=0.0, seeds=1)
    assert alone["minus_encoding"][BOTH]["low"] is None


def test_r2_is_that_of_a_ridge_on_train_and_differences_are_crossed(monkeypatch, corpus):
    x = {s: features_of(corpus, 0, 3.0)[s] for s in study.SPLITS}
    fit = LinearRegression().fit(x["train"], study.text_label_gap(corpus, "train"))
    expected = fit.score(x["test"], study.text_label_gap(corpus, "test"))
    truth = study.text_label_gap(corpus, "test")
    error = (truth - study.predicted_gap(corpus, [x])) ** 2 / truth.var()
    assert 1 - error.mean() == pytest.approx(expected, abs=0.02)
    readers, encoding = np.random.default_rng(0).random((3, 4, 50)), np.random.default_rng(1).random((4, 50))
    found, known = study._minus(readers, encoding), family_intervals(readers, encoding)
    assert [found[name]["low"] for name in study.READERS] == pytest.approx(list(known.low))


def compared(mean, low, high):
    systems = {
        name: {"runs": [name], "valid": {"mean": 0.4}, "best_dev": 0.6} for name in ("FINE", VARIANT, study.CHOSEN)
    }
    of_first = {"mean": mean, "low": low, "high": high}
    of_other = {"mean": 0.3, "low": 0.2, "high": 0.4}  # which decides nothing
    minus = {VARIANT: of_first, study.CHOSEN: of_other}
    return {"corpus": "C", "modalities": "T", "systems": systems, "minus_fine": minus}


@pytest.mark.parametrize(
    ("interval", "holds"),
    [
        ((0.0, -0.005, 0.005), True),
        ((-0.05, -0.08, -0.02), False),
        ((0.0, -0.03, 0.03), None),
        ((0.0, None, None), None),
    ],
)
def test_corr_is_kept_if_the_whole_interval_of_the_row_stated_first_says_so(interval, holds):
    (judged,) = study.judge([compared(*interval)], []).values()
    assert judged["holds"] is holds and judged["runs"] == ["FINE", VARIANT]
    assert "tried afterwards, the difference is +0.300 [+0.200, +0.400]" in judged["why"]


@pytest.mark.long
def test_it_is_written_and_kept_and_holds_no_utterance(monkeypatch, tmp_path):
    class Planted(real.RealBlock):
        def data(self, options):
            return [CH_SIMS]

        def missing(self):
            return None

    monkeypatch.setattr(study, "COMPARED", (Planted("ch_sims"),))
    monkeypatch.setattr(study, "TEXT_ALONE", ())
    options = Options("smoke", out=tmp_path)
    few = {
        place: [replace(s, train=replace(s.train, epochs=1)) for s in group]
        for place, group in study.run_specs(options).items()
    }
    monkeypatch.setattr(study, "run_specs", lambda options: few)
    content = study.measure_on_real(options)
    (each,) = content["compared"]
    records = experiment.run_groups(few, options.out)
    mean = {place[-1]: np.mean([r.test["corr"] for r in group]) for place, group in records.items()}
    for name in (VARIANT, study.CHOSEN):
        assert each["minus_fine_over_seeds"][name]["mean"] == pytest.approx(mean[name] - mean["FINE"])
        assert each["minus_fine"][name]["mean"] == pytest.approx(mean[name] - mean["FINE"])
    for name, system in each["systems"].items():
        group = next(group for place, group in records.items() if place[-1] == name)
        assert system["best_dev"] == pytest.approx(np.mean([max(c["dev_corr"] for c in r.curves) for r in group]))
    assert [own["system"] for own in content["own_label"]] == ["FINE", VARIANT]
    written = (options.figures / "subset_codes_real.md").read_text()
    assert study.AFTERWARDS in written
    assert (
        study.NO_EVIDENCE in written and "planted_test" not in (options.figures / "subset_codes_real.json").read_text()
    )
    monkeypatch.setattr(study, "_content", lambda *_: pytest.fail("computed again"))
    assert study.measure_on_real(options) == content
