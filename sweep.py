"""Train, infer and grade with many values of the options, several trials at once."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from lab import command

# isort: split
from data_utils import DataError
from lab.cluster import ClusterError, require_dask
from lab.lock import FolderInUseError, only_one
from lab.settings import SettingsError
from sweeps.draft import write_draft
from sweeps.plan import (
    DEFAULT_GRID,
    DEFAULT_TRIALS,
    PRESETS,
    SweepError,
    add_training_options,
    check_values,
    chosen_values,
    clear,
    make_search,
    read_records,
)
from sweeps.report import write_report
from sweeps.runner import Sweep
from sweeps.search import SearchError
from sweeps.workers import workers_for

EXAMPLES = """examples:
  python sweep.py                                     var and lr, a grid of 16 trials
  python sweep.py --task Genwithlabel --epochs 5      the same for the conditional model
  python sweep.py --var 0.5 0.25 --latent_dim 10 20 30
  python sweep.py --preset latent --seed 1 2 3        presets: var, lr, batch, latent
  python sweep.py --search tpe --trials 40 --var 0.005 0.5 --lr 1e-4 1e-2
  python sweep.py --scheduler tls://10.0.0.1:8786     on a cluster: docs/cluster.md
Run the same command again to continue a sweep that was stopped or killed; finished trials are kept.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of sweep.py: its own options, and those of train.py with several values."""
    grid = " x ".join(f"{name} {values}" for name, values in DEFAULT_GRID.items())
    default = f"Options of train.py take several values each. Without any: {grid}."
    parser = command.make_parser(f"{__doc__}\n\n{default}", EXAMPLES)
    group = parser.add_argument_group("the sweep")
    add = group.add_argument
    add("--preset", choices=tuple(PRESETS), help="the values of a table in the original reports")
    add(
        "--search",
        choices=("grid", "tpe"),
        default="grid",
        help="all combinations, or values chosen by Optuna",
    )
    add("--trials", type=int, help=f"trials of --search tpe; {DEFAULT_TRIALS} if not given")
    add("--save_dir", type=Path, help="the sweep's folder; runs/sweep-TASK if not given")
    add("--overwrite", action="store_true", help="run all trials again")
    add("--retry-failed", "--retry_failed", action="store_true", help="run failed trials again")
    add("--report", action="store_true", help="run nothing; write tables and pictures again")
    add(
        "--keep_weights",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep best.pth and the arrays of graded trials",
    )
    group = parser.add_argument_group("where it runs")
    add = group.add_argument
    add("--scheduler", help="address of a Dask scheduler with TLS; this machine if not given")
    add("--insecure-scheduler", action="store_true", help="allow --scheduler without TLS")
    add("--workers", type=int, help="trials at once on this machine; one per core if not given")
    add("--trials_per_gpu", type=int, help="trials per GPU of this machine; 1 if not given")
    add_training_options(parser, nargs="+")
    return parser


def main() -> None:
    """Parse, plan, run, report."""
    parser = make_parser()
    options = vars(parser.parse_args())
    given = command.given_options(parser)
    values = chosen_values(options, given)
    folder = options["save_dir"] or Path("runs") / "-".join(["sweep", *values["task"]])
    if not options["report"]:
        with command.clear_errors(parser.prog, ClusterError):
            require_dask()

    # These import torch, which takes seconds; --help and a mistyped option do not wait for it.
    from lab.device import pick_device
    from lab.loading import ContractError

    errors = (SweepError, SearchError, SettingsError, DataError, ContractError, ClusterError)
    with command.clear_errors(parser.prog, *errors, FolderInUseError):
        if not options["report"]:
            check_values(values)
        stopped = False
        with nullcontext() if options["report"] else only_one(folder, "--save_dir"):
            search = make_search(options, values, folder)
            sweep = Sweep(search, read_records(search, options), folder, options["keep_weights"])
            if not options["report"] and not sweep.complete:
                device = pick_device(values["device"][0]).type
                with workers_for(options, len(search), device) as (workers, threads):
                    if options["overwrite"]:
                        clear(search)
                    stopped = not sweep.run(workers, threads)
            write_report(folder, search, sweep.records)
            write_draft(folder, search, sweep.records, sys.argv[1:])
    if sweep.failed:
        print(f"{sweep.failed} of {len(search)} trials failed; --retry-failed runs them again")
    if stopped:
        without = " without --overwrite" if options["overwrite"] else ""
        print(f"stopped; run the same command{without} to continue")
        sys.exit(command.status_of_stop())
    sys.exit(1 if sweep.failed else 0)


if __name__ == "__main__":
    command.run(main)
