"""Attacks from submissions: each fails in the sandbox, and honest scores stay as they are."""

from __future__ import annotations

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
from pathlib import Path

import archives
import attacks
import psutil
import pytest
from attacked import LIMITS, ON_WALLS, SECRET, assert_failed, rows_of, write_attacks
from conftest import ROOT, assert_clear_error, run, start
from handed_in import CLASS, needs_bubblewrap, result_of, run_class

CAN_CHANGE_USER = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("setpriv")
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


@pytest.fixture(scope="module")
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
    write_attacks(ON_WALLS, folder, trained, tiny_data, marker)
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
@pytest.mark.parametrize("name", ON_WALLS)
def test_an_attack_fails(hostile, name):
    assert_failed(name, result_of(hostile["out"], name))


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
        usual = os.environ["OMP_NUM_THREADS"] == threads
        named = {} if usual else {"env": {"OMP_NUM_THREADS": threads}}
        words = []
        for task, checkpoint in trained.items():
            folder = tmp_path / threads / task
            asked = ["--checkpoint_path", checkpoint, "--data_path", tiny_data, "--gen_num", 20]
            more = ["--save_dir", folder]
            completed = run("inference.py", *asked, *more, **named)
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
def test_the_tables_of_a_class(hostile):
    rows = rows_of(hostile["out"])
    expected = {*ON_WALLS, *attacks.NAMES.values(), *hostile["messages"]}
    assert set(rows) == expected | {"0-honest", "zz-honest"}
    assert float(rows["0-honest"]["Grade"]) > 0 and rows["endless-loop"]["Grade"] == "0.0"


@needs_bubblewrap
def test_without_reports_there_are_none(hostile):
    assert not list(hostile["out"].rglob("*_report.html"))  # --scores_only
    feedback = hostile["out"] / "students" / "0-honest" / "feedback.html"
    assert "_report.html" not in feedback.read_text(encoding="utf-8")


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
