"""One process at a time works in a folder: a lock that the system releases when its holder ends."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

NAME = ".lock"  # stays in the folder; only the system knows whether a process holds it
BYTE_ON_WINDOWS = 1 << 20  # the locked byte cannot be read there, so it is behind the text


class FolderInUseError(RuntimeError):
    """Another process works in the folder; the message names it and says what to do."""


@contextmanager
def only_one(folder: Path, option: str) -> Iterator[None]:
    """Hold the lock of a folder, which is created if it does not exist.

    Args:
        folder: which the process is going to write to.
        option: of the command that chooses another folder, for the message.

    A command that is refused before it has written anything leaves no folder behind. Raises
    FolderInUseError if another process holds the lock, OSError if the folder is read-only.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / NAME, "a+b") as file:
        try:
            _lock(file)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).decode(errors="replace") or "another process"
            raise FolderInUseError(
                f"{folder} is in use by {holder}; wait until it ends, or choose another folder "
                f"({option})."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}".encode())
        file.flush()
        try:
            yield
        except BaseException:
            if is_new:
                _remove_if_empty(folder)
            raise


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but the lock."""
    with suppress(OSError):
        if [file.name for file in folder.iterdir()] == [NAME]:
            (folder / NAME).unlink()
            folder.rmdir()


def _lock(file: BinaryIO) -> None:
    """Lock an open file until it is closed. Raises BlockingIOError if it is locked already."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(BYTE_ON_WINDOWS)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
