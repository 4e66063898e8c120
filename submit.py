"""Make submission.zip, the file to hand in: your code and the best checkpoint of each task.

Checks the code first. Checkpoints go in without the optimizer's state, which is two thirds of them.
theory.pdf and report.pdf go in if they are beside submission.py. Submit as often as you like until
the deadline: the newest counts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from lab import ROOT, command
from lab.checkpoint import CheckpointError, write_whole
from lab.hand_in import (
    CODE,
    MANIFEST,
    PAPERS,
    HandInError,
    Trained,
    manifest,
    misfit,
    trained,
    zip_bytes,
)
from lab.metrics import TASKS

EXAMPLES = """examples:
  python submit.py --helped_by "Bob: why the KL was negative; an AI assistant: this docstring"
  python submit.py --Genwithlabel runs/gen-var-0.25      this run, instead of the newest
  python submit.py --task VAEwolabel                     while GenModel is still to do
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of submit.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--submission", type=Path, default=Path(CODE), help="your code")
    add("--task", choices=TASKS, help="one task only")
    for task in TASKS:
        add(f"--{task}", type=Path, help=f"the run of {task}; the newest if not given")
    add("--runs", type=Path, default=Path("runs"), help="the folder of your runs")
    add("--helped_by", default="", help="people and AI assistants that helped, and with what")
    add("--out", type=Path, default=Path("submission.zip"), help="the zip to write")
    add("--no_check", action="store_true", help="do not run check.py")
    return parser


def main() -> None:
    """Parse, check, pack, print what is in the zip and what is not."""
    parser = make_parser()
    options = parser.parse_args()
    tasks = [options.task] if options.task else list(TASKS)
    with command.clear_errors(parser.prog, HandInError, CheckpointError):
        if not options.submission.is_file():
            raise HandInError(
                f"{options.submission} does not exist; give your code with --submission."
            )
        models = [trained(task, options.runs, getattr(options, task)) for task in tasks]
        checked = None if options.no_check else check(options.submission, options.task)
        paths = {CODE: options.submission, **papers(options.submission.parent)}
        files = {name: path.read_bytes() for name, path in paths.items()}
        files |= {f"{one.task}.pth": one.content for one in models}
        files[MANIFEST] = manifest(files, models, options.helped_by, checked)
        times = [path.stat().st_mtime for path in (*paths.values(), *(one.path for one in models))]
        content = zip_bytes(files, max(times))
        with write_whole(options.out) as file:
            file.write(content)
        for name in files:
            print(f"{name:<17} {_size(files[name]):>8}{_origin(name, models)}")
        for words in warnings(options, models, checked, paths):
            print(f"warning: {words}")
    print(f"{options.out}: {_size(content)}, the file to hand in")


def check(code: Path, task: str | None) -> bool:
    """Run check.py and return whether it had no complaint."""
    words = [str(ROOT / "check.py"), "--submission", str(code)]
    words += ["--task", task] if task else []
    return subprocess.run([sys.executable, *words]).returncode == 0


def papers(folder: Path) -> dict[str, Path]:
    """Return the papers in a folder, by name."""
    return {name: folder / name for name in PAPERS if (folder / name).is_file()}


def warnings(
    options: argparse.Namespace, models: list[Trained], checked: bool | None, paths: dict[str, Path]
) -> list[str]:
    """Return what may cost points: what is missing, and what does not fit."""
    found = [words for one in models if (words := misfit(one, options.submission))]
    if checked is False:
        found.append("check.py found something to correct, see above")
    missing = {f"{task}.pth" for task in TASKS} - {f"{one.task}.pth" for one in models}
    found += [f"{name} is not in it; submit again with both tasks" for name in sorted(missing)]
    absent = [name for name in PAPERS if name not in paths]
    found += [f"{name} is not beside {CODE}; hand it in as well" for name in absent]
    if not options.helped_by:
        found.append("no help is declared; if you had some, submit again with --helped_by")
    return found


def _origin(name: str, models: list[Trained]) -> str:
    """Return where a checkpoint is from, as the end of its line."""
    for one in models:
        if name == f"{one.task}.pth":
            before = f"{one.path.stat().st_size / 1e6:.1f} MB"
            return f"  {one.path}, epoch {one.state['epoch']}, {before} with the optimizer"
    return ""


def _size(content: bytes) -> str:
    count = len(content)
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    command.run(main)
