"""setup.sh in a bare Debian, and a submission graded there. FAULTS=long only: it installs torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attacks import state_of
from conftest import ROOT
from gradescope import broken_rules, lay_out, run_in_container

from lab import checkpoint
from staff.gradescope import build

LONG = os.environ.get("FAULTS") == "long"
SUITE = "bookworm"  # Debian 12 has the oldest bubblewrap and Python that will do: 0.8 and 3.11
MACHINE = "/machine"  # where files of this machine are in the bare system


def settings_of_pip() -> tuple[dict[str, str], list[str]]:
    """Return this machine's settings of pip for the bare system.

    Returns variables for a pip that sees none of its files, and bubblewrap's words that mount the
    local indices, wheels and certificates below MACHINE.
    """
    words = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    settings, mounts = {}, []
    for line in listed.splitlines():
        name, value = line.split("=", 1)
        parts = []
        for part in value.strip("'").split():
            path = part.removeprefix("file://")
            if path.startswith("/") and Path(path).exists():
                beside = str(Path(path).parent)  # an index names files beside itself
                mounts += ["--ro-bind", beside, MACHINE + beside]
                part = part.replace(path, MACHINE + path)
            parts.append(part)
        settings["PIP_" + name.rsplit(".", 1)[1].upper().replace("-", "_")] = " ".join(parts)
    return settings, mounts


@pytest.mark.skipif(not LONG, reason="FAULTS=long runs it")
@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0 or shutil.which("debootstrap") is None,
    reason="needs root and debootstrap (apt-get install debootstrap)",
)
def test_setup_and_a_run_in_a_bare_debian(tmp_path, tiny_data):
    system = tmp_path / "debian"
    made = ["debootstrap", "--variant=minbase", SUITE, system]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, timeout=1200)
    data = {"test": tiny_data, "train": tiny_data, "valid": tiny_data}
    splits = build.Splits(data, {}, "0f1e2d3c4b5a69788796a5b4c3d2e1f0")
    packed = build.build(tmp_path / "autograder.zip", splits, "--gen_num 20")
    folder = lay_out(tmp_path / "autograder", packed)
    shutil.copy(ROOT / "model.py", folder / "submission" / "submission.py")
    checkpoint.save(folder / "submission" / "VAEwolabel.pth", state_of("VAEwolabel"))
    mounts = ["--bind", str(system), "/", "--bind", str(folder), "/autograder"]
    mounts += ["--dev", "/dev", "--proc", "/proc"]
    for file in ("/etc/resolv.conf", "/etc/hosts"):
        mounts += ["--ro-bind", file, file]
    settings, more = settings_of_pip()
    mounts += more

    ended = run_in_container(
        folder, "bash source/setup.sh", mounts, environment=settings, seconds=1800
    )
    assert ended.returncode == 0, ended.stdout[-1500:] + ended.stderr[-3000:]
    torch = "venv/bin/python -c 'import torch; print(torch.__version__, torch.version.cuda)'"
    found = run_in_container(folder, f"bwrap --version; {torch}", mounts).stdout
    print(found)
    assert "bubblewrap 0.8" in found
    assert "+cpu None" in found or "CPU index does not answer" in ended.stderr

    ended = run_in_container(folder, "./run_autograder", mounts)
    assert ended.returncode == 0, ended.stderr
    content = (folder / "results" / "results.json").read_bytes()
    results = json.loads(content)
    assert broken_rules(content) == [] and results["score"] > 0
    assert results["extra_data"]["isolation"] == "bubblewrap"
    print(results["score"], len(content), "bytes")
