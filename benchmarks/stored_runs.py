"""Runs of train.py whose scores are kept: a stored run is not made again, on any machine.

The file of results has, for each run, its scores under the options of train.py that made it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.commands import train_infer_grade
from data_utils import MNISTDataset
from lab import ROOT, checkpoint
from lab.command import STATUS_OF_ERROR
from lab.evaluation.bounds import active_units
from lab.evaluation.evaluate import scores_of_draws
from lab.trained import load_trained

KEPT = ("ssim", "mse", "fid", "fid_pooled", "raw", "score")
Results = dict[str, dict[str, Any]]


def run(words: tuple[str, ...], at_a_draw: bool = False) -> dict[str, Any]:
    """Train, infer and grade with one thread; return the scores and what it took.

    at_a_draw: return the scores with z drawn from q(z|x) and the number of active units, too. A
    model that searches for its codes takes minutes for them.

    A training that cannot go on, because its loss is not finite, has no scores and "stopped".
    """
    name = hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]
    folder = Path("runs") / "stored" / name
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        row = train_infer_grade(list(words), folder, env=one_thread, quiet=True)
    except subprocess.CalledProcessError as error:
        # Another status is of a process that was interrupted or killed, and says nothing.
        if "train.py" not in error.cmd or error.returncode != STATUS_OF_ERROR:
            raise
        return {"stopped": True, "skipped_steps": 0, "machine": figures.machine()}
    with open(ROOT / folder / "history.csv", encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
    return {
        **{name: row[name] for name in KEPT if row.get(name) is not None},
        **(_measures(ROOT / folder / "best.pth") if at_a_draw else {}),
        "skipped_steps": int(history[-1]["skipped_steps"]),
        "train_s": round(row["train_s"], 1),
        "machine": figures.machine(),
    }


def _measures(path: Path) -> dict[str, Any]:
    """Return active_units and those of `scores_of_draws` on the test split; {} without q(z|x)."""
    submission = load_trained(path, checkpoint.load(path))
    dataset = MNISTDataset(ROOT / "dataset" / "test")
    if not submission.has_encoder or (drawn := scores_of_draws(submission, dataset)) is None:
        return {}
    return {**drawn, "active_units": active_units(submission, dataset.images, dataset.labels)}


def run_missing(
    wanted: Iterable[tuple[str, ...]],
    file: Path,
    document: Callable[[Results], None],
    at_a_draw: bool = False,
) -> Results:
    """Make the runs that the file does not have, one per core at a time; return all results.

    Args:
        wanted: the options of train.py of each run, in the order in which they are made.
        file: where each result is stored as soon as it is known.
        document: called with all results after each run.
        at_a_draw: see `run`.
    """
    results = figures.stored(file)
    lock = threading.Lock()

    def run_and_store(words: tuple[str, ...]) -> None:
        result = run(words, at_a_draw)
        with lock:
            results[" ".join(words)] = result
            figures.write(file, results)
            document(results)
        print(f"done: {' '.join(words)}", flush=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run_and_store, missing(wanted, results)))
    return results


def missing(wanted: Iterable[tuple[str, ...]], results: Results) -> list[tuple[str, ...]]:
    """Return the runs without a result, each once."""
    return [words for words in dict.fromkeys(wanted) if " ".join(words) not in results]
