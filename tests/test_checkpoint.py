"""Files are whole or absent; checkpoints are newest-five, load safely, and say what is wrong."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch

from lab import checkpoint
from lab.checkpoint import CheckpointError, write_whole


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    with write_whole(file) as out:
        out.write(b"old")
    with pytest.raises(ZeroDivisionError), write_whole(file) as out:
        out.write(b"new, and half of it")
        raise ZeroDivisionError
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_told_in_words(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="could not be written .No space left on device.*make room"):
        checkpoint.save(tmp_path / "epoch_1.pth", {"epoch": 1})
    assert not list(tmp_path.iterdir())


def state(epoch=1):
    return {
        "epoch": epoch,
        "model_state_dict": {"w": torch.ones(2)},
        "optimizer_state_dict": {},
    }


def test_round_trip(tmp_path):
    checkpoint.save(tmp_path / "a.pth", state(3))
    loaded = checkpoint.load(tmp_path / "a.pth")
    assert loaded["epoch"] == 3 and torch.equal(loaded["model_state_dict"]["w"], torch.ones(2))


def test_newest_five_and_best(tmp_path):
    for epoch in range(1, 13):
        path = checkpoint.epoch_path(tmp_path, epoch)
        checkpoint.save(path, state(epoch))
        if epoch == 4:
            checkpoint.mark_best(tmp_path, path)
        checkpoint.prune(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(["best.pth", *(f"epoch_{n}.pth" for n in range(8, 13))])
    assert checkpoint.newest(tmp_path).name == "epoch_12.pth"
    assert checkpoint.load(checkpoint.to_infer_from(tmp_path))["epoch"] == 4
    checkpoint.save(tmp_path / checkpoint.INTERRUPTED, state(12))
    assert checkpoint.newest(tmp_path).name == checkpoint.INTERRUPTED


def test_best_where_links_are_not_possible(tmp_path, monkeypatch):
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
def test_what_is_not_a_checkpoint(tmp_path, monkeypatch, write, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoint.load(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_cut_checkpoint(tmp_path):
    checkpoint.save(tmp_path / "a.pth", {**state(), "x": torch.zeros(1000)})
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.load(tmp_path / "a.pth")


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.newest(tmp_path)
