"""Run sweeps on the real data, kill workers and sweeps, and compare every figure.

    python -m benchmarks.sweep_drill        12 minutes on 2 cores

1. The default grid, 16 trials of the demo model, each by the three commands, on one thread.
2. The same trials as a sweep against a scheduler and two workers, which are processes on loopback;
   one worker is killed with -9 in the middle.
3. The same trials as a sweep on this machine; the sweep is killed with -9 in the middle and
   started again.

The exit status is 0 if the 16 figures of 2 and of 3 equal those of 1 to the last digit, and no
trial that was finished before the kill was run again. Otherwise it is 1.
"""

from __future__ import annotations

import csv
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks import figures
from benchmarks.commands import make_parser, train_infer_grade
from benchmarks.drill import start, two_workers
from lab import ROOT
from sweeps.plan import DEFAULT_GRID

EPOCHS = 5
SCORES = ("ssim", "mse", "raw")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PORT = 18786
Scores = dict[tuple[float, ...], list[float]]


def single_runs(folder: Path) -> Scores:
    """Return the scores of each trial, trained, inferred and graded by the commands."""
    scores = {}
    for number, values in enumerate(tqdm(list(itertools.product(*DEFAULT_GRID.values())))):
        options = [
            word for name, value in zip(DEFAULT_GRID, values) for word in (f"--{name}", value)
        ]
        asked = ["--submission", "model.py", "--epochs", EPOCHS, *options]
        run = folder / str(number)
        row = train_infer_grade(asked, run, "dataset/valid", env=ONE_THREAD, quiet=True)
        scores[values] = [row[name] for name in SCORES]
    return scores


def start_sweep(folder: Path, *more: object) -> subprocess.Popen:
    """Start a sweep over the same trials."""
    asked = ["sweep.py", "--submission", "model.py", "--epochs", EPOCHS, "--save_dir", folder]
    return start(*asked, *more, env=ONE_THREAD)


def records_in(folder: Path) -> dict[str, dict]:
    """Return the records of the trials, by name."""
    files = folder.glob("trials/*/trial.json")
    return {file.parent.name: figures.read(file) for file in files}


def wait_for_the_middle(folder: Path, sweep: subprocess.Popen) -> dict[str, dict]:
    """Wait until five trials are finished and another is running; return the records."""
    while sweep.poll() is None:
        records = records_in(folder)
        states = [record["status"] for record in records.values()]
        if states.count("finished") >= 5 and "running" in states:
            return records
        time.sleep(0.05)
    sys.exit("the sweep ended before it could be killed")


def scores_in(folder: Path) -> Scores:
    """Return the scores of the finished trials in results.csv."""
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "finished"]
    return {
        tuple(float(row[name]) for name in DEFAULT_GRID): [float(row[name]) for name in SCORES]
        for row in rows
    }


def with_a_worker_killed(folder: Path) -> Scores:
    """Return the scores of a sweep on a cluster of two workers that loses one."""
    with two_workers(PORT, ONE_THREAD) as (address, workers, _):
        sweep = start_sweep(folder, "--scheduler", address, "--insecure-scheduler")
        wait_for_the_middle(folder, sweep)
        workers[0].send_signal(signal.SIGKILL)
        sweep.wait()
    return scores_in(folder)


def killed_and_started_again(folder: Path) -> tuple[Scores, int]:
    """Return the scores of a sweep that was killed, and the number of trials that it ran twice."""
    sweep = start_sweep(folder)
    before = wait_for_the_middle(folder, sweep)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    start_sweep(folder).wait()
    after = records_in(folder)
    finished = {name: one for name, one in before.items() if one["status"] == "finished"}
    print(f"{len(finished)} of {len(after)} trials were finished when the sweep was killed")
    return scores_in(folder), sum(after[name] != record for name, record in finished.items())


def main() -> None:
    """Run the trials in the three ways and compare."""
    make_parser("benchmarks.sweep_drill", __doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single = single_runs(folder / "single")
        on_cluster = with_a_worker_killed(folder / "cluster")
        again, twice = killed_and_started_again(folder / "again")
    for what, found in (("a worker killed", on_cluster), ("the sweep killed", again)):
        equal = sum(found.get(values) == scores for values, scores in single.items())
        print(f"{what}: {len(found)} rows, {equal} of {len(single)} equal to the single runs")
    print(f"finished trials that were run again: {twice}")
    sys.exit(0 if single == on_cluster == again and twice == 0 else 1)


if __name__ == "__main__":
    main()
