"""benchmarks/records/README.md: the tables of the record for the shortest training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import mean_and_spread

LABELLED = 0.95  # the judge accuracy that the second table asks of each run
COLUMNS = {"ssim": 4, "mse": 4, "fid": 3, "raw": 3, "judge_accuracy": 3, "diversity": 3}  # digits
TASKS = {"vae": "VAEwolabel", "gen": "Genwithlabel", "gen95": "Genwithlabel"}
UNTIMED = "not timed yet"

Records = Sequence[Mapping[str, Any]]


def blocks(records: Records, priors: Mapping[str, Any]) -> dict[str, str]:
    """Return the generated blocks of the page by name."""
    return {
        "records": render(records),
        "labelled": render_labelled(records),
        "priors": render_priors(priors),
    }


def render(records: Records) -> str:
    """Return the block `records`: every line, oldest first, and how it was measured."""
    lines = [(record, name) for record in records for name in record["rows"]]
    facts = records[-1]["machine"]
    seeds = [row["seed"] for row in next(iter(records[-1]["rows"].values()))]
    commands = {name: recipe for record in records for name, recipe in record["recipes"].items()}
    return "\n".join(
        [
            *_table(lines),
            "",
            f"Mean ± standard deviation over the seeds {', '.join(map(str, seeds))} "
            f"(n = {len(seeds)}), test split, {facts['cores']} CPU cores, torch {facts['torch']}. "
            f"{_timing(records)} The last commands of each kind, followed by `inference.py` and "
            "`grade.py` unchanged:",
            "",
            "```bash",
            *(f"python train.py {recipe}" for recipe in commands.values()),
            "```",
            "",
        ]
    )


def render_labelled(records: Records) -> str:
    """Return the block `labelled`: the lines whose runs all have the judge accuracy LABELLED."""
    lines = [
        (record, name) for record in records for name in record["rows"] if is_labelled(record, name)
    ]
    real = [row["judge_accuracy_real"] for record, name in lines for row in record["rows"][name]]
    text = f"Real images have a judge accuracy of {max(real):.3f} and a diversity of 1."
    return "\n".join([*_table(lines), "", text, ""])


def is_labelled(record: Mapping[str, Any], name: str) -> bool:
    """Return whether each run of a line has samples of a judge accuracy of LABELLED or more."""
    found = [row.get("judge_accuracy") for row in record["rows"][name]]
    return all(accuracy is not None and accuracy >= LABELLED for accuracy in found)


def _table(lines: Sequence[tuple[Mapping[str, Any], str]]) -> list[str]:
    heads = ["date", "task", "training, s", "start to grade, s", "timed"]
    heads += [*(name.replace("_", " ") for name in COLUMNS), "change", "log"]
    table = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for record, name in lines:
        rows = record["rows"][name]
        log = f"[log]({record['log']})" if record["log"] else "-"
        cells = [record["machine"]["date"], TASKS[name]]
        cells += [mean_and_spread([row[key] for row in rows], 2) for key in ("train", "total")]
        cells.append(record["timed"] or UNTIMED)
        cells += [mean_and_spread([row.get(key) for row in rows], n) for key, n in COLUMNS.items()]
        table.append(f"| {' | '.join([*cells, record['change'], log])} |")
    return table


def _timing(records: Records) -> str:
    days = {record["timed"] for record in records}
    if len(days) == 1 and None not in days:
        return "The seconds of all lines are of one measurement, in which their runs took turns."
    return (
        "Seconds of different days do not compare; `python -m benchmarks.headline --time` times "
        "all lines again, in turn."
    )


def render_priors(priors: Mapping[str, Any]) -> str:
    """Return the block `priors`: what the prior alone does to the samples."""
    heads = {"fid": 3, "raw": 3, "judge_accuracy": 3, "diversity": 3}
    lines = [f"| prior of each label | {' | '.join(name.replace('_', ' ') for name in heads)} |"]
    lines.append("| --- " * (1 + len(heads)) + "|")
    for what, row in priors["rows"].items():
        cells = (f"{row[name]:.{digits}f}" for name, digits in heads.items())
        lines.append(f"| {what} | {' | '.join(cells)} |")
    facts = priors["machine"]
    lines += [
        "",
        f"One epoch with seed {priors['seed']} each; torch {facts['torch']}, {facts['date']}.",
    ]
    return "\n".join(lines) + "\n"
