"""Figure 5 at CMU-MOSEI's test size: seconds of each part, size and loading time of the pages.

    python benchmarks/figure5_size.py OUT

OUT is the --out of a finished ``run_all.sh`` (its demo run of CMU-MOSEI gives the model). The features are those of
4,659 planted test utterances. Writes benchmarks/figure5_size.json.
"""

import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from finelib.config import DataConfig
from finelib.runs import experiment, presets
from finelib.runs.options import ROOT, Options
from finelib.runs.records import git_revision, versions
from finelib.study.figure5 import pca, project, umap
from finelib.study.representations import features_of
from finelib.views import figure5


def loading_seconds(page: Path) -> dict[str, float]:
    """Until picture and text are painted, and until the cloud can be turned, in Chromium with software rendering."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--use-angle=swiftshader"]
        )
        tab = browser.new_page()
        tab.goto("about:blank")
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("body[data-ready=yes]")
        turns = time.perf_counter() - began
        painted = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
        return {"painted": round(painted, 2), "turns": round(turns, 2)}


def main(out: Path) -> None:
    options = Options(out=out)
    spec = presets.figure5_specs(options)[0]
    (record,) = experiment.run([spec], out)
    corpus = experiment.load_corpus(DataConfig("mosei", scale=1.0))
    seconds = {}

    def timed(name, work):
        began = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - began, 2)
        return result

    model = experiment.load_model(record, spec)
    features = timed("features of 4,659 utterances", lambda: features_of(model, corpus.splits["test"]))
    projections = {
        name: timed(f"{name} of both panels", lambda m=method: project(features, m))
        for name, method in (("UMAP", umap), ("PCA", pca))
    }
    arrays = {"test": features.label, "test_label": features.label}  # the run's own predictions are of fewer utterances
    run = SimpleNamespace(id=record.id, predictions=lambda: arrays)
    shown = figure5.Figure5(corpus, run, features, projections, {})
    folder = Path(tempfile.mkdtemp())
    timed("static figure as PNG", lambda: shown.static().savefig(folder / "figure5.png", dpi=200))
    timed("static figure as PDF", lambda: shown.static().savefig(folder / "figure5.pdf"))
    figure5.TSNE_POINTS, points = 10, figure5.TSNE_POINTS
    pages = {panel: timed(f"page {panel}, t-SNE aside", lambda p=panel: figure5.page(shown, p)) for panel in "ab"}
    figure5.TSNE_POINTS = points
    timed("t-SNE of 600 points", lambda: figure5.tsne(features.joined[:points]))
    sizes, loading = {}, {}
    for panel, html in pages.items():
        path = folder / f"figure5{panel}.html"
        path.write_text(html)
        sizes[panel], loading[panel] = path.stat().st_size, loading_seconds(path)
    total = sum(s for name, s in seconds.items() if name != "t-SNE of 600 points")
    found = {
        "command": "python benchmarks/figure5_size.py OUT",
        "points": list(features.values.shape[:2]),
        "seconds": seconds,
        "seconds_in_all_tsne_aside": round(total, 1),
        "page_bytes": sizes,
        "page_loading_seconds": loading,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": versions(),
        "git_revision": git_revision(),
    }
    (ROOT / "benchmarks" / "figure5_size.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
