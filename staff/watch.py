"""Measure memory, CPU time and number of all processes of a stage while it runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil


class Watch:
    """Measures memory and CPU time of a process and all its descendants.

    Attributes:
        memory, peak: resident bytes at the last measurement, and the largest value so far.
        processes: their number at the last measurement.
        due: time of the next measurement, in seconds since the stage started.
    """

    def __init__(self, pid: int) -> None:
        self.root = psutil.Process(pid)
        self.seen = {pid: self.root}
        self.due = 0.0
        self.memory = self.peak = self.processes = 0
        self.cpu: dict[int, float] = {}

    def measure(self) -> None:
        """Measure all processes now."""
        self.memory = 0
        with suppress(psutil.Error):
            tree = [self.root.pid, *_descendants(self.root)]
            self.processes = len(tree)
            for pid in tree:
                with suppress(psutil.Error):
                    if pid not in self.seen:
                        self.seen[pid] = psutil.Process(pid)
                    process = self.seen[pid]
                    self.memory += process.memory_info().rss
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
        self.peak = max(self.peak, self.memory)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds that all processes seen so far have used."""
        return sum(self.cpu.values())


def _descendants(root: psutil.Process) -> list[int]:
    """Return the ids of all processes below one.

    The kernel lists the children of each thread. If it was built without that, psutil looks at
    every process of the machine, which takes ten times as long.
    """
    if not Path(f"/proc/{root.pid}/task/{root.pid}/children").exists():
        return [process.pid for process in root.children(recursive=True)]
    found: list[int] = []
    waiting = [root.pid]
    while waiting:
        tasks = Path(f"/proc/{waiting.pop()}/task")
        with suppress(OSError):  # a process may end at any time
            for task in os.listdir(tasks):
                children = (tasks / task / "children").read_text().split()
                found += map(int, children)
                waiting += map(int, children)
    return found
