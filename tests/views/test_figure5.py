"""Figure 5's files: whole, self-contained, and saying what was measured."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from mpl_toolkits.mplot3d import proj3d
from sklearn.neighbors import NearestNeighbors

from finelib.runs import experiment, presets
from finelib.study import representations
from finelib.study.figure5 import MEASURES, Projection, pca
from finelib.views import figure5
from finelib.views.figure5 import Figure5

HOSTILE = [
    "<script>window.broken = 1</script>",
    "\"quoted\" 'text' & more",
    "שלום עולם",
    "🙂" * 5,
    "x" * 100_000,
    "</script><b>bold</b>",
]


class Loads(HTMLParser):
    """What a page would fetch."""

    def __init__(self, page: str):
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "script":
            self.scripts.append(attributes)
        source = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        if source and not source.startswith("data:"):
            self.found.append((tag, source))


@pytest.mark.parametrize("name", ["figure5a.html", "figure5b.html", "report.html"])
def test_pages_fetch_nothing(results, name):
    loads = Loads((results.figures / name).read_text())
    assert loads.found == [] and loads.scripts


def test_every_file_is_there_and_small(results):
    for name in ("figure5.png", "figure5.pdf", "figure5.json", "figure5.md", "figure5a.html", "figure5b.html"):
        assert 1000 < (results.figures / name).stat().st_size < 15_000_000


def test_caption_quotes_the_numbers(results):
    numbers = json.loads((results.figures / "figure5.json").read_text())
    caption = (results.figures / "figure5.md").read_text()
    assert "planted data (generated)" in caption and numbers["drawn_run"] in caption
    for key in MEASURES:
        row = numbers["measures"]["features"][key]
        assert row["n"] == len(numbers["seeds"]) == 2
        if row["mean"] is not None:
            assert f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" in caption
    assert np.shape(numbers["factors"]["r2"]) == (6, 11) == np.shape(numbers["factors"]["control"])


def verdict(shared: str, unique: str) -> str:
    """The caption's last sentence for given outcomes."""
    row = {"mean": 0.5, "sd": 0.1, "low": 0.4, "high": 0.6, "n": 3, "control": 0.0, "beyond_control": "above"}
    contrasts = {
        "shared_in_str": row | {"beyond_control": shared},
        "unique_in_utr": row | {"beyond_control": unique},
        "noise": row | {"untrained": 0.1},
    }
    numbers = {
        "corpus": "c",
        "data": "planted",
        "utterances": 9,
        "measured_on": 9,
        "groups": [["T", "STR"]],
        "runs": ["a"],
        "classes": {"neutral": 9},
        "drawn_run": "a",
        "test_corr": 0.5,
        "factors": {"contrasts": contrasts},
        "projection": {"method": "UMAP", "neighbours": 15, "seed": 0},
        "measures": {s: dict.fromkeys(MEASURES, row) for s in ("features", "untrained", "UMAP", "PCA")},
    }
    return Figure5(None, None, None, {}, numbers).caption


def test_verdict_follows_from_the_numbers():
    assert "divide the factors as the paper says." in verdict("above", "above")
    assert "not shown to divide" not in verdict("above", "above")
    assert "unique factors do not prefer UTR" in verdict("above", "no")
    assert "shared factors do not prefer STR" in verdict("below", "above")
    assert "neither do shared factors" in verdict("no", "below")


def hostile_figure(results):
    """Figure 5 of real features whose utterances have hostile texts."""
    (spec, *_), corpus = presets.figure5_specs(results), None
    (record,) = experiment.run([spec], results.out)
    corpus = experiment.load_corpus(spec.data)
    test = corpus.splits["test"]
    text = (HOSTILE * len(test))[: len(test)]
    corpus = replace(corpus, splits=corpus.splits | {"test": replace(test, text=text, ids=text)})
    features = representations.extract(record, spec)
    groups = pca(np.concatenate(list(features.values))).reshape(6, -1, 3)
    shown = Projection(pca(features.joined), groups)
    numbers = json.loads((results.figures / "figure5.json").read_text())
    return Figure5(corpus, record, features, {"PCA": shown}, numbers)


def test_hostile_text_stays_text(results):
    figure = hostile_figure(results)
    page = figure.page_a.html
    assert "<script>window.broken" not in page and "</script><b>" not in page
    content = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)[1]
    for shown, text in zip(json.loads(content)["text"], HOSTILE, strict=False):
        assert shown == (text if len(text) <= 160 else text[:160] + "…")  # a page holds what a pointer shows
    assert "<script" not in figure.page_a._repr_html_()  # escaped as the frame's content


def test_tsne_keeps_clusters():
    rng = np.random.default_rng(0)
    shown = figure5.tsne(np.concatenate([rng.normal(size=(40, 10)), rng.normal(size=(40, 10)) + 30]))
    nearest = NearestNeighbors(n_neighbors=4).fit(shown).kneighbors(shown, return_distance=False)
    assert ((nearest < 40) == (np.arange(80) < 40)[:, None]).mean() > 0.85


@pytest.mark.parametrize("apart", [0.0, 5.0])
def test_names_of_groups_never_lie_on_each_other(apart):
    """Clouds in one place and clouds apart: no two names of the panel overlap, and each leads to its own cloud."""
    groups = tuple((m, kind) for m in "TAV" for kind in ("STR", "UTR"))
    points = np.random.default_rng(0).standard_normal((6, 50, 3)) + apart * np.arange(6)[:, None, None]
    sheet = plt.figure(figsize=(2.4, 2.4))
    axis = sheet.add_subplot(projection="3d")
    figure5._strip(axis)
    figure5._draw_groups(axis, points, groups)
    sheet.draw_without_rendering()
    boxes = [Text.get_window_extent(name) for name in axis.texts]  # without the line to the cloud
    assert len(boxes) == 6 and all(a.count_overlaps(boxes) == 1 for a in boxes)  # itself
    for name in axis.texts:
        cloud = points[[" ".join(group) for group in groups].index(name.get_text())]
        x, y, _ = proj3d.proj_transform(*cloud.T, axis.get_proj())
        assert np.hypot(x - name.xy[0], y - name.xy[1]).min() < 1e-9
    plt.close(sheet)


def test_numbers_of_the_page_are_the_records(results):
    figure = hostile_figure(results)
    content = json.loads(re.search(r'id="content">(.*?)</script>', figure.page_b.html, re.DOTALL)[1])
    arrays = figure.record.predictions()
    np.testing.assert_allclose(content["prediction"], arrays["test"], atol=1e-3)
    np.testing.assert_allclose(content["clouds"]["PCA"][3], figure.projections["PCA"].groups[3].T, atol=1e-3)
    assert [g["name"] for g in content["groups"]][:2] == ["text STR", "text UTR"]
