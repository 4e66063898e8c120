"""Attacks from submissions: each fails in the sandbox, and honest scores stay as they are."""

from __future__ import annotations

import csv
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import archives
import attacks
import psutil
import pytest
import torch
from browsers import CUT_OFF, PHONE, Opened, address_of, chromium, needs_browser
from conftest import ROOT, assert_clear_error, run, start
from handed_in import CLASS, hand_in, needs_bubblewrap, result_of, run_class, tiles_of

from data_utils import MNISTDataset
from staff import class_split, grade_class
from staff.gradescope.run import gradescope_results
from staff.secret import secret_in
from staff.task import SHOWN

CAN_CHANGE_USER = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("setpriv")
SECRET = "lab-secret-4711"
STRICT_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
ARCHIVES = ("linked-submission", "linked-folder", "nothing-handed-in", *archives.MESSAGES)


class Listener:
    """Counts the connections to a port of this machine."""

    def __init__(self) -> None:
        self.count = 0
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle(self) -> None:
                listener.count += 1

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


WATCHED = {  # attacks on the score, which the flags and the private split find
    name
    for name, attack in attacks.ATTACKS.items()
    if "flagged" in attack.status or "private" in attack.says
}
LIMITS = ("--seconds", 4, "--memory", 1500)


def write_attacks(names: Iterable[str], folder: Path, trained, tiny_data, marker: Path) -> None:
    """Write attacks, and honest students before and after them."""
    weights = {
        task: torch.load(file, weights_only=True)["model_state_dict"]
        for task, file in trained.items()
    }
    stored = attacks.images_to_store(tiny_data)
    for name in names:
        attacks.write(name, attacks.ATTACKS[name], folder / name, marker, weights, stored)
    hand_in(folder / "0-honest", trained)
    hand_in(folder / "zz-honest", trained)


@pytest.fixture(scope="session")
def watched(tmp_path_factory, trained, tiny_data):
    """A class with the attacks on the score, graded as staff do it, with a private split."""
    folder, out = tmp_path_factory.mktemp("watched"), tmp_path_factory.mktemp("graded") / "out"
    write_attacks(sorted(WATCHED), folder, trained, tiny_data, folder / "marker")
    completed = run_class(folder, out, tiny_data, *LIMITS)
    assert "students/*/feedback.html" in completed.stdout, completed.stdout + completed.stderr
    return {"out": out}


@pytest.fixture(scope="session")
def hostile(tmp_path_factory, trained, tiny_data):
    """A class with the attacks on the walls, graded once; each stage that fails runs once."""
    folder, out = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("graded") / "out"
    marker, listener = tmp_path_factory.mktemp("marker") / "here", Listener()
    paths = ["/etc/passwd", "/etc/shadow", str(tiny_data), str(folder), str(out), "/root", "/home"]
    paths += [str(ROOT), str(ROOT / "dataset"), "/inputs/labels.npy", "/sources"]
    attacks.ATTACKS["reads-what-is-not-its-own"].prelude = attacks.LOOK.format(paths=paths)
    attacks.ATTACKS["network"].prelude = (
        "import socket\ntry:\n"
        f"    socket.create_connection(('127.0.0.1', {listener.port}), 2)\n"
        "    print('SEEN')\nexcept OSError: pass\n"
    )
    write_attacks(attacks.ATTACKS.keys() - WATCHED, folder, trained, tiny_data, marker)
    messages = attacks.write_archives(folder)
    attacks.write_names(folder)
    before = shutil.disk_usage("/").free
    os.environ["LAB_SECRET"] = SECRET
    try:
        words = [*LIMITS, "--no_private", "--scores_only"]
        completed = run_class(folder, out, tiny_data, *words, env=STRICT_LOCALE)
    finally:
        del os.environ["LAB_SECRET"]
    assert "students/*/feedback.html" in completed.stdout, completed.stdout + completed.stderr
    return {
        "out": out,
        "completed": completed,
        "messages": messages,
        "marker": marker,
        "listener": listener,
        "disk": before - shutil.disk_usage("/").free,
    }


@needs_bubblewrap
@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_attack_fails(request, name):
    graded = request.getfixturevalue("watched" if name in WATCHED else "hostile")
    attack, result = attacks.ATTACKS[name], result_of(graded["out"], name)
    assert result["status"] in attack.status, result
    assert attack.says in " ".join([result["message"], *result["flags"]])
    assert result["isolation"] == "bubblewrap"
    if result["status"] not in ("graded", "flagged"):
        assert result["score"] == 0
    log = "".join(task["log"] for task in result["tasks"].values())
    assert SECRET not in log and "SEEN" not in log


@needs_bubblewrap
def test_attacks_leave_nothing_behind(hostile):
    assert not hostile["marker"].exists()
    assert hostile["listener"].count == 0
    assert hostile["disk"] < 2 << 30
    stages = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "/lab/staff/stage.py" in (process.info["cmdline"] or [])
    ]
    # Tests that run in parallel have stages that end soon; one that is left behind would stay.
    _, left = psutil.wait_procs(stages, timeout=45)
    assert not left


ALONE = """
import sys
from pathlib import Path

from staff import sandbox

code, checkpoint = map(Path, sys.argv[1:])
inputs = {"submission.py": code, "checkpoint.pth": checkpoint}
sandbox.run_stage("generate", inputs, sandbox.Limits(), task="Genwithlabel", gen_num=1, seed=1)
"""


@needs_bubblewrap
def test_a_stage_dies_with_a_grader_that_is_killed(trained, tmp_path):
    code = tmp_path / "submission.py"
    code.write_text("import time\nprint('here', flush=True)\ntime.sleep(10_000)\n")
    (tmp_path / "alone.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{ALONE}")
    grader = start(tmp_path / "alone.py", code, trained["Genwithlabel"])
    process, stage, before = psutil.Process(grader.pid), [], -1.0
    for _ in range(60):
        stage = process.children(recursive=True)
        seconds = sum(one.cpu_times().user for one in stage)
        if seconds == before > 0.3:  # torch is imported, the student's code sleeps
            break
        before = seconds
        time.sleep(1)
    assert len(stage) >= 3
    grader.kill()
    grader.communicate()
    _, left = psutil.wait_procs(stage, timeout=10)
    assert not left


@needs_bubblewrap
def test_hidden_images_and_memory_do_not_help(hostile):
    """Images that encode tries to pass on to decode make no reconstruction better."""
    plain = result_of(hostile["out"], "child-that-outlives")["tasks"]["VAEwolabel"]
    for name in ("cache-from-encode-to-decode", "patched-libraries", "network"):
        task = result_of(hostile["out"], name)["tasks"]["VAEwolabel"]
        assert (task["ssim"], task["mse"], task["raw"]) == (
            plain["ssim"],
            plain["mse"],
            plain["raw"],
        )
    stuffed = result_of(hostile["out"], "mantissa-stuffing")["tasks"]["VAEwolabel"]
    assert stuffed["mse"] > 0.05  # no information about the images was passed on


@needs_bubblewrap
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_or_link_is_refused(hostile, name):
    result = result_of(hostile["out"], name)
    assert result["status"] == "contract breach" and result["score"] == 0
    assert hostile["messages"][name] in result["message"]


@needs_bubblewrap
def test_honest_scores_equal_those_of_inference_and_grade(hostile, trained, tiny_data, tmp_path):
    """inference.py and grade.py give the same printed digits, with one thread and with two."""
    for key in ("0-honest", "zz-honest"):
        assert result_of(hostile["out"], key)["status"] == "graded"
    graded = result_of(hostile["out"], "0-honest")["tasks"]
    assert graded == result_of(hostile["out"], "zz-honest")["tasks"] or all(
        graded[task][name] == result_of(hostile["out"], "zz-honest")["tasks"][task][name]
        for task in graded
        for name in ("raw", "ssim", "mse", "fid")
    )
    for threads in ("1", "2"):
        words = []
        for task, checkpoint in trained.items():
            folder = tmp_path / threads / task
            asked = ["--checkpoint_path", checkpoint, "--data_path", tiny_data, "--gen_num", 20]
            more = ["--save_dir", folder]
            completed = run("inference.py", *asked, *more, env={"OMP_NUM_THREADS": threads})
            assert completed.returncode == 0, completed.stderr
            words += [f"--{task}_output_dir", folder]
        file = tmp_path / threads / "result.json"
        completed = run(
            "grade.py", "--test_data_path", tiny_data, "--gen_num", 20, *words, "--output", file
        )
        assert completed.returncode == 0, completed.stderr
        own = json.loads(file.read_text(encoding="utf-8"))
        for task in trained:
            for name in ("raw", "score", "ssim", "mse", "fid"):
                mine, theirs = own[task][name], graded[task][name]
                assert mine == theirs or mine == pytest.approx(theirs, abs=1e-6)


@needs_bubblewrap
def test_no_name_ends_the_run_or_reaches_the_terminal(hostile):
    printed = hostile["completed"].stdout + hostile["completed"].stderr
    assert "\x1b" not in printed and "loose-?[2J" in printed
    for key in attacks.NAMES.values():
        result = result_of(hostile["out"], key)
        assert result["status"] == "contract breach" and "more than one" in result["message"]
        assert "(é/submission.py" in result["message"] and result["message"].isprintable()
        assert result["name"].isprintable() and len(key.encode()) < 255


@needs_bubblewrap
@pytest.mark.skipif(not CAN_CHANGE_USER, reason="only root can look as another user")
def test_other_accounts_read_nothing_that_grading_wrote(hostile):
    """Looked at by another user, after the folder itself was opened by mistake."""
    with tempfile.TemporaryDirectory() as name:
        opened = Path(name) / "out"
        shutil.copytree(hostile["out"], opened)
        (opened / "control").write_bytes(b"")
        for path, mode in ((Path(name), 0o755), (opened, 0o755), (opened / "control", 0o644)):
            path.chmod(mode)
        words = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
        words += ["find", opened, "-type", "f", "-readable"]
        found = subprocess.run(words, capture_output=True, text=True).stdout.split()
        assert found == [str(opened / "control")]
    assert hostile["out"].stat().st_mode & 0o777 == 0o700
    assert list((hostile["out"] / ".work").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing on Windows")
def test_a_private_split_that_others_can_read_is_refused(tmp_path, tiny_data):
    (tmp_path / "class" / "ada").mkdir(parents=True)
    private = tmp_path / "private"
    shutil.copytree(tiny_data, private)
    private.chmod(0o750)
    words = [CLASS, tmp_path / "class", "--out", tmp_path / "out", "--private_data", private]
    words += ["--test_data", tiny_data, "--train_data", tiny_data, "--unsafe-no-isolation"]
    assert_clear_error(run(*words), "mode 750", f"chmod 700 {private}")


@needs_bubblewrap
def test_the_tables_of_a_class(hostile, watched):
    rows = {}
    for graded in (watched, hostile):
        for name in ("grades.csv", "staff.csv"):
            with open(graded["out"] / name, encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file):
                    rows.setdefault(row["Submission"], {}).update(row)
    expected = {*attacks.ATTACKS, *attacks.NAMES.values(), *hostile["messages"]}
    assert set(rows) == expected | {"0-honest", "zz-honest"}
    assert float(rows["0-honest"]["Grade"]) > 0 and rows["endless-loop"]["Grade"] == "0.0"
    assert rows["copies-of-training-images"]["Status"] == "flagged"
    page = (watched["out"] / "report.html").read_text(encoding="utf-8")
    assert "0-honest and zz-honest" in page  # the same model
    assert "<script" not in page
    assert "look like copies" in page and "private raw" in page  # for staff


@needs_bubblewrap
def test_students_see_no_flag_and_nothing_of_the_private_split(watched):
    """Every output that a student sees: the page, Moodle's comment, Gradescope's results."""
    with open(watched["out"] / "grades.csv", encoding="utf-8-sig", newline="") as file:
        comments = {row["Submission"]: row["Feedback comments"] for row in csv.DictReader(file)}
    flagged = 0
    for folder in (watched["out"] / "students").iterdir():
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
    (split,) = (watched["out"] / grade_class.PRIVATE).glob("split-*")
    public = {image.tobytes() for image in tiny_set.images}
    private = {image.tobytes() for image in MNISTDataset(split).images} - public
    assert len(private) > 100
    pages = sorted((watched["out"] / "students").glob("*/*_report.html"))
    assert len(pages) > len(WATCHED)
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
    honest = watched["out"] / "students" / "0-honest"
    for task, result in result_of(watched["out"], "0-honest")["tasks"].items():
        page = (honest / f"{task}_report.html").read_text(encoding="utf-8")
        assert f"{result['raw']:.3f}" in page and f"{result['ssim']:.4f}" in page
        assert ("Samples of each label" in page) == (task == "Genwithlabel")
        points = re.findall(r'points="([^"]*)"', page)
        assert len(points) == 6 and all(len(line.split()) == 4 for line in points)  # of 4 epochs
        assert hashlib.sha256(trained[task].read_bytes()).hexdigest() in page


@needs_bubblewrap
@needs_browser
def test_the_feedback_leads_to_the_page_about_a_model_on_a_phone(watched):
    feedback = watched["out"] / "students" / "0-honest" / "feedback.html"
    with chromium() as browser:
        shown = Opened(browser, address_of(feedback), viewport=PHONE, locale="en-US")
        assert shown.page.evaluate(CUT_OFF) == []
        shown.page.click("text=More about this model >> nth=0")
        shown.page.wait_for_selector("h1:has-text('Report: ')")
        assert shown.page.evaluate(CUT_OFF) == [] and shown.complaints == []


@needs_bubblewrap
def test_without_reports_there_are_none(hostile):
    assert not list(hostile["out"].rglob("*_report.html"))  # --scores_only
    feedback = hostile["out"] / "students" / "0-honest" / "feedback.html"
    assert "_report.html" not in feedback.read_text(encoding="utf-8")


@needs_bubblewrap
def test_a_private_stage_tells_the_student_nothing(watched):
    """The attack prints private images and raises them in a message."""
    result = result_of(watched["out"], "private-image-in-a-message")
    task = result["tasks"]["VAEwolabel"]
    assert "PRIVATE tensor" in task["flags"][0]  # staff see it
    assert not task["message"] and not task["log"]
    assert set(task["stages"]) == {"encode", "decode"}  # of the test split alone
    assert set(task["private"]["stages"]) == {"encode"}
    honest = result_of(watched["out"], "0-honest")["tasks"]["Genwithlabel"]
    assert set(honest["stages"]) == {"generate"}
    assert set(honest["private"]["stages"]) == {"encode", "decode"}
    seconds = sum(stage["seconds"] for stage in task["stages"].values())
    assert gradescope_results(result)["execution_time"] == round(seconds, 1)


@needs_bubblewrap
def test_a_memoriser_is_found_by_its_decoder_and_by_the_private_split(watched):
    for name in ("images-by-their-hash", "images-by-their-nearest-code"):
        result = result_of(watched["out"], name)
        assert result["tasks"]["VAEwolabel"]["mse"] < 1e-3
        assert any("look images up" in flag for flag in result["flags"])
        assert any("memorise the test split" in flag for flag in result["flags"])
    position = result_of(watched["out"], "images-by-their-position")["tasks"]["VAEwolabel"]
    assert position["mse"] > 0.05  # the secret order makes the positions useless


@needs_bubblewrap
def test_the_private_split_is_made_once_and_is_for_its_owner_alone(watched, tiny_data):
    private = watched["out"] / grade_class.PRIVATE
    (split,) = private.glob("split-*")
    for path in (private, *private.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    before = (split / "images-idx3-ubyte.gz").stat().st_mtime_ns
    secret = secret_in(private)
    assert class_split.class_split(private, tiny_data, secret) == split
    assert (split / "images-idx3-ubyte.gz").stat().st_mtime_ns == before
    sums = {result_of(watched["out"], key)["data_sha256"]["private"] for key in ("0-honest",)}
    assert sums == {MNISTDataset(split).sha256}
    for file in watched["out"].rglob("*"):
        if file.suffix in (".json", ".html", ".csv"):
            assert secret not in file.read_text(encoding="utf-8-sig")


def test_every_attack_is_in_the_security_document():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for name in (*attacks.ATTACKS, *ARCHIVES):
        assert sum(f"`{name}`" in row for row in rows) == 1, name
    named = {name for row in rows for name in re.findall(r"`([a-z0-9]+(?:-[a-z]+)+)`", row)}
    assert named - {"os._exit"} <= {*attacks.ATTACKS, *ARCHIVES}
    tests = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("tests/test_*.py"))
    for name in re.findall(r"`(test_\w+)`", "".join(rows)):
        assert f"def {name}(" in tests
