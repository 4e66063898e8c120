"""What a sweep gains over one trial after another, and what 10 000 trials would cost.

    python -m benchmarks.sweep_speed               measure all of it: 30 minutes on 2 cores
    python -m benchmarks.sweep_speed --only none   only write the documents again

The same trials are run three times: as the three commands, one process after another, with all
threads; as a sweep with one worker that has all threads; as a sweep with its own choice of workers.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.commands import ROOT, machine, timed, train_infer_grade
from benchmarks.markdown import put_blocks
from sweeps.estimate import in_words
from sweeps.plan import DEFAULT_GRID

FIGURES = ROOT / "benchmarks" / "sweep_speed.json"
EPOCHS = 5
GRIDS = {
    "mlp": ("model.py", DEFAULT_GRID),
    "conv": ("submission.py", {"var": [0.5, 0.25], "lr": [2e-3, 5e-3]}),
}
PICTURES = {"heatmap.png": "sweep_heatmap.png", "contact_sheet.png": "sweep_samples.png"}
MANY, MANY_EPOCHS, MANY_CORES = 10_000, 10, (16, 128, 1024)


def commands_seconds(submission: str, grid: dict[str, list], folder: Path) -> float:
    """Seconds of train.py, inference.py and grade.py for each trial, one after another."""
    total = 0.0
    for number, values in enumerate(itertools.product(*grid.values())):
        options = [word for name, value in zip(grid, values) for word in (f"--{name}", value)]
        asked = ["--submission", submission, "--epochs", EPOCHS, *options]
        row = train_infer_grade(asked, folder / f"run{number}", "dataset/valid", quiet=True)
        total += row["total_s"]
    return total


def sweep_seconds(submission: str, grid: dict[str, list], folder: Path, *more: object) -> float:
    """Seconds of sweep.py over the same trials."""
    options = [word for name, values in grid.items() for word in (f"--{name}", *values)]
    asked = ["--submission", submission, "--epochs", EPOCHS, *options, "--save_dir", folder]
    return timed(sys.executable, "sweep.py", *asked, *more, quiet=True)


def measure(name: str) -> dict:
    """Run the trials in the three ways and look at what one of them takes."""
    submission, grid = GRIDS[name]
    with tempfile.TemporaryDirectory() as folder:
        sweep, one, commands = (Path(folder) / name for name in ("sweep", "one", "commands"))
        seconds = {
            "sweep": sweep_seconds(submission, grid, sweep),
            "one_worker": sweep_seconds(submission, grid, one, "--workers", 1),
            "commands": commands_seconds(submission, grid, commands),
        }
        if name == "mlp":  # the README's own example
            for picture, copy in PICTURES.items():
                shutil.copyfile(sweep / picture, ROOT / "docs" / copy)
        with open(sweep / "results.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        records = [
            json.loads((sweep / "trials" / row["trial"] / "trial.json").read_text(encoding="utf-8"))
            for row in rows
        ]
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
            # One trial on one core while the other cores are as busy.
            "epoch_s": statistics.fmean(record["epoch_seconds"] for record in records),
            "beyond_s": statistics.fmean(
                record["total_seconds"] - EPOCHS * record["epoch_seconds"] for record in records
            ),
            "bytes": sum(file.stat().st_size for file in files) / len(rows),
            "bytes_without_weights": sum(file.stat().st_size for file in set(files) - set(weights))
            / len(rows),
        }


def render_speed(figures: dict) -> str:
    """Return the README's table."""
    lines = [
        f"The same trials of {EPOCHS} epochs, in three ways, on {figures['machine']['cores']} "
        f"CPU cores with torch {figures['machine']['torch']} "
        "(`python -m benchmarks.sweep_speed`):",
        "",
        "| model | trials | the three commands, one trial after another, all threads "
        "| sweep, one worker with all threads | sweep as it is | gain over both |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in GRIDS:
        row = figures["models"][name]
        seconds = row["seconds"]
        lines.append(
            f"| {name} | {row['trials']} | {seconds['commands']:.0f} s "
            f"| {seconds['one_worker']:.0f} s | {seconds['sweep']:.0f} s "
            f"| {row['over_commands']:.2f} x, {row['over_one_worker']:.2f} x |"
        )
    return "\n".join(lines) + "\n"


def render_cost(figures: dict) -> str:
    """Return what 10 000 trials would cost, for docs/cluster.md."""
    cores = " | ".join(f"on {count} cores" for count in MANY_CORES)
    lines = [
        f"{MANY:,} trials of {MANY_EPOCHS} epochs, one core each. Measured, on a machine with "
        f"{figures['machine']['cores']} cores, both busy: the seconds of an epoch with its "
        "validation, those of a trial beyond its epochs (loading, scoring, pictures), and the "
        "bytes that it leaves. The rest is multiplication.",
        "",
        f"| model | an epoch | beyond | a trial | all, core hours | {cores} "
        "| disk | with `--no-keep_weights` |",
        f"| --- | --- | --- | --- | --- | {'--- | ' * len(MANY_CORES)}--- | --- |",
    ]
    for name in GRIDS:
        row = figures["models"][name]
        trial = MANY_EPOCHS * row["epoch_s"] + row["beyond_s"]
        spans = " | ".join(in_words(MANY * trial / count) for count in MANY_CORES)
        lines.append(
            f"| {name} | {row['epoch_s']:.1f} s | {row['beyond_s']:.1f} s | {trial:.0f} s "
            f"| {MANY * trial / 3600:,.0f} | {spans} | {MANY * row['bytes'] / 1e9:,.0f} GB "
            f"| {MANY * row['bytes_without_weights'] / 1e9:,.0f} GB |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for, store the figures, write the documents' blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=(*GRIDS, "none"), help="measure only this")
    args = parser.parse_args()
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    figures.setdefault("models", {})
    for name in GRIDS:
        if args.only in (None, name):
            figures["models"][name] = measure(name)
            figures["machine"] = machine()
            print(json.dumps(figures["models"][name], indent=2), flush=True)
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    put_blocks(ROOT / "README.md", {"sweep": render_speed(figures)})
    put_blocks(ROOT / "docs" / "cluster.md", {"cost": render_cost(figures)})


if __name__ == "__main__":
    main()
