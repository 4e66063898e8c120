"""The tables of a class: marks of a person, cells, and names of learning platforms."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from staff import grades, similar
from staff.class_folder import students_in
from staff.marks import Mark, read_marks
from staff.submissions import HandedInError, Student, take
from staff.tables import TableError, escaped


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("student,part,points\n", "expected student, part, points, comment"),
        ("student,part,points,comment\nzoe,0.2,1,\n", "line 2: there is no student 'zoe'"),
        ("student,part,points,comment\nada,0.9,1,\n", "line 2: there is no part '0.9'"),
        ("student,part,points,comment\nada,0.2,ten,\n", "line 2: 'ten' points for 0.2"),
        ("student,part,points,comment\nada,0.2,1,\nada,0.2,2,\n", "line 3: a second mark"),
        ("student,part,points,comment\nada,0.2,1,good, late\n", "line 2: more cells than columns"),
        ('student,part,points,comment\nada,0.1a,1,"a\nb"\nada,0.2,1e1,\n', "line 4: '1e1' points"),
        ("student part points comment\n", "has the columns student part points comment"),
    ],
)
def test_a_mistake_in_the_marks_is_an_error_with_its_line(tmp_path, text, words):
    file = tmp_path / "marks.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=re.escape(words)):
        read_marks(file, {"ada"})


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "gb18030")])
def test_marks_may_come_from_any_spreadsheet(tmp_path, separator, encoding):
    file = tmp_path / "marks.csv"
    rows = ["student,part,points,comment", "ada,0.2,7.5,漏了交叉项", ",,,"]
    file.write_text("\n".join(rows).replace(",", separator), encoding=encoding)
    assert read_marks(file, {"ada"})["ada"]["0.2"] == Mark(7.5, "漏了交叉项")


def test_changed_grades_are_found_up_and_down():
    before = {"a": 1.0, "b": 2.0, "c": None, "d": 5.0}
    after = zip("abcd", (2.0, 1.0, 3.0, 5.0))
    results = [{"student": student, "total": points} for student, points in after]
    assert grades.changes(before, results) == [("a", 1.0, 2.0), ("b", 2.0, 1.0), ("c", None, 3.0)]


BEFORE_A_SIGN = ["", " ", "\n", "\t", "\r", "\0", "\u3000", "\ufeff", "\u202e", "a;", "a\n ", "a\t"]


@given(
    some.sampled_from(BEFORE_A_SIGN), some.sampled_from("=+-@＝＋－＠﹣−"), some.text(max_size=9)
)
def test_no_cell_is_a_formula(before, sign, text):
    """Checked for each cell that a spreadsheet may see, and without what it may ignore."""
    for value in (before + sign + text, before + text):
        cells = re.split("[;\t\r\n]", escaped(value))
        for cell in cells:
            seen = [c for c in cell if c.isprintable() and not c.isspace()]
            assert not seen or seen[0] not in "=+-@＝＋－＠﹣−"


@given(some.text(some.characters(categories=["L", "Nd"]), min_size=1), some.text(max_size=9))
def test_other_cells_are_unchanged(word, text):
    value = word + re.sub("[;\t\r\n]", ",", text)
    assert escaped(value) == value
    assert escaped(-1.5) == -1.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ada Lovelace_123_assignsubmission_file_", ("Ada Lovelace", "moodle", "123")),
        ("lovelaceada_4711_815_lab.zip", ("lovelaceada", "canvas", "4711")),
        ("lovelaceada_LATE_4711_815_lab.zip", ("lovelaceada", "canvas", "4711")),
        ("submission_98765", ("submission_98765", "gradescope", "")),
        ("ada", ("ada", "", "")),
    ],
)
def test_name_platform_and_number_of_a_student(tmp_path, name, expected):
    path = tmp_path / name
    path.write_bytes(b"") if name.endswith(".zip") else path.mkdir()
    (student,) = students_in(tmp_path)
    assert (student.name, student.platform, student.number) == expected


def test_keys_are_unique_and_safe_as_file_names(tmp_path):
    for name in ("a b", "a-b", "A B", "ä/ö".replace("/", "?"), "..."):
        (tmp_path / name).mkdir()
    students = students_in(tmp_path)
    keys = [student.key.lower() for student in students]
    assert len(set(keys)) == len(keys) == 4  # "..." is hidden
    assert all("/" not in key and not key.startswith(".") for key in keys)


def test_two_checkpoints_of_a_task_are_refused(tmp_path):
    for name in ("submission.py", "VAEwolabel.pth", "VAEwolabel_2.pth"):
        (tmp_path / name).write_bytes(b"x")
    student = Student("ada", "ada", "", "", tmp_path)
    with pytest.raises(HandedInError, match="two checkpoints of VAEwolabel"):
        take(student, tmp_path / "into")


def test_only_a_copied_model_is_a_similar_pair(tmp_path):
    """Two models that draw little but the mean picture, "d" and "e", are not alike by that."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(500, 28, 28)) * rng.random((500, 1, 1))
    similar.keep_mean_errors(tmp_path, images.astype(np.uint8))
    mean = np.load(tmp_path / similar.MEAN_ERRORS)
    errors = rng.random(500).astype(np.float32)
    models = {"a": errors, "b": errors + 0.001, "c": errors + 0.3 * rng.random(500)}
    models |= {name: mean * (1 + 0.01 * rng.random(500)) for name in ("d", "e")}
    assert np.corrcoef(models["d"], models["e"])[0, 1] > similar.SAME_ERRORS
    results = []
    for name, values in models.items():
        (tmp_path / "students" / name).mkdir(parents=True)
        np.save(tmp_path / "students" / name / "VAEwolabel_errors.npy", values)
        signature = rng.standard_normal(100).tolist()
        tasks = {"VAEwolabel": {"raw": 1.0, "signature": signature}}
        results.append({"student": name, "name": name, "tasks": tasks})
    assert [pair["names"] for pair in similar.similar_pairs(tmp_path, results)] == [["a", "b"]]
