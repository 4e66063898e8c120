"""The plan of a sweep: the values of each option, and the trials that they make."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeGuard

from data_utils import MAX_LATENT_DIM, MNISTDataset
from lab import ROOT, command
from lab.checkpoint import write_whole
from lab.settings import Settings
from sweeps.search import Grid, Tpe
from sweeps.trial import FAILED, FINISHED, PATHS, WAITING, Trial, read_json, read_record
from train import add_training_options

# Each preset is a table of the original reports.
PRESETS: dict[str, dict[str, list]] = {
    "var": {"var": [0.5, 0.25, 0.22, 0.2]},
    "lr": {"lr": [1e-3, 2e-3, 5e-3, 6e-3]},
    "batch": {"batch_size": [512, 1024, 2048]},
    "latent": {"latent_dim": [10, 20, 30]},
}
DEFAULT_GRID = PRESETS["var"] | PRESETS["lr"]
DEFAULT_TRIALS = 40  # of --search tpe
TEST_SPLIT = ROOT / "dataset" / "test"


class SweepError(ValueError):
    """The sweep cannot run with these options; the message says what to do."""


def chosen_values(options: dict[str, Any], given: set[str]) -> dict[str, list]:
    """Return the values of each option of train.py: those given, the preset's, or the default.

    Without a preset and without any option with several values, var and lr take the values of
    DEFAULT_GRID, unless they are given.
    """
    names = vars(_train_parser().parse_args([]))
    values = {name: options[name] if name in given else [options[name]] for name in names}
    preset = PRESETS.get(options["preset"], {})
    several = any(len(given_values) > 1 for given_values in values.values())
    if not preset and not several:
        preset = DEFAULT_GRID
    return values | {name: list(swept) for name, swept in preset.items() if name not in given}


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_training_options(parser)
    return parser


def make_search(options: dict[str, Any], values: dict[str, list], folder: Path) -> Grid | Tpe:
    """Return the search that chooses the trials. Raises SweepError, SearchError."""
    sweep_dir, root = folder.resolve(), Path.cwd()
    code = {path: _copy_of(path, sweep_dir) for path in values["submission"]}

    def make_trial(one_each: dict[str, Any]) -> Trial:
        paths = {name: Path(one_each[name]) for name in PATHS}
        chosen = {name: one_each[name] for name in values} | paths
        return Trial(chosen, sweep_dir, root, code[paths["submission"]])

    if options["search"] == "grid":
        if options["trials"] is not None:
            raise SweepError("--trials is for --search tpe; a grid runs all of its trials.")
        return Grid(values, make_trial)
    if len(set(values["task"])) > 1:
        raise SweepError("--search tpe takes one --task; scores of two tasks cannot be compared.")
    count = DEFAULT_TRIALS if options["trials"] is None else options["trials"]
    if count < 1:
        raise SweepError(f"--trials is {count}; expected 1 or more.")
    known = []
    for file in sorted(sweep_dir.glob("trials/*/trial.json")):
        asked = (read_json(file) or {}).get("options")
        if options["overwrite"] or not _fits(asked, values):
            continue  # a trial of other options, or a damaged record
        if Path(asked["submission"]) in code:
            trial = make_trial(asked)
            if trial.folder == file.parent:
                known.append((trial, read_record(trial)))
    return Tpe(values, make_trial, count, known)


def _fits(asked: Any, values: dict[str, list]) -> TypeGuard[dict[str, Any]]:
    """Return whether stored options have a value for each option, of its type."""
    if not isinstance(asked, dict):
        return False
    types = {name: type(command.plain(given[0])) for name, given in values.items()}
    return all(type(asked.get(name)) is kind for name, kind in types.items())


def _copy_of(submission: Path, sweep_dir: Path) -> Path:
    """Copy a submission into the sweep's folder, one folder per version; return the copy."""
    content = submission.read_bytes()
    version = hashlib.sha256(content).hexdigest()[:8]
    copy = sweep_dir / "code" / version / submission.name
    if not copy.is_file():
        with write_whole(copy) as file:
            file.write(content)
    return copy


def check_values(values: dict[str, list]) -> None:
    """Check the values of all options before the first trial runs.

    Raises SweepError, SettingsError, DataError, ContractError.
    """
    from lab.contract import check_contract
    from lab.split_model import Submission

    for setting in fields(Settings):
        for value in values[setting.name]:
            Settings(**{setting.name: value})  # checks this setting alone
    for latent_dim in values["latent_dim"]:
        if not 1 <= latent_dim <= MAX_LATENT_DIM:
            raise SweepError(f"latent_dim is {latent_dim}; expected 1 to {MAX_LATENT_DIM}.")
    test_split = MNISTDataset(TEST_SPLIT).sha256 if TEST_SPLIT.is_dir() else None
    for name in ("train_data", "valid_data"):
        for path in values[name]:
            if MNISTDataset(path).sha256 == test_split:
                raise SweepError(
                    f"--{name} is {path}, the test split; a sweep selects by its grades, so it "
                    "must not use the test split. Give dataset/train and dataset/valid."
                )
    for path, task in itertools.product(values["submission"], values["task"]):
        check_contract(Submission(path, task, values["latent_dim"][0]))


def read_records(search: Grid | Tpe, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the record of each trial by name. A trial that must run again has status waiting.

    Raises SweepError if a finished trial was trained with code that has changed since.
    """
    records = {name: read_record(trial) for name, trial in search.trials.items()}
    if options["report"]:
        return records
    for name, record in records.items():
        trial = search.trials[name]
        again = options["overwrite"] or (record["status"] == FAILED and options["retry_failed"])
        if again:
            records[name] = {"status": WAITING}
        elif record["status"] == FINISHED and record["submission_sha256"] != trial.code_sha256():
            raise SweepError(
                f"{trial.options['submission']} is not the code of the trials in "
                f"{trial.sweep_dir}, so the scores cannot be compared; give another --save_dir, or "
                "run the trials again with --overwrite."
            )
    return records


def clear(search: Grid | Tpe) -> None:
    """Remove the folders of all trials, so that they run from the start."""
    for trial in search.trials.values():
        shutil.rmtree(trial.folder, ignore_errors=True)
