"""Hostile archives of students, and the sentence that refuses each."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

# Records of a zip: before a member, in the table of contents, after the table (APPNOTE.TXT, 4.3).
LOCAL, ENTRY = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
LARGE, END = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4s4H2LH")
BOMB = 1 << 24  # bytes, from some hundred in a zip
MESSAGES = {  # of each archive, what its message contains
    "zip-bomb": "larger than",
    "bzip2-bomb": "compressed with bzip2",
    "lzma-bomb": "compressed with LZMA",
    "path-in-zip": "path",
    "link-in-zip": "is a link",
    "zip-of-many": "far too many files",
    "zip-of-many-behind-a-comment": "far too many files",
    "overlapping-members": "inconsistent table of contents",
    "false-size": "is damaged",
    "not-a-zip": "not a zip",
    "rar-archive": "is a RAR archive",
    "archive-of-another-kind": "is a 7z archive",
    "folder-with-an-archive-of-another-kind": "is a RAR archive",
}


def _write(file: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _local(name: bytes, size: int) -> bytes:
    """Return the header that stands before the content of a stored member."""
    return LOCAL.pack(b"PK\3\4", 20, *[0] * 5, size, size, len(name), 0) + name


def _entry(name: bytes, size: int) -> bytes:
    """Return the entry of a stored member in the table of contents; it begins at 0."""
    return ENTRY.pack(b"PK\1\2", 20, 20, *[0] * 5, size, size, len(name), *[0] * 6) + name


def _many(count: int) -> bytes:
    """Return a zip of `count` members without content, all in the same place."""
    local, table = _local(b"n.txt", 0), _entry(b"n.txt", 0) * count
    return local + table + END.pack(b"PK\5\6", 0, 0, count, count, len(table), len(local), 0)


def _many_behind_a_comment(count: int) -> bytes:
    """Return a zip of `count` members. A long comment follows, so that the record that tells of
    a large table (Zip64) is not in the last 65 557 bytes."""
    local, table = _local(b"n.txt", 0), _entry(b"n.txt", 0) * count
    at = len(local) + len(table)
    large = LARGE.pack(b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(table), len(local))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    end = END.pack(b"PK\5\6", 0, 0, 1, 1, 100, 0xFFFFFFFF, 65535) + b" " * 65535
    return local + table + large + locator + end


def _overlapping(count: int) -> bytes:
    """Return a zip whose members all have the content of the first."""
    name, content = b"submission.py", bytes(1000)
    begin, table = _local(name, 1000) + content, _entry(name, 1000) * count
    return begin + table + END.pack(b"PK\5\6", 0, 0, count, count, len(table), len(begin), 0)


def write(folder: Path, honest: dict[str, bytes]) -> None:
    """Write the hostile archives. honest: the files of a correct submission, by name."""
    _write(folder / "zip-bomb.zip", {"submission.py": bytes(4 << 20), "VAEwolabel.pth": b"0"})
    for method, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        bomb = {"submission.py": b"", "VAEwolabel.pth": bytes(BOMB)}
        _write(folder / f"{name}-bomb.zip", bomb, method)
    _write(folder / "path-in-zip.zip", {f"../../{name}": honest[name] for name in honest})
    with zipfile.ZipFile(folder / "link-in-zip.zip", "w") as archive:
        link = zipfile.ZipInfo("submission.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("VAEwolabel.pth", honest["VAEwolabel.pth"])
    (folder / "zip-of-many.zip").write_bytes(_many(50_000))
    hidden = _many_behind_a_comment(300_000)
    (folder / "zip-of-many-behind-a-comment.zip").write_bytes(hidden)
    (folder / "overlapping-members.zip").write_bytes(_overlapping(1000))
    false = folder / "false-size.zip"
    _write(false, honest)
    content = bytearray(false.read_bytes())
    struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, 9)  # of the first member
    false.write_bytes(content)
    (folder / "not-a-zip.zip").write_bytes(b"PK\x03\x04 no zip at all")
    (folder / "rar-archive.zip").write_bytes(b"Rar!\x1a\x07\x01\0" + bytes(100))
    (folder / "archive-of-another-kind.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    inside = folder / "folder-with-an-archive-of-another-kind"
    inside.mkdir()
    (inside / "lab.rar").write_bytes(b"Rar!\x1a\x07\x01\0" + bytes(100))
