"""A class is graded without losses: killed, changed, graded again, with points and marks."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
import zipfile

import psutil
import pytest
from conftest import ROOT, assert_clear_error, reachable_sockets, run, start
from handed_in import CLASS, hand_in, needs_bubblewrap, result_of, run_class
from mistakes import MISTAKES


@pytest.fixture
def small_class(tmp_path, trained):
    folder = tmp_path / "class"
    for name in ("ada", "bob", "cleo"):
        hand_in(folder / name, trained, ["VAEwolabel"])
    return folder


@needs_bubblewrap
def test_what_is_killed_loses_nothing_and_nothing_is_done_twice(small_class, tmp_path, tiny_data):
    """The grader is killed, then the hand-ins change, then a worker of the next run is killed."""
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    words = [CLASS, small_class, "--out", out, "--no_private", "--scores_only"]
    words += [word for name in ("test", "train", "valid") for word in (f"--{name}_data", tiny_data)]
    temporary.mkdir()
    process = start(*words, "--workers", 1, env={"TMPDIR": str(temporary)})
    while not (out / ".lock").exists():
        time.sleep(0.05)
    assert_clear_error(run(*words), f"in use by process {process.pid} on")
    while len(list(out.glob("students/*/result.json"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {file: file.stat().st_mtime_ns for file in out.glob("students/*/result.json")}
    assert [file.parent.name for file in sorted(done)] == ["ada", "bob"]

    # Only what is new or has changed is graded; a zip counts as a student.
    code = small_class / "bob" / "submission.py"
    code.write_text(code.read_text(encoding="utf-8") + "\n# better\n", encoding="utf-8")
    with zipfile.ZipFile(small_class / "eve.zip", "w") as archive:
        archive.write(code, "lab/submission.py")
        archive.write(small_class / "bob" / "VAEwolabel.pth", "lab/weights.pth")
    process = start(*words, "--workers", 2)

    def new() -> list:
        files = out.glob("students/*/result.json")
        return [file for file in files if done.get(file) != file.stat().st_mtime_ns]

    while not new():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    assert not reachable_sockets(process)
    children = psutil.Process(process.pid).children()
    workers = [child for child in children if "--multiprocessing-fork" in child.cmdline()]
    assert len(workers) == 2
    workers[0].kill()
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stdout + stderr
    assert "3 graded now, 4 in all" in stdout or (
        "2 graded now, 4 in all" in stdout  # the killed run's worker may have finished its student
    )
    assert sorted(file.parent.name for file in new()) == ["bob", "cleo", "eve"]
    results = [result_of(out, key) for key in ("ada", "bob", "cleo", "eve")]
    assert {result["status"] for result in results} == {"graded"}
    assert len({result["tasks"]["VAEwolabel"]["raw"] for result in results}) == 1
    left = [file for folder in (temporary, out) for file in folder.rglob("*.pth")]
    assert not left, "the killed run left files of students"


FORGES_CHECKS = """
import sys
for module in list(sys.modules.values()):
    if hasattr(module, "Recording"):
        forged = b'{"shapes": {"VAE.built": [1]}, "problems": {}}\\n1234'
        module.Recording.to_bytes = lambda self: forged
"""


@needs_bubblewrap
def test_points_of_a_class(tmp_path, trained, tiny_data):
    """Tests, scores and marks of a person together; a submission without checkpoints; a forger."""
    folder, out, marks = tmp_path / "class", tmp_path / "out", tmp_path / "marks.csv"
    hand_in(folder / "ada", trained)
    for name, code in (
        ("bob", next(one.text for one in MISTAKES if one.name == "KL sign")),
        ("eve", FORGES_CHECKS + (ROOT / "model.py").read_text(encoding="utf-8")),
    ):
        (folder / name).mkdir()
        (folder / name / "submission.py").write_text(code, encoding="utf-8")
    marks.write_text("student,part,points,comment\nada,0.1a,9,\neve,2.3,15,was right\n")
    more = ["--no_private", "--no_reports", "--workers", 1]
    completed = run_class(folder, out, tiny_data, *more, "--marks", marks)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    points = {name: result_of(out, name)["completion"]["points"] for name in ("ada", "bob", "eve")}
    assert points == {"ada": 50, "bob": 45, "eve": 0}
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        rows = {row["Submission"]: row for row in csv.DictReader(file)}
    scores = result_of(out, "ada")["score"]
    assert float(rows["ada"]["Grade"]) == pytest.approx(50 + 9 + scores, abs=0.006)
    assert rows["ada"]["Maximum Grade"] == "130" and rows["ada"]["0.2 (of 10)"] == ""
    with open(out / "final.csv", encoding="utf-8-sig", newline="") as file:
        finals = {row["Submission"]: row["Total (of 130)"] for row in csv.DictReader(file)}
    assert float(finals["ada"]) == pytest.approx(50 + 9 + scores)
    assert (out / "history" / "0001" / "students" / "ada" / "result.json").is_file()
    assert float(rows["bob"]["Grade"]) == 45 and rows["bob"]["2.3 (of 15)"] == "13"
    assert float(rows["eve"]["Grade"]) == 15 and rows["eve"]["2.3 (of 15)"] == "15.0"
    assert "there is no checkpoint" in rows["bob"]["Feedback comments"]
    assert rows["ada"]["Status"] == "graded" and rows["bob"]["Status"] == "no checkpoint"
    page = (out / "students" / "bob" / "feedback.html").read_text(encoding="utf-8")
    assert "the KL term has the wrong sign" in page and "3.5" in page
    assert "hand in VAEwolabel.pth" in page and "contract breach" not in page
    page = (out / "students" / "eve" / "feedback.html").read_text(encoding="utf-8")
    assert "was right" in page and "cannot be tested before TODO 2.2.1" in page
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "1 x the KL term has the wrong sign" in page
    assert "1 x not tested before another TODO" in page and "cannot be tested" not in page
    to_check = page.partition("<h2>To check</h2>")[2].partition("<h2>")[0]
    assert to_check.count("hand in Genwithlabel.pth, the best.pth of your run of it") == 2
    assert "ada" not in to_check

    marks.write_text("student,part,points,comment\nada,0.1a,11,\n")
    again = [CLASS, folder, "--out", out, "--test_data", tiny_data, "--gen_num", 20]
    again += ["--no_reports", "--workers", 1]
    assert_clear_error(run(*again, "--no_private", "--marks", marks), "line 2", "expected 0 to 10")
    marks.unlink()
    completed = run(*again, "--no_private")  # the marks of the first run stay
    assert "0 graded now" in completed.stdout and "marks: 2" in completed.stdout
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        rows = {row["Submission"]: row for row in csv.DictReader(file)}
    assert float(rows["eve"]["Grade"]) == 15
    assert_clear_error(run(*again, "--no_private", "--scores_only"), "holds completion points")
    assert_clear_error(run(*again), "--no_private was on and is off", "--changed_options")
    completed = run(*again, "--no_private", "--no_marks")
    assert "0 graded now" in completed.stdout and "history/0003" in completed.stdout
    kept = json.loads((out / "history" / "0002" / "run.json").read_text(encoding="utf-8"))
    assert "marks.csv" in kept["tables"] and not (out / "history/0003/marks.csv").exists()
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        assert {row["Grade"] for row in csv.DictReader(file)} >= {"45.0", "0.0"}

    # A regrade lists every grade that changed: here a stored one, to stand for an older grader's.
    for name in ("ada", "eve"):
        shutil.rmtree(folder / name)
    file = out / "students" / "bob" / "result.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    older = json.loads(json.dumps(result))
    older["completion"]["parts"]["2.3"]["points"] = 15
    file.write_text(json.dumps(older), encoding="utf-8")
    completed = run(*again, "--no_private", "--regrade")
    assert "1 graded now" in completed.stdout
    assert "changed:  bob: 47.00 to 45.00" in completed.stdout
    with open(out / "regrade.csv", encoding="utf-8", newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert float(row["Grade now"]) == pytest.approx(result["points"]) == 45
