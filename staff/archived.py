"""The archive of a class: what is in it, how it is written and read.

archive.json states how the class was graded, and for each student the hashes of the files and the
points. Beside it are the splits and the secret, with which a grade can be computed again, and,
unless only fingerprints were wanted, the submissions, results and tables.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.checkpoint import write_whole
from staff.pages import status_for_student
from staff.statuses import TASKS

FORMAT = 1
INDEX, SECRET = "archive.json", "secret"
MAX_INDEX_BYTES = 64 << 20
MAX_FILE_BYTES = 1 << 30
SCORES = ("score", "raw", "ssim", "mse", "fid", "latent_dim")


class ArchivedError(ValueError):
    """An archive cannot be made or used; the message says what was expected."""


@dataclass(frozen=True)
class Member:
    """A file of the archive.

    Attributes:
        name: in the archive.
        source: its content, or where it is.
    """

    name: str
    source: bytes | Path

    def content(self) -> bytes:
        """Return the bytes. Raises OSError."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


def grade_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a student's grade, of a result with the sums of the grade book.

    Has status, tasks (scores by task), parts (points and whether a person gave them, by number),
    late, override, and total. It holds no text of the student.
    """
    return {
        "status": status_for_student(result["status"]),
        "tasks": {
            task: {name: one.get(name) for name in SCORES}
            for task in TASKS
            if (one := result["tasks"].get(task, {})).get("raw") is not None
        },
        "parts": {
            part["number"]: {"points": part["points"], "marked": part["marked"]}
            for part in result["parts"]
        },
        "late": result["sums"]["late"],
        "override": result["sums"]["override"],
        "total": result["total"],
    }


def split_members(name: str, folder: Path) -> list[Member]:
    """Return the files of a split's folder as members. Raises ArchivedError."""
    files = sorted(folder.glob("*ubyte*"))
    if not files:
        raise ArchivedError(f"{folder}, the split {name}, holds no images; expected IDX files.")
    return [Member(f"splits/{name}/{file.name}", file) for file in files]


def write_archive(file: Path, index: Mapping[str, Any], members: Iterable[Member]) -> None:
    """Write an archive whole or not at all. Raises OSError.

    index: what archive.json holds; the hashes of the members are added.
    """
    hashes: dict[str, str] = {}
    with write_whole(file) as opened, zipfile.ZipFile(opened, "w") as archive:
        for member in members:
            content = member.content()
            hashes[member.name] = sha256_of(content)
            packed = member.name.endswith((".pth", ".gz"))  # deflate would gain nothing
            method = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(member.name, content, method)
        complete = {"format": FORMAT, **index, "files": hashes}
        text = json.dumps(complete, indent=1, ensure_ascii=False)
        archive.writestr(INDEX, text, zipfile.ZIP_DEFLATED)


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


class Archived:
    """An archive that is open for reading. Raises ArchivedError if it is none, or damaged.

    Attributes:
        index: what archive.json holds.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file)
            self.index: dict[str, Any] = json.loads(self._read(INDEX, MAX_INDEX_BYTES))
            version = self.index["format"]
        except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            reason = error.strerror if isinstance(error, OSError) else "there is no archive.json"
            raise ArchivedError(
                f"{file} is no archive of a class ({reason}); expected what staff.archive wrote."
            ) from None
        if version != FORMAT:
            raise ArchivedError(f"{file} has the format {version}; this version reads {FORMAT}.")

    def _read(self, name: str, most: int) -> bytes:
        with self._zip.open(name) as opened:
            content = opened.read(most + 1)
        if len(content) > most:
            raise ArchivedError(f"{name} of {self.file} is larger than {most:,} bytes.")
        return content

    def content(self, name: str) -> bytes:
        """Return a file, once its hash has been compared. Raises ArchivedError."""
        try:
            content = self._read(name, MAX_FILE_BYTES)
        except (KeyError, OSError, zipfile.BadZipFile):
            raise ArchivedError(f"{name} is missing or damaged in {self.file}.") from None
        if sha256_of(content) != self.index["files"].get(name):
            raise ArchivedError(f"{name} of {self.file} has changed since the archive was made.")
        return content

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files that are directly in a folder, such as "splits/test/"."""
        names = (name for name in self.index["files"] if name.startswith(folder))
        return [name for name in names if "/" not in name.removeprefix(folder)]

    def unpack(self, folder: str, into: Path) -> Path:
        """Write the files of a folder into another and return it. Raises ArchivedError, OSError."""
        into.mkdir(parents=True)
        for name in self.names_in(folder):
            (into / Path(name).name).write_bytes(self.content(name))
        return into
