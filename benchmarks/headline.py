"""Measure the time to reach the best scores of the original reports, from train.py to the grade.

    python -m benchmarks.headline                              measure; 2 minutes on 2 cores
    python -m benchmarks.headline --record "what was changed"  add a line to the record table
    python -m benchmarks.headline --report                     only write the table again

The rules: 20 latent dimensions, the three commands unchanged, scores on the test split. Each of
five runs, with different seeds, must reach the scores in AIMS. The submission may have any design.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from benchmarks import figures
from benchmarks.commands import make_parser, train_infer_grade
from benchmarks.figures import mean_and_spread
from benchmarks.markdown import put_blocks
from lab import ROOT

RECORDS = ROOT / "benchmarks" / "records"
FIGURES = RECORDS / "records.json"
SUBMISSION = RECORDS / "quick.py"
# The best runs of the original reports: 50 epochs, about 840 s in the usual pipeline.
AIMS = {
    "vae": {"ssim": (">=", 0.8504), "mse": ("<=", 0.01335)},
    "gen": {"raw": (">=", 29.28)},
}
RECIPE = "--submission benchmarks/records/quick.py --epochs 1 --batch_size 128 --lr 5e-3 --var 0.02"
RECIPES = {"vae": f"--task VAEwolabel {RECIPE}", "gen": f"--task Genwithlabel {RECIPE}"}
SEEDS = (42, 43, 44, 45, 46)
SCORES = ("ssim", "mse", "fid", "raw")


class MissedError(RuntimeError):
    """A run did not reach the scores; the message says which run and score."""


def run(name: str, seed: int, folder: Path) -> dict:
    """Train, infer and grade once; return the scores and seconds. Raises MissedError."""
    options = [*RECIPES[name].split(), "--seed", seed]
    row = train_infer_grade(options, folder, quiet=True)
    for score, (sign, aim) in AIMS[name].items():
        if not (row[score] >= aim if sign == ">=" else row[score] <= aim):
            raise MissedError(
                f"{name} with seed {seed} has {score} {row[score]:.5g}, not {sign} {aim}."
            )
    seconds = {"train": training_seconds(folder), "train_process": row["train_s"]}
    seconds["total"] = row["total_s"]
    return {"seed": seed, **{score: row[score] for score in SCORES}, **seconds}


def training_seconds(run: Path) -> float:
    """Return the seconds of all steps and of `fit_prior`, without validations."""
    with open(run / "history.csv", encoding="utf-8", newline="") as file:
        seconds = float(list(csv.DictReader(file))[-1]["seconds"])
    pictures = sorted((run / "progress").glob("*.png"))
    # prior.png is drawn after the fit; the picture before it is drawn after the last epoch.
    if pictures[-1].name == "prior.png":
        seconds += pictures[-1].stat().st_mtime - pictures[-2].stat().st_mtime
    return seconds


def run_all(folder: Path) -> dict[str, list[dict]]:
    """Run each recipe with each seed; return the rows by name."""
    rows: dict[str, list[dict]] = {name: [] for name in RECIPES}
    with tqdm(total=len(RECIPES) * len(SEEDS), desc="headline", unit="run") as bar:
        for name in RECIPES:
            for seed in SEEDS:
                rows[name].append(run(name, seed, folder / f"{name}-{seed}"))
                bar.update()
    return rows


def measure(folder: Path, summary: Callable[[list[float]], dict]) -> dict:
    """Return a summary of the seconds of training, and from the start of train.py to the grade."""
    rows = run_all(folder)
    seconds = {
        f"headline_{name}_{key}_s": summary([row[key] for row in rows[name]])
        for name in RECIPES
        for key in ("train", "total")
    }
    return {"seconds": seconds}


def add_record(change: str) -> dict:
    """Run everything and keep a log of each run; return the record."""
    machine = figures.machine()
    number = len(figures.read(FIGURES)) if FIGURES.exists() else 0
    log = RECORDS / f"{machine['date']}-{number + 1}.log"
    parts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = run_all(folder)
        for run_folder in sorted(folder.iterdir()):
            parts += [f"== {run_folder.name}", (run_folder / "train.log").read_text("utf-8")]
            parts += [(run_folder / "history.csv").read_text("utf-8")]
    code = {"submission_sha256": hashlib.sha256(SUBMISSION.read_bytes()).hexdigest()}
    facts = {"change": change, "recipes": RECIPES, **code, "machine": machine, "rows": rows}
    log.write_text("\n".join([json.dumps(facts, indent=2), *parts]), encoding="utf-8")
    return {**facts, "log": log.name}


def render(records: list[dict]) -> str:
    """Return the record table, oldest record first."""
    lines = [
        "| date | task | training, s | start to grade, s | ssim | mse | fid | raw | change | log |",
        "| --- " * 10 + "|",
    ]
    for record in records:
        for name, rows in record["rows"].items():
            cells = [record["machine"]["date"], name]
            for key, digits in {"train": 2, "total": 2, **dict.fromkeys(SCORES, 4)}.items():
                cells.append(mean_and_spread([row[key] for row in rows], digits))
            cells += [record["change"], f"[log]({record['log']})"]
            lines.append(f"| {' | '.join(cells)} |")
    facts, last = records[-1]["machine"], records[-1]
    lines += [
        "",
        f"Mean ± standard deviation over the seeds {', '.join(map(str, SEEDS))} "
        f"(n = {len(SEEDS)}), test split, {facts['cores']} CPU cores, torch {facts['torch']}. "
        "The commands of the last record, followed by `inference.py` and `grade.py` unchanged:",
        "",
        "```bash",
        *(f"python train.py {recipe}" for recipe in last["recipes"].values()),
        "```",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, or add a record and write the table."""
    parser = make_parser("benchmarks.headline", __doc__)
    parser.add_argument("--record", metavar="CHANGE", help="add a record; what was changed")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    try:
        if args.record:
            records = figures.read(FIGURES) if FIGURES.exists() else []
            records.append(add_record(args.record))
            figures.write(FIGURES, records)
        elif not args.report:
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(run_all(Path(folder)), indent=2))
            return
    except MissedError as missed:
        sys.exit(f"no record: {missed}")
    put_blocks(RECORDS / "README.md", {"records": render(figures.read(FIGURES))})


if __name__ == "__main__":
    main()
