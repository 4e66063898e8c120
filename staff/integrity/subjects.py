"""What is compared of each student: this year's from what they handed in, others' from a file.

fingerprints.json keeps the hashes of the code and the sketches of the weights, and no code. It
holds names, so it belongs to the staff of a course and to no public place.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lab.arrays import ArrayError, npy_bytes, read_array
from lab.checkpoint import write_whole
from staff import sandbox
from staff.integrity.code import Code, read_code
from staff.integrity.weights import Record, as_plain, read_record
from staff.permissions import work_folder
from staff.replay import Verdict, replay
from staff.statuses import TASKS, TIMEOUT
from staff.submissions import HandedInError, Student, take
from staff.text import as_line
from staff.walls import Limits

FORMAT = 1
ENDLESS = "submission.py did not end in time, so it was not run again."


class FingerprintsError(ValueError):
    """A file of fingerprints cannot be used; the message says what was expected."""


@dataclass
class Subject:
    """One submission, of this year or of an earlier one.

    Attributes:
        key, name: of the student; see `submissions.Student`.
        year: the label of an earlier file of fingerprints; "" for this class.
        code: see `code.Code`.
        records: of the checkpoints, by task.
        replays: verdicts, by task; empty if nothing was replayed.
        problems: what could not be compared, in words.
        group: keys of the others of this class who handed in the same, as one group.
    """

    key: str
    name: str
    year: str
    code: Code
    records: dict[str, Record] = field(default_factory=dict)
    replays: dict[str, Verdict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    group: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """The name, with the year if it is an earlier one."""
        return f"{self.name} ({self.year})" if self.year else self.name


def subject_of(
    student: Student,
    work: Path,
    splits: dict[str, Path] | None,
    limits: Limits,
    isolation: str = sandbox.BUBBLEWRAP,
) -> Subject:
    """Read one student's submission.

    Args:
        student: the folder or zip.
        work: a folder for copies, which are removed.
        splits: folders of "train" and "valid", to replay; None to leave that out.
        limits, isolation: see `sandbox.run_stage`.

    Raises SandboxError, OSError. Faults of the submission are in `problems`.
    """
    with work_folder(work) as folder:
        try:
            handed_in = take(student, folder / "handed_in")
        except HandedInError as error:
            words = as_line(str(error))
            return Subject(
                student.key, student.name, "", Code(""), problems=[words], group=student.group
            )
        code = read_code(handed_in.code.read_bytes())
        subject = Subject(student.key, student.name, "", code, group=student.group)
        if code.problem:
            subject.problems.append(f"submission.py {code.problem}.")
        ends = True  # whether the code has ended in time so far
        for name, file in handed_in.checkpoints.items():
            inputs = {"submission.py": handed_in.code, "checkpoint.pth": file}
            if ends:
                ends, inputs = _with_initial(inputs, folder, limits, isolation)
                subject.problems += [] if ends else [ENDLESS]
            outcome = sandbox.run_stage("sketch", inputs, limits, isolation)
            record = read_record(outcome.array) if outcome.status == "done" else None
            if record is None:
                words = outcome.message or "it is not of the expected form."
                subject.problems.append(f"{name}: the checkpoint could not be read: {words}")
                continue
            task = record.task if record.task in TASKS else name
            subject.records[task] = record
            if splits is not None and ends:
                verdict = replay(handed_in.code, file, record, splits, limits, isolation)
                subject.replays[task] = verdict
        return subject


def _with_initial(
    inputs: dict[str, Path], folder: Path, limits: Limits, isolation: str
) -> tuple[bool, dict[str, Path]]:
    """Return whether the code ended in time, and what the stage "sketch" reads.

    The sketch runs no student's code. The weights before the training come from this stage, which
    does. If it fails or lies, the weights themselves are compared, and not their change.
    """
    outcome, initial = sandbox.run_stage("initial", inputs, limits, isolation), folder / "initial"
    with suppress(ArrayError):
        array = read_array(io.BytesIO(outcome.array), "the weights", np.float32, (None,))
        initial.write_bytes(npy_bytes(array))
        inputs = {**inputs, "initial.npy": initial}
    return outcome.status != TIMEOUT, inputs


# ---------------------------------------------------------------- other years


def write_fingerprints(file: Path, label: str, subjects: Iterable[Subject]) -> None:
    """Write the fingerprints of a class, for later years. Raises OSError."""
    entries = [
        {
            "name": one.name,
            "sha256": one.code.sha256,
            "digest": one.code.digest,
            "prints": sorted(one.code.prints),
            "records": {task: as_plain(record) for task, record in one.records.items()},
        }
        for one in subjects
        if not one.year
    ]
    content = {"format": FORMAT, "label": label, "submissions": entries}
    with write_whole(file) as opened:
        opened.write(json.dumps(content, allow_nan=True).encode())


def read_fingerprints(file: Path) -> list[Subject]:
    """Return the submissions of an earlier year. Raises FingerprintsError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise FingerprintsError(
                f"{file} is of the format {content['format']}; this version reads {FORMAT}."
            )
        label = as_line(str(content["label"])) or file.stem
        return [
            _earlier(entry, f"{file.stem}-{number}", label)
            for number, entry in enumerate(content["submissions"])
        ]
    except FingerprintsError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FingerprintsError(
            f"{file} holds no fingerprints; expected a fingerprints.json of staff.integrity."
        ) from None


def _earlier(entry: dict[str, Any], key: str, label: str) -> Subject:
    prints: dict[int, list[tuple[int, int]]] = {int(value): [] for value in entry["prints"]}
    code = Code(str(entry["sha256"]), str(entry["digest"]), prints)
    records = {}
    for task, plain in entry["records"].items():
        record = read_record(json.dumps(plain).encode())
        if record is not None:
            records[str(task)] = record
    return Subject(key, as_line(str(entry["name"])), label, code, records)
