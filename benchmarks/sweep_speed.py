"""Compare a sweep with one trial after another, and estimate the cost of 10 000 trials.

    python -m benchmarks.sweep_speed               measure everything: 30 minutes on 2 cores
    python -m benchmarks.sweep_speed --only mlp    measure one model
    python -m benchmarks.sweep_speed --only none   only write the documents, from stored figures

The same trials are run three times: by the three commands, one process after another, with all
threads; as a sweep with one worker that has all threads; as a sweep with its default workers.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.commands import make_parser, timed, train_infer_grade
from benchmarks.markdown import put_blocks
from lab import ROOT
from sweeps.estimate import in_words
from sweeps.plan import DEFAULT_GRID

FIGURES = ROOT / "benchmarks" / "sweep_speed.json"
SPEED_PAGE, COST_PAGE = ROOT / "docs" / "sweeps.md", ROOT / "docs" / "cluster.md"
EPOCHS = 5
GRIDS = {
    "mlp": ("model.py", DEFAULT_GRID),
    "conv": ("submission.py", {"var": [0.5, 0.25], "lr": [2e-3, 5e-3]}),
}
PICTURES = {"heatmap.png": "sweep_heatmap.png", "contact_sheet.png": "sweep_contact_sheet.png"}
MANY, MANY_EPOCHS, MANY_CORES = 10_000, 10, (16, 128, 1024)


def commands_seconds(submission: str, grid: dict[str, list], folder: Path) -> float:
    """Return the seconds of the three commands for each trial, one after another."""
    total = 0.0
    for number, values in enumerate(itertools.product(*grid.values())):
        options = [word for name, value in zip(grid, values) for word in (f"--{name}", value)]
        asked = ["--submission", submission, "--epochs", EPOCHS, *options]
        row = train_infer_grade(asked, folder / f"run{number}", "dataset/valid", quiet=True)
        total += row["total_s"]
    return total


def sweep_seconds(submission: str, grid: dict[str, list], folder: Path, *more: object) -> float:
    """Return the seconds of sweep.py over the same trials."""
    options = [word for name, values in grid.items() for word in (f"--{name}", *values)]
    asked = ["--submission", submission, "--epochs", EPOCHS, *options, "--save_dir", folder]
    return timed(sys.executable, "sweep.py", *asked, *more, quiet=True)


def measure(name: str) -> dict[str, Any]:
    """Run the trials in the three ways; return the seconds, and the time and disk of a trial."""
    submission, grid = GRIDS[name]
    with tempfile.TemporaryDirectory() as folder:
        sweep, one, commands = (Path(folder) / name for name in ("sweep", "one", "commands"))
        seconds = {
            "sweep": sweep_seconds(submission, grid, sweep),
            "one_worker": sweep_seconds(submission, grid, one, "--workers", 1),
            "commands": commands_seconds(submission, grid, commands),
        }
        if name == "mlp":  # the example of docs/sweeps.md
            for picture, copy in PICTURES.items():
                shutil.copyfile(sweep / picture, ROOT / "docs" / copy)
        with open(sweep / "results.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        records = [figures.read(sweep / "trials" / row["trial"] / "trial.json") for row in rows]
        files = [file for file in (sweep / "trials").rglob("*") if file.is_file()]
        weights = [file for file in files if file.suffix in (".pth", ".npy")]
        weights = [file for file in weights if file.name != "samples.npy"]
        return {
            "trials": len(rows),
            "epochs": EPOCHS,
            "finished": sum(row["status"] == "finished" for row in rows),
            "seconds": seconds,
            "over_commands": seconds["commands"] / seconds["sweep"],
            "over_one_worker": seconds["one_worker"] / seconds["sweep"],
            # Of a trial on one core, while the other cores are also busy.
            "epoch_s": statistics.fmean(record["epoch_seconds"] for record in records),
            "beyond_s": statistics.fmean(
                record["total_seconds"] - EPOCHS * record["epoch_seconds"] for record in records
            ),
            "bytes": sum(file.stat().st_size for file in files) / len(rows),
            "bytes_without_weights": sum(file.stat().st_size for file in set(files) - set(weights))
            / len(rows),
        }


def render_speed(stored: dict[str, Any]) -> str:
    """Return the block `sweep` of docs/sweeps.md: the seconds of each way."""
    machine = stored["machine"]
    lines = [
        f"The same trials of {EPOCHS} epochs, run in three ways, on {machine['cores']} CPU cores "
        f"with torch {machine['torch']} (`python -m benchmarks.sweep_speed`):",
        "",
        "| model | trials | the three commands, one trial after another, all threads "
        "| sweep, one worker with all threads | sweep, default workers | gain over both |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in GRIDS:
        row = stored["models"][name]
        seconds = row["seconds"]
        lines.append(
            f"| {name} | {row['trials']} | {seconds['commands']:.0f} s "
            f"| {seconds['one_worker']:.0f} s | {seconds['sweep']:.0f} s "
            f"| {row['over_commands']:.2f} x, {row['over_one_worker']:.2f} x |"
        )
    return "\n".join(lines) + "\n"


def render_cost(stored: dict[str, Any]) -> str:
    """Return the block `cost` of docs/cluster.md: time and disk of 10 000 trials."""
    cores = " | ".join(f"on {count} cores" for count in MANY_CORES)
    lines = [
        f"{MANY:,} trials of {MANY_EPOCHS} epochs, one core per trial. Three numbers are measured, "
        f"on a machine with {stored['machine']['cores']} busy cores: the seconds per epoch with "
        "its validation, the seconds per trial outside its epochs (loading, scoring, pictures), "
        "and the disk space per trial. The rest is computed from them.",
        "",
        f"| model | per epoch | outside epochs | per trial | core hours in total | {cores} "
        "| disk | disk with `--no-keep_weights` |",
        f"| --- | --- | --- | --- | --- | {'--- | ' * len(MANY_CORES)}--- | --- |",
    ]
    for name in GRIDS:
        row = stored["models"][name]
        trial = MANY_EPOCHS * row["epoch_s"] + row["beyond_s"]
        spans = " | ".join(in_words(MANY * trial / count) for count in MANY_CORES)
        lines.append(
            f"| {name} | {row['epoch_s']:.1f} s | {row['beyond_s']:.1f} s | {trial:.0f} s "
            f"| {MANY * trial / 3600:,.0f} | {spans} | {MANY * row['bytes'] / 1e9:,.0f} GB "
            f"| {MANY * row['bytes_without_weights'] / 1e9:,.0f} GB |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, store the figures, write the blocks."""
    parser = make_parser("benchmarks.sweep_speed", __doc__)
    parser.add_argument("--only", choices=(*GRIDS, "none"), help="measure only this model")
    args = parser.parse_args()
    stored = figures.stored(FIGURES)
    stored.setdefault("models", {})
    for name in GRIDS:
        if args.only in (None, name):
            stored["models"][name] = measure(name)
            stored["machine"] = figures.machine()
            print(json.dumps(stored["models"][name], indent=2), flush=True)
    figures.write(FIGURES, stored)
    put_blocks(SPEED_PAGE, {"sweep": render_speed(stored)})
    put_blocks(COST_PAGE, {"cost": render_cost(stored)})


if __name__ == "__main__":
    main()
