"""Measure memory, CPU time and number of all processes of a stage while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from staff.cgroup import Group

TICKS = os.sysconf("SC_CLK_TCK")  # per second, of the times in /proc
CPU_FIELDS = slice(
    11, 15
)  # utime, stime, cutime, cstime; numbered after the name in /proc/PID/stat
# Pages in memory, page tables (the page of zeros is in no other count), and pages swapped out.
MEMORY = ("VmRSS:", "VmPTE:", "VmSwap:")


class Watch:
    """Measures memory and CPU time of a process and all its descendants.

    Args:
        pid: of the first process.
        group: the control group that contains all of them, if there is one.

    Attributes:
        memory, peak: bytes at the last measurement, and the largest value so far.
        processes: their number at the last measurement.
        cpu_seconds: of all processes, and of their children that have ended.
        due: time of the next measurement, in seconds since the stage started.
    """

    def __init__(self, pid: int, group: Group | None = None) -> None:
        self.root, self.group = pid, group
        self.due = self.cpu_seconds = 0.0
        self.memory = self.peak = self.processes = 0

    def measure(self) -> None:
        """Measure all processes now.

        The kernel adds the CPU time of a child to its parent's when the parent waits for it; until
        then the child is still listed. So the sum over the tree contains each process once. A child
        that ends between the two readings is missing in one measurement; the largest sum counts.
        """
        processes = memory = ticks = 0
        for pid in tree(self.root):
            with suppress(OSError):  # a process may end at any time
                folder = Path("/proc") / str(pid)
                ticks += _ticks(folder)
                memory += _memory(folder)
                processes += 1
        self.processes, self.memory = processes, memory
        self.peak = max(self.peak, memory)
        counted = self.group.cpu_seconds() if self.group else 0.0
        self.cpu_seconds = max(self.cpu_seconds, ticks / TICKS, counted)


def _ticks(folder: Path) -> int:
    """Return the CPU time of a process and of its children that it has waited for."""
    # The name, in parentheses, may contain spaces and parentheses.
    fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
    return sum(map(int, fields[CPU_FIELDS]))


def _memory(folder: Path) -> int:
    """Return the bytes of memory of a process; 0 after its end."""
    lines = (folder / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(MEMORY))


def tree(root: int) -> Iterator[int]:
    """Yield the ids of a process and of all processes below it, parents first.

    The kernel lists the children of each thread. If it was built without that, psutil looks at
    every process of the machine, which takes ten times as long.
    """
    if not Path(f"/proc/{root}/task/{root}/children").exists():
        with suppress(psutil.Error):
            yield root
            yield from (process.pid for process in psutil.Process(root).children(recursive=True))
        return
    waiting, seen = [root], {root}
    while waiting:
        pid = waiting.pop()
        yield pid
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
                new = set(map(int, children.split())) - seen
                seen |= new
                waiting += new
