"""Run the stages of every model in the sandbox under strace; print the calls that are refused.

    python -m benchmarks.system_calls                  the zoo, the tests' models: some minutes
    python -m benchmarks.system_calls zoo/record.py    one file

Use it after an update of Python or torch: a call that a stage needs belongs into ALLOWED in
`staff/seccomp.py`. The exit status is 1 if a stage fails, or if a call is refused that is not in
HARMLESS. It needs strace (apt-get install strace).
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.commands import make_parser
from lab import ROOT
from lab.checkpoint import FORMAT_VERSION
from lab.checks.recording import PUBLIC
from lab.loading import CLASS_OF_TASK
from lab.split_model import Submission
from staff import sandbox

LATENT_DIM, IMAGES = 8, 16
FILES = ("submission.py", "model.py", "zoo/*.py", "tests/submissions/*.py")
# Refused, and the stage does the same without it.
HARMLESS = {
    "mbind": "a hint on which memory is near which processor",
    "epoll_create1": "Python's selectors ask whether there is epoll",
    "mmap": "the C library's cache of encodings is mapped shared; it reads other files instead",
    "clone3": "the C library falls back to clone",
}
REFUSED = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)[( ].*= -1 (?:EPERM|ENOSYS) ")
CLONED = re.compile(r"^(\d+) +(?:<\.\.\. )?(?:clone|v?fork)\b.*= (\d+)$")
STARTED = re.compile(r'^(\d+) +execve\(".*"/lab/staff/stage\.py"')


def main(arguments: list[str] | None = None) -> None:
    """Trace each file and print what was refused."""
    parser = make_parser("benchmarks.system_calls", __doc__)
    parser.add_argument("files", nargs="*", type=Path, help="submissions; default: all of the lab")
    parser.add_argument("--stages", action="store_true", help="only run the stages, untraced")
    args = parser.parse_args(arguments)
    files = args.files or sorted(file for name in FILES for file in ROOT.glob(name))
    if args.stages:
        sys.exit(sum(run_stages(file) for file in files))
    if shutil.which("strace") is None:
        parser.error("strace is missing; install it (apt-get install strace).")
    failed = False
    for file in files:
        refused, status = trace(file)
        unknown = sorted(set(refused) - set(HARMLESS))
        failed = failed or bool(unknown) or status != 0
        calls = ", ".join(f"{name} {count}" for name, count in sorted(refused.items()))
        print(f"{file}: refused: {calls or 'nothing'}; {status} stages failed", flush=True)
    sys.exit(1 if failed else 0)


def trace(file: Path) -> tuple[Counter[str], int]:
    """Run the stages of a submission under strace.

    Returns how often each call was refused, and the number of stages that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "trace"
        words = ["strace", "-f", "-qq", "-o", str(output)]
        words += [sys.executable, "-m", "benchmarks.system_calls", "--stages", str(file.resolve())]
        status = subprocess.run(words, cwd=ROOT).returncode
        return refused_calls(output.read_text(errors="replace").splitlines()), status


def refused_calls(lines: list[str]) -> Counter[str]:
    """Count the refused calls of the stages in a trace; their processes run stage.py first."""
    stages: set[str] = set()
    refused: Counter[str] = Counter()
    for line in lines:
        if started := STARTED.match(line):
            stages.add(started[1])
        elif (cloned := CLONED.match(line)) and cloned[1] in stages:  # a thread or a child
            stages.add(cloned[2])
        elif (call := REFUSED.match(line)) and call[1] in stages:
            refused[call[2]] += 1
    return refused


def run_stages(file: Path) -> int:
    """Run all stages of each task of a submission in the sandbox; return how many failed."""
    failed = 0
    classes = {
        node.name
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    for task in [task for task, name in CLASS_OF_TASK.items() if name in classes]:
        with tempfile.TemporaryDirectory() as folder:
            failed += _run_stages(file, task, Path(folder))
    settings = [asdict(PUBLIC)]
    outcome = sandbox.run_stage(
        "record", {"submission.py": file}, sandbox.Limits(), settings=settings
    )
    return failed + _has_failed(file, "record", outcome)


def _run_stages(file: Path, task: str, folder: Path) -> int:
    """Run the stages of one task, with untrained weights; return how many failed."""
    state = {"format_version": FORMAT_VERSION, "epoch": 1, "task": task, "latent_dim": LATENT_DIM}
    state["model_state_dict"] = Submission(file, task, LATENT_DIM).model.state_dict()
    torch.save({**state, "optimizer_state_dict": {}}, folder / "checkpoint.pth")
    np.save(folder / "images.npy", np.zeros((IMAGES, 28, 28), np.uint8))
    np.save(folder / "codes.npy", np.zeros((IMAGES, LATENT_DIM), np.float16))
    inputs = {"submission.py": file, "checkpoint.pth": folder / "checkpoint.pth"}
    failed = 0
    stages: dict[str, dict[str, Any]] = {"encode": {}, "decode": {}}
    if task == "Genwithlabel":
        stages["generate"] = {"gen_num": 2, "seed": 1}
    for stage, options in stages.items():
        more = {"encode": "images.npy", "decode": "codes.npy"}.get(stage)
        given = inputs | ({more: folder / more} if more else {})
        outcome = sandbox.run_stage(stage, given, sandbox.Limits(), task=task, **options)
        failed += _has_failed(file, stage, outcome)
    return failed


def _has_failed(file: Path, stage: str, outcome: sandbox.Outcome) -> bool:
    """Return whether a stage failed, and print why."""
    if outcome.status != "done":
        print(f"{file.name} {stage}: {outcome.status}: {outcome.message}", flush=True)
    return outcome.status != "done"


if __name__ == "__main__":
    main()
