"""Checkpoints that rebuild their own run, and files that are written whole or not at all.

A checkpoint is one dict of tensors and plain values, so it loads with `weights_only=True`: a file
from someone else cannot run code here. torch is imported inside functions, because `grade.py`
writes files and does not need torch.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FORMAT_VERSION = 1
NEWEST_KEPT = 5
MAX_BYTES = 1024**3  # far above any model of this lab; limits the memory that a file can take
BEST = "best.pth"
INTERRUPTED = "interrupted.pth"  # saved inside an epoch; removed when that epoch is complete
REQUIRED = ("epoch", "model_state_dict", "optimizer_state_dict")
KINDS = {  # of the entries that train.py and inference.py use
    **dict.fromkeys(("epoch", "latent_dim", "format_version"), int),
    **dict.fromkeys(("task", "variant", "submission"), str),
    **dict.fromkeys(("submission_sha256", "code_sha256"), str),
    **dict.fromkeys(("train_data", "valid_data"), str),
    **dict.fromkeys(("model_state_dict", "optimizer_state_dict"), dict),
    **dict.fromkeys(("settings", "counters", "rng_state"), dict),
}


class CheckpointError(ValueError):
    """A file is missing, damaged or not a checkpoint; the message names it."""


# ---------------------------------------------------------------- files written whole

# A temporary name holds machine and process: .best.pth.MACHINE-PID.tmp. Other machines may share
# the folder, and nothing can be said here about whether their processes still run.
MACHINE = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())
TEMPORARY = re.compile(rf"\..+\.{MACHINE}-(?P<pid>\d+)\.tmp")
_cleaned: set[Path] = set()  # folders whose leftovers this process has removed


@contextmanager
def write_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` complete, or not at all.

    The bytes go to a temporary name in the same folder, are flushed to the disk, and the file is
    then renamed. Raises OSError, with a readable message, if the folder is read-only or the disk is
    full.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        reason = error.strerror or str(error)
        raise OSError(
            f"{path} could not be written ({reason}): "
            "expected a writable folder with free space; make room or choose another folder."
        ) from error
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, for one who needs a path; removed afterwards.

    It has a hidden name. After a kill, the next process that writes beside `path` removes it.
    """
    temporary = temporary_path(path)
    _remove(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        _remove(temporary)


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which takes the place of `path` when the block ends.

    After an exception the temporary folder is removed and `path` is unchanged.
    """
    path = Path(path)
    with temporary_folder(path) as temporary:
        yield temporary
        if path.exists():  # moved away first, because a folder is not removed in one step
            outdated = temporary_path(path.with_name(f"{path.name}.outdated"))
            _remove(outdated)
            path.rename(outdated)
            temporary.rename(path)
            _remove(outdated)
        else:
            temporary.rename(path)


def temporary_path(path: Path) -> Path:
    """Return the hidden name in the folder of `path` that this process writes to before it renames.

    The first call for a folder in a process removes what killed processes left in that folder.
    """
    folder = path.parent.absolute()
    if folder not in _cleaned:
        _cleaned.add(folder)
        remove_leftovers(folder)
    return path.with_name(f".{path.name}.{MACHINE}-{os.getpid()}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of processes of this machine that no longer run."""
    with suppress(OSError):  # a folder that cannot be listed; the write itself reports why
        for entry in list(os.scandir(folder)):
            match = TEMPORARY.fullmatch(entry.name)
            if match and not is_running(int(match["pid"])):
                _remove(Path(entry.path))


def is_running(pid: int) -> bool:
    """Return whether a process with this number runs on this machine; True if unknown."""
    if sys.platform == "win32":  # os.kill would end the process there
        import ctypes

        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.restype = ctypes.c_void_p
        query_limited_information, access_denied, still_active = 0x1000, 5, 259
        handle = kernel32.OpenProcess(query_limited_information, False, pid)
        if not handle:
            return ctypes.get_last_error() == access_denied
        code = ctypes.c_ulong(still_active)
        kernel32.GetExitCodeProcess(ctypes.c_void_p(handle), ctypes.byref(code))
        kernel32.CloseHandle(ctypes.c_void_p(handle))
        return code.value == still_active
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to another user, or it is not a process number
        return True
    return True


def _remove(path: Path) -> None:
    """Remove a file or folder if it exists. An error is ignored: an earlier one says why."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# ---------------------------------------------------------------- checkpoints


def save(path: str | Path, state: dict) -> None:
    """Write a checkpoint whole or not at all. Raises OSError as write_whole does."""
    # Saved to memory first, because torch.save to a full disk raises RuntimeError, not OSError.
    content = as_bytes(state)
    with write_whole(path) as file:
        file.write(content)


def as_bytes(state: dict) -> bytes:
    """Return the content of a checkpoint."""
    import torch

    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **state}, buffer)
    return buffer.getvalue()


def load(path: str | Path) -> dict:
    """Read a checkpoint into CPU memory; no code in the file is run. Raises CheckpointError."""
    import torch

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the path of a checkpoint (.pth).")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(
            f"{path} is larger than {MAX_BYTES} bytes; checkpoints of this lab are smaller."
        )
    content = io.BytesIO(path.read_bytes())
    try:
        _expect_small_contents(content)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file makes torch raise errors of almost any type
        raise CheckpointError(
            f"{path} is not a checkpoint of this lab: expected a file that train.py wrote, but it "
            "is damaged, or holds more than tensors and plain values."
        ) from None
    missing = [key for key in REQUIRED if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path} is not a checkpoint of this lab: it lacks {missing}.")
    for name, kind in KINDS.items():
        if name in state and type(state[name]) is not kind and not _is_dict(state[name], kind):
            came = type(state[name]).__name__
            raise CheckpointError(
                f"{path} is not a checkpoint of this lab: its {name} is of type {came}; "
                f"expected {kind.__name__}."
            )
    if state.get("format_version", 0) > FORMAT_VERSION:
        raise CheckpointError(f"{path} was written by a newer version of this lab; update it.")
    return state


def _is_dict(value: object, kind: type) -> bool:
    """Return whether a dict was expected and came; torch's own dicts are of a subclass."""
    return kind is dict and isinstance(value, dict)


def _expect_small_contents(content: io.BytesIO) -> None:
    """Raise ValueError if a checkpoint, which is a zip, unpacks to more than it is itself.

    torch.save does not compress, so only a file from elsewhere is larger unpacked.
    """
    if zipfile.is_zipfile(content):
        with zipfile.ZipFile(content) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > len(content.getbuffer()):
            raise ValueError("it unpacks to more than its own size")
    content.seek(0)


def epoch_path(run_dir: Path, epoch: int) -> Path:
    """Return the path of the checkpoint after `epoch` complete epochs."""
    return run_dir / f"epoch_{epoch}.pth"


def _epochs(run_dir: Path) -> dict[int, Path]:
    """Return the epoch checkpoints of a run by epoch, oldest first."""
    found = {}
    for path in run_dir.glob("epoch_*.pth"):
        match = re.fullmatch(r"epoch_(\d+)\.pth", path.name)
        if match:
            found[int(match.group(1))] = path
    return dict(sorted(found.items()))


def newest(run_dir: str | Path) -> Path:
    """Return the checkpoint that a run resumes from. Raises CheckpointError if there is none."""
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


def best_or_newest(run_dir: str | Path) -> Path:
    """Return the checkpoint of a run for inference: best.pth, or the newest if there is none.

    Raises CheckpointError if the run has no checkpoint.
    """
    best = Path(run_dir) / BEST
    return best if best.is_file() else newest(run_dir)


def mark_best(run_dir: Path, path: Path) -> None:
    """Make best.pth a second name of the checkpoint `path`, or a copy without hard links."""
    temporary = temporary_path(run_dir / BEST)
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)  # takes no space, and stays when `prune` removes the first name
    except OSError:  # a file system without hard links
        with write_whole(run_dir / BEST) as best:
            best.write(path.read_bytes())
    else:
        try:
            os.replace(temporary, run_dir / BEST)
        finally:
            # If best.pth was this file already, POSIX renames nothing and keeps both names.
            temporary.unlink(missing_ok=True)


def prune(run_dir: Path) -> None:
    """Keep the newest NEWEST_KEPT epoch checkpoints; remove the one of an interrupted epoch."""
    (run_dir / INTERRUPTED).unlink(missing_ok=True)
    for path in list(_epochs(run_dir).values())[:-NEWEST_KEPT]:
        path.unlink(missing_ok=True)
