"""Archives of students: a zip is read by a process with hard limits, and others are named.

A few kilobytes of a hostile zip can ask a reader for gigabytes of memory. So this process reads
only the first bytes of an archive. `unzip.py` reads the rest, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from staff import unzip
from staff.text import as_line, name_as_text

SECONDS = 3 * unzip.LIMITS["CPU"]  # by the clock, because the machine may be busy
MAX_BYTES = 1 << 30
OTHERS = {  # archives that are not read: their first bytes
    "RAR": b"Rar!\x1a\x07",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "gzip": b"\x1f\x8b",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\0",
    "Zstandard": b"\x28\xb5\x2f\xfd",
}
SUFFIXES = {
    ".rar": "RAR",
    ".7z": "7z",
    ".tar": "tar",
    ".gz": "gzip",
    ".tgz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "Zstandard",
}


class ArchiveError(ValueError):
    """An archive cannot be read; the message tells the student what was expected."""


@dataclass(frozen=True)
class Member:
    """A member of an archive, as the archive states it.

    Attributes:
        number: its place in the archive.
        name: as in the archive; not safe as a path.
        size: in bytes; not to be trusted.
        mode: Unix file type and permissions; 0 if unknown.
        is_folder: whether it is a folder.
        changed: year, month, day, hour, minute, second; not to be trusted.
    """

    number: int
    name: str
    size: int
    mode: int
    is_folder: bool
    changed: tuple[int, ...]


def is_archive(name: str) -> bool:
    """Return whether a file is an archive of any kind, by its name."""
    return is_zip(name) or other_kind(name) != ""


def is_zip(name: str) -> bool:
    """Return whether a file is a zip, by its name."""
    return name.lower().endswith(".zip")


def other_kind(name: str) -> str:
    """Return the kind of an archive that is not read, by its name; "" if there is none."""
    return SUFFIXES.get(Path(name).suffix.lower(), "")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip for reading until the block ends. Raises ArchiveError."""
    name = name_as_text(path.name)
    if not path.is_file():
        raise ArchiveError(f"{name} is not a file; expected a zip.")
    if path.stat().st_size > MAX_BYTES:
        raise ArchiveError(f"{name} is larger than {MAX_BYTES:,} bytes.")
    with path.open("rb") as file:
        begin = file.read(16)
    kinds = [kind for kind, magic in OTHERS.items() if begin.startswith(magic)]
    if kind := next(iter(kinds), other_kind(path.name)):
        raise ArchiveError(
            f"{name} is a {kind} archive, which is not read; put the same files into a zip "
            "(select them, then Compress or Send to: Compressed folder)."
        )
    words = [sys.executable, "-I", "-S", unzip.__file__, str(path.absolute())]
    # A session of its own: Ctrl-C of the terminal does not reach it. Windows needs SYSTEMROOT.
    environment = {key: os.environ[key] for key in ("SYSTEMROOT",) if key in os.environ}
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    ) as process:
        timer = threading.Timer(SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield Archive(name, process)
        finally:
            timer.cancel()
            process.kill()


class Archive:
    """A zip that another process reads.

    Args:
        name: of the archive, for messages.
        process: runs unzip.py.

    Raises ArchiveError if the archive cannot be read or has too many members.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.name, self.requests, self.answers = name, process.stdin, process.stdout
        self.members: list[Member] = []
        for content in self._answers(name, unzip.MEMBER):
            try:
                path, size, mode, is_folder, changed = json.loads(content)
            except (TypeError, ValueError):
                raise self._ended(name) from None
            number = len(self.members)
            if number >= unzip.MAX_MEMBERS:
                raise ArchiveError(f"{name} has more than {unzip.MAX_MEMBERS} files.")
            when = tuple(map(int, changed))
            known = str(path), int(size), int(mode), bool(is_folder), when
            self.members.append(Member(number, *known))

    def content(self, member: Member) -> Iterator[bytes]:
        """Yield the content of a member in pieces. Raises ArchiveError."""
        name = as_line(member.name)
        try:
            os.write(self.requests.fileno(), f"{member.number}\n".encode())
        except OSError:  # the process has ended
            raise self._ended(name) from None
        yield from self._answers(name, unzip.DATA)

    def _answers(self, about: str, expected: bytes) -> Iterator[bytes]:
        """Yield the contents of messages of a kind until all are there. Raises ArchiveError."""
        while True:
            head = self.answers.read(5)
            kind, length = head[:1], int.from_bytes(head[1:], "big")
            content = self.answers.read(min(length, unzip.CHUNK))
            if len(head) < 5 or len(content) != length:
                raise self._ended(about)
            if kind == unzip.ERROR:
                raise ArchiveError(f"{about} {as_line(content.decode(errors='replace'))}.")
            if kind == unzip.DONE:
                return
            if kind != expected:
                raise self._ended(about)
            yield content

    def _ended(self, about: str) -> ArchiveError:
        return ArchiveError(
            f"{about} could not be read within {unzip.LIMITS['CPU']} s and "
            f"{unzip.LIMITS['AS'] >> 20} MiB of memory; create the zip again."
        )
