"""Run the lab's commands as whole processes, as a student does. Used by all benchmarks."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import figures
from lab import ROOT
from lab.metrics import CAPS

TASKS = tuple(CAPS)


def make_parser(module: str, docstring: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark; its help is the module's docstring, examples included."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=docstring,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def timed(*words: object, env: dict[str, str] | None = None, quiet: bool = False) -> float:
    """Run a command in the project's folder; return the seconds that its process took."""
    output = subprocess.DEVNULL if quiet else None
    command = [str(word) for word in words]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, env=env, stdout=output, stderr=output)
    return time.perf_counter() - started


def json_from(*words: object) -> dict[str, Any]:
    """Run a Python command in the project's folder; return the JSON on its last line.

    Raises RuntimeError with the end of its stderr when the command fails.
    """
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def train_infer_grade(
    options: list,
    folder: Path,
    data: str | Path = "dataset/test",
    env: dict[str, str] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train into a folder, infer and grade; return the scores and the seconds.

    Args:
        options: options of train.py.
        folder: relative to the project's folder, or absolute; overwritten.
        data: the split for inference and grading.
        env, quiet: see `timed`.

    `train_s` is the time of the process of train.py, `total_s` that of all three; the rest is what
    grade.py wrote for the task.
    """
    options = [str(option) for option in options]
    task = options[options.index("--task") + 1] if "--task" in options else TASKS[0]
    (other,) = set(TASKS) - {task}
    result = ROOT / folder / "grade.json"
    commands: list[list[object]] = [
        ["train.py", *options, "--save_dir", folder, "--overwrite"],
        ["inference.py", "--checkpoint_path", folder / "best.pth", "--data_path", data],
        ["grade.py", "--test_data_path", data, "--output", result, f"--no-{other}"],
    ]
    commands[-1] += [f"--{task}_output_dir", folder / "inference"]
    seconds = [timed(sys.executable, *words, env=env, quiet=quiet) for words in commands]
    scores = figures.read(result)[task]
    return {"task": task, **scores, "train_s": seconds[0], "total_s": sum(seconds)}


def grade_with_diagnostics(run: Path) -> dict[str, Any]:
    """Grade the outputs of a run of Genwithlabel on the test split with all measures.

    Returns what grade.py writes of the task; "diagnostics" has the measures.
    """
    result = ROOT / run / "diagnostics.json"
    words: list[object] = ["grade.py", "--test_data_path", "dataset/test", "--no-VAEwolabel"]
    words += ["--Genwithlabel_output_dir", run / "inference", "--diagnostics", "--output", result]
    timed(sys.executable, *words)
    return figures.read(result)["Genwithlabel"]
