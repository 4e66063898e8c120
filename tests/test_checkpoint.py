"""Files are whole or absent; the newest five checkpoints stay, load safely, and explain errors."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from lab import checkpoint
from lab.checkpoint import CheckpointError, replace_folder, write_whole


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    with write_whole(file) as out:
        out.write(b"old")
    with pytest.raises(ZeroDivisionError), write_whole(file) as out:
        out.write(b"new, and half of it")
        raise ZeroDivisionError
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="could not be written .No space left on device.*make room"):
        checkpoint.save(tmp_path / "epoch_1.pth", {"epoch": 1})
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- files of killed processes

WRITER = """
import sys
from pathlib import Path
from lab.checkpoint import temporary_path, write_whole

with write_whole(Path(sys.argv[1]) / "best.pth") as file:
    file.write(b"half of it")
    file.flush()
    folder = temporary_path(Path(sys.argv[1]) / "recon")
    folder.mkdir()
    (folder / "recon_0.png").touch()
    print("writing", flush=True)
    sys.stdin.readline()
    folder.rename(Path(sys.argv[1]) / "recon")
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing best.pth and a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path, writer):
    left = [f".{name}.{checkpoint.MACHINE}-{writer.pid}.tmp" for name in ("best.pth", "recon")]
    assert names(tmp_path) == left
    writer.kill()
    writer.wait()
    with write_whole(tmp_path / "a.txt") as out:
        out.write(b"new")
    assert names(tmp_path) == ["a.txt"]


def test_files_of_live_processes_and_other_files_stay(tmp_path, writer):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    others = [
        f".best.pth.other-machine-{ended.pid}.tmp",
        f".best.pth.{checkpoint.MACHINE}-{ended.pid}.temporary",
        f"best.pth.{checkpoint.MACHINE}-{ended.pid}.tmp",
        f".best.pth.{checkpoint.MACHINE}-.tmp",
        f".best.pth.{checkpoint.MACHINE}-{10**30}.tmp",
        ".notes.tmp",
    ]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".gone.{checkpoint.MACHINE}-{ended.pid}.tmp").touch()
    before = names(tmp_path)
    checkpoint.remove_leftovers(tmp_path)
    assert set(before) - set(names(tmp_path)) == {f".gone.{checkpoint.MACHINE}-{ended.pid}.tmp"}
    writer.communicate("go on\n")
    assert (tmp_path / "best.pth").read_bytes() == b"half of it"
    assert names(tmp_path) == sorted([*others, "best.pth", "recon"])


def test_a_folder_is_searched_once_in_a_process(tmp_path, monkeypatch):
    searched = []
    monkeypatch.setattr(checkpoint, "remove_leftovers", searched.append)
    for name in ("a.txt", "b.txt", "sub/c.txt", "a.txt"):
        with write_whole(tmp_path / name) as out:
            out.write(b"x")
    assert searched == [tmp_path, tmp_path / "sub"]
    checkpoint.remove_leftovers(tmp_path / "missing")


def test_is_running_for_live_and_ended_processes():
    assert checkpoint.is_running(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not checkpoint.is_running(ended.pid)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    for content in ("old", "new"):
        with replace_folder(tmp_path / "recon") as folder:
            (folder / content).touch()
    assert names(tmp_path) == ["recon"] and names(tmp_path / "recon") == ["new"]
    with pytest.raises(ZeroDivisionError), replace_folder(tmp_path / "recon") as folder:
        (folder / "newer").touch()
        raise ZeroDivisionError
    assert names(tmp_path) == ["recon"] and names(tmp_path / "recon") == ["new"]


# ---------------------------------------------------------------- checkpoints


def state(epoch=1):
    return {
        "epoch": epoch,
        "model_state_dict": {"w": torch.ones(2)},
        "optimizer_state_dict": {},
    }


def test_a_saved_checkpoint_loads_unchanged(tmp_path):
    checkpoint.save(tmp_path / "a.pth", state(3))
    loaded = checkpoint.load(tmp_path / "a.pth")
    assert loaded["epoch"] == 3 and torch.equal(loaded["model_state_dict"]["w"], torch.ones(2))


def test_the_newest_five_checkpoints_and_the_best_are_kept(tmp_path):
    for epoch in range(1, 13):
        path = checkpoint.epoch_path(tmp_path, epoch)
        checkpoint.save(path, state(epoch))
        if epoch == 4:
            checkpoint.mark_best(tmp_path, path)
        checkpoint.prune(tmp_path)
    assert names(tmp_path) == sorted(["best.pth", *(f"epoch_{n}.pth" for n in range(8, 13))])
    assert checkpoint.newest(tmp_path).name == "epoch_12.pth"
    assert checkpoint.load(checkpoint.best_or_newest(tmp_path))["epoch"] == 4
    checkpoint.save(tmp_path / checkpoint.INTERRUPTED, state(12))
    assert checkpoint.newest(tmp_path).name == checkpoint.INTERRUPTED


def test_marking_the_same_file_twice_leaves_no_temporary_file(tmp_path):
    """A resumed run may do this; renaming a file to a hard link of itself would keep both."""
    path = checkpoint.epoch_path(tmp_path, 1)
    checkpoint.save(path, state())
    checkpoint.mark_best(tmp_path, path)
    checkpoint.mark_best(tmp_path, path)
    assert names(tmp_path) == ["best.pth", "epoch_1.pth"]


def test_best_is_a_copy_where_links_are_not_possible(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    path = checkpoint.epoch_path(tmp_path, 1)
    checkpoint.save(path, state())
    monkeypatch.setattr(checkpoint.os, "link", refuse)
    checkpoint.mark_best(tmp_path, path)
    assert (tmp_path / "best.pth").read_bytes() == path.read_bytes()


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize(
    "write, words",
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "is not a checkpoint of this lab"),
        (lambda path: path.write_bytes(b"PK\x03\x04 and then nothing"), "is not a checkpoint"),
        (lambda path: path.write_bytes(pickle.dumps({"epoch": 1})), "is not a checkpoint"),
        (lambda path: torch.save([1, 2], path), "it lacks"),
        (lambda path: torch.save({"epoch": 1}, path), "model_state_dict"),
        (lambda path: torch.save({**state(), "x": Evil()}, path), "holds more than tensors"),
        (lambda path: torch.save({**state(), "format_version": 99}, path), "newer version"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path, monkeypatch, write, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoint.load(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path):
    checkpoint.save(tmp_path / "a.pth", {**state(), "x": torch.zeros(1000)})
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.load(tmp_path / "a.pth")


def test_a_folder_without_checkpoints_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.newest(tmp_path)
