"""The class as a whole and later years: leaderboard, growing report, archive, regrade requests."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsers import CUT_OFF, PHONE, Opened, address_of, chromium, needs_browser
from conftest import assert_clear_error, run
from graded import graded_class
from handed_in import hand_in, needs_bubblewrap, result_of, run_class

from lab.report.references import STORED
from staff import grade_class
from staff.archived import Archived, ArchivedError, Member, write_archive
from staff.class_folder import students_in
from staff.decisions import Decisions
from staff.growing import GrowingReport
from staff.leaderboard import Row, placed
from staff.pseudonyms import Pseudonym, pseudonyms
from staff.report import late_of, write_report
from staff.stored import read_results
from staff.student import grade_student
from staff.verify import compare, files_into

KEYS = ("Emmy-Noether", "Grace-Hopper", "Konrad-Zuse")


# ---------------------------------------------------------------- the report


def test_the_report_grows_and_says_how_many_are_not_graded_yet(tmp_path):
    out = graded_class(tmp_path / "graded", ["ada", "bob", "cleo"])
    results = {one["student"]: one for one in read_results(out)}
    page = GrowingReport(out, [*results], Decisions())
    page.show({"bob": results["bob"]})
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "2 students are not here yet" in text and 'http-equiv="refresh"' in text
    assert "Bob Lovelace" in text and "Ada Lovelace" not in text
    page.show({"bob": results["bob"], "ada": results["ada"]})  # too soon after the first page
    assert (out / "report.html").read_text(encoding="utf-8") == text
    write_report(out, [results["bob"]])
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "not here yet" not in text and "refresh" not in text


def test_the_report_is_there_from_the_first_result_on(tmp_path):
    for name in "abc":
        (tmp_path / "class" / name).mkdir(parents=True)  # without a file: refused at once
    words = [tmp_path / "class", "--out", tmp_path / "out", "--no_private", "--workers", 1]
    typed = grade_class.make_parser().parse_args([*map(str, words), "--unsafe-no-isolation"])
    options = grade_class.Options(**vars(typed))
    (tmp_path / "out").mkdir()
    students, job = students_in(options.folder), grade_class.make_job(options)
    results, _ = grade_class.grade_all(students, job, options, Decisions())
    assert len(results) == 3  # the tables and the whole report come after this
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 students are not here yet" in text and "1 contract breach" in text
    # A name that the roster has corrected is stored, without grading again.
    again = grade_student(replace(students[0], name="Ada"), job)
    assert not again["new"] and result_of(tmp_path / "out", "a")["name"] == "Ada"


def test_the_report_counts_late_and_missing_and_shows_the_raw_scores(tmp_path):
    missing = {"status": "no checkpoint", "message": "", "flags": [], "log": "", "stages": {}}
    out = graded_class(tmp_path, [*"abc"], c={"status": "nothing handed in", "tasks": {}})
    file = out / "students" / "b" / "result.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    result["tasks"]["Genwithlabel"] = missing
    file.write_text(json.dumps(result), encoding="utf-8")
    (out / "course.toml").write_text(
        "due = 2026-11-20T23:59:00+08:00\n[late]\npercent_per_day = 10\n", encoding="utf-8"
    )
    completed = run("staff.gradebook", out, "--course", out / "course.toml", "--report")
    assert "2 students with an unknown hand-in time" in completed.stdout, completed.stderr
    assert "Not known of 2" in (out / "report.html").read_text(encoding="utf-8")
    times = "student,submitted\na,2026-11-20T23:58:00+08:00\nb,2026-11-22T12:00:00+08:00\n"
    (out / "times.csv").write_text(times, encoding="utf-8")
    tables = ["--course", out / "course.toml", "--times", out / "times.csv", "--report"]
    completed = run("staff.gradebook", out, *tables)
    assert completed.returncode == 0, completed.stderr
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "1 handed in nothing, 0 without VAEwolabel, 1 without Genwithlabel" in text
    assert "Late: 1 (1 by 2 days)" in text and "Not known" not in text
    chart = text.split("<title>Genwithlabel: students by raw score")[1].split("</svg>")[0]
    assert chart.count("<rect") == 10 and "<title>6: 1.000</title>" in chart  # raw 8.3456

    (out / "collected.csv").write_text("id,late\na,no\nb,yes\nc,\n", encoding="utf-8")
    without = [{"sums": {"due": ""}}]
    assert late_of(out, without) == {"count": 1, "days": {}, "unknown": 0}
    assert late_of(tmp_path / "elsewhere", without) is None


# ---------------------------------------------------------------- the leaderboard


def test_pseudonyms_are_unique_stable_and_nothing_without_the_salt():
    keys = [f"student-{number}" for number in range(3000)]  # so many that words meet
    found = pseudonyms(keys, "one salt")
    assert len({one.en for one in found.values()}) == len({one.zh for one in found.values()})
    assert len(set(found.values())) == len(keys)
    assert pseudonyms(reversed(keys), "one salt") == found
    other = pseudonyms(keys, "another salt")
    assert sum(found[key] == other[key] for key in keys) < 10


def test_overlapping_intervals_are_ties_and_baselines_take_no_place():
    def row(name: str, raw: float, spread: float, baseline: bool = False) -> Row:
        return Row(Pseudonym(name, name), raw, raw - spread, raw + spread, baseline)

    rows = [row("d", 1, 0.1), row("b", 8, 0.3), row("x", 9, 0.1, True), row("c", 7.6, 0.3)]
    rows += [row("a", 8.5, 0.3)]
    places = {one.name.en: (one.first, one.last) for one in placed(rows)}
    assert list(places) == ["x", "a", "b", "c", "d"]
    assert places.pop("x") == (0, 0)
    assert places == {"a": (1, 2), "b": (1, 3), "c": (2, 3), "d": (4, 4)}


@pytest.fixture
def published(tmp_path) -> Path:
    """A class with a leaderboard, on the lab's test split."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    (sha256,) = (sha256 for sha256, one in stored.items() if one["split"] == "test")
    out = graded_class(
        tmp_path / "graded", [*KEYS], **{key: {"data_sha256": {"test": sha256}} for key in KEYS}
    )
    for number, key in enumerate(KEYS):
        scores = np.random.default_rng(number).uniform(0.7, 0.9, (2, 200)).astype(np.float32)
        for task in ("VAEwolabel", "Genwithlabel"):
            np.save(out / "students" / key / f"{task}_ssim.npy", scores[0])
            np.save(out / "students" / key / f"{task}_errors.npy", scores[1] / 50)
    completed = run("staff.leaderboard", out)
    assert completed.returncode == 0, completed.stderr
    return out


def test_the_leaderboard_names_nobody_and_has_baselines_and_intervals(published, tmp_path):
    page = (published / "leaderboard.html").read_text(encoding="utf-8")
    with open(published / "pseudonyms.csv", encoding="utf-8-sig", newline="") as opened:
        rows = {row["Submission"]: row for row in csv.DictReader(opened)}
    assert set(rows) == set(KEYS)
    secret = (published / ".private" / "pseudonyms").read_text(encoding="utf-8").strip()
    for word in (*KEYS, *(word for key in KEYS for word in key.split("-")), "Lovelace", secret):
        assert word.lower() not in page.lower(), word
    for key, row in rows.items():
        assert page.count(row["Pseudonym"]) == 2  # once for each task
        feedback = (published / "students" / key / "feedback.html").read_text(encoding="utf-8")
        assert row["Pseudonym"] in feedback
    assert "1–3" in page  # all three are tied
    for baseline in (
        "a blank image",
        "PCA, 20 components",
        "model.py",
        "the reference",
        "the record",
    ):
        assert baseline in page
    names = {key: row["Pseudonym"] for key, row in rows.items()}
    again = run("staff.leaderboard", published, "--language", "zh", "--leave_out", KEYS[0])
    assert again.returncode == 0, again.stderr
    page = (published / "leaderboard.html").read_text(encoding="utf-8")
    assert "排行榜" in page and "1–2" in page and "1–3" not in page
    assert rows[KEYS[1]]["Pseudonym in Chinese"] in page and names[KEYS[1]] not in page
    assert_clear_error(
        run("staff.leaderboard", published, "--leave_out", "zoe"), "no student 'zoe'"
    )
    other = tmp_path / "grade_result.json"
    other.write_text(json.dumps({"VAEwolabel": {"raw": 1.0, "data_sha256": "0"}}))
    refused = run("staff.leaderboard", published, "--baseline", "model.py", other)
    assert_clear_error(refused, "is of other images than the class")


@needs_browser
def test_nothing_of_the_leaderboard_is_cut_off_on_a_phone(published):
    with chromium() as browser:
        shown = Opened(browser, address_of(published / "leaderboard.html"), viewport=PHONE)
        assert shown.page.evaluate(CUT_OFF) == [] and shown.complaints == []


# ---------------------------------------------------------------- regrade requests


def test_a_request_is_answered_with_the_points_before_and_after_and_the_reason(tmp_path):
    out = graded_class(tmp_path / "graded", ["ada", "bob"])
    assert run("staff.gradebook", out).returncode == 0
    overrides, requests = tmp_path / "overrides.csv", tmp_path / "requests.csv"
    overrides.write_text(
        "student,part,points,reason,by,on\nada,2.3,15,written in another form,Kim,2026-12-01\n"
    )
    assert run("staff.gradebook", out, "--overrides", overrides).returncode == 0
    assert run("staff.gradebook", out).returncode == 0  # again, with nothing new
    requests.write_text("student,part,request\nada,2.3,<b>My KL</b>\nbob,2.3,\nada,total,why\n")
    completed = run("staff.regrade_requests", out, requests)
    assert completed.returncode == 0, completed.stderr
    assert "3 requests, 2 with other points" in completed.stdout
    answers = (out / "requests.html").read_text(encoding="utf-8").split("<section>")[1:]
    assert "13.00 → 15.00 of 15" in answers[0] and "written in another form" in answers[0]
    assert "&lt;b&gt;My KL" in answers[0] and "wrong sign" not in answers[0]
    assert "Unchanged: 13.00 of 15" in answers[1] and "the KL term has the wrong sign" in answers[1]
    assert "75.62 → 77.62 of 130" in answers[2]
    requests.write_text("student,part,request\nzoe,2.3,\n")
    refused = run("staff.regrade_requests", out, requests)
    assert_clear_error(refused, "line 2: there is no student 'zoe'")


# ---------------------------------------------------------------- the archive


def grade(**changes) -> dict:
    parts = {"2.3": {"points": 13, "marked": False}, "0.2": {"points": 4.0, "marked": True}}
    figures = {"status": "graded", "tasks": {"VAEwolabel": {"raw": 8.0}}, "parts": parts}
    return {**figures, "late": -1.7, "override": 0.0, "total": 15.3, **changes}


def test_a_grade_is_compared_within_the_tolerance_and_must_add_up():
    assert all(one.same for one in compare(grade(), grade(total=None)))
    near, far = ({"VAEwolabel": {"raw": 8.0 + by}} for by in (0.009, 0.011))
    assert all(one.same for one in compare(grade(), grade(tasks=near)))
    for changes, what in (({"tasks": far}, "VAEwolabel raw"), ({"status": "timeout"}, "status")):
        assert [one.what for one in compare(grade(), grade(**changes)) if not one.same] == [what]
    assert [one.what for one in compare(grade(total=16.0), grade()) if not one.same] == [
        "sum of the grade"
    ]
    assert not all(one.same for one in compare(grade(), grade(tasks={})))


def test_a_changed_or_other_file_is_no_archive(tmp_path):
    file = tmp_path / "class.zip"
    write_archive(file, {"students": {}}, [Member("secret", b"seventeen herons")])
    assert Archived(file).content("secret") == b"seventeen herons"
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(tmp_path / "b.zip", "w") as after:
        after.writestr("archive.json", before.read("archive.json"))
        after.writestr("secret", b"eighteen herons")
    with pytest.raises(ArchivedError, match="has changed since the archive was made"):
        Archived(tmp_path / "b.zip").content("secret")
    with pytest.raises(ArchivedError, match="is missing or damaged"):
        Archived(file).content("splits/test/images")
    for content in (b"no zip", b""):
        (tmp_path / "c.zip").write_bytes(content)
        with pytest.raises(ArchivedError, match="is no archive of a class"):
            Archived(tmp_path / "c.zip")


@needs_bubblewrap
def test_a_grade_is_computed_again_from_the_archive_alone(tmp_path, tiny_data, tiny_run):
    folder, out, key = tmp_path / "class", tmp_path / "out", "Zuse"
    submission = hand_in(folder / key, {"VAEwolabel": tiny_run / "best.pth"}, ["VAEwolabel"])
    more = ["--private_images", 20, "--workers", 1, "--no_reports"]
    graded = run_class(folder, out, tiny_data, *more)
    assert graded.returncode == 0, graded.stdout + graded.stderr
    result = result_of(out, key)
    assert result["options"]["gen_num"] == 20 and set(result["data_sha256"]) > {"test", "private"}
    assert set(result["handed_in"]["checkpoint_sha256"]) == {"VAEwolabel"}
    whole, only = tmp_path / "whole.zip", tmp_path / "only.zip"
    for file, words in ((whole, []), (only, ["--fingerprints_only"])):
        packed = run("staff.archive", out, file, *words)
        assert packed.returncode == 0, packed.stdout + packed.stderr

    moved = tmp_path / "moved"
    submission.rename(moved)  # the archive stands alone
    verified = run("staff.verify", whole, "--student", key)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "0 differ" in verified.stdout and "OTHER" not in verified.stdout
    assert "same     VAEwolabel raw" in verified.stdout and "note" not in verified.stdout

    with zipfile.ZipFile(only) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert not any("submissions" in name or "tables" in name for name in contents)
    index = json.loads(contents.pop("archive.json"))
    assert key not in json.dumps(index) and [*index["students"]] == ["0001"]
    with pytest.raises(ArchivedError, match="give the student's files"):
        files_into(Archived(only), "0001", None, tmp_path / "into")
    forged = index["students"]["0001"]["grade"]
    forged["tasks"]["VAEwolabel"]["raw"] += 0.02
    forged |= {"parts": {}, "total": None}  # the TODOs are not checked a third time
    index["graded_with"]["options"]["checks"] = False
    write_archive(only, index, [Member(name, content) for name, content in contents.items()])
    verified = run("staff.verify", only, "--files", moved)  # found by its hash
    assert verified.returncode == 1, verified.stdout + verified.stderr
    assert "OTHER    VAEwolabel raw" in verified.stdout and "1 differ" in verified.stdout
    code = moved / "submission.py"
    code.write_text(code.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(ArchivedError, match="submission.py of 0001 are not the files that were"):
        files_into(Archived(only), "0001", moved, tmp_path / "into")
