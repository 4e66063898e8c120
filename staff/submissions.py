"""Read what one student handed in: a folder or a zip.

Nothing in it is trusted. Only regular files with the expected names are copied, each up to a
maximum size. An archive is read member by member, by another process (`archives.py`), and never
unpacked.
"""

from __future__ import annotations

import functools
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from staff.archives import Archive, ArchiveError, is_archive, is_zip, open_archive
from staff.statuses import TASKS
from staff.text import as_line, name_as_text

CODE = "submission.py"
MAX_CODE_BYTES = 1 << 20
MAX_CHECKPOINT_BYTES = 256 << 20
MAX_FILES = 5000  # in one student's folder
MAX_CHECKPOINTS = 4
MAX_DEPTH = 6
CHUNK = 1 << 20
HAND_IN = f"hand in {CODE} and one checkpoint per task"


class HandedInError(ValueError):
    """A submission cannot be read; the message tells the student what was expected."""


class NothingHandedInError(HandedInError):
    """A student of the class handed in nothing."""


@dataclass(frozen=True)
class Student:
    """One student's folder or zip.

    Attributes:
        key: name of the student's folder in the results; see `class_folder.keys_of`.
        name: as the platform wrote it, as plain text.
        platform, number: the platform and its number for the student; "" if unknown.
        path: the folder or zip; it does not exist if the student handed in nothing.
        group: keys of the others who handed in the same, as one group.
    """

    key: str
    name: str
    platform: str
    number: str
    path: Path
    group: frozenset[str] = frozenset()


@dataclass(frozen=True)
class HandedIn:
    """The files of a student, copied into a folder of the grader.

    Attributes:
        code: submission.py.
        checkpoints: by task if the file's name begins with it, else by the file's original path;
            may be empty.
    """

    code: Path
    checkpoints: dict[str, Path]


@dataclass(frozen=True)
class Found:
    """A file in a submission.

    Attributes:
        path: inside the folder or archive, as plain text.
        size: in bytes, as the folder or archive states it.
        changed: local time of its last change: year, month, day, hour, minute, second; not to be
            trusted.
        content: returns its bytes in pieces.
        file: where it is; None in an archive.
    """

    path: PurePosixPath
    size: int
    changed: tuple[int, ...]
    content: Callable[[], Iterator[bytes]]
    file: Path | None = None


def take(student: Student, into: Path) -> HandedIn:
    """Copy submission.py and the checkpoints of a student into a folder. Raises HandedInError."""
    try:
        with _files_of(student.path) as found:
            return _take(found, into)
    except ArchiveError as error:
        raise HandedInError(str(error)) from None


@contextmanager
def _files_of(path: Path) -> Iterator[list[Found]]:
    """Yield the files of a folder or archive; they can be read until the block ends."""
    if path.is_symlink():
        raise HandedInError(f"{name_as_text(path.name)} is a link; hand in the files themselves.")
    if not path.exists():
        raise NothingHandedInError("nothing was handed in.")
    if path.is_dir():
        found = list(files_in(path))
        archives = [
            one.file
            for one in found
            if one.file and is_archive(one.path.name) and not is_hidden(one.path)
        ]
        archives = [file for file in archives if is_zip(file.name)] or archives
        if len(archives) != 1 or any(one.path.name == CODE for one in found):
            yield found
            return
        path = archives[0]  # a folder with a single archive in it
    with open_archive(path) as archive:
        yield list(members_of(archive))


def files_in(folder: Path) -> Iterator[Found]:
    """Yield the regular files below a folder. Links are not followed."""
    count, left = 0, [folder]
    while left:
        for file in sorted(left.pop().iterdir()):
            count += 1
            if count > MAX_FILES:
                raise HandedInError(f"there are more than {MAX_FILES} files; {HAND_IN}.")
            status = file.lstat()
            path = PurePosixPath(*map(name_as_text, file.relative_to(folder).parts))
            if stat.S_ISLNK(status.st_mode) and _counts(path):
                raise HandedInError(f"{path} is a link; hand in the file itself.")
            if stat.S_ISDIR(status.st_mode) and len(path.parts) < MAX_DEPTH:
                left.append(file)
            elif stat.S_ISREG(status.st_mode):
                yield found_at(file, path)


def found_at(file: Path, path: PurePosixPath) -> Found:
    """Return a regular file as a file of a submission; `path` is its name there."""
    status = file.lstat()
    changed = tuple(time.localtime(status.st_mtime)[:6])
    return Found(path, status.st_size, changed, functools.partial(_content_of, file), file)


def _content_of(file: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces. Raises HandedInError."""
    try:
        with open(file, "rb", buffering=0) as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except OSError as error:
        name = name_as_text(file.name)
        raise HandedInError(f"{name} cannot be read ({error.strerror}).") from None


def members_of(archive: Archive) -> Iterator[Found]:
    """Yield the regular files of an archive."""
    for member in archive.members:
        name = as_line(member.name)
        path = PurePosixPath(name.replace("\\", "/"))
        if not path.parts:
            continue  # the folder itself
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise HandedInError(f"the zip has a file with the path {name}; create it again.")
        if stat.S_ISLNK(member.mode) and _counts(path):
            raise HandedInError(f"{path} is a link; hand in the file itself.")
        if not member.is_folder and stat.S_IFMT(member.mode) in (0, stat.S_IFREG):
            content = functools.partial(archive.content, member)
            yield Found(path, member.size, member.changed, content)


def is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _counts(path: PurePosixPath) -> bool:
    """Return whether a file is part of the submission: visible, and submission.py or a .pth."""
    return not is_hidden(path) and (path.name == CODE or path.suffix == ".pth")


def _take(found: list[Found], into: Path) -> HandedIn:
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
    if len(weights) > MAX_CHECKPOINTS:
        raise HandedInError(f"there are {len(weights)} checkpoints; hand in one per task.")
    into.mkdir(parents=True, exist_ok=True)
    code = copied(codes[0], into / CODE, MAX_CODE_BYTES)
    checkpoints: dict[str, Path] = {}
    for one in sorted(weights, key=lambda one: str(one.path)):
        task = next((task for task in TASKS if one.path.name.startswith(task)), "")
        task = task or str(one.path)
        if task in checkpoints:
            raise HandedInError(f"there are two checkpoints of {task}; hand in one.")
        file = into / f"checkpoint_{len(checkpoints)}.pth"
        checkpoints[task] = copied(one, file, MAX_CHECKPOINT_BYTES)
    return HandedIn(code, checkpoints)


def copied(found: Found, to: Path, most: int) -> Path:
    """Copy a file of at most `most` bytes. Its stated size is not trusted."""
    too_large = HandedInError(f"{found.path} is larger than {most:,} bytes.")
    if found.size > most:
        raise too_large
    copied = 0
    with open(to, "wb") as file:
        for chunk in found.content():
            copied += len(chunk)
            if copied > most:
                raise too_large
            file.write(chunk)
    return to
