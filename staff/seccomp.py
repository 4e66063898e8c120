"""The system calls that a stage may use; the kernel refuses all others.

The list holds what Python, numpy and torch need, and other calls of plain programs that touch only
a process, its children and its files. The filter therefore refuses what the sandbox cannot measure
or control: sockets, shared mappings and other memory that is counted for no process (memfd,
vmsplice, inotify, System V), the page cache, other processes (ptrace, pidfd), new namespaces, and
interfaces where kernels have often had vulnerabilities (io_uring, bpf, keyctl, userfaultfd).

A refused call fails with EPERM. `python -m benchmarks.system_calls` traces the stages and prints
calls that are missing here. The program is classic BPF, as seccomp(2) defines it and
`bwrap --seccomp` reads it.
"""

from __future__ import annotations

import platform
import struct

MACHINES = ("x86_64", "aarch64")
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
# Numbers on x86_64 and on aarch64, from the tables of Linux. None: the machine has no such call.
ALLOWED: dict[str, tuple[int, int | None]] = {
    # memory
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    # files
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "lseek": (8, 62),
    "open": (2, None),
    "openat": (257, 56),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "stat": (4, None),
    "lstat": (6, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "getdents64": (217, 61),
    "umask": (95, 166),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "utimensat": (280, 88),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "flistxattr": (196, 13),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    # processes and threads
    "execve": (59, 221),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "futex": (202, 98),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "arch_prctl": (158, None),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "getrusage": (98, 165),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getpgid": (121, 155),
    "getpgrp": (111, None),
    "setpgid": (109, 154),
    "getsid": (124, 156),
    "setsid": (112, 157),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sched_setaffinity": (203, 122),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "getpriority": (140, 141),
    "getcpu": (309, 168),
    "capget": (125, 90),
    # signals
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "pause": (34, None),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    # time, randomness and the system
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrandom": (318, 278),
    "uname": (63, 160),
    "sysinfo": (99, 179),
}
CLONE3 = 435  # on every machine

# What follows is allowed only with some arguments: the number of the argument, and its values.
ONE_OF = {
    # Not: file locks, leases and the size of a pipe, whose memory is counted for no process.
    "fcntl": (1, (0, 1, 2, 3, 4, 1030)),  # F_DUPFD, F_{GET,SET}FD, F_{GET,SET}FL, F_DUPFD_CLOEXEC
    # Not: TIOCSTI, which types into a terminal.
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # TCGETS ... FIONCLEX, FIOCLEX
    # Not: MADV_COLD and MADV_PAGEOUT, which move memory out of sight.
    "madvise": (2, (0, 1, 2, 3, 4, 8, 14, 15)),  # MADV_NORMAL ... MADV_FREE, MADV_(NO)HUGEPAGE
    # Names of threads, and what the probe asks.
    "prctl": (0, (15, 16, 21, 23, 39)),
}
# Bits that an argument must not have.
WITHOUT = {
    # MAP_SHARED, MAP_HUGETLB; MAP_SHARED_VALIDATE has the first bit too, MAP_PRIVATE has not.
    "mmap": (3, 0x1 | 0x40000),
    # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
    "clone": (0, 0x7E020000),
}
SIGCHLD = 17

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, REFUSE, MISSING, ALLOW = 0x80000000, 0x00050001, 0x00050026, 0x7FFF0000  # EPERM, ENOSYS
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
X32 = 0x40000000  # added to the numbers of the second table of x86_64

Step = tuple[int, int, int, int]  # code, steps to skip if true, steps to skip if false, value


def allowed_on(machine: str) -> dict[str, int]:
    """Return the numbers of the allowed calls on a machine, "x86_64" or "aarch64", by name."""
    place = MACHINES.index(machine)
    numbers = {name: pair[place] for name, pair in ALLOWED.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def program(machine: str = "") -> bytes:
    """Return the filter for a machine, by default this one; empty if its numbers are unknown."""
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return b""
    steps: list[Step] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (JUMP_AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
    ]
    for name, number in allowed_on(machine).items():
        verdict = _verdict(name)
        steps += [(JUMP_EQUAL, 0, len(verdict), number), *verdict]
    # The filter cannot read clone3's flags. glibc falls back to clone where it is missing.
    steps += [(JUMP_EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, MISSING), (RETURN, 0, 0, REFUSE)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _verdict(name: str) -> list[Step]:
    """Return the steps that decide on an allowed call, from its arguments where they matter."""
    refuse, allow = (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)
    if name in ONE_OF:
        argument, values = ONE_OF[name]
        tests = [(JUMP_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
        return [(LOAD, 0, 0, _low(argument)), *tests, refuse, allow]
    if name in WITHOUT:
        argument, bits = WITHOUT[name]
        return [(LOAD, 0, 0, _low(argument)), (JUMP_SET, 0, 1, bits), refuse, allow]
    if name == "rt_sigaction":
        # May ask for SIGCHLD's action, but not set it: the CPU time of children that their parent
        # ignores is lost. The pointer to the new action must be null, in both halves.
        return [
            (LOAD, 0, 0, _low(0)),
            (JUMP_EQUAL, 0, 5, SIGCHLD),
            (LOAD, 0, 0, _low(1)),
            (JUMP_EQUAL, 0, 2, 0),
            (LOAD, 0, 0, _low(1) + 4),
            (JUMP_EQUAL, 1, 0, 0),
            refuse,
            allow,
        ]
    return [allow]


def _low(argument: int) -> int:
    """Return the offset of the low half of an argument, on a little-endian machine."""
    return 16 + 8 * argument
