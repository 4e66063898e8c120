"""A disk that is full from the n-th operation on that needs space, for commands in this process."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NEEDS_SPACE = ("mkdir", "replace", "rename", "link", "fsync")  # functions of os


class FullDisk:
    """Counts the operations below a folder that need space; from the `first` one on, they fail.

    Operations are: opening a file for writing, each write, and the functions NEEDS_SPACE of os.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.folder, self.first, self.count = str(folder), first, 0

    def operation(self, path: object) -> None:
        if isinstance(path, str | os.PathLike) and not str(path).startswith(self.folder):
            return
        self.count += 1
        if self.count >= self.first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open(self, path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+"):
            return REAL_OPEN(path, mode, *more, **named)
        self.operation(path)
        file = REAL_OPEN(path, mode, *more, **named)
        return _File(file, self) if str(path).startswith(self.folder) else file


REAL_OPEN = builtins.open


class _File:
    """An open file whose write() counts."""

    def __init__(self, file: Any, disk: FullDisk) -> None:
        self.file, self.disk = file, disk

    def write(self, content: Any) -> int:
        self.disk.operation(None)
        return self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@contextmanager
def full_disk(folder: Path, first: int) -> Iterator[FullDisk]:
    """Let the operations below `folder` fail from the `first` one on; see FullDisk."""
    disk = FullDisk(folder, first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", disk.open)
        for name in NEEDS_SPACE:
            patch.setattr(os, name, _counted(getattr(os, name), disk))
        yield disk


def _counted(function: Callable[..., Any], disk: FullDisk) -> Callable[..., Any]:
    def counted(path: Any, *more: Any, **named: Any) -> Any:
        disk.operation(path)
        return function(path, *more, **named)

    return counted
