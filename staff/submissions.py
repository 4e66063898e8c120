"""Read what students handed in: a folder of folders and zips from Moodle, Canvas or Gradescope.

Nothing in it is trusted. Only regular files with the expected names are copied, each up to a
maximum size. An archive is read member by member and never unpacked.
"""

from __future__ import annotations

import functools
import io
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from staff.statuses import TASKS

CODE = "submission.py"
MAX_CODE_BYTES = 1 << 20
MAX_CHECKPOINT_BYTES = 256 << 20
MAX_ARCHIVE_BYTES = 1 << 30
MAX_CONTENTS_BYTES = 2 << 20  # of an archive's table of contents (its central directory)
MAX_END_BYTES = (1 << 16) + 22  # of what follows that table: one record, with a comment
MAX_FILES = 5000  # in one student's folder or archive
MAX_CHECKPOINTS = 4
MAX_DEPTH = 6
CHUNK = 1 << 20
HAND_IN = f"hand in {CODE} and one checkpoint per task"

# How learning platforms name submissions: the student's name and the platform's number for them.
PLATFORMS = (
    # Ada Lovelace_123456_assignsubmission_file_
    (re.compile(r"^(?P<name>.+)_(?P<moodle>\d+)_assignsubmission_\w+$"), "moodle"),
    # lovelaceada_LATE_4711_815_lab.zip: user, then attempt
    (re.compile(r"^(?P<name>[^_]+)(_LATE)?_(?P<canvas>\d+)_\d+_.+$"), "canvas"),
    (re.compile(r"^(?P<name>submission_\d+)$"), "gradescope"),
)


class HandedInError(ValueError):
    """A submission cannot be read; the message tells the student what was expected."""


@dataclass(frozen=True)
class Student:
    """One student's folder or zip.

    Attributes:
        key: name of the student's folder in the results; unique and safe as a file name.
        name: as the platform wrote it.
        platform, number: the platform and its number for the student; "" if unknown.
        path: the folder or zip.
    """

    key: str
    name: str
    platform: str
    number: str
    path: Path


@dataclass(frozen=True)
class HandedIn:
    """The files of a student, copied into a folder of the grader.

    Attributes:
        code: submission.py.
        checkpoints: by task if the file's name begins with it, else by the file's original path.
    """

    code: Path
    checkpoints: dict[str, Path]


@dataclass(frozen=True)
class _Found:
    """A file in a submission.

    Attributes:
        path: inside the folder or archive.
        size: in bytes, as the folder or archive states it.
        open: opens it for reading in binary mode.
    """

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def students_in(folder: Path) -> list[Student]:
    """Return the students of a class, in the order of their files' names.

    Raises HandedInError if the folder does not exist or holds no student.
    """
    if not folder.is_dir():
        raise HandedInError(
            f"{folder} is not a folder; expected one that holds a folder or zip per student."
        )
    students: dict[str, Student] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__MACOSX")):
            continue
        is_zip = path.suffix.lower() == ".zip"
        if not (is_zip or path.is_dir() or path.is_symlink()):
            continue  # a list of grades, submission_metadata.yml, ...
        stem = path.stem if is_zip else path.name
        name, platform, number = _who(stem.encode("utf-8", "replace").decode("utf-8"))
        key = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "student"
        while key.lower() in students:
            key += "_"
        students[key.lower()] = Student(key, name, platform, number, path)
    if not students:
        raise HandedInError(f"{folder} holds no folder and no zip; expected one per student.")
    return list(students.values())


def loose_files(folder: Path) -> list[str]:
    """Return the names of .py and .pth files that are not in a student's folder or zip."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".py", ".pth"))


def _who(stem: str) -> tuple[str, str, str]:
    """Return name, platform and number, from the name of a folder or zip."""
    for pattern, platform in PLATFORMS:
        if match := pattern.match(stem):
            return match["name"], platform, match.groupdict().get(platform, "")
    return stem, "", ""


def take(student: Student, into: Path) -> HandedIn:
    """Copy submission.py and the checkpoints of a student into a folder. Raises HandedInError."""
    with _files_of(student.path) as found:
        return _take(found, into)


@contextmanager
def _files_of(path: Path) -> Iterator[list[_Found]]:
    """Yield the files of a folder or zip; they can be opened until the block ends."""
    if path.is_symlink():
        raise HandedInError(f"{path.name} is a link; hand in the files themselves.")
    if path.is_dir():
        found = list(_files_in(path))
        zips = [one for one in found if one.path.suffix.lower() == ".zip"]
        if len(zips) != 1 or any(one.path.name == CODE for one in found):
            yield found
            return
        path = path / zips[0].path  # a folder with a single zip in it
    if path.stat().st_size > MAX_ARCHIVE_BYTES:
        raise HandedInError(f"the zip is larger than {MAX_ARCHIVE_BYTES:,} bytes.")
    _expect_short_contents(path)
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            found = list(_members_of(archive))
        except HandedInError:
            raise
        except Exception as error:  # a damaged table of contents raises errors of many types
            raise HandedInError(f"{path.name} is not a zip that can be read ({error}).") from None
        yield found


def _expect_short_contents(path: Path) -> None:
    """Raise HandedInError if reading an archive's table of contents would take much memory.

    The last record of an archive, after "PK\\5\\6", has the table's size (APPNOTE.TXT, 4.3.16).
    Archives of the larger kind, Zip64, are refused: their table may have any size, and no
    submission needs one.
    """
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - MAX_END_BYTES, 0))
        end = file.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 22:
        raise HandedInError(f"{path.name} is not a zip that can be read; create it again.")
    (size,) = struct.unpack_from("<I", end, at + 12)
    if size > MAX_CONTENTS_BYTES or b"PK\6\7" in end[max(at - 20, 0) : at]:
        raise HandedInError(f"{path.name} lists far too many files; {HAND_IN}.")


def _files_in(folder: Path) -> Iterator[_Found]:
    """Yield the regular files below a folder. Links are not followed."""
    count, left = 0, [folder]
    while left:
        for file in sorted(left.pop().iterdir()):
            count += 1
            if count > MAX_FILES:
                raise HandedInError(f"there are more than {MAX_FILES} files; {HAND_IN}.")
            status = file.lstat()
            path = PurePosixPath(*file.relative_to(folder).parts)
            if stat.S_ISLNK(status.st_mode) and _counts(path):
                raise HandedInError(f"{path} is a link; hand in the file itself.")
            if stat.S_ISDIR(status.st_mode) and len(path.parts) < MAX_DEPTH:
                left.append(file)
            elif stat.S_ISREG(status.st_mode):
                yield _Found(path, status.st_size, functools.partial(io.FileIO, file))


def _members_of(archive: zipfile.ZipFile) -> Iterator[_Found]:
    """Yield the regular files of an archive."""
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise HandedInError(f"the zip has more than {MAX_FILES} files; {HAND_IN}.")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not path.parts:
            continue  # the folder itself
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise HandedInError(
                f"the zip has a file with the path {member.filename!r}; create it again."
            )
        mode = member.external_attr >> 16
        if stat.S_ISLNK(mode) and _counts(path):
            raise HandedInError(f"{path} is a link; hand in the file itself.")
        if not member.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG):
            yield _Found(path, member.file_size, functools.partial(archive.open, member))


def _counts(path: PurePosixPath) -> bool:
    """Return whether a file is part of the submission: visible, and submission.py or a .pth."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not hidden and (path.name == CODE or path.suffix == ".pth")


def _take(found: list[_Found], into: Path) -> HandedIn:
    """Copy the topmost submission.py, and the checkpoints in its folder and below."""
    found = [one for one in found if _counts(one.path)]
    codes = [one for one in found if one.path.name == CODE]
    if not codes:
        raise HandedInError(f"there is no {CODE}; {HAND_IN}.")
    depth = min(len(one.path.parts) for one in codes)
    codes = [one for one in codes if len(one.path.parts) == depth]
    if len(codes) > 1:
        paths = " and ".join(str(one.path) for one in codes[:2])
        raise HandedInError(f"there is more than one {CODE} ({paths}); hand in one.")
    beside = codes[0].path.parent
    weights = [
        one for one in found if one.path.suffix == ".pth" and one.path.is_relative_to(beside)
    ]
    if not weights:
        raise HandedInError("there is no checkpoint (.pth); hand in one per task.")
    if len(weights) > MAX_CHECKPOINTS:
        raise HandedInError(f"there are {len(weights)} checkpoints; hand in one per task.")
    into.mkdir(parents=True, exist_ok=True)
    code = _copied(codes[0], into / CODE, MAX_CODE_BYTES)
    checkpoints: dict[str, Path] = {}
    for one in sorted(weights, key=lambda one: str(one.path)):
        task = next((task for task in TASKS if one.path.name.startswith(task)), "")
        task = task or str(one.path)
        if task in checkpoints:
            raise HandedInError(f"there are two checkpoints of {task}; hand in one.")
        file = into / f"checkpoint_{len(checkpoints)}.pth"
        checkpoints[task] = _copied(one, file, MAX_CHECKPOINT_BYTES)
    return HandedIn(code, checkpoints)


def _copied(found: _Found, to: Path, most: int) -> Path:
    """Copy a file of at most `most` bytes. Its stated size is not trusted."""
    too_large = HandedInError(f"{found.path} is larger than {most:,} bytes.")
    if found.size > most:
        raise too_large
    copied = 0
    with open(to, "wb") as file:
        for chunk in _chunks(found):
            copied += len(chunk)
            if copied > most:
                raise too_large
            file.write(chunk)
    to.chmod(0o644)  # regardless of the umask, because the sandbox's unprivileged user reads it
    return to


def _chunks(found: _Found) -> Iterator[bytes]:
    """Yield the content of a file in pieces. Raises HandedInError if it cannot be read."""
    try:
        with found.open() as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except Exception as error:  # each compression of zip has its own errors
        raise HandedInError(f"{found.path} is damaged or encrypted ({error}).") from None
