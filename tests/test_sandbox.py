"""The sandbox itself: what isolates a stage, and the probe and the watch that notice a gap."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import time
from pathlib import Path

import pytest
from conftest import assert_clear_error, run
from handed_in import CLASS, hand_in, needs_bubblewrap, result_of

from staff import sandbox, seccomp, watch


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


def test_without_bubblewrap_grading_is_refused(tmp_path, trained, tiny_data):
    folder = tmp_path / "class"
    hand_in(folder / "ada", trained, ["VAEwolabel"])
    bare = {"PATH": str(tmp_path)}
    words = [CLASS, folder, "--out", tmp_path / "out", "--no_private", "--scores_only"]
    words += [word for name in ("test", "train", "valid") for word in (f"--{name}_data", tiny_data)]
    assert_clear_error(run(*words, env=bare), "bwrap is missing", "apt-get install bubblewrap")
    assert not (tmp_path / "out" / "students").exists()
    completed = run(*words, "--unsafe-no-isolation", "--gen_num", 20, env=bare)
    assert completed.returncode == 0, completed.stderr
    assert result_of(tmp_path / "out", "ada")["isolation"] == "none"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "without isolation" in page
