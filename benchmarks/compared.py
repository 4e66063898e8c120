"""Compare samples of models of the zoo by all measures of `grade.py --diagnostics`.

    python -m benchmarks.compared                  every model of COMPARED; 16 minutes on 2 cores
    python -m benchmarks.compared --only wgan_gp   one model
    python -m benchmarks.compared --only wgan_gp --unfinished   its run so far
    python -m benchmarks.compared --report         only write the table again

A run in runs/zoo-NAME, as benchmarks.zoo leaves it, is used; one that was stopped is continued, and
a missing one is trained by the command in the model's file. No figure depends on the load of the
machine. The figures go to benchmarks/compared.json and zoo/README.md.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.commands import grade_with_diagnostics, make_parser, timed
from benchmarks.markdown import put_blocks
from benchmarks.zoo import command_of
from lab import ROOT
from lab.evaluation import rows_of

FIGURES = ROOT / "benchmarks" / "compared.json"
PAGE = ROOT / "zoo" / "README.md"
COMPARED = ("wgan_gp", "flow_matching", "record")
DIGITS = {
    **{"fid": 3, "fid_1000": 3, "judge_accuracy": 3, "judge_fid": 3, "judge_kid": 4},
    **{"precision": 3, "recall": 3, "density": 3, "coverage": 3},
    **{"diversity": 3, "nearest_train": 3},
}


def epochs_of(name: str) -> int:
    """Return the number of epochs in the command of a model."""
    words = command_of(name)
    return int(words[words.index("--epochs") + 1])


def trained(run: Path) -> int:
    """Return the number of epochs that a run has finished; 0 if there is no such run."""
    file = ROOT / run / "history.csv"
    if not file.exists():
        return 0
    with open(file, encoding="utf-8", newline="") as history:
        return max(int(row["epoch"]) for row in csv.DictReader(history))


def measure(name: str, unfinished: bool) -> dict[str, Any]:
    """Train what is missing, infer and grade on the test split; return the diagnostics.

    unfinished: measure the run as far as it is trained.
    """
    run = Path("runs") / f"zoo-{name}"
    words: list[object] = ["train.py", "--save_dir", run]
    if trained(run) < epochs_of(name) and not unfinished:
        # Only a run that was stopped has files but no end.
        words += ["--load_from_checkpoint"] if trained(run) else [*command_of(name), "--overwrite"]
        timed(sys.executable, *words)
    checkpoint = ["--checkpoint_path", run / "best.pth"]
    timed(sys.executable, "inference.py", *checkpoint, "--data_path", "dataset/test")
    graded = grade_with_diagnostics(run)
    return {
        "command": " ".join(["python", "train.py", *command_of(name)]),
        "epochs": trained(run),
        "epochs_of_command": epochs_of(name),
        "machine": figures.machine(),
        "raw": graded["raw"],
        "has_encoder": graded["ssim"] is not None,
        "diagnostics": graded["diagnostics"],
    }


def render(stored: Mapping[str, Any]) -> str:
    """Return the block `compared`: a row per measure, a column per model, and real images."""
    models = {name: stored[name] for name in COMPARED if name in stored}
    heads = ["measure", *(f"`{name}.py`" for name in models), "real images"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    values = [
        {measure: (own, real) for measure, own, real in rows_of(model["diagnostics"])}
        for model in models.values()
    ]
    for measure, digits in DIGITS.items():
        row = [own[measure][0] for own in values] + [values[0][measure][1]]
        cells = ("-" if value is None else f"{value:.{digits}f}" for value in row)
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    intervals = [
        f"{model['diagnostics']['raw_low']:.2f} to {model['diagnostics']['raw_high']:.2f}"
        for model in models.values()
    ]
    lines.append(f"| 95 % of raw | {' | '.join(intervals)} | - |")
    if len(models) > 1:
        lines += ["", _nearest(dict(zip(models, values)))]
    lines += ["", _how(models)]
    return "\n".join(lines) + "\n"


def _nearest(values: Mapping[str, Mapping[str, tuple[float | None, float | None]]]) -> str:
    """Return which model is nearest to real images, by each measure that all have.

    values: (own, that of real images) by measure, of each model.
    """
    won: dict[str, list[str]] = {name: [] for name in values}
    # The kernel distance of good models is 0 up to chance, so that it names none of them.
    for measure in (name for name in DIGITS if name != "judge_kid"):
        gaps = {}
        for name, measured in values.items():
            own, real = measured[measure]
            if own is not None and real is not None:
                gaps[name] = abs(own - real)
        if len(gaps) == len(values):
            won[min(gaps, key=gaps.__getitem__)].append(measure)
    said = (f"`{name}.py` by {', '.join(measures)}" for name, measures in won.items() if measures)
    return f"Nearest to real images: {'; '.join(said)}."


def _how(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how the models of a table were trained."""
    machines = [model["machine"] for model in models.values()]
    dates = " and ".join(sorted({facts["date"] for facts in machines}))
    text = (
        "One run per model by the command in its file, test split, 100 samples per label (1000 for "
        f"fid_1000); torch {machines[0]['torch']}, {dates}. Written by `python -m "
        "benchmarks.compared`."
    )
    for name, model in models.items():
        if model["epochs"] < model["epochs_of_command"]:
            text += (
                f" `{name}.py` was measured after {model['epochs']} of its "
                f"{model['epochs_of_command']} epochs."
            )
    if missing := [f"`{name}.py`" for name in COMPARED if name not in models]:
        text += f" Not measured yet: {', '.join(missing)}."
    return text


def main() -> None:
    """Measure, store the figures, write the table."""
    parser = make_parser("benchmarks.compared", __doc__)
    parser.add_argument("--only", nargs="+", choices=COMPARED, default=COMPARED, metavar="NAME")
    parser.add_argument("--unfinished", action="store_true", help="train nothing")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    stored = figures.stored(FIGURES)
    for name in [] if args.report else args.only:
        stored[name] = measure(name, args.unfinished)
        figures.write(FIGURES, stored)
    put_blocks(PAGE, {"compared": render(stored)})


if __name__ == "__main__":
    main()
