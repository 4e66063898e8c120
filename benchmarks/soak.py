"""Kill commands, damage files and train with extreme numbers, by the hundred and the thousand.

    python -m benchmarks.soak                 everything: about 20 minutes on 2 cores
    python -m benchmarks.soak --only kill     one part: kill, bytes or numbers
    python -m benchmarks.soak --only none     only write the document, from the stored results
    python -m benchmarks.soak --trials 20     fewer trials of each kind

kill     each command is killed with -9 at random moments and run again
bytes    each reader gets damaged files
numbers  models are trained with settings far outside the usual

The seed is stored with the results, so that each trial can be made again. Ctrl-C stops after the
trials in progress and keeps what is done; the same command continues. The files of each defect are
kept in runs/soak. The exit status is 0 if nothing was wrong, otherwise 1.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import figures
from benchmarks.commands import make_parser
from benchmarks.markdown import put_blocks
from data_utils import MNISTDataset
from lab import ROOT
from lab.command import stop_requests
from tests.faults import damage, kills, odd_numbers
from tests.faults.readers import READERS

FIGURES = ROOT / "benchmarks" / "soak.json"
PAGE = ROOT / "docs" / "reliability.md"
KEPT = ROOT / "runs" / "soak"  # the files of defects
SEED = 1
AT_ONCE = 2  # trials, one per core
KILLS = {
    "train": 40,
    "train --overwrite": 15,
    "inference": 20,
    "grade": 20,
    "sweep": 14,
    "class": 10,
}
CASES = 10_000  # damaged files per reader; a slow one gets a share of it
CHUNK = 250  # damaged files per child process
TRAININGS = 500
PARTS = ("kill", "bytes", "numbers")
SHOWN = 20  # defects that are stored and printed

Outcome = tuple[str, list[str]]  # what happened, and what was wrong


# ---------------------------------------------------------------- the three parts


def kill_trials(name: str, folder: Path, inputs: kills.Inputs, wanted: range) -> Iterator[Callable]:
    """Yield the trials of a command with these numbers; each returns the outcomes."""
    if not wanted:
        return
    subject = kills.SUBJECTS[name]
    here = folder / name.replace(" ", "")
    whole = kills.undisturbed(subject, inputs, here / "whole")

    def trial(number: int) -> list[Outcome]:
        own = here / str(number)
        killed, faults = kills.kill_trial(subject, inputs, own, whole, f"{SEED}-{name}-{number}")
        if faults:
            KEPT.mkdir(parents=True, exist_ok=True)
            shutil.copytree(own, KEPT / f"{here.name}-{number}", dirs_exist_ok=True)
        shutil.rmtree(own)
        return [("killed" if killed else "ended before the kill", faults)]

    yield from (partial(trial, number) for number in wanted)


def byte_trials(name: str, wanted: range) -> Iterator[Callable]:
    """Yield trials that read CHUNK damaged files each; each returns the outcomes."""

    def trial(chosen: range) -> list[Outcome]:
        found: list[Outcome] = []
        for one in damage.read_damaged(READERS[name], str(SEED), chosen, KEPT, "forkserver"):
            if isinstance(one, str):
                found.append(("defect", [one]))
            else:
                found += [(outcome, []) for outcome in one.elements()]
        return found

    for first in range(wanted.start, wanted.stop, CHUNK):
        yield partial(trial, range(first, min(first + CHUNK, wanted.stop)))


def number_trials(digits: MNISTDataset, wanted: range) -> Iterator[Callable]:
    """Yield trainings; each returns the outcomes."""

    def trial(number: int) -> list[Outcome]:
        case = odd_numbers.case_of(f"{SEED}-{number}")
        outcome, said = odd_numbers.outcome_of(case, digits)
        return [(outcome, [f"{case}: {said}"] if outcome == "defect" else [])]

    yield from (partial(trial, number) for number in wanted)


def run(
    title: str, trials: Iterable[Callable], row: dict[str, Any], at_once: int, stop: threading.Event
) -> None:
    """Run the trials, several at once, and count the outcomes in the row until `stop` is set.

    The next trial starts when one has ended, in the order of their numbers, so that the number of
    finished trials says where to continue.
    """
    started, trials = time.monotonic(), iter(trials)
    bar = tqdm(total=row["planned"], initial=row["trials"], desc=title, dynamic_ncols=True)
    with bar, ThreadPoolExecutor(at_once) as pool:
        while not stop.is_set() and (batch := list(itertools.islice(trials, at_once))):
            for done in as_completed([pool.submit(trial) for trial in batch]):
                for outcome, faults in done.result():
                    row["trials"] += 1
                    row["outcomes"][outcome] = row["outcomes"].get(outcome, 0) + 1
                    row["wrong"] += bool(faults)
                    row["defects"] = (row["defects"] + faults)[:SHOWN]
                    bar.update()
                    for fault in faults[:SHOWN]:
                        tqdm.write(fault)
    row["seconds"] = round(row["seconds"] + time.monotonic() - started, 1)


# ---------------------------------------------------------------- all of it


def continued(stored: dict[str, Any], part: str, name: str, planned: int) -> dict[str, Any]:
    """Return the row of an interrupted run with the same plan, or else a new one."""
    row = stored.get(part, {}).get(name, {})
    same = row.get("seed") == SEED and row.get("planned") == planned
    if not (same and row["trials"] < planned):
        row = {"seed": SEED, "planned": planned, "trials": 0, "wrong": 0, "outcomes": {}}
        row |= {"defects": [], "seconds": 0.0}
    stored.setdefault(part, {})[name] = row
    return row


def measure(parts: Iterable[str], most: int | None) -> None:
    """Run the parts and store the results after each kind of trial; Ctrl-C stops it."""
    stored = figures.stored(FIGURES)
    torch.set_num_threads(1)
    plans = {
        "kill": KILLS,
        "bytes": {name: round(CASES * reader.share) for name, reader in READERS.items()},
        "numbers": {"trainings": TRAININGS},
    }
    with tempfile.TemporaryDirectory() as temporary, stop_requests() as stop:
        folder = Path(temporary)
        inputs = kills.Inputs(folder / "inputs")
        digits = MNISTDataset(ROOT / "dataset" / "valid")
        for part in parts:
            unfinished = _is_unfinished(stored.get(part, {}))
            for name, count in plans[part].items():
                if stop.is_set():
                    break
                before = stored.get(part, {}).get(name, {})
                planned = min(count, most) if most else count
                if unfinished and before and before["trials"] == before["planned"] == planned:
                    continue  # done before the interruption
                row = continued(stored, part, name, planned)
                wanted = range(row["trials"], planned)
                trials = {
                    "kill": partial(kill_trials, name, folder, inputs),
                    "bytes": partial(byte_trials, name),
                    "numbers": partial(number_trials, digits),
                }[part](wanted)
                # Trainings share this process's random numbers, so one runs at a time.
                run(f"{part}: {name}", trials, row, 1 if part == "numbers" else AT_ONCE, stop)
                figures.write(FIGURES, {**stored, "machine": figures.machine()})


def _is_unfinished(rows: dict[str, Any]) -> bool:
    return any(row["trials"] < row["planned"] for row in rows.values())


# ---------------------------------------------------------------- the document


def blocks(stored: dict[str, Any]) -> dict[str, str]:
    """Return the blocks of docs/reliability.md, by name."""
    kinds = {
        "soak-kill": ("kill", "command", ("killed", "ended before the kill")),
        "soak-bytes": ("bytes", "reader", ("refused", "read")),
        "soak-numbers": ("numbers", "what", ("finished", "refused")),
    }
    written = {}
    for block, (part, head, columns) in kinds.items():
        lines = [f"| {head} | trials | {' | '.join(columns)} | wrong |"]
        lines.append("| --- " * (len(columns) + 3) + "|")
        for name, row in stored.get(part, {}).items():
            counts = " | ".join(f"{row['outcomes'].get(name, 0):,}" for name in columns)
            lines.append(f"| {name} | {row['trials']:,} | {counts} | {row['wrong']} |")
        written[block] = "\n".join(lines) + "\n"
    facts = stored["machine"]
    seconds = sum(row["seconds"] for part in PARTS for row in stored.get(part, {}).values())
    written["soak-machine"] = (
        f"Measured by `python -m benchmarks.soak` on {facts['cores']} CPU cores with torch "
        f"{facts['torch']} and Python {facts['python']}, {facts['date']}, in "
        f"{seconds / 60:.0f} minutes.\n"
    )
    return written


def main() -> None:
    """Run the parts, store the results, write the document; exit with 1 if something is wrong."""
    parser = make_parser("benchmarks.soak", __doc__)
    parser.add_argument("--only", choices=(*PARTS, "none"), help="run only this part, or nothing")
    parser.add_argument("--trials", type=int, help="at most this many of each kind")
    args = parser.parse_args()
    chosen = {None: PARTS, "none": ()}.get(args.only, (args.only,))
    measure(chosen, args.trials)
    stored = figures.read(FIGURES)
    put_blocks(PAGE, blocks(stored))
    rows = [row for part in PARTS for row in stored.get(part, {}).values()]
    total = Counter(trials=sum(row["trials"] for row in rows), wrong=sum(r["wrong"] for r in rows))
    print(f"{total['trials']:,} trials, {total['wrong']} wrong; {FIGURES.relative_to(ROOT)}")
    if any(map(_is_unfinished, (stored.get(part, {}) for part in PARTS))):
        print("stopped; run the same command to continue")
    sys.exit(1 if total["wrong"] else 0)


if __name__ == "__main__":
    main()
