"""Train both models, infer, grade, and write a page of each: `make demo` after the set-up."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from lab import ROOT, command
from lab.metrics import TASKS

EXAMPLES = """examples:
  python -m lab.demo
  python -m lab.demo --data dataset/valid --recipe "--epochs 1 --submission model.py"
"""
FOR_EXPLORE = ("onnx", "onnxscript")  # optional; see requirements/explore.txt
RECIPE = "--epochs 5 --batch_size 256 --lr 3e-3 --var 0.02"


def steps(data: Path, recipe: str, explorer: bool = True) -> list[list[str]]:
    """Return the commands, without `python`.

    explorer: whether to write the explorer too, if its packages are installed.
    """
    runs = {task: f"runs/demo-{task}" for task in TASKS}
    trains = [
        ["train.py", "--task", task, *shlex.split(recipe), "--save_dir", run]
        for task, run in runs.items()
    ]
    infers = [
        ["inference.py", "--checkpoint_path", f"{run}/best.pth", "--data_path", str(data)]
        for run in runs.values()
    ]
    grade = ["grade.py", "--test_data_path", str(data), "--output", "runs/demo-grade.json"]
    for task, run in runs.items():
        grade += [f"--{task}_output_dir", f"{run}/inference"]
    pages = [["report.py", run, "--data_path", str(data)] for run in runs.values()]
    if explorer and all(find_spec(name) for name in FOR_EXPLORE):
        pages += [["explore.py", *words, "--no_open"] for _, *words in pages]
    return [*(words + ["--overwrite", "--video"] for words in trains), *infers, grade, *pages]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of lab.demo."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--data", type=Path, default=Path("dataset/test"), help="dataset to reconstruct and grade")
    add("--recipe", default=RECIPE, help="options of train.py")
    add("--no_explorer", action="store_true", help="leave explorer.html out")
    return parser


def main() -> None:
    """Run the commands one after another; stop at one that fails, with its status."""
    options = make_parser().parse_args()
    for words in steps(options.data, options.recipe, not options.no_explorer):
        print(command.as_typed(*words), flush=True)
        if status := _run(words):
            sys.exit(status)
    print("pictures: runs/demo-*/inference/*.png, videos: runs/demo-*/training.gif")
    print("pages: runs/demo-*/*.html")


def _run(words: list[str]) -> int:
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the command got Ctrl-C as well; it saves its work and ends
            continue


if __name__ == "__main__":
    command.run(main)
