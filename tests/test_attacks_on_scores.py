"""Attacks on the score: the flags and the private split find them, and students see neither."""

from __future__ import annotations

import csv
import hashlib
import json
import re

import pytest
from attacked import LIMITS, ON_SCORES, assert_failed, rows_of, write_attacks
from browsers import CUT_OFF, PHONE, Opened, address_of, chromium, needs_browser
from handed_in import needs_bubblewrap, result_of, run_class, tiles_of

from data_utils import MNISTDataset
from staff import class_split, grade_class
from staff.gradescope.run import gradescope_results
from staff.secret import secret_in
from staff.task import SHOWN


@pytest.fixture(scope="module")
def watched(tmp_path_factory, trained, tiny_data):
    """The results of a class with the attacks on the score, graded with a private split."""
    folder, out = tmp_path_factory.mktemp("watched"), tmp_path_factory.mktemp("graded") / "out"
    marker = folder / "marker"
    write_attacks(ON_SCORES, folder, trained, tiny_data, marker, last=["VAEwolabel"])
    completed = run_class(folder, out, tiny_data, *LIMITS)
    assert "students/*/feedback.html" in completed.stdout, completed.stdout + completed.stderr
    return out


@needs_bubblewrap
@pytest.mark.parametrize("name", ON_SCORES)
def test_an_attack_is_flagged(watched, name):
    assert_failed(name, result_of(watched, name))


@needs_bubblewrap
def test_the_tables_of_a_class(watched):
    rows = rows_of(watched)
    assert set(rows) == {*ON_SCORES, "0-honest", "zz-honest"}
    assert rows["copies-of-training-images"]["Status"] == "flagged"
    page = (watched / "report.html").read_text(encoding="utf-8")
    assert "0-honest and zz-honest" in page  # the same model
    assert "<script" not in page
    assert "look like copies" in page and "private raw" in page  # for staff


@needs_bubblewrap
def test_students_see_no_flag_and_nothing_of_the_private_split(watched):
    """Every output that a student sees: the page, Moodle's comment, Gradescope's results."""
    with open(watched / "grades.csv", encoding="utf-8-sig", newline="") as file:
        comments = {row["Submission"]: row["Feedback comments"] for row in csv.DictReader(file)}
    flagged = 0
    for folder in (watched / "students").iterdir():
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        scope = gradescope_results(result)
        tests = [test for test in scope["tests"] if test["visibility"] != "hidden"]
        seen = [(folder / "feedback.html").read_text(encoding="utf-8"), comments[folder.name]]
        seen += [json.dumps(tests), scope["output"], json.dumps(scope["leaderboard"])]
        seen += [page.read_text(encoding="utf-8") for page in folder.glob("*_report.html")]
        pictures_and_style = 'base64,[^"]*|<style>.*?</style>'
        text = re.sub(pictures_and_style, "", " ".join(seen), flags=re.DOTALL)
        text = text.replace(result["name"], "").lower()
        for task in result["tasks"].values():
            for flag in task["flags"]:
                flagged += 1
                assert flag.lower() not in text
        for word in ("flag", "private", "memoris", "look like copies", "secret"):
            assert word not in text, (folder.name, word)
    assert flagged > 10


@needs_bubblewrap
def test_the_page_about_a_model_shows_public_images_alone(watched, tiny_set):
    (split,) = (watched / grade_class.PRIVATE).glob("split-*")
    public = {image.tobytes() for image in tiny_set.images}
    private = {image.tobytes() for image in MNISTDataset(split).images} - public
    assert len(private) > 100
    pages = sorted((watched / "students").glob("*/*_report.html"))
    assert len(pages) > len(ON_SCORES)
    for file in pages:
        feedback = (file.parent / "feedback.html").read_text(encoding="utf-8")
        assert f'href="{file.name}"' in feedback
        page = file.read_text(encoding="utf-8")
        inputs, outputs = tiles_of(page)
        assert {image.tobytes() for image in inputs} == {
            image.tobytes() for image in tiny_set.images[:SHOWN]
        }
        assert "The codes as a plane" not in page  # of all images, which could say much
        assert private.isdisjoint(image.tobytes() for image in outputs)


@needs_bubblewrap
def test_the_page_about_a_model_has_its_scores_and_its_history(watched, trained):
    honest = watched / "students" / "0-honest"
    for task, result in result_of(watched, "0-honest")["tasks"].items():
        page = (honest / f"{task}_report.html").read_text(encoding="utf-8")
        assert f"{result['raw']:.3f}" in page and f"{result['ssim']:.4f}" in page
        assert ("Samples of each label" in page) == (task == "Genwithlabel")
        points = re.findall(r'points="([^"]*)"', page)
        assert len(points) == 6 and all(len(line.split()) == 4 for line in points)  # of 4 epochs
        assert hashlib.sha256(trained[task].read_bytes()).hexdigest() in page


@needs_bubblewrap
@needs_browser
def test_the_feedback_leads_to_the_page_about_a_model_on_a_phone(watched):
    feedback = watched / "students" / "0-honest" / "feedback.html"
    with chromium() as browser:
        shown = Opened(browser, address_of(feedback), viewport=PHONE, locale="en-US")
        assert shown.page.evaluate(CUT_OFF) == []
        shown.page.click("text=More about this model >> nth=0")
        shown.page.wait_for_selector("h1:has-text('Report: ')")
        assert shown.page.evaluate(CUT_OFF) == [] and shown.complaints == []


@needs_bubblewrap
def test_a_private_stage_tells_the_student_nothing(watched):
    """The attack prints private images and raises them in a message."""
    result = result_of(watched, "private-image-in-a-message")
    task = result["tasks"]["VAEwolabel"]
    assert "PRIVATE tensor" in task["flags"][0]  # staff see it
    assert not task["message"] and not task["log"]
    assert set(task["stages"]) == {"encode", "decode"}  # of the test split alone
    assert set(task["private"]["stages"]) == {"encode"}
    honest = result_of(watched, "0-honest")["tasks"]["Genwithlabel"]
    assert set(honest["stages"]) == {"generate"}
    assert set(honest["private"]["stages"]) == {"encode", "decode"}
    seconds = sum(stage["seconds"] for stage in task["stages"].values())
    assert gradescope_results(result)["execution_time"] == round(seconds, 1)


@needs_bubblewrap
def test_a_memoriser_is_found_by_its_decoder_and_by_the_private_split(watched):
    for name in ("images-by-their-hash", "images-by-their-nearest-code"):
        result = result_of(watched, name)
        assert result["tasks"]["VAEwolabel"]["mse"] < 1e-3
        assert any("look images up" in flag for flag in result["flags"])
        assert any("memorise the test split" in flag for flag in result["flags"])
    position = result_of(watched, "images-by-their-position")["tasks"]["VAEwolabel"]
    assert position["mse"] > 0.05  # the secret order makes the positions useless


@needs_bubblewrap
def test_the_private_split_is_made_once_and_is_for_its_owner_alone(watched, tiny_data):
    private = watched / grade_class.PRIVATE
    (split,) = private.glob("split-*")
    for path in (private, *private.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    before = (split / "images-idx3-ubyte.gz").stat().st_mtime_ns
    secret = secret_in(private)
    assert class_split.class_split(private, tiny_data, secret) == split
    assert (split / "images-idx3-ubyte.gz").stat().st_mtime_ns == before
    sums = {result_of(watched, key)["data_sha256"]["private"] for key in ("0-honest",)}
    assert sums == {MNISTDataset(split).sha256}
    for file in watched.rglob("*"):
        if file.suffix in (".json", ".html", ".csv"):
            assert secret not in file.read_text(encoding="utf-8-sig")
