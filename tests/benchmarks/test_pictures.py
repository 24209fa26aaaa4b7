"""The pictures of the benchmarks show what their files hold; benchmarks/README.md names every file."""

import matplotlib.pyplot as plt
import pictures
import pytest

from finelib.runs.options import ROOT


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
    figure = getattr(pictures, draw)(pictures.read(name))
    assert len(figure.axes) == axes and all(axis.lines or axis.patches for axis in figure.axes)
    assert not plt.get_fignums()


def test_bars_are_what_the_files_hold():
    figure = pictures.beside_mmsa()
    found = pictures.read("mmsa")["tfn"]
    drawn = [container[0].get_height() for container in figure.axes[0].containers]
    assert drawn == [found[f"{side}_samples_per_s"] for side in ("peer", "ours", "fine")]


def test_streamed_table_names_both_queues():
    table = pictures.streamed(pictures.read("larger_than_memory"))
    assert table["queue slots"].nunique() == 2 and set(table["data"]) >= {"streamed", "in memory"}


def test_a_missing_file_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"step.json: no such file; benchmarks/README.md says"):
        pictures.read("step", tmp_path)


def test_readme_of_the_benchmarks_names_every_file_and_its_command():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for path in sorted((ROOT / "benchmarks").glob("*.*")):
        assert path.name in text or path.name == "README.md", path.name
