"""What macOS and Windows lack is taken away: training and reading go on without it."""

import os
import subprocess
import sys

from make_files import write_mmsa

from finelib.runs.options import ROOT

# Python runs this at the start of every process, those too that read a file
LACKING = """
import os, sys
import psutil                   # needs resource itself, on Linux
sys.modules["resource"] = None  # an import of it then fails, as on Windows
del os.sched_getaffinity        # neither macOS nor Windows has it
"""
RUN = """
import os, sys
from pathlib import Path

from finelib.data import sources
from finelib.runs import experiment, presets
from finelib.runs.options import Options

assert not hasattr(os, "sched_getaffinity")
out, files = map(Path, sys.argv[1:])
(record,) = experiment.run(presets.figure5_specs(Options(preset="smoke", out=out))[:1], out)
print(record.selected_epoch >= 0, len(sources.load("mosi", files).splits["train"]))
"""


def test_without_affinity_and_resource_a_run_is_trained_and_a_licensed_file_is_read(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LACKING)
    write_mmsa(tmp_path / "files", "mosi")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "FINE_CACHE": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-c", RUN, str(tmp_path / "out"), str(tmp_path / "files")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "12"]
