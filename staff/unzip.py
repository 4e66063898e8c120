"""Read one zip of a student, in a process with hard limits: the program that `archives.py` starts.

    python -I -S staff/unzip.py ARCHIVE

It first sends each member's name, size and time. Then it reads the numbers of members from its
standard input, one per line, and sends their content. Once the archive is open it can open no other
file, and write to none. It imports only what it needs, and starts in 0.04 s.
"""

from __future__ import annotations

import codecs
import json
import struct
import sys
import zipfile
import zlib  # noqa: F401  imported before no file can be opened
from typing import IO

# What the process may use on Linux, by the names in setrlimit(2).
LIMITS = {"AS": 512 << 20, "CPU": 60, "FSIZE": 0, "NPROC": 0, "CORE": 0}
MAX_MEMBERS = 5000
MAX_CONTENTS_BYTES = 2 << 20  # of the table of contents (the central directory)
END = struct.Struct("<4s4H2LH")  # the last record, after the table: APPNOTE.TXT, 4.3.16
MAX_END_BYTES = (1 << 16) + END.size  # with its comment
ZIP64 = 20  # bytes of the record that, in the larger kind of zip, stands before the last one
HEADER = 30  # bytes of a member's own header, without its name
ENCRYPTED = 1  # bit of a member's flags
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the only ones that Python reads in pieces

OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}

# A message is its kind, the length of its content (4 bytes, big-endian) and the content.
MEMBER, DATA, DONE, ERROR = b"M", b"D", b".", b"E"
CHUNK = 1 << 19  # bytes of content at most


class Refused(Exception):
    """The archive or a member is not read; the message continues a sentence about it."""


def send(kind: bytes, content: bytes = b"") -> None:
    """Write a message to standard output."""
    sys.stdout.buffer.write(kind + len(content).to_bytes(4, "big") + content)
    sys.stdout.buffer.flush()


def limit(**limits: int) -> None:
    """Lower what this process may use. Only on Linux, where submissions are graded."""
    if sys.platform == "linux":
        import resource

        for name, most in limits.items():
            which = getattr(resource, f"RLIMIT_{name}")
            _, hard = resource.getrlimit(which)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(which, (most, most))


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Return an archive whose table of contents is short and consistent. Raises Refused."""
    size = file.seek(0, 2)
    file.seek(max(size - MAX_END_BYTES - ZIP64, 0))
    end = file.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + END.size:
        raise Refused("is not a zip that can be read; create it again")
    _, _, _, _, count, length, _, _ = END.unpack_from(end, at)
    # Zip64 is for more than 65 535 members. Its table of contents may have any length.
    if (
        length > MAX_CONTENTS_BYTES
        or count > MAX_MEMBERS
        or b"PK\6\7" in end[max(at - ZIP64, 0) : at]
    ):
        raise Refused("lists far too many files; zip only what is to be handed in")
    archive = zipfile.ZipFile(file)
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    begins = [member.header_offset for member in members] + [archive.start_dir]
    ends = [0] + [member.header_offset + HEADER + member.compress_size for member in members]
    if len(members) != count or any(end > begin for begin, end in zip(begins, ends)):
        raise Refused("has an inconsistent table of contents; create it again")
    return archive


def send_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Send a member in pieces. Raises Refused, and many errors if the member is damaged."""
    if member.flag_bits & ENCRYPTED:
        raise Refused("is encrypted; create the zip again, without a password")
    if member.compress_type not in METHODS:
        method = OTHER_METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise Refused(
            f"is compressed with {method}; create the zip again, with the usual method (deflate)"
        )
    with archive.open(member) as source:
        while chunk := source.read(CHUNK):
            send(DATA, chunk)


def reason(error: Exception) -> bytes:
    """Return why an archive or member is not read; a damaged zip raises errors of many types."""
    if isinstance(error, Refused):
        return str(error).encode()
    if isinstance(error, MemoryError):
        return b"needs too much memory to be read; create it again"
    words = f"{type(error).__name__}: {error}"[:200]
    return f"is damaged ({words}); create it again".encode(errors="replace")


def serve(path: str) -> None:
    """List the archive, then send what is asked for until the standard input ends."""
    with open(path, "rb") as file:
        archive = open_zip(file)
        members = archive.infolist()
        for member in members:
            mode = member.external_attr >> 16
            known = [member.filename, member.file_size, mode, member.is_dir(), member.date_time]
            send(MEMBER, json.dumps(known).encode())
        send(DONE)
        limit(NOFILE=0)
        for line in sys.stdin.buffer:
            try:
                send_content(archive, members[int(line)])
            except Exception as error:  # the other members may still be whole
                send(ERROR, reason(error))
            else:
                send(DONE)


def main() -> None:
    """Serve one archive; send the reason if it cannot be read."""
    limit(**LIMITS)
    codecs.lookup("cp437")  # of names in a zip; imported before no file can be opened
    try:
        serve(sys.argv[1])
    except Exception as error:
        send(ERROR, reason(error))


if __name__ == "__main__":
    main()
