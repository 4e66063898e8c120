"""The figures of the README: the reference solution over seeds, and `make demo`.

    python -m benchmarks.reference               measure all of it: 18 minutes on 2 cores
    python -m benchmarks.reference --only none   only write the README again, from stored figures

Each run is the three commands as a student types them, timed as whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

from benchmarks.commands import ROOT, machine, timed, train_infer_grade
from benchmarks.markdown import put_blocks

FIGURES = ROOT / "benchmarks" / "reference.json"
README = ROOT / "README.md"

FIRST_COMMANDS = (
    "python check.py",
    "python train.py --task VAEwolabel",
    "python inference.py",
    "python grade.py",
)
SEEDS = (42, 43, 44)
RECIPES = {
    "VAEwolabel": "--epochs 15 --batch_size 256 --lr 3e-3 --var 0.02",
    "Genwithlabel": "--epochs 20 --batch_size 256 --lr 3e-3 --var 0.02",
}
# spec.md, section 6: the best row of each task in the reports that the lab grew from.
SEEDS_BEST = {
    "VAEwolabel": {"ssim": 0.8551, "mse": 0.01275, "fid": None, "raw": None},
    "Genwithlabel": {"ssim": 0.8591, "mse": 0.01253, "fid": 2.412, "raw": 29.276},
}


def run(task: str, seed: int) -> dict:
    """Train, infer and grade once; return the scores and the seconds of the processes."""
    options = ["--task", task, *RECIPES[task].split(), "--seed", seed]
    row = train_infer_grade(options, Path("runs") / f"reference-{task}-{seed}")
    names = ("ssim", "mse", "fid", "raw", "score", "cap", "train_s", "total_s")
    return {**{name: row[name] for name in names}, "seed": seed}


def render_runs(figures: dict) -> str:
    """Return the README's table: mean and spread over the seeds beside the reports' best."""
    lines = [
        "| task | | ssim | mse | fid | raw | grade | training | in all |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task, rows in figures["runs"].items():
        scores = [("ssim", 4), ("mse", 5), ("fid", 2), ("raw", 2)]
        ours = [_spread(rows, name, digits) for name, digits in scores]
        ours.append(", ".join(sorted({f"{row['score']:.4g} / {row['cap']:.4g}" for row in rows})))
        ours += [f"{_spread(rows, name, 0)} s" for name in ("train_s", "total_s")]
        lines.append(f"| `{task}` | ours | {' | '.join(ours)} |")
        best = [SEEDS_BEST[task][name] for name, _ in scores]
        best = " | ".join("-" if value is None else f"{value:.5g}" for value in best)
        lines.append(f"| | reports' best | {best} | | 50 epochs | |")
    machine = figures["machine"]
    lines += [
        "",
        f"Mean ± standard deviation over the seeds {', '.join(str(row['seed']) for row in rows)} "
        f"(n = {len(rows)}), test split, 20 latent dimensions, 100 samples a label; "
        f"{machine['cores']} CPU cores, torch {machine['torch']}, {machine['date']}. "
        "Seconds are those of whole processes; *in all* adds inference and grading. The commands:",
        "",
        "```bash",
        *(f"python train.py --task {task} {recipe}" for task, recipe in RECIPES.items()),
        "python -m benchmarks.reference",
        "```",
        "",
        "The last one runs both over three seeds, infers, grades, and writes this table.",
    ]
    return "\n".join(lines) + "\n"


def _spread(rows: list[dict], name: str, digits: int) -> str:
    values = [row[name] for row in rows]
    if None in values:
        return "-"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def render_demo(demo: dict) -> str:
    """Return what `make demo` took and gave."""
    grades = " and ".join(
        f"{task} {row['score']:.4g} / {row['cap']:.4g} (raw {row['raw']:.2f})"
        for task, row in demo["scores"].items()
    )
    return (
        "`make demo` makes a virtual environment, trains both tasks for 5 epochs, infers, grades, "
        f"and says where the pictures are. On {demo['cores']} CPU cores it took "
        f"{demo['seconds']:.0f} s after installing, and gave {grades}.\n"
    )


def blocks() -> dict[str, str]:
    """Return each generated block of the README by name, from the stored figures."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    return {
        "demo": render_demo(figures["demo"]),
        "commands": render_commands(figures["commands"]),
        "reference": render_runs(figures),
    }


def measure_demo() -> dict:
    """Time `make demo` on a machine where everything is installed."""
    timed("make", ".venv/core")  # installing does not count
    seconds = timed("make", "demo")
    results = json.loads((ROOT / "runs" / "demo-grade.json").read_text(encoding="utf-8"))
    scores = {
        task: {name: row[name] for name in ("score", "cap", "raw")} for task, row in results.items()
    }
    return {"seconds": seconds, "cores": os.cpu_count(), "scores": scores}


def measure_commands() -> dict:
    """Time the README's first commands as they stand there, one after another."""
    if (ROOT / "runs" / "VAEwolabel").exists():
        sys.exit("runs/VAEwolabel is in the way; move it, so that the commands run as on day one.")
    seconds = {command: timed(sys.executable, *command.split()[1:]) for command in FIRST_COMMANDS}
    result = json.loads((ROOT / "grade_result.json").read_text(encoding="utf-8"))["VAEwolabel"]
    scores = {name: result[name] for name in ("ssim", "mse", "raw", "score", "cap")}
    return {"cores": os.cpu_count(), "seconds": seconds, "scores": scores}


def render_commands(commands: dict) -> str:
    """Return the commands with the seconds that each took, and the grade at their end."""
    seconds = [
        f"{command:38} # {seconds:.1f} s" for command, seconds in commands["seconds"].items()
    ]
    scores = commands["scores"]
    return "\n".join(
        [
            "```bash",
            *seconds,
            "```",
            "",
            f"The seconds are those of {commands['cores']} CPU cores, with the reference solution "
            f"and every default; its grade is then {scores['score']:.2f} / {scores['cap']:.4g} "
            f"(ssim {scores['ssim']:.3f}, mse {scores['mse']:.4f}, on `dataset/valid`).",
            "",
        ]
    )


def main() -> None:
    """Measure what is asked for, store the figures, write the README's blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", choices=("runs", "demo", "commands", "none"), help="measure only this"
    )
    args = parser.parse_args()
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    if args.only in (None, "runs"):
        figures["runs"] = {task: [run(task, seed) for seed in SEEDS] for task in RECIPES}
        figures["machine"] = machine()
    if args.only in (None, "demo"):
        figures["demo"] = measure_demo()
    if args.only in (None, "commands"):
        figures["commands"] = measure_commands()
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    put_blocks(README, blocks())


if __name__ == "__main__":
    main()
