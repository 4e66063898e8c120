"""Collect what a class of 60 handed in, in every layout: no one lost, no one twice."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from classes import LAYOUTS, Handed, make_class, write_download, write_roster
from conftest import run

from staff.class_folder import students_in
from staff.collect.__main__ import collect
from staff.submissions import HandedInError, NothingHandedInError, take

ROSTER = "id,name,email\n1,Ada Lovelace,ada@example.edu\n2,王伟,wei@example.edu\n3,王伟,w2@x.edu\n"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")


def table_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without its lock."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def collected(tmp_path: Path, files: dict[str, bytes], roster: str = ROSTER) -> dict[str, dict]:
    """Collect files of a download, by name; return the rows of collected.csv by id."""
    for name, content in files.items():
        file = tmp_path / "download" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "roster.csv").write_text(roster, encoding="utf-8")
    collect(tmp_path / "download", tmp_path / "roster.csv", tmp_path / "out", None)
    return {row["id"]: row for row in table_of(tmp_path / "out" / "collected.csv")}


def oddities(tmp_path: Path) -> list[str]:
    rows = table_of(tmp_path / "out" / "oddities.csv")
    return [f"{row['student']}: {row['file']}: {row['oddity']}" for row in rows]


# ---------------------------------------------------------------- a class of 60


@pytest.fixture(scope="module", params=LAYOUTS)
def case(request, tmp_path_factory) -> tuple[str, list[Handed], Path]:
    """A layout, the class, and a folder with its download and what was collected from it."""
    layout, students = request.param, make_class()
    folder = tmp_path_factory.mktemp(layout)
    write_roster(students, folder / "roster.csv")
    download = write_download(students, layout, folder / "download")
    stranger = students[-1].__class__("x", "Eve Stranger", 1)
    stranger.give("submission.py", "submission.py")
    odd = [stranger] if layout != "gradescope" else []
    if odd:
        write_download(odd, layout, folder / "other")
        for path in (folder / "other").iterdir():
            path.rename(download / path.name)
    (download / "notes.txt").write_bytes(b"a file of nobody")
    words = [download, "--roster", folder / "roster.csv", "--out", folder / "out"]
    result = run("staff.collect", *words, "--due", "2026-11-20 23:59")
    assert result.returncode == 0, result.stderr
    (folder / "printed.txt").write_text(result.stdout, encoding="utf-8")
    return layout, students, folder


def test_every_student_has_one_row_and_the_right_files(case):
    layout, students, folder = case
    rows = table_of(folder / "out" / "collected.csv")
    assert [row["id"] for row in rows] == [one.id for one in students]
    for one, row in zip(students, rows):
        files = contents(folder / "out" / one.id)
        if layout == "moodle-flat" and "onlinetext.html" in one.files:
            files.pop("onlinetext.html", None)
        assert files == one.expected, (one.id, row["notes"])
        assert all(words in row["notes"] for words in one.says), (one.says, row["notes"])
        assert row["name"] == one.name and row["email"] == f"{one.id}@example.edu"
        came = bool(one.files or one.group)
        if layout in ("canvas", "gradescope"):
            assert row["late"] == ("" if not came else "yes" if one.late else "no")
        if layout == "gradescope":
            day = "21" if one.late else "19"
            assert row["submitted"] == (f"2026-11-{day}T17:34:00+00:00" if came else "")
    group = [row["group"] for row in rows if row["group"]]
    assert [len(others.split()) for others in group] == [2, 2, 2]


def test_what_is_nobodys_is_listed(case):
    layout, _, folder = case
    printed = (folder / "printed.txt").read_text(encoding="utf-8")
    lines = [row for row in table_of(folder / "out" / "oddities.csv") if not row["student"]]
    assert [row["file"] for row in lines if row["file"] == "notes.txt"] == ["notes.txt"]
    if layout != "gradescope":
        words = " ".join(row["oddity"] for row in lines)
        assert "not in the roster" in words and "not in the roster" in printed
    assert len(lines) == (1 if layout == "gradescope" else 2)
    absent = sum(
        "nothing handed in" in row["notes"] for row in table_of(folder / "out" / "collected.csv")
    )
    assert f"60 students: {60 - absent} handed in" in printed and absent == 2


def test_a_fix_corrects_one_student_and_a_second_run_changes_no_byte(case):
    _, students, folder = case
    out = folder / "out"
    before = contents(out)
    collect(folder / "download", folder / "roster.csv", out, None)
    again = contents(out)
    late = ("collected.csv",)  # this run has no --due
    assert {k: v for k, v in again.items() if k not in late} == {
        k: v for k, v in before.items() if k not in late
    }
    one = next(one for one in students if "final_vae.py" in one.files)
    label = next(
        row["file"]
        for row in table_of(out / "oddities.csv")
        if row["student"] == one.id and "fixes.csv" in row["oddity"]
    )
    with open(out / "fixes.csv", "a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([one.id, label, "submission.py"])
    for _ in range(2):
        collect(folder / "download", folder / "roster.csv", out, None)
        fixed = contents(out)
        assert fixed.pop(f"{one.id}/submission.py") == one.content("final_vae.py")
        changed = {name for name in fixed if fixed[name] != again.get(name)}
        assert changed == {"fixes.csv", "collected.csv", "oddities.csv"}
        assert fixed.keys() == again.keys()


def test_the_grader_takes_what_was_collected(case, tmp_path):
    layout, students, folder = case
    for one, student in zip(students, students_in(folder / "out"), strict=True):
        assert (student.key, student.name) == (one.id, one.name)
        assert student.platform == layout.split("-")[0]
        if not one.expected:
            with pytest.raises(NothingHandedInError, match="nothing was handed in"):
                take(student, tmp_path / one.id)
        elif "submission.py" in contents(folder / "out" / one.id):
            assert take(student, tmp_path / one.id).checkpoints.keys() >= {"VAEwolabel"}
        else:
            with pytest.raises(HandedInError, match="RAR archive|no submission.py"):
                take(student, tmp_path / one.id)
