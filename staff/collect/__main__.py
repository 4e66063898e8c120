"""Collect what a class handed in: one folder and one row per student, absentees included.

Reads the unpacked download of Moodle, Canvas or Gradescope, and writes OUT/ID/submission.py,
VAEwolabel.pth, ... with OUT/collected.csv, the table of the class, and OUT/oddities.csv, what a
person should look at. In OUT/fixes.csv you say what a file is; then run the same command again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lab import command
from lab.checkpoint import write_whole
from lab.lock import NAME as LOCK
from lab.lock import FolderInUseError, only_one
from staff.class_folder import keys_of
from staff.collect import fixes as fixing
from staff.collect.assign import Share, assign
from staff.collect.fixes import Fix, read_fixes
from staff.collect.hand_in import KINDS, File, HandIn, choose, open_pieces
from staff.collect.layouts import Piece, pieces_of
from staff.collect.roster import Person, Roster, read_roster
from staff.collect.table import (
    COLLECTED,
    COLLECTED_COLUMNS,
    FIXES,
    ODDITIES,
    read_collected,
    table_bytes,
)
from staff.collect.write import declared_help, write_student
from staff.permissions import write_for_owner_only
from staff.tables import TableError

EXAMPLES = """examples:
  python -m staff.collect download --roster roster.csv
  python -m staff.collect download --roster roster.csv --due "2026-11-20 23:59"
  python -m staff.grade_class collected --out graded         grade what was collected
"""
MAX_NOTES = 1500  # characters of a cell
MAX_ODDITIES = 50  # rows of one student
TIMES = ("%d %B %Y, %I:%M %p", "%A, %d %B %Y, %I:%M %p")  # of Moodle's worksheet, in English


@dataclass
class Class:
    """What was collected.

    Attributes:
        rows: of collected.csv, in the order of the roster.
        oddities: rows of oddities.csv.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    oddities: list[dict[str, str]] = field(default_factory=list)

    def note(self, student: str, oddities: Iterable[tuple[str, str]]) -> None:
        """Add oddities of a student: the label of a file, and what is odd about it."""
        rows = [{"student": student, "file": label, "oddity": words} for label, words in oddities]
        if student and len(rows) > MAX_ODDITIES:
            words = f"and {len(rows) - MAX_ODDITIES} more like these"
            rows[MAX_ODDITIES:] = [{"student": student, "oddity": words}]
        self.oddities += rows


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of staff.collect."""
    parser = command.make_parser(__doc__, EXAMPLES)
    parser.prog = "python -m staff.collect"
    add = parser.add_argument
    add("download", type=Path, help="the unpacked download of Moodle, Canvas or Gradescope")
    add("--roster", type=Path, required=True, help="CSV with id, name, email; may have group")
    add("--out", type=Path, default=Path("collected"), help="folder for what is collected")
    add("--due", type=_time, help="the deadline, where the platform tells only the time")
    return parser


def _time(words: str) -> datetime:
    """Return a time with its zone; without one, that of this machine."""
    try:
        return datetime.fromisoformat(words).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{words!r} is not a time; expected one as in 2026-11-20 23:59"
        ) from None


def collect(download: Path, roster_file: Path, out: Path, due: datetime | None) -> Class:
    """Collect a download into a folder, and return its tables.

    The same download, roster and fixes give the same bytes. Raises TableError, OSError.
    """
    people = read_roster(roster_file)
    _expect_ours(download, out)
    pieces = pieces_of(download)
    roster = Roster(people)
    fixes = read_fixes(out / FIXES, roster.by_id, KINDS)
    shares, nobodys = assign(pieces, roster, fixes)
    for person in people:  # before anything is written: a fix that names no file is an error
        if any(fix.student == person.id for fix in fixes):
            with ExitStack() as stack:
                _chosen(person, shares, pieces, fixes, stack)
    result, platform = Class(), _platform(shares)
    keys = dict(zip(roster.by_id, keys_of(roster.by_id)))
    _remove_others(out, set(keys.values()))
    for person in people:
        share, folder = shares.get(person.id, Share()), out / keys[person.id]
        fixed = any(fix.student == person.id for fix in fixes)
        if not share.pieces and not fixed:
            shutil.rmtree(folder, ignore_errors=True)
            result.rows.append(_row(person, share, platform, due))
            continue
        with ExitStack() as stack:
            hand_in = _chosen(person, shares, pieces, fixes, stack)
            names = write_student(hand_in, folder)
            row = _row(person, share, platform, due)
            taken = (f"{name} <- {hand_in.chosen[name].label}" for name in names if name in KINDS)
            notes = "; ".join(f"{label}: {words}" for label, words in hand_in.oddities)
            row |= {"files": "; ".join(taken), "notes": notes[:MAX_NOTES]}
            result.rows.append(row | {"help": declared_help(hand_in)})
        result.note(person.id, hand_in.oddities)
    result.note("", nobodys)
    _write(out, result)
    return result


def _expect_ours(download: Path, out: Path) -> None:
    """Raise TableError if the folder holds anything but what this command wrote."""
    if download.resolve() in (out.resolve(), *out.resolve().parents):
        raise TableError(f"{out} is inside {download}; give another folder with --out.")
    names = {path.name for path in out.iterdir()} - {LOCK} if out.is_dir() else set()
    if names and not names & {COLLECTED, FIXES}:
        raise TableError(
            f"{out} holds files that are not of this command; give another folder with --out."
        )


def _chosen(
    person: Person,
    shares: dict[str, Share],
    pieces: list[Piece],
    fixes: list[Fix],
    stack: ExitStack,
) -> HandIn:
    """Return what is taken of a student's files. Raises TableError."""
    own = [fix for fix in fixes if fix.student == person.id and fix.take_as != fixing.ALL]
    wholes = {fix.file for fix in fixes if fix.take_as == fixing.ALL}
    if unknown := sorted(wholes - {piece.label for piece in pieces}):
        raise TableError(f"{FIXES}: {unknown[0]} is not a file or folder of the download.")
    share = shares.get(person.id, Share())
    others: list[File] = []
    for piece in pieces:
        named = any(f"{fix.file}/".startswith(f"{piece.label}/") for fix in own)
        if named and piece not in share.pieces:
            others += open_pieces([piece], stack).files
    hand_in = open_pieces(share.pieces, stack)
    choose(hand_in, own, others)
    return hand_in


def _platform(shares: dict[str, Share]) -> str:
    """Return the platform of the download; "" if it is of none or of several."""
    platforms = {source.platform for share in shares.values() for source in share.sources}
    return platforms.pop() if len(platforms) == 1 else ""


def _row(person: Person, share: Share, platform: str, due: datetime | None) -> dict[str, str]:
    """Return a student's row, with what is known without their files."""
    submitted = max([source.submitted for source in share.sources] or [""]) or person.submitted
    stated = [source.late for source in share.sources if source.late is not None]
    at = _as_time(submitted)
    late = ("yes" if any(stated) else "no") if stated else ""
    if not late and due and at:
        late = "yes" if at > due else "no"
    numbers = [source.number for source in share.sources if source.number and not share.group]
    return {
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "platform": person.platform or platform,
        "number": person.number or next(iter(numbers), ""),
        "submitted": submitted if share.pieces else "",
        "late": late if share.pieces else "",
        "group": " ".join(sorted(share.group)),
        "notes": "" if share.pieces else "nothing handed in",
    }


def _as_time(words: str) -> datetime | None:
    """Return a time that a platform states; None if it is in another form."""
    try:
        return datetime.fromisoformat(words).astimezone()
    except ValueError:
        pass
    for form in TIMES:
        try:
            return datetime.strptime(words, form).astimezone()
        except ValueError:
            continue
    return None


def _remove_others(out: Path, keys: set[str]) -> None:
    """Remove the folders that an earlier run wrote for students who have left the roster."""
    if (out / COLLECTED).is_file():
        before = keys_of(row["id"] for row in read_collected(out / COLLECTED))
        for key in set(before) - keys:
            shutil.rmtree(out / key, ignore_errors=True)


def _write(out: Path, result: Class) -> None:
    """Write the tables, collected.csv last; fixes.csv only if there is none."""
    if not (out / FIXES).exists():
        with write_whole(out / FIXES) as file:
            file.write(table_bytes(fixing.COLUMNS, ()))
    with write_whole(out / ODDITIES) as file:
        file.write(table_bytes(("student", "file", "oddity"), result.oddities))
    with write_whole(out / COLLECTED) as file:
        file.write(table_bytes(COLLECTED_COLUMNS, result.rows))


def main() -> None:
    """Parse, collect, print what came and where the tables are."""
    parser = make_parser()
    options = parser.parse_args()
    write_for_owner_only()
    errors = (TableError, FolderInUseError)
    with command.clear_errors(parser.prog, *errors), only_one(options.out, "--out"):
        result = collect(options.download, options.roster, options.out, options.due)
    absent = sum(row["notes"] == "nothing handed in" for row in result.rows)
    late = f"{sum(row['late'] == 'yes' for row in result.rows)} of them late"
    if not any(row["late"] for row in result.rows):
        late = "late ones not known: the download has no times, or --due is missing"
        if any(row["platform"] == "moodle" for row in result.rows):
            late += " (Moodle's are in the grading worksheet, which may be the roster)"
    print(f"{len(result.rows)} students: {len(result.rows) - absent} handed in, {late}")
    nobodys = [row for row in result.oddities if not row["student"]]
    for row in nobodys:
        print(f"nobody's: {row['file']}: {row['oddity']}")
    print(f"students: {options.out / COLLECTED}")
    print(f"oddities: {options.out / ODDITIES}, {len(result.oddities)} to look at")
    print(f"fixes:    {options.out / FIXES}: say there what a file is, and run this again")
    print(f"next:     python -m staff.grade_class {options.out} --out graded")


if __name__ == "__main__":
    command.run(main)
