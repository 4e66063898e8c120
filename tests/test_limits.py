"""What a stage uses is measured and limited: the watch on its processes, and control groups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import attacks
import psutil
import pytest

from staff import cgroup, sandbox, watch

PARENT_OF_MANY = """
import os, time
for _ in range(10):
    if os.fork() == 0:
        while time.process_time() < 0.1: pass
        os._exit(0)
    os.wait()
print("ready", flush=True)
input()
"""


def test_the_watch_counts_the_time_of_children_that_have_ended():
    words = [sys.executable, "-c", PARENT_OF_MANY]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        measured = watch.Watch(process.pid)
        for _ in range(3):  # nothing is counted twice
            measured.measure()
        process.kill()
    assert 0.9 <= measured.cpu_seconds < 1.6 and measured.processes == 1


# Reading untouched memory fills page tables, 8 bytes per page, and no other count.
READER_OF_NOTHING = """
import mmap
SIZE = 8 << 30
hole = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
hole.madvise(15)  # MADV_NOHUGEPAGE
for place in range(0, SIZE, 2 << 20):
    hole[place]
print("ready", flush=True)
input()
"""


def test_the_watch_counts_page_tables():
    words = [sys.executable, "-c", READER_OF_NOTHING]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        measured = watch.Watch(process.pid)
        measured.measure()
        resident = psutil.Process(process.pid).memory_info().rss
        process.kill()
    assert measured.memory - resident > 15 << 20  # a table of 4 KiB for each 2 MiB: 16 MiB


def test_a_program_that_takes_its_output_back_does_not_disturb_the_grader():
    """Without isolation there is /proc, and the bytes are gone before the grader reads them."""
    code = attacks.READ_BACK.replace("100_000", "20_000")
    read, write = os.pipe()
    os.close(write)
    words = [sys.executable, "-c", code]
    with (
        os.fdopen(read, "rb", buffering=0) as results,
        subprocess.Popen(words, stdout=subprocess.PIPE) as process,
    ):
        measured = watch.Watch(process.pid)
        outcome = sandbox._follow(process, results, process.stdout, sandbox.Limits(), measured)
    assert process.returncode == 0 and set(outcome.log) <= {"x"}


# ---------------------------------------------------------------- control groups

MOUNTS = """\
25 30 0:22 / /sys rw - sysfs sysfs rw
31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 25 0:30 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ("/", "0::/user.slice/a.scope", "/sys/fs/cgroup/user.slice/a.scope"),
        ("/", "4:memory:/other\n0::/", "/sys/fs/cgroup"),
        ("/docker/1", "0::/docker/1/x", "/sys/fs/cgroup/x"),
        ("/docker/1", "0::/docker/12", None),
        ("/", "4:memory:/other", None),
    ],
)
def test_the_folder_of_the_own_control_group(root, own, expected):
    found = cgroup.own_folder(MOUNTS.format(root=root), own + "\n")
    assert found == (None if expected is None else Path(expected))
    assert cgroup.own_folder("", own) is None


def test_a_control_group_gets_the_limits_that_its_controllers_have(tmp_path):
    """In a folder with the files of a group; the kernel of this machine may have no controllers."""
    group = cgroup.Group(tmp_path)
    assert group.kinds == "" and group.cpu_seconds() == 0.0
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    limits = sandbox.Limits(memory_bytes=1 << 30, tasks=50)
    group.limit(limits)
    assert [file.name for file in tmp_path.iterdir()] == ["cpu.stat"]
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        (tmp_path / name).write_text("max\n")
    group.limit(limits)
    assert group.kinds == "cpu, memory, pids" and group.cpu_seconds() == 2.5
    assert int((tmp_path / "memory.max").read_text()) >= 1 << 30
    assert (tmp_path / "memory.swap.max").read_text() == "0"
    assert int((tmp_path / "pids.max").read_text()) >= 50


def test_a_delegated_group_passes_its_controllers_on(tmp_path, monkeypatch):
    """The grader first leaves it, because only a group without processes can."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").write_text("17\n")
    control = tmp_path / "cgroup.subtree_control"
    control.mkdir()  # cannot be written to, as a control file whose group has processes
    monkeypatch.setattr(cgroup, "_is_delegated", lambda folder: False)
    with pytest.raises(OSError):
        cgroup.enable(tmp_path)
    assert not (tmp_path / cgroup.NAME).exists()

    def leave(folder: Path) -> bool:
        control.rmdir()  # now it can
        return True

    monkeypatch.setattr(cgroup, "_is_delegated", leave)
    cgroup.enable(tmp_path)
    assert (tmp_path / cgroup.NAME / "cgroup.procs").read_text() == "17"
    assert control.read_text() == "+memory +pids"


@pytest.mark.skipif(cgroup.available() == "none", reason="this user cannot make control groups")
def test_a_control_group_counts_and_kills_what_is_in_it():
    with cgroup.of_stage(sandbox.Limits()) as group:
        code = PARENT_OF_MANY.replace("range(10)", "range(2)")
        words = group.entering([sys.executable, "-c", code])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(words, start_new_session=True, **pipes)
        assert process.stdout.readline() == b"ready\n"
        assert group.cpu_seconds() >= 0.2
        assert str(process.pid) in (group.folder / "cgroup.procs").read_text().split()
    assert process.wait(10) == -signal.SIGKILL
    assert not group.folder.exists()
    process.stdin.close()
    process.stdout.close()
