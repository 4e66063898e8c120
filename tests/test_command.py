"""Ctrl-C ends a command with one line, also while it imports libraries."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, start

import train
from lab import command

# A module whose import swallows every exception, as some libraries' imports do.
LOSES = "import time\ntry:\n    print('ready', flush=True)\n    time.sleep(60)\nexcept:\n    pass\n"
TURNS = LOSES.replace("    pass\n", "    raise ImportError('the library is broken') from None\n")
SCRIPT = """import time
from lab import command


def main():
    {body}
    print("went on", flush=True)


if __name__ == "__main__":
    command.run(main)
"""


def script(folder: Path, body: str, module: str = "") -> Path:
    """Write a tiny command and a module that it may import."""
    (folder / "slow_library.py").write_text(module, encoding="utf-8")
    file = folder / "tiny.py"
    file.write_text(SCRIPT.format(body=body), encoding="utf-8")
    return file


def interrupted(file: Path) -> subprocess.CompletedProcess:
    """Start the command, send SIGINT when it is ready, and return its output."""
    process = start(file)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(file, process.returncode, stdout, stderr)


@pytest.mark.parametrize("module", [LOSES, TURNS])
def test_ctrl_c_during_an_import_is_one_line(tmp_path, module):
    result = interrupted(script(tmp_path, "import slow_library", module))
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "tiny.py: interrupted\n"


def test_ctrl_c_outside_an_import_unwinds_first(tmp_path):
    body = "try: print('ready', flush=True); time.sleep(60)\n    finally: print('cleaned up')"
    result = interrupted(script(tmp_path, body))
    assert (result.returncode, result.stdout) == (130, "cleaned up\n")
    assert result.stderr == "tiny.py: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that ignores signals")
def test_a_job_that_ignores_ctrl_c_keeps_ignoring_it(tmp_path):
    file = script(tmp_path, "import slow_library", LOSES.replace("60", "1"))
    process = start(file, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("went on\n", "") and process.returncode == 0


@pytest.mark.parametrize("name", ["check", "train", "inference", "grade", "sweep"])
def test_a_python_without_the_packages_is_told_how_to_get_them(name):
    words = [sys.executable, "-S", ROOT / f"{name}.py"]  # -S: without installed packages
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf"{name}\.py: error: this Python, .*, has no package \w+; "
        r"(activate the lab's environment first: .*activate|set up the lab first: see .*)\n",
        done.stderr,
    )


def test_other_missing_modules_keep_their_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, script(tmp_path, "import nowhere")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" in done.stderr and "nowhere" in done.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        (["--epoch", "3"], "unknown option --epoch; did you mean --epochs? see --help"),
        (["--batch-size=3"], "unknown option --batch-size; did you mean --batch_size? see --help"),
        (["--colour", "red"], "unknown option --colour; see --help"),
        (["model.py"], "unknown option model.py; see --help"),
        (["--lr", "fast"], "argument --lr: invalid float value: 'fast'; see --help"),
    ],
)
def test_a_mistyped_option_is_one_line(capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        train.make_parser().parse_args(words)
    assert ended.value.code == 2
    _, _, message = capsys.readouterr().err.partition(": error: ")
    assert message == f"{said}\n"


@pytest.mark.parametrize(
    "words, value",
    [([], False), (["--video"], True), (["--video", "True"], True), (["--no-video"], False)]
    + [(["--video", "false"], False), (["--video", "--no-video"], False)],
)
def test_a_switch_may_have_a_value(words, value):
    assert train.make_parser().parse_args(words).video is value


STOPPABLE = """with command.stop_requests() as stop:
        print('ready', flush=True)
        stop.wait(60)
    raise SystemExit(command.status_of_stop())"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_request_to_stop_ends_with_the_status_of_its_signal(tmp_path, name):
    process = start(script(tmp_path, STOPPABLE))
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=60) == 128 + getattr(signal, name)


@pytest.mark.parametrize(
    "body",
    [
        "print('word', flush=True)",
        "print('word')",  # written when the command ends
        "with command.clear_errors('tiny.py'): print('word', flush=True)",
        "print('word'); raise SystemExit(2)",
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe of POSIX")
def test_a_reader_that_went_away_ends_the_command_in_silence(tmp_path, body):
    reader, writer = os.pipe()
    os.close(reader)
    errors = tmp_path / "errors.txt"
    with open(writer, "wb") as closed, open(errors, "wb") as written:
        process = subprocess.run(
            [sys.executable, script(tmp_path, body)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=closed,
            stderr=written,
        )
    assert (process.returncode, errors.read_text(encoding="utf-8")) == (1, "")


def test_errors_and_interrupts_of_the_work_are_one_sentence(capsys):
    for error, status, words in (
        (ValueError("no such thing"), 2, "tiny.py: error: no such thing\n"),
        (OSError(28, "No space left", "a.txt"), 2, "tiny.py: error: a.txt: No space left\n"),
        (KeyboardInterrupt(), 130, "tiny.py: interrupted\n"),
    ):
        with pytest.raises(SystemExit) as ended, command.clear_errors("tiny.py", ValueError):
            raise error
        assert ended.value.code == status and capsys.readouterr().err == words
    with pytest.raises(TypeError), command.clear_errors("tiny.py", ValueError):
        raise TypeError("a defect of the lab keeps its traceback")
