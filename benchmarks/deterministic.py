"""Measure what --deterministic costs: the seconds of an epoch with it and without it, in pairs.

    python -m benchmarks.deterministic      3 minutes on 2 cores

The two runs of a pair follow each other and change places in the next pair, so that a machine whose
speed drifts treats both alike. Writes the block `deterministic` of docs/deterministic.md.
"""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import figures
from benchmarks.commands import make_parser, timed
from benchmarks.markdown import put_blocks
from lab import ROOT

FIGURES = ROOT / "benchmarks" / "deterministic.json"
PAGE = ROOT / "docs" / "deterministic.md"
MODELS = ("model.py", "zoo/conv_cvae.py")
PAIRS = 3


def epoch_seconds(model: str, folder: Path, deterministic: bool) -> float:
    """Return the seconds of one epoch on the 10 000 validation images, in fp32."""
    data = ["--train_data", "dataset/valid", "--eval_num", 100]
    words = ["train.py", "--submission", model, "--task", "Genwithlabel", *data]
    words += ["--epochs", 1, "--batch_size", 256, "--precision", "fp32", "--overwrite"]
    words += ["--save_dir", folder, *(["--deterministic"] if deterministic else [])]
    timed(sys.executable, *words, quiet=True)
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        *_, last = csv.DictReader(file)
    return float(last["seconds"])


def measure() -> dict[str, Any]:
    """Return the seconds of each pair, without and with the option, by model."""
    pairs: dict[str, list[dict[str, float]]] = {model: [] for model in MODELS}
    with tempfile.TemporaryDirectory() as name:
        for number, model in tqdm(list(product(range(PAIRS), MODELS)), unit="pair"):
            order = (False, True) if number % 2 == 0 else (True, False)
            seconds = {on: epoch_seconds(model, Path(name), on) for on in order}
            pairs[model].append({"without": seconds[False], "with": seconds[True]})
    return {"machine": figures.machine(), "pairs": pairs}


def render(stored: dict[str, Any]) -> str:
    """Return the block `deterministic`."""
    lines = ["| model | s per epoch without | with | ratio | lowest to highest |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for model, pairs in stored["pairs"].items():
        ratios = [pair["with"] / pair["without"] for pair in pairs]
        without, used = (statistics.median(p[key] for p in pairs) for key in ("without", "with"))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        cells = f"{without:.1f} | {used:.1f} | {statistics.median(ratios):.2f} | {spread}"
        lines.append(f"| `{model}` | {cells} |")
    facts, count = stored["machine"], len(next(iter(stored["pairs"].values())))
    lines.append("")
    lines.append(
        f"Medians over {count} pairs of runs on {facts['cores']} CPU cores ({facts['processor']}, "
        f"widest instructions {stored['capability']}) with torch {facts['torch']}, "
        f"{facts['date']}: 10 000 images, batch 256, fp32. "
        "Measured by `python -m benchmarks.deterministic`."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, store the figures, write the block."""
    make_parser("benchmarks.deterministic", __doc__).parse_args()
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    stored = {**measure(), "capability": capability}
    figures.write(FIGURES, stored)
    put_blocks(PAGE, {"deterministic": render(stored)})


if __name__ == "__main__":
    main()
