"""Grades on their way back: the importers' own rules take the files, and no flag is in them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from conftest import assert_clear_error, run
from graded import FLAG, flagged, graded_class
from hypothesis import given
from hypothesis import strategies as some
from platforms import Canvas, Moodle

from lab.checks.rubric import most
from staff.gradebook import read_book, write_book
from staff.returning import canvas, classroom50, moodle
from staff.returning.sheet import ReturnError

PEOPLE = {
    1001: ("Ada_Ann Lovelace", "ada@uni.edu"),
    1002: ("李雷", "lei@uni.edu"),
    1003: ('Bob "Bobby" O\'Neil; Jr', "bob@uni.edu"),
    1004: ("Carl", "carl@uni.edu"),
}
HARD = {"name": "Ada_Ann Lovelace", "message": "<b>1 + 1"}


@pytest.fixture
def out(tmp_path) -> Path:
    """A class of three in Moodle: a name with an underscore, a flagged one, one not graded."""
    failed = {"status": "grader error", "score": None, "name": "Bob"}
    changes = {"ada": HARD, "eve": {**flagged("eve", "1002"), "name": "李雷"}, "bob": failed}
    out = graded_class(tmp_path / "graded", ["ada", "eve", "bob"], **changes)
    results, decisions, _ = read_book(out)
    write_book(out, results, decisions)
    return out


@pytest.mark.parametrize("language", ["en", "de", "zh"])
@pytest.mark.parametrize(("separator", "bom"), [(",", False), (";", True), ("\t", True)])
def test_moodle_takes_its_own_worksheet_back(tmp_path, out, language, separator, bom):
    site = Moodle(language, PEOPLE, grades={1004: 12.0})
    worksheet, file = tmp_path / "worksheet.csv", tmp_path / "filled.csv"
    worksheet.write_bytes(site.worksheet(separator, bom))
    results, _, _ = read_book(out)
    filled = moodle.fill_worksheet(worksheet, file, results, {}, "en", most())
    assert filled.numbers == {"ada": "1001", "eve": "1002"} and filled.without_grade == 2
    assert file.read_bytes().startswith("\ufeff".encode()) == bom
    before = {**site.grades}
    assert site.import_worksheet(file.read_bytes(), separator) == 2
    assert site.grades == {1001: 75.62, 1002: 75.62, **before}  # Carl's is left alone
    assert "Total 75.62 of 130" in site.comments[1001] and set(site.comments) == {1001, 1002}
    assert "&lt;b&gt;1 + 1" in site.comments[1001]  # Moodle shows a comment as HTML
    rows = [line.split(separator) for line in file.read_text(encoding="utf-8-sig").splitlines()]
    assert rows[0] == site.head  # the names are Moodle's own


def test_a_table_of_our_own_is_refused_by_moodle(out):
    with pytest.raises(ValueError, match="invalidgradeimport"):
        Moodle("en", PEOPLE).import_worksheet((out / "grades.csv").read_bytes())


def test_students_without_a_number_are_found_by_their_address(tmp_path, out):
    graded_class(out, ["ada"], ada={"platform": "", "number": ""})
    site, worksheet = Moodle("en", PEOPLE), tmp_path / "worksheet.csv"
    worksheet.write_bytes(site.worksheet())
    results, _, _ = read_book(out)
    emails = {"ada": "Ada@Uni.edu"}
    filled = moodle.fill_worksheet(worksheet, tmp_path / "f.csv", results, emails, "zh", most())
    assert filled.numbers["ada"] == "1001"
    site.import_worksheet((tmp_path / "f.csv").read_bytes())
    assert "总分 75.62 / 130" in site.comments[1001] and "KL 项的符号反了" in site.comments[1001]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("Last modified (grade)", "Changed"), "no column Last modified"),
        (lambda text: text.replace("130.00", "100.00").replace(",Yes", ",No"), None),
        (lambda text: text.replace("130.00", "50.00"), "states 50.00 as the maximum grade"),
        (lambda text: text.replace("Maximum grade", "Scale"), "graded on a scale"),
        (lambda text: text.replace("Participant 1002", "Participant 1001"), "two rows of Ada"),
        (lambda text: "", "is empty"),
        (lambda text: text + "a,b,c,d,e,f,g,h,i,j,k,l\r\n", "row 6 has 12 cells"),
    ],
)
def test_what_moodle_would_refuse_or_skip_is_an_error(tmp_path, out, change, words):
    worksheet = tmp_path / "worksheet.csv"
    worksheet.write_text(change(Moodle("en", PEOPLE).worksheet().decode()), encoding="utf-8")
    results, _, _ = read_book(out)

    def fill() -> None:
        moodle.fill_worksheet(worksheet, tmp_path / "filled.csv", results, {}, "en", most())

    if words is None:  # 100 are enough for these grades
        fill()
        return
    with pytest.raises(ReturnError, match=re.escape(words)):
        fill()
    assert not (tmp_path / "filled.csv").exists()


def test_another_language_is_told_by_the_names_of_its_columns(tmp_path, out):
    worksheet = tmp_path / "worksheet.csv"
    head = "Identifiant,Nom complet,Note,Dernière modification (note),Feedback par commentaires"
    worksheet.write_text(f"{head}\nParticipant1001,Ada,,-,\n", encoding="utf-8")
    words = ["staff.return_grades", out, "--moodle_worksheet", worksheet]
    assert_clear_error(run(*words), "--moodle_columns")
    names = "Identifiant,Note,Dernière modification (note),Feedback par commentaires"
    completed = run(*words, "--moodle_columns", names)
    assert completed.returncode == 0, completed.stderr
    assert "not in the platform's file: 李雷" in completed.stdout
    text = (out / "return" / "moodle_worksheet.csv").read_text(encoding="utf-8")
    assert 'Participant1001,Ada,75.62,-,"Total 75.62' in text


EXPORT = """Student,ID,SIS User ID,SIS Login ID,Section,Lab 1 (11),Lab 2 (12),Lab 2b (3),Final Score
,,,,,Manual Posting,,,
"    Points Possible",,,,,40,130,5,(read only)
"Lovelace, Ada",4711,a1,ada@uni.edu,S1,30,,1,70
"Bear, Bob",4712,b2,bob@uni.edu,S1,31,3,2,71
"Cat, Cleo",4713,c3,cleo@uni.edu,S1,32,4,3,72
"""


@pytest.mark.parametrize("separator", [",", ";"])
def test_canvas_gets_only_the_graded_column(tmp_path, out, separator):
    rows = list(csv.reader(io.StringIO(EXPORT)))
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    export, file = tmp_path / "export.csv", tmp_path / "canvas.csv"
    export.write_text(text.getvalue(), encoding="utf-8", newline="")
    graded_class(out, ["ada"], ada={"platform": "canvas", "number": "4711"})
    results, _, _ = read_book(out)
    with pytest.raises(ReturnError, match="2 columns of assignments that begin with 'Lab 2'"):
        canvas.fill_export(export, file, results, {}, "Lab 2")
    emails = {"eve": "CLEO@uni.edu"}
    filled = canvas.fill_export(export, file, results, emails, "Lab 2 (")
    assert filled.numbers == {"ada": "4711", "eve": "4713"} and filled.without_grade == 1
    course = Canvas({row[1]: dict(zip(rows[0][5:8], row[5:8])) for row in rows[3:]})
    assert course.take(file.read_bytes()) == {"Lab 2 (12)"}
    assert list(course.grades["4711"].values()) == ["30", "75.62", "1"]
    assert course.grades["4712"]["Lab 2 (12)"] == "3"  # not erased by an empty cell
    canvas.write_comments(tmp_path / "comments.csv", results, filled.numbers, "en", most())
    with open(tmp_path / "comments.csv", encoding="utf-8-sig", newline="") as opened:
        comments = {row["ID"]: row["Comment"] for row in csv.DictReader(opened)}
    assert "the KL term has the wrong sign" in comments["4711"] and set(comments) == {
        "4711",
        "4713",
    }


def test_a_read_only_column_of_canvas_is_an_error(tmp_path, out):
    export = tmp_path / "export.csv"
    export.write_text(EXPORT.replace(",130,", ",(read only),"), encoding="utf-8")
    with pytest.raises(ReturnError, match="is read only"):
        canvas.fill_export(export, tmp_path / "canvas.csv", read_book(out)[0], {}, "Lab 2 (")


SUBMISSION = {
    "schema": "classroom50/result/v1",
    "classroom": "vae",
    "assignment_type": "individual",
    "owner": "Ada",
    "submission": "submit/2026-11-20T15-58-00Z-a1b2c3d",
    "commit": "https://example.edu/commit",
    "release": "https://example.edu/release",
    "review": "https://example.edu/review",
    "datetime": "2026-11-20T15:58:00Z",
    "score": 0,
    "max-score": 0,
    "tests": [],
    "late": False,
}


def test_classroom_50_gets_results_of_its_form(tmp_path, out):
    entries = [{"owner": name, "submissions": [SUBMISSION]} for name in ("Ada", "zoe")]
    scores = {
        "schema": "classroom50/scores/v1",
        "assignments": {"lab-2": {"type": "individual", "entries": entries}},
    }
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(scores), encoding="utf-8")
    words = ["staff.return_grades", out, "--classroom50_scores", file, "--assignment"]
    assert_clear_error(run(*words, "lab-3"), "no assignment 'lab-3'", "lab-2")
    completed = run(*words, "lab-2")
    assert completed.returncode == 0 and "1 students" in completed.stdout, completed.stderr
    written = out / "return" / "classroom50" / "Ada" / "result.json"
    found = json.loads(written.read_text(encoding="utf-8"))
    # The rules of schemas/result-v1.schema.json: no other entries, and whole numbers in range.
    assert set(found) == SUBMISSION.keys() - {"late"} | {"assignment"}
    assert {name: found[name] for name in classroom50.COPIED} == {
        name: SUBMISSION[name] for name in classroom50.COPIED
    }
    assert (found["score"], found["max-score"]) == (76, 130)
    for one in [found, *found["tests"]]:
        assert type(one["score"]) is int and 0 <= one["score"] <= one["max-score"]
    assert sum(one["score"] for one in found["tests"]) == 76


@given(some.lists(some.integers(0, 30).flatmap(
    lambda of: some.tuples(some.floats(0, 1).map(lambda share: share * of), some.just(of))
), max_size=20))  # fmt: skip
def test_whole_points_add_up_and_stay_in_range(parts):
    whole = classroom50.whole_points([points for points, _ in parts])
    assert abs(sum(whole) - sum(points for points, _ in parts)) <= 0.5 + 1e-9
    assert all(0 <= one <= of for one, (_, of) in zip(whole, parts))


def test_no_flag_reaches_a_student_on_any_way(tmp_path, out):
    """Every file that is given to students or to a platform, made by the command."""
    (out / "students" / "eve" / "VAEwolabel_report.html").write_text("<p>more</p>")
    site, worksheet, export = Moodle("en", PEOPLE), tmp_path / "w.csv", tmp_path / "e.csv"
    worksheet.write_bytes(site.worksheet())
    export.write_text(EXPORT, encoding="utf-8")
    times = tmp_path / "times.csv"
    times.write_text("student,submitted,email\neve,,cleo@uni.edu\n", encoding="utf-8")
    assert run("staff.gradebook", out, "--times", times).returncode == 0
    words = ["--moodle_worksheet", worksheet, "--canvas_export", export, "--assignment", "Lab 2 ("]
    completed = run("staff.return_grades", out, *words)
    assert completed.returncode == 0, completed.stderr
    returned = {file.name: file.read_bytes() for file in (out / "return").iterdir()}
    names = {"moodle_worksheet.csv", "moodle_feedback.zip", "canvas.csv", "canvas_comments.csv"}
    assert set(returned) == names
    site.import_zip(returned["moodle_feedback.zip"])
    assert {number: set(files) for number, files in site.files.items()} == {
        1001: {"feedback.html"},
        1002: {"feedback.html", "VAEwolabel_report.html"},
    }
    seen = [*returned.values(), *site.files[1002].values(), (out / "grades.csv").read_bytes()]
    for content in seen:
        text = re.sub("<style>.*?</style>", "", content.decode(errors="replace"), flags=re.DOTALL)
        assert FLAG not in text and "2.71828" not in text and "flag" not in text.lower()
    assert FLAG in (out / "staff.csv").read_text(encoding="utf-8")  # so it would have been seen
