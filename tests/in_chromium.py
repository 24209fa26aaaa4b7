"""What the tests in a browser share: Debian's Chromium, pages without network, colours, the pointer."""

import io
import re
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
# a picture answers to the pointer when it is drawn next, however long that takes
FOUR_FRAMES = """() => new Promise(done => {
  let left = 4;
  const next = () => left-- ? requestAnimationFrame(next) : done();
  next();
})"""


@contextmanager
def opened(browser, url: str, **options):
    """A page without network whose complaints are kept; there must be none at the end."""
    context = browser.new_context(**options)
    page, complaints = context.new_page(), []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: complaints.append(r.url) if re.match(r"(https?|wss?):", r.url) else None)
    page.on("requestfailed", lambda r: complaints.append(f"failed: {r.url[:100]}"))
    context.set_offline(True)
    try:
        page.goto(url)
        yield page
        assert complaints == []
    finally:
        context.close()


def colours(png: bytes) -> np.ndarray:
    """(height, width), True where a pixel has a colour, that is, is neither white, grey nor black."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return pixels.max(-1) - pixels.min(-1) > 60


def coloured(png: bytes) -> float:
    """Share of coloured pixels."""
    return float(colours(png).mean())


def serious(page) -> list[str]:
    found = axe_playwright.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:150]}" for v in found if v["impact"] in ("serious", "critical")]


def until(page, found, otherwise: str) -> None:
    """Wait until ``found()`` is true, for a machine that draws late too."""
    end = time.monotonic() + 120
    while not found():
        assert time.monotonic() < end, otherwise
        page.wait_for_timeout(100)


def drag(page, box: dict, dx: float, dy: float) -> None:
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.55 + dx, box["y"] + box["height"] * 0.5 + dy, steps=6)
    page.mouse.up()


def hover_a_point(page, cloud) -> str:
    """Go to coloured pixels of the cloud, away from its legend, until a point answers; what is said of it."""
    box, places = cloud.bounding_box(), np.argwhere(colours(cloud.screenshot()))
    for y, x in places[places[:, 1] > 0.25 * box["width"]][::11]:
        page.mouse.move(box["x"] + float(x), box["y"] + float(y))
        cloud.evaluate(FOUR_FRAMES)
        label = cloud.locator(".hovertext")
        if label.count():
            return label.first.text_content()
    raise AssertionError("no point of the cloud answers to the pointer")
