"""Runs one stage of a submission, which is code by strangers, where it can do no harm.

The walls are bubblewrap's (Linux namespaces): no network, no other process, no file but Python,
this lab's own modules and the stage's inputs, all read-only, and a small /tmp that dies with it.
Run as root, the stage is first given up to an unprivileged user. Time, processes and sizes of files
are bounded by the kernel; memory is watched over all processes of the stage.

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

from staff import seccomp

STAFF = Path(__file__).resolve().parent
LAB = STAFF.parent
# What a stage is made of: no trainer, no grader, no data.
MODULES = ("checkpoint", "command", "contract", "data_utils", "inference", "plots")
OWN = ("stage", "probe")
NOBODY = 65534
INPUTS = "/inputs"
BUBBLEWRAP, NONE = "bubblewrap", "none"  # levels of isolation
MIB = 1024**2
MAX_LINE = 1 << 16  # of a line of words
POLL_SECONDS = 0.05
CHUNK = 1 << 16
# Names that it may find in the environment of any process there, its own and the first one.
ENVIRONMENT = {"HOME", "LC_CTYPE", "OMP_NUM_THREADS", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE"}
INSTALL = "install Debian's bubblewrap (apt-get install bubblewrap)"


class SandboxError(RuntimeError):
    """The sandbox itself does not work; says what to do. Never the submission's fault."""


@dataclass(frozen=True)
class Limits:
    """What one stage may take.

    Attributes:
        seconds: by the clock.
        cpu_seconds: of a core, each process.
        memory_bytes: resident, all processes of the stage together.
        tmp_bytes: of /tmp and of /dev/shm, each.
        file_bytes: of a file.
        processes: at once.
        tasks: processes and threads together, which the kernel keeps.
        result_bytes: of what it returns.
        output_bytes: of what it prints before it is stopped; only the beginning is kept.
        threads: that torch computes with.
    """

    seconds: float = 120
    cpu_seconds: int = 120
    memory_bytes: int = 4096 * MIB
    tmp_bytes: int = 64 * MIB
    file_bytes: int = 64 * MIB
    processes: int = 16
    tasks: int = 96
    result_bytes: int = 64 * MIB
    output_bytes: int = 16 * MIB
    threads: int = 1

    def for_kernel(self) -> dict[str, int]:
        """Return the limits that the kernel keeps, by the names of setrlimit(2)."""
        return {
            "CPU": self.cpu_seconds,
            "FSIZE": self.file_bytes,
            "NPROC": self.tasks,
            "NOFILE": 256,
            "CORE": 0,
        }


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


# ---------------------------------------------------------------- the walls


def command_line(inputs: Mapping[str, Path], order: dict[str, Any], limits: Limits) -> list[str]:
    """Return the bubblewrap command that runs a stage with its inputs, by name, in INPUTS."""
    sources = {**_python_files(), **_lab_files()}
    sources |= {f"{INPUTS}/{name}": path.resolve() for name, path in inputs.items()}
    walls = [
        *("bwrap", "--unshare-all", "--unshare-user", "--disable-userns"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *("--setenv", "PATH", "/usr/bin", "--setenv", "HOME", "/tmp"),
        *("--setenv", "OMP_NUM_THREADS", str(limits.threads)),
        *("--setenv", "PYTHONDONTWRITEBYTECODE", "1"),
        *_system_folders(),
    ]
    as_root = os.geteuid() == 0
    for number, (place, path) in enumerate(sources.items()):
        walls += ["--ro-bind", f"/sources/{number}" if as_root else str(path), place]
    size = str(limits.tmp_bytes)
    walls += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm"]
    walls += ["--remount-ro", "/dev", "--size", size, "--tmpfs", "/tmp", "--chdir", "/tmp"]
    walls += ["--remount-ro", "/"]
    if "filter" in order:
        walls += ["--seccomp", str(order["filter"])]
    walls += ["--", sys.executable, "-I", "/lab/stage.py", json.dumps(order)]
    return [*_as_nobody(list(sources.values())), *walls] if as_root else walls


def _as_nobody(sources: list[Path]) -> list[str]:
    """Return what root runs first: show an unprivileged user the sources, then become that user.

    They may lie below folders that only root can enter, as Python does where pyenv put it.
    """
    shown = [
        word
        for number, path in enumerate(sources)
        for word in ("--ro-bind", str(path), f"/sources/{number}")
    ]
    return [
        *("bwrap", "--die-with-parent", "--unshare-net"),
        *_system_folders(programs=True),
        *("--bind", "/proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
        *("--perms", "0755", "--dir", "/sources", *shown),
        *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"),
        *("--", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--inh-caps=-all", "--bounding-set=-all", "--"),
    ]


def _system_folders(programs: bool = False) -> list[str]:
    """Return the mounts of the shared libraries, and with `programs` of the commands."""
    words = ["--perms", "0755", "--dir", "/usr"]
    wanted = ["lib", "lib64", "lib32", "libx32", *(["bin", "sbin"] if programs else [])]
    for name in wanted:
        inside, outside = Path("/usr") / name, Path("/") / name
        if inside.is_dir():
            words += ["--ro-bind", str(inside), str(inside)]
        if outside.is_symlink():
            words += ["--symlink", os.readlink(outside), str(outside)]
        elif outside.is_dir():
            words += ["--ro-bind", str(outside), str(outside)]
    return words


def _python_files() -> dict[str, Path]:
    """Return where Python must be seen: its own installation and the virtual environment."""
    base, environment = Path(sys.base_prefix), Path(sys.prefix)
    if base == Path("/usr"):  # the system's; its libraries are in /usr/lib
        real = Path(sys.executable).resolve()
        found = {str(real): real}
    else:
        found = {str(base): base.resolve()}
    if environment != base:
        found[str(environment)] = environment.resolve()
    return found


def _lab_files() -> dict[str, Path]:
    ours = {f"/lab/{name}.py": LAB / f"{name}.py" for name in MODULES}
    return ours | {f"/lab/{name}.py": STAFF / f"{name}.py" for name in OWN}


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
            order |= {"folder": str(folder), "lab": str(LAB)}
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
            for key, _ in selector.select(POLL_SECONDS):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is pipe:
                    said += chunk
                else:
                    kept = chunk[: max(CHUNK - len(printed), 0)]
                    printed += kept
                    dropped += len(chunk) - len(kept)
            watch.look()
            seconds = time.monotonic() - started
            if len(said) > limits.result_bytes:
                stopped = "contract breach", f"returned more than {limits.result_bytes:,} bytes."
            elif dropped > limits.output_bytes:
                stopped = "student error", f"printed more than {limits.output_bytes:,} bytes."
            elif watch.processes > limits.processes:
                stopped = "student error", f"started more than {limits.processes} processes."
            elif watch.memory > limits.memory_bytes:
                size = f"{limits.memory_bytes // MIB:,} MiB"
                stopped = "out of memory", f"used more than {size} of memory."
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
    if stopped:
        return Outcome(*stopped, facts)
    if not lines:  # it never came as far as the student's code
        return Outcome("grader error", f"the stage did not start (exit status {status}).")
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
    """Return words that any file can hold: JSON and names of files may have halves of letters."""
    return words.encode("utf-8", "replace").decode("utf-8")


class _Watch:
    """Adds up what all processes of a stage take."""

    def __init__(self, pid: int) -> None:
        import psutil

        self.gone = psutil.Error
        self.root = psutil.Process(pid)
        self.memory = self.peak = self.processes = 0
        self.cpu: dict[int, float] = {}

    def look(self) -> None:
        """Measure now."""
        self.memory = 0
        with suppress(self.gone):
            tree = [self.root, *self.root.children(recursive=True)]
            self.processes = len(tree)
            for process in tree:
                with suppress(self.gone):
                    self.memory += process.memory_info().rss
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
        self.peak = max(self.peak, self.memory)

    @property
    def cpu_seconds(self) -> float:
        """Seconds of a core that the processes seen have taken."""
        return sum(self.cpu.values())


# ---------------------------------------------------------------- does it hold?


def probe(limits: Limits | None = None) -> dict[str, Any]:
    """Try the walls from the inside and return what was seen there. Raises SandboxError."""
    limits = limits or Limits()
    if sys.platform != "linux":
        raise SandboxError(f"the sandbox needs Linux, and this is {sys.platform}; grade there.")
    for program in ("bwrap", *(["setpriv"] if os.geteuid() == 0 else [])):
        if shutil.which(program) is None:
            raise SandboxError(f"{program} is missing, so nothing holds code back; {INSTALL}.")
    with tempfile.NamedTemporaryFile() as file:
        secrets = [file.name, "/etc/passwd", str(LAB / "dataset"), str(LAB / "grade.py")]
        secrets += [str(Path.home() / ".ssh"), "/var", "/home", "/run", "/sources"]
        said = run_stage("probe", {}, limits, secrets=secrets, tmp_bytes=limits.tmp_bytes)
    seen = said.facts or {}
    if not seen:
        raise SandboxError(
            f"bubblewrap does not run here ({said.log.strip()[-300:] or said.message}); "
            "the system must let unprivileged users make namespaces."
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
        "it has memory that is not counted": not (seen["hidden_memory"] and seccomp.program()),
        "its /tmp has no bound": seen["small_tmp"],
        "its /dev/shm has no bound": seen["small_shm"],
        f"it has the environment {seen['environment']}": set(seen["environment"]) <= ENVIRONMENT,
    }
