"""The isolation of a stage: the bubblewrap command that runs it, and its limits.

The stage has its own Linux namespaces. It has no network and sees no other process. It sees only
Python, the lab's modules that it runs and its inputs, all read-only, and a small /tmp that is
deleted when it ends. If staff grade as root, the stage first becomes an unprivileged user.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import ROOT
from staff.closure import closure

STAFF = Path(__file__).resolve().parent
NOBODY = 65534
INPUTS, SCRATCH = "/inputs", "/scratch"
DEVICES = ("null", "zero", "full", "random", "urandom")  # no terminal
# What sh runs: $0 is mount, $1 its options, the rest a command.
MOUNT_SCRATCH = '''for name in tmp shm; do
    "$0" -t tmpfs -o "$1" scratch "/scratch/$name" || exit
done
shift
exec "$@"'''
MIB = 1024**2
# Bytes of address space of a process: more than torch reserves. It bounds the page tables too.
ADDRESSES = 64 * 1024 * MIB
OLDEST = (0, 8)  # version of bubblewrap that has --disable-userns
INSTALL = "install Debian's bubblewrap (apt-get install bubblewrap)"


class SandboxError(RuntimeError):
    """The sandbox itself does not work; the message says what to do. No submission causes it."""


@dataclass(frozen=True)
class Limits:
    """What one stage may use.

    Attributes:
        cpu_seconds: CPU time of all processes of the stage together.
        seconds: wall-clock time; longer, because other work on the machine slows the stage down.
        memory_bytes: resident memory of all processes of the stage together.
        tmp_bytes: size of /tmp, and of /dev/shm.
        files: number of files in /tmp, and in /dev/shm; each takes memory of the kernel.
        file_bytes: size of one file.
        processes: number of processes at one time.
        tasks: number of processes and threads at one time; the kernel enforces it.
        result_bytes: size of what it returns.
        output_bytes: size of what it prints in addition to the beginning, which is kept.
        threads: number of threads that torch uses.
    """

    cpu_seconds: int = 120
    seconds: float = 360
    memory_bytes: int = 4096 * MIB
    tmp_bytes: int = 64 * MIB
    files: int = 4096
    file_bytes: int = 64 * MIB
    processes: int = 16
    tasks: int = 96
    result_bytes: int = 64 * MIB
    output_bytes: int = 16 * MIB
    threads: int = 1

    def for_kernel(self) -> dict[str, int]:
        """Return the limits that the kernel enforces, by their names in setrlimit(2)."""
        return {
            "CPU": self.cpu_seconds + 1,
            "AS": ADDRESSES,
            "FSIZE": self.file_bytes,
            "NPROC": self.tasks,
            "NOFILE": 256,
            "CORE": 0,
        }


def command_line(inputs: Mapping[str, int], order: dict[str, Any], limits: Limits) -> list[str]:
    """Return the command that runs a stage.

    Args:
        inputs: descriptors of files that the stage sees, by the path there. Their content is
            copied, so that no file is shared with another stage and no permission is in the way.
        order: what staff/stage.py reads as its argument.
        limits: what the stage may use.

    Raises SandboxError where a program is missing.

    Two bubblewraps run, one in the other. When the first process of the outer process namespace
    ends, which it does with the grader, the kernel ends all others.
    """
    sources = _python_files()
    walls = [
        *(program("bwrap"), "--unshare-all", "--unshare-user", "--disable-userns"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        # The stage itself is process 1. With it end all others, and it can reach no bubblewrap.
        "--as-pid-1",
        *("--setenv", "PATH", "/usr/bin", "--setenv", "HOME", "/tmp"),
        *("--setenv", "OMP_NUM_THREADS", str(limits.threads)),
        *("--setenv", "PYTHONDONTWRITEBYTECODE", "1"),
        *_system_folders(),
        # No /proc: it would show memory, descriptors, mounts and the page cache of a process.
        # Libraries choose their code for the processor by this file.
        *("--ro-bind", "/proc/cpuinfo", "/proc/cpuinfo"),
        *(word for name in DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")),
        *("--bind", f"{SCRATCH}/tmp", "/tmp", "--bind", f"{SCRATCH}/shm", "/dev/shm"),
    ]
    # After /tmp, because sources may be below it.
    for number, target in enumerate(sources):
        walls += ["--ro-bind", f"/sources/{number}", target]
    for target, descriptor in inputs.items():
        walls += ["--perms", "0444", "--file", str(descriptor), target]
    walls += ["--chdir", "/tmp", "--remount-ro", "/"]
    if "filter" in order:
        walls += ["--seccomp", str(order["filter"])]
    stage = [sys.executable, "-I", "/lab/staff/stage.py", json.dumps(order)]
    return [*_outside(list(sources.values()), limits), *walls, "--", *stage]


def _outside(sources: list[Path], limits: Limits) -> list[str]:
    """Return the command of the outer bubblewrap; it runs the words that follow it.

    It mounts the sources, because the names that the stage's own bubblewrap sees are neutral, and
    because sources may be below folders that only root can enter, such as a Python that pyenv
    installed for root. It mounts the stage's /tmp and /dev/shm itself, because bubblewrap cannot
    bound the number of their files. Then root becomes user NOBODY and capabilities are dropped.
    """
    as_root = os.geteuid() == 0
    shown = [
        word
        for number, path in enumerate(sources)
        for word in ("--ro-bind", str(path), f"/sources/{number}")
    ]
    if as_root:
        user, needed = [], ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_SETUID", "CAP_SETGID"]
        becomes = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        becomes += ["--bounding-set=-all"]
    else:  # mount(8) works for user 0 only, and only with CAP_SETFCAP can user 0 become another
        user, needed = ["--unshare-user", "--uid", "0", "--gid", "0"], ["CAP_SYS_ADMIN"]
        needed += ["CAP_SETPCAP", "CAP_SETFCAP"]
        becomes = ["--bounding-set=-all,+setfcap"]
    scratch = f"size={limits.tmp_bytes},nr_inodes={limits.files},mode=0777"
    return [
        *(program("bwrap"), "--die-with-parent", "--unshare-net", "--unshare-pid", *user),
        *_system_folders(programs=True),
        *("--ro-bind", program("bwrap"), program("bwrap")),
        *("--bind", "/proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
        *("--dir", f"{SCRATCH}/tmp", "--dir", f"{SCRATCH}/shm"),
        *("--perms", "0755", "--dir", "/sources", *shown),
        *(word for name in needed for word in ("--cap-add", name)),
        *("--", program("sh"), "-c", MOUNT_SCRATCH, program("mount"), scratch),
        *(program("setpriv"), *becomes, "--inh-caps=-all", "--"),
    ]


def _system_folders(programs: bool = False) -> list[str]:
    """Return the mounts of the system's shared libraries, and with `programs` of its commands."""
    words = ["--perms", "0755", "--dir", "/usr"]
    wanted = ["lib", "lib64", "lib32", "libx32", *(["bin", "sbin"] if programs else [])]
    for name in wanted:
        inside, outside = Path("/usr") / name, Path("/") / name
        if inside.is_dir():
            words += ["--ro-bind", str(inside), str(inside)]
        if outside.is_symlink():
            words += ["--symlink", os.readlink(outside), str(outside)]
        elif outside.is_dir():
            words += ["--ro-bind", str(outside), str(outside)]
    return words


def _python_files() -> dict[str, Path]:
    """Return the mounts that Python needs: its installation and the virtual environment."""
    base, environment = Path(sys.base_prefix), Path(sys.prefix)
    if base == Path("/usr"):  # the system's Python; /usr/lib is mounted already
        found = {str(path): path.resolve() for path in Path("/usr/bin").glob("python3*")}
    else:
        found = {str(base): base.resolve()}
    if environment != base:
        found[str(environment)] = environment.resolve()
    return found


def program(name: str) -> str:
    """Return the path of a program that the sandbox needs. Raises SandboxError if it is missing."""
    found = shutil.which(name)
    if found is None:
        raise SandboxError(f"{name} is missing, but isolation needs it; {INSTALL}.")
    return found


@functools.cache
def lab_files(stage: str = "") -> dict[str, Path]:
    """Return the lab's own files that are mounted, by their path inside the sandbox.

    They are the closure of the programs that run there. No grader or data is in it, and the trainer
    only for the stage "replay".
    """
    more = [f"{stage}_stage.py"] if stage in ("replay", "measure") else []
    programs = ["stage.py", "probe.py", *more]
    files = closure([STAFF / name for name in programs])
    return {f"/lab/{file.relative_to(ROOT).as_posix()}": file for file in files}


def expect_new_enough() -> None:
    """Raise SandboxError if a program that the sandbox needs is missing or too old."""
    output = subprocess.run([program("bwrap"), "--version"], capture_output=True, text=True).stdout
    version = tuple(int(part) for part in re.findall(r"\d+", output)[:2])
    if version < OLDEST:
        found = output.strip() or "of an unknown version"
        raise SandboxError(f"bubblewrap is {found}; expected 0.8 or newer.")
    for name in ("sh", "mount", "setpriv"):
        program(name)
