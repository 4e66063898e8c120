"""The filter of system calls, interpreted call by call."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from staff import seccomp

SHARED, PRIVATE, HUGE, NEW_USER = 0x1, 0x2, 0x40000, 0x10000000
TIOCSTI, F_SETLK, F_SETPIPE_SZ, PAGEOUT, PDEATHSIG = 0x5412, 6, 1031, 21, 1
REFUSE, ALLOW = seccomp.REFUSE, seccomp.ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_its_list_and_nothing_else(machine):
    program, numbers = seccomp.program(machine), seccomp.allowed_on(machine)
    depends = {numbers[name] for name in (*seccomp.ONE_OF, *seccomp.WITHOUT)}
    assert len(set(numbers.values())) == len(numbers)
    for number in set(range(500)) - depends - {seccomp.CLONE3}:
        expected = ALLOW if number in numbers.values() else REFUSE
        assert _interpret(program, machine, number) == expected
    assert _interpret(program, machine, seccomp.CLONE3) == seccomp.MISSING
    for number in (seccomp.X32, seccomp.X32 + 1, 0xFFFFFFFF):
        assert _interpret(program, machine, number) == seccomp.KILL
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[machine]
    assert _interpret(program, other, 1) == seccomp.KILL
    assert seccomp.program("riscv64") == b""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("mmap", (0, 0, 0, 0x20 | PRIVATE), ALLOW),
        ("mmap", (0, 0, 0, 0x20 | SHARED), REFUSE),
        ("mmap", (0, 0, 0, SHARED | PRIVATE), REFUSE),
        ("mmap", (0, 0, 0, PRIVATE | HUGE), REFUSE),
        ("clone", (0x3D0F00,), ALLOW),  # a thread
        ("clone", (17,), ALLOW),  # a process
        ("clone", (17 | NEW_USER,), REFUSE),
        ("ioctl", (1, 0x5401), ALLOW),
        ("ioctl", (1, TIOCSTI), REFUSE),
        ("ioctl", (1, 1 << 32 | TIOCSTI), REFUSE),  # the kernel ignores the high half
        ("fcntl", (1, 1030), ALLOW),
        ("fcntl", (1, F_SETLK), REFUSE),
        ("fcntl", (1, F_SETPIPE_SZ), REFUSE),
        ("madvise", (0, 0, 4), ALLOW),
        ("madvise", (0, 0, PAGEOUT), REFUSE),
        ("prctl", (15,), ALLOW),
        ("prctl", (PDEATHSIG,), REFUSE),
        ("rt_sigaction", (2, 1 << 40), ALLOW),
        ("rt_sigaction", (17, 0), ALLOW),
        ("rt_sigaction", (17, 1), REFUSE),
        ("rt_sigaction", (17, 1 << 40), REFUSE),
    ],
)
def test_the_filter_looks_at_arguments(machine, name, arguments, expected):
    number = seccomp.allowed_on(machine)[name]
    assert _interpret(seccomp.program(machine), machine, number, *arguments) == expected


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_of_the_filter_are_those_of_linux(machine):
    if not HEADERS[machine].exists():
        pytest.skip("linux-libc-dev is not installed")
    text = HEADERS[machine].read_text(encoding="utf-8")
    pairs = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)
    linux = {name: int(number) for name, number in pairs} | {"clone3": seccomp.CLONE3}
    linux.setdefault("newfstatat", linux.get("fstatat", 0))
    for name, number in seccomp.allowed_on(machine).items():
        assert linux[name] == number, name


def _interpret(program: bytes, machine: str, number: int, *arguments: int) -> int:
    """Run a classic BPF program as the kernel does; return its verdict."""
    steps = list(struct.iter_unpack("HBBI", program))
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, seccomp.ARCHITECTURES[machine], 0, *padded)
    place = value = 0
    while True:
        code, if_true, if_false, k = steps[place]
        if code == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, k)
            place += 1
        elif code == seccomp.RETURN:
            return k
        else:
            holds = {
                seccomp.JUMP_EQUAL: value == k,
                seccomp.JUMP_AT_LEAST: value >= k,
                seccomp.JUMP_SET: bool(value & k),
            }[code]
            place += 1 + (if_true if holds else if_false)
