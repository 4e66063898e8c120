"""The lab limits how long OpenMP threads spin, before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from lab import SPIN_COUNT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux's libgomp")
IMPORTS_TORCH_AFTER_THE_SETTING = """
import builtins, os, sys
plain = builtins.__import__
def spying(name, *rest, **named):
    if name == "torch" and "torch" not in sys.modules:
        print(os.environ.get("GOMP_SPINCOUNT"))
    return plain(name, *rest, **named)
builtins.__import__ = spying
sys.argv = ["command"]
"""


def spin_count(code: str, **environment: str) -> str:
    """Return the value of GOMP_SPINCOUNT in a new process, at its first import of torch."""
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    words = [sys.executable, "-c", IMPORTS_TORCH_AFTER_THE_SETTING + code]
    done = subprocess.run(
        words, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True
    )
    return done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    "code",
    [
        "import train, trainer",
        "import inference, lab.stages",
        "import check, lab.checks.record",
        "import sweeps.trial, trainer",
        "from staff.quick_torch import import_torch; import lab; import_torch()",
    ],
)
def test_the_spin_count_is_set_before_torch_is_imported(code):
    assert spin_count(code) == SPIN_COUNT


def test_a_users_own_setting_wins():
    assert spin_count("import train, trainer", GOMP_SPINCOUNT="7") == "7"
