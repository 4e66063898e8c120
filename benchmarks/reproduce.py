"""Run the tables of the original reports again, with the sweep that students use.

    python -m benchmarks.reproduce            50 epochs per row, as in the reports: hours on 2 cores
    python -m benchmarks.reproduce --quick    5 epochs per row: half an hour
    python -m benchmarks.reproduce --quick --only Convolutional   tables with that word in the title
    python -m benchmarks.reproduce --report   run nothing; write docs/results.md from stored figures

It continues from where it was stopped or killed.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.commands import make_parser
from lab import ROOT

RESULTS = ROOT / "docs" / "results.md"
FIGURES = ROOT / "benchmarks" / "reproduce.json"
COLLAPSED = 0.5  # ssim below which a reconstruction shows almost nothing of its input
SCORES = {"ssim": 4, "mse": 5, "fid": 3, "raw": 2}
SEEDS = (42, 43, 44)  # for rows where a report's training exploded or collapsed


@dataclass(frozen=True)
class Table:
    """A table of the reports over the values of one option; all other options are equal.

    Attributes:
        title: the heading in docs/results.md.
        submission: the file in zoo/, without .py.
        option: the option of sweep.py.
        rows: for each value the report's scores by name, or a word that says how training failed.
        more: further options of sweep.py.
        task: "VAEwolabel" or "Genwithlabel".
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
    """The result of the lab's trials of one row.

    Attributes:
        scores, seconds: means over the seeds.
        tried: number of seeds.
        trained: number of seeds whose training finished and did not collapse.
        skipped: number of steps that were not finite, over all seeds.
    """

    scores: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    tried: int = 0
    trained: int = 0
    skipped: int = 0


def run(table: Table, epochs: int, folder: Path) -> dict[str, Ours]:
    """Sweep over a table; return the result of each row."""
    found: dict[str, Ours] = {}
    failed = [value for value, theirs in table.rows.items() if isinstance(theirs, str)]
    for values, seeds in ((list(table.rows), SEEDS[:1]), (failed, SEEDS)):
        if not values:
            continue
        asked = f"--task {table.task} --submission zoo/{table.submission}.py --epochs {epochs}"
        words = [*asked.split(), *table.more.split(), f"--{table.option}", *values]
        words += ["--seed", *map(str, seeds), "--save_dir", str(folder), "--no-keep_weights"]
        done = subprocess.run([sys.executable, "sweep.py", *words], cwd=ROOT, check=False)
        if done.returncode not in (0, 1):  # 1: a trial failed, which the table shows
            sys.exit(done.returncode)
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
    """Return a table: the report's scores, the lab's, the difference, seconds."""
    names = [name for name in SCORES if any(name in ours.scores for ours in found.values())]
    head = [
        table.option,
        *(f"{n}: report / lab / difference" for n in names),
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
        note = f", report: {theirs}" if isinstance(theirs, str) else ""
        cells += [f"{ours.trained} of {ours.tried}{note}", f"{ours.skipped}", f"{ours.seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(theirs: dict[str, float] | str, ours: Ours, name: str, digits: int) -> str:
    had = theirs.get(name) if isinstance(theirs, dict) else None
    have = ours.scores.get(name)
    left = "-" if had is None else f"{had:.{digits}f}"
    middle = "-" if have is None else f"{have:.{digits}f}"
    right = "-" if had is None or have is None else f"{have - had:+.{digits}f}"
    return f"{left} / {middle} / {right}"


def document(stored: dict[str, Any]) -> str:
    """Return docs/results.md."""
    facts, epochs = stored["machine"], stored["epochs"]
    parts = [
        "# The tables of the original reports, run again",
        "",
        f"{epochs} epochs per row, where the reports trained for 50 or more. The lab's scores are "
        "on `dataset/valid`, at the posterior mean. Rows where a report's training exploded or "
        f"collapsed were run with the seeds {', '.join(map(str, SEEDS))}, the others with one "
        f"seed. A row counts as trained when its ssim is {COLLAPSED} or more. {facts['cores']} CPU "
        f"cores, one thread per trial, torch {facts['torch']}, {facts['date']}. Written by "
        f"`python -m benchmarks.reproduce{' --quick' if epochs < 50 else ''}`.",
        "",
    ]
    for table in TABLES:
        rows = stored["tables"][table.title]
        parts.append(render(table, {value: Ours(**row) for value, row in rows.items()}))
    return "\n".join(parts)


def main() -> None:
    """Run the tables, store the figures, write docs/results.md."""
    parser = make_parser("benchmarks.reproduce", __doc__)
    parser.add_argument("--quick", action="store_true", help="5 epochs per row instead of 50")
    parser.add_argument("--only", default="", help="run the tables with this text in the title")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    stored = figures.read(FIGURES) if FIGURES.exists() else {}
    if not args.report:
        epochs = 5 if args.quick else 50
        folder = ROOT / "runs" / f"reproduce-{epochs}"
        if args.only and stored.get("epochs") != epochs:
            parser.error(f"the stored tables do not have {epochs} epochs; omit --only to run all")
        tables = stored.get("tables", {})
        for table in TABLES:
            if args.only in table.title:
                found = run(table, epochs, folder)
                tables[table.title] = {value: asdict(ours) for value, ours in found.items()}
        stored = {"epochs": epochs, "machine": figures.machine(), "tables": tables}
        figures.write(FIGURES, stored)
    RESULTS.write_text(document(stored), encoding="utf-8")
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
