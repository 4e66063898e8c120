"""A filter of system calls that a submission does not need and the sandbox cannot control.

Memory that belongs to no process (shared mappings, memfd, System V, socket buffers) would not be
counted in the process tree. Some sockets reach beyond a network namespace, for example to the host
of a virtual machine. The page cache shows what another process has read. The other calls are those
where kernels have had vulnerabilities. Each of these calls fails with EPERM. The program is classic
BPF, as seccomp(2) defines it and `bwrap --seccomp` reads it.
"""

from __future__ import annotations

import platform
import struct

# Numbers of the system calls on x86_64 and on aarch64, from the tables of Linux.
REFUSED = {
    # memory that is counted for no process
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "socket": (41, 198),
    "socketpair": (53, 199),
    # the page cache
    "mincore": (27, 232),
    "fadvise64": (221, 223),
    "preadv2": (327, 286),
    "cachestat": (451, 451),
    # other processes, other namespaces, frequent vulnerabilities
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "unshare": (272, 97),
    "setns": (308, 268),
    "personality": (135, 92),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
MACHINES = ("x86_64", "aarch64")
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
MMAP = {"x86_64": 9, "aarch64": 222}
MAP_SHARED = 1  # MAP_SHARED_VALIDATE has this bit too; MAP_PRIVATE has not
X32 = 0x40000000  # added to the numbers of the second table of x86_64

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # REFUSE is EPERM
NUMBER, ARCHITECTURE, FLAGS = 0, 4, 16 + 3 * 8  # offsets in struct seccomp_data; mmap's 4th


def refused_on(machine: str) -> list[int]:
    """Return the numbers of the refused calls on a machine, "x86_64" or "aarch64"."""
    return sorted(numbers[MACHINES.index(machine)] for numbers in REFUSED.values())


def program(machine: str = "") -> bytes:
    """Return the filter for a machine, by default this one; empty if its numbers are unknown."""
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return b""
    numbers = refused_on(machine)
    # A jump gives the number of steps to skip if its condition holds; here REFUSE, the last step.
    body = [(JUMP_AT_LEAST, len(numbers) + 4, 0, X32)]
    body += [(JUMP_EQUAL, len(numbers) + 3 - i, 0, number) for i, number in enumerate(numbers)]
    steps = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        *body,
        (JUMP_EQUAL, 0, 2, MMAP[machine]),  # any other call: skip to ALLOW
        (LOAD, 0, 0, FLAGS),
        (JUMP_SET, 1, 0, MAP_SHARED),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
