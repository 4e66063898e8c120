"""Which file of a student is what: their code, their checkpoints, their papers.

Nothing in the files is run, and nothing is unpacked: archives are read by `staff/archives.py`.
Where a rule had to choose, or left something out, it says so.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from lab.hand_in import MANIFEST, PAPERS
from staff.archives import ArchiveError, is_archive, open_archive
from staff.collect.fixes import NOTHING, Fix
from staff.collect.layouts import Piece
from staff.statuses import TASKS
from staff.submissions import (
    CODE,
    MAX_CHECKPOINT_BYTES,
    MAX_CODE_BYTES,
    Found,
    HandedInError,
    files_in,
    found_at,
    is_hidden,
    members_of,
)
from staff.tables import TableError

CHECKPOINT_OF = {task: f"{task}.pth" for task in TASKS}
CHECKPOINTS = (".pth", ".pt")  # how the names of checkpoints end
KINDS = (CODE, *CHECKPOINT_OF.values(), *PAPERS)
MAX_BYTES = {
    CODE: MAX_CODE_BYTES,
    **dict.fromkeys(CHECKPOINT_OF.values(), MAX_CHECKPOINT_BYTES),
    **dict.fromkeys(PAPERS, 64 << 20),
    MANIFEST: 1 << 20,
}
MAX_ARCHIVES = 10  # of one student
MAX_CHECKPOINTS = 50  # of one student that are considered
MAX_FACTS_BYTES = 1 << 20  # of hyperparams.json
MAX_LISTED = 3  # names in one sentence
RUN_FACTS = "hyperparams.json"  # which train.py writes into the folder of a run, beside best.pth
# What browsers, file managers and Canvas add to the name of a second file of the same name.
COPY = re.compile(r"( ?\(\d+\)|-\d+| ?-? ?(copy|kopie)( ?\d+)?| ?-? ?副本|的副本)$", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """A file of a student.

    Attributes:
        label: names it in tables: its path from the folder of the download on.
        path: as the student gave it.
        found: its size, time and content.
        box: label of the folder, archive or file of the download that it came in.
        upload: larger for a later upload; 0 if unknown.
    """

    label: str
    path: PurePosixPath
    found: Found
    box: str
    upload: int

    @property
    def stem(self) -> str:
        """The name in small letters, without its ending and without what marks a copy."""
        stem, before = self.path.stem.casefold().strip(), ""
        while stem != before:
            stem, before = COPY.sub("", stem).strip(), stem
        return stem

    @property
    def suffix(self) -> str:
        """The ending in small letters."""
        return self.path.suffix.lower()

    @property
    def place(self) -> tuple[str, PurePosixPath]:
        """The folder that it is in."""
        return self.box, self.path.parent


@dataclass
class HandIn:
    """What a student handed in.

    Attributes:
        files: all that can be read.
        chosen: files by the name under which they are taken.
        oddities: label of a file, and what is odd about it.
        archives: the archives that the files came in, by label.
        unread: archives that could not be read.
    """

    files: list[File] = field(default_factory=list)
    chosen: dict[str, File] = field(default_factory=dict)
    oddities: list[tuple[str, str]] = field(default_factory=list)
    archives: dict[str, File] = field(default_factory=dict)
    unread: list[File] = field(default_factory=list)

    def say(self, label: str, words: str) -> None:
        """Note what is odd about a file."""
        if (label, words) not in self.oddities:
            self.oddities.append((label, words))


# ---------------------------------------------------------------- reading


def open_pieces(pieces: Iterable[Piece], stack: ExitStack) -> HandIn:
    """Return the files of the pieces; they can be read until the stack is closed."""
    hand_in = HandIn()
    for piece in pieces:
        for file in _files_of(piece, hand_in):
            if not is_archive(file.path.name):
                hand_in.files.append(file)
            elif len(hand_in.archives) < MAX_ARCHIVES:
                hand_in.archives[file.label] = file
                hand_in.files += _members(file, hand_in, stack)
            else:
                hand_in.say(file.label, f"is not read: more than {MAX_ARCHIVES} archives")
    return hand_in


def _files_of(piece: Piece, hand_in: HandIn) -> list[File]:
    """Return the files of a piece of the download."""
    upload = max((source.upload for source in piece.sources), default=0)
    if piece.path.is_symlink():
        hand_in.say(piece.label, "is a link; expected the file itself")
        return []
    if not piece.path.is_dir():
        name = next((source.file for source in piece.sources if source.file), piece.label)
        path = PurePosixPath(name)
        found = found_at(piece.path, path)
        return [File(piece.label, path, found, piece.label, upload)]
    files = []
    try:
        for found in files_in(piece.path):
            if not is_hidden(found.path):
                label = f"{piece.label}/{found.path}"
                files.append(File(label, found.path, found, piece.label, upload))
    except (HandedInError, OSError) as error:
        hand_in.say(piece.label, str(error))
    return sorted(files, key=lambda file: file.label)


def _members(archive: File, hand_in: HandIn, stack: ExitStack) -> list[File]:
    """Return the files of an archive. One that cannot be read is noted."""
    path = archive.found.file
    assert path is not None
    try:
        found = list(members_of(stack.enter_context(open_archive(path))))
    except (ArchiveError, HandedInError, OSError) as error:
        hand_in.say(archive.label, str(error))
        hand_in.unread.append(archive)
        return []
    files = []
    for one in found:
        label = f"{archive.label}/{one.path}"
        if is_hidden(one.path):
            continue
        if is_archive(one.path.name):
            hand_in.say(label, "is an archive inside an archive, which is not read; unpack it")
        else:
            files.append(File(label, one.path, one, archive.label, archive.upload))
    return files


# ---------------------------------------------------------------- choosing


def choose(hand_in: HandIn, fixes: Iterable[Fix], others: Iterable[File] = ()) -> None:
    """Fill in what is taken as what.

    Args:
        hand_in: the files of a student.
        fixes: of this student; they come before every rule.
        others: further files of the download that a fix may name.

    Raises TableError if a fix names a file that does not exist.
    """
    by_label = {file.label: file for file in [*others, *hand_in.files]}
    left = list(hand_in.files)
    for fix in fixes:
        if fix.file not in by_label:
            raise TableError(
                f"fixes.csv, line {fix.line}: there is no file {fix.file}; expected a name as in "
                "collected.csv or oddities.csv."
            )
        left = [file for file in left if file.label != fix.file]
        if fix.take_as != NOTHING:
            hand_in.chosen[fix.take_as] = by_label[fix.file]
    runs = {file.place for file in hand_in.files if file.path.name == RUN_FACTS}
    if CODE not in hand_in.chosen:
        _choose_code(hand_in, left, runs)
    _choose_checkpoints(hand_in, left)
    for paper in PAPERS:
        stem, suffix = PurePosixPath(paper).stem, PurePosixPath(paper).suffix
        found = [file for file in left if file.suffix == suffix and file.stem.startswith(stem)]
        if paper not in hand_in.chosen and found:
            _take_newest(hand_in, paper, found)
    _choose_manifest(hand_in)
    _list_others(hand_in, left)


def _take_newest(hand_in: HandIn, kind: str, files: list[File]) -> None:
    """Take the newest of several files, and say so.

    A platform may give all files of a download the same time. Then the exact name counts, and then
    the order of uploads.
    """
    stem = PurePosixPath(kind).stem.casefold()

    def key(file: File) -> tuple[Any, ...]:
        return file.found.changed, file.stem == stem, file.upload

    taken = max(sorted(files, key=lambda file: file.label), key=key)
    hand_in.chosen[kind] = taken
    for other in files:
        if other is taken:
            continue
        words = f"is not taken as {kind}: {taken.label} is newer"
        if key(other) == key(taken):
            words = f"is not taken as {kind}, but may be it: {taken.label} has the same time"
        elif other.found.changed == taken.found.changed:
            words = f"is not taken as {kind}: {taken.label} has its name or was uploaded later"
        hand_in.say(other.label, words)


def _choose_code(hand_in: HandIn, left: list[File], runs: set[Any]) -> None:
    """Take the topmost submission.py of each upload, the newest of them."""
    programs = [file for file in left if file.suffix == ".py"]
    stem = PurePosixPath(CODE).stem
    found = [file for file in programs if file.stem == stem]
    own = [file for file in found if file.place not in runs]  # a run has a copy of its code
    found = own or found
    depth: dict[str, int] = defaultdict(lambda: 1 << 30)
    for file in found:
        depth[file.box] = min(depth[file.box], len(file.path.parts))
    found = [file for file in found if len(file.path.parts) == depth[file.box]]
    if not found:
        found = [file for file in programs if file.stem.startswith(stem)]
    if found:
        _take_newest(hand_in, CODE, found)
        taken = hand_in.chosen[CODE]
        if taken.path.name != CODE:
            hand_in.say(taken.label, f"is taken as {CODE}")
    elif programs:
        names = _listed(programs)
        hand_in.say(programs[0].label, f"there is no {CODE}; if it is {names}, say so in fixes.csv")


def _choose_checkpoints(hand_in: HandIn, left: list[File]) -> None:
    """Take a checkpoint for each task: of several, the newest."""
    found: dict[str, list[File]] = defaultdict(list)
    for file in _best_of_runs(hand_in, left):
        found[_task_of(file, hand_in.files)].append(file)
    for task, kind in CHECKPOINT_OF.items():
        if kind not in hand_in.chosen and found[task]:
            named = [file for file in found[task] if _names(file.path.name, task)]
            _take_newest(hand_in, kind, named or found[task])  # a name says more than a run
    missing = [kind for kind in CHECKPOINT_OF.values() if kind not in hand_in.chosen]
    unknown = sorted(found[""], key=lambda file: (file.upload, file.found.changed, file.label))
    for number, file in enumerate(reversed(unknown), 1):
        if number <= len(missing):  # the grader asks the checkpoint itself for its task
            hand_in.chosen[f"checkpoint_{number}.pth"] = file
        else:
            hand_in.say(file.label, "is not taken: it does not say of which task it is")


def _best_of_runs(hand_in: HandIn, left: list[File]) -> list[File]:
    """Return the checkpoints, of a folder with best.pth that one instead of those of the epochs."""
    by_place: dict[Any, list[File]] = defaultdict(list)
    for file in left:
        if file.suffix in CHECKPOINTS and file.path.parts[-2:] != ("judge", "judge.pth"):
            by_place[file.place].append(file)
    kept = []
    for files in by_place.values():
        epochs = [file for file in files if re.fullmatch(r"epoch_\d+|interrupted", file.stem)]
        rest = [file for file in files if file not in epochs]
        if epochs and not any(file.stem == "best" for file in rest):
            last = max(epochs, key=lambda file: int(re.sub(r"\D", "", file.stem)[:9] or 0))
            hand_in.say(last.label, "is taken, because there is no best.pth beside it")
            rest.append(last)
        kept += rest
    kept.sort(key=lambda file: (file.found.changed, file.label), reverse=True)
    for file in kept[MAX_CHECKPOINTS:]:
        hand_in.say(file.label, f"is not taken: {MAX_CHECKPOINTS} checkpoints are newer")
    return kept[:MAX_CHECKPOINTS]


def _task_of(file: File, files: list[File]) -> str:
    """Return the task of a checkpoint, by its name, its run or its folder; "" if none says it."""
    for task in TASKS:
        if _names(file.path.name, task):
            return task
    for beside in files:
        if beside.path.name == RUN_FACTS and beside.place == file.place:
            stated = read_facts(beside).get("task")
            if stated in TASKS:
                return str(stated)
    for folder in reversed(file.path.parts[:-1]):
        for task in TASKS:
            if _names(folder, task):
                return task
    return ""


def _names(name: str, task: str) -> bool:
    return task.casefold() in name.casefold()


def read_facts(file: File) -> dict[str, Any]:
    """Return the entries of a JSON file of a student; {} if it cannot be read."""
    try:
        if file.found.size > MAX_FACTS_BYTES:
            return {}
        content = b""
        for chunk in file.found.content():
            content += chunk
            if len(content) > MAX_FACTS_BYTES:
                return {}
        facts = json.loads(content)
    except (HandedInError, ArchiveError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _choose_manifest(hand_in: HandIn) -> None:
    """Take the manifest that came with the code."""
    code = hand_in.chosen.get(CODE)
    for file in hand_in.files:
        if code is not None and file.path.name == MANIFEST and file.place == code.place:
            hand_in.chosen[MANIFEST] = file


def _list_others(hand_in: HandIn, left: list[File]) -> None:
    """Name the files beside a submission that no rule took."""
    told = {label for label, _ in hand_in.oddities}
    told |= {file.label for file in hand_in.chosen.values()}
    others = [
        file
        for file in left
        if file.label not in told
        and len(file.path.parts) == 1
        and file.suffix not in CHECKPOINTS
        and file.path.name not in (MANIFEST, RUN_FACTS)
    ]
    if others:
        hand_in.say(others[0].label, f"not needed, so not taken: {_listed(others)}")


def _listed(files: list[File]) -> str:
    """Return the names of some files for a sentence."""
    names = ", ".join(file.path.name for file in files[:MAX_LISTED])
    more = len(files) - MAX_LISTED
    return f"{names} and {more} more" if more > 0 else names
