"""A JupyterLab of the tests' own, and a notebook run in it as a person does."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN = "test"


@contextmanager
def started(home: Path) -> Iterator[str]:
    """Address of a JupyterLab on a folder."""
    log = (home / "log").open("w")
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--port=0",
            "--ip=127.0.0.1",
            "--allow-root",
            f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.root_dir={home}",
            "--ServerApp.port_retries=0",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=home,
        env=os.environ
        | {
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        },
    )
    try:
        yield wait_for_address(home / "log", server)
    finally:
        server.terminate()
        server.wait(120)  # it ends its kernels first


def wait_for_address(log, server) -> str:
    for _ in range(240):
        if found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text()):
            return found[0]
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


def start_kernel(page, address: str, path: str) -> None:
    """Start a notebook's kernel before its page is opened, so that the page connects to it and starts none itself."""
    asked = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
    headers = {"Authorization": f"token {TOKEN}"}
    answer = page.request.post(f"{address}api/sessions", data=asked, headers=headers, timeout=90_000)
    assert answer.ok, answer.text()


def run_all_cells(page, address: str, name: str) -> None:
    """Open a notebook, run it through the menu, wait until the last cell is done; an error or a question ends it.

    The menu waits for the kernel's name in the toolbar. Before that JupyterLab has no kernel for the cells: each of
    them asks for one, and several "Select Kernel" dialogs lie one over the other.
    """
    start_kernel(page, address, f"notebooks/{name}.ipynb")
    page.goto(f"{address}lab/workspaces/{name}/tree/notebooks/{name}.ipynb?token={TOKEN}")  # no other test's tabs
    page.locator(".jp-NotebookPanel-toolbar .jp-KernelName", has_text="Python 3").wait_for(timeout=90_000)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000, state="attached")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    wrong = page.locator('.jp-Notebook [data-mime-type="application/vnd.jupyter.error"], .jp-Dialog')
    # the text content: JupyterLab does not render what is out of sight, so the inner text there is empty
    prompts, before, since = page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt"), [], time.monotonic()
    while not re.fullmatch(r"\[\d+\]:", prompts.last.text_content().strip()):
        page.wait_for_timeout(500)
        assert not wrong.count(), wrong.first.text_content()
        if (now := prompts.all_text_contents()) != before:
            before, since = now, time.monotonic()
        assert time.monotonic() - since < 300, f"no cell has ended for 300 s: {now}"
