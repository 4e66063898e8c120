"""Collect what a class of 60 handed in, in every layout: no one lost, no one twice."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import archives
import pytest
from classes import LAYOUTS, Handed, make_class, write_download, write_roster, zipped
from conftest import assert_clear_error, run

from staff.class_folder import students_in
from staff.collect.__main__ import collect
from staff.collect.layouts import source_of
from staff.collect.roster import Person, Roster, read_roster
from staff.collect.source import Source
from staff.submissions import HandedInError, NothingHandedInError, take
from staff.tables import TableError

ROSTER = "id,name,email\n1,Ada Lovelace,ada@example.edu\n2,王伟,wei@example.edu\n3,王伟,w2@x.edu\n"
DUE = datetime(2026, 11, 20, 23, 59).astimezone()
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
    stranger = Handed("x", "Eve Stranger", 1)
    stranger.give("submission.py", "submission.py")
    odd = [stranger] if layout != "gradescope" else []
    if odd:
        write_download(odd, layout, folder / "other")
        for path in (folder / "other").iterdir():
            path.rename(download / path.name)
    (download / "notes.txt").write_bytes(b"a file of nobody")
    words = [download, "--roster", folder / "roster.csv", "--out", folder / "out"]
    result = run("staff.collect", *words, "--due", DUE.isoformat())
    assert result.returncode == 0, result.stderr
    (folder / "printed.txt").write_text(result.stdout, encoding="utf-8")
    return layout, students, folder


def test_every_student_has_one_row_and_the_right_files(case):
    layout, students, folder = case
    rows = table_of(folder / "out" / "collected.csv")
    assert [row["id"] for row in rows] == [one.id for one in students]
    for one, row in zip(students, rows):
        files = contents(folder / "out" / one.id)
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
    members = [one for one in students_in(folder / "out") if one.group]
    assert [one.group for one in members] == [
        frozenset(other.key for other in members if other is not one) for one in members
    ]


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
    collect(folder / "download", folder / "roster.csv", out, DUE)
    again = contents(out)
    assert again == before
    one = next(one for one in students if "final_vae.py" in one.files)
    label = next(
        row["file"]
        for row in table_of(out / "oddities.csv")
        if row["student"] == one.id and "fixes.csv" in row["oddity"]
    )
    with open(out / "fixes.csv", "a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([one.id, label, "submission.py"])
    for _ in range(2):
        collect(folder / "download", folder / "roster.csv", out, DUE)
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


# ---------------------------------------------------------------- whose it is


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ada Lovelace_12_assignsubmission_file_", Source("moodle", "Ada Lovelace", "12")),
        ("王 伟_12_assignsubmission_onlinetext", Source("moodle", "王 伟", "12")),
        ("A_1_assignsubmission_file_x_1.py", Source("moodle", "A", "1", file="x_1.py")),
        ("Participant_12_assignsubmission_file", Source("moodle", "Participant", "12")),
        ("Default group_assignsubmission_file", Source("moodle", "Default group")),
        (
            "lovelaceada_LATE_47_81_1_2_a.py",
            Source("canvas", "lovelaceada", "47", late=True, file="1_2_a.py", upload=81),
        ),
        (
            "LATE_anon_x7Rq2_81_a.py",
            Source("canvas", "anon_x7Rq2", late=True, file="a.py", upload=81),
        ),
        ("weiwang_47_text.html", Source("canvas", "weiwang", "47", late=False, file="text.html")),
        ("submission_98765", Source("gradescope", "submission_98765")),
        ("lab_2", None),
    ],
)
def test_a_name_says_whose_it_is(name, expected):
    assert source_of(name) == expected


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *(
            ("Ada Lovelace", "1"),
            ("lovelaceada", "1"),
            ("Lovelace Ada", "1"),
            ("LOVELACE, ADA", "1"),
        ),
        *(("王伟", ""), ("Maria del Mar O'Neil", "4"), ("oneilmariadelmar", "4"), ("del Mar", "")),
        *(("小明 王", "5"), ("Ada", ""), ("Team 3", "6 7"), ("team3", "6 7")),
    ],
)
def test_a_student_is_found_by_every_form_of_a_name(name, found):
    people = [Person("1", "Ada Lovelace"), Person("2", "王伟"), Person("3", "王伟")]
    people += [Person("4", "O\u2019Neil, Maria del Mar"), Person("5", "王 小明")]
    people += [Person(i, f"Member {i}", group="Team 3") for i in "67"]
    assert " ".join(one.id for one in Roster(people).find(Source("x", name))[0]) == found


@pytest.mark.parametrize(
    "text",
    [
        "id,name,email\n2026,Ada Lovelace,ada@x.edu\n",
        "\ufeff学号;姓名;邮箱\n2026;Ada Lovelace;ada@x.edu\n",
        "First name\tLast name\tID number\tEmail address\nAda\tLovelace\t2026\tada@x.edu\n",
        "First Name,Last Name,SID,Email,Role\nAda,Lovelace,2026,ada@x.edu,Student\n",
    ],
)
def test_a_roster_may_have_the_columns_of_a_platform(tmp_path, text):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    assert read_roster(tmp_path / "roster.csv") == [
        Person("2026", "Ada Lovelace", email="ada@x.edu")
    ]


def test_rosters_with_the_numbers_of_a_platform(tmp_path):
    file = tmp_path / "roster.csv"
    file.write_text(
        "Student,ID,SIS User ID,SIS Login ID,Section,Lab (1)\n    Points Possible,,,,,40\n"
        '"Wang, Wei",4711,a1,wei,L1,\n"Wang, Wei",4712,a2,wei2,L1,\n"Student, Test",9,,x,L1,\n',
        encoding="gb18030",
    )
    people = read_roster(file)
    assert [(one.id, one.number, one.platform) for one in people] == [
        ("a1", "4711", "canvas"),
        ("a2", "4712", "canvas"),
    ]
    found, _ = Roster(people).find(Source("canvas", "wangwei", "4712"))
    assert [one.id for one in found] == ["a2"]
    file.write_text(
        "Identifier,Full name,Email address,Last modified (submission)\n"
        'Participant 12,王伟,w@x.edu,"20 November 2026, 11:59 PM"\n',
        encoding="utf-8",
    )
    (one,) = read_roster(file)
    assert (one.id, one.number, one.platform) == ("w@x.edu", "12", "moodle")
    found, _ = Roster([one]).find(Source("moodle", "Participant", "12"))
    assert found == [one]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns none; expected id, name and email"),
        ("a,b\n1,2\n", "columns a, b; expected"),
        ("id,name\n", "no student"),
        ("id,name\n1,A\n1,B\n", "line 3: a second row of 1"),
        ("id,name\n2.02601E+11,A\n", "line 2: the id of A is 2.02601E.11"),
    ],
)
def test_a_roster_that_cannot_be_used_is_one_sentence(tmp_path, text, message):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=message):
        read_roster(tmp_path / "roster.csv")


def test_two_students_of_one_name_and_two_accounts_of_one_student(tmp_path):
    files = {f"王伟_{i}_assignsubmission_file_/submission.py": b"x" for i in (7, 8)}
    files |= {f"Ada Lovelace_{i}_assignsubmission_file_/submission.py": b"x" for i in (1, 2)}
    rows = collected(tmp_path, files)
    assert {row["notes"] for row in rows.values()} == {"nothing handed in"}
    found = "\n".join(oddities(tmp_path))
    assert found.count("2 and 3 have this name") == 2 and found.count("under two numbers") == 2
    (tmp_path / "out" / "fixes.csv").write_text(
        "student,file,take as\n2,王伟_8_assignsubmission_file_,all\n"
        "1,Ada Lovelace_2_assignsubmission_file_,all\n",
        encoding="utf-8",
    )
    rows = collected(tmp_path, {})
    assert [bool(rows[i]["files"]) for i in "123"] == [True, True, False]
    assert rows["2"]["number"] == "8"


# ---------------------------------------------------------------- which file is what


def test_a_fix_takes_a_file_of_nobody_and_leaves_one_out(tmp_path):
    files = {"model (2).py": b"code", "ada/VAEwolabel.pth": b"1", "ada/lab.py": b"2"}
    assert "there is no submission.py" in collected(tmp_path, files)["1"]["notes"]
    (tmp_path / "out" / "fixes.csv").write_text(
        "student,file,take as\n1,model (2).py,submission.py\n1,ada/VAEwolabel.pth,nothing\n",
        encoding="utf-8",
    )
    collected(tmp_path, {})
    assert contents(tmp_path / "out" / "1") == {"submission.py": b"code"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("9,ada/lab.py,submission.py", "line 2: there is no student '9'"),
        ("1,ada/x.py,submission.py", "line 2: there is no file ada/x.py"),
        ("1,ada/lab.py,code", "line 2: take as 'code'; expected one of submission.py"),
        ("1,bob,all", "bob is not a file or folder of the download"),
    ],
)
def test_a_mistake_in_the_fixes_is_one_sentence_and_writes_nothing(tmp_path, row, message):
    collected(tmp_path, {"ada/lab.py": b"code"})
    before = contents(tmp_path / "out")
    before["fixes.csv"] = f"student,file,take as\n{row}\n".encode()
    (tmp_path / "out" / "fixes.csv").write_bytes(before["fixes.csv"])
    words = [tmp_path / "download", "--roster", tmp_path / "roster.csv", "--out", tmp_path / "out"]
    with pytest.raises(TableError, match=message):
        collect(words[0], words[2], words[4], None)
    assert contents(tmp_path / "out") == before


def test_unnamed_checkpoints_and_those_of_epochs(tmp_path):
    files = {"submission.py": b"c", "best.pth": b"1", "judge/judge.pth": b"2"}
    files |= {"runs/Genwithlabel/epoch_9.pth": b"9", "runs/Genwithlabel/epoch_10.pth": b"10"}
    row = collected(tmp_path, {f"ada/{name}": content for name, content in files.items()})["1"]
    assert contents(tmp_path / "out" / "1") == {
        **{"submission.py": b"c", "Genwithlabel.pth": b"10", "checkpoint_1.pth": b"1"},
    }
    assert "epoch_10.pth: is taken, because there is no best.pth" in row["notes"]


def test_a_manifest_is_compared_and_nothing_in_it_is_believed(tmp_path):
    files = {"submission.py": b"code", "VAEwolabel.pth": b"1"}
    sums = {name: {"sha256": sha256(content).hexdigest()} for name, content in files.items()}
    manifest = {"files": sums, "help": "=cmd()\x1b[31m a friend"}
    files["manifest.json"] = json.dumps(manifest).encode()
    row = collected(tmp_path, {f"ada/{name}": content for name, content in files.items()})["1"]
    assert row["notes"] == "" and row["help"] == "'=cmd()?[31m a friend"
    row = collected(tmp_path, {"ada/VAEwolabel.pth": b"2"})["1"]
    assert "VAEwolabel.pth: was changed after submit.py" in row["notes"]
    for content in (
        b"[" * 100_000,
        b'{"files": 1}',
        b'{"help": 1, "files": {"submission.py": []}}',
    ):
        row = collected(tmp_path, {"ada/manifest.json": content})["1"]
        assert row["help"] == "" and (tmp_path / "out" / "1" / "submission.py").exists()


def test_a_damaged_checkpoint_does_not_cost_the_code(tmp_path):
    files = {"Genwithlabel.pth": b"a" * 1000, "submission.py": b"code", "VAEwolabel.pth": b"1"}
    content = bytearray(zipped({name: (content, 0) for name, content in files.items()}))
    content[content.index(b"a" * 1000) + 500] ^= 1
    row = collected(tmp_path, {"ada.zip": bytes(content)})["1"]
    assert "Genwithlabel.pth: Genwithlabel.pth is damaged" in row["notes"]
    assert contents(tmp_path / "out" / "1") == {"submission.py": b"code", "VAEwolabel.pth": b"1"}


@on_linux
def test_hostile_archives_lose_nobody_and_names_are_plain_text(tmp_path):
    (tmp_path / "download").mkdir()
    archives.write(tmp_path / "download", {"submission.py": b"x" * 100, "VAEwolabel.pth": b"1"})
    (tmp_path / "download" / "link").symlink_to("/etc")
    (tmp_path / "download" / "two").mkdir()
    (tmp_path / "download" / "two" / "a\x1b[2J.txt").write_bytes(b"")
    names = [*archives.MESSAGES, "link", "two", "absent"]
    roster = "id,name\n" + "".join(f"{name},Student {name}\n" for name in names)
    rows = collected(tmp_path, {}, roster)
    for name, words in archives.MESSAGES.items():
        assert words in rows[name]["notes"], name
    assert "is a link" in rows["link"]["notes"] and "\x1b" not in rows["two"]["notes"]
    assert rows["absent"]["notes"] == "nothing handed in"
    for student in students_in(tmp_path / "out"):
        with pytest.raises(HandedInError):
            take(student, tmp_path / "taken")


def test_the_folder_of_another_command_is_left_alone(tmp_path):
    (tmp_path / "class" / "ada").mkdir(parents=True)
    (tmp_path / "class" / "ada" / "submission.py").write_bytes(b"x")
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8")
    words = [tmp_path / "class", "--roster", tmp_path / "roster.csv", "--out"]
    assert_clear_error(run("staff.collect", *words, tmp_path / "class" / "out"), "is inside")
    assert_clear_error(run("staff.collect", *words, tmp_path), "not of this command")
    assert_clear_error(
        run("staff.collect", tmp_path / "no", *words[1:], tmp_path / "o"), "no is not"
    )
    names = sorted(file.name for file in tmp_path.rglob("*") if file.name != ".lock")
    assert names == ["ada", "class", "roster.csv", "submission.py"]


def test_a_table_of_gradescope_that_is_damaged_is_one_sentence(tmp_path):
    for content in (b"a: [b", b"- 1", b"\xff", b"a: &x [*x, *x]\nb: !ruby/object:X {y: 1}\n"):
        files = {"submission_metadata.yml": content, "submission_1/submission.py": b"x"}
        if content.startswith(b"a: &x"):
            assert "not in the roster" in "".join(
                (collected(tmp_path, files), oddities(tmp_path))[1]
            )
        else:
            with pytest.raises(TableError, match="submission_metadata.yml"):
                collected(tmp_path, files)
