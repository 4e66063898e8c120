"""Run one stage of a submission, which is untrusted code, in a sandbox.

bubblewrap isolates the stage (`walls.py`). The kernel limits files and processes. This process
measures memory and CPU time of all processes of the stage, and counts the bytes that it returns and
prints.

`probe` tests the isolation from the inside. If it fails, nothing runs, unless the caller asks for
no isolation.
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
from typing import IO, Any

from lab import ROOT
from staff import cgroup, seccomp
from staff.text import as_text
from staff.walls import (
    DEVICES,
    INPUTS,
    MIB,
    NOBODY,
    SCRATCH,
    STAFF,
    Limits,
    SandboxError,
    command_line,
    expect_new_enough,
    lab_files,
)
from staff.watch import Watch

BUBBLEWRAP, NONE = "bubblewrap", "none"  # levels of isolation
MAX_LINE = 1 << 16  # bytes of a line of JSON
MAX_LINES = 4  # before the array
POLL_SECONDS = 0.1
CHUNK = 1 << 16
KILLED, OUT_OF_CPU_TIME = 128 + 9, 128 + 24  # exit statuses: SIGKILL, SIGXCPU
# The only names that the environment of a process in the sandbox may have.
ENVIRONMENT = {"HOME", "LC_CTYPE", "OMP_NUM_THREADS", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE"}


@dataclass
class Outcome:
    """The result of a stage. Only `status` and the measurements can be trusted.

    Attributes:
        status: "done", one of the failures of a submission, or "grader error".
        message: one sentence about what went wrong.
        facts: of the checkpoint, read before the student's code ran; see `stage.facts_of`.
        array: if "done", the bytes of a .npy file; empty if the model has no such stage.
        log: the beginning of what the stage printed.
        seconds, cpu_seconds: wall-clock time, and CPU time of all processes of the stage.
        peak_bytes: the most resident memory of all processes of the stage together.
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
    """Run a stage in a fresh process and return its outcome.

    Args:
        stage: "facts", "encode", "decode", "generate", "sketch", "replay", "measure" (see
            `stage.py`) or "probe".
        inputs: files by the path that the stage reads: submission.py, checkpoint.pth, ...
        limits: what the stage may use.
        isolation: BUBBLEWRAP, or NONE for trusted code.
        more: further entries of the stage's order: task, gen_num, seed. For "probe", filtered=False
            leaves out the filter of system calls, to test the other walls alone.

    Raises SandboxError where bubblewrap is missing.
    """
    for_kernel = limits.for_kernel()
    order = {"stage": stage, "threads": limits.threads, "limits": for_kernel, **more}
    with ExitStack() as stack:
        read, write = os.pipe()
        reader = stack.enter_context(os.fdopen(read, "rb", buffering=0))
        writer = stack.enter_context(os.fdopen(write, "wb", buffering=0))
        order["pipe"] = write
        folder: Path | None = None
        group: cgroup.Group | None = None
        if isolation == BUBBLEWRAP:
            opened = _opened(inputs, order, stack)
            words = command_line(opened, order, limits)
            if group := stack.enter_context(cgroup.of_stage(limits)):
                words = group.entering(words)
            descriptors = [write, *opened.values()]
            descriptors += [order["filter"]] if "filter" in order else []
            environment = {"PATH": os.defpath}
        else:
            # Beside the student's files, whose folder is removed even after a kill.
            beside = inputs["submission.py"].parent
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=beside)))
            for name, path in inputs.items():
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, folder / name)
            order |= {"folder": str(folder), "lab": str(ROOT)}
            del for_kernel["NPROC"]  # it would count every process of the user
            words = [sys.executable, "-I", str(STAFF / "stage.py"), json.dumps(order)]
            descriptors = [write]
            environment = {"OMP_NUM_THREADS": str(limits.threads)}
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,
            cwd=folder,
            env=environment,
        )
        writer.close()
        with _output_of(process) as printed:
            return _follow(process, reader, printed, limits, Watch(process.pid, group))


def _opened(inputs: Mapping[str, Path], order: dict[str, Any], stack: ExitStack) -> dict[str, int]:
    """Open what is copied into the sandbox, and add to the order where the stage finds it.

    Returns the descriptors of the lab's modules and of the inputs, by their path in the sandbox;
    the filter of system calls is `order["filter"]`. The stack closes them.
    """
    order |= {"folder": INPUTS, "lab": "/lab"}
    if order.get("filtered", True) and (program := seccomp.program()):
        order["filter"] = stack.enter_context(_as_descriptor(program))
    shown = lab_files(order["stage"]) | {f"{INPUTS}/{name}": path for name, path in inputs.items()}
    return {name: stack.enter_context(path.open("rb")).fileno() for name, path in shown.items()}


@contextmanager
def _as_descriptor(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        yield file.fileno()


@contextmanager
def _output_of(process: subprocess.Popen[bytes]) -> Iterator[IO[bytes]]:
    """Yield what a process prints; then kill it, and with it all processes of its namespace."""
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.stdout.close()
        process.wait()


def _follow(
    process: subprocess.Popen[bytes],
    pipe: IO[bytes],
    output: IO[bytes],
    limits: Limits,
    watch: Watch,
) -> Outcome:
    """Read what a stage returns and prints until it ends, or stop it beyond its limits."""
    started = time.monotonic()
    returned, printed, dropped = bytearray(), bytearray(), 0
    stopped: tuple[str, str] | None = None
    with selectors.DefaultSelector() as selector:
        for stream in (pipe, output):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        # A stage that has closed its streams may go on; it is watched until its process ends.
        while (selector.get_map() or process.poll() is None) and not stopped:
            if not selector.get_map():  # select() without streams would sleep the whole interval
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            for key, _ in selector.select(POLL_SECONDS if selector.get_map() else 0):
                try:
                    chunk = os.read(key.fd, CHUNK)
                except BlockingIOError:  # without isolation, a stage can read its own output back
                    continue
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is pipe:
                    returned += chunk
                else:
                    kept = chunk[: max(CHUNK - len(printed), 0)]
                    printed += kept
                    dropped += len(chunk) - len(kept)
            seconds = time.monotonic() - started
            if seconds > watch.due:
                watch.measure()
                watch.due = seconds + POLL_SECONDS
            stopped = _beyond(limits, watch, seconds, len(returned), dropped)
    outcome = _outcome_of(bytes(returned), process.poll(), stopped, watch, limits)
    outcome.log = as_text(printed.decode(errors="replace"))
    if dropped:
        outcome.log += f"\n... and {dropped:,} bytes more"
    outcome.seconds = time.monotonic() - started
    outcome.cpu_seconds, outcome.peak_bytes = watch.cpu_seconds, watch.peak
    return outcome


def _beyond(
    limits: Limits, watch: Watch, seconds: float, returned: int, dropped: int
) -> tuple[str, str] | None:
    """Return status and message for the limit that a stage has exceeded; None while it has not.

    Args:
        seconds: since the stage started.
        returned, dropped: bytes that it returned, and that it printed beyond what is kept.
    """
    if returned > limits.result_bytes:
        return "contract breach", f"returned more than {limits.result_bytes:,} bytes."
    if dropped > limits.output_bytes:
        return "student error", f"printed more than {limits.output_bytes:,} bytes."
    if watch.processes > limits.processes:
        return "student error", f"started more than {limits.processes} processes."
    if watch.memory > limits.memory_bytes:
        return "out of memory", f"used more than {limits.memory_bytes // MIB:,} MiB of memory."
    if watch.cpu_seconds > limits.cpu_seconds:
        return "timeout", f"used more than {limits.cpu_seconds} seconds of CPU time."
    if seconds > limits.seconds:
        return "timeout", f"took longer than {limits.seconds:g} seconds by the clock."
    return None


def _outcome_of(
    returned: bytes,
    exit_status: int | None,
    stopped: tuple[str, str] | None,
    watch: Watch,
    limits: Limits,
) -> Outcome:
    """Return the outcome of a stage, from what it returned through its pipe and how it ended."""
    lines, array = _split(returned)
    facts = lines[1] if len(lines) > 1 else {}
    if not lines:  # it ended before any student's code ran
        reason = stopped[1] if stopped else f"exit status {exit_status}"
        return Outcome("grader error", f"the stage did not start ({reason}).")
    if stopped:
        status, message = stopped
        return Outcome(status, message, facts)
    last = lines[-1]
    if last.get("done") is True:
        return Outcome("done", "", facts, array)
    if isinstance(last.get("message"), str):
        named = [name for name in ("contract breach", "out of memory") if last.get("error") == name]
        status = named[0] if named else "student error"
        return Outcome(status, as_text(last["message"])[:1000], facts)
    killed = exit_status in (OUT_OF_CPU_TIME, KILLED)
    if killed and watch.cpu_seconds > 0.8 * limits.cpu_seconds:
        return Outcome(
            "timeout", f"used more than {limits.cpu_seconds} seconds of CPU time.", facts
        )
    if exit_status == KILLED:
        return Outcome("out of memory", "the system killed it because memory ran out.", facts)
    message = f"ended without a result (exit status {exit_status})."
    return Outcome("student error", message, facts)


def _split(returned: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Return the lines of JSON, at most MAX_LINES, and the bytes after the last of them."""
    lines: list[dict[str, Any]] = []
    while len(lines) < MAX_LINES and b"\n" in returned:
        line, rest = returned.split(b"\n", 1)
        try:
            values = json.loads(line[:MAX_LINE])
        except (ValueError, RecursionError):  # RecursionError: nested too deep
            break
        if not isinstance(values, dict):
            break
        lines.append(values)
        returned = rest
        if "done" in values or "error" in values:
            return lines, rest
    return lines, b""


# ---------------------------------------------------------------- does the isolation work?


def probe(limits: Limits | None = None) -> dict[str, Any]:
    """Test the isolation from the inside and return what the probe saw. Raises SandboxError."""
    limits = limits or Limits()
    if sys.platform != "linux":
        raise SandboxError(f"the sandbox needs Linux, and this is {sys.platform}; grade there.")
    expect_new_enough()
    seen = _look(limits, filtered=True)
    breaches = _missing(_walls(seen) | _filter(seen) | _walls(_look(limits, filtered=False)))
    if breaches:
        raise SandboxError(f"the sandbox does not isolate a stage: {'; '.join(breaches)}.")
    return seen


def _look(limits: Limits, filtered: bool) -> dict[str, Any]:
    """Run the probe in the sandbox and return what it saw. Raises SandboxError."""
    secrets = ["/etc/passwd", str(ROOT / "dataset"), str(ROOT / "grade.py")]
    secrets += [str(Path.home() / ".ssh"), "/etc/shadow", "/sys", "/sources", SCRATCH]
    folders = {name: os.stat(name) for name in {tempfile.gettempdir(), "/tmp", "/dev/shm"}}
    outcome = run_stage(
        "probe",
        {},
        limits,
        filtered=filtered,
        secrets=secrets,
        outside={name: [found.st_dev, found.st_ino] for name, found in folders.items()},
        tmp_bytes=limits.tmp_bytes,
        files=limits.files,
    )
    if not outcome.facts:
        raise SandboxError(
            f"bubblewrap does not run here ({outcome.log.strip()[-300:] or outcome.message}); "
            "unprivileged users must be able to create namespaces, and Python must start in them."
        )
    return outcome.facts


def _missing(conditions: dict[str, bool]) -> list[str]:
    return [breach for breach, holds in conditions.items() if not holds]


def _walls(seen: dict[str, Any]) -> dict[str, bool]:
    """Return whether each condition of the isolation holds; the key says what is wrong if not."""
    return {
        f"it runs as user {seen['uid']}": seen["uid"] == NOBODY,
        f"it is in the groups {seen['groups']}": not seen["groups"],
        "it has capabilities": not seen["capabilities"],
        "it can gain privileges": seen["no_new_privileges"],
        "it is not the first process of its namespace": seen["process"] == 1,
        f"it sees {seen['proc']} in /proc": set(seen["proc"]) <= {"cpuinfo"},
        f"it sees {seen['devices']} in /dev": set(seen["devices"]) <= {*DEVICES, "shm"},
        "it knows the machine's name": seen["host"] == "sandbox",
        f"it has the networks {seen['interfaces']}": set(seen["interfaces"]) <= {"lo"},
        f"it has the descriptors {seen['descriptors']}": len(seen["descriptors"]) <= 1,  # its pipe
        f"it sees {seen['seen']}": not seen["seen"],
        f"it shares {seen['shared']} with the grader": not seen["shared"],
        f"it can write to {seen['writable']}": not seen["writable"],
        "it can make user namespaces": "user namespaces" not in seen["calls"],
        f"{seen['large']} have no bound": not seen["large"],
        f"the number of files in {seen['many_files']} has no bound": not seen["many_files"],
        f"it has the environment {seen['environment']}": set(seen["environment"]) <= ENVIRONMENT,
    }


def _filter(seen: dict[str, Any]) -> dict[str, bool]:
    """Return whether the filter of system calls holds, as `_walls` does for the rest."""
    return {
        "its system calls are not filtered": seen["filtered"],
        f"its system calls allow {seen['calls']}": not seen["calls"],
    }
