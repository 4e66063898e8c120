"""The tables of the reports that this lab grew from, run again by the sweep that students use.

    python -m benchmarks.reproduce            50 epochs a row, as the reports: hours on 2 cores
    python -m benchmarks.reproduce --quick    5 epochs a row: half an hour
    python -m benchmarks.reproduce --quick --only Convolutional   the tables whose title has that
    python -m benchmarks.reproduce --report   run nothing; write docs/results.md from stored figures

Stopped in whatever way, it goes on where it was. The reports' figures are those of spec 6.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.commands import ROOT, machine

RESULTS = ROOT / "docs" / "results.md"
FIGURES = ROOT / "benchmarks" / "reproduce.json"
COLLAPSED = 0.5  # ssim below which a model draws next to nothing of its input
SCORES = {"ssim": 4, "mse": 5, "fid": 3, "raw": 2}
SEEDS = (42, 43, 44)  # of rows at which a report's training exploded or collapsed


@dataclass(frozen=True)
class Table:
    """One option's values, all else the same.

    Attributes:
        rows: what the report had for each value: scores by name, or what went wrong, in a word.
        more: further options of sweep.py.
    """

    title: str
    submission: str
    option: str
    rows: dict[str, dict[str, float] | str]
    more: str = ""
    task: str = "VAEwolabel"


def _vae(ssim: float, mse: float) -> dict[str, float]:
    return {"ssim": ssim, "mse": mse}


def _gen(ssim: float, mse: float, fid: float, raw: float | None = None) -> dict[str, float]:
    scores = {"ssim": ssim, "mse": mse, "fid": fid}
    return scores if raw is None else scores | {"raw": raw}


BASE = _vae(0.7854, 0.01890)
CVAE = {"submission": "conv_cvae", "task": "Genwithlabel"}
NOTHING: dict[str, float] = {}  # the report has pictures only
TABLES = (
    Table(
        "Convolutional VAE: var",
        "conv_vae",
        "var",
        {
            "0.5": BASE,
            "0.25": _vae(0.8504, 0.01335),
            "0.22": _vae(0.8551, 0.01275),
            "0.2": "exploded",
        },
    ),
    Table(
        "Convolutional VAE: depth and attention, var 0.5",
        "conv_vae",
        "variant",
        {
            "depth=0": _vae(0.7390, 0.0225),
            "depth=2": _vae(0.7774, 0.0198),
            "depth=3": BASE,
            "depth=4": "collapsed",
            "attention=True": _vae(0.7713, 0.0201),
        },
    ),
    Table(
        "Convolutional VAE: latent_dim, var 0.5",
        "conv_vae",
        "latent_dim",
        {"10": _vae(0.7823, 0.0192), "20": BASE, "30": _vae(0.7792, 0.0193)},
    ),
    Table(
        "Convolutional VAE: batch_size, var 0.5",
        "conv_vae",
        "batch_size",
        {"512": "unstable", "1024": BASE, "2048": _vae(0.7342, 0.0241)},
    ),
    Table(
        "Convolutional VAE: lr, var 0.5",
        "conv_vae",
        "lr",
        {"0.001": _vae(0.7824, 0.1120), "0.005": BASE, "0.006": _vae(0.7810, 0.0193)},
    ),
    Table(
        "Convolutional CVAE: depth, var 0.25",
        option="variant",
        rows={
            "depth=2": _gen(0.8592, 0.01259, 3.018),
            "depth=3": _gen(0.8591, 0.01253, 2.412, 29.276),
            "depth=4": "exploded",
        },
        more="--var 0.25",
        **CVAE,
    ),
    Table(
        "Convolutional CVAE: latent_dim, var 0.25",
        option="latent_dim",
        rows={"10": _gen(0.8471, 0.01352, 2.288), "30": "exploded"},
        more="--var 0.25",
        **CVAE,
    ),
    Table(
        "Convolutional CVAE: lr, var 0.25",
        option="lr",
        rows={"0.002": _gen(0.8632, 0.01215, 2.583), "0.006": _gen(0.8546, 0.01281, 2.458)},
        more="--var 0.25",
        **CVAE,
    ),
    Table(
        "Convolutional CVAE of another class: two layers, latent 24, var 0.01, lr 2e-3, batch 512",
        option="variant",
        rows={"depth=2": _gen(0.8824, 0.01037, 3.431, 28.48)},
        more="--latent_dim 24 --var 0.01 --lr 2e-3 --batch_size 512",
        **CVAE,
    ),
    Table(
        "beta-VAE: beta",
        "beta_vae",
        "variant",
        {f"beta={beta}": NOTHING for beta in ("0", "0.03", "0.05", "0.1", "0.12", "1")},
        more="--batch_size 128 --lr 1e-3",
    ),
    Table(
        "AE as an MLP: hidden size",
        "mlp_ae",
        "variant",
        {f"hidden={hidden}": NOTHING for hidden in (128, 256, 512)},
        more="--latent_dim 10 --batch_size 100 --lr 1e-3",
    ),
    Table(
        "VAE as an MLP: hidden size",
        "mlp_vae",
        "variant",
        {f"hidden={hidden}": NOTHING for hidden in (60, 120, 240)},
        more="--latent_dim 10 --batch_size 100 --lr 3e-3",
    ),
    Table(
        "VAE as an MLP: lr",
        "mlp_vae",
        "lr",
        {lr: NOTHING for lr in ("0.001", "0.003", "0.01")},
        more="--latent_dim 10 --batch_size 100",
    ),
    Table(
        "CVAE as MLPs: hidden size",
        "mlp_cvae",
        "variant",
        {f"hidden={hidden}": NOTHING for hidden in (100, 200, 400)},
        more="--latent_dim 10 --batch_size 100 --lr 3e-3",
        task="Genwithlabel",
    ),
    Table(
        "CVAE as MLPs: lr",
        "mlp_cvae",
        "lr",
        {lr: NOTHING for lr in ("0.001", "0.003", "0.01")},
        more="--latent_dim 10 --batch_size 100",
        task="Genwithlabel",
    ),
)


@dataclass
class Ours:
    """What our trials of one row came to.

    Attributes:
        scores, seconds: means over the seeds.
        tried, trained: seeds, and those of them that came to their end and did not collapse.
        skipped: steps that were not finite, all seeds together.
    """

    scores: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    tried: int = 0
    trained: int = 0
    skipped: int = 0


def run(table: Table, epochs: int, folder: Path) -> dict[str, Ours]:
    """Sweep over a table; return what came of each row."""
    found: dict[str, Ours] = {}
    troubled = [value for value, theirs in table.rows.items() if isinstance(theirs, str)]
    for values, seeds in ((list(table.rows), SEEDS[:1]), (troubled, SEEDS)):
        if not values:
            continue
        asked = f"--task {table.task} --submission zoo/{table.submission}.py --epochs {epochs}"
        words = [*asked.split(), *table.more.split(), f"--{table.option}", *values]
        words += ["--seed", *map(str, seeds), "--save_dir", str(folder), "--no-keep_weights"]
        said = subprocess.run([sys.executable, "sweep.py", *words], cwd=ROOT, check=False)
        if said.returncode not in (0, 1):  # 1 is a trial that failed, which the table tells
            sys.exit(said.returncode)
        with open(folder / "results.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for value in values:
            same = [row for row in rows if _same(row[table.option], value)]
            found[value] = _summary(same)
    return found


def _same(a: str, b: str) -> bool:
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


def _summary(rows: list[dict[str, str]]) -> Ours:
    done = [row for row in rows if row["status"] == "finished"]
    ours = Ours(tried=len(rows))
    ours.trained = sum(float(row["ssim"]) >= COLLAPSED for row in done)
    ours.skipped = sum(int(float(row["skipped_steps"] or 0)) for row in done)
    for name in SCORES:
        values = [float(row[name]) for row in done if row[name]]
        if values:
            ours.scores[name] = sum(values) / len(values)
    if done:
        ours.seconds = sum(float(row["seconds"]) for row in done) / len(done)
    return ours


def render(table: Table, found: dict[str, Ours]) -> str:
    """Return a table: the report's figure, ours, the difference, seconds."""
    names = [name for name in SCORES if any(name in ours.scores for ours in found.values())]
    head = [
        table.option,
        *(f"{n}: report / ours / difference" for n in names),
        "trained",
        "steps skipped",
        "seconds",
    ]
    lines = [f"## {table.title}", "", f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for value, theirs in table.rows.items():
        ours = found[value]
        cells = [value]
        for name in names:
            cells.append(_cell(theirs, ours, name, SCORES[name]))
        said = f", report: {theirs}" if isinstance(theirs, str) else ""
        cells += [f"{ours.trained} of {ours.tried}{said}", f"{ours.skipped}", f"{ours.seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(theirs: dict[str, float] | str, ours: Ours, name: str, digits: int) -> str:
    had = theirs.get(name) if isinstance(theirs, dict) else None
    have = ours.scores.get(name)
    left = "-" if had is None else f"{had:.{digits}f}"
    middle = "-" if have is None else f"{have:.{digits}f}"
    right = "-" if had is None or have is None else f"{have - had:+.{digits}f}"
    return f"{left} / {middle} / {right}"


def document(figures: dict) -> str:
    """Return docs/results.md."""
    facts, epochs = figures["machine"], figures["epochs"]
    parts = [
        "# The reports' tables, run again",
        "",
        f"{epochs} epochs a row, where the reports trained for 50 and more; ours on "
        "`dataset/valid`, at the posterior mean. Rows at which a report's training exploded or "
        f"collapsed have the seeds {', '.join(map(str, SEEDS))}, the others one; a row has trained "
        f"when its ssim is {COLLAPSED} or more. {facts['cores']} CPU cores, one thread a trial, "
        f"torch {facts['torch']}, {facts['date']}. Written by "
        f"`python -m benchmarks.reproduce{' --quick' if epochs < 50 else ''}`.",
        "",
    ]
    for table in TABLES:
        rows = figures["tables"][table.title]
        parts.append(render(table, {value: Ours(**row) for value, row in rows.items()}))
    return "\n".join(parts)


def main() -> None:
    """Run every table, store the figures, write docs/results.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 epochs a row in place of 50")
    parser.add_argument("--only", default="", help="a part of the titles of the tables to run")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not args.report:
        epochs = 5 if args.quick else 50
        folder = ROOT / "runs" / f"reproduce-{epochs}"
        stored = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
        if args.only and stored.get("epochs") != epochs:
            parser.error(f"the stored tables are not of {epochs} epochs: leave --only out")
        tables = stored.get("tables", {})
        for table in TABLES:
            if args.only in table.title:
                found = run(table, epochs, folder)
                tables[table.title] = {value: asdict(ours) for value, ours in found.items()}
        figures = {"epochs": epochs, "machine": machine(), "tables": tables}
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    RESULTS.write_text(document(figures), encoding="utf-8")
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
