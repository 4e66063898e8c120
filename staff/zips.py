"""Reproducible zip archives: the same files give the same bytes."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping

EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold
UNIX = 3  # stated as the system of origin, so that unzip reads the permissions


def is_program(content: bytes) -> bool:
    """Return whether a file is an executable script: it begins with `#!`."""
    return content.startswith(b"#!")


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of the files, by name: the same bytes for the same files (and zlib).

    Programs (`is_program`) get the permissions 755 and all other files 644.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(files.items()):
            member = zipfile.ZipInfo(name, EARLIEST)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = UNIX
            mode = 0o755 if is_program(content) else 0o644
            member.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(member, content)
    return buffer.getvalue()
