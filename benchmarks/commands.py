"""The project's commands as whole processes, timed: what the benchmarks share."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from lab import ROOT

TASKS = ("VAEwolabel", "Genwithlabel")


def timed(*words: object, env: dict[str, str] | None = None, quiet: bool = False) -> float:
    """Run a command in the project's folder; return the seconds of its process."""
    silence = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet else {}
    started = time.perf_counter()
    subprocess.run([str(word) for word in words], cwd=ROOT, check=True, env=env, **silence)
    return time.perf_counter() - started


def said(*words: object) -> dict:
    """Run a script of Python in the project's folder; return the line of JSON that it ends with.

    Raises RuntimeError, with what it said, when it fails.
    """
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def train_infer_grade(
    options: list, folder: Path, data: str | Path = "dataset/test", **how: object
) -> dict:
    """Train with options of train.py into a folder, infer and grade; return scores and seconds.

    Args:
        folder: from the project's folder, or absolute; overwritten.
        data: the split to infer and grade on.
        how: `env` and `quiet` of timed.

    `train_s` and `total_s` are the seconds of the processes; the rest is what grade.py wrote.
    """
    options = [str(option) for option in options]
    task = options[options.index("--task") + 1] if "--task" in options else TASKS[0]
    (other,) = set(TASKS) - {task}
    result = ROOT / folder / "grade.json"
    seconds = [
        timed(sys.executable, *map(str, words), **how)
        for words in (
            ["train.py", *options, "--save_dir", folder, "--overwrite"],
            ["inference.py", "--checkpoint_path", folder / "best.pth", "--data_path", data],
            ["grade.py", "--test_data_path", data, "--output", result, f"--no-{other}"]
            + [f"--{task}_output_dir", folder / "inference"],
        )
    ]
    scores = json.loads(result.read_text(encoding="utf-8"))[task]
    return {"task": task, **scores, "train_s": seconds[0], "total_s": sum(seconds)}


def machine() -> dict:
    """Return what a figure has to be read with: cores, versions, the day."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
