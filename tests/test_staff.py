"""Grading by staff: hostile submissions in the sandbox, and a class graded without losses."""

from __future__ import annotations

import csv
import dataclasses
import http.server
import json
import os
import re
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import attacks
import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, assert_clear_error, reachable_sockets, run, start
from hypothesis import given
from hypothesis import strategies as some

from data_utils import MNISTDataset
from lab.diagnostics import JUDGE_FILE
from staff import flags, grade_class, grades, report, sandbox, seccomp, walls
from staff.closure import closure
from staff.grade_class import grader_sha256
from staff.job import write_inputs
from staff.pages import TEMPLATES
from staff.student import grade_student, read_result
from staff.submissions import HandedInError, Student, students_in, take

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and not os.environ.get("CI"), reason="bubblewrap is not installed"
)
CLASS = "staff.grade_class"
SECRET = "lab-secret-4711"
ARCHIVES = ("zip-bomb", "zip-of-many", "path-in-zip", "link-in-zip", "not-a-zip")
ARCHIVES += ("linked-submission", "linked-folder", "nothing-handed-in")


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


def run_class(folder: Path, out: Path, tiny_data: Path, *more: object):
    words = [folder, "--out", out, "--test_data", tiny_data, "--gen_num", 20, *more]
    return run(CLASS, *words)


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


@pytest.fixture(scope="session")
def hostile(tmp_path_factory, trained, tiny_data):
    """A class with every attack and honest students before and after them, graded once."""
    folder, out = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("graded")
    marker, listener = tmp_path_factory.mktemp("marker") / "here", Listener()
    train_images = MNISTDataset(ROOT / "dataset" / "train")
    chosen = [np.flatnonzero(train_images.labels == label)[:10] for label in range(10)]
    stored = torch.from_numpy(train_images.images[np.concatenate(chosen)].reshape(100, 784)) / 255
    paths = ["/etc/passwd", "/etc/shadow", str(tiny_data), str(folder), str(out), "/root", "/home"]
    paths += [str(ROOT), str(ROOT / "dataset"), "/inputs/labels.npy", "/sources"]
    attacks.ATTACKS["reads-what-is-not-its-own"].prelude = attacks.LOOK.format(paths=paths)
    attacks.ATTACKS["network"].prelude = (
        "import socket\ntry:\n"
        f"    socket.create_connection(('127.0.0.1', {listener.port}), 2)\n"
        "    print('SEEN')\nexcept OSError: pass\n"
    )
    weights = torch.load(trained["Genwithlabel"], weights_only=True)["model_state_dict"]
    for name, attack in attacks.ATTACKS.items():
        attacks.write(name, attack, folder / name, marker, weights, stored)
    messages = attacks.write_archives(folder)
    hand_in(folder / "0-honest", trained)
    hand_in(folder / "zz-honest", trained)
    before = shutil.disk_usage("/").free
    os.environ["LAB_SECRET"] = SECRET
    try:
        completed = run_class(folder, out, tiny_data, "--seconds", 6, "--memory", 1500)
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
def test_an_attack_fails(hostile, name):
    attack, result = attacks.ATTACKS[name], result_of(hostile["out"], name)
    assert result["status"] in attack.status, result
    assert attack.says in result["message"]
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
def test_the_tables_of_a_class(hostile):
    with open(hostile["out"] / "grades.csv", encoding="utf-8-sig", newline="") as file:
        rows = {row["Submission"]: row for row in csv.DictReader(file)}
    assert set(rows) == {*attacks.ATTACKS, *hostile["messages"], "0-honest", "zz-honest"}
    assert float(rows["0-honest"]["Grade"]) > 0 and rows["endless-loop"]["Grade"] == "0.0"
    assert rows["copies-of-training-images"]["Status"] == "flagged"
    page = (hostile["out"] / "report.html").read_text(encoding="utf-8")
    assert "0-honest and zz-honest" in page  # the same model
    assert "<script" not in page
    feedback = hostile["out"] / "students" / "copies-of-training-images" / "feedback.html"
    assert "look like copies" not in feedback.read_text(encoding="utf-8")  # only staff see flags


def test_every_attack_is_in_the_security_document():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for name in (*attacks.ATTACKS, *ARCHIVES):
        assert sum(f"`{name}`" in row for row in rows) == 1, name
    named = {name for row in rows for name in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", row)}
    assert named - {"os._exit"} <= {*attacks.ATTACKS, *ARCHIVES}


# ---------------------------------------------------------------- the sandbox itself


@needs_bubblewrap
def test_the_probe_reports_the_isolation(monkeypatch):
    seen = sandbox.probe()
    assert seen["uid"] == sandbox.NOBODY and seen["interfaces"] == ["lo"]
    secret = "SECRET_OF_STAFF"
    monkeypatch.setenv(secret, "1")
    assert secret not in sandbox.probe()["environment"]


def _without(words: list[str], option: str, values: int = 0) -> list[str]:
    """Remove an option and its values from a command."""
    while option in words:
        place = words.index(option)
        words = words[:place] + words[place + 1 + values :]
    return words


ALL_BUT_PROCESSES = ["--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup"]
ALL_BUT_NETWORK = ["--unshare-ipc", "--unshare-uts", "--unshare-pid", "--unshare-cgroup"]


def _other(words: list[str], instead: list[str]) -> list[str]:
    place = words.index("--unshare-all")
    return [*words[:place], *instead, *words[place + 1 :]]


@needs_bubblewrap
@pytest.mark.parametrize(
    ("broken", "breach"),
    [
        (lambda words: _other(words, ALL_BUT_PROCESSES), "other processes"),
        (lambda words: _without(_other(words, ALL_BUT_NETWORK), "--unshare-net"), "networks"),
        (lambda words: _without(_without(words, "--disable-userns"), "--seccomp", 1), "namespaces"),
        (lambda words: _without(words, "--seccomp", 1), "not filtered"),
        (lambda words: _without(words, "--hostname", 1), "the machine's name"),
        (lambda words: ["65533" if word == "65534" else word for word in words], "as user"),
        (lambda words: _without(words, "--remount-ro", 1), "write to"),
        (lambda words: _without(words, "--size", 1), "no bound"),
        (lambda words: _other(words, ["--unshare-all", "--ro-bind", "/proc", "/sys"]), "it sees"),
    ],
)
def test_the_probe_notices_missing_isolation(monkeypatch, broken, breach):
    whole = sandbox.command_line
    monkeypatch.setattr(sandbox, "command_line", lambda *arguments: broken(whole(*arguments)))
    with pytest.raises(sandbox.SandboxError, match=breach):
        sandbox.probe()


def test_without_bubblewrap_grading_is_refused(tmp_path, trained, tiny_data):
    folder = tmp_path / "class"
    hand_in(folder / "ada", trained, ["VAEwolabel"])
    bare = {"PATH": str(tmp_path)}
    words = [CLASS, folder, "--out", tmp_path / "out", "--test_data", tiny_data]
    assert_clear_error(run(*words, env=bare), "bwrap is missing", "apt-get install bubblewrap")
    assert not (tmp_path / "out" / "students").exists()
    completed = run(*words, "--unsafe-no-isolation", "--gen_num", 20, env=bare)
    assert completed.returncode == 0, completed.stderr
    assert result_of(tmp_path / "out", "ada")["isolation"] == "none"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "without isolation" in page


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_its_list_and_nothing_else(machine):
    program = seccomp.program(machine)
    refused, architecture = set(seccomp.refused_on(machine)), seccomp.ARCHITECTURES[machine]
    assert len(refused) == len(seccomp.REFUSED)
    for number in range(0, 500):
        expected = seccomp.REFUSE if number in refused else seccomp.ALLOW
        assert _interpret(program, architecture, number) == expected
    for kind, expected in ((1, seccomp.REFUSE), (2, seccomp.ALLOW), (3, seccomp.REFUSE)):
        assert _interpret(program, architecture, seccomp.MMAP[machine], 0x20 | kind) == expected
    assert _interpret(program, 0, 1) == seccomp.KILL
    assert _interpret(program, architecture, seccomp.X32 + 1) == seccomp.REFUSE
    assert seccomp.program("riscv64") == b""


def _interpret(program: bytes, architecture: int, number: int, flags: int = 2) -> int:
    """Run a classic BPF program as the kernel does; return its verdict."""
    import struct

    steps = list(struct.iter_unpack("HBBI", program))
    place = value = 0
    while True:
        code, if_true, if_false, k = steps[place]
        if code == seccomp.LOAD:
            value = {
                seccomp.NUMBER: number,
                seccomp.ARCHITECTURE: architecture,
                seccomp.FLAGS: flags,
            }[k]
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
    words = [CLASS, small_class, "--out", out, "--test_data", tiny_data, "--workers", 1]
    process = start(*words)
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
    words = [CLASS, small_class, "--out", out, "--test_data", tiny_data, "--workers", 1]
    assert "1 graded now" in run(*words).stdout
    file = out / "students" / "ada" / "result.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**result, "score": 1.0}), encoding="utf-8")
    completed = run(*words, "--regrade")
    assert f"changed:  ada: 1.00 to {result['score']:.2f}" in completed.stdout
    with open(out / "regrade.csv", encoding="utf-8", newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert float(row["Grade now"]) == result["score"]


@needs_bubblewrap
def test_a_worker_that_is_killed_loses_nothing(small_class, tmp_path, tiny_data):
    out = tmp_path / "out"
    words = [CLASS, small_class, "--out", out, "--test_data", tiny_data, "--workers", 2]
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
GRADER_NAMES = [file.relative_to(ROOT).as_posix() for file in [*GRADER, JUDGE_FILE]]


def copied(files: Iterable[Path], folder: Path) -> Path:
    """Copy files of the lab into a folder, at the same places."""
    for file in files:
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return folder


@pytest.fixture(scope="module")
def grader_copy(tmp_path_factory) -> Path:
    return copied([*GRADER, JUDGE_FILE], tmp_path_factory.mktemp("grader"))


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
    lab = copied([*closure(entries), JUDGE_FILE, *TEMPLATES.iterdir()], tmp_path / "lab")
    shutil.rmtree(small_class / "cleo")
    words = [CLASS, small_class, "--out", tmp_path / "out", "--gen_num", 20, "--workers", 1]
    words += ["--test_data", tiny_data, "--train_data", tiny_data]

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
    """A student, and a job to grade them with in this process."""
    hand_in(tmp_path / "class" / "ada", trained, ["VAEwolabel"])
    words = [tmp_path / "class", "--out", tmp_path / "out", "--test_data", tiny_data]
    args = grade_class.make_parser().parse_args([*map(str, words), "--gen_num", "20"])
    job = grade_class.make_job(grade_class.Options(**vars(args)))
    write_inputs(job)
    (student,) = students_in(tmp_path / "class")
    return student, job


@needs_bubblewrap
def test_a_grader_error_gives_no_score_and_is_tried_again(one_student, monkeypatch):
    student, job = one_student
    with monkeypatch.context() as broken:
        files = {**walls.lab_files(), "/lab/not_there.py": ROOT / "not_there.py"}
        broken.setattr(walls, "lab_files", lambda: files)
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


def test_gaps_between_splits_are_flagged():
    honest = {"ssim": 0.90, "mse": 0.010}
    assert flags.of_gap(honest, {"ssim": 0.89, "mse": 0.011}) == []
    found = flags.of_gap({"ssim": 0.99, "mse": 0.001}, {"ssim": 0.80, "mse": 0.02})
    assert len(found) == 2 and "ssim is 0.9900" in found[0]


def test_changed_grades_are_found_up_and_down():
    before = {"a": 1.0, "b": 2.0, "c": None, "d": 5.0}
    after = zip("abcd", (2.0, 1.0, 3.0, 5.0))
    results = [{"student": student, "score": score} for student, score in after]
    assert grades.changes(before, results) == [("a", 1.0, 2.0), ("b", 2.0, 1.0), ("c", None, 3.0)]


@given(some.text(max_size=20))
def test_no_cell_is_a_formula(text):
    assert not str(grades.escaped(text)).startswith(("=", "+", "-", "@", "\t", "\r"))


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
        {"platform": "canvas", "number": "4711", "score": 39.987},
        {"platform": "canvas", "number": "4712", "score": None},
        {"platform": "moodle", "number": "4712", "score": 1.0},
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
