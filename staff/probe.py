"""Report what a process in the sandbox can reach. Runs there before any submission does.

It runs twice, with the filter of system calls and without it, because the filter would hide that
another wall is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE_NEWUSER = 0x10000000
PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS = 21, 23, 39
F_GETLK, F_SETPIPE_SZ = 5, 1031


def look(order: dict[str, Any]) -> dict[str, Any]:
    """Return the identity and the abilities of this process, for `sandbox.probe` to check.

    order: `secrets` are paths that it must not see, `outside` the identities of the grader's own
    folders for temporary files, `lab` is the folder of the lab's modules, `tmp_bytes` is the size
    that /tmp and /dev/shm should have, and `files` the number of files.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    folders = ("/tmp", "/dev/shm")
    return {
        "uid": os.getuid(),
        "groups": [group for group in os.getgroups() if group != os.getgid()],
        "capabilities": [cap for cap in range(64) if libc.prctl(PR_CAPBSET_READ, cap) == 1],
        "no_new_privileges": libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
        "filtered": libc.prctl(PR_GET_SECCOMP) == 2,
        "process": os.getpid(),
        "proc": sorted(os.listdir("/proc")),
        "devices": sorted(os.listdir("/dev")),
        "host": socket.gethostname(),
        "interfaces": _interfaces(),
        "environment": sorted(os.environ),
        "descriptors": [number for number in range(3, 256) if _is_open(number)],
        "shared": [name for name in folders if _identity(name) in order["outside"].values()],
        "seen": [path for path in order["secrets"] if os.path.lexists(path)],
        "writable": [path for path in ("/", "/usr", "/dev", order["lab"]) if _can_write(path)],
        "calls": _calls(libc),
        "large": [name for name in folders if not _is_full_soon(name, order["tmp_bytes"])],
        "many_files": [name for name in folders if not _has_few_files(name, order["files"])],
    }


def _identity(folder: str) -> list[int]:
    """Return what tells a folder from all others: the number of its device, and its own there."""
    found = os.stat(folder)
    return [found.st_dev, found.st_ino]


def _calls(libc: ctypes.CDLL) -> list[str]:
    """Return which of the calls that a stage must not use work. Each is harmless here."""
    attempts: dict[str, Callable[[], Any]] = {
        "user namespaces": lambda: _checked(libc.unshare(CLONE_NEWUSER)),
        "sockets": socket.socketpair,
        "memfd": lambda: os.memfd_create("probe"),
        "shared memory": lambda: mmap.mmap(-1, mmap.PAGESIZE),  # Python maps it shared
        "inotify": lambda: _checked(libc.inotify_init()),
        "eventfd": lambda: _checked(libc.eventfd(0, 0)),
        "splice": lambda: _pipes(lambda read, write: os.splice(read, write, 1)),
        "larger pipes": lambda: _pipes(lambda _, write: _fcntl(write, F_SETPIPE_SZ, 1 << 20)),
        "file locks": lambda: _fcntl(0, F_GETLK, bytes(32)),
        "other processes' memory": lambda: _checked(libc.process_vm_readv(1, None, 0, None, 0, 0)),
        "pidfd": lambda: os.pidfd_open(os.getpid()),
    }
    return [name for name, attempt in attempts.items() if _works(attempt)]


def _pipes(use: Callable[[int, int], Any]) -> None:
    """Call `use` with the ends of two pipes: one that has a byte to read, one to write to."""
    (read, fill), (drain, write) = os.pipe(), os.pipe()
    try:
        os.write(fill, b"x")
        use(read, write)
    finally:
        for descriptor in (read, fill, drain, write):
            os.close(descriptor)


def _fcntl(descriptor: int, command: int, argument: int | bytes) -> None:
    import fcntl

    fcntl.fcntl(descriptor, command, argument)


def _checked(result: int) -> None:
    """Raise OSError if a call of libc failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), "the call failed")


def _can_write(path: str) -> bool:
    try:
        file = Path(path) / "probe"
        file.write_bytes(b"")
        file.unlink()
    except OSError:
        return False
    return True


def _interfaces() -> list[str]:
    """Return the network interfaces; without sockets, which a stage has not, none can be used."""
    try:
        return sorted(name for _, name in socket.if_nameindex())
    except OSError:
        return []


def _works(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _is_open(descriptor: int) -> bool:
    return _works(lambda: os.fstat(descriptor))


def _is_full_soon(folder: str, size: int) -> bool:
    """Return whether a folder holds no more than about `size` bytes."""
    files = []
    try:
        for number in range(2 * size // mmap.PAGESIZE // 1024 + 2):
            files.append(Path(folder) / f"probe{number}")
            files[-1].write_bytes(bytes(1024 * mmap.PAGESIZE))
    except OSError:
        return True
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    return False


def _has_few_files(folder: str, count: int) -> bool:
    """Return whether a folder has room for no more than `count` files."""
    with contextlib.suppress(OSError):
        # f_files: the most files of the file system; 0 means any number
        return 0 < os.statvfs(folder).f_files <= count
    return False
