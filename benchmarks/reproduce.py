"""Run the tables of the original reports again, each row at the report's settings and length.

    python -m benchmarks.reproduce            the rows that have no result yet: hours on 2 cores
    python -m benchmarks.reproduce --only WGAN   rows of tables with that word in the title
    python -m benchmarks.reproduce --report   run nothing; write docs/results.md from stored figures

Each result is stored in benchmarks/reproduce.json when its row is done, under the options of
train.py that made it. A row that has a result is not run again, on another machine neither.
"""

from __future__ import annotations

import csv
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import figures, results_page
from benchmarks.commands import make_parser, train_infer_grade
from benchmarks.report_tables import TABLES
from lab import ROOT

RESULTS = ROOT / "docs" / "results.md"
FIGURES = ROOT / "benchmarks" / "reproduce.json"
KEPT = ("ssim", "mse", "fid", "fid_pooled", "raw", "score")


def missing(results: results_page.Results, only: str = "") -> list[tuple[str, ...]]:
    """Return the options of the runs without a result; the first seed of every row comes first."""
    wanted = [
        table.command(row, seed)
        for seed in results_page.SEEDS
        for table in TABLES
        for row in table.rows
        if only in table.title and seed in results_page.seeds_of(row)
    ]
    return [words for words in dict.fromkeys(wanted) if " ".join(words) not in results]


def run(words: tuple[str, ...]) -> dict[str, Any]:
    """Train, infer and grade a row with one thread; return its scores and what it took."""
    name = hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]
    folder = Path("runs") / "reproduce" / name
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    row = train_infer_grade(list(words), folder, env=one_thread, quiet=True)
    with open(ROOT / folder / "history.csv", encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
    return {
        **{name: row[name] for name in KEPT if row.get(name) is not None},
        "skipped_steps": int(history[-1]["skipped_steps"]),
        "train_s": round(row["train_s"], 1),
        "machine": figures.machine(),
    }


def main() -> None:
    """Run what is missing, store each result, write docs/results.md."""
    parser = make_parser("benchmarks.reproduce", __doc__)
    parser.add_argument("--only", default="", help="run the tables with this text in the title")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    results: dict[str, Any] = figures.read(FIGURES) if FIGURES.exists() else {}
    lock = threading.Lock()

    def run_and_store(words: tuple[str, ...]) -> None:
        result = run(words)
        with lock:
            results[" ".join(words)] = result
            figures.write(FIGURES, results)
            RESULTS.write_text(results_page.document(results), encoding="utf-8")
        print(f"done: {' '.join(words)}", flush=True)

    if not args.report:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run_and_store, missing(results, args.only)))
    RESULTS.write_text(results_page.document(results), encoding="utf-8")
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
