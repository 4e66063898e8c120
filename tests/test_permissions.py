"""Folders that only their owner can enter, and work folders that outlive no process for long."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab import checkpoint
from staff.permissions import PermissionsError, expect_private, private_folder, work_folder

on_unix = pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing on Windows")


def mode(path) -> int:
    return path.stat().st_mode & 0o777


@on_unix
def test_a_private_folder_is_closed_also_if_it_exists(tmp_path):
    (tmp_path / "old").mkdir(mode=0o755)
    assert mode(private_folder(tmp_path / "old")) == 0o700
    before = os.umask(0)
    try:
        assert mode(private_folder(tmp_path / "a" / "new")) == 0o700
    finally:
        os.umask(before)


@on_unix
@pytest.mark.parametrize("open_mode", [0o710, 0o704, 0o755, 0o777])
def test_what_others_can_enter_is_named_with_the_command_that_closes_it(tmp_path, open_mode):
    folder = private_folder(tmp_path / "a split")
    expect_private(folder)
    folder.chmod(open_mode)
    with pytest.raises(PermissionsError, match=rf"mode {open_mode:o}.*chmod 700 '{folder}'"):
        expect_private(folder)


def test_a_work_folder_is_private_and_removed(tmp_path):
    with work_folder(tmp_path / "work") as folder:
        (folder / "VAEwolabel.pth").write_bytes(b"x")
        if sys.platform != "win32":
            assert mode(folder) == mode(folder.parent) == 0o700
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(KeyError), work_folder(tmp_path / "work"):
        raise KeyError
    assert list((tmp_path / "work").iterdir()) == []


def test_work_folders_of_dead_processes_are_removed_and_others_stay(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = (
        tmp_path / f".student.{checkpoint.MACHINE}-{pid}.tmp" for pid in (process.pid, os.getppid())
    )
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "VAEwolabel.pth").write_bytes(b"x")
    with work_folder(tmp_path) as mine:
        assert {path.name for path in tmp_path.iterdir()} == {alive.name, mine.name}
