"""The pictures of losses: a panel for each system, its numbers, and cells that say what cannot be done."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from finelib.study import losses
from finelib.views import missing

SYSTEMS = ("FINE", "A", "B", "C", "D")


def number(mean, spread=0.05):
    return {"mean": mean, "low": None if spread is None else mean - spread, "high": spread and mean + spread}


def content(modalities=("T", "A", "V"), spread=0.05):
    """Five systems whose Corr falls from their own height; D cannot do without text."""
    names = list(losses.conditions(modalities))
    scores = {
        s: {n: number(0.7 - 0.1 * i - 0.01 * j, spread) for j, n in enumerate(names)} for i, s in enumerate(SYSTEMS)
    }
    for name in [name for name in names if not name[0].isdigit() and "T" not in name]:
        del scores["D"][name]
    average = {s: number(0.6 - 0.1 * i, spread) for i, s in enumerate(SYSTEMS)}
    for s in SYSTEMS[1:]:
        average[s]["minus_fine"] = number(-0.1, spread) | {"p_holm": None if spread is None else 0.0004}
    change = number(0.2, spread) | {"p_holm": None if spread is None else 0.01}
    without = {
        m: {s: change if (s, m) == ("B", "T") else change | {"p_holm": 0.5} for s in SYSTEMS} for m in modalities
    }
    return {
        "called": "CMU-MOSI, planted data",
        "sizes": {"test": 30},
        "seeds": 1 if spread is None else 3,
        "rates": losses.RATES,
        "modalities": list(modalities),
        "subsets": [losses.subset_name(left) for left in losses.subsets(modalities)],
        "metrics": ["corr", "acc2_nonzero"],
        "scores": {"corr": scores, "acc2_nonzero": scores},
        "average": {"corr": average, "acc2_nonzero": average},
        "without": without,
    }


def test_every_system_has_a_panel_with_its_curve_best_first():
    told = content()
    figure = missing.curves(told, "acc2_nonzero")
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == list(SYSTEMS)
    for s, axis in zip(SYSTEMS, panels, strict=True):
        line = next(line for line in axis.lines if line.get_label() == "losses at test only")
        expected = [told["scores"]["corr"][s][losses.frames_name(rate)]["mean"] for rate in losses.RATES]
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert len(axis.collections) == 1  # the band
    assert "planted data, 30 test utterances, 3 seeds, one draw of losses" in figure.get_suptitle()


def test_losses_in_training_are_a_second_line():
    told = content()
    figure = missing.curves(told, "corr", {"scores": told["scores"]})
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "FINE",
        "losses at test only",
        "losses in training too",
    ]


def test_nothing_stands_on_anything_else():
    """Names of axes and the legend, below the last row."""
    figure = missing.curves(content())
    figure.draw_without_rendering()
    boxes = [figure.legends[0].get_window_extent(), figure._suptitle.get_window_extent()]
    boxes += [axis.get_tightbbox() for axis in figure.axes if axis.get_visible()]
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:i]) == 0


@pytest.mark.parametrize("spread", [0.05, None])
def test_one_seed_has_no_band(spread):
    figure = missing.curves(content(spread=spread))
    assert sum(len(axis.collections) for axis in figure.axes) == (5 if spread else 0)


def test_cells_are_means_with_a_triangle_where_better_and_a_dash_where_it_cannot_be_done():
    figure = missing.subsets(content())
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert len(cells) == 5 * 7 and cells.count("–") == 3
    assert [cell for cell in cells if "▲" in cell] == [f"{0.5 - 0.15:.2f} ▲"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][0] == "all"
    plt.close("all")


def test_one_modality_has_no_subsets():
    told = content(("T",))
    assert missing.subsets(told) is None and missing.curves(told)


def test_averages_are_a_line_for_each_system_best_first():
    table = missing.averages(content())
    assert list(table.index) == list(SYSTEMS)
    assert table.loc["FINE", "Corr minus FINE"] == "–" and table.loc["B", "p (Holm)"] == "< .001"
    assert table.loc["A", "Corr"] == "0.500 [0.450, 0.550]"
