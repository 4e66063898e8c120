"""Report what a process in the sandbox can reach. Runs there before any submission does."""

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


def look(order: dict[str, Any]) -> dict[str, Any]:
    """Return the identity and the abilities of this process, for `sandbox.probe` to check.

    order: `secrets` are paths that it must not see, `lab` is the folder of the lab's modules, and
    `tmp_bytes` is the size that /tmp and /dev/shm should have.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "uid": os.getuid(),
        "groups": [group for group in os.getgroups() if group != os.getgid()],
        "capabilities": int(fields["CapEff"], 16) | int(fields["CapBnd"], 16),
        "no_new_privileges": fields["NoNewPrivs"] == "1",
        "filtered": fields.get("Seccomp") == "2",
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "host": socket.gethostname(),
        "interfaces": sorted(_interfaces()),
        "sockets": _works(socket.socketpair),
        "environment": sorted(set(os.environ) | _environments()),
        "seen": [path for path in order["secrets"] if os.path.lexists(path)],
        "writable": [path for path in ("/", "/usr", "/dev", order["lab"]) if _can_write(path)],
        "new_user_namespace": libc.unshare(CLONE_NEWUSER) == 0,
        "hidden_memory": _works(lambda: os.memfd_create("probe"))
        or _works(lambda: mmap.mmap(-1, mmap.PAGESIZE)),  # Python maps it shared
        "small_tmp": _is_full_soon("/tmp", order["tmp_bytes"]),
        "small_shm": _is_full_soon("/dev/shm", order["tmp_bytes"]),
    }


def _environments() -> set[str]:
    """Return the names of variables in the environments of all visible processes."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().split(b"\0")
            found |= {word.split(b"=")[0].decode(errors="replace") for word in words if word}
    return found


def _can_write(path: str) -> bool:
    try:
        file = Path(path) / "probe"
        file.write_bytes(b"")
        file.unlink()
    except OSError:
        return False
    return True


def _interfaces() -> set[str]:
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()[2:]  # without headings
    return {line.split(":")[0].strip() for line in lines}


def _works(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


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
