"""Write the results of a sweep: results.csv, results.md, pictures; print the best trials."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lab.checkpoint import write_whole
from sweeps import pictures
from sweeps.search import Grid, Tpe
from sweeps.trial import COSTS, FINISHED, SCORES, SHOWN, WAITING, Trial

DIGITS = {"ssim": 4, "mse": 5, "fid": 3, "raw": 4}
PICTURES = ("heatmap", "curve", "pareto", "contact_sheet")
TERMINAL_ROWS = 20  # of the table on the terminal
SHEET_ROWS = 60  # trials on a contact sheet; if there are more, the best ones

Row = dict[str, Any]  # name, options and record of a trial, or mean scores over seeds


def write_report(folder: Path, search: Grid | Tpe, records: dict[str, Row]) -> None:
    """Write the tables and pictures; print the best trials and the paths of all files."""
    rows = rows_of(search, records)
    if not rows:
        print(f"{folder} has no trial of this sweep yet")
        return
    drawn = write_pictures(folder, search, rows)
    print()
    lines = main_table(rows, search.names).splitlines()
    print("\n".join(lines[: TERMINAL_ROWS + 2]))
    if len(lines) > TERMINAL_ROWS + 2:
        print(f"... and {len(lines) - TERMINAL_ROWS - 2} more in {folder / 'results.md'}")
    print()
    for path in (folder / "results.csv", folder / "results.md", *drawn):
        print(path)
    for row in best_of(rows, search.names):
        print(f"the best of {row['task']}, raw {row['raw']:.3f}: {row['label']}")
        print(f"  {folder / 'trials' / row['trial']}")
    write_tables(folder, search, records)


def rows_of(search: Grid | Tpe, records: dict[str, Row]) -> list[Row]:
    """Return one row per trial: its options, then its record."""
    columns = ("status", *SCORES, *COSTS, "error")
    rows = []
    for name, trial in search.trials.items():
        record = records.get(name, {"status": WAITING})
        known = {key: record.get(key) for key in columns}
        rows.append(
            {"trial": name, "status": known.pop("status"), **trial.plain_options(), **known}
        )
    return rows


def best_of(rows: list[Row], names: list[str]) -> list[Row]:
    """Return the best row of each task, by the mean over seeds.

    `label` describes the row, and `trial` names the best of its seeds.
    """
    best = []
    swept = [name for name in names if name not in ("task", "seed")]
    for task in dict.fromkeys(row["task"] for row in rows):
        finished = [row for row in rows if row["task"] == task and row["status"] == FINISHED]
        if not finished:
            continue
        top = max(over_seeds(finished, swept), key=lambda row: row["raw"])
        same = [row for row in finished if all(row[name] == top[name] for name in swept)]
        text = label(top, swept) or "the only trial"
        text += f" (mean of {top['n']} seeds)" if top["n"] > 1 else ""
        trial = max(same, key=lambda row: row["raw"])["trial"]
        best.append({**top, "task": task, "label": text, "trial": trial})
    return best


def label(options: Row, names: list[str]) -> str:
    """Return the given options of a trial as text, such as "var 0.25, lr 0.005"."""
    return ", ".join(f"{name} {word(options[name])}" for name in names)


def word(value: Any) -> str:
    """Return a value as text, a number in its shortest form."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def scores(record: Row) -> str:
    """Return the scores of a record, such as "ssim 0.9473, mse 0.00479, raw 11.15"."""
    known = [(name, record.get(name)) for name in DIGITS]
    return ", ".join(
        f"{name} {value:.{DIGITS[name]}f}" for name, value in known if value is not None
    )


# ---------------------------------------------------------------- tables


def write_tables(folder: Path, search: Grid | Tpe, records: dict[str, Row]) -> None:
    """Write results.csv, with every option and score at full precision, and results.md."""
    rows = rows_of(search, records)
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with write_whole(folder / "results.csv") as file:
        file.write(text.getvalue().encode())
    tables = dict.fromkeys([main_table(rows, search.names), table(rows, search.names)])
    with write_whole(folder / "results.md") as file:
        file.write("\n".join(tables).encode())


def main_table(rows: list[Row], names: list[str]) -> str:
    """Return a table of means and spreads when seeds vary, otherwise a table of trials."""
    finished = [row for row in rows if row["status"] == FINISHED]
    if "seed" not in names or not finished:
        return table(rows, names)
    swept = [name for name in names if name != "seed"]
    means = over_seeds(finished, [*swept, "task"])
    shown = {name: n for name, n in DIGITS.items() if any(name in row for row in means)}
    lines = [[*swept, "n", *shown]]
    for row in sorted(means, key=lambda row: -row["raw"]):
        scores = [
            f"{row[name]:.{n}f} ± {row[f'{name}_spread']:.{n}f}" if name in row else "-"
            for name, n in shown.items()
        ]
        lines.append([*(word(row[name]) for name in swept), str(row["n"]), *scores])
    return _markdown(lines)


def table(rows: list[Row], names: list[str]) -> str:
    """Return a Markdown table of the trials, best first, those without a score last."""
    columns = {**DIGITS, "seconds": 1, "skipped_steps": 0}
    columns = {name: n for name, n in columns.items() if any(r[name] is not None for r in rows)}
    lines = [[*names, *columns, "status"]]
    for row in sorted(rows, key=lambda row: -(row["raw"] if row["raw"] is not None else -1)):
        cells = [word(row[name]) for name in names]
        for name, digits in columns.items():
            cells.append("-" if row[name] is None else f"{row[name]:.{digits}f}")
        status = row["status"] if not row["error"] else f"{row['status']}: {row['error']}"
        lines.append([*cells, " ".join(status.split()).replace("|", "\\|")])
    return _markdown(lines)


def _markdown(lines: list[list[str]]) -> str:
    """Return a Markdown table with aligned columns; the first line is the header."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)] + [0]
    lines = [lines[0], ["-" * max(width, 3) for width in widths], *lines[1:]]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths)] for line in lines)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in padded)


# ---------------------------------------------------------------- pictures


def write_pictures(folder: Path, search: Grid | Tpe, rows: list[Row]) -> list[Path]:
    """Draw the pictures of the finished trials; return their files."""
    for old in (file for name in PICTURES for file in folder.glob(f"{name}*.png")):
        old.unlink()  # of an earlier sweep in the same folder
    written = []
    tasks = sorted({row["task"] for row in rows})
    names = [name for name in search.names if name != "task"]
    for task in tasks:
        chosen = [row for row in rows if row["task"] == task]
        finished = [row for row in chosen if row["status"] == FINISHED]
        if not finished:
            continue
        suffix = f"_{task}" if len(tasks) > 1 else ""
        for name, draw in _pictures(names, chosen, finished, search.trials).items():
            path = folder / f"{name}{suffix}.png"
            with write_whole(path) as file:
                draw(file)
            written.append(path)
    return written


def _pictures(
    names: list[str], rows: list[Row], finished: list[Row], trials: dict[str, Trial]
) -> dict[str, Callable[[BinaryIO], None]]:
    """Return the functions that draw the pictures for these options, by name."""
    swept = [name for name in names if name != "seed"]
    scored = over_seeds(finished, swept)
    draw: dict[str, Callable[[BinaryIO], None]] = {}
    if {"var", "lr"} <= set(swept):
        rest = [name for name in swept if name not in ("var", "lr")]
        draw["heatmap"] = lambda file: pictures.heatmap(file, rows, scored, rest)
    if len(swept) == 1:
        draw["curve"] = lambda file: pictures.curve(file, scored, swept[0])
    if "latent_dim" in swept:
        draw["pareto"] = lambda file: pictures.pareto(file, scored)
    draw["contact_sheet"] = lambda file: _contact_sheet(file, finished, names, trials)
    return draw


def over_seeds(rows: list[Row], swept: list[str]) -> list[Row]:
    """Return one row per combination of the swept options, with mean scores over its seeds.

    `n` is the number of seeds, and NAME_spread the standard deviation of a score (0 for one seed).
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in swept), []).append(row)
    means = []
    for same in groups.values():
        mean = {**{name: same[0][name] for name in swept}, "n": len(same)}
        for figure in SCORES:
            values = [row[figure] for row in same]
            if None not in values:
                mean[figure] = statistics.fmean(values)
                mean[f"{figure}_spread"] = statistics.stdev(values) if len(values) > 1 else 0.0
        means.append(mean)
    return means


def _contact_sheet(
    file: BinaryIO, finished: list[Row], names: list[str], trials: dict[str, Trial]
) -> None:
    """Draw what the trials are ranked by: reconstructions of VAEwolabel, samples of Genwithlabel.

    They are in rows and columns for two options, otherwise in a list.
    """
    task = finished[0]["task"]
    title = f"{'Reconstructions' if task == 'VAEwolabel' else 'Samples'} of each trial"
    if len(names) == 2:
        across, down = names  # lr and var, as in the heatmap
        tiles = {(row[down], row[across]): _images(trials[row["trial"]]) for row in finished}
        places = len({y for y, _ in tiles}) * len({x for _, x in tiles})
        if len(tiles) >= places / 2:  # otherwise a search, whose values form no grid
            pictures.matrix(file, title, tiles, down, across, word)
            return
    best = sorted(finished, key=lambda row: -row["raw"])[:SHEET_ROWS]
    lines = [f"{label(row, names)}  raw {row['raw']:.2f}".strip() for row in best]
    images = [_images(trials[row["trial"]]) for row in best]
    pictures.rows_of_images(file, title, images, lines, len(finished) - len(best))


def _images(trial: Trial) -> np.ndarray:
    """Return one image per label of a trial, uint8 (10, 28, 28); grey if the file is missing."""
    samples = trial.folder / "inference" / "samples.npy"
    file = trial.folder / f"{SHOWN}.npy" if trial.options["task"] == "VAEwolabel" else samples
    if not file.is_file():
        return np.full((10, 28, 28), pictures.BLANK, np.uint8)
    images = np.load(file, allow_pickle=False)
    return images[:, 0] if file == samples else images
