"""Files written whole or not at all, and checkpoints that rebuild their own run.

A checkpoint is one dict of tensors and plain values, so that it loads with `weights_only=True`:
a stranger's file cannot run code here. torch is imported only where it is used, because
`grade.py` writes files and has no other need of it.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FORMAT_VERSION = 1
NEWEST_KEPT = 5
MAX_BYTES = 2 * 1024**3  # far above any model of this lab; bounds what a stranger's file costs
BEST = "best.pth"
INTERRUPTED = "interrupted.pth"  # a stop in mid-epoch; gone once that epoch is complete
REQUIRED = ("epoch", "model_state_dict", "optimizer_state_dict")


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another kind; the message names the file."""


@contextmanager
def write_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` complete, or not at all.

    The bytes go to a temporary name in the same folder, reach the disk, and are then renamed.
    Raises OSError, in words for people, when the folder is read-only or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _forget(temporary)
        reason = error.strerror or str(error)
        raise OSError(
            f"{path} could not be written ({reason}): "
            "expected a writable folder with free space; make room or choose another folder."
        ) from error
    except BaseException:
        _forget(temporary)
        raise


def _forget(path: Path) -> None:
    # A folder that refuses the file refuses this too; the first error says why.
    with suppress(OSError):
        path.unlink(missing_ok=True)


def save(path: str | Path, state: dict) -> None:
    """Write a checkpoint whole or not at all."""
    import torch

    # Through memory, because torch.save to a full disk raises RuntimeError, not OSError.
    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **state}, buffer)
    with write_whole(path) as file:
        file.write(buffer.getbuffer())


def load(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU without running anything in it. Raises CheckpointError."""
    import torch

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the path of a checkpoint (.pth).")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_BYTES} bytes; this lab's are not.")
    content = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file makes torch raise errors of nearly any type
        raise CheckpointError(
            f"{path} is not a checkpoint of this lab: expected a file that train.py wrote, but it "
            "is damaged, or holds more than tensors and plain values."
        ) from None
    missing = [key for key in REQUIRED if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path} is not a checkpoint of this lab: it lacks {missing}.")
    if not all(isinstance(state[key], dict) for key in REQUIRED[1:]):
        raise CheckpointError(f"{path} is not a checkpoint of this lab: its weights are no table.")
    if state.get("format_version", 0) > FORMAT_VERSION:
        raise CheckpointError(f"{path} was written by a newer version of this lab; update it.")
    return state


def epoch_path(run_dir: Path, epoch: int) -> Path:
    """Return where the checkpoint after `epoch` complete epochs lies."""
    return run_dir / f"epoch_{epoch}.pth"


def _epochs(run_dir: Path) -> dict[int, Path]:
    """Return the epoch checkpoints of a run by number, oldest first."""
    found = {}
    for path in run_dir.glob("epoch_*.pth"):
        match = re.fullmatch(r"epoch_(\d+)\.pth", path.name)
        if match:
            found[int(match.group(1))] = path
    return dict(sorted(found.items()))


def newest(run_dir: str | Path) -> Path:
    """Return the checkpoint from which a run goes on. Raises CheckpointError when there is none."""
    run_dir = Path(run_dir)
    interrupted = run_dir / INTERRUPTED
    if interrupted.is_file():
        return interrupted
    epochs = _epochs(run_dir)
    if not epochs:
        raise CheckpointError(
            f"{run_dir} holds no checkpoint (epoch_N.pth); train first: python train.py"
        )
    return list(epochs.values())[-1]


def to_infer_from(run_dir: str | Path) -> Path:
    """Return the checkpoint of a run that inference should use: the best, else the newest."""
    best = Path(run_dir) / BEST
    return best if best.is_file() else newest(run_dir)


def mark_best(run_dir: Path, path: Path) -> None:
    """Make best.pth the same file as `path`: weights and optimizer state of one step."""
    temporary = run_dir / f".{BEST}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)  # costs nothing; pruning the epoch's name leaves this one
    except OSError:  # a file system without hard links
        with write_whole(run_dir / BEST) as best:
            best.write(path.read_bytes())
    else:
        os.replace(temporary, run_dir / BEST)


def prune(run_dir: Path) -> None:
    """Keep the newest epoch checkpoints; drop what an interrupted epoch left behind."""
    (run_dir / INTERRUPTED).unlink(missing_ok=True)
    for path in list(_epochs(run_dir).values())[:-NEWEST_KEPT]:
        path.unlink(missing_ok=True)
