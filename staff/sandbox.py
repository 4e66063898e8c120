"""Runs one stage of a submission, which is code by strangers, where it can do no harm.

The walls are bubblewrap's (`walls.py`). Files and processes are bounded by the kernel; memory and
CPU time are watched over all processes of the stage, and so is what it returns and prints.

Without working walls nothing runs (`probe`), unless the caller says so in as many words.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import ROOT
from staff import seccomp
from staff.walls import (
    INPUTS,
    MIB,
    NOBODY,
    STAFF,
    Limits,
    SandboxError,
    command_line,
    expect_new_enough,
)

BUBBLEWRAP, NONE = "bubblewrap", "none"  # levels of isolation
MAX_LINE = 1 << 16  # of a line of words
POLL_SECONDS = 0.1
CHUNK = 1 << 16
# Names that it may find in the environment of any process there, its own and the first one.
ENVIRONMENT = {"HOME", "LC_CTYPE", "OMP_NUM_THREADS", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE"}


@dataclass
class Outcome:
    """What came of a stage; nothing in it but `status` and the measures can be believed.

    Attributes:
        status: "done", or one of the failures of a submission, or "grader error".
        message: what went wrong, in a sentence.
        facts: of the checkpoint, read before the student's code ran; see `stage.facts_of`.
        array: bytes of a .npy file, if it got so far; empty where the model has no such stage.
        log: the beginning of what it printed.
    """

    status: str
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    array: bytes = b""
    log: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


# ---------------------------------------------------------------- one stage


def run_stage(
    stage: str,
    inputs: Mapping[str, Path],
    limits: Limits,
    isolation: str = BUBBLEWRAP,
    **more: Any,
) -> Outcome:
    """Run a stage in a fresh process and return what came of it.

    Args:
        stage: "facts", "encode", "decode" or "generate"; see `stage.py`.
        inputs: files by the name that the stage reads: submission.py, checkpoint.pth, ...
        isolation: BUBBLEWRAP, or NONE for code that is trusted.
        more: task, gen_num, seed.
    """
    order = {"stage": stage, "threads": limits.threads, "limits": limits.for_kernel(), **more}
    with ExitStack() as stack:
        read, write = os.pipe()
        reader = stack.enter_context(os.fdopen(read, "rb", buffering=0))
        order["pipe"] = write
        descriptors = [write]
        if isolation == BUBBLEWRAP:
            order |= {"folder": INPUTS, "lab": "/lab"}
            if program := seccomp.program():
                order["filter"] = stack.enter_context(_as_descriptor(program))
                descriptors.append(order["filter"])
            # An empty environment: the first process in there would show ours in /proc.
            words, how = command_line(inputs, order, limits), {"env": {"PATH": os.defpath}}
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for name, path in inputs.items():
                shutil.copyfile(path, folder / name)
            order |= {"folder": str(folder), "lab": str(ROOT)}
            del order["limits"]["NPROC"]  # would count all that the user has running
            words = [sys.executable, "-I", str(STAFF / "stage.py"), json.dumps(order)]
            how = {"cwd": folder, "env": {"OMP_NUM_THREADS": str(limits.threads)}}
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                start_new_session=True,
                **how,
            )
        finally:
            os.close(write)
        with _ended_for_sure(process):
            return _follow(process, reader, limits)


@contextmanager
def _as_descriptor(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        yield file.fileno()


@contextmanager
def _ended_for_sure(process: subprocess.Popen) -> Iterator[None]:
    """Kill the process on the way out; all that is in its namespace dies with it."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.stdout.close()
        process.wait()


def _follow(process: subprocess.Popen, pipe: Any, limits: Limits) -> Outcome:
    """Read what a stage says and prints, within its limits, until it is over or stopped."""
    started = time.monotonic()
    watch = _Watch(process.pid)
    said, printed, dropped = bytearray(), bytearray(), 0
    stopped: tuple[str, str] | None = None
    with selectors.DefaultSelector() as selector:
        for stream in (pipe, process.stdout):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        # A stage that has closed its streams goes on, and is watched, until its process ends.
        while (selector.get_map() or process.poll() is None) and not stopped:
            if not selector.get_map():  # to select of nothing would sleep for all of the time
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            for key, _ in selector.select(POLL_SECONDS if selector.get_map() else 0):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is pipe:
                    said += chunk
                else:
                    kept = chunk[: max(CHUNK - len(printed), 0)]
                    printed += kept
                    dropped += len(chunk) - len(kept)
            seconds = time.monotonic() - started
            if seconds > watch.due:
                watch.look()
                watch.due = seconds + POLL_SECONDS
            if len(said) > limits.result_bytes:
                stopped = "contract breach", f"returned more than {limits.result_bytes:,} bytes."
            elif dropped > limits.output_bytes:
                stopped = "student error", f"printed more than {limits.output_bytes:,} bytes."
            elif watch.processes > limits.processes:
                stopped = "student error", f"started more than {limits.processes} processes."
            elif watch.memory > limits.memory_bytes:
                size = f"{limits.memory_bytes // MIB:,} MiB"
                stopped = "out of memory", f"used more than {size} of memory."
            elif watch.cpu_seconds > limits.cpu_seconds:
                stopped = "timeout", f"computed longer than {limits.cpu_seconds} seconds."
            elif seconds > limits.seconds:
                stopped = "timeout", f"took longer than {limits.seconds:g} seconds."
    outcome = _understood(bytes(said), process.poll(), stopped, watch, limits)
    outcome.log = printed.decode(errors="replace")
    if dropped:
        outcome.log += f"\n... and {dropped:,} bytes more"
    outcome.seconds = time.monotonic() - started
    outcome.cpu_seconds, outcome.peak_bytes = watch.cpu_seconds, watch.peak
    return outcome


def _understood(
    said: bytes,
    status: int | None,
    stopped: tuple[str, str] | None,
    watch: _Watch,
    limits: Limits,
) -> Outcome:
    """Make an outcome of what a stage said through its pipe, and how it ended."""
    lines, array = _split(said)
    facts = lines[1] if len(lines) > 1 else {}
    if not lines:  # it never came as far as anything of the student's
        words = stopped[1] if stopped else f"exit status {status}"
        return Outcome("grader error", f"the stage did not start ({words}).")
    if stopped:
        return Outcome(*stopped, facts)
    last = lines[-1]
    if last.get("done") is True:
        return Outcome("done", "", facts, array)
    if isinstance(last.get("message"), str):
        kinds = ("contract breach", "out of memory")
        kind = last.get("error") if last.get("error") in kinds else "student error"
        return Outcome(kind, as_text(last["message"])[:1000], facts)
    if status in (128 + 24, 128 + 9) and watch.cpu_seconds > 0.8 * limits.cpu_seconds:
        words = f"computed longer than {limits.cpu_seconds} seconds."
        return Outcome("timeout", words, facts)
    if status == 128 + 9:
        return Outcome("out of memory", "was killed by the system, for want of memory.", facts)
    return Outcome("student error", f"ended without a result (exit status {status}).", facts)


def _split(said: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Return the lines of JSON, four at most, and the bytes after the one that ends them."""
    lines: list[dict[str, Any]] = []
    while len(lines) < 4 and b"\n" in said:
        line, rest = said.split(b"\n", 1)
        try:
            words = json.loads(line[:MAX_LINE])
        except (ValueError, RecursionError):  # nested without end, say
            break
        if not isinstance(words, dict):
            break
        lines.append(words)
        said = rest
        if "done" in words or "error" in words:
            return lines, rest
    return lines, b""


def as_text(words: str) -> str:
    """Return words that any file and terminal can hold: no control characters, no half letters."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in words)


class _Watch:
    """Adds up what all processes of a stage take."""

    def __init__(self, pid: int) -> None:
        import psutil

        self.gone, self.process = psutil.Error, psutil.Process
        self.root = psutil.Process(pid)
        self.seen = {pid: self.root}
        self.due = 0.0  # when to look next, in seconds of the stage
        self.memory = self.peak = self.processes = 0
        self.cpu: dict[int, float] = {}

    def look(self) -> None:
        """Measure now."""
        self.memory = 0
        with suppress(self.gone):
            tree = [self.root.pid, *_below(self.root)]
            self.processes = len(tree)
            for pid in tree:
                with suppress(self.gone):
                    if pid not in self.seen:
                        self.seen[pid] = self.process(pid)
                    process = self.seen[pid]
                    self.memory += process.memory_info().rss
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
        self.peak = max(self.peak, self.memory)

    @property
    def cpu_seconds(self) -> float:
        """Seconds of a core that the processes seen have taken."""
        return sum(self.cpu.values())


def _below(root: Any) -> list[int]:
    """Return the processes below one, a psutil.Process.

    The kernel lists the children of each thread. Where it was built without that, psutil looks
    at every process of the machine, which takes ten times as long.
    """
    if not Path(f"/proc/{root.pid}/task/{root.pid}/children").exists():
        return [process.pid for process in root.children(recursive=True)]
    found: list[int] = []
    waiting = [root.pid]
    while waiting:
        tasks = Path(f"/proc/{waiting.pop()}/task")
        with suppress(OSError):  # a process may end at any time
            for task in os.listdir(tasks):
                below = [int(pid) for pid in (tasks / task / "children").read_text().split()]
                found += below
                waiting += below
    return found


# ---------------------------------------------------------------- does it hold?


def probe(limits: Limits | None = None) -> dict[str, Any]:
    """Try the walls from the inside and return what was seen there. Raises SandboxError."""
    limits = limits or Limits()
    if sys.platform != "linux":
        raise SandboxError(f"the sandbox needs Linux, and this is {sys.platform}; grade there.")
    expect_new_enough()
    with tempfile.NamedTemporaryFile() as file:
        secrets = [file.name, "/etc/passwd", str(ROOT / "dataset"), str(ROOT / "grade.py")]
        secrets += [str(Path.home() / ".ssh"), "/etc/shadow", "/sys", "/sources"]
        said = run_stage("probe", {}, limits, secrets=secrets, tmp_bytes=limits.tmp_bytes)
    seen = said.facts
    if not seen:
        raise SandboxError(
            f"bubblewrap does not run here ({said.log.strip()[-300:] or said.message}); "
            "unprivileged users must be able to make namespaces, and Python to start in them."
        )
    breaches = [words for words, holds in _expected(seen).items() if not holds]
    if breaches:
        raise SandboxError(f"the sandbox does not hold: {'; '.join(breaches)}.")
    return seen


def _expected(seen: dict[str, Any]) -> dict[str, bool]:
    """Return what must hold of what the probe saw, by what is wrong otherwise."""
    return {
        f"it runs as user {seen['uid']}": seen["uid"] == NOBODY,
        f"it is in the groups {seen['groups']}": not seen["groups"],
        "it has capabilities": seen["capabilities"] == 0,
        "it can gain privileges": seen["no_new_privileges"],
        "it sees other processes": seen["processes"] <= 3,
        "it knows the machine's name": seen["host"] == "sandbox",
        f"it has the networks {seen['interfaces']}": set(seen["interfaces"]) <= {"lo"},
        f"it sees {seen['seen']}": not seen["seen"],
        f"it can write to {seen['writable']}": not seen["writable"],
        "it can make namespaces": not seen["new_user_namespace"],
        "its system calls are not filtered": seen["filtered"] and not seen["sockets"],
        "it has memory that is not counted": not seen["hidden_memory"],
        "its /tmp has no bound": seen["small_tmp"],
        "its /dev/shm has no bound": seen["small_shm"],
        f"it has the environment {seen['environment']}": set(seen["environment"]) <= ENVIRONMENT,
    }
