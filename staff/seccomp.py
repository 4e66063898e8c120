"""A filter of system calls: what a submission has no use for, and a sandbox no count of.

Memory that belongs to no process (memfd, System V segments) would escape the watch over the
process tree; the others are where kernels have had their holes. Each then fails with EPERM.
The program is classic BPF, as seccomp(2) takes it and `bwrap --seccomp` reads it.
"""

from __future__ import annotations

import platform
import struct

# Numbers of system calls; from Linux's tables for each machine.
REFUSED = {
    "x86_64": {
        "shmget": 29,
        "ptrace": 101,
        "personality": 135,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "unshare": 272,
        "perf_event_open": 298,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "memfd_create": 319,
        "bpf": 321,
        "userfaultfd": 323,
        "io_uring_setup": 425,
        "memfd_secret": 447,
    },
    "aarch64": {
        "unshare": 97,
        "personality": 92,
        "ptrace": 117,
        "shmget": 194,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "perf_event_open": 241,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "memfd_create": 279,
        "bpf": 280,
        "userfaultfd": 282,
        "io_uring_setup": 425,
        "memfd_secret": 447,
    },
}
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
X32 = 0x40000000  # the second table of x86_64: the same calls by other numbers

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # REFUSE is EPERM
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data


def program(machine: str = "") -> bytes:
    """Return the filter for a machine, this one by default; empty where its numbers are unknown."""
    machine = machine or platform.machine()
    if machine not in REFUSED:
        return b""
    numbers = sorted(REFUSED[machine].values())
    # Each jumps over what is left of the list, and over ALLOW, to REFUSE.
    body = [(JUMP_AT_LEAST, len(numbers) + 1, 0, X32)]
    body += [(JUMP_EQUAL, len(numbers) - place, 0, n) for place, n in enumerate(numbers)]
    steps = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        *body,
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
