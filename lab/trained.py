"""A trained model: find the checkpoint of a run, and load it into its submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab import checkpoint
from lab.loading import submission_file
from lab.outputs import known_facts
from lab.settings import SettingsError
from lab.split_model import Submission
from lab.stages import InferenceError


def newest_run(task: str | None, runs: Path = Path("runs")) -> Path:
    """Return the checkpoint of the newest run, the best if there is one. Raises InferenceError."""
    found = []
    for folder in runs.glob("*/"):
        checkpoints = list(folder.glob("*.pth"))
        if checkpoints and task in (None, known_facts(folder).get("task")):
            found.append((max(file.stat().st_mtime for file in checkpoints), folder))
    if not found:
        wanted = f" of task {task}" if task else ""
        raise InferenceError(
            f"{runs} holds no run{wanted}; train first (python train.py), "
            "or give the path of a checkpoint."
        )
    return checkpoint.best_or_newest(max(found)[1])


def load_trained(
    path: Path,
    state: dict[str, Any],
    task: str | None = None,
    latent_dim: int | None = None,
    file: Path | None = None,
) -> Submission:
    """Return the trained model of a checkpoint, on the CPU, in evaluation mode.

    Args:
        path: names the checkpoint in messages; the run's copy of the code is beside it.
        state: what `checkpoint.load` returned.
        task, latent_dim: needed for older checkpoints, which do not state them.
        file: the submission file, if it is not the run's own copy.

    Raises SettingsError, CheckpointError, ContractError.
    """
    task = _agreed("task", task, state, path)
    latent_dim = _agreed("latent_dim", latent_dim, state, path)
    assert task is not None and latent_dim is not None
    file = file or submission_file(path, state)
    submission = Submission(file, task, latent_dim, state.get("variant", ""))
    submission.load_weights(state, path)
    submission.model.eval()
    return submission


def _agreed(name: str, asked: Any, state: dict[str, Any], path: Path) -> Any:
    """Return the value in the checkpoint, or else the option's. They must not differ."""
    saved = state.get(name)
    if None not in (asked, saved) and asked != saved:
        raise SettingsError(
            f"{path} was trained with --{name} {saved}, not {asked}; "
            f"leave --{name} out, or give another --checkpoint_path."
        )
    if asked is None and saved is None:
        raise SettingsError(
            f"{path} is an older checkpoint, which does not state --{name}; add --{name}."
        )
    return saved if asked is None else asked
