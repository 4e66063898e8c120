"""Check a submission: points per TODO, with a hint for each point that is lost.

Each TODO is checked by itself, so the file need not be complete. These are the completion points;
the scores come from train.py, inference.py and grade.py.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab import command
from lab.metrics import TASKS

if TYPE_CHECKING:
    from lab.checks.found import Problem
    from lab.checks.points import Points

EXAMPLES = """examples:
  python check.py                         both models of submission.py
  python check.py --task VAEwolabel       the VAE alone, while GenModel is still to do
  python check.py --submission model.py
"""
TODOS = {"VAEwolabel": "2.", "Genwithlabel": "3."}  # how the TODOs of a task begin
WIDTH = 100  # columns
UNTIL_HAND_IN = (
    "Not checked until you hand in: the same properties with other sizes, labels and images, and "
    "the {points} points for a GenModel that is trained and draws."
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of check.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--submission", type=Path, default=Path("submission.py"), help="file to check")
    add("--task", choices=TASKS, help="one task only")
    add("--latent_dim", type=int, default=20, help="width of the codes in the check")
    add("--quick", action="store_true", help="leave out the trial training, which takes longest")
    return parser


def main() -> None:
    """Parse, check, print the points of each TODO."""
    parser = make_parser()
    options = parser.parse_args()
    from lab.checks.found import raised
    from lab.checks.model import notes
    from lab.checks.points import judge
    from lab.checks.record import record
    from lab.checks.recording import PUBLIC
    from lab.loading import ContractError

    tasks = [options.task] if options.task else list(TASKS)
    with command.clear_errors(parser.prog, ContractError):
        if not options.submission.is_file():
            raise ContractError(
                f"{options.submission} does not exist; give the file with --submission."
            )
        if not 1 <= options.latent_dim <= 784:
            raise ContractError(f"--latent_dim is {options.latent_dim}; expected 1 to 784.")
        d = options.latent_dim
        setting = replace(PUBLIC, latent_dim=d, other_dim=8 if d != 8 else 12)
        recording = record(options.submission, setting)
    found = judge([(recording, setting)])
    begins = tuple(TODOS[task] for task in tasks)
    shown = [points for number, points in found.items() if number.startswith(begins)]
    if unreadable := recording.problems.get("file"):
        print(f"{options.submission} does not load, so no TODO can be checked:")
        print_problem(raised(unreadable))
    for points in shown if not unreadable else ():
        print_points(points)
    for note in notes(recording, setting) if "Genwithlabel" in tasks else ():
        print(f"note: {note}")
    todo = f"correct {options.submission}" if unreadable else to_correct(shown, options, tasks)
    print_sum(shown)
    print(f"next: {todo or f'python train.py --task {tasks[0]}'}")
    sys.exit(1 if todo else 0)


def to_correct(shown: list[Points], options: argparse.Namespace, tasks: list[str]) -> str:
    """Return what to correct first: a TODO, or else what the trials find; "" if nothing."""
    for points in shown:
        if points.points < points.part.points:
            return f"TODO {points.part.number}"
    if not all([try_the_prior(options, task) for task in tasks]):
        return "correct fit_prior, which is called after training, or remove it"
    if not options.quick and not all([train_a_little(options, task) for task in tasks]):
        return "find out why training does not work"
    return ""


def print_points(points: Points) -> None:
    """Print a line for a TODO, and below it what is wrong and where to look."""
    part = points.part
    print(f"{part.number:<6} {part.title:<17} {points.points:>2} / {part.points}", flush=True)
    for problem in points.problems():
        print_problem(problem)
    if points.counted_before:
        _print_below("the same mistake as in VAE costs nothing here")


def print_problem(problem: Problem) -> None:
    """Print what is wrong and where to look."""
    _print_below(problem.text)
    _print_below(f"hint: {problem.hint}")


def try_the_prior(options: argparse.Namespace, task: str) -> bool:
    """Call fit_prior if the model has it, print what is wrong, and return whether it works."""
    from lab.checks.prior import try_prior
    from lab.loading import ContractError

    try:
        failure = try_prior(options.submission, task, options.latent_dim)
    except (ContractError, RuntimeError) as error:
        failure = str(error)
    if failure:
        print(
            textwrap.fill(f"{task}, fit_prior (optional, below TODO 3.4): {failure}", WIDTH),
            flush=True,
        )
    return not failure


def train_a_little(options: argparse.Namespace, task: str) -> bool:
    """Train on one batch, print whether that works, and return it."""
    from lab.checks.training import memorise
    from lab.loading import ContractError

    try:
        failure = memorise(options.submission, task, options.latent_dim)
    except (ContractError, RuntimeError) as error:
        failure = str(error)
    print(f"{task}: {failure or 'training on one batch works'}", flush=True)
    return not failure


def print_sum(shown: list[Points]) -> None:
    """Print the sum of the points, and what is not checked yet."""
    from lab.checks.rubric import HAND_IN, most

    got, of = sum(one.points for one in shown), sum(one.part.points for one in shown)
    print(f"{got} of {of} completion points")
    print(textwrap.fill(UNTIL_HAND_IN.format(points=most(HAND_IN)), WIDTH))


def _print_below(text: str) -> None:
    indent = " " * 9
    print(textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent), flush=True)


if __name__ == "__main__":
    command.run(main)
