"""Pack what a student hands in: the code, one small checkpoint per task, papers, a manifest.

The manifest states what is in the zip and how it was made. It is the student's word: the course
compares its hashes with the files, and takes nothing else from it for granted.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import platform
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab import checkpoint
from lab.metrics import TASKS

CODE, MANIFEST = "submission.py", "manifest.json"
PAPERS = ("theory.pdf", "report.pdf")
MANIFEST_VERSION = 1
# What only training needs, and what stands in its place.
FOR_TRAINING: dict[str, Any] = {
    "optimizer_state_dict": {},
    "other_optimizer_state_dicts": [],
    "last_good": None,
}
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold


class HandInError(ValueError):
    """Something to hand in is missing; the message says what to do."""


@dataclass(frozen=True)
class Trained:
    """The checkpoint of a task.

    Attributes:
        task: of the lab.
        path: the checkpoint of the run.
        state: what is in it.
        content: a checkpoint without what only training needs.
    """

    task: str
    path: Path
    state: dict[str, Any]
    content: bytes


def trained(task: str, runs: Path, given: Path | None = None) -> Trained:
    """Return the checkpoint of a task.

    Args:
        task: of the lab.
        runs: the folder of runs, of which the newest counts.
        given: a run's folder or a checkpoint, if it is not the newest run's.

    Raises HandInError, CheckpointError.
    """
    from lab.stages import InferenceError
    from lab.trained import newest_run

    try:
        path = given or newest_run(task, runs)
    except InferenceError:
        others = " or ".join(f"--task {other}" for other in TASKS if other != task)
        raise HandInError(
            f"{runs} holds no run of {task}; train it (python train.py --task {task}), name its "
            f"run (--{task} RUN), or submit without it for now ({others})."
        ) from None
    if path.is_dir():
        path = checkpoint.best_or_newest(path)
    state = checkpoint.load(path)
    if state.get("task", task) != task:
        raise HandInError(f"{path} is of {state['task']}; expected a run of {task}.")
    small = {**state, **{name: value for name, value in FOR_TRAINING.items() if name in state}}
    return Trained(task, path, state, checkpoint.as_bytes(small))


def misfit(one: Trained, code: Path) -> str:
    """Return what is wrong if a file is not the code that a checkpoint was trained from.

    "" if it is the same code. Other code may still fit, for instance if only the other class was
    changed; so its weights are loaded.
    """
    from lab.loading import ContractError
    from lab.settings import SettingsError
    from lab.trained import load_trained

    if one.state.get("submission_sha256") == sha256(code.read_bytes()):
        return ""
    edited = f"{code} is not the code that {one.path} was trained from"
    try:
        load_trained(one.path, one.state, one.task, file=code)
    except (ContractError, SettingsError, checkpoint.CheckpointError):
        return f"{edited}, and the weights do not fit it, so they score 0: train again"
    return f"{edited}. The weights fit; train again if you changed more than names and comments"


def manifest(
    files: Mapping[str, bytes], models: Iterable[Trained], helped_by: str, checked: bool | None
) -> bytes:
    """Return manifest.json.

    Args:
        files: what is handed in, by name.
        models: of the tasks.
        helped_by: the help that the student declares.
        checked: whether check.py had no complaint; None if it was not run.
    """
    code = sha256(files[CODE])
    stated = {
        "version": MANIFEST_VERSION,
        "help": helped_by,
        "checked": checked,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy")},
        },
        "files": {
            name: {"bytes": len(content), "sha256": sha256(content)}
            for name, content in sorted(files.items())
        },
        "tasks": {
            one.task: {
                "run": one.path.as_posix(),
                "epoch": one.state["epoch"],
                "same_code": one.state.get("submission_sha256") == code,
                "settings": one.state.get("settings", {}),
                "history": one.state.get("counters", {}).get("history", []),
            }
            for one in models
        },
    }
    return json.dumps(_finite(stated), indent=1, ensure_ascii=False).encode()


def zip_bytes(files: Mapping[str, bytes], changed: float) -> bytes:
    """Return a zip of the files, the same for the same arguments.

    changed: time of the last change to any of them, in seconds; each member gets it, so that of two
    hand-ins the newer one is known.
    """
    when = max(time.localtime(changed)[:6], EARLIEST)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, when)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # the same bytes on every system
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    """Return a SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _finite(value: Any) -> Any:
    """Return a value in which None stands for nan and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
