"""A fire drill of sweeps on the real data: workers and sweeps killed, every figure compared.

    python -m benchmarks.sweep_drill        12 minutes on 2 cores

1. The default grid, 16 trials of the demo model, each by the three commands, on one thread.
2. The same as a sweep against a scheduler and two workers, processes of their own on loopback,
   one of them killed with -9 in the middle.
3. The same as a sweep on this machine, itself killed with -9 in the middle and started again.

Ends with status 1 unless all 16 figures of 2 and 3 are those of 1 to the last digit, and no
trial that was finished before the kill was run again.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.commands import ROOT, train_infer_grade
from sweeps.plan import DEFAULT_GRID

EPOCHS = 5
SCORES = ("ssim", "mse", "raw")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PORT = 18786
Figures = dict[tuple[float, ...], list[float]]


def start(*words: object) -> subprocess.Popen:
    """Start a Python command in the project's folder, on one thread, in silence."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=ONE_THREAD, **quiet)


def single_runs(folder: Path) -> Figures:
    """Return the figures of each trial, trained, inferred and graded by the commands."""
    figures = {}
    for number, values in enumerate(tqdm(list(itertools.product(*DEFAULT_GRID.values())))):
        options = [
            word for name, value in zip(DEFAULT_GRID, values) for word in (f"--{name}", value)
        ]
        asked = ["--submission", "model.py", "--epochs", EPOCHS, *options]
        how = {"env": ONE_THREAD, "quiet": True}
        row = train_infer_grade(asked, folder / str(number), "dataset/valid", **how)
        figures[values] = [row[name] for name in SCORES]
    return figures


def start_sweep(folder: Path, *more: object) -> subprocess.Popen:
    """Start the sweep over the same trials."""
    asked = ["sweep.py", "--submission", "model.py", "--epochs", EPOCHS, "--save_dir", folder]
    return start(*asked, *more)


def records_in(folder: Path) -> dict[str, dict]:
    """Return the record of each trial that has one."""
    files = folder.glob("trials/*/trial.json")
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def wait_for_the_middle(folder: Path, sweep: subprocess.Popen) -> dict[str, dict]:
    """Wait until five trials are finished and another is training; return the records then."""
    while sweep.poll() is None:
        records = records_in(folder)
        states = [record["status"] for record in records.values()]
        if states.count("finished") >= 5 and "running" in states:
            return records
        time.sleep(0.05)
    sys.exit("the sweep ended before it could be disturbed")


def figures_in(folder: Path) -> Figures:
    """Return the figures of results.csv, of finished trials."""
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "finished"]
    return {
        tuple(float(row[name]) for name in DEFAULT_GRID): [float(row[name]) for name in SCORES]
        for row in rows
    }


def with_a_worker_killed(folder: Path) -> Figures:
    """Return the figures of the sweep on a cluster of two workers that loses one."""
    address = f"tcp://127.0.0.1:{PORT}"
    dask = ["-m", "dask"]
    worker = [*dask, "worker", address, "--nthreads", 1, "--no-nanny", "--no-dashboard"]
    scheduler = start(*dask, "scheduler", "--host", "127.0.0.1", "--port", PORT, "--no-dashboard")
    workers = [start(*worker), start(*worker)]
    try:
        sweep = start_sweep(folder, "--scheduler", address)
        wait_for_the_middle(folder, sweep)
        workers[0].send_signal(signal.SIGKILL)
        sweep.wait()
    finally:
        for process in (*workers, scheduler):
            process.kill()
    return figures_in(folder)


def killed_and_started_again(folder: Path) -> tuple[Figures, int]:
    """Return the figures of the sweep that was killed, and how many trials it ran twice."""
    sweep = start_sweep(folder)
    before = wait_for_the_middle(folder, sweep)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    start_sweep(folder).wait()
    after = records_in(folder)
    finished = {name: one for name, one in before.items() if one["status"] == "finished"}
    print(f"{len(finished)} of {len(after)} trials were finished when the sweep was killed")
    return figures_in(folder), sum(after[name] != record for name, record in finished.items())


def main() -> None:
    """Run the three and compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single = single_runs(folder / "single")
        on_cluster = with_a_worker_killed(folder / "cluster")
        again, twice = killed_and_started_again(folder / "again")
    for what, figures in (("a worker killed", on_cluster), ("the sweep killed", again)):
        equal = sum(figures.get(values) == scores for values, scores in single.items())
        print(f"{what}: {len(figures)} rows, {equal} of {len(single)} equal to the single run's")
    print(f"finished trials that were run again: {twice}")
    sys.exit(0 if single == on_cluster == again and twice == 0 else 1)


if __name__ == "__main__":
    main()
