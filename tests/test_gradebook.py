"""The grade book: the late policy's laws, every summand, its tables, history and pages."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browsers import CUT_OFF, PHONE, Opened, address_of, chromium, needs_browser
from conftest import ROOT, assert_clear_error, run
from graded import FLAG, flagged, graded_class
from handed_in import CLASS
from hypothesis import given
from hypothesis import strategies as some

from lab.checks.rubric import rubric
from staff import grade_class, history, report
from staff.course import Course, CourseError, read_course
from staff.decisions import read_extensions, read_overrides, read_times
from staff.gradebook import read_book, write_book
from staff.late import Policy, late
from staff.pages import for_student
from staff.tables import TableError

DUE = datetime(2026, 11, 20, 15, 59, tzinfo=UTC)
HOURS = some.floats(-100, 3000).map(lambda hours: timedelta(hours=hours))
POLICIES = some.builds(
    Policy, some.floats(0, 100), grace_hours=some.floats(0, 100), bank_days=some.integers(0, 10)
)


@given(HOURS, POLICIES)
def test_a_deduction_is_between_nothing_and_all_and_the_bank_gives_no_more_days_than_it_has(
    over, policy
):
    found = late(DUE + over, DUE, policy)
    assert 0 <= found.percent <= 100
    assert 0 <= found.from_bank <= min(found.days, policy.bank_days)
    if over <= timedelta(hours=policy.grace_hours):
        assert found.days == 0 and found.percent == 0


@given(HOURS, HOURS, POLICIES)
def test_later_is_never_better_and_an_extension_never_hurts(over, more, policy):
    first, second = sorted((DUE + over, DUE + over + more))
    assert late(first, DUE, policy).percent <= late(second, DUE, policy).percent
    assert late(first, DUE + abs(more), policy).percent <= late(first, DUE, policy).percent


COURSE = """
due = 2026-11-20T23:59:00+08:00
[late]
percent_per_day = 10
grace_hours = 1
bank_days = 1
"""
TIMES = """student,submitted,email
ontime,2026-11-20T23:58:00+08:00,a@uni.edu
grace,2026-11-21T00:59:00+08:00,
bank,2026-11-21 02:00,
late,2026-11-23T00:30:00+08:00,
extended,2026-11-23T00:30:00+08:00,
unclear,last Friday,
"""
MARKS = "student;part;points;comment\nontime;0.1a;9;well argued\nlate;0.1a;10;\nlate;0.2;4;\n"
EXTENSIONS = "student,until,reason\nextended,2026-11-24 12:00,ill\ngrace,2026-11-01 12:00,\n"
OVERRIDES = """student,part,points,reason,by,on
bank,2.3,15,it was written in another form,Kim,2026-12-01
late,total,70,a hearing,Kim,2026-12-02
"""
STUDENTS = ["ontime", "grace", "bank", "late", "extended", "unclear", "broken"]


@pytest.fixture
def tables(tmp_path) -> dict[str, Path]:
    texts = {"course": COURSE, "times": TIMES, "marks": MARKS}
    texts |= {"extensions": EXTENSIONS, "overrides": OVERRIDES}
    files = {}
    for name, text in texts.items():
        files[name] = tmp_path / f"{name}{'.toml' if name == 'course' else '.csv'}"
        files[name].write_text(text, encoding="utf-8")
    return files


def rows_of(file: Path) -> dict[str, dict[str, str]]:
    with open(file, encoding="utf-8-sig", newline="") as opened:
        return {row["Submission"]: row for row in csv.DictReader(opened)}


def test_the_book_shows_every_summand_and_their_sum(tmp_path, tables):
    broken = {"status": "grader error", "score": None, "tasks": {}, "completion": {}}
    out = graded_class(tmp_path / "graded", STUDENTS, broken=broken)
    words = [word for name, file in tables.items() for word in (f"--{name}", file)]
    completed = run("staff.gradebook", out, *words)
    assert completed.returncode == 0, completed.stderr
    assert "late:    2 students, 8.96 points deducted, 2 days of banks" in completed.stdout
    rows = rows_of(out / "final.csv")
    numbers = [f"{part.number} (of {part.points})" for part in rubric().values()]
    for row in rows.values():
        if row["Total (of 130)"]:
            summands = [float(row[name] or 0) for name in (*numbers, "Late", "Override")]
            assert sum(summands) == pytest.approx(float(row["Total (of 130)"]), abs=1e-9)
    base = 75.623456
    totals = {name: row["Total (of 130)"] for name, row in rows.items()}
    assert totals.pop("broken") == "" and set(totals) == set(STUDENTS) - {"broken"}
    assert {name: float(total) for name, total in totals.items()} == pytest.approx(
        {
            "ontime": base + 9,
            "grace": base,  # its extension is before the due time
            "bank": base + 2,  # one day, from the bank; the part's override
            "late": 70,
            "extended": base,
            "unclear": base,
        }
    )
    late_row = rows["late"]
    assert (late_row["Days late"], late_row["Days from the bank"]) == ("2", "1")
    assert float(late_row["Late"]) == pytest.approx(-(base + 14) / 10)
    assert "total: 70 by Kim, 2026-12-02: a hearing" in late_row["Notes"]
    assert "the time of the hand-in is unknown" in rows["unclear"]["Notes"]
    assert rows["late"]["0.2 (of 10)"] == "4.0" and "not marked: 0.1b 1.3" in late_row["Notes"]
    grades = rows_of(out / "grades.csv")
    assert grades["ontime"]["Grade"] == "84.62" and grades["ontime"]["3 (of 30)"] == "20.12"
    assert grades["broken"]["Grade"] == "" and grades["broken"]["Status"] == "not graded yet"
    page = (out / "students" / "late" / "feedback.html").read_text(encoding="utf-8")
    assert "70.00 of 130 points" in page and "add up to 89.62" in page
    assert "Kim" not in page and "hearing" not in page  # reasons and people are for staff
    assert "well argued" in (out / "students/ontime/feedback.html").read_text(encoding="utf-8")


def tree(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_each_run_adds_an_entry_to_the_history_and_changes_none(tmp_path, tables):
    out = graded_class(tmp_path / "graded", ["late", "bank"])
    assert run("staff.gradebook", out, "--marks", tables["marks"]).returncode == 2  # "ontime"
    assert not (out / "history").exists() and not (out / "final.csv").exists()
    first = run("staff.gradebook", out, "--course", tables["course"], "--times", tables["times"])
    assert first.returncode == 0 and "history/0001" in first.stdout
    before = tree(out / "history")
    assert "0001/students/late/result.json" in before and "0001/course.toml" in before
    graded_class(out, ["bank"], bank={"score": 1.0})  # graded again
    again = run("staff.gradebook", out)  # with the tables of the first run
    assert "course of" in again.stdout and "history/0002" in again.stdout
    after = tree(out / "history")
    assert {name: after[name] for name in before} == before
    assert "0002/students/bank/result.json" in after
    assert "0002/students/late/result.json" not in after  # it is in the first entry
    recorded = json.loads((out / "history/0002/run.json").read_text(encoding="utf-8"))
    assert recorded["results"]["late"] == before["0001/students/late/result.json"]
    assert recorded["tables"]["final.csv"] == tree(out)["final.csv"]
    assert rows_of(out / "final.csv")["late"]["Days late"] == "2"


def test_a_forgotten_option_is_said_before_anything_is_graded_again(tmp_path):
    out = graded_class(tmp_path / "graded", ["ada"])
    (tmp_path / "handed_in" / "ada").mkdir(parents=True)
    words = [tmp_path / "handed_in", "--out", out]
    typed = grade_class.make_parser().parse_args([*map(str, words), "--private_data", "secret"])
    before = grade_class.graded_with(grade_class.Options(**vars(typed)))
    history.keep_options(out, before)
    stored = tree(out)
    forgotten = run(CLASS, *words, "--workers", 1)
    assert_clear_error(forgotten, "--private_data was secret and is not given", "--changed_options")
    assert {name: sha for name, sha in tree(out).items() if name != ".lock"} == stored
    changed = history.expect_same_options(out, {**before, "gen_num": 7}, agreed=True)
    assert changed == ["--gen_num was 100 and is 7"]
    assert history.expect_same_options(out, before, agreed=False) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("due = 2026-11-20T23:59:00", "expected a time with its zone"),
        ('language = "de"', 'expected "en" or "zh"'),
        ("[late]\npercent_per_day = -1", "percent_per_day is -1; expected a number from 0 to 100"),
        ("[late]\nbank_days = 1.5", "expected a whole number"),
        ("[late]\nper_day = 1", "per_day is unknown; expected bank_days, grace_hours"),
        ("due = ", "not a TOML file"),
    ],
)
def test_a_mistake_in_the_course_is_an_error(tmp_path, text, words):
    file = tmp_path / "course.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match=re.escape(words)):
        read_course(file)


def test_the_example_of_a_course_can_be_read():
    course = read_course(ROOT / "staff" / "course.toml")
    assert course.late == Policy(10, 1, 2) and course.due == DUE


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (read_extensions, "student,until\nada,2026-11-22\n", "expected a time like"),
        (read_extensions, "student,until\nzoe,2026-11-22 12:00\n", "no student 'zoe'"),
        (read_overrides, "ada,sum,1,x,K,2026-12-01\n", "line 2: there is no part 'sum'"),
        (read_overrides, "ada,total,131,x,K,2026-12-01\n", "expected 0 to 130"),
        (read_overrides, "ada,total,1,,K,2026-12-01\n", "reason is empty"),
        (read_overrides, "ada,total,1,x,,2026-12-01\n", "by is empty"),
        (read_overrides, "ada,total,1,x,K,yesterday\n", "on is 'yesterday'"),
        (read_times, "submitted\n2026-11-22\n", "no column student and no column id"),
    ],
)
def test_a_mistake_in_a_table_is_an_error_with_its_line(tmp_path, read, text, words):
    file = tmp_path / "table.csv"
    head = "student,part,points,reason,by,on\n" if read is read_overrides else ""
    file.write_text(head + text, encoding="utf-8")
    more = () if read is read_overrides else (Course(due=DUE),)
    with pytest.raises(TableError, match=re.escape(words)):
        read(file, {"ada"}, *more)


def test_times_come_from_the_table_of_collected_students(tmp_path):
    file = tmp_path / "collected.csv"
    head = "id,name,email,platform,number,submitted,late,group,files,help,notes\r\n"
    rows = '2026 01,Ada,ada@uni.edu,moodle,12,"20 November 2026, 11:58 PM",no,,,,\r\n'
    file.write_text(head + rows, encoding="utf-8-sig")
    times = read_times(file, {"2026-01"}, Course(due=DUE))
    assert times["2026-01"].at == datetime(2026, 11, 20, 23, 58, tzinfo=UTC)
    assert times["2026-01"].email == "ada@uni.edu"
    out = graded_class(tmp_path / "graded", ["2026-01"])
    typed = grade_class.make_parser().parse_args([str(tmp_path), "--out", str(out)])
    files = grade_class.tables_of(grade_class.Options(**vars(typed)), {"2026-01"})
    assert files["times"].parent == out  # grading keeps a copy for the grade book
    assert read_book(out)[1].times["2026-01"].email == "ada@uni.edu"


# ---------------------------------------------------------------- the pages


@pytest.fixture
def book(tmp_path, request) -> Path:
    """A class with a flagged student; the pages are in the language of the parameter."""
    unbroken = {"status": "student error", "message": 300 * "x", "name": 60 * "y"}
    changes = {"eve": flagged("eve", "1002"), "unbroken": unbroken}
    out = graded_class(tmp_path / "graded", ["ada", "eve", "unbroken"], **changes)
    course = tmp_path / "course.toml"
    course.write_text(f'language = "{request.param}"\n{COURSE}', encoding="utf-8")
    times = tmp_path / "times.csv"
    times.write_text(TIMES.replace("late,", "ada,"), encoding="utf-8")
    results, decisions, _ = read_book(out, {"course": course, "times": times})
    write_book(out, results, decisions)
    report.write_report(out, results)
    return out


@pytest.mark.parametrize("book", ["zh"], indirect=True)
def test_the_feedback_is_in_the_language_of_the_course(book):
    page = (book / "students" / "ada" / "feedback.html").read_text(encoding="utf-8")
    for words in (
        "做得好的部分",
        "下一步做什么",
        "KL 项的符号反了",
        "迟交天数：2",
        "满分 130",
        "已评分",
    ):
        assert words in page, words
    for english in (
        "What went well",
        "points",
        "Handed in",
        ">part<",
        "Graded",
        "wrong sign",
        "factor",
    ):
        assert english not in page, english


SCROLLS = """() => [...document.querySelectorAll(".wide")].filter(one =>
  one.scrollWidth > one.clientWidth).map(one => one.innerText.slice(0, 80))"""


@needs_browser
@pytest.mark.parametrize("book", ["en", "zh"], indirect=True)
def test_nothing_of_the_pages_is_cut_off_on_a_phone(book):
    with chromium() as browser:
        pages = ("students/ada/feedback.html", "students/unbroken/feedback.html", "report.html")
        for page in pages:
            shown = Opened(browser, address_of(book / page), viewport=PHONE)
            assert shown.page.evaluate(CUT_OFF) == [], page
            width = shown.page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], page
            if page != "report.html":  # whose leaderboard scrolls by itself
                assert shown.page.evaluate(SCROLLS) == [], page
            assert shown.complaints == []


@pytest.mark.parametrize("book", ["en"], indirect=True)
def test_only_staff_see_flags(book):
    assert FLAG in rows_of(book / "staff.csv")["eve"]["Flags"]
    assert FLAG in (book / "report.html").read_text(encoding="utf-8")
    for name in ("final.csv", "grades.csv", "students/eve/feedback.html"):
        text = (book / name).read_text(encoding="utf-8-sig")
        assert FLAG not in text and "2.71828" not in text
        assert "flag" not in re.sub("<style>.*?</style>", "", text, flags=re.DOTALL).lower(), name
    result = json.loads((book / "students/eve/result.json").read_text(encoding="utf-8"))
    assert "flag" not in json.dumps(for_student(result, [])).lower()
