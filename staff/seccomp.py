"""A filter of system calls: what a submission has no use for, and a sandbox no count of.

Memory that belongs to no process (shared mappings, memfd, System V, sockets' buffers) would escape
the watch over the process tree; sockets reach beyond a network namespace (a virtual machine's host,
say); the page cache tells what another process has read; the rest is where kernels have had their
holes. Each of these fails with EPERM. The program is classic BPF, as seccomp(2) takes it and
`bwrap --seccomp` reads it.
"""

from __future__ import annotations

import platform
import struct

# Numbers of system calls: of x86_64, and of aarch64 (0 where it has none); from Linux's tables.
REFUSED = {
    # memory that no process is charged for
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "socket": (41, 198),
    "socketpair": (53, 199),
    # what is in the page cache
    "mincore": (27, 232),
    "fadvise64": (221, 223),
    "preadv2": (327, 286),
    "cachestat": (451, 451),
    # other processes, other namespaces, holes
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
MAP_SHARED = 1  # this bit is in MAP_SHARED_VALIDATE too, and not in MAP_PRIVATE
X32 = 0x40000000  # the second table of x86_64: the same calls by other numbers

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # REFUSE is EPERM
NUMBER, ARCHITECTURE, FLAGS = 0, 4, 16 + 3 * 8  # offsets in struct seccomp_data; mmap's 4th


def refused_on(machine: str) -> list[int]:
    """Return the numbers that are refused on a machine."""
    return sorted(numbers[MACHINES.index(machine)] for numbers in REFUSED.values())


def program(machine: str = "") -> bytes:
    """Return the filter for a machine, this one by default; empty where its numbers are unknown."""
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return b""
    numbers = refused_on(machine)
    # Each jump says how many steps it leaps over if it holds: here to REFUSE, the last one.
    body = [(JUMP_AT_LEAST, len(numbers) + 4, 0, X32)]
    body += [(JUMP_EQUAL, len(numbers) + 3 - place, 0, n) for place, n in enumerate(numbers)]
    steps = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        *body,
        (JUMP_EQUAL, 0, 2, MMAP[machine]),  # another call: to ALLOW
        (LOAD, 0, 0, FLAGS),
        (JUMP_SET, 1, 0, MAP_SHARED),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
