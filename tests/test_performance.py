"""What the benchmarks count, by hand; what notebook 16 draws, from the files that are there."""

import importlib.util
import json

import matplotlib.pyplot as plt
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from finelib import performance
from finelib.runs.options import ROOT


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


step = benchmark("step")


def test_operations_and_bytes_are_counted():
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    with step.Operations() as counted, FlopCounterMode(display=False) as known:
        (a @ b).t().relu()
    product, view, relu = counted.called
    assert product[:3] == ("mm", 2 * 3 * 5 * 7, 4 * (15 + 35 + 21)) and known.get_total_flops() == product[1]
    assert view[1:3] == (0, 0)  # nothing is moved
    assert relu[:3] == ("relu", 0, 4 * (21 + 21))


def test_an_expanded_tensor_counts_what_is_there():
    row = torch.randn(1, 1000)
    assert step.moved((row.expand(50, -1),), torch.empty(2)) == 4 * (1000 + 2)


def test_attainable_time_is_the_larger_of_the_two_bounds():
    copies = {1024: 1e9, 1 << 20: 1e8}  # small ones stay in a cache
    called = [("mm", 3_000, 1_000, 0.0), ("add", 0, 1_000, 0.0), ("copy_", 0, 1_000_000, 0.0)]
    assert step.attainable(called, 1e9, copies) == pytest.approx(3e-6 + 1e-6 + 1e-2)


def test_every_kind_of_operation_is_counted_once():
    def work():
        x = torch.randn(64, 64, requires_grad=True)
        (torch.nn.functional.gelu(x @ x).softmax(-1) + 1).sum().backward()

    kinds = step.by_kind(work)
    assert all(kinds[kind] > 0 for kind in ("matrix products", "GELU and ReLU", "softmax", "between the operations"))


@pytest.mark.parametrize(
    ("draw", "name", "axes"),
    [
        ("step_parts", "step", 2),
        ("together", "together", 2),
        ("scaling", "cluster", 2),
        ("growth", "growth", 4),
        ("memory_growth", "growth", 1),
    ],
)
def test_every_picture_is_drawn_from_its_file(draw, name, axes):
    figure = getattr(performance, draw)(performance.read(name))
    assert len(figure.axes) == axes and all(axis.lines or axis.patches for axis in figure.axes)
    assert not plt.get_fignums()


def test_bars_are_what_the_files_hold():
    figure = performance.beside_mmsa()
    found = json.loads((ROOT / "benchmarks" / "mmsa_tfn.json").read_text())
    drawn = [container[0].get_height() for container in figure.axes[0].containers]
    assert drawn == [found[f"{side}_samples_per_s"] for side in ("peer", "ours", "fine")]


def test_streamed_table_names_both_queues():
    table = performance.streamed(performance.read("larger_than_memory"))
    assert table["queue slots"].nunique() == 2 and set(table["data"]) >= {"streamed", "in memory"}


def test_a_missing_file_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"step.json: no such file; benchmarks/README.md says"):
        performance.read("step", tmp_path)


def test_readme_of_the_benchmarks_names_every_file_and_its_command():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for path in sorted((ROOT / "benchmarks").glob("*.*")):
        assert path.name in text or path.name == "README.md" or path.name.startswith("mmsa_"), path.name
