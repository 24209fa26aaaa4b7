"""Pictures of the factorisation: what stands where in them."""

import numpy as np

from finelib.data.planted import FACTORS
from finelib.study.equal_optima import GROUPS
from finelib.views import identifiability
from finelib.views.identifiability import SCORE, VARIANT


def line(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "values": [mean]}


def test_the_variant_stands_in_the_first_picture():
    compared = {name: {score: line(0.5) for score in SCORE} for name in identifiability.ORDER}
    axis = identifiability.scores(compared).axes[0]
    shown = [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()]
    assert shown == list(identifiability.ORDER) and {"FINE", VARIANT, "MISA-style", "none"} <= set(shown)


def test_which_group_holds_which_factor_is_written_in_its_place():
    r2 = np.random.default_rng(0).random((2, 6, 11)).round(2)
    content = {"names": list(FACTORS), "groups": [" ".join(g) for g in GROUPS]}
    content["leakage"] = {"FINE": r2[0].tolist(), VARIANT: r2[1].tolist()}
    panels = [axis for axis in identifiability.who_holds_what(content).axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["FINE", VARIANT]
    for axis, matrix in zip(panels, r2, strict=True):
        assert [text.get_text() for text in axis.texts] == [f"{value:.2f}" for value in matrix.flat]


def test_worlds_show_every_run_and_the_interval():
    rows = [
        {"system": system, "world": world, "seed": seed, "corr": 0.7, "linear": dict.fromkeys(SCORE, 0.1 * world)}
        for system in ("FINE", VARIANT)
        for world in (1, 2)
        for seed in (0, 1)
    ]
    of_system = {"corr": line(0.7), "linear": {score: line(0.15) for score in SCORE}}
    drawn = identifiability.worlds({"runs": rows, "systems": {"FINE": of_system, VARIANT: of_system}})
    dots, means = (drawn.axes[0].lines[i].get_ydata() for i in (0, 1))
    assert list(dots) == [0.1, 0.1, 0.2, 0.2] and list(means) == [0.1, 0.2] and len(drawn.axes) == 4
