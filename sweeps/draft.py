"""Write the draft of a report's section on an ablation: what a sweep knows, and what it cannot.

The sweep knows the commands, the settings, the tables and the pictures. What the student expected
and what the numbers mean are places marked with TO_WRITE.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from lab.checkpoint import write_whole
from sweeps.report import TERMINAL_ROWS, Row, best_of, main_table, rows_of, word
from sweeps.search import Grid, Tpe
from sweeps.trial import FINISHED, PATHS, Trial
from train import TrainOptions

NAME = "report_draft.md"
TO_WRITE = "**To write:**"
QUESTIONS = {
    "Expected": "What did you expect before you ran this, and why? Name the term of the loss or "
    "the property of the model that made you expect it.",
    "Reading": "What came? Which differences are larger than the spread over seeds? Why did it "
    "come so, and what would you try next? Point at a row or a picture for each claim.",
}
# Options of sweep.py that say how to run the trials again, not which trials.
NOT_PART_OF_THE_SETTING = ("--report", "--overwrite", "--retry-failed", "--retry_failed")


def write_draft(
    folder: Path, search: Grid | Tpe, records: dict[str, Row], typed: Sequence[str]
) -> None:
    """Write the draft into the sweep's folder, and print its path.

    A draft in which the student has begun to write is kept. Without a finished trial there is
    nothing to report.

    Args:
        folder: the sweep's folder, with the pictures that `write_report` drew.
        search, records: the trials, and the record of each by name.
        typed: the words after `python sweep.py` on the command line.
    """
    rows = rows_of(search, records)
    if not any(row["status"] == FINISHED for row in rows):
        return
    file = folder / NAME
    if file.is_file() and file.read_text(encoding="utf-8").count(TO_WRITE) < len(QUESTIONS):
        print(f"{file} has your text and is kept; the new tables are in results.md")
        return
    with write_whole(file) as written:
        written.write(_draft(folder, search, rows, typed).encode())
    print(f"a draft of your report's section: {file}")


def _draft(folder: Path, search: Grid | Tpe, rows: list[Row], typed: Sequence[str]) -> str:
    names = search.names
    title = " and ".join(f"`{name}`" for name in names if name != "seed")
    kept = [text for text in typed if text not in NOT_PART_OF_THE_SETTING]
    finished = sum(row["status"] == FINISHED for row in rows)
    pictures = sorted(file.name for file in folder.glob("*.png"))
    best = [
        [
            f"The best of `{row['task']}` is {row['label']}, with a raw score of {row['raw']:.3f}. "
            f"Its files are in `trials/{row['trial']}`. To train it alone:",
            "",
            *_code(_train_command(search.trials[row["trial"]])),
            "",
        ]
        for row in best_of(rows, names)
    ]
    lines = [
        f"# Ablation: {title or 'the spread over seeds'}",
        "",
        "A draft by `sweep.py`. Copy it into your report, answer the questions, and leave out what "
        "you do not discuss.",
        "",
        "## Setting",
        "",
        *_code(shlex.join(["python", "sweep.py", *kept])),
        "",
        *(f"- `{name}` takes the values {_values(rows, name)}." for name in names),
        f"- Held: {_held(search, names)}.",
        f"- {finished} of {len(search)} trials are finished. Scores are on the validation split, "
        "at the weights with the lowest validation loss.",
        "",
        *_question("Expected"),
        "## Results",
        "",
        *_shortened(main_table(rows, names)),
        "",
        *(line for text in best for line in text),
        *(f"![{Path(name).stem}]({name})" for name in pictures),
        "",
        *_question("Reading"),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _code(text: str) -> list[str]:
    return ["```bash", text, "```"]


def _question(heading: str) -> list[str]:
    return [f"## {heading}", "", f"{TO_WRITE} {QUESTIONS[heading]}", ""]


def _values(rows: list[Row], name: str) -> str:
    """Return the values that an option takes in the trials, or their range if they are many."""
    found = sorted({row[name] for row in rows})
    if len(found) > 8 and not isinstance(found[0], str):
        return f"from {word(found[0])} to {word(found[-1])}, {len(found)} of them"
    return ", ".join(map(word, found))


def _held(search: Grid | Tpe, names: list[str]) -> str:
    """Return the options that are the same in every trial, with their values."""
    options = next(iter(search.trials.values())).plain_options()
    held = {name: value for name, value in options.items() if name not in names and value != ""}
    return ", ".join(f"`{name}` {word(value)}" for name, value in held.items())


def _train_command(trial: Trial) -> str:
    """Return the command that trains a trial alone: its options that are not the default."""
    defaults = {option.name: option.default for option in fields(TrainOptions)}
    words = ["python", "train.py"]
    for name, value in trial.options.items():
        if value != defaults[name]:
            shown = value.as_posix() if name in PATHS else word(value)
            words += [f"--{name}", shown]
    return shlex.join(words)


def _shortened(table: str) -> list[str]:
    """Return the lines of a table, at most TERMINAL_ROWS of its rows."""
    lines = table.splitlines()
    left_out = len(lines) - 2 - TERMINAL_ROWS
    if left_out <= 0:
        return lines
    return [*lines[:-left_out], "", f"{left_out} more are in `results.md`."]
