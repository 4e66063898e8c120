"""Measure the reference figures: the reference solution over seeds, `make demo`, the commands.

    python -m benchmarks.reference               measure everything: 18 minutes on 2 cores
    python -m benchmarks.reference --only demo   measure one part
    python -m benchmarks.reference --only none   only write the documents, from stored figures

Each run is the three commands as a student types them, timed as whole processes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import chinese, figures
from benchmarks.commands import make_parser, timed, train_infer_grade
from benchmarks.figures import mean_and_spread
from benchmarks.markdown import put_blocks
from lab import ROOT

FIGURES = ROOT / "benchmarks" / "reference.json"
README, README_ZH = ROOT / "README.md", ROOT / "README.zh.md"
PAGE = ROOT / "docs" / "reference.md"

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
# The example, trained once as docs/handout.md trains it; the leaderboard compares a class with it.
EXAMPLE = "--submission model.py --epochs 10 --batch_size 256 --var 0.05"
# The best row of each task in the original reports.
REPORTS_BEST: dict[str, dict[str, float | None]] = {
    "VAEwolabel": {"ssim": 0.8551, "mse": 0.01275, "fid": None, "raw": None},
    "Genwithlabel": {"ssim": 0.8591, "mse": 0.01253, "fid": 2.412, "raw": 29.276},
}


def run(task: str, seed: int, recipe: str, name: str) -> dict:
    """Train, infer and grade once; return the scores, and the seconds of the processes.

    name: of the run's folder, with the task and the seed.
    """
    options = ["--task", task, *recipe.split(), "--seed", seed]
    row = train_infer_grade(options, Path("runs") / f"{name}-{task}-{seed}")
    names = ("ssim", "mse", "fid", "raw", "score", "cap", "train_s", "total_s")
    return {**{name: row[name] for name in names}, "seed": seed}


def render_runs(stored: dict[str, Any]) -> str:
    """Return the block `reference`: mean and spread over seeds, and the reports' best."""
    lines = [
        "| task | | ssim | mse | fid | raw | grade | training | total |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    scores = {"ssim": 4, "mse": 5, "fid": 2, "raw": 2}
    for task, rows in stored["runs"].items():
        ours = [_spread(rows, name, digits) for name, digits in scores.items()]
        ours.append(", ".join(sorted({f"{row['score']:.4g} / {row['cap']:.4g}" for row in rows})))
        ours += [f"{_spread(rows, name, 0)} s" for name in ("train_s", "total_s")]
        lines.append(f"| `{task}` | the lab | {' | '.join(ours)} |")
        best = [REPORTS_BEST[task][name] for name in scores]
        theirs = " | ".join("-" if value is None else f"{value:.5g}" for value in best)
        lines.append(f"| | reports' best | {theirs} | | 50 epochs | |")
    machine = stored["machine"]
    lines += [
        "",
        f"Mean ± standard deviation over the seeds {', '.join(str(row['seed']) for row in rows)} "
        f"(n = {len(rows)}), test split, 20 latent dimensions, 100 samples per label; "
        f"{machine['cores']} CPU cores, torch {machine['torch']}, {machine['date']}. "
        "Times are those of whole processes; *total* adds inference and grading. The commands:",
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
    return mean_and_spread([row[name] for row in rows], digits)


def render_demo(demo: dict[str, Any]) -> str:
    """Return the block `demo`: the time of `make demo` and its grades."""
    grades = " and ".join(
        f"{task} {row['score']:.4g} / {row['cap']:.4g} (raw {row['raw']:.2f})"
        for task, row in demo["scores"].items()
    )
    return (
        "`make demo` makes a virtual environment, trains both tasks for 5 epochs, infers, grades, "
        "and prints where the pictures are. With every TODO filled in as in the reference "
        f"solution, it took {demo['seconds']:.0f} s on {demo['cores']} CPU cores after the "
        f"installation, and the grades were {grades}.\n"
    )


def blocks() -> dict[Path, dict[str, str]]:
    """Return the generated blocks of each document by name, from the stored figures."""
    stored = figures.read(FIGURES)
    demo, commands = stored["demo"], render_commands(stored["commands"])
    code = commands.split("\n\n")[0]
    return {
        README: {"demo": render_demo(demo), "commands": commands},
        README_ZH: {
            "demo": chinese.render_demo(demo),
            "commands": chinese.render_commands(code, stored["commands"]),
        },
        PAGE: {"reference": render_runs(stored)},
    }


def measure_demo() -> dict:
    """Time `make demo` without the installation."""
    timed("make", ".venv/core")  # installs
    seconds = timed("make", "demo")
    results = figures.read(ROOT / "runs" / "demo-grade.json")
    scores = {
        task: {name: row[name] for name in ("score", "cap", "raw")} for task, row in results.items()
    }
    return {"seconds": seconds, "cores": os.cpu_count(), "scores": scores}


def measure_commands() -> dict:
    """Time the first commands of the README, unchanged and in order."""
    if (ROOT / "runs" / "VAEwolabel").exists():
        sys.exit(
            "runs/VAEwolabel exists; move it, because the first commands must start without it."
        )
    seconds = {command: timed(sys.executable, *command.split()[1:]) for command in FIRST_COMMANDS}
    result = figures.read(ROOT / "grade_result.json")["VAEwolabel"]
    scores = {name: result[name] for name in ("ssim", "mse", "raw", "score", "cap")}
    return {"cores": os.cpu_count(), "seconds": seconds, "scores": scores}


def render_commands(commands: dict[str, Any]) -> str:
    """Return the block `commands`: each with its seconds, then the grade."""
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
            f"Measured on {commands['cores']} CPU cores with the reference solution and the "
            f"default options. The grade was {scores['score']:.2f} / {scores['cap']:.4g} "
            f"(ssim {scores['ssim']:.3f}, mse {scores['mse']:.4f}, on `dataset/valid`).",
            "",
        ]
    )


def main() -> None:
    """Measure, store the figures, write the blocks."""
    parser = make_parser("benchmarks.reference", __doc__)
    parts = ("runs", "example", "demo", "commands", "none")
    parser.add_argument("--only", choices=parts, help="measure only this part")
    args = parser.parse_args()
    stored = figures.stored(FIGURES)
    if args.only in (None, "runs"):
        stored["runs"] = {
            task: [run(task, seed, recipe, "reference") for seed in SEEDS]
            for task, recipe in RECIPES.items()
        }
        stored["machine"] = figures.machine()
    if args.only in (None, "example"):
        rows = {task: run(task, SEEDS[0], EXAMPLE, "example") for task in RECIPES}
        stored["example"] = {
            task: [{name: row[name] for name in ("ssim", "mse", "fid", "raw", "seed")}]
            for task, row in rows.items()
        }
    if args.only in (None, "demo"):
        stored["demo"] = measure_demo()
    if args.only in (None, "commands"):
        stored["commands"] = measure_commands()
    figures.write(FIGURES, stored)
    for document, named in blocks().items():
        put_blocks(document, named)


if __name__ == "__main__":
    main()
