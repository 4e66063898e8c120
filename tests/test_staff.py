"""Grading by staff: hostile submissions in the sandbox, and a class graded without losses."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import http.server
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import archives
import attacks
import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, assert_clear_error, reachable_sockets, run, start
from hypothesis import given
from hypothesis import strategies as some
from mistakes import MISTAKES

from data_utils import MNISTDataset
from staff import cgroup, class_split, grade_class, grades, report, sandbox, seccomp, walls, watch
from staff.closure import DATA_FILES, closure
from staff.grade_class import grader_sha256
from staff.gradescope.run import gradescope_results
from staff.marks import MarksError, read_marks
from staff.pages import TEMPLATES
from staff.secret import secret_in
from staff.student import grade_student, read_result
from staff.submissions import HandedInError, Student, students_in, take

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and not os.environ.get("CI"), reason="bubblewrap is not installed"
)
CLASS = "staff.grade_class"
CAN_CHANGE_USER = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("setpriv")
SECRET = "lab-secret-4711"
STRICT_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
ARCHIVES = ("linked-submission", "linked-folder", "nothing-handed-in", *archives.MESSAGES)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of model.py after a short training, by task."""
    folder = tmp_path_factory.mktemp("trained")
    found = {}
    for task in ("VAEwolabel", "Genwithlabel"):
        words = ["--task", task, "--submission", "model.py", "--lr", 3e-3]
        words += ["--epochs", 4, "--batch_size", 256, "--var", {"V": 0.05, "G": 0.5}[task[0]]]
        result = run("train.py", *words, "--latent_dim", 8, "--save_dir", folder / task)
        assert result.returncode == 0, result.stderr
        found[task] = folder / task / "best.pth"
    return found


def hand_in(folder: Path, trained: dict[str, Path], tasks=("VAEwolabel", "Genwithlabel")) -> Path:
    """Write an honest student's folder."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "model.py", folder / "submission.py")
    for task in tasks:
        shutil.copy(trained[task], folder / f"{task}.pth")
    return folder


def run_class(folder: Path, out: Path, tiny_data: Path, *more: object, **named):
    words = [folder, "--out", out, "--test_data", tiny_data, "--gen_num", 20, *more]
    named = {"timeout": 1500, **named}  # many attacks last until they are stopped
    return run(CLASS, *words, **named)


def result_of(out: Path, key: str) -> dict:
    return json.loads((out / "students" / key / "result.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------- attacks


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
LIMITS = ("--seconds", 6, "--memory", 1500)


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
        with open(graded["out"] / "grades.csv", encoding="utf-8-sig", newline="") as file:
            rows |= {row["Submission"]: row for row in csv.DictReader(file)}
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


# ---------------------------------------------------------------- the sandbox itself


@needs_bubblewrap
def test_the_probe_reports_the_isolation(monkeypatch):
    seen = sandbox.probe()
    assert seen["uid"] == sandbox.NOBODY and seen["process"] == 1 and not seen["calls"]
    secret = "SECRET_OF_STAFF"
    monkeypatch.setenv(secret, "1")
    assert secret not in sandbox.probe()["environment"]


def _without(words: list[str], option: str, values: int = 0) -> list[str]:
    """Remove an option and its values from a command."""
    while option in words:
        place = words.index(option)
        words = words[:place] + words[place + 1 + values :]
    return words


def _other(words: list[str], instead: list[str]) -> list[str]:
    place = words.index("--unshare-all")
    return [*words[:place], *instead, *words[place + 1 :]]


def _sharing(words, folder):
    """Mount a folder of the grader's in place of the stage's own."""
    line = "\0".join(words)
    for before in (f"--tmpfs\0{folder}", f"--bind\0/scratch{folder}\0{folder}"):
        assert before in line
        line = line.replace(before, f"--bind\0{folder}\0{folder}")
    return line.split("\0")


def _also(words: list[str], *more: str) -> list[str]:
    """Add mounts to the stage's own bubblewrap, before the last one becomes read-only."""
    place = words.index("--chdir")
    return [*words[:place], *more, *words[place:]]


ALL_BUT_PROCESSES = ["--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup"]
ALL_BUT_NETWORK = ["--unshare-ipc", "--unshare-uts", "--unshare-pid", "--unshare-cgroup"]


@needs_bubblewrap
@pytest.mark.parametrize(
    ("broken", "breach"),
    [
        (lambda words: _without(_other(words, ALL_BUT_PROCESSES), "--as-pid-1"), "first process"),
        (lambda words: _without(words, "--as-pid-1"), "first process"),
        (lambda words: _without(_other(words, ALL_BUT_NETWORK), "--unshare-net"), "networks"),
        (lambda words: _without(words, "--disable-userns"), "user namespaces"),
        (lambda words: _without(words, "--seccomp", 1), "not filtered"),
        (lambda words: _without(words, "--hostname", 1), "the machine's name"),
        (lambda words: ["65533" if word == "65534" else word for word in words], "as user"),
        (lambda words: _without(words, "--remount-ro", 1), "write to"),
        (lambda words: [re.sub("^size=[0-9]+", "size=1g", word) for word in words], "no bound"),
        (
            lambda words: [re.sub(",nr_inodes=[0-9]+", "", word) for word in words],
            "number of files",
        ),
        (lambda words: _also(words, "--ro-bind", "/proc", "/proc"), "in /proc"),
        (lambda words: _also(words, "--dev-bind", "/dev", "/dev"), "in /dev"),
        (lambda words: _also(words, "--ro-bind", "/sources", "/sources"), "it sees"),
        (lambda words: _also(words, "--setenv", "SECRET", "1"), "environment"),
        (lambda words: _sharing(words, "/tmp"), r"shares \['/tmp'\] with the grader"),
    ],
)
def test_the_probe_notices_missing_isolation(monkeypatch, broken, breach):
    whole = sandbox.command_line
    monkeypatch.setattr(sandbox, "command_line", lambda *arguments: broken(whole(*arguments)))
    with pytest.raises(sandbox.SandboxError, match=breach):
        sandbox.probe()


@needs_bubblewrap
def test_the_probe_notices_a_filter_that_allows_too_much(monkeypatch):
    """A filter that allows all but clone3, which every filter must answer."""
    whole = seccomp.program()
    refuse, allow = (struct.pack("HBBI", seccomp.RETURN, 0, 0, verdict)
                     for verdict in (seccomp.REFUSE, seccomp.ALLOW))  # fmt: skip
    monkeypatch.setattr(seccomp, "program", lambda: whole.replace(refuse, allow))
    expected = "'sockets', 'memfd', 'shared memory', 'inotify', 'eventfd', 'splice'"
    with pytest.raises(sandbox.SandboxError, match=expected):
        sandbox.probe()


@needs_bubblewrap
def test_a_stage_that_has_ended_or_is_killed_leaves_no_process(trained, tmp_path):
    """Its process namespace is below another one, whose first process no stage can reach."""
    code = tmp_path / "submission.py"
    code.write_text("import time\ntime.sleep(10_000)\n", encoding="utf-8")
    found: list[list[str]] = []

    class Watch(sandbox.Watch):
        def measure(self) -> None:
            super().measure()
            for pid in watch.tree(self.root):
                with contextlib.suppress(OSError):
                    found.append(_status_of(pid)["NSpid"].split())

    limits = sandbox.Limits(seconds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "Watch", Watch)
        inputs = {"submission.py": code, "checkpoint.pth": trained["VAEwolabel"]}
        sandbox.run_stage("facts", inputs, limits)
    deepest = max(found, key=len)
    assert len(deepest) == len(_status_of(os.getpid())["NSpid"].split()) + 2
    assert deepest[-1] == "1" and deepest[-2] != "1"
    for _ in range(100):  # a killed process is gone a moment later
        left = [pid for pid, *_ in found if Path("/proc", pid).exists()]
        if not left:
            break
        time.sleep(0.1)
    assert not left


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


PARENT_OF_MANY = """
import os, time
for _ in range(10):
    if os.fork() == 0:
        while time.process_time() < 0.1: pass
        os._exit(0)
    os.wait()
print("ready", flush=True)
input()
"""


def test_the_watch_counts_the_time_of_children_that_have_ended():
    words = [sys.executable, "-c", PARENT_OF_MANY]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        measured = watch.Watch(process.pid)
        for _ in range(3):  # nothing is counted twice
            measured.measure()
        process.kill()
    assert 0.9 <= measured.cpu_seconds < 1.6 and measured.processes == 1


# Reading untouched memory fills page tables, 8 bytes per page, and no other count.
READER_OF_NOTHING = """
import mmap
SIZE = 8 << 30
hole = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
hole.madvise(15)  # MADV_NOHUGEPAGE
for place in range(0, SIZE, 2 << 20):
    hole[place]
print("ready", flush=True)
input()
"""


def test_the_watch_counts_page_tables():
    words = [sys.executable, "-c", READER_OF_NOTHING]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        measured = watch.Watch(process.pid)
        measured.measure()
        resident = psutil.Process(process.pid).memory_info().rss
        process.kill()
    assert measured.memory - resident > 15 << 20  # a table of 4 KiB for each 2 MiB: 16 MiB


def test_a_program_that_takes_its_output_back_does_not_disturb_the_grader():
    """Without isolation there is /proc, and the bytes are gone before the grader reads them."""
    code = attacks.READ_BACK.replace("100_000", "20_000")
    read, write = os.pipe()
    os.close(write)
    words = [sys.executable, "-c", code]
    with (
        os.fdopen(read, "rb", buffering=0) as results,
        subprocess.Popen(words, stdout=subprocess.PIPE) as process,
    ):
        measured = watch.Watch(process.pid)
        outcome = sandbox._follow(process, results, process.stdout, sandbox.Limits(), measured)
    assert process.returncode == 0 and set(outcome.log) <= {"x"}


# ---------------------------------------------------------------- control groups

MOUNTS = """\
25 30 0:22 / /sys rw - sysfs sysfs rw
31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 25 0:30 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ("/", "0::/user.slice/a.scope", "/sys/fs/cgroup/user.slice/a.scope"),
        ("/", "4:memory:/other\n0::/", "/sys/fs/cgroup"),
        ("/docker/1", "0::/docker/1/x", "/sys/fs/cgroup/x"),
        ("/docker/1", "0::/docker/12", None),
        ("/", "4:memory:/other", None),
    ],
)
def test_the_folder_of_the_own_control_group(root, own, expected):
    found = cgroup.own_folder(MOUNTS.format(root=root), own + "\n")
    assert found == (None if expected is None else Path(expected))
    assert cgroup.own_folder("", own) is None


def test_a_control_group_gets_the_limits_that_its_controllers_have(tmp_path):
    """In a folder with the files of a group; the kernel of this machine may have no controllers."""
    group = cgroup.Group(tmp_path)
    assert group.kinds == "" and group.cpu_seconds() == 0.0
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    limits = sandbox.Limits(memory_bytes=1 << 30, tasks=50)
    group.limit(limits)
    assert [file.name for file in tmp_path.iterdir()] == ["cpu.stat"]
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        (tmp_path / name).write_text("max\n")
    group.limit(limits)
    assert group.kinds == "cpu, memory, pids" and group.cpu_seconds() == 2.5
    assert int((tmp_path / "memory.max").read_text()) >= 1 << 30
    assert (tmp_path / "memory.swap.max").read_text() == "0"
    assert int((tmp_path / "pids.max").read_text()) >= 50


def test_a_delegated_group_passes_its_controllers_on(tmp_path, monkeypatch):
    """The grader first leaves it, because only a group without processes can."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").write_text("17\n")
    control = tmp_path / "cgroup.subtree_control"
    control.mkdir()  # cannot be written to, as a control file whose group has processes
    monkeypatch.setattr(cgroup, "_is_delegated", lambda folder: False)
    with pytest.raises(OSError):
        cgroup.enable(tmp_path)
    assert not (tmp_path / cgroup.NAME).exists()

    def leave(folder: Path) -> bool:
        control.rmdir()  # now it can
        return True

    monkeypatch.setattr(cgroup, "_is_delegated", leave)
    cgroup.enable(tmp_path)
    assert (tmp_path / cgroup.NAME / "cgroup.procs").read_text() == "17"
    assert control.read_text() == "+memory +pids"


@pytest.mark.skipif(cgroup.available() == "none", reason="this user cannot make control groups")
def test_a_control_group_counts_and_kills_what_is_in_it():
    with cgroup.of_stage(sandbox.Limits()) as group:
        code = PARENT_OF_MANY.replace("range(10)", "range(2)")
        words = group.entering([sys.executable, "-c", code])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(words, start_new_session=True, **pipes)
        assert process.stdout.readline() == b"ready\n"
        assert group.cpu_seconds() >= 0.2
        assert str(process.pid) in (group.folder / "cgroup.procs").read_text().split()
    assert process.wait(10) == -signal.SIGKILL
    assert not group.folder.exists()
    process.stdin.close()
    process.stdout.close()


# ---------------------------------------------------------------- without isolation, the filter


def test_without_bubblewrap_grading_is_refused(tmp_path, trained, tiny_data):
    folder = tmp_path / "class"
    hand_in(folder / "ada", trained, ["VAEwolabel"])
    bare = {"PATH": str(tmp_path)}
    words = [CLASS, folder, "--out", tmp_path / "out", "--test_data", tiny_data, "--no_private"]
    assert_clear_error(run(*words, env=bare), "bwrap is missing", "apt-get install bubblewrap")
    assert not (tmp_path / "out" / "students").exists()
    completed = run(*words, "--unsafe-no-isolation", "--gen_num", 20, env=bare)
    assert completed.returncode == 0, completed.stderr
    assert result_of(tmp_path / "out", "ada")["isolation"] == "none"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "without isolation" in page


SHARED, PRIVATE, HUGE, NEW_USER = 0x1, 0x2, 0x40000, 0x10000000
TIOCSTI, F_SETLK, F_SETPIPE_SZ, PAGEOUT, PDEATHSIG = 0x5412, 6, 1031, 21, 1
REFUSE, ALLOW = seccomp.REFUSE, seccomp.ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_its_list_and_nothing_else(machine):
    program, numbers = seccomp.program(machine), seccomp.allowed_on(machine)
    depends = {numbers[name] for name in (*seccomp.ONE_OF, *seccomp.WITHOUT)}
    assert len(set(numbers.values())) == len(numbers)
    for number in set(range(500)) - depends - {seccomp.CLONE3}:
        expected = ALLOW if number in numbers.values() else REFUSE
        assert _interpret(program, machine, number) == expected
    assert _interpret(program, machine, seccomp.CLONE3) == seccomp.MISSING
    for number in (seccomp.X32, seccomp.X32 + 1, 0xFFFFFFFF):
        assert _interpret(program, machine, number) == seccomp.KILL
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[machine]
    assert _interpret(program, other, 1) == seccomp.KILL
    assert seccomp.program("riscv64") == b""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("mmap", (0, 0, 0, 0x20 | PRIVATE), ALLOW),
        ("mmap", (0, 0, 0, 0x20 | SHARED), REFUSE),
        ("mmap", (0, 0, 0, SHARED | PRIVATE), REFUSE),
        ("mmap", (0, 0, 0, PRIVATE | HUGE), REFUSE),
        ("clone", (0x3D0F00,), ALLOW),  # a thread
        ("clone", (17,), ALLOW),  # a process
        ("clone", (17 | NEW_USER,), REFUSE),
        ("ioctl", (1, 0x5401), ALLOW),
        ("ioctl", (1, TIOCSTI), REFUSE),
        ("ioctl", (1, 1 << 32 | TIOCSTI), REFUSE),  # the kernel ignores the high half
        ("fcntl", (1, 1030), ALLOW),
        ("fcntl", (1, F_SETLK), REFUSE),
        ("fcntl", (1, F_SETPIPE_SZ), REFUSE),
        ("madvise", (0, 0, 4), ALLOW),
        ("madvise", (0, 0, PAGEOUT), REFUSE),
        ("prctl", (15,), ALLOW),
        ("prctl", (PDEATHSIG,), REFUSE),
        ("rt_sigaction", (2, 1 << 40), ALLOW),
        ("rt_sigaction", (17, 0), ALLOW),
        ("rt_sigaction", (17, 1), REFUSE),
        ("rt_sigaction", (17, 1 << 40), REFUSE),
    ],
)
def test_the_filter_looks_at_arguments(machine, name, arguments, expected):
    number = seccomp.allowed_on(machine)[name]
    assert _interpret(seccomp.program(machine), machine, number, *arguments) == expected


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_of_the_filter_are_those_of_linux(machine):
    if not HEADERS[machine].exists():
        pytest.skip("linux-libc-dev is not installed")
    text = HEADERS[machine].read_text(encoding="utf-8")
    pairs = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)
    linux = {name: int(number) for name, number in pairs} | {"clone3": seccomp.CLONE3}
    linux.setdefault("newfstatat", linux.get("fstatat", 0))
    for name, number in seccomp.allowed_on(machine).items():
        assert linux[name] == number, name


def _interpret(program: bytes, machine: str, number: int, *arguments: int) -> int:
    """Run a classic BPF program as the kernel does; return its verdict."""
    steps = list(struct.iter_unpack("HBBI", program))
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, seccomp.ARCHITECTURES[machine], 0, *padded)
    place = value = 0
    while True:
        code, if_true, if_false, k = steps[place]
        if code == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, k)
            place += 1
        elif code == seccomp.RETURN:
            return k
        else:
            holds = {
                seccomp.JUMP_EQUAL: value == k,
                seccomp.JUMP_AT_LEAST: value >= k,
                seccomp.JUMP_SET: bool(value & k),
            }[code]
            place += 1 + (if_true if holds else if_false)


# ---------------------------------------------------------------- grading a class


@pytest.fixture
def small_class(tmp_path, trained):
    folder = tmp_path / "class"
    for name in ("ada", "bob", "cleo"):
        hand_in(folder / name, trained, ["VAEwolabel"])
    return folder


@needs_bubblewrap
def test_killed_and_started_again_nothing_is_lost_or_done_twice(small_class, tmp_path, tiny_data):
    out = tmp_path / "out"
    words = [CLASS, small_class, "--out", out, "--test_data", tiny_data, "--no_private"]
    words += ["--workers", 1, "--scores_only"]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = start(*words, env={"TMPDIR": str(temporary)})
    while not list(out.glob("students/*/result.json")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {file: file.stat().st_mtime_ns for file in out.glob("students/*/result.json")}
    assert 1 <= len(done) < 3
    completed = run(*words)
    assert (
        completed.returncode == 0
        and f"{3 - len(done)} graded now, 3 in all" in completed.stdout
        or (
            # the killed run's worker may have finished its student
            f"{2 - len(done)} graded now, 3 in all" in completed.stdout
        )
    )
    assert all(file.stat().st_mtime_ns == at for file, at in done.items())
    assert {result_of(out, key)["status"] for key in ("ada", "bob", "cleo")} == {"graded"}
    left = [file for folder in (temporary, out) for file in folder.rglob("*.pth")]
    assert not left, "the killed run left files of students"

    # Only what is new or has changed is graded; a zip counts as a student.
    code = small_class / "bob" / "submission.py"
    code.write_text(code.read_text(encoding="utf-8") + "\n# better\n", encoding="utf-8")
    with zipfile.ZipFile(small_class / "eve.zip", "w") as archive:
        archive.write(code, "lab/submission.py")
        archive.write(small_class / "bob" / "VAEwolabel.pth", "lab/weights.pth")
    completed = run(*words)
    assert "2 graded now, 4 in all" in completed.stdout
    raws = [result_of(out, key)["tasks"]["VAEwolabel"]["raw"] for key in ("ada", "bob", "eve")]
    assert len(set(raws)) == 1


@needs_bubblewrap
def test_regrading_lists_every_grade_that_changed(small_class, tmp_path, tiny_data):
    out = tmp_path / "out"
    for name in ("bob", "cleo"):
        shutil.rmtree(small_class / name)
    words = [CLASS, small_class, "--out", out, "--test_data", tiny_data, "--no_private"]
    words += ["--workers", 1]
    assert "1 graded now" in run(*words).stdout
    file = out / "students" / "ada" / "result.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**result, "score": 1.0, "tasks": {}}), encoding="utf-8")
    completed = run(*words, "--regrade")
    before = result["completion"]["points"]  # without the score
    assert f"changed:  ada: {before:.2f} to {result['points']:.2f}" in completed.stdout
    with open(out / "regrade.csv", encoding="utf-8", newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert float(row["Grade now"]) == pytest.approx(result["points"], abs=0.006)


@needs_bubblewrap
def test_a_worker_that_is_killed_loses_nothing(small_class, tmp_path, tiny_data):
    out = tmp_path / "out"
    words = [CLASS, small_class, "--out", out, "--test_data", tiny_data, "--no_private"]
    words += ["--workers", 2, "--scores_only"]
    process = start(*words)
    while not (out / ".lock").exists():
        time.sleep(0.05)
    assert_clear_error(run(*words), f"in use by process {process.pid} on")
    while not list(out.glob("students/*/result.json")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    assert not reachable_sockets(process)
    children = psutil.Process(process.pid).children()
    workers = [child for child in children if "--multiprocessing-fork" in child.cmdline()]
    assert len(workers) == 2
    workers[0].kill()
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stdout + stderr
    assert {result_of(out, key)["status"] for key in ("ada", "bob", "cleo")} == {"graded"}


# The files that a score depends on: the closure of what grades a student and of the stage.
GRADER = closure([ROOT / "staff" / "student.py", ROOT / "staff" / "stage.py"])
GRADER_NAMES = [file.relative_to(ROOT).as_posix() for file in [*GRADER, *DATA_FILES]]


def copied(files: Iterable[Path], folder: Path) -> Path:
    """Copy files of the lab into a folder, at the same places."""
    for file in files:
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return folder


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
    scores |= {"lab/diagnostics.py", "lab/judge/judge.pth", "staff/task.py", "staff/walls.py"}
    assert scores <= set(GRADER_NAMES)
    assert not {"staff/report.py", "staff/grades.py", "staff/handout.py"} & set(GRADER_NAMES)
    assert len({grader_sha256({"test": test}) for test in "12"}) == 2


def test_the_sandbox_contains_no_grader_no_trainer_and_no_data():
    shown = {name.removeprefix("/lab/") for name in walls.lab_files()}
    assert {"staff/stage.py", "staff/probe.py", "data_utils.py", "lab/convolutions.py"} <= shown
    kept = {"grade.py", "train.py", "trainer.py", "check.py", "submission.py", "lab/metrics.py"}
    kept |= {"lab/diagnostics.py", "staff/task.py", "staff/student.py", "staff/sandbox.py"}
    assert not shown & kept and all(name.endswith(".py") for name in shown)


@needs_bubblewrap
def test_a_changed_grader_grades_every_student_again(small_class, tmp_path, tiny_data):
    """The command runs in a copy that contains only the closure."""
    entries = [ROOT / "staff" / name for name in ("grade_class.py", "stage.py")]
    lab = copied([*closure(entries), *DATA_FILES, *TEMPLATES.iterdir()], tmp_path / "lab")
    shutil.rmtree(small_class / "cleo")
    words = [CLASS, small_class, "--out", tmp_path / "out", "--gen_num", 20, "--workers", 1]
    words.append("--scores_only")
    words += ["--no_private"]
    words += [
        word for split in ("test", "train", "valid") for word in (f"--{split}_data", tiny_data)
    ]

    def graded() -> str:
        completed = run(*words, cwd=lab, env={"PYTHONPATH": str(lab)})
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    assert "2 graded now, 2 in all" in graded()
    before = result_of(tmp_path / "out", "ada")
    assert "0 graded now, 2 in all" in graded()
    with open(lab / "lab" / "convolutions.py", "a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert "2 graded now, 2 in all" in graded()
    after = result_of(tmp_path / "out", "ada")
    assert after["score"] == before["score"]
    assert after["grader_sha256"] != before["grader_sha256"]


@pytest.fixture
def one_student(tmp_path, trained, tiny_data):
    """A student, and a job to grade them with in this process, without a private split."""
    hand_in(tmp_path / "class" / "ada", trained, ["VAEwolabel"])
    words = [tmp_path / "class", "--out", tmp_path / "out", "--test_data", tiny_data]
    words += ["--gen_num", 20, "--no_private"]
    args = grade_class.make_parser().parse_args([*map(str, words)])
    job = grade_class.make_job(grade_class.Options(**vars(args)))
    (student,) = students_in(tmp_path / "class")
    return student, job


@needs_bubblewrap
def test_a_grader_error_gives_no_score_and_is_tried_again(one_student, monkeypatch):
    student, job = one_student
    with monkeypatch.context() as broken:
        files = {**sandbox.lab_files(), "/lab/not_there.py": ROOT / "not_there.py"}
        broken.setattr(sandbox, "lab_files", lambda: files)
        result = grade_student(student, job)
    assert result["status"] == "grader error" and result["score"] is None
    assert read_result(job.folder(student))["score"] is None
    result = grade_student(student, job)
    assert result["status"] == "graded" and result["score"] > 0 and result["new"]
    assert not grade_student(student, job)["new"]


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
    chosen = dataclasses.replace(chosen, checks=False)
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
    completed = run_class(folder, out, tiny_data, "--no_private", "--marks", marks)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    points = {name: result_of(out, name)["completion"]["points"] for name in ("ada", "bob", "eve")}
    assert points == {"ada": 50, "bob": 45, "eve": 0}
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        rows = {row["Submission"]: row for row in csv.DictReader(file)}
    scores = result_of(out, "ada")["score"]
    assert float(rows["ada"]["Grade"]) == pytest.approx(50 + 9 + scores, abs=0.006)
    assert rows["ada"]["Maximum Grade"] == "130" and rows["ada"]["0.2 (of 10)"] == ""
    assert float(rows["bob"]["Grade"]) == 45 and rows["bob"]["2.3 (of 15)"] == "13"
    assert float(rows["eve"]["Grade"]) == 15 and rows["eve"]["2.3 (of 15)"] == "15.0"
    assert "there is no checkpoint" in rows["bob"]["Feedback comments"]
    page = (out / "students" / "bob" / "feedback.html").read_text(encoding="utf-8")
    assert "the KL term has the wrong sign" in page and "3.5" in page
    page = (out / "students" / "eve" / "feedback.html").read_text(encoding="utf-8")
    assert "was right" in page and "cannot be tested before TODO 2.2.1" in page
    assert "1 x the KL term has the wrong sign" in (out / "report.html").read_text(encoding="utf-8")

    marks.write_text("student,part,points,comment\nada,0.1a,11,\n")
    again = [CLASS, folder, "--out", out, "--test_data", tiny_data, "--gen_num", 20]
    assert_clear_error(run(*again, "--no_private", "--marks", marks), "line 2", "expected 0 to 10")
    marks.unlink()
    completed = run(*again, "--no_private")  # the marks of the first run stay
    assert "0 graded now" in completed.stdout and "marks: 2" in completed.stdout
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        rows = {row["Submission"]: row for row in csv.DictReader(file)}
    assert float(rows["eve"]["Grade"]) == 15
    assert_clear_error(run(*again, "--no_private", "--scores_only"), "holds completion points")
    completed = run(*again, "--no_private", "--no_marks")
    assert "0 graded now" in completed.stdout
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        assert {row["Grade"] for row in csv.DictReader(file)} >= {"45.0", "0.0"}


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
        ("student;part;points;comment\n", "separated by commas"),
    ],
)
def test_a_mistake_in_the_marks_is_an_error_with_its_line(tmp_path, text, words):
    file = tmp_path / "marks.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MarksError, match=re.escape(words)):
        read_marks(file, {"ada"})


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
        cells = re.split("[;\t\r\n]", grades.escaped(value))
        for cell in cells:
            seen = [c for c in cell if c.isprintable() and not c.isspace()]
            assert not seen or seen[0] not in "=+-@＝＋－＠﹣−"


@given(some.text(some.characters(categories=["L", "Nd"]), min_size=1), some.text(max_size=9))
def test_other_cells_are_unchanged(word, text):
    value = word + re.sub("[;\t\r\n]", ",", text)
    assert grades.escaped(value) == value
    assert grades.escaped(-1.5) == -1.5


# ---------------------------------------------------------------- names from learning platforms


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


def test_a_canvas_export_is_filled_in(tmp_path):
    export = tmp_path / "export.csv"
    export.write_text(
        "Student,ID,SIS User ID,Lab 1 (11),Lab 2 (12)\nPoints Possible,,,40,40\n"
        '"Lovelace, Ada",4711,a1,,\n"Bear, Bob",4712,b2,3,\n',
        encoding="utf-8",
    )
    results = [
        {"platform": "canvas", "number": "4711", "total": 39.987},
        {"platform": "canvas", "number": "4712", "total": None},
        {"platform": "moodle", "number": "4712", "total": 1.0},
    ]
    with pytest.raises(grades.GradesError, match="--assignment"):
        grades.fill_canvas(export, tmp_path / "out.csv", results)
    assert grades.fill_canvas(export, tmp_path / "out.csv", results, "Lab 2") == 1
    with open(tmp_path / "out.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Lab 2 (12)"] for row in rows] == ["40", "39.99", ""]
    assert rows[2]["Lab 1 (11)"] == "3"


def test_only_a_copied_model_is_a_similar_pair(tmp_path):
    rng = np.random.default_rng(0)
    errors = rng.random(500).astype(np.float32)
    models = {"a": errors, "b": errors + 0.001, "c": errors + 0.3 * rng.random(500)}
    results = []
    for name, values in models.items():
        (tmp_path / "students" / name).mkdir(parents=True)
        np.save(tmp_path / "students" / name / "VAEwolabel_errors.npy", values)
        signature = rng.standard_normal(100).tolist()
        tasks = {"VAEwolabel": {"raw": 1.0, "signature": signature}}
        results.append({"student": name, "name": name, "tasks": tasks})
    assert [pair["names"] for pair in report.similar_pairs(tmp_path, results)] == [["a", "b"]]
