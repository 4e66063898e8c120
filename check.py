"""Check in a minute whether a submission is ready to train."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab import command
from lab.metrics import TASKS

if TYPE_CHECKING:
    from lab.checks import CheckFailed, Skipped

EXAMPLES = """examples:
  python check.py                         both models of submission.py
  python check.py --task VAEwolabel       the VAE alone, while GenModel is still to do
  python check.py --submission model.py
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of check.py."""
    parser = command.make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--submission", type=Path, default=Path("submission.py"), help="file to check")
    add("--task", choices=TASKS, help="one task only")
    add("--latent_dim", type=int, default=20, help="width of the codes in the check")
    return parser


def main() -> None:
    """Parse, check, print one line per check."""
    parser = make_parser()
    options = parser.parse_args()
    from lab.checks import CheckFailed, Checks
    from lab.loading import ContractError

    failed = 0
    with command.clear_errors(parser.prog, ContractError):
        if not options.submission.is_file():
            raise ContractError(
                f"{options.submission} does not exist; give the file with --submission."
            )
        for task in [options.task] if options.task else TASKS:
            print(f"{task} in {options.submission}")
            for name, found in Checks(options.submission, task, options.latent_dim).run():
                failed += isinstance(found, CheckFailed)
                _print_line(name, found)
    print("these are the public checks only; the grade comes from data you have not seen.")
    sys.exit(1 if failed else 0)


def _print_line(name: str, found: CheckFailed | Skipped | None) -> None:
    from lab.checks import CheckFailed

    if isinstance(found, CheckFailed):
        print(f"  FAIL  {name}\n        {found}\n        hint: {found.hint}", flush=True)
    elif found:
        print(f"  skip  {name}: {found}", flush=True)
    else:
        print(f"  ok    {name}", flush=True)


if __name__ == "__main__":
    command.run(main)
