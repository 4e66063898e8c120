"""Folders that only their owner can enter: submissions, grades and private images.

The sandbox needs no way through such a folder: the grader opens a stage's inputs, and bubblewrap
copies their content.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.checkpoint import temporary_folder

OTHERS = stat.S_IRWXG | stat.S_IRWXO  # all rights of the group and of anyone else


class PermissionsError(ValueError):
    """Other accounts can read what only staff should; the message says what to type."""


def write_for_owner_only() -> None:
    """Give the group and others no right to any file or folder that this process makes."""
    os.umask(OTHERS)


def private_folder(path: Path) -> Path:
    """Make a folder of the lab, or take an existing one, that only its owner can enter.

    Raises OSError, with a readable message, if it cannot be made.
    """
    try:
        path.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        path.chmod(stat.S_IRWXU)
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror}): "
            "expected the place of a folder that you own; choose another."
        ) from error
    return path


def expect_private(path: Path) -> None:
    """Raise PermissionsError if the group or others have any right to a folder or file.

    On Windows a user's folders are private already, and modes say nothing.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS and sys.platform != "win32":
        wanted = "700" if path.is_dir() else "600"
        raise PermissionsError(
            f"{path} is open to other accounts (mode {mode:o}), but it is secret; expected mode "
            f"{wanted}: chmod {wanted} {shlex.quote(str(path))}"
        )


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder below `parent` that only its owner can enter, and remove it at the end.

    A process has one at a time. If it is killed, the next process that uses `parent` removes it.
    """
    private_folder(parent)
    with temporary_folder(parent / "student") as folder:
        yield private_folder(folder)
