"""A control group for each stage, where the kernel lets this process make one.

A control group counts what the processes of a stage use, also the memory of the kernel and of
processes that have ended. The kernel enforces its limits, so nothing depends on how often the watch
looks. Version 2 is needed. A process may make groups as root where no systemd manages its own group
(a container), or where systemd has delegated it:

    systemd-run --user --scope -p Delegate=yes python -m staff.grade_class ...

Without a group, or with one that has no controllers, `watch.py` measures alone.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from staff.walls import MIB, Limits

NAME, NONE = "vae-lab", "none"
CONTROLLERS = ("memory", "pids")
OWN_PROCESSES = 16  # of bubblewrap and the shell, in addition to the stage's tasks
OWN_MEMORY = 256 * MIB  # copies of the inputs, cached files
NUMBERS = itertools.count()


class Group:
    """A control group.

    Args:
        folder: of the group, below /sys/fs/cgroup.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def kinds(self) -> str:
        """What the group counts or limits, such as "cpu, memory, pids"."""
        files = {"cpu": "cpu.stat", "memory": "memory.max", "pids": "pids.max"}
        return ", ".join(kind for kind, name in files.items() if (self.folder / name).exists())

    def limit(self, limits: Limits) -> None:
        """Set the limits that the group's controllers can enforce."""
        memory = limits.memory_bytes + 2 * limits.tmp_bytes + OWN_MEMORY
        values = {"memory.max": memory, "memory.swap.max": 0, "memory.oom.group": 1}
        values["pids.max"] = limits.tasks + OWN_PROCESSES
        for name, value in values.items():
            if (file := self.folder / name).exists():
                file.write_text(str(value), encoding="ascii")

    def entering(self, words: Sequence[str]) -> list[str]:
        """Return the command that enters the group and then runs `words`."""
        enter = 'echo 0 > "$0" && exec "$@"'
        return [shutil.which("sh") or "sh", "-c", enter, f"{self.folder}/cgroup.procs", *words]

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes of the group, also of those that have ended."""
        with suppress(OSError, ValueError, StopIteration):
            lines = (self.folder / "cpu.stat").read_text(encoding="ascii").splitlines()
            usage = next(line for line in lines if line.startswith("usage_usec "))
            return int(usage.split()[1]) / 1e6
        return 0.0

    def end(self) -> None:
        """Kill every process of the group and remove it."""
        with suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1", encoding="ascii")
        for _ in range(200):  # a killed process leaves its group a moment later
            with suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.01)


@contextmanager
def of_stage(limits: Limits) -> Iterator[Group | None]:
    """Yield a new group with the limits of a stage; None if this process cannot make one."""
    group = _new() if available() != NONE else None
    if group is None:
        yield None
        return
    try:
        group.limit(limits)
        yield group
    finally:
        group.end()


@functools.cache
def available() -> str:
    """Return the kinds of a stage's group (see `Group.kinds`), or NONE. Tries once to enter one."""
    group = _new()
    if group is None:
        return NONE
    try:
        entered = subprocess.run(group.entering(["true"]), stderr=subprocess.DEVNULL).returncode
        return group.kinds if entered == 0 and group.kinds else NONE
    finally:
        group.end()


def _new() -> Group | None:
    parent = _parent()
    if parent is None:
        return None
    folder = parent / f"{NAME}-{os.getpid()}-{next(NUMBERS)}"
    try:
        folder.mkdir()
    except OSError:
        return None
    return Group(folder)


@functools.cache
def _parent() -> Path | None:
    """Return the group in which this process makes others; None if the system has no version 2."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        folder = own_folder(mounts, Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    except OSError:
        return None
    if folder is None:
        return None
    if folder.name == NAME:  # of an earlier process of this run, see `enable`
        folder = folder.parent
    with suppress(OSError):
        enable(folder)
    _remove_left(folder)
    return folder


def own_folder(mounts: str, groups: str) -> Path | None:
    """Return the folder of this process's group of version 2; None if there is none.

    Args:
        mounts: the text of /proc/self/mountinfo.
        groups: the text of /proc/self/cgroup.
    """
    own = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        shown, _, system = line.partition(" - ")
        if own is not None and system.startswith("cgroup2 "):
            root, place = shown.split()[3:5]
            if own == root or own.startswith(root.rstrip("/") + "/"):
                return Path(place) / own.removeprefix(root).lstrip("/")
    return None


def enable(folder: Path) -> None:
    """Let the groups in a group have controllers. Raises OSError if this is not allowed.

    Only a group without processes can pass controllers on. If systemd has delegated the group, its
    processes, which are this grader, move to a group of their own below it.
    """
    has = (folder / "cgroup.controllers").read_text(encoding="ascii").split()
    wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in has)
    if not wanted:
        return
    control = folder / "cgroup.subtree_control"
    try:
        control.write_text(wanted, encoding="ascii")
    except OSError:
        if not _is_delegated(folder):
            raise
        (folder / NAME).mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
            (folder / NAME / "cgroup.procs").write_text(pid, encoding="ascii")
        control.write_text(wanted, encoding="ascii")


def _is_delegated(folder: Path) -> bool:
    """Return whether systemd says that the group is not its own to manage."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _remove_left(parent: Path) -> None:
    """Remove the empty groups of graders that were killed."""
    for folder in parent.glob(f"{NAME}-*-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            with suppress(OSError):
                folder.rmdir()
