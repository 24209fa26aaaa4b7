"""Fresh critics against mutual information known in closed form."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from finelib import models
from finelib.data import planted
from finelib.data.corpora import CORPORA
from finelib.paper import tables
from finelib.runs import presets
from finelib.runs.options import Options
from finelib.study import terms


def gaussians(correlation, n, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, 1, n, d, generator=generator)
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def estimate(correlation):
    x, y = gaussians(correlation, 4000)
    return float(terms.fresh_information(x, y))


def test_independent_pairs_have_none():
    assert abs(estimate(0.0)) < 0.05


def test_correlated_gaussians():
    truth = -1.5 * math.log(1 - 0.7**2)
    assert estimate(0.7) == pytest.approx(truth, abs=0.25)


def test_given_the_class_only_what_is_left_counts():
    # both sides are the class plus noise of their own: dependent, but not given the class
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (4000,), generator=generator)
    x, y = (classes[None, :, None] * 2.0 + torch.randn(2, 1, 4000, 1, generator=generator)).unbind(0)
    assert float(terms.fresh_information(x, y)) > 0.3
    assert abs(float(terms.fresh_information(x, y, classes))) < 0.05


def test_problems_side_by_side_do_not_mix():
    (x, y), (u, v) = gaussians(0.7, 4000), gaussians(0.0, 4000, seed=1)
    strong, none = terms.fresh_information(torch.cat([x, u]), torch.cat([y, v])).tolist()
    assert strong > 0.7 and abs(none) < 0.05


def test_terms_measured_together_are_what_each_is_alone():
    corpus = planted.generate(replace(CORPORA["ch_sims"], sizes=(48, 12, 6)))
    torch.manual_seed(0)
    model = models.build(presets.DEMO, corpus).eval()
    together = terms.measure_terms(tuple(terms.WITHOUT), model, corpus)
    assert list(together) == list(terms.WITHOUT)
    for term in ("I_str", "I_utr", "L_aux", "L_CL"):
        assert terms.measure_terms([term], model, corpus) == {term: together[term]}


def test_values_are_kept_until_run_terms_or_code_change(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(terms, "measure_terms", lambda names, *_: made.append(names) or dict.fromkeys(names, 1.0))
    for name in ("load_model", "load_corpus"):
        monkeypatch.setattr(terms.experiment, name, lambda *_: None)

    def values(names, run="a"):
        return terms._values(names, SimpleNamespace(id=run, folder=tmp_path), SimpleNamespace(data=None))

    assert values(("I_sha",)) == values(("I_sha",)) == {"I_sha": 1.0} and len(made) == 1
    assert set(values(("I_sha", "L_CL"))) == {"I_sha", "L_CL"} and len(made) == 2
    values(("I_sha", "L_CL"), run="b")
    monkeypatch.setattr(terms, "code_hash", lambda *names: f"changed {names}")
    values(("I_sha", "L_CL"), run="b")
    assert len(made) == 4


def test_effects_pair_the_runs_of_a_seed(monkeypatch):
    monkeypatch.setattr(
        terms.experiment, "run_groups", lambda specs, *_: {row: [f"{row} 0", f"{row} 1"] for row in specs}
    )
    monkeypatch.setattr(terms, "_values", lambda names, record, spec: {term: f"{record}: {term}" for term in names})
    effects = terms.term_effects(Options("smoke"))
    assert effects["I_uni"] == [("FINE 0: I_uni", "w/o I_uni 0: I_uni"), ("FINE 1: I_uni", "w/o I_uni 1: I_uni")]
    assert list(effects) == list(terms.RAISES)


def test_the_study_and_table_6_have_the_same_runs_each_without_one_term():
    options = Options("smoke")
    runs, table = terms.run_specs(options), tables.table_specs(6, options)
    whole = runs["FINE"]
    assert all(set(group) <= set(table) for group in runs.values())
    taken = {"I_sha": "weight_sha", "I_uni": "weight_uni", "I_str": "weight_str", "I_utr": "weight_utr"}
    taken |= {"L_aux": "lambda_aux", "L_CL": "lambda_cl"}
    for term, row in terms.WITHOUT.items():
        for spec, fine in zip(runs[row], whole, strict=True):
            changed = {k for k, v in vars(spec.model_config).items() if v != getattr(fine.model_config, k)}
            assert changed == {taken[term]} and getattr(spec.model_config, taken[term]) == 0
            assert (spec.train, spec.data, spec.seed) == (fine.train, fine.data, fine.seed)


def test_a_source_without_the_tables_corpus_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found no CMU-MOSEI in .*, expected"):
        terms.run_specs(Options(source=str(tmp_path)))
