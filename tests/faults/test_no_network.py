"""A sweep and the grading of a class work without a network: nothing but loopback.

The commands of `make demo` do so in tests/test_handout.py, with all other steps of the handout's
proof.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from lab import ROOT
from tests.faults import kills
from tests.offline import offline

LONG = os.environ.get("FAULTS") == "long"


@pytest.mark.skipif(not LONG, reason="FAULTS=long")
def test_a_sweep_and_a_class_need_no_network(tmp_path):
    if not offline() or not kills.has_sandbox():
        pytest.skip("needs Linux with network namespaces, and bubblewrap")
    inputs = kills.Inputs(tmp_path / "inputs")
    sweep = ["sweep.py", *inputs.training("VAEwolabel", "--epochs", 1, "--workers", 1)]
    sweep += ["--save_dir", tmp_path / "sweep"]
    graded = ["-m", "staff.grade_class", inputs.handed_in, "--out", tmp_path / "graded"]
    graded += ["--test_data", inputs.data, "--train_data", inputs.data, "--gen_num", 5]
    commands = [shlex.join(map(str, [sys.executable, *words])) for words in (sweep, graded)]
    done = subprocess.run(
        [*offline(), "\n".join(commands)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "sweep" / "results.csv").is_file()
    assert (tmp_path / "graded" / "grades.csv").is_file()
