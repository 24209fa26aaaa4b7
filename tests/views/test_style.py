"""One way to save; templates that escape where they have to."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import finelib
from finelib.views import style


def test_save_writes_both_forms_and_the_caption(tmp_path):
    figure, axis = plt.subplots()
    assert style.save(figure, "a", tmp_path / "new") is figure
    style.save(figure, "b", tmp_path / "new", "**What it shows.**")
    plt.close(figure)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.pdf", "a.png", "b.md", "b.pdf", "b.png"]
    assert (tmp_path / "new" / "b.md").read_text() == "**What it shows.**\n"
    assert (tmp_path / "new" / "a.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "new" / "a.pdf").stat().st_size


def test_a_picture_is_the_old_one_until_the_new_one_is_whole(tmp_path, monkeypatch):
    figure, _ = plt.subplots()
    style.save(figure, "a", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def killed(path, **_):
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", killed)
    with pytest.raises(KeyboardInterrupt):
        style.save(figure, "a", tmp_path)
    plt.close(figure)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in before}


def test_no_other_module_saves_a_figure_or_has_a_palette():
    for path in (Path(finelib.__file__).parent).rglob("*.py"):
        if path.name != "style.py":  # what the whole package draws goes through it
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\.savefig|color_palette\(.colorblind|#0173b2|#0072b2|#de8f05", text), path


def test_a_legend_beside_names_everything_once():
    figure, axes = style.panels(2, 2, 2)
    axes[0].plot([0, 1], label="a")
    axes[1].plot([0, 1], label="a")
    axes[1].plot([1, 0], label="b")
    style.legend_beside(axes)
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["a", "b"]
    plt.close(figure)


@pytest.mark.parametrize(("share", "expected"), [(0.0, "#ffffff"), (1.0, "#0173b2"), (0.5, "#80b9d8")])
def test_tint_lies_between_white_and_the_colour(share, expected):
    assert style.tint(style.BLUE, share) == expected
