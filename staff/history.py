"""The history of a class: what each run was asked, what it read, and what came out.

`OUT/history/0003/` is written whole or not at all, and never changed. A result is copied into the
first entry after it was stored, so every result that a table was made of is in one entry.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab import ROOT
from lab.checkpoint import replace_folder, write_whole
from staff.stored import folder_of

HISTORY = "history"  # in the folder of the results
RUN = "run.json"
OPTIONS = ".options.json"  # in the folder of the results: those that the results were graded with


class HistoryError(ValueError):
    """A run would replace results by others; the message says why, and what to type."""


def entries(out: Path) -> list[Path]:
    """Return the entries of the history, the oldest first."""
    found = (entry for entry in (out / HISTORY).glob("*") if entry.name.isdigit())
    return sorted(found, key=lambda entry: int(entry.name))


def append(
    out: Path,
    program: str,
    options: Mapping[str, Any],
    files: Mapping[str, Path],
    students: Iterable[str],
) -> Path:
    """Add an entry and return its folder. Raises OSError.

    Args:
        out: the folder of the results.
        program: which command ran.
        options: that it was given, by name.
        files: the tables that it read and wrote, by the names of their copies.
        students: those whose results count.
    """
    before = entries(out)
    number = int(before[-1].name) + 1 if before else 1
    recorded = _recorded(before)
    results = {student: folder_of(out, student) / "result.json" for student in students}
    contents = {student: file.read_bytes() for student, file in results.items() if file.is_file()}
    sums = {student: _sha256(content) for student, content in contents.items()}
    tables = {name: file.read_bytes() for name, file in files.items()}
    run = {
        "number": number,
        "program": program,
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "options": dict(options),
        "tables": {name: _sha256(content) for name, content in tables.items()},
        "results": sums,
    }
    folder = out / HISTORY / f"{number:04d}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replace_folder(folder) as temporary:
        for name, content in tables.items():
            (temporary / name).write_bytes(content)
        for student, content in contents.items():
            if sums[student] not in recorded:
                copy = folder_of(temporary, student) / "result.json"
                copy.parent.mkdir(parents=True)
                copy.write_bytes(content)
        (temporary / RUN).write_text(json.dumps(run, indent=2), encoding="utf-8")
    return folder


def _recorded(before: Iterable[Path]) -> set[str]:
    """Return the hashes of the results that the entries name."""
    return {sha256 for entry in before for sha256 in _run(entry).get("results", {}).values()}


def _run(entry: Path) -> dict[str, Any]:
    try:
        return json.loads((entry / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def last_students(out: Path) -> list[str] | None:
    """Return the students whose results counted in the last entry; None if there is none."""
    before = entries(out)
    return list(_run(before[-1]).get("results", {})) if before else None


def as_stored(value: Any) -> Any:
    """Return an option as JSON can hold it; a path of the lab is relative to the lab."""
    if not isinstance(value, Path):
        return value
    path = value.resolve()
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


def expect_same_options(out: Path, options: Mapping[str, Any], agreed: bool) -> list[str]:
    """Compare the options with those that the stored results were graded with.

    Args:
        out: the folder of the results.
        options: those on which results depend, by name, as `as_stored` returns them.
        agreed: whether the user has agreed to grade again with others.

    Returns what changed, in words. Raises HistoryError if something did and `agreed` is false.
    """
    try:
        before = json.loads((out / OPTIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = dict(options)
    changed = [
        f"--{name} was {_in_words(before[name])} and is {_in_words(value)}"
        for name, value in options.items()
        if name in before and before[name] != value
    ]
    if changed and not agreed:
        raise HistoryError(
            f"{out} was graded with other options: {'; '.join(changed)}. With these, the whole "
            "class is graded again; if that is meant, add --changed_options."
        )
    return changed


def keep_options(out: Path, options: Mapping[str, Any]) -> None:
    """Store the options on which the results depend. Raises OSError."""
    with write_whole(out / OPTIONS) as file:
        file.write(json.dumps(dict(options), indent=2).encode())


def _in_words(value: Any) -> str:
    return "not given" if value is None else "on" if value is True else str(value or "off")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
