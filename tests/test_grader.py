"""Grading one student in this process, and the hash of what a score depends on."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run
from handed_in import CLASS, copied, hand_in, needs_bubblewrap, result_of

from data_utils import MNISTDataset
from staff import class_split, grade_class, sandbox, walls
from staff.class_folder import students_in
from staff.closure import DATA_FILES, closure
from staff.collect.table import COLLECTED, COLLECTED_COLUMNS, table_bytes
from staff.completion import completion
from staff.grade_class import grader_sha256
from staff.pages import TEMPLATES
from staff.student import grade_student, read_result

# The files that a score depends on: the closure of what grades a student and of the stage.
GRADER = closure([ROOT / "staff" / "student.py", ROOT / "staff" / "stage.py"])
GRADER_NAMES = [file.relative_to(ROOT).as_posix() for file in [*GRADER, *DATA_FILES]]


@pytest.fixture(scope="module")
def grader_copy(tmp_path_factory) -> Path:
    return copied([*GRADER, *DATA_FILES], tmp_path_factory.mktemp("grader"))


@pytest.mark.parametrize("name", GRADER_NAMES)
def test_a_change_in_any_file_that_grades_changes_the_hash(grader_copy, name):
    sums = {"test": "1", "train": "2"}
    before = grader_sha256(sums, grader_copy)
    assert before == grader_sha256(sums)
    file = grader_copy / name
    content = file.read_bytes()
    try:
        file.write_bytes(content + b"\n# changed\n")
        assert grader_sha256(sums, grader_copy) != before
    finally:
        file.write_bytes(content)


def test_the_hash_covers_what_makes_a_score_and_not_the_report():
    scores = {"grade.py", "lab/stages.py", "data_utils.py", "lab/metrics.py", "lab/convolutions.py"}
    scores |= {"lab/evaluation/judge.py", "lab/judge/judge.pth", "staff/task.py", "staff/walls.py"}
    assert scores <= set(GRADER_NAMES)
    assert not {"staff/report.py", "staff/grades.py", "staff/handout.py"} & set(GRADER_NAMES)
    assert len({grader_sha256({"test": test}) for test in "12"}) == 2


def test_the_sandbox_contains_no_grader_no_trainer_and_no_data():
    shown = {name.removeprefix("/lab/") for name in walls.lab_files()}
    assert {"staff/stage.py", "staff/probe.py", "data_utils.py", "lab/convolutions.py"} <= shown
    kept = {"grade.py", "train.py", "trainer.py", "check.py", "submission.py", "lab/metrics.py"}
    kept |= {"lab/evaluation/judge.py", "staff/task.py", "staff/student.py", "staff/sandbox.py"}
    assert not shown & kept and all(name.endswith(".py") for name in shown)


@needs_bubblewrap
def test_a_changed_grader_grades_every_student_again(tmp_path, trained, tiny_data):
    """The command runs in a copy that contains only the closure."""
    entries = [ROOT / "staff" / name for name in ("grade_class.py", "stage.py")]
    lab = copied([*closure(entries), *DATA_FILES, *TEMPLATES.iterdir()], tmp_path / "lab")
    folder = tmp_path / "class"
    hand_in(folder / "ada", trained, ["VAEwolabel"])
    words = [CLASS, folder, "--out", tmp_path / "out", "--gen_num", 20, "--workers", 1]
    words.append("--scores_only")
    words += ["--no_private"]
    words += [
        word for split in ("test", "train", "valid") for word in (f"--{split}_data", tiny_data)
    ]

    def graded() -> str:
        completed = run(*words, cwd=lab, env={"PYTHONPATH": str(lab)})
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    assert "1 graded now, 1 in all" in graded()
    before = result_of(tmp_path / "out", "ada")
    assert "0 graded now, 1 in all" in graded()
    with open(lab / "lab" / "convolutions.py", "a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert "1 graded now, 1 in all" in graded()
    after = result_of(tmp_path / "out", "ada")
    assert after["score"] == before["score"]
    assert after["grader_sha256"] != before["grader_sha256"]


@pytest.fixture
def one_student(tmp_path, trained, tiny_data):
    """A student, and a job to grade them with in this process: scores, without a private split."""
    hand_in(tmp_path / "class" / "ada", trained, ["VAEwolabel"])
    words = [tmp_path / "class", "--out", tmp_path / "out", "--gen_num", 20, "--no_private"]
    words += [word for name in ("test", "train", "valid") for word in (f"--{name}_data", tiny_data)]
    words.append("--scores_only")
    args = grade_class.make_parser().parse_args([*map(str, words)])
    job = grade_class.make_job(grade_class.Options(**vars(args)))
    (student,) = students_in(tmp_path / "class")
    return student, job


@needs_bubblewrap
def test_a_grader_error_gives_no_score_and_is_tried_again(one_student, monkeypatch):
    student, job = one_student
    job = dataclasses.replace(job, checks=True)
    with monkeypatch.context() as broken:
        files = {**sandbox.lab_files(), "/lab/not_there.py": ROOT / "not_there.py"}
        broken.setattr(sandbox, "lab_files", lambda: files)
        result = grade_student(student, job)
    assert result["status"] == "grader error" and result["score"] is None
    assert read_result(job.folder(student))["score"] is None
    result = grade_student(student, job)
    assert result["status"] == "graded" and result["score"] > 0 and result["new"]
    missing = result["tasks"]["Genwithlabel"]
    assert missing["status"] == "no checkpoint" and "hand in Genwithlabel.pth" in missing["message"]
    page = (job.folder(student) / "feedback.html").read_text(encoding="utf-8")
    assert missing["message"] in page and "contract breach" not in page
    assert not grade_student(student, job)["new"]


@needs_bubblewrap
def test_an_absentee_has_a_row_with_0(one_student, tmp_path):
    job, collected = one_student[1], tmp_path / "collected"
    rows = [{"id": key, "name": name} for key, name in (("1", "Ada"), ("2", "王伟"))]
    (collected / "1").mkdir(parents=True)  # whose files could not be read
    (collected / COLLECTED).write_bytes(table_bytes(COLLECTED_COLUMNS, rows))
    nothing_read, absent = students_in(collected)
    assert grade_student(nothing_read, job)["message"].startswith("there is no submission.py")
    result = grade_student(absent, job)
    assert (result["status"], result["score"], result["points"]) == ("nothing handed in", 0, 0)
    assert (result["name"], result["message"]) == ("王伟", "nothing was handed in.")
    assert not grade_student(absent, job)["new"]
    feedback = (job.folder(absent) / "feedback.html").read_text(encoding="utf-8")
    assert "nothing handed in" in feedback


@needs_bubblewrap
def test_a_stage_that_is_slow_to_start_is_a_grader_error(one_student):
    student, job = one_student
    limits = dataclasses.replace(job.limits, seconds=0.3)  # torch takes longer to import
    result = grade_student(student, dataclasses.replace(job, limits=limits))
    assert result["status"] == "grader error" and result["score"] is None


@needs_bubblewrap
def test_checkpoints_of_no_task_or_of_one_twice_are_reported(one_student):
    student, job = one_student
    shutil.copy(student.path / "VAEwolabel.pth", student.path / "best.pth")
    (student.path / "weights.pth").write_bytes(b"none")
    result = grade_student(student, job)
    assert result["status"] == "contract breach"
    assert result["tasks"]["VAEwolabel"]["status"] == "graded" and result["score"] > 0
    assert "second checkpoint of VAEwolabel" in result["message"]
    assert "weights.pth: it is not a checkpoint of a task" in result["message"]
    assert (job.folder(student) / "feedback.html").is_file()


@needs_bubblewrap
def test_codes_in_another_memory_order_score_the_same(one_student):
    student, job = one_student
    before = grade_student(student, job)
    code = (student.path / "submission.py").read_text(encoding="utf-8")
    mu = "        return self.mu(hidden), self.log_var(hidden)\n"
    assert mu in code
    turned = mu.replace("self.mu(hidden)", "self.mu(hidden).T.contiguous().T")
    (student.path / "submission.py").write_text(code.replace(mu, turned), encoding="utf-8")
    after = grade_student(student, job)
    assert after["new"] and after["score"] == before["score"]


@needs_bubblewrap
def test_the_private_split_counts_if_staff_choose_it(one_student, tmp_path):
    student, job = one_student
    secret = "0" * 32
    split = class_split.class_split(tmp_path / "private", job.test_data, secret, 60)
    sums = {**job.data_sha256, "private": MNISTDataset(split).sha256}
    more = {"private_data": split, "data_sha256": sums, "secret": secret}
    chosen = dataclasses.replace(job, count="private", **more)
    result = grade_student(student, chosen)
    task = result["tasks"]["VAEwolabel"]
    assert task["private"]["n"] == 60 and task["n"] == 120
    assert result["score"] == task["private"]["score"] != min(task["raw"], task["cap"])
    page = (job.folder(student) / "feedback.html").read_text(encoding="utf-8")
    assert f"Grade {result['score']:.2f} of 10" in page and "not published" in page


@needs_bubblewrap
def test_a_failure_on_the_private_split_tells_nothing_if_it_counts(one_student, monkeypatch):
    student, job = one_student
    sums = {**job.data_sha256, "private": "0"}
    chosen = dataclasses.replace(job, private_data=job.test_data, count="private", data_sha256=sums)
    run_stage, calls = sandbox.run_stage, []

    def fails_at_first(stage, *arguments, **named):
        calls.append(stage)
        if len(calls) == 1:
            return sandbox.Outcome("student error", "PRIVATE pixels", log="PRIVATE")
        return run_stage(stage, *arguments, **named)

    monkeypatch.setattr(sandbox, "run_stage", fails_at_first)
    result = grade_student(student, chosen)
    assert calls == ["encode", "encode", "decode"]
    assert result["status"] == "student error" and result["score"] == 0
    assert "images that are not published" in result["message"]
    assert "PRIVATE" not in result["message"] and "PRIVATE pixels" in result["flags"][0]
    assert "PRIVATE" not in (job.folder(student) / "feedback.html").read_text(encoding="utf-8")


@needs_bubblewrap
def test_a_method_that_does_not_end_costs_its_own_points_alone(one_student):
    student, job = one_student
    code, decode = student.path / "submission.py", "return self.decoder(z)"
    text = code.read_text(encoding="utf-8")
    assert decode in text
    code.write_text(text.replace(decode, "while True: pass"), encoding="utf-8")
    limits = dataclasses.replace(job.limits, seconds=72)  # 2 for an experiment
    found = completion(code, dataclasses.replace(job, limits=limits))
    lost = {number: one["of"] - one["points"] for number, one in found["parts"].items()}
    assert found["message"] == ""
    assert {number for number, points in lost.items() if points} == {"2.2.3", "3.3"}
    (problem,) = found["parts"]["2.2.3"]["problems"]
    assert "during decode: it did not end within 2 seconds" in problem["text"]
