"""Everything after the installation works without a network: nothing but loopback."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from lab import ROOT, command, demo
from tests.faults import kills

LONG = os.environ.get("FAULTS") == "long"

# Brings up loopback in the new network namespace, and runs the commands in it one after another.
INSIDE = """
import fcntl, os, socket, struct, subprocess, sys
UP, SIOCSIFFLAGS = 1, 0x8914
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), SIOCSIFFLAGS,
            struct.pack("16sh14x", b"lo", UP))
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
try:
    socket.create_connection(("192.0.2.1", 80), 2)
    sys.exit("there is a network")
except OSError:
    pass
sys.exit(subprocess.call(["sh", "-e", "-c", sys.argv[1]]))
"""


def namespace() -> list[str] | None:
    """Return the words that start a program in a network namespace; None where there are none."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return None
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    words = ["unshare", *user, "--net"]
    tried = subprocess.run([*words, sys.executable, "-c", INSIDE, "true"], capture_output=True)
    return words if tried.returncode == 0 else None


def demo_commands(inputs: kills.Inputs) -> list[str]:
    """Return the commands of `make demo`, on tiny data, for one epoch of a small model."""
    data = f"--train_data {inputs.data} --valid_data {inputs.data}"
    options = f"--epochs 1 --batch_size 20 {data} --submission {inputs.submission}"
    return [
        command.as_typed(*words).replace("python", shlex.quote(sys.executable), 1)
        for words in demo.steps(inputs.data, options, explorer=False)
    ]


def test_the_lab_needs_no_network(tmp_path):
    words = namespace()
    if words is None:
        pytest.skip("needs Linux with network namespaces")
    (tmp_path / "lab").mkdir()
    for file in ROOT.glob("*.py"):  # so that runs/ is not the user's own
        (tmp_path / "lab" / file.name).symlink_to(file)
    inputs = kills.Inputs(tmp_path / "inputs")
    commands = demo_commands(inputs)
    assert len(commands) == 7
    python = shlex.quote(sys.executable)
    if LONG:
        sweep = inputs.training("VAEwolabel", "--epochs", 1, "--workers", 1)
        asked = ["sweep.py", *sweep, "--save_dir", tmp_path / "sweep"]
        commands.append(f"{python} {shlex.join(map(str, asked))}")
    if LONG and kills.has_sandbox():
        one = tmp_path / "class" / "ada"
        run = tmp_path / "lab" / "runs" / "demo-VAEwolabel"
        copied = f"cp {run}/submission.py {one}/ && cp {run}/best.pth {one}/VAEwolabel.pth"
        graded = ["-m", "staff.grade_class", one.parent, "--out", tmp_path / "graded"]
        graded += ["--test_data", inputs.data, "--train_data", inputs.data, "--gen_num", 5]
        commands += [f"mkdir -p {one} && {copied}", f"{python} {shlex.join(map(str, graded))}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*words, sys.executable, "-c", INSIDE, "\n".join(commands)],
        cwd=tmp_path / "lab",
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "lab" / "runs" / "demo-grade.json").is_file()
    if LONG:
        assert (tmp_path / "sweep" / "results.csv").is_file()
        assert (tmp_path / "graded" / "grades.csv").is_file() or not kills.has_sandbox()
