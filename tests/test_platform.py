"""What macOS and Windows lack is taken away: training, reading and executing notebooks go on without it."""

import os
import subprocess
import sys

import nbformat
from make_files import write_mmsa

from finelib.runs.options import ROOT

# Python runs this at the start of every process, those too that train, read a file or execute a notebook
LACKING = """
import os, sys
import psutil                   # needs resource and fcntl itself, on Linux
sys.modules["resource"] = None  # an import of it then fails, as on Windows
sys.modules["fcntl"] = None
del os.sched_getaffinity        # neither macOS nor Windows has it
del os.fork, os.forkpty         # nor has Windows
"""
RUN = """
import os, sys
from pathlib import Path

from finelib.data import sources
from finelib.runs import experiment, notebooks, presets
from finelib.runs.options import Options

if __name__ == "__main__":
    assert not hasattr(os, "sched_getaffinity") and not hasattr(os, "fork")
    out, files, notebook = map(Path, sys.argv[1:])
    options = Options(preset="smoke", out=out)
    records = experiment.run(presets.figure5_specs(options)[:2], out, jobs=2)
    print([record.seed for record in records], len(sources.load("mosi", files).splits["train"]))
    notebooks.execute_all([notebooks.Notebook("small", notebook)], options)
"""


def test_without_affinity_resource_and_fork_runs_are_trained_files_read_and_notebooks_executed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LACKING)
    (tmp_path / "run.py").write_text(RUN)
    write_mmsa(tmp_path / "files", "mosi")
    lacks = nbformat.v4.new_code_cell("import os\n'fork' if hasattr(os, 'fork') else 'no fork'")
    nbformat.write(nbformat.v4.new_notebook(cells=[lacks]), tmp_path / "small.ipynb")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "FINE_CACHE": str(tmp_path / "cache"),
    }
    command = [sys.executable, *(str(tmp_path / name) for name in ("run.py", "out", "files", "small.ipynb"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[0, 1] 12\n" in done.stdout
    executed = nbformat.read(tmp_path / "out/runs/notebooks/small.ipynb", 4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == "'no fork'"
